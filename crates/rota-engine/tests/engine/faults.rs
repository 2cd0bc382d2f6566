//! What the engine makes of a store that is slow, full, unsure or taken.

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::join_all;
use rota_core::{AttemptOutcome, ClientKeys, LeaseId, Pause, Priority, Refusal, Report, Status};
use rota_engine::{
    BulkAction, EngineError, EngineOptions, LostBatches, NewTask, SessionEvent, SessionRequest,
    TaskFilter,
};
use rota_metrics::Format;

use crate::support::{Mood, Node, completed, defined, name, task, until};

fn problem(node: &Node, check: &str) -> Option<String> {
    let health = node.engine.health();
    health.checks.into_iter().find(|found| found.name == check)?.problem
}

#[tokio::test]
async fn nothing_leaves_before_its_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    // It has room, so a task goes to it in the step in which it is submitted.
    let worker = SessionRequest {
        session: None,
        worker: name("w"),
        queues: Vec::new(),
        kinds: Vec::new(),
        slots: 1,
        held: Vec::new(),
        streams_output: false,
    };
    let mut worker = node.engine.open_session(worker).await.expect("an answer");
    let entered = node.store.entered.load(Ordering::Relaxed);
    node.store.set(Mood::Holding);
    let engine = node.engine.clone();
    let submitted = tokio::spawn(async move { engine.submit(vec![task("k")]).await });
    until(|| node.store.entered.load(Ordering::Relaxed) > entered).await;
    let engine = node.engine.clone();
    let asked = tokio::spawn(async move { engine.queues().await });
    // Whatever else the engine could do without the store, it has had its turn to do.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(worker.events.try_recv().is_err(), "dispatched before it was durable");
    assert!(!submitted.is_finished(), "acknowledged before it was durable");
    assert!(!asked.is_finished(), "told what was not durable");
    node.store.set(Mood::Well);
    assert!(submitted.await.expect("no panic").expect("an answer")[0].is_ok());
    assert!(matches!(worker.events.recv().await, Some(SessionEvent::Dispatches(_))));
    assert!(asked.await.expect("no panic").is_ok());
    node.stop().await;
}

#[tokio::test]
async fn a_full_store_acknowledges_nothing_says_so_and_recovers_by_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let before = node.submit(task("before")).await;
    node.store.set(Mood::Full);
    let engine = node.engine.clone();
    let first = tokio::spawn(async move { engine.submit(vec![task("while")]).await });
    until(|| problem(&node, "store").is_some()).await;
    assert!(!node.engine.health().is_ready());
    let refused = node.engine.submit(vec![task("more")]).await;
    assert!(matches!(refused, Err(EngineError::StoreFull(_))), "{refused:?}");
    let refused = node.engine.cancel(&before).await;
    assert!(matches!(refused, Err(EngineError::StoreFull(_))), "{refused:?}");
    let engine = &node.engine;
    let full = |refused: Result<(), EngineError>| {
        assert!(matches!(refused, Err(EngineError::StoreFull(_))), "{refused:?}");
    };
    full(engine.delete(&before).await);
    full(engine.pause_queue(&name("q"), Some(Pause::default())).await.map(drop));
    let all = TaskFilter::default();
    full(engine.bulk(BulkAction::Cancel, &all, 10, None).await.map(drop));
    let view = engine.task(&before).await.expect("it can be read").expect("known");
    assert_eq!((view.status, view.waiting), (Status::Pending, None));
    let page = engine.list(&all, 10, None).await.expect("it can be read");
    assert_eq!(page.tasks.len(), 1);
    assert_eq!(
        engine.attempts(&before).await.expect("it can be read").map(|all| all.len()),
        Some(0)
    );
    assert!(!first.is_finished(), "acknowledged without being durable");
    node.store.set(Mood::Well);
    let kept = first.await.expect("no panic").expect("an answer");
    assert!(kept[0].is_ok());
    until(|| node.engine.health().is_ready()).await;
    assert_eq!(node.lease(5).await.len(), 2);
    node.stop().await;
}

