//! Searches: what text is found in, by which worker and priority, and how far one call looks.

use std::time::Duration;

use bytes::Bytes;
use rota_core::{AttemptOutcome, Failure, FailureReason, Priority, Status, TaskId};
use rota_engine::{BulkAction, Cursor, NewTask, Search, TaskFilter, TaskPage, TaskRef};

use crate::support::{Node, completed, defined, name, task};

fn searched(text: &str) -> TaskFilter {
    TaskFilter { search: Some(Search::new(text)), ..TaskFilter::default() }
}

fn failed(message: &str, retry: bool) -> AttemptOutcome {
    let reason = if retry { FailureReason::Error } else { FailureReason::Permanent };
    AttemptOutcome::Failed { failure: Failure::new(reason, message), retry_at: None }
}

fn with_payload(kind: &str, payload: impl Into<Bytes>) -> NewTask {
    defined(task(kind), |it| it.payload = payload.into())
}

fn kinds(page: &TaskPage) -> Vec<&str> {
    page.tasks.iter().map(|view| view.spec.definition.kind.as_str()).collect()
}

/// All pages: the ids in order, the sum of the examined tasks, and the number of pages.
async fn read(node: &Node, filter: &TaskFilter, size: usize) -> (Vec<TaskId>, usize, usize) {
    let (mut ids, mut examined, mut pages, mut after) = (Vec::new(), 0, 0, None);
    loop {
        let page = node.engine.list(filter, size, after).await.expect("an answer");
        assert!(page.tasks.len() <= size);
        assert!(page.tasks.iter().all(|view| view.spec.definition.payload.is_empty()));
        ids.extend(page.tasks.iter().map(|view| view.spec.id));
        (examined, pages, after) = (examined + page.examined, pages + 1, page.next);
        if after.is_none() {
            return (ids, examined, pages);
        }
    }
}

/// Cancels everything, in as few calls as there can be.
async fn cancel_all(node: &Node) {
    let (all, mut after) = (TaskFilter::default(), None);
    loop {
        let cancelled = node.engine.bulk(BulkAction::Cancel, &all, 1000, after).await;
        after = cancelled.expect("an answer").next;
        if after.is_none() {
            return;
        }
    }
}

#[tokio::test]
async fn text_is_found_in_definitions_and_errors_of_live_and_ended_tasks() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    // In order: leased and ended one by one.
    for (new, outcome) in [
        (with_payload("payload", "{\"to\":\"Ada@Example.org\"}"), completed("")),
        (task("error"), failed("No route to ADA@example.org", false)),
    ] {
        node.submit(new).await;
        let leased = node.lease(1).await;
        assert!(node.report(&leased[0], outcome).await);
    }
    let retried = defined(task("retried"), |it| it.policy.retry.max_attempts = 9);
    node.submit(retried).await;
    let leased = node.lease(1).await;
    assert!(node.report(&leased[0], failed("mail to ada@example.org bounced", true)).await);
    let described =
        defined(task("described"), |it| it.description = Some("for ada@example.org".into()));
    let labelled =
        defined(task("labelled"), |it| it.labels = vec![(name("to"), "ADA@example.org".into())]);
    let others = vec![described, labelled, task("other")];
    node.engine.submit(others).await.expect("an answer");

    let page = node.engine.list(&searched("ada@EXAMPLE.org"), 50, None).await.expect("an answer");
    assert_eq!(kinds(&page), ["labelled", "described", "retried", "error", "payload"]);
    assert_eq!((page.examined, page.next), (6, None));
    let failed = TaskFilter { statuses: vec![Status::Failed], ..searched("ada@example") };
    let page = node.engine.list(&failed, 50, None).await.expect("an answer");
    assert_eq!((kinds(&page), page.examined), (vec!["error"], 1));
    let waiting = TaskFilter {
        statuses: vec![Status::Scheduled, Status::Pending],
        ..searched("ada@example.org bounced")
    };
    let page = node.engine.list(&waiting, 50, None).await.expect("an answer");
    assert_eq!((kinds(&page), page.examined), (vec!["retried"], 4));
    let page = node.engine.list(&searched("ada@example.com"), 50, None).await.expect("an answer");
    assert_eq!((kinds(&page), page.examined), (vec![], 6));
    node.stop().await;
}

