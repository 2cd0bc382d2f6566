//! Workers that live while the engine cannot listen: the store is slow, the loop waits, a leader loads.

use std::{sync::atomic::Ordering, time::Duration};

use rota_core::{ClientKeys, LeaseId, LeaseToken, Report, SessionId, Status};
use rota_engine::{EngineOptions, LeaseRequest, NewTask, SessionEvent, TaskRef};
use tokio::time::{Instant, interval, timeout};

use crate::support::{
    Mood, MoodyStore, Node, SetClock, completed, given, name, task, time_passes, until, worker,
};

/// Sessions live so long without a sign.
const TTL: Duration = Duration::from_millis(600);

fn options() -> EngineOptions {
    EngineOptions { session_ttl: TTL, ..EngineOptions::default() }
}

/// Somebody whose new task has to wait for the store.
async fn hold_a_commit(node: &Node) {
    let entered = node.store.entered.load(Ordering::Relaxed);
    node.store.set(Mood::Holding);
    let engine = node.engine.clone();
    tokio::spawn(async move { engine.submit(vec![task("other")]).await });
    until(|| node.store.entered.load(Ordering::Relaxed) > entered).await;
}

/// A new task whose name the loop cannot read.
pub(crate) async fn block_the_loop(node: &Node) {
    node.store.hold_names(true);
    let engine = node.engine.clone();
    let client_keys = ClientKeys { id: Some(name("mine")), key: None };
    let named = NewTask { client_keys, ..task("other") };
    tokio::spawn(async move { engine.submit(vec![named]).await });
    // The loop takes it at once.
    assert!(timeout(Duration::from_millis(200), node.engine.queues()).await.is_err());
}

/// The worker says that it lives, for several times its TTL.
async fn beat(node: &Node, session: SessionId, connection: u64) {
    let end = Instant::now() + TTL * 4;
    let mut period = interval(TTL / 4);
    while Instant::now() < end {
        period.tick().await;
        let heartbeat = node.engine.heartbeat(session, Some(connection));
        timeout(TTL, heartbeat).await.expect("it waits for nothing").expect("the session is open");
    }
}

async fn is_open(node: &Node, session: SessionId) -> bool {
    let workers = node.engine.workers().await.expect("an answer");
    workers.iter().any(|view| view.id == session)
}