/// Otherwise a client whose answer was lost never learns of its task, which it is to cancel, for example.
#[tokio::test]
async fn a_nearly_full_store_refuses_new_tasks_but_not_repeats_of_those_it_has() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let named = |id: &str| NewTask {
        client_keys: ClientKeys { id: Some(name(id)), key: None },
        ..task("k")
    };
    let keyed =
        || NewTask { client_keys: ClientKeys { id: None, key: Some("key".into()) }, ..task("k") };
    let before = node.submit(named("before")).await;
    node.submit(keyed()).await;
    node.store.set(Mood::NearlyFull);
    let refuses = async |tasks: Vec<NewTask>| {
        let answer = node.engine.submit(tasks).await;
        matches!(answer, Err(EngineError::StoreFull(_)))
    };
    // The store is asked now and then.
    let begins = async {
        let mut period = tokio::time::interval(Duration::from_millis(50));
        while !refuses(vec![task("k")]).await {
            period.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), begins).await.expect("new work is refused");
    let again = node.engine.submit(vec![named("before"), keyed()]).await.expect("an answer");
    for repeated in again {
        assert!(!repeated.expect("a repeat").created);
    }
    assert!(refuses(vec![named("before"), named("new")]).await, "one of them is new");
    assert!(refuses(vec![task("k")]).await, "it has no name");
    node.engine.cancel(&before).await.expect("what there is can end");
    node.stop().await;
}

#[tokio::test]
async fn a_store_that_took_what_it_called_too_much_is_well_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    node.submit(task("before")).await;
    node.store.set(Mood::LandsAsFull);
    node.submit(task("taken")).await;
    assert!(node.engine.health().is_ready(), "{:?}", node.engine.health());
    node.stop().await;
}

#[tokio::test]
async fn questions_are_bounded_while_a_commit_hangs() {
    let directory = tempfile::tempdir().expect("a directory");
    let options =
        EngineOptions { call_timeout: Duration::from_secs(3), ..EngineOptions::default() };
    let node = Node::start_with(&directory.path().join("data"), options);
    node.submit(task("before")).await;
    let entered = node.store.entered.load(Ordering::Relaxed);
    node.store.set(Mood::Holding);
    let engine = node.engine.clone();
    let held = tokio::spawn(async move { engine.submit(vec![task("held")]).await });
    until(|| node.store.entered.load(Ordering::Relaxed) > entered).await;
    let asked = join_all((0..30_000).map(|_| node.engine.queues())).await;
    let turned_away =
        asked.iter().filter(|answer| matches!(answer, Err(EngineError::Overloaded { .. }))).count();
    assert!(turned_away > 5_000, "{turned_away} of 30,000 were turned away");
    node.store.set(Mood::Well);
    held.abort();
    assert!(node.engine.queues().await.is_ok());
    node.stop().await;
}

#[tokio::test]
async fn what_the_store_takes_no_more_is_refused_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let sized = |bytes: usize| defined(task("k"), |it| it.payload = Bytes::from(vec![b'1'; bytes]));
    let running = node.submit(task("k")).await;
    let leased = node.lease(1).await;
    // The store turns out to take less than it was said to, which ends the leadership.
    node.store.bytes_max.store(200_000, Ordering::Relaxed);
    node.store.set(Mood::Deposes);
    let _ = node.engine.submit(vec![task("k")]).await;
    let tasks = vec![sized(10), sized(300_000), sized(10)];
    let results = node.engine.submit(tasks).await.expect("an answer");
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    assert!(matches!(results[1], Err(Refusal::TooLarge { .. })), "{results:?}");
    let lease = LeaseId { task: leased[0].spec.id, token: leased[0].token };
    let ended = |result: usize| {
        let result = Bytes::from(vec![b'1'; result]);
        let (output_tail, outcome) = (Bytes::new(), AttemptOutcome::Completed { result });
        (lease, Report::Ended { started_at: None, output_tail, outcome })
    };
    let refused = node.engine.report(vec![ended(300_000)]).await.expect("an answer");
    assert!(matches!(refused[0], Err(Refusal::TooLarge { .. })), "{refused:?}");
    assert_eq!(node.engine.report(vec![ended(10)]).await.expect("an answer"), [Ok(())]);
    let view = node.engine.task(&running).await.expect("an answer").expect("known");
    assert_eq!(view.status, Status::Completed);
    node.stop().await;
}

#[tokio::test]
async fn an_ambiguous_commit_is_resolved_and_applied_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    for mood in [Mood::LandsAmbiguously, Mood::FailsAmbiguously] {
        node.store.set(mood);
        let id = node.submit(task("k")).await;
        let leased = node.lease(5).await;
        assert_eq!(leased.len(), 1, "{mood:?}");
        assert!(node.report(&leased[0], completed("")).await);
        let view = node.engine.task(&id).await.expect("an answer").expect("known");
        assert_eq!((view.status, view.attempt), (Status::Completed, 1), "{mood:?}");
    }
    assert!(node.store.commits.load(Ordering::Relaxed) >= 7);
    node.stop().await;
}