#[tokio::test]
async fn a_task_is_found_at_once_by_its_whole_id() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mut mine = task("old");
    mine.client_keys.id = Some(name("Order-7"));
    let TaskRef::Id(old) = node.submit(mine).await else { panic!("an id") };
    let mention = node.submit(with_payload("mention", format!("{{\"of\":\"{old}\"}}"))).await;
    for _ in 0..21 {
        node.engine.submit((0..1000).map(|_| task("k")).collect()).await.expect("an answer");
    }
    cancel_all(&node).await;
    // Both ids, and a part of one, which takes a whole walk.
    for text in ["Order-7".to_owned(), old.to_string()] {
        let page = node.engine.list(&searched(&text), 50, None).await.expect("an answer");
        assert_eq!((kinds(&page), page.examined), (vec!["old"], 1), "{text}");
        assert_eq!(page.next.and_then(|next| next.reached()), None);
        assert!(page.tasks[0].spec.definition.payload.is_empty());
        let (ids, _, pages) = read(&node, &searched(&text), 50).await;
        assert!(pages > 2, "{pages}");
        let expected: Vec<_> = match &mention {
            TaskRef::Id(mention) if text.starts_with("t_") => vec![old, *mention],
            _ => vec![old],
        };
        assert_eq!(ids, expected, "the named one first, and none twice");
    }
    assert_eq!(read(&node, &searched("order-"), 50).await.0, [old]);
    // The rest of the filter must match as well.
    let pending = TaskFilter { statuses: vec![Status::Pending], ..searched("Order-7") };
    assert_eq!(read(&node, &pending, 50).await.0, []);
    node.stop().await;
}

#[tokio::test]
async fn failed_tasks_are_searched_without_the_completed_ones() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    node.submit(with_payload("k", "\"needle\"")).await;
    let leased = node.lease(1).await;
    assert!(node.report(&leased[0], failed("broken", false)).await);
    node.engine.submit((0..200).map(|_| task("k")).collect()).await.expect("an answer");
    for leased in node.lease(200).await {
        assert!(node.report_silently(&leased, completed("")).await);
    }
    let filter = TaskFilter { statuses: vec![Status::Failed], ..searched("needle") };
    let page = node.engine.list(&filter, 50, None).await.expect("an answer");
    assert_eq!((page.tasks.len(), page.examined, page.next), (1, 1, None));
    node.stop().await;
}

#[tokio::test]
async fn pages_of_a_search_say_how_far_they_looked_and_add_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    // Live and ended ones take turns, and every seventh matches.
    let mut expected = Vec::new();
    for number in 0..2100 {
        let payload = if number % 7 == 0 { "\"a Needle here\"" } else { "\"hay\"" };
        let kind = if number % 2 == 0 { "live" } else { "ended" };
        let TaskRef::Id(id) = node.submit(with_payload(kind, payload)).await else { panic!("id") };
        expected.extend((number % 7 == 0).then_some(id));
    }
    let ended = TaskFilter { kind: Some(name("ended")), ..TaskFilter::default() };
    for _ in 0..2 {
        node.engine.bulk(BulkAction::Cancel, &ended, 1000, None).await.expect("an answer");
    }
    expected.reverse();
    for size in [1, 7, 50, 1000] {
        let (ids, examined, _) = read(&node, &searched("needle"), size).await;
        assert_eq!(ids, expected, "{size}");
        assert_eq!(examined, 2100, "{size}");
    }
    let (ids, examined, pages) = read(&node, &searched("nothing like it"), 50).await;
    assert_eq!((ids.len(), examined, pages), (0, 2100, 1));
    // Without definitions to decide, too.
    let (ids, examined, _) = read(&node, &ended, 64).await;
    assert_eq!((ids.len(), examined), (1050, 2100));
    node.stop().await;
}

#[tokio::test]
async fn a_call_reads_a_bounded_number_of_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let payload = Bytes::from(format!("\"{}\"", "x".repeat(1 << 20)));
    for _ in 0..25 {
        let tasks = (0..8).map(|_| with_payload("k", payload.clone())).collect();
        node.engine.submit(tasks).await.expect("an answer");
    }
    let page = node.engine.list(&searched("needle"), 50, None).await.expect("an answer");
    // 64 MiB are over after 64 tasks or less, and with the last round there are 127 at most.
    assert!(page.next.is_some());
    assert!((1..128).contains(&page.examined), "{}", page.examined);
    let (ids, examined, pages) = read(&node, &searched("needle"), 50).await;
    assert_eq!((ids.len(), examined), (0, 200));
    assert!(pages <= 5, "{pages}");
    node.stop().await;
}