#[tokio::test]
async fn a_worker_that_speaks_lives_though_no_commit_lands() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(&directory.path().join("data"), options());
    let stream = node.engine.open_session(worker(&[])).await.expect("opened");
    hold_a_commit(&node).await;
    beat(&node, stream.session, stream.connection).await;
    node.store.set(Mood::Well);
    assert!(is_open(&node, stream.session).await);
    // And one that does not speak is still found out.
    let gone = async {
        while is_open(&node, stream.session).await {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.expect("it is silent");
    node.stop().await;
}

#[tokio::test]
async fn a_worker_that_speaks_and_reports_is_heard_while_the_loop_waits() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(&directory.path().join("data"), options());
    let mut stream = node.engine.open_session(worker(&[])).await.expect("opened");
    node.submit(task("k")).await;
    let tasks = given(&mut stream).await;
    block_the_loop(&node).await;
    beat(&node, stream.session, stream.connection).await;
    // Its report was sent in time, and is read long after.
    let engine = node.engine.clone();
    let lease = LeaseId { task: tasks[0].spec.id, token: tasks[0].token };
    let (started_at, output_tail) = (None, bytes::Bytes::new());
    let report = Report::Ended { started_at, output_tail, outcome: completed("") };
    let reported = tokio::spawn(async move { engine.report(vec![(lease, report)]).await });
    time_passes(TTL * 3).await;
    node.store.hold_names(false);
    let results = reported.await.expect("no panic").expect("an answer");
    assert!(results[0].is_ok(), "{results:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_worker_is_heard_though_the_inbox_is_full() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(&directory.path().join("data"), options());
    let stream = node.engine.open_session(worker(&[])).await.expect("opened");
    block_the_loop(&node).await;
    let engine = node.engine.clone();
    let crowd = tokio::spawn(async move {
        futures_util::future::join_all((0..6000).map(|_| engine.queues())).await
    });
    beat(&node, stream.session, stream.connection).await;
    // There is room for a worker, and who waits for an answer lives.
    let engine = node.engine.clone();
    let again = rota_engine::SessionRequest { session: Some(stream.session), ..worker(&[]) };
    let opened = tokio::spawn(async move { engine.open_session(again).await });
    time_passes(TTL * 3).await;
    assert!(!opened.is_finished());
    node.store.hold_names(false);
    assert!(opened.await.expect("no panic").is_ok());
    assert!(crowd.await.expect("no panic").iter().any(Result::is_err), "the inbox was full");
    node.stop().await;
}

#[tokio::test]
async fn the_time_of_a_worker_begins_when_a_new_leader_can_listen() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_on(store.clone(), options());
    let mut stream = node.engine.open_session(worker(&[])).await.expect("opened");
    let id = node.submit(task("k")).await;
    let tasks = given(&mut stream).await;
    node.leave().await;

    let before = store.snapshots.load(Ordering::Relaxed);
    store.hold_snapshots(true);
    let node = Node::start_on(store.clone(), options());
    until(|| store.snapshots.load(Ordering::Relaxed) > before).await;
    time_passes(TTL * 3).await;
    // The worker waits to be taken up again, and then for a commit.
    let engine = node.engine.clone();
    let again = rota_engine::SessionRequest { session: Some(stream.session), ..worker(&tasks) };
    let again = tokio::spawn(async move { engine.open_session(again).await });
    store.hold_snapshots(false);
    until(|| node.engine.health().is_ready()).await;
    let stream = again.await.expect("no panic").expect("an answer");
    assert!(stream.revoked.is_empty(), "{:?}", stream.revoked);
    assert!(node.report(&tasks[0], completed("")).await);
    let view = node.engine.task(&id).await.expect("an answer").expect("known");
    assert_eq!((view.status, view.attempt, view.lost), (Status::Completed, 1, 0));
    node.stop().await;
}

#[tokio::test]
async fn a_call_that_waits_for_the_store_keeps_its_session() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(&directory.path().join("data"), options());
    let request = LeaseRequest {
        session: Some(SessionId(7)),
        worker: name("w"),
        queues: Vec::new(),
        kinds: vec![name("k")],
        max: 1,
        wait: Duration::ZERO,
        ttl: TTL,
        held: None,
    };
    node.engine.lease(request.clone()).await.expect("opened");
    hold_a_commit(&node).await;
    let engine = node.engine.clone();
    let call = tokio::spawn(async move { engine.lease(request).await });
    time_passes(TTL * 4).await;
    assert!(!call.is_finished());
    node.store.set(Mood::Well);
    call.await.expect("no panic").expect("an answer");
    assert!(is_open(&node, SessionId(7)).await);
    node.stop().await;
}

#[tokio::test]
async fn a_worker_that_comes_back_while_a_commit_is_on_its_way_loses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(&directory.path().join("data"), options());
    let mut stream = node.engine.open_session(worker(&[])).await.expect("opened");
    node.submit(task("k")).await;
    let tasks = given(&mut stream).await;
    hold_a_commit(&node).await;
    node.engine.heartbeat(stream.session, Some(stream.connection)).await.expect("it is open");
    let again = rota_engine::SessionRequest { session: Some(stream.session), ..worker(&tasks) };
    let engine = node.engine.clone();
    let opened = tokio::spawn(async move { engine.open_session(again).await });
    time_passes(TTL * 4).await;
    assert!(!opened.is_finished());
    node.store.set(Mood::Well);
    let stream = opened.await.expect("no panic").expect("an answer");
    assert!(stream.revoked.is_empty(), "{:?}", stream.revoked);
    assert!(is_open(&node, stream.session).await);
    assert!(node.report(&tasks[0], completed("")).await);
    node.stop().await;
}