#[tokio::test]
async fn a_store_that_never_knows_the_outcome_counts_as_unavailable() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    node.submit(task("before")).await;
    node.store.set(Mood::FailsAmbiguouslyAlways);
    let engine = node.engine.clone();
    let waits = tokio::spawn(async move { engine.submit(vec![task("k")]).await });
    // Others are refused at once, instead of waiting for an outcome that may never be known.
    until(|| !node.engine.health().is_ready()).await;
    let refused = node.engine.submit(vec![task("other")]).await;
    assert!(matches!(refused, Err(EngineError::Unavailable { .. })), "{refused:?}");
    node.store.set(Mood::Well);
    let submitted = waits.await.expect("it does not panic").expect("an answer");
    assert!(submitted[0].is_ok());
    node.stop().await;
}

#[tokio::test]
async fn a_deposed_leader_drops_its_memory_and_what_it_had_not_made_durable() {
    let directory = tempfile::tempdir().expect("a directory");
    let options =
        EngineOptions { call_timeout: Duration::from_secs(5), ..EngineOptions::default() };
    let node = Node::start_with(&directory.path().join("data"), options);
    let kept = node.submit(task("kept")).await;
    let epoch = node.engine.info().epoch;
    node.store.set(Mood::Deposes);
    let lost = node.engine.submit(vec![task("lost")]).await;
    assert!(matches!(lost, Err(EngineError::LeadershipLost)), "{lost:?}");
    until(|| node.engine.info().epoch > epoch && node.engine.health().is_ready()).await;
    let view = node.engine.task(&kept).await.expect("an answer").expect("known");
    assert_eq!(view.status, Status::Pending);
    assert_eq!(node.engine.info().live_tasks, 1);
    node.stop().await;
}

#[tokio::test]
async fn nothing_is_said_from_the_memory_of_a_leadership_that_has_lapsed() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let id = node.submit(task("k")).await;
    let epoch = node.engine.info().epoch;
    node.store.lapsed.store(true, Ordering::Relaxed);
    let stale = node.engine.task(&id).await;
    assert!(matches!(stale, Err(EngineError::LeadershipLost)), "{stale:?}");
    until(|| node.engine.info().epoch > epoch && node.engine.health().is_ready()).await;
    assert!(node.engine.task(&id).await.expect("an answer").is_some());
    node.stop().await;
}

#[tokio::test]
async fn a_leader_that_was_deposed_unnoticed_does_not_deny_the_tasks_of_its_successor() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let id = node.submit(task("k")).await;
    let state = node.store.live_state(&id).await;
    node.engine.cancel(&id).await.expect("it waits");
    node.engine.delete(&id).await.expect("it has ended");
    // What the last steps did, the node knows itself.
    for _ in 0..3 {
        node.submit(task("k")).await;
    }
    let refused = node.engine.set_priority(&id, Priority::default()).await;
    assert!(matches!(refused, Err(EngineError::Refused(Refusal::UnknownTask))), "{refused:?}");
    *node.store.foreign.lock().expect("nobody panics with it") =
        Some((id.to_string().into(), state));
    let refused = node.engine.set_priority(&id, Priority::default()).await;
    assert!(matches!(refused, Err(EngineError::LeadershipLost)), "{refused:?}");
    let refused = node.engine.cancel(&id).await;
    assert!(matches!(refused, Err(EngineError::LeadershipLost)), "{refused:?}");
    // Others are served until the node notices.
    node.submit(task("k")).await;
    node.stop().await;
}

#[tokio::test]
async fn what_has_landed_is_answered_although_the_leadership_has_lapsed_meanwhile() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    node.submit(task("before")).await;
    let entered = node.store.entered.load(Ordering::Relaxed);
    node.store.set(Mood::Holding);
    let engine = node.engine.clone();
    let landed = tokio::spawn(async move { engine.submit(vec![task("k")]).await });
    until(|| node.store.entered.load(Ordering::Relaxed) > entered).await;
    node.store.lapsed.store(true, Ordering::Relaxed);
    node.store.set(Mood::Well);
    // Its fence let the batch in, so no other leader can have come before it.
    let landed = landed.await.expect("no panic").expect("it has landed");
    assert!(landed[0].is_ok(), "{landed:?}");
    node.stop().await;
}

