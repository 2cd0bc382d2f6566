//! Changes of waiting tasks, and tasks that their handlers put off.

use bytes::Bytes;
use rota_core::{AttemptOutcome, ClientKeys, Millis, Refusal, RunAt, Status, WallTime};
use rota_engine::{EngineError, NewTask, TaskEdit, TaskView};

use crate::support::{Node, completed, defined, name, task};

/// A change of the payload alone.
fn with_payload(view: &TaskView, payload: &'static str) -> TaskEdit {
    let mut spec = rota_core::TaskSpec::clone(&view.spec);
    spec.definition.payload = Bytes::from_static(payload.as_bytes());
    TaskEdit { spec, edits: view.edits, priority: None, run_at: None }
}

#[tokio::test]
async fn a_worker_gets_the_task_as_it_was_last_changed_and_so_does_one_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    // Its definition is kept at hand for the dispatch that is to come.
    let id = node.submit(task("k")).await;
    let view = node.engine.task(&id).await.expect("an answer").expect("known");
    let changed = node.engine.edit(with_payload(&view, "[1]")).await.expect("it waits");
    assert_eq!((changed.edits, changed.spec.definition.payload.as_ref()), (1, b"[1]".as_slice()));
    let stale = node.engine.edit(with_payload(&view, "[2]")).await;
    let conflict = Refusal::VersionConflict { version: 2 };
    assert!(matches!(stale, Err(EngineError::Refused(refusal)) if refusal == conflict));
    let leased = node.lease(5).await;
    assert_eq!(leased[0].spec.definition.payload.as_ref(), b"[1]");
    let late = node.engine.edit(with_payload(&changed, "[3]")).await;
    assert!(matches!(late, Err(EngineError::Refused(Refusal::Illegal(_)))), "{late:?}");
    assert!(node.report(&leased[0], completed("42")).await);
    node.stop().await;

    let node = Node::start(&data);
    let view = node.engine.task(&id).await.expect("an answer").expect("known");
    assert_eq!((view.edits, view.spec.definition.payload.as_ref()), (1, b"[1]".as_slice()));
    node.stop().await;
}

#[tokio::test]
async fn a_repeat_is_compared_with_what_was_first_submitted() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mine = |payload: &'static str| NewTask {
        client_keys: ClientKeys { id: Some(name("mine")), key: None },
        run_at: RunAt::After(Millis::from_secs(3600)),
        ..defined(task("k"), |it| it.payload = Bytes::from_static(payload.as_bytes()))
    };
    let id = node.submit(mine("[1]")).await;
    let view = node.engine.task(&id).await.expect("an answer").expect("known");
    node.engine.edit(with_payload(&view, "[2]")).await.expect("it waits");
    let again = node.engine.submit(vec![mine("[1]"), mine("[2]")]).await.expect("an answer");
    assert!(matches!(&again[0], Ok(known) if !known.created), "{again:?}");
    assert!(matches!(&again[1], Err(Refusal::Conflict { .. })), "{again:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_task_that_is_put_off_keeps_its_attempt_and_says_until_when_it_waits() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    let id = node.submit(task("k")).await;
    let leased = node.lease(1).await;
    let until = WallTime(4_000_000_000_000);
    assert!(node.report(&leased[0], AttemptOutcome::Snoozed { until: RunAt::At(until) }).await);
    assert!(
        node.report(&leased[0], AttemptOutcome::Snoozed { until: RunAt::At(until) }).await,
        "a repeat"
    );
    let other = AttemptOutcome::Snoozed { until: RunAt::At(WallTime(until.0 + 1)) };
    assert!(!node.report(&leased[0], other).await, "that is no repeat");
    node.stop().await;

    let node = Node::start(&data);
    let view = node.engine.task(&id).await.expect("an answer").expect("known");
    assert_eq!((view.status, view.run_at, view.attempt), (Status::Scheduled, until, 1));
    assert_eq!((view.failures, view.snoozes), (0, 1));
    assert_eq!(view.waiting, Some(rota_core::Waiting::Snoozed { attempt: 1, until }));
    let attempts = node.engine.attempts(&id).await.expect("an answer").expect("known");
    assert_eq!((attempts.len(), attempts[0].snoozed_until), (1, Some(until)));
    node.stop().await;
}
