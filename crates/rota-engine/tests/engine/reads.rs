//! Reads of what the store has of single tasks: one that hangs, is damaged, is missing or is large
//! concerns that task alone.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use rota_core::{
    AttemptOutcome, Failure, FailureReason, LeaseId, Millis, Pause, Policy, Report, RetryPolicy,
    SessionId, Status,
};
use rota_engine::{
    BulkAction, Dispatched, EngineError, EngineOptions, LeaseRequest, NewTask, SessionEvent,
    SessionRequest, SessionStream, TaskFilter, TaskRef,
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::{Mood, Node, SpecFault, completed, defined, given, name, task, until, worker};

/// Nothing here takes so long, unless it waits for what does not come.
const PATIENCE: Duration = Duration::from_secs(25);
const MIB: usize = 1 << 20;

/// A node that has no payload at hand.
fn uncached() -> (Node, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let options = EngineOptions { payload_cache_bytes: 0, ..EngineOptions::default() };
    (Node::start_with(&directory.path().join("data"), options), directory)
}

fn sized(bytes: usize) -> NewTask {
    defined(task("k"), |it| it.payload = Bytes::from(vec![b'1'; bytes]))
}

async fn stream(node: &Node, worker: &str, slots: u32) -> SessionStream {
    let request = SessionRequest {
        session: None,
        worker: name(worker),
        queues: Vec::new(),
        kinds: Vec::new(),
        slots,
        held: Vec::new(),
        streams_output: false,
    };
    node.engine.open_session(request).await.expect("a session")
}

/// Tasks that come down, until there are so many.
async fn receive(stream: &mut SessionStream, count: usize) -> Vec<Dispatched> {
    let mut tasks = Vec::new();
    let receive = async {
        while tasks.len() < count {
            if let Some(SessionEvent::Dispatches(more)) = stream.events.recv().await {
                tasks.extend(more);
            }
        }
    };
    timeout(PATIENCE, receive).await.expect("they come in time");
    tasks
}

#[tokio::test]
async fn one_payload_that_cannot_be_read_stops_nobody_else() {
    let (node, _directory) = uncached();
    let hangs = node.submit(task("k")).await;
    node.store.fault(&hangs, SpecFault::Hangs);
    let others = (0..300).map(|_| task("k")).collect();
    node.engine.submit(others).await.expect("an answer");
    // It is read for the first worker together with others, and holds up neither worker for good.
    let mut first = stream(&node, "first", 301).await;
    assert_eq!(receive(&mut first, 300).await.len(), 300);
    node.submit(task("k")).await;
    let mut second = stream(&node, "second", 5).await;
    assert_eq!(receive(&mut second, 1).await.len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_task_whose_definition_is_damaged_or_missing_fails_alone_and_durably() {
    let (node, _directory) = uncached();
    let damaged = node.submit(task("k")).await;
    let missing = node.submit(task("k")).await;
    node.store.fault(&damaged, SpecFault::Damaged);
    node.store.fault(&missing, SpecFault::Missing);
    node.engine.submit((0..20).map(|_| task("k")).collect()).await.expect("an answer");
    let mut worker = stream(&node, "w", 100).await;
    assert_eq!(receive(&mut worker, 20).await.len(), 20);
    let filter = TaskFilter { statuses: vec![Status::Failed], ..TaskFilter::default() };
    let failed = async {
        loop {
            let page = node.engine.list(&filter, 10, None).await.expect("it can be listed");
            // One without any definition counts as deleted for who only looks.
            if let [view] = &page.tasks[..] {
                return view.clone();
            }
        }
    };
    let view = timeout(PATIENCE, failed).await.expect("in time");
    assert_eq!(TaskRef::Id(view.spec.id), damaged);
    let failure = view.failure.expect("why");
    assert_eq!(failure.reason, FailureReason::Permanent);
    assert!(failure.message.contains("definition"), "{}", failure.message);
    assert!(node.engine.task(&damaged).await.is_err(), "its payload cannot be shown");
    // Nobody has it any more, and it can be removed.
    let workers = node.engine.workers().await.expect("an answer");
    assert_eq!(workers[0].held, 20);
    node.engine.delete(&damaged).await.expect("it ended");
    node.stop().await;
}

#[tokio::test]
async fn a_task_whose_definition_a_newer_version_wrote_waits_for_one_that_can_read_it() {
    let (node, directory) = uncached();
    let newer = node.submit(task("k")).await;
    node.store.fault(&newer, SpecFault::Newer);
    let mut worker = stream(&node, "w", 10).await;
    let queue =
        async |node: &Node| node.engine.queue(&name("q")).await.expect("an answer").expect("known");
    let set_aside = async {
        while queue(&node).await.unreadable == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, set_aside).await.expect("in time");
    let counts = queue(&node).await;
    assert_eq!((counts.pending, counts.leased, counts.failed_total), (0, 0, 0));
    let unreadable = node.engine.health().checks.into_iter().find(|check| check.name == "records");
    let problem = unreadable.expect("there is such a check").problem.expect("it says so");
    assert!(problem.starts_with("cannot read 1 record "), "{problem}");
    // It keeps nobody from working, nor does the pull interface give it out.
    node.submit(task("k")).await;
    assert_eq!(receive(&mut worker, 1).await.len(), 1);
    drop(worker);
    node.stop().await;
    let node = Node::start(&directory.path().join("data"));
    let leased = node.lease(5).await;
    let its = leased.iter().find(|leased| TaskRef::Id(leased.spec.id) == newer).expect("it waited");
    assert_eq!(its.attempt, 1, "no attempt was spent");
    node.stop().await;
}

#[tokio::test]
async fn attempts_are_shown_within_a_bound_of_bytes() {
    let (node, _directory) = uncached();
    let retry = RetryPolicy {
        max_attempts: 20,
        initial: Millis(1),
        max: Millis(1),
        ..RetryPolicy::default()
    };
    let policy = Policy { retry, ..Policy::default() };
    let id = node.submit(defined(task("k"), |it| it.policy = policy)).await;
    for _ in 0..8 {
        let leased = node.lease(1).await;
        let lease = LeaseId { task: leased[0].spec.id, token: leased[0].token };
        let failure = Failure::new(FailureReason::Error, "no");
        let outcome = AttemptOutcome::Failed { failure, retry_at: None };
        let output_tail = Bytes::from(vec![b'o'; 900_000]);
        let report = Report::Ended { started_at: None, output_tail, outcome };
        assert_eq!(node.engine.report(vec![(lease, report)]).await.expect("an answer"), [Ok(())]);
    }
    let attempts = node.engine.attempts(&id).await.expect("an answer").expect("known");
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.attempt).collect();
    assert_eq!(numbers, [5, 6, 7, 8], "the newest, as many as fit");
    node.stop().await;
}

#[tokio::test]
async fn payloads_that_are_too_many_bytes_for_one_read_are_read_in_smaller_portions() {
    let (node, _directory) = uncached();
    for _ in 0..4 {
        node.engine.submit((0..8).map(|_| sized(MIB)).collect()).await.expect("an answer");
    }
    node.store.answer_bytes_max.store(3 * MIB, Ordering::Relaxed);
    let mut worker = stream(&node, "w", 100).await;
    assert_eq!(receive(&mut worker, 32).await.len(), 32);
    node.stop().await;
}

#[tokio::test]
async fn a_worker_that_reads_nothing_holds_bounded_bytes_and_no_other_worker_up() {
    let (node, _directory) = uncached();
    let mut idle = stream(&node, "idle", 100).await;
    for _ in 0..6 {
        node.engine.submit((0..8).map(|_| sized(MIB)).collect()).await.expect("an answer");
    }
    let first = receive(&mut idle, 1).await.len();
    let quick = defined(task("k"), |it| it.kind = name("quick"));
    node.submit(quick).await;
    let request = SessionRequest {
        session: None,
        worker: name("quick"),
        queues: Vec::new(),
        kinds: vec![name("quick")],
        slots: 1,
        held: Vec::new(),
        streams_output: false,
    };
    let held = async || {
        let workers = node.engine.workers().await.expect("an answer");
        workers.iter().find(|view| &*view.worker == "idle").map_or(0, |view| view.held)
    };
    let mut other = node.engine.open_session(request).await.expect("a session");
    if held().await < 49 {
        assert_eq!(receive(&mut other, 1).await.len(), 1);
    }
    let mut waiting = 0;
    while let Ok(event) = idle.events.try_recv() {
        if let SessionEvent::Dispatches(tasks) = event {
            waiting += tasks.len();
        }
    }
    assert!(first + waiting < 12, "{first} and {waiting} of 48 came without being taken");
    let mut left = 48 - first - waiting;
    while left > 0 {
        let more = receive(&mut idle, 1).await.len();
        assert!(more > 0, "the rest comes as there is room");
        left = left.saturating_sub(more);
    }
    let channel = node.engine.memory_peaks().channel;
    assert!(channel <= 5 * MIB + MIB / 4, "{channel} bytes were in a channel");
    node.stop().await;
}

#[tokio::test]
async fn lists_and_bulk_requests_read_few_bytes_at_a_time() {
    let (node, _directory) = uncached();
    for _ in 0..4 {
        node.engine.submit((0..10).map(|_| sized(MIB)).collect()).await.expect("an answer");
    }
    let all = TaskFilter { queue: Some(name("q")), ..TaskFilter::default() };
    let page = node.engine.list(&all, 1000, None).await.expect("an answer");
    assert_eq!((page.tasks.len(), page.next), (40, None));
    assert!(page.tasks.iter().all(|view| view.spec.definition.payload.is_empty()));
    for action in [BulkAction::Cancel, BulkAction::Retry, BulkAction::Cancel] {
        let outcome = node.engine.bulk(action, &all, 1000, None).await.expect("an answer");
        assert_eq!(outcome.changed, 40, "{action:?}");
    }
    let largest = node.store.answer_bytes.load(Ordering::Relaxed);
    assert!(largest <= 17 * MIB, "{largest} bytes were read at once");
    node.stop().await;
}

#[tokio::test]
async fn a_lease_answers_with_bounded_bytes_and_leaves_the_rest_to_others() {
    let (node, _directory) = uncached();
    for _ in 0..3 {
        node.engine.submit((0..10).map(|_| sized(MIB)).collect()).await.expect("an answer");
    }
    let mut seen = 0;
    for round in 0..60 {
        let request = LeaseRequest {
            session: Some(SessionId(7)),
            worker: name("w"),
            queues: Vec::new(),
            kinds: Vec::new(),
            max: 1000,
            wait: Duration::from_secs(10),
            ttl: Duration::from_secs(60),
            held: None,
        };
        let tasks = node.engine.lease(request).await.expect("an answer").tasks;
        let bytes: usize = tasks.iter().map(|task| task.spec.definition.payload.len()).sum();
        assert!(!tasks.is_empty() && bytes <= 2 * MIB, "{bytes} bytes in round {round}");
        seen += tasks.len();
        for task in &tasks {
            assert_eq!(task.attempt, 1, "what was left over cost no attempt");
            assert!(node.report(task, completed("")).await);
        }
        if seen == 30 {
            break;
        }
    }
    assert_eq!(seen, 30);
    node.stop().await;
}

#[tokio::test]
async fn a_worker_gets_as_many_small_tasks_at_once_after_many_as_at_first() {
    let (node, _directory) = uncached();
    for _ in 0..25 {
        node.engine.submit((0..20).map(|_| sized(16 << 10)).collect()).await.expect("an answer");
        let leased = node.lease(20).await;
        assert_eq!(leased.len(), 20);
        for task in &leased {
            assert!(node.report(task, completed("")).await);
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn requests_that_wait_hold_bounded_bytes() {
    let (node, _directory) = uncached();
    node.submit(task("warm")).await;
    node.store.set(Mood::Holding);
    let submit = |_| {
        let engine = node.engine.clone();
        tokio::spawn(async move {
            let tasks = (0..8).map(|_| sized(MIB)).collect();
            engine.submit(tasks).await
        })
    };
    let wait = |mut call: tokio::task::JoinHandle<_>| async move {
        let answer = timeout(Duration::from_secs(4), &mut call).await;
        answer.map_err(|_| call)
    };
    let mut turned_away = 0;
    let mut taken = Vec::new();
    for answer in join_all((0..24).map(submit).map(wait)).await {
        match answer {
            Ok(refused) => {
                let refused = refused.expect("no panic");
                let full = matches!(refused, Err(EngineError::Overloaded { .. }));
                assert!(full, "{refused:?}");
                turned_away += 1;
            }
            Err(call) => taken.push(call),
        }
    }
    assert!(taken.len() <= 8 && turned_away >= 16, "{} wait, {turned_away} do not", taken.len());
    let waiting = node.engine.memory_peaks().submissions;
    assert!((56 * MIB..=64 * MIB).contains(&waiting), "{waiting} bytes wait");
    node.store.set(Mood::Well);
    for call in taken {
        assert!(call.await.expect("no panic").is_ok());
    }
    node.submit(sized(MIB)).await;
    node.stop().await;
}

#[tokio::test]
async fn a_bulk_retry_says_what_was_done_where_a_queue_is_full() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut options = EngineOptions::default();
    options.machine.queue_length_max = 3;
    let node = Node::start_with(&directory.path().join("data"), options);
    for _ in 0..5 {
        let id = node.submit(task("k")).await;
        node.engine.cancel(&id).await.expect("it waits");
    }
    let all = TaskFilter { queue: Some(name("q")), ..TaskFilter::default() };
    let outcome = node.engine.bulk(BulkAction::Retry, &all, 10, None).await.expect("counts");
    assert_eq!((outcome.changed, outcome.skipped, outcome.refused), (3, 0, 2));
    let refusal = outcome.refusal.expect("why");
    assert!(matches!(refusal, rota_core::Refusal::QueueFull { .. }), "{refusal:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_pause_says_how_the_queue_stands_by_its_own_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    node.submit(task("k")).await;
    let queue =
        node.engine.pause_queue(&name("q"), Some(Pause::default())).await.expect("an answer");
    assert_eq!((queue.paused, queue.pending), (true, 1));
    let none = node.engine.pause_queue(&name("none"), None).await.expect("an answer");
    assert_eq!((&*none.name, none.paused, none.pending), ("none", false, 0));
    node.stop().await;
}

#[tokio::test]
async fn tasks_are_shown_as_they_were_committed_while_a_commit_hangs() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let id = node.submit(task("k")).await;
    let entered = node.store.entered.load(Ordering::Relaxed);
    node.store.set(Mood::Holding);
    let engine = node.engine.clone();
    let stuck = tokio::spawn(async move { engine.submit(vec![task("k")]).await });
    while node.store.entered.load(Ordering::Relaxed) == entered {
        tokio::task::yield_now().await;
    }
    let view = node.engine.task(&id).await.expect("an answer").expect("known");
    assert_eq!(view.status, Status::Pending);
    let page = node.engine.list(&TaskFilter::default(), 10, None).await.expect("an answer");
    assert_eq!(page.tasks.len(), 1, "what is not durable is not shown");
    let queues = node.engine.queues().await.expect("the last committed state");
    assert_eq!((queues.len(), queues[0].pending), (1, 1));
    let queue = node.engine.queue(&name("q")).await.expect("the last committed state");
    assert_eq!(queue.expect("known").pending, 1);
    let page = node.engine.queues_after(None, 5).await.expect("the last committed state");
    assert_eq!((page.queues.len(), page.as_of.is_some()), (1, true));
    let page = node.engine.queues_after(Some(&name("q")), 5).await.expect("an answer");
    assert!(page.queues.is_empty());
    let page = node.engine.queues_after(Some(&name("p")), 5).await.expect("an answer");
    assert_eq!(page.queues.len(), 1);
    node.store.set(Mood::Well);
    assert!(stuck.await.expect("no panic").is_ok());
    node.stop().await;
}

#[tokio::test]
async fn workers_are_shown_as_they_were_committed_while_a_commit_hangs() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mut stream = node.engine.open_session(worker(&[])).await.expect("an answer");
    let first = node.submit(task("k")).await;
    given(&mut stream).await;
    let now = node.engine.workers_after(None, 5, 1000).await.expect("an answer");
    assert_eq!((now.workers[0].held, now.as_of), (1, None), "nothing hangs");
    let entered = node.store.entered.load(Ordering::Relaxed);
    node.store.set(Mood::Holding);
    let engine = node.engine.clone();
    let stuck = tokio::spawn(async move { engine.submit(vec![task("k")]).await });
    until(|| node.store.entered.load(Ordering::Relaxed) > entered).await;
    let other = SessionRequest { worker: name("x"), ..worker(&[]) };
    let engine = node.engine.clone();
    let opening = tokio::spawn(async move { engine.open_session(other).await });
    let list = timeout(PATIENCE, node.engine.workers_after(None, 5, 1000)).await;
    let list = list.expect("in time").expect("the last committed state");
    assert!(list.as_of.is_some());
    let held: Vec<_> = list.workers.iter().map(|view| (&*view.worker, view.held)).collect();
    assert_eq!(held, [("w", 1)], "what is not durable is not shown");
    assert_eq!(TaskRef::Id(list.workers[0].tasks[0].0), first);
    let last = (list.workers[0].worker.clone(), list.workers[0].id);
    let list = node.engine.workers_after(Some(last), 5, 1000).await.expect("an answer");
    assert_eq!(list.workers, []);
    node.store.set(Mood::Well);
    assert!(stuck.await.expect("no panic").is_ok());
    assert!(opening.await.expect("no panic").is_ok());
    node.stop().await;
}

#[tokio::test]
async fn pages_of_live_and_ended_tasks_are_merged_whatever_their_sizes() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mut expected = Vec::new();
    for round in 0..60 {
        let id = node.submit(task("k")).await;
        if round % 3 == 0 {
            node.engine.cancel(&id).await.expect("it waits");
        }
        expected.push((id, round % 3 == 0));
    }
    expected.reverse();
    for size in [1, 2, 7, 59, 60, 61] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let all = TaskFilter::default();
            let page = node.engine.list(&all, size, after).await.expect("an answer");
            assert!(page.tasks.len() <= size && !page.tasks.is_empty(), "{size}");
            let ended = |view: &rota_engine::TaskView| view.status.is_terminal();
            seen.extend(page.tasks.iter().map(|view| (TaskRef::Id(view.spec.id), ended(view))));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, expected, "{size}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_damaged_definition_does_not_hide_the_tasks_beside_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let damaged = node.submit(defined(task("k"), |it| it.policy.retry.max_attempts = 7)).await;
    node.submit(task("k")).await;
    node.store.fault(&damaged, SpecFault::Damaged);
    let page = node.engine.list(&TaskFilter::default(), 10, None).await.expect("an answer");
    assert_eq!(page.tasks.len(), 2);
    assert_eq!(TaskRef::Id(page.tasks[1].spec.id), damaged);
    assert_eq!(
        (&*page.tasks[1].spec.definition.queue, page.tasks[1].status),
        ("q", Status::Pending)
    );
    assert_eq!(
        page.tasks[1].spec.definition.policy.retry.max_attempts, 7,
        "the live record has it"
    );
    let filter = TaskFilter { queue: Some(name("q")), ..TaskFilter::default() };
    let outcome = node.engine.bulk(BulkAction::Cancel, &filter, 10, None).await.expect("counts");
    assert_eq!(outcome.changed, 2);
    node.stop().await;
}

#[tokio::test]
async fn json_that_is_written_otherwise_is_a_repeat() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let named = |payload: &'static str| NewTask {
        client_keys: rota_core::ClientKeys { id: None, key: Some("order-1".into()) },
        ..defined(task("k"), |it| it.payload = Bytes::from_static(payload.as_bytes()))
    };
    let submit = async |task: NewTask| {
        let results = node.engine.submit(vec![task]).await.expect("an answer");
        results.into_iter().next().expect("one").map(|submitted| submitted.created)
    };
    assert_eq!(submit(named(r#"{"b":1,"a":2}"#)).await, Ok(true));
    for _ in 0..3 {
        assert_eq!(submit(named(r#"{"b":1,"a":2}"#)).await, Ok(false));
        assert_eq!(submit(named(r#"{ "a": 2, "b": 1 }"#)).await, Ok(false));
        assert_eq!(submit(named(r#"{"\u0061":2.0,"b":0.1e1}"#)).await, Ok(false));
        assert!(submit(named(r#"{"a":2,"b":2}"#)).await.is_err());
        node.submit(task("k")).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn a_task_that_is_retried_while_it_is_read_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let id = node.submit(task("k")).await;
    node.engine.cancel(&id).await.expect("it waits");
    // The reader has seen that it is not live, and has yet to see how it ended.
    node.store.hold_ended(true);
    let (engine, asked) = (node.engine.clone(), id.clone());
    let reader = tokio::spawn(async move { engine.task(&asked).await });
    until(|| node.store.ended_waiting.load(Ordering::Relaxed) > 0).await;
    let retried = timeout(PATIENCE, node.engine.retry(&id)).await.expect("an answer in time");
    assert_eq!(retried.expect("it was cancelled").status, Status::Pending);
    node.store.hold_ended(false);
    let read = reader.await.expect("no panic").expect("an answer");
    assert_eq!(read.expect("it is there all the time").status, Status::Pending);
    node.stop().await;
}

#[tokio::test]
async fn a_change_of_a_task_that_is_deleted_meanwhile_is_not_denied() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let id = node.submit(task("k")).await;
    // The change is made, and then the task is to be read to be shown.
    node.store.hold_specs(true);
    let before = node.store.specs.load(Ordering::Relaxed);
    let (engine, asked) = (node.engine.clone(), id.clone());
    let client = tokio::spawn(async move { engine.cancel(&asked).await });
    until(|| node.store.specs.load(Ordering::Relaxed) > before).await;
    timeout(PATIENCE, node.engine.delete(&id)).await.expect("in time").expect("it has ended");
    node.store.hold_specs(false);
    let answer = client.await.expect("no panic");
    assert!(matches!(answer, Err(EngineError::OutcomeUnknown(_))), "{answer:?}");
    node.stop().await;
}