#[tokio::test]
async fn what_a_commit_ran_into_is_over_with_the_leadership() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    node.submit(task("before")).await;
    let epoch = node.engine.info().epoch;
    node.store.set(Mood::Away);
    let engine = node.engine.clone();
    let lost = tokio::spawn(async move { engine.submit(vec![task("lost")]).await });
    until(|| !node.engine.health().is_ready()).await;
    node.store.set(Mood::Deposes);
    let lost = lost.await.expect("no panic");
    assert!(matches!(lost, Err(EngineError::LeadershipLost)), "{lost:?}");
    // Nothing is committed from here on that could show that the store is well.
    until(|| node.engine.info().epoch > epoch && node.engine.health().is_ready()).await;
    node.stop().await;
}

#[tokio::test]
async fn a_commit_that_hangs_makes_a_node_unready_and_the_check_names_the_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let options =
        EngineOptions { stalled_after: Duration::from_secs(2), ..EngineOptions::default() };
    let node = Node::start_with(&directory.path().join("data"), options);
    node.submit(task("before")).await;
    let failing = || {
        let checks = node.engine.health().checks;
        let failing = checks.into_iter().filter(|check| check.problem.is_some());
        failing.map(|check| check.name).collect::<Vec<_>>()
    };
    assert!(failing().is_empty());
    node.store.set(Mood::Holding);
    let engine = node.engine.clone();
    let stuck = tokio::spawn(async move { engine.submit(vec![task("while")]).await });
    until(|| failing() == ["store"]).await;
    // Whoever asks for metrics still gets them, and sees the same.
    let shown = shown(&node).await;
    let value = |name| value(&shown, name).expect(name);
    assert!(value("rota_engine_pulse_age_seconds") > 2.0, "{shown}");
    assert!(value("rota_ready{check=\"store\"}") < 0.5, "{shown}");
    assert!(value("rota_ready{check=\"engine\"}") > 0.5, "one trouble is told once: {shown}");
    assert!(value("rota_ready{check=\"leader\"}") > 0.5, "{shown}");
    node.store.set(Mood::Well);
    assert!(stuck.await.expect("no panic").expect("an answer")[0].is_ok());
    until(|| failing().is_empty()).await;
    node.stop().await;
}

/// The metrics of a node, as Prometheus gets them.
async fn shown(node: &Node) -> String {
    let shown = node.engine.metrics().show(node.engine.collect_metrics().await, Format::Text);
    String::from_utf8(shown.body).expect("text")
}

fn value(shown: &str, name: &str) -> Option<f64> {
    let line = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
}

#[tokio::test]
async fn batches_that_a_store_has_lost_are_in_the_metrics() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let told = async || {
        let shown = shown(&node).await;
        let names = ["lost_batches_total", "lost_batches_unknown", "loss_timestamp_seconds"];
        names.map(|name| value(&shown, &format!("rota_store_{name}")))
    };
    assert_eq!(told().await, [Some(0.0), Some(0.0), None]);
    let noticed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let unknown = LostBatches { batches: None, maybe_more: true, since: None, noticed };
    let counted = LostBatches { batches: Some(3), maybe_more: false, ..unknown.clone() };
    *node.store.lost.lock().expect("nobody panics with it") = Some(unknown);
    assert_eq!(told().await, [Some(0.0), Some(1.0), Some(1_000.0)]);
    *node.store.lost.lock().expect("nobody panics with it") = Some(counted);
    assert_eq!(told().await, [Some(3.0), Some(0.0), Some(1_000.0)]);
    node.stop().await;
}

#[tokio::test]
async fn what_the_store_does_not_say_is_not_denied() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    node.submit(task("k")).await;
    let leased = node.lease(1).await;
    assert!(node.report(&leased[0], completed("")).await);
    node.stop().await;
    let node = Node::start(&data);
    node.submit(task("other")).await;
    let lease = LeaseId { task: leased[0].spec.id, token: leased[0].token };
    let output_tail = Bytes::from_static(b"out");
    let report = Report::Ended { started_at: None, output_tail, outcome: completed("") };
    // Whether the task ended by this report is in the store alone.
    node.store.answer_bytes_max.store(0, Ordering::Relaxed);
    let repeated = node.engine.report(vec![(lease, report)]).await;
    assert!(matches!(repeated, Err(EngineError::Store(_))), "{repeated:?}");
    node.store.answer_bytes_max.store(usize::MAX, Ordering::Relaxed);
    assert!(node.report(&leased[0], completed("")).await);
    node.stop().await;
}
