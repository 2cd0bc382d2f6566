//! Groups of failures, counts, and the dry runs of actions on many tasks.

use std::time::Duration;

use rota_core::{AttemptOutcome, Failure, FailureReason, Millis, Name, Status, WallTime};
use rota_engine::{
    BulkAction, BulkOutcome, Dispatched, EngineOptions, FailureFilter, FailureState, NewTask,
    TaskFilter, TimeRange,
};

use crate::support::{MoodyStore, Node, SetClock, completed, defined, name, task};

const TIME: Duration = Duration::from_secs(2);

fn failed(message: &str) -> AttemptOutcome {
    let failure = Failure::new(FailureReason::Error, message);
    AttemptOutcome::Failed { failure, retry_at: None }
}

fn kind_of(task: &Dispatched) -> &Name {
    &task.spec.definition.kind
}

/// A task that waits for an hour after its first failure.
fn patient(kind: &str) -> NewTask {
    defined(task(kind), |it| {
        it.policy.retry.max_attempts = 2;
        it.policy.retry.initial = Millis(3_600_000);
        it.policy.retry.jitter = rota_core::Jitter::None;
    })
}

/// Runs the tasks and reports for each what `outcome` says of its kind and its number.
async fn run(node: &Node, tasks: Vec<NewTask>, outcome: impl Fn(&str, usize) -> AttemptOutcome) {
    let count = tasks.len();
    node.engine.submit(tasks).await.expect("an answer");
    let mut done = 0;
    while done < count {
        for leased in node.lease(100).await {
            let outcome = outcome(kind_of(&leased).as_str(), done);
            assert!(node.report(&leased, outcome).await);
            done += 1;
        }
    }
}

async fn count(node: &Node, filter: &TaskFilter) -> (u64, bool) {
    let counted = node.engine.count(filter, TIME).await.expect("an answer");
    (counted.count, counted.at_least)
}

#[tokio::test]
async fn failures_with_the_same_cause_are_one_group() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let other = || defined(task("mail"), |it| it.queue = name("other"));
    let tasks = vec![task("mail"), other(), task("sms"), task("mail"), task("fine"), other()];
    run(&node, tasks, |kind, at| match kind {
        "fine" => completed(""),
        _ => failed(&format!("user {at} not found\nat line {at}")),
    })
    .await;
    let first = FailureFilter::default();
    let found = node.engine.failures(&first, 50, TIME).await.expect("an answer");
    assert_eq!((found.groups.len(), found.other, found.examined, found.complete), (2, 0, 5, true));
    assert!(found.groups.is_sorted_by(|a, b| a.last_at >= b.last_at));
    let mail = found.groups.iter().find(|group| group.kind.as_str() == "mail").expect("a group");
    assert_eq!((mail.count, mail.folded.as_str()), (4, "user <n> not found"));
    assert!(mail.sample.message.contains("\nat line"), "the whole message");
    assert_eq!((mail.queues.len(), mail.tasks.len()), (2, 3));
    assert!(mail.first_at <= mail.last_at);

    // The fingerprint selects exactly the tasks of the group.
    let error = Some(mail.fingerprint);
    let filter = TaskFilter { error, ..TaskFilter::default() };
    let listed = node.engine.list(&filter, 50, None).await.expect("an answer").tasks;
    assert_eq!(listed.len(), 4);
    assert!(listed.iter().all(|view| view.spec.definition.kind.as_str() == "mail"));
    assert_eq!(count(&node, &filter).await, (4, false));
    let failed = TaskFilter { statuses: vec![Status::Failed], ..filter.clone() };
    assert_eq!(count(&node, &failed).await, (4, false));
    let retried = node.engine.bulk(BulkAction::Retry, &failed, 100, None).await.expect("an answer");
    assert_eq!((retried.changed, retried.skipped), (4, 0));
    // They wait, and still show their last error.
    assert_eq!(count(&node, &failed).await, (0, false));
    assert_eq!(count(&node, &filter).await, (4, false));
    node.stop().await;
}

