//! Lists: filters, pages, and what is done to many at once.

use rota_core::Status;
use rota_engine::{BulkAction, TaskFilter};

use crate::support::{Node, completed, defined, name, task};

#[tokio::test]
async fn pages_are_stable_while_tasks_come_and_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let tasks: Vec<_> = (0..25).map(|_| task("k")).collect();
    node.engine.submit(tasks).await.expect("an answer");
    for leased in node.lease(10).await {
        assert!(node.report(&leased, completed("")).await);
    }
    let all = TaskFilter::default();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = node.engine.list(&all, 7, after).await.expect("an answer");
        seen.extend(page.tasks.iter().map(|view| view.spec.id));
        node.submit(task("new")).await;
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first, none twice");
    node.stop().await;
}

#[tokio::test]
async fn filters_select_by_state_queue_kind_and_label() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let labelled = defined(task("k"), |it| it.labels = vec![(name("team"), "a".into())]);
    let other = defined(task("k2"), |it| it.queue = name("other"));
    node.engine.submit(vec![task("k"), labelled, other]).await.expect("an answer");
    let first = node.lease(1).await;
    assert!(node.report(&first[0], completed("")).await);
    let count = async |filter: TaskFilter| {
        node.engine.list(&filter, 50, None).await.expect("an answer").tasks.len()
    };
    let none = TaskFilter::default;
    assert_eq!(count(none()).await, 3);
    assert_eq!(count(TaskFilter { statuses: vec![Status::Completed], ..none() }).await, 1);
    assert_eq!(count(TaskFilter { statuses: vec![Status::Pending], ..none() }).await, 2);
    assert_eq!(count(TaskFilter { statuses: vec![Status::Failed], ..none() }).await, 0);
    assert_eq!(count(TaskFilter { queue: Some(name("other")), ..none() }).await, 1);
    assert_eq!(count(TaskFilter { kind: Some(name("k")), ..none() }).await, 2);
    let team = vec![(name("team"), "a".into())];
    assert_eq!(count(TaskFilter { labels: team, ..none() }).await, 1);
    node.stop().await;
}

/// More ended tasks than one call looks at lie between two that the filter selects.
#[tokio::test]
async fn a_full_page_is_not_the_end_where_more_may_follow() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let rare = || defined(task("k"), |it| it.queue = name("rare"));
    node.submit(rare()).await;
    for _ in 0..21 {
        let others = (0..1000).map(|_| task("k")).collect();
        node.engine.submit(others).await.expect("an answer");
    }
    node.submit(rare()).await;
    let everything = TaskFilter::default();
    let mut after = None;
    loop {
        let cancelled = node.engine.bulk(BulkAction::Cancel, &everything, 1000, after).await;
        after = cancelled.expect("an answer").next;
        if after.is_none() {
            break;
        }
    }
    let queue = Some(name("rare"));
    let wanted = TaskFilter { queue, statuses: vec![Status::Cancelled], ..everything };
    let mut found = 0;
    loop {
        let page = node.engine.list(&wanted, 1, after).await.expect("an answer");
        found += page.tasks.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, 2);
    node.stop().await;
}

#[tokio::test]
async fn many_are_cancelled_retried_and_deleted_by_a_filter() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    node.engine.submit((0..5).map(|_| task("k")).collect()).await.expect("an answer");
    let all = TaskFilter { queue: Some(name("q")), ..TaskFilter::default() };
    let bulk = async |action| {
        let outcome = node.engine.bulk(action, &all, 100, None).await.expect("an answer");
        (outcome.changed, outcome.skipped)
    };
    assert_eq!(bulk(BulkAction::Delete).await, (0, 5));
    assert_eq!(bulk(BulkAction::Cancel).await, (5, 0));
    assert_eq!(bulk(BulkAction::Retry).await, (5, 0));
    assert_eq!(bulk(BulkAction::Cancel).await, (5, 0));
    assert_eq!(bulk(BulkAction::Delete).await, (5, 0));
    assert_eq!(node.engine.list(&all, 10, None).await.expect("an answer").tasks.len(), 0);
    node.stop().await;
}
