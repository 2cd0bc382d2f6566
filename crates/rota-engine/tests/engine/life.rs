//! A task's life through the engine, and through restarts.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::join_all;
use rota_core::{
    AttemptOutcome, ClientKeys, Failure, FailureReason, Millis, Pause, Refusal, Retention, Status,
};
use rota_engine::{BulkAction, EngineError, EngineOptions, NewTask, RunAt, TaskFilter, TaskRef};

use crate::support::{MoodyStore, Node, completed, defined, name, task};

#[tokio::test]
async fn a_task_is_submitted_leased_completed_and_read_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let id = node.submit(task("k")).await;
    let leased = node.lease(5).await;
    assert_eq!(leased.len(), 1);
    let view = node.engine.task(&id).await.expect("an answer").expect("known");
    assert_eq!((view.status, view.attempt), (Status::Running, 1));
    assert_eq!(view.lease_token, Some(leased[0].token));
    assert!(node.report(&leased[0], completed("42")).await);
    assert!(node.report(&leased[0], completed("42")).await, "a repeat is acknowledged again");
    assert!(!node.report(&leased[0], completed("43")).await, "another result is no repeat");
    let view = node.engine.wait(&id, Duration::from_secs(5)).await.expect("an answer");
    assert_eq!(view.expect("known").status, Status::Completed);
    let result = node.engine.result(&id).await.expect("an answer");
    assert_eq!(result.as_deref(), Some(b"42".as_slice()));
    let attempts = node.engine.attempts(&id).await.expect("an answer").expect("known");
    assert_eq!((attempts.len(), attempts[0].output_tail.as_ref()), (1, b"out".as_slice()));
    node.stop().await;
}

#[tokio::test]
async fn lease_tokens_begin_where_the_leadership_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let floor = 7 << 32;
    store.seq_floor.store(floor, Ordering::Relaxed);
    let node = Node::start_on(store, EngineOptions::default());
    node.submit(task("k")).await;
    let leased = node.lease(1).await;
    assert!(leased[0].token.0 > floor, "{:?}", leased[0].token);
    assert!(node.report(&leased[0], completed("42")).await);
    node.stop().await;
}

/// The clock of the next leader may be behind: then only this keeps the ids of lost tasks from becoming other tasks'.
#[tokio::test]
async fn ids_of_tasks_that_the_store_may_have_lost_are_not_given_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let id = async |node: &Node| {
        let submitted = node.engine.submit(vec![task("k")]).await.expect("an answer");
        submitted[0].as_ref().expect("accepted").task
    };
    let node = Node::start_on(store.clone(), EngineOptions::default());
    let kept = id(&node).await;
    node.leave().await;
    store.seq_floor.store(7 << 32, Ordering::Relaxed);
    let node = Node::start_on(store, EngineOptions::default());
    let next = id(&node).await;
    let left_out = next.created_at().since(kept.created_at());
    assert!(left_out >= Millis::from_secs(60), "{left_out:?}");
    node.stop().await;
}

#[tokio::test]
async fn nothing_that_was_acknowledged_is_lost_by_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    let later = NewTask { run_at: RunAt::After(Millis::from_secs(3600)), ..task("later") };
    let (waiting, later, held) =
        (node.submit(task("a")).await, node.submit(later).await, node.submit(task("b")).await);
    node.engine.pause_queue(&name("other"), Some(Pause::default())).await.expect("an answer");
    let leased = node.lease(2).await;
    assert_eq!(leased.len(), 2);
    let failed = |message: &str| {
        let failure = Failure::new(FailureReason::Error, message);
        AttemptOutcome::Failed { failure, retry_at: None }
    };
    assert!(node.report(&leased[0], failed("broken")).await);
    node.stop().await;

    let node = Node::start(&data);
    let status = async |task: &TaskRef| {
        let view = node.engine.task(task).await.expect("an answer");
        view.expect("known").status
    };
    assert_eq!(status(&waiting).await, Status::Failed);
    assert!(node.report(&leased[0], failed("broken")).await, "what was said is known");
    assert!(!node.report(&leased[0], failed("otherwise")).await, "and told from what was not");
    assert_eq!(status(&later).await, Status::Scheduled);
    assert_eq!(status(&held).await, Status::Assigned);
    let queues = node.engine.queues().await.expect("an answer");
    assert!(queues.iter().any(|queue| &*queue.name == "other" && queue.paused));
    assert!(node.report(&leased[1], completed("")).await, "the lease survived the restart");
    assert_eq!(status(&held).await, Status::Completed);
    let view = node.engine.retry(&waiting).await.expect("a dead letter can be retried");
    assert_eq!(view.status, Status::Pending);
    node.stop().await;
}