#[tokio::test]
async fn a_group_shows_its_last_failure_whichever_task_is_newer() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = SetClock::new();
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_at(clock.host(), store, EngineOptions::default());
    node.engine.submit((0..3).map(|_| task("mail")).collect()).await.expect("an answer");
    let mut leased = node.lease(3).await;
    leased.sort_unstable_by_key(|task| task.spec.id);
    // Neither the newest nor the oldest task fails last.
    for at in [2, 0, 1] {
        clock.set_by(Duration::from_secs(1), true);
        assert!(node.report(&leased[at], failed(&format!("user {at} not found"))).await);
    }
    let any = FailureFilter::default();
    let found = node.engine.failures(&any, 50, TIME).await.expect("an answer").groups;
    assert_eq!((found.len(), found[0].count), (1, 3));
    assert_eq!(&*found[0].sample.message, "user 1 not found");
    assert!(found[0].last_at.since(found[0].first_at) >= Millis(2000), "{found:?}");
    node.stop().await;
}

#[tokio::test]
async fn failures_are_selected_by_queue_kind_and_time_and_few_are_listed() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let other = defined(task("a"), |it| it.queue = name("other"));
    run(&node, vec![task("a"), task("b"), task("c"), other], |_, _| failed("no")).await;
    let groups = async |filter: FailureFilter, limit| {
        let found = node.engine.failures(&filter, limit, TIME).await.expect("an answer");
        let of = found.groups.iter().map(|group| group.count).sum::<u64>();
        (found.groups.len(), of, found.other)
    };
    let any = FailureFilter::default;
    assert_eq!(groups(any(), 50).await, (3, 4, 0));
    let (shown, of, rest) = groups(any(), 1).await;
    assert_eq!((shown, of + rest), (1, 4));
    assert_eq!(groups(FailureFilter { kind: Some(name("a")), ..any() }, 9).await, (1, 2, 0));
    let queue = Some(name("other"));
    assert_eq!(groups(FailureFilter { queue, ..any() }, 9).await, (1, 1, 0));
    let later = TimeRange { from: Some(WallTime(i64::MAX)), to: None };
    assert_eq!(groups(FailureFilter { failed: later, ..any() }, 9).await, (0, 0, 0));
    let before = TimeRange { from: None, to: Some(WallTime(1)) };
    assert_eq!(groups(FailureFilter { failed: before, ..any() }, 9).await, (0, 0, 0));
    node.stop().await;
}

#[tokio::test]
async fn tasks_that_wait_for_another_attempt_have_groups_of_their_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let tasks = vec![patient("mail"), patient("mail"), task("mail")];
    run(&node, tasks, |_, at| failed(&format!("code {at}"))).await;
    node.submit(task("mail")).await;
    let groups = async |state| {
        let filter = FailureFilter { state, ..FailureFilter::default() };
        let found = node.engine.failures(&filter, 50, TIME).await.expect("an answer");
        assert!(found.complete);
        let counts: Vec<_> =
            found.groups.iter().map(|group| (group.count, group.fingerprint)).collect();
        assert_eq!(counts.len(), 1);
        counts[0]
    };
    let (waiting, error) = groups(FailureState::Retrying).await;
    let (ended, same) = groups(FailureState::Failed).await;
    assert_eq!((waiting, ended), (2, 1));
    assert_eq!(error, same);
    let filter = TaskFilter { error: Some(error), ..TaskFilter::default() };
    assert_eq!(count(&node, &filter).await, (3, false), "the new task has no error");
    let scheduled = TaskFilter { statuses: vec![Status::Scheduled], ..filter };
    assert_eq!(count(&node, &scheduled).await, (2, false));
    node.stop().await;
}