#[tokio::test]
async fn a_worker_that_has_gone_to_another_node_is_given_nothing_here() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(&directory.path().join("data"), options());
    let stream = node.engine.open_session(worker(&[])).await.expect("opened");
    let again = rota_engine::SessionRequest { session: Some(stream.session), ..worker(&[]) };
    block_the_loop(&node).await;
    let abandoned = node.engine.open_session(again);
    assert!(timeout(Duration::ZERO, abandoned).await.is_err(), "it waits for the loop");
    node.store.hold_names(false);
    // The connection that the worker still has serves it.
    node.submit(task("k")).await;
    let mut stream = stream;
    assert_eq!(given(&mut stream).await.len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_worker_whose_heartbeat_or_report_waits_for_the_store_keeps_its_session() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(&directory.path().join("data"), options());
    let session = SessionId(7);
    let request = LeaseRequest {
        session: Some(session),
        worker: name("w"),
        queues: Vec::new(),
        kinds: vec![name("k")],
        max: 1,
        wait: Duration::from_secs(10),
        ttl: TTL,
        held: None,
    };
    node.submit(task("k")).await;
    let leased = node.engine.lease(request).await.expect("opened");
    let lease = LeaseId { task: leased.tasks[0].spec.id, token: leased.tasks[0].token };
    for reports in [false, true] {
        hold_a_commit(&node).await;
        let engine = node.engine.clone();
        let call = tokio::spawn(async move {
            if reports {
                let report = Report::Progress { message: "on".into() };
                engine.report(vec![(lease, report)]).await.expect("an answer").remove(0).is_ok()
            } else {
                engine.pull_heartbeat(session).await.is_ok()
            }
        });
        time_passes(TTL * 4).await;
        assert!(!call.is_finished());
        node.store.set(Mood::Well);
        assert!(call.await.expect("no panic"), "reports: {reports}");
        assert!(is_open(&node, session).await);
    }
    assert!(node.report(&leased.tasks[0], completed("")).await);
    node.stop().await;
}

#[tokio::test]
async fn the_end_of_a_session_does_not_reach_its_successor() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(&directory.path().join("data"), options());
    let mut old = node.engine.open_session(worker(&[])).await.expect("opened");
    node.submit(task("k")).await;
    given(&mut old).await;
    // Its end takes its task away, which has to be committed.
    let entered = node.store.entered.load(Ordering::Relaxed);
    node.store.set(Mood::Holding);
    until(|| node.store.entered.load(Ordering::Relaxed) > entered).await;
    let again = rota_engine::SessionRequest { session: Some(old.session), ..worker(&[]) };
    let engine = node.engine.clone();
    let opened = tokio::spawn(async move { engine.open_session(again).await });
    // The loop has taken it up.
    assert!(timeout(Duration::from_millis(200), node.engine.queues()).await.is_err());
    node.store.set(Mood::Well);
    let mut new = opened.await.expect("no panic").expect("opened");
    let life = node.engine.clone();
    let (session, connection) = (new.session, new.connection);
    let beats = tokio::spawn(async move {
        let mut period = interval(TTL / 4);
        while life.heartbeat(session, Some(connection)).await.is_ok() {
            period.tick().await;
        }
    });
    let next = timeout(Duration::from_secs(10), new.events.recv()).await.expect("it is served");
    assert!(matches!(next, Some(SessionEvent::Dispatches(_))), "{next:?}");
    assert!(matches!(old.events.recv().await, Some(SessionEvent::Ended) | None));
    beats.abort();
    node.stop().await;
}

#[tokio::test]
async fn a_step_is_bounded_by_what_is_in_its_requests() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    hold_a_commit(&node).await;
    let many = || (0..1000).map(|_| task("k")).collect::<Vec<_>>();
    let submitted: Vec<_> = (0..60)
        .map(|_| {
            let (engine, tasks) = (node.engine.clone(), many());
            tokio::spawn(async move { engine.submit(tasks).await })
        })
        .collect();
    let waiting = requests_that_wait(&node).await;
    assert!(waiting >= 39.0, "{waiting} of 60 wait");
    node.store.set(Mood::Well);
    for submitted in submitted {
        assert!(submitted.await.expect("no panic").is_ok());
    }
    node.stop().await;
}