#[tokio::test]
async fn a_name_is_one_tasks_and_a_repeat_is_known_in_flight_and_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let named = |kind: &str| NewTask {
        client_keys: ClientKeys { id: Some(name("mine")), key: None },
        ..task(kind)
    };
    let node = Node::start(&data);
    let both = node.engine.submit(vec![named("k"), named("k"), named("other")]).await;
    let both = both.expect("an answer");
    let first = both[0].clone().expect("created");
    let again = both[1].clone().expect("repeated");
    assert!(first.created && !again.created);
    assert_eq!((first.task, again.shown_id.as_str()), (again.task, "mine"));
    assert!(matches!(both[2], Err(Refusal::Conflict { field: "id", .. })));
    node.stop().await;

    let node = Node::start(&data);
    let again = node.engine.submit(vec![named("k")]).await.expect("an answer");
    assert_eq!(again[0].as_ref().expect("repeated").task, first.task);
    let mine: TaskRef = "mine".parse().expect("a name");
    node.engine.cancel(&mine).await.expect("it waits");
    node.engine.delete(&mine).await.expect("it ended");
    let anew = node.engine.submit(vec![named("other")]).await.expect("an answer");
    assert!(anew[0].as_ref().expect("the name is free").created);
    node.stop().await;
}

#[tokio::test]
async fn what_has_been_kept_long_enough_is_removed_with_all_its_records() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let retention = Retention { completed: Millis(0), other: Millis(0) };
    let options = EngineOptions { retention, ..EngineOptions::default() };
    let node = Node::start_with(&data, options);
    let id = node.submit(task("k")).await;
    let leased = node.lease(1).await;
    assert!(node.report(&leased[0], completed("1")).await);
    // The log is looked at every few seconds, and spans of it are ten seconds long.
    let gone = async {
        let mut period = tokio::time::interval(Duration::from_millis(200));
        while node.engine.task(&id).await.expect("an answer").is_some() {
            period.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(40), gone).await.expect("it is removed");
    let deleted = node.engine.delete(&id).await;
    assert!(matches!(deleted, Err(EngineError::Refused(Refusal::UnknownTask))));
    node.stop().await;
}