#[tokio::test]
async fn counts_are_those_of_the_list() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    run(&node, (0..4).map(|_| task("done")).collect(), |_, _| completed("")).await;
    run(&node, (0..3).map(|_| task("lost")).collect(), |_, _| failed("no")).await;
    node.engine.submit((0..5).map(|_| task("k")).collect()).await.expect("an answer");
    let labelled = defined(task("k"), |it| {
        it.queue = name("other");
        it.labels = vec![(name("team"), "a".into())];
    });
    node.submit(labelled).await;
    assert_eq!(node.lease(2).await.len(), 2);
    let any = TaskFilter::default;
    let of = |statuses: &[Status]| TaskFilter { statuses: statuses.to_vec(), ..any() };
    let leased = [Status::Assigned, Status::Running];
    for (filter, expected) in [
        (any(), 13),
        (of(&[Status::Completed]), 4),
        (of(&[Status::Failed]), 3),
        (of(&[Status::Pending]), 4),
        (of(&[Status::Scheduled]), 0),
        (of(&leased), 2),
        // A worker without a stream runs what it leases.
        (of(&leased[..1]), 0),
        (of(&leased[1..]), 2),
        (of(&[Status::Pending, Status::Failed]), 7),
        (TaskFilter { queue: Some(name("other")), ..any() }, 1),
        (TaskFilter { kind: Some(name("k")), ..any() }, 6),
        (TaskFilter { kind: Some(name("k")), ..of(&leased) }, 2),
        (TaskFilter { labels: vec![(name("team"), "a".into())], ..any() }, 1),
        (TaskFilter { created: TimeRange { from: Some(WallTime(1)), to: None }, ..any() }, 13),
        (TaskFilter { run_at: TimeRange { from: None, to: Some(WallTime(1)) }, ..any() }, 0),
    ] {
        assert_eq!(count(&node, &filter).await, (expected, false), "{filter:?}");
        let listed = node.engine.list(&filter, 1000, None).await.expect("an answer").tasks;
        assert_eq!(listed.len() as u64, expected, "{filter:?}");
    }
    let live = of(&[Status::Scheduled, Status::Pending, Status::Assigned, Status::Running]);
    let counted = node.engine.count(&live, TIME).await.expect("an answer");
    assert_eq!((counted.count, counted.examined), (6, 0), "the counters suffice");
    node.stop().await;
}

#[tokio::test]
async fn a_count_of_very_many_ended_tasks_says_at_least() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let all = TaskFilter::default();
    for _ in 0..21 {
        node.engine.submit((0..1000).map(|_| task("k")).collect()).await.expect("an answer");
        let live = TaskFilter { statuses: vec![Status::Pending], ..all.clone() };
        node.engine.bulk(BulkAction::Cancel, &live, 1000, None).await.expect("an answer");
    }
    let counted = node.engine.count(&all, Duration::from_secs(60)).await.expect("an answer");
    assert_eq!((counted.count, counted.at_least, counted.examined), (20_000, true, 20_000));
    let found = node.engine.failures(&FailureFilter::default(), 9, TIME).await.expect("an answer");
    assert_eq!((found.groups.len(), found.complete), (0, false));
    let none = Duration::ZERO;
    let found = node.engine.failures(&FailureFilter::default(), 9, none).await.expect("an answer");
    assert!(!found.complete && (1..1000).contains(&found.examined), "{found:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_count_of_many_live_tasks_ends_in_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    for _ in 0..21 {
        node.engine.submit((0..1000).map(|_| task("k")).collect()).await.expect("an answer");
    }
    let filter = TaskFilter { kind: Some(name("k")), ..TaskFilter::default() };
    let cut = node.engine.count(&filter, Duration::ZERO).await.expect("an answer");
    assert!(cut.at_least && (1..21_000).contains(&cut.count), "{cut:?}");
    assert_eq!(count(&node, &filter).await, (21_000, false));
    node.stop().await;
}

fn numbers(outcome: &BulkOutcome) -> (u32, u32, u32) {
    (outcome.changed, outcome.skipped, outcome.refused)
}

#[tokio::test]
async fn a_dry_run_counts_what_the_action_then_changes() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    run(&node, vec![task("k"), task("k")], |_, at| match at {
        0 => completed(""),
        _ => failed("no"),
    })
    .await;
    node.engine.submit((0..3).map(|_| task("k")).collect()).await.expect("an answer");
    assert_eq!(node.lease(1).await.len(), 1);
    let all = TaskFilter::default();
    for (action, expected) in [
        (BulkAction::Cancel, (3, 2, 0)),
        // One runs and is being cancelled, and two are cancelled.
        (BulkAction::Cancel, (0, 5, 0)),
        (BulkAction::Retry, (3, 2, 0)),
        (BulkAction::Delete, (1, 4, 0)),
    ] {
        let dry = node.engine.bulk_dry_run(action, &all, 100, None).await.expect("an answer");
        let real = node.engine.bulk(action, &all, 100, None).await.expect("an answer");
        assert_eq!(numbers(&dry), expected, "{action:?}");
        assert_eq!(dry.examined, 5, "{action:?}");
        assert_eq!(numbers(&real), expected, "{action:?}");
    }
    // A dry run has pages, too.
    let dry = node.engine.bulk_dry_run(BulkAction::Cancel, &all, 1, None).await;
    let dry = dry.expect("an answer");
    assert_eq!((numbers(&dry), dry.next.is_some()), ((1, 0, 0), true));
    node.stop().await;
}
