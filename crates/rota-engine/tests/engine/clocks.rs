//! Wall clocks that are wrong: what has been kept for long is not removed by mistake, and no id comes
//! twice.

use std::{sync::atomic::Ordering, time::Duration};

use rota_core::{Millis, Retention};
use rota_engine::{EngineOptions, TaskRef};

use crate::support::{MoodyStore, Node, SetClock, completed, task, time_passes, until};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn one_done(node: &Node) -> TaskRef {
    let id = node.submit(task("k")).await;
    let leased = node.lease(1).await;
    assert!(node.report(&leased[0], completed("")).await);
    id
}

async fn is_kept(node: &Node, id: &TaskRef) -> bool {
    node.engine.task(id).await.expect("an answer").is_some()
}

async fn is_removed_in_the_end(node: &Node, id: &TaskRef) {
    let gone = async {
        let mut period = tokio::time::interval(Duration::from_millis(100));
        while is_kept(node, id).await {
            period.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(40), gone).await.expect("it is removed");
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_removes_nothing_before_it_has_proved_right() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = SetClock::new();
    let options =
        EngineOptions { clock_grace: Duration::from_secs(12), ..EngineOptions::default() };
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_at(clock.host(), store, options);
    let id = one_done(&node).await;
    clock.set_by(DAY * 30, true);
    // Two looks at the log.
    time_passes(Duration::from_secs(10)).await;
    assert!(is_kept(&node, &id).await);
    is_removed_in_the_end(&node, &id).await;
    node.stop().await;
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_within_a_pass_removes_nothing_either() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = SetClock::new();
    let retention = Retention { completed: Millis::from_secs(24 * 3600), other: Millis(0) };
    let options = EngineOptions { retention, ..EngineOptions::default() };
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_at(clock.host(), store.clone(), options);
    until(|| node.engine.health().is_ready()).await;
    // The log names the task for its first end already. Its second is to be kept for a day.
    let id = node.submit(task("k")).await;
    node.engine.cancel(&id).await.expect("it waits");
    node.engine.retry(&id).await.expect("it ended");
    let leased = node.lease(1).await;
    assert!(node.report(&leased[0], completed("")).await);
    let before = store.snapshots.load(Ordering::Relaxed);
    store.hold_snapshots(true);
    clock.set_by(Duration::from_secs(60), true);
    until(|| store.snapshots.load(Ordering::Relaxed) > before).await;
    clock.set_by(DAY * 30, true);
    store.hold_snapshots(false);
    // The pass goes on, and no other begins.
    time_passes(Duration::from_secs(2)).await;
    assert!(is_kept(&node, &id).await);
    node.stop().await;
}

#[tokio::test]
async fn a_leader_that_begins_with_a_clock_far_ahead_removes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = SetClock::new();
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_at(clock.host(), store.clone(), EngineOptions::default());
    let id = one_done(&node).await;
    node.leave().await;
    clock.set_by(DAY * 30, true);
    // Nor does it after another restart, though it has written by that clock.
    for _ in 0..2 {
        let node = Node::start_at(clock.host(), store.clone(), EngineOptions::default());
        one_done(&node).await;
        time_passes(Duration::from_secs(6)).await;
        assert!(is_kept(&node, &id).await);
        node.leave().await;
    }
}

#[tokio::test]
async fn what_cannot_be_removed_yet_is_removed_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = SetClock::new();
    let retention = Retention { completed: Millis(0), other: Millis(0) };
    let options = EngineOptions { retention, ..EngineOptions::default() };
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_at(clock.host(), store.clone(), options);
    until(|| node.engine.health().is_ready()).await;
    let id = one_done(&node).await;
    let before = store.snapshots.load(Ordering::Relaxed);
    store.hold_snapshots(true);
    // A pass begins when the task is old enough, and comes to it when it is not any more.
    clock.set_by(Duration::from_secs(60), true);
    until(|| store.snapshots.load(Ordering::Relaxed) > before).await;
    clock.set_by(Duration::from_secs(90), false);
    store.hold_snapshots(false);
    let passed = store.snapshots.load(Ordering::Relaxed);
    until(|| store.snapshots.load(Ordering::Relaxed) > passed).await;
    assert!(is_kept(&node, &id).await);
    clock.set_by(Duration::from_secs(90), true);
    is_removed_in_the_end(&node, &id).await;
    node.stop().await;
}

#[tokio::test]
async fn no_id_is_given_twice_whatever_was_deleted_and_whatever_the_clock_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = SetClock::new();
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_at(clock.host(), store.clone(), EngineOptions::default());
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(node.submit(task("k")).await);
    }
    for id in &ids {
        node.engine.cancel(id).await.expect("it waits");
        node.engine.delete(id).await.expect("it ended");
    }
    node.leave().await;
    clock.set_by(DAY, false);
    let node = Node::start_at(clock.host(), store, EngineOptions::default());
    let next = node.submit(task("k")).await;
    let (TaskRef::Id(next), Some(TaskRef::Id(last))) = (next, ids.pop()) else { panic!("ids") };
    assert!(next > last, "{next} after {last}");
    node.stop().await;
}
