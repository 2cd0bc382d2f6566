//! The memory of an engine is bounded in bytes, whatever is asked of it at once. In a binary of its
//! own, as it counts all that is allocated.

#[path = "../engine/support.rs"]
#[expect(dead_code, reason = "the tests of what the engine does use the rest")]
mod support;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use peak_alloc::PeakAlloc;
use rota_engine::{BulkAction, EngineOptions, LeaseRequest, NewTask, SessionRequest, TaskFilter};

use crate::support::{Mood, Node, defined, name, task};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;
const TASKS: usize = 256;

fn large() -> NewTask {
    defined(task("k"), |it| it.payload = Bytes::from(vec![b'1'; MIB]))
}

fn eight() -> Vec<NewTask> {
    (0..8).map(|_| large()).collect()
}

/// The most that was allocated meanwhile, beyond what was allocated before, in MiB.
async fn peak(work: impl Future<Output = ()>) -> usize {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    work.await;
    ALLOCATED.peak_usage().saturating_sub(before) / MIB
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_through_is_bounded_in_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = EngineOptions { payload_cache_bytes: 0, ..EngineOptions::default() };
    let node = Node::start_with(&directory.path().join("data"), options);
    for _ in 0..TASKS / 8 {
        node.engine.submit(eight()).await.expect("an answer");
    }
    let all = TaskFilter { queue: Some(name("q")), ..TaskFilter::default() };
    // 64 payloads at once.
    let lists = peak(async {
        let list = async |_| {
            let (mut listed, mut after) = (0, None);
            loop {
                let page = node.engine.list(&all, 1000, after).await.expect("an answer");
                (listed, after) = (listed + page.tasks.len(), page.next);
                if after.is_none() {
                    return listed;
                }
            }
        };
        for listed in join_all((0..8).map(list)).await {
            assert_eq!(listed, TASKS);
        }
    });
    let lists = lists.await;
    assert!(lists < 160, "{lists} MiB");
    let bulk = peak(async {
        let retry = async |_| {
            let (mut skipped, mut after) = (0, None);
            loop {
                let bulk = node.engine.bulk(BulkAction::Retry, &all, 1000, after).await;
                let outcome = bulk.expect("an answer");
                (skipped, after) = (skipped + outcome.skipped as usize, outcome.next);
                if after.is_none() {
                    return skipped;
                }
            }
        };
        for skipped in join_all((0..8).map(retry)).await {
            assert_eq!(skipped, TASKS);
        }
    });
    let bulk = bulk.await;
    assert!(bulk < 160, "{bulk} MiB");
    // A stream takes 4 MiB that its worker does not read, and each lease 2 MiB.
    let workers = peak(async {
        let request = SessionRequest {
            session: None,
            worker: name("idle"),
            queues: Vec::new(),
            kinds: Vec::new(),
            slots: 100,
            held: Vec::new(),
            streams_output: false,
        };
        let idle = node.engine.open_session(request).await.expect("a session");
        let lease = |_| {
            node.engine.lease(LeaseRequest {
                session: None,
                worker: name("w"),
                queues: Vec::new(),
                kinds: Vec::new(),
                max: 1000,
                wait: Duration::from_secs(10),
                ttl: Duration::from_secs(60),
                held: None,
            })
        };
        for leased in join_all((0..8).map(lease)).await {
            assert!(leased.expect("an answer").tasks.len() <= 2);
        }
        drop(idle);
    });
    let workers = workers.await;
    assert!(workers < 200, "{workers} MiB");
    // 64 MiB that wait, what their clients still hold, and one batch on its way.
    node.store.set(Mood::Holding);
    let waiting = peak(async {
        let submit = |_| node.engine.submit(eight());
        let calls = join_all((0..24).map(submit));
        let _ = tokio::time::timeout(Duration::from_secs(5), calls).await;
    });
    let waiting = waiting.await;
    assert!(waiting < 24 * 8 + 160, "{waiting} MiB");
    node.store.set(Mood::Well);
    node.stop().await;
}