/// Resolves when none of these tasks is there.
async fn until_gone(node: &Node, tasks: &[TaskRef]) {
    let gone = async {
        let mut period = tokio::time::interval(Duration::from_millis(100));
        for task in tasks {
            while node.engine.task(task).await.expect("an answer").is_some() {
                period.tick().await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("they are removed");
}

fn kept_for_no_time() -> EngineOptions {
    let retention = Retention { completed: Millis(0), other: Millis(0) };
    EngineOptions { retention, ..EngineOptions::default() }
}

#[tokio::test]
async fn a_record_that_the_store_cannot_read_does_not_stop_retention() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(&directory.path().join("data"), kept_for_no_time());
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(node.submit(task("k")).await);
        let leased = node.lease(1).await;
        // Each has an entry of its own.
        assert!(node.report(&leased[0], completed("1")).await);
    }
    let damaged = ids.remove(0);
    let unreadable = damaged.to_string();
    node.store.unreadable_ends.lock().expect("nobody panics with it").push(unreadable.clone());
    until_gone(&node, &ids).await;
    // Who asks for it learns why, and the others of the same call are not affected.
    let other = node.submit(task("k")).await;
    assert!(node.engine.cancel(&damaged).await.is_err());
    node.engine.cancel(&other).await.expect("it waits");
    node.store.unreadable_ends.lock().expect("nobody panics with it").clear();
    assert!(node.engine.task(&damaged).await.expect("an answer").is_some(), "nothing is lost");
    node.stop().await;
}

/// Adds tasks that fail for good after many attempts.
async fn fail_often(node: &Node, tasks: u32, attempts: u32) -> Vec<TaskRef> {
    let retried = defined(task("k"), |it| {
        it.policy.retry.max_attempts = attempts;
        it.policy.retry.initial = Millis(0);
    });
    let all = vec![retried; tasks as usize];
    let submitted = node.engine.submit(all).await.expect("an answer");
    let ids = submitted.into_iter().map(|one| TaskRef::Id(one.expect("accepted").task));
    let ids: Vec<_> = ids.collect();
    for _ in 0..attempts {
        let leased = node.lease(tasks).await;
        assert_eq!(leased.len(), tasks as usize);
        let failed = || {
            let failure = Failure::new(FailureReason::Error, "no");
            AttemptOutcome::Failed { failure, retry_at: None }
        };
        let reports = leased.iter().map(|leased| node.report_silently(leased, failed()));
        assert!(join_all(reports).await.iter().all(|accepted| *accepted));
    }
    ids
}

#[tokio::test]
async fn tasks_of_many_attempts_are_removed_in_several_portions() {
    const TASKS: u32 = 300;
    const ATTEMPTS: u32 = 20;
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(&directory.path().join("data"), kept_for_no_time());
    let ids = fail_often(&node, TASKS, ATTEMPTS).await;
    until_gone(&node, &ids).await;
    node.stop().await;
}

#[tokio::test]
async fn tasks_of_many_attempts_are_deleted_by_several_calls() {
    const TASKS: u32 = 300;
    const ATTEMPTS: u32 = 20;
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    fail_often(&node, TASKS, ATTEMPTS).await;
    let all = TaskFilter::default();
    let first = node.engine.bulk(BulkAction::Delete, &all, 1000, None).await.expect("an answer");
    // 21 records each, of which 5,000 go at once.
    assert_eq!((first.changed, first.skipped, first.refused), (238, 0, 0));
    let rest = node.engine.bulk(BulkAction::Delete, &all, 1000, first.next).await;
    let rest = rest.expect("an answer");
    assert_eq!((rest.changed, rest.skipped, rest.refused, rest.next), (62, 0, 0, None));
    let left = node.engine.list(&all, 1000, None).await.expect("an answer");
    assert!(left.tasks.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn retention_keeps_up_with_constant_load() {
    const ENTRIES: usize = 60;
    // Far longer than between two entries of one pass, and shorter than between two passes, of which
    // the first one may begin while the entries are added.
    const PAUSE: Duration = Duration::from_secs(1);
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(&directory.path().join("data"), kept_for_no_time());
    for _ in 0..ENTRIES {
        node.submit(task("k")).await;
        let leased = node.lease(1).await;
        assert!(node.report(&leased[0], completed("1")).await);
    }
    // One batch follows the other meanwhile.
    let load = async {
        loop {
            node.submit(task("k")).await;
        }
    };
    let completed = TaskFilter { statuses: vec![Status::Completed], ..TaskFilter::default() };
    let removal = async {
        let (mut batches, mut left, mut last) = (0, ENTRIES, None);
        while left > 0 {
            let page = node.engine.list(&completed, ENTRIES, None).await.expect("an answer");
            if page.tasks.len() == left {
                continue;
            }
            left = page.tasks.len();
            let (commits, now) =
                (node.store.commits.load(Ordering::Relaxed), tokio::time::Instant::now());
            if let Some((commits_then, then)) = last.replace((commits, now))
                && now - then < PAUSE
            {
                batches += (commits - commits_then) as usize;
            }
        }
        batches
    };
    let batches = async {
        tokio::select! {
            biased;
            batches = removal => batches,
            () = load => 0,
        }
    };
    let batches = tokio::time::timeout(Duration::from_secs(60), batches).await.expect("removed");
    assert!(batches <= ENTRIES, "{batches} batches to remove what {ENTRIES} batches have added");
    node.stop().await;
}