#[tokio::test]
async fn a_call_ends_in_time_and_the_next_one_continues() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    for _ in 0..3 {
        node.engine.submit((0..1000).map(|_| task("k")).collect()).await.expect("an answer");
    }
    cancel_all(&node).await;
    let filter = searched("needle");
    let (mut examined, mut pages, mut after) = (0, 0, None::<Cursor>);
    loop {
        let page = node.engine.list_within(Duration::ZERO, &filter, 50, after).await;
        let page = page.expect("an answer");
        // Each call goes on, although its time is over before it begins.
        assert!((1..=64).contains(&page.examined), "{}", page.examined);
        (examined, pages) = (examined + page.examined, pages + 1);
        match page.next {
            Some(next) => {
                assert!(next.reached().is_some());
                assert!(after.is_none_or(|after| next.before < after.before));
                after = Some(next);
            }
            None => break,
        }
    }
    assert_eq!(examined, 3000);
    assert!(pages >= 3000 / 64, "{pages}");
    node.stop().await;
}

#[tokio::test]
async fn many_are_retried_and_deleted_by_a_search() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    for number in 0..300 {
        let payload = if number % 3 == 0 { "\"needle\"" } else { "\"hay\"" };
        node.submit(with_payload("k", payload)).await;
    }
    let filter = searched("NEEDLE");
    let bulk = async |action| {
        let (mut changed, mut examined, mut calls, mut after) = (0, 0, 0, None);
        loop {
            let outcome = node.engine.bulk(action, &filter, 30, after).await.expect("an answer");
            (changed, examined) = (changed + outcome.changed, examined + outcome.examined);
            (calls, after) = (calls + 1, outcome.next);
            if after.is_none() {
                return (changed, examined, calls >= 4);
            }
        }
    };
    assert_eq!(bulk(BulkAction::Cancel).await, (100, 300, true));
    assert_eq!(bulk(BulkAction::Retry).await, (100, 300, true));
    assert_eq!(bulk(BulkAction::Cancel).await, (100, 300, true));
    assert_eq!(bulk(BulkAction::Delete).await, (100, 300, true));
    assert_eq!(bulk(BulkAction::Delete).await.0, 0);
    assert_eq!(read(&node, &TaskFilter::default(), 1000).await.0.len(), 200);
    node.stop().await;
}

#[tokio::test]
async fn tasks_are_selected_by_worker_and_priority() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let retried = defined(task("retried"), |it| it.policy.retry.max_attempts = 9);
    for (new, outcome) in [
        (task("done"), completed("")),
        (task("failed"), failed("broken", false)),
        (retried, failed("broken", true)),
    ] {
        node.submit(new).await;
        let leased = node.lease(1).await;
        assert!(node.report_silently(&leased[0], outcome).await);
    }
    node.submit(task("leased")).await;
    assert_eq!(node.lease(1).await.len(), 1);
    let urgent = NewTask { priority: Priority::MAX, ..task("urgent") };
    node.engine.submit(vec![urgent, task("waiting")]).await.expect("an answer");
    let found = async |filter: TaskFilter| {
        let page = node.engine.list(&filter, 50, None).await.expect("an answer");
        kinds(&page).into_iter().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let any = TaskFilter::default;
    let of = |worker: &str| TaskFilter { worker: Some(name(worker)), ..any() };
    assert_eq!(found(of("w")).await, ["leased", "retried", "failed", "done"]);
    assert!(found(of("v")).await.is_empty());
    let statuses = vec![Status::Assigned, Status::Running];
    assert_eq!(found(TaskFilter { statuses, ..of("w") }).await, ["leased"]);
    let statuses = vec![Status::Failed];
    assert_eq!(found(TaskFilter { statuses, ..of("w") }).await, ["failed"]);
    let low = Priority::new(0).expect("from 0 to 9");
    let prioritised = |priorities| TaskFilter { priorities, ..any() };
    assert_eq!(found(prioritised(vec![Priority::MAX])).await, ["urgent"]);
    assert_eq!(found(prioritised(vec![low, Priority::MAX])).await, ["urgent"]);
    assert!(found(prioritised(vec![low])).await.is_empty());
    assert_eq!(found(prioritised(vec![Priority::default()])).await.len(), 5);
    node.stop().await;
}