#[tokio::test]
async fn a_step_is_bounded_by_the_reports_in_its_requests() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let TaskRef::Id(waiting) = node.submit(task("k")).await else { panic!("an id") };
    // Nobody has it.
    let lease = LeaseId { task: waiting, token: LeaseToken(1) };
    hold_a_commit(&node).await;
    let reported: Vec<_> = (0..60)
        .map(|_| {
            let engine = node.engine.clone();
            let reports = (0..1000).map(|_| (lease, Report::Released)).collect();
            tokio::spawn(async move { engine.report(reports).await })
        })
        .collect();
    let waiting = requests_that_wait(&node).await;
    assert!(waiting >= 39.0, "{waiting} of 60 wait");
    node.store.set(Mood::Well);
    for reported in reported {
        let refused = reported.await.expect("no panic").expect("an answer");
        assert_eq!((refused.len(), refused.iter().filter(|it| it.is_err()).count()), (1000, 1000));
    }
    node.stop().await;
}

/// How many requests wait when the open step takes no more.
async fn requests_that_wait(node: &Node) -> f64 {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    let shown = node.engine.collect_metrics().await;
    let shown = node.engine.metrics().show(shown, rota_metrics::Format::Text);
    let shown = String::from_utf8(shown.body).expect("text");
    let line = shown.lines().find_map(|line| line.strip_prefix("rota_inbox_requests "));
    line.and_then(|value| value.parse().ok()).expect("it is shown")
}

#[tokio::test]
async fn a_worker_without_credit_gets_no_task() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(&directory.path().join("data"), options());
    assert_eq!(node.engine.session_ttl(), TTL);
    let mut one = node.engine.open_session(worker(&[])).await.expect("opened");
    let mut other = node.engine.open_session(worker(&[])).await.expect("opened");
    assert_eq!(one.ttl, TTL);
    node.engine.set_credit(one.session, one.connection, 0).await.expect("it is open");
    for _ in 0..4 {
        node.submit(task("k")).await;
    }
    let mut got = 0;
    while got < 4 {
        got += given(&mut other).await.len();
    }
    assert!(one.events.try_recv().is_err(), "the other one has them all");
    node.engine.set_credit(one.session, one.connection, 8).await.expect("it is open");
    for _ in 0..8 {
        node.submit(task("k")).await;
    }
    assert!(!given(&mut one).await.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn metrics_name_workers_up_to_a_limit_and_sum_their_sessions() {
    let directory = tempfile::tempdir().expect("a directory");
    let metrics = rota_metrics::NodeMetrics::new("test", 2);
    let options = EngineOptions { metrics, ..options() };
    let node = Node::start_with(&directory.path().join("data"), options);
    let slots = async || {
        let shown = node.engine.collect_metrics().await;
        let shown = node.engine.metrics().show(shown, rota_metrics::Format::Text);
        let shown = String::from_utf8(shown.body).expect("text");
        let of_workers =
            shown.lines().filter_map(|line| line.strip_prefix("rota_session_slots{worker="));
        of_workers.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut streams = Vec::new();
    for named in ["a", "a", "b"] {
        let request = rota_engine::SessionRequest { worker: name(named), ..worker(&[]) };
        streams.push(node.engine.open_session(request).await.expect("opened"));
    }
    assert_eq!(slots().await, ["\"a\"} 20.0", "\"b\"} 10.0"]);
    for named in ["c", "d"] {
        let request = rota_engine::SessionRequest { worker: name(named), ..worker(&[]) };
        streams.push(node.engine.open_session(request).await.expect("opened"));
    }
    let all = slots().await;
    assert!(all.len() == 3 && all.iter().any(|line| line.starts_with("\"other\"}")), "{all:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_pause_of_the_process_does_not_count_against_workers() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let clock = SetClock::new();
    let options = EngineOptions { session_ttl: Duration::from_secs(60), ..options() };
    let node = Node::start_at(clock.host(), store, options);
    let mut stream = node.engine.open_session(worker(&[])).await.expect("opened");
    node.submit(task("before")).await;
    let held = given(&mut stream).await.remove(0);
    clock.pause_for(Duration::from_secs(300));
    // A step ends sessions that have been silent for too long.
    node.submit(task("after")).await;
    assert!(is_open(&node, stream.session).await);
    assert!(node.report(&held, completed("")).await, "its lease holds as well");
    node.stop().await;
}
