//! Several nodes on one store: who leads, who stands by, and what a change of leader costs.

use std::{sync::Arc, time::Duration};

use rota_core::{
    AttemptOutcome, Backfill, BackfillOrder, Failure, FailureReason, Millis, Pause, Refusal,
    Status, WallTime,
};
use rota_engine::{Engine, EngineError, EngineOptions, Role, TaskRef};
use rota_store::Epoch;

use crate::{
    schedules::{put_each_second, put_yearly},
    support::{Mood, MoodyStore, Node, completed, defined, name, task, until},
    transfer::checks::backfill,
};

fn start(store: &Arc<MoodyStore>, name: &str) -> Node {
    let options = EngineOptions {
        node: name.to_owned(),
        address: Some(format!("http://{name}:7420")),
        ..EngineOptions::default()
    };
    Node::start_on(store.clone(), options)
}

async fn until_role(engine: &Engine, is: impl Fn(&Role) -> bool) {
    let mut changes = engine.role_changes();
    let wait = async {
        while !is(&engine.role()) {
            changes.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the role changes");
}

/// A node that leads and one that has a copy of the backlog.
async fn two(store: &Arc<MoodyStore>) -> (Node, Node) {
    let first = start(store, "first");
    until_role(&first.engine, |role| *role == Role::Leader).await;
    let second = start(store, "second");
    let follows = |role: &Role| matches!(role, Role::Follower(seat) if seat.member.name == "first");
    until_role(&second.engine, follows).await;
    until_ready(&second).await;
    (first, second)
}

/// Nothing signals that the copy is made.
async fn until_ready(node: &Node) {
    let mut period = tokio::time::interval(Duration::from_millis(10));
    let wait = async {
        while !node.engine.health().is_ready() {
            period.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it becomes ready");
}

#[tokio::test]
async fn a_node_is_ready_only_when_it_has_its_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let first = start(&store, "first");
    until_role(&first.engine, |role| *role == Role::Leader).await;
    store.hold_campaigns(true);
    let second = start(&store, "second");
    let failing = || {
        let checks = second.engine.health().checks;
        let failing = checks.into_iter().filter(|check| check.problem.is_some());
        failing.map(|check| check.name).collect::<Vec<_>>()
    };
    // The copy is made meanwhile.
    until(|| !failing().contains(&"backlog")).await;
    assert_eq!(failing(), ["leader"]);
    store.hold_campaigns(false);
    until_ready(&second).await;
    second.leave().await;
    first.stop().await;
}

#[tokio::test]
async fn a_follower_takes_over_with_all_there_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let (first, second) = two(&store).await;
    let mut tasks = Vec::new();
    for _ in 0..50 {
        tasks.push(first.submit(task("k")).await);
    }
    first.engine.pause_queue(&name("other"), Some(Pause::default())).await.expect("an answer");
    let held = first.lease(10).await;
    first.leave().await;
    until_role(&second.engine, |role| *role == Role::Leader).await;
    until_ready(&second).await;
    assert_eq!(second.engine.info().live_tasks, 50);
    let queues = second.engine.queues().await.expect("an answer");
    assert!(queues.iter().any(|queue| queue.name.as_str() == "other" && queue.paused));
    // What was being worked on goes on under its leases.
    for held in &held {
        assert!(second.report(held, completed("")).await);
    }
    let mut done = held.len();
    while done < 50 {
        for leased in second.lease(50).await {
            assert!(second.report(&leased, completed("")).await);
            done += 1;
        }
    }
    for id in &tasks {
        let view = second.engine.task(id).await.expect("an answer").expect("known");
        assert_eq!((view.status, view.attempt), (Status::Completed, 1));
    }
    second.stop().await;
}

#[tokio::test]
async fn a_follower_takes_over_schedules_as_they_are_and_none_that_were_deleted() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let (first, second) = two(&store).await;
    // The other node has its copy, so it learns of both from their changes alone.
    for schedule in ["kept", "gone"] {
        put_yearly(&first, schedule).await;
    }
    let pause = Some(Pause::default());
    first.engine.pause_schedule(&name("kept"), pause).await.expect("it is there");
    first.engine.delete_schedule(&name("gone"), None).await.expect("it is there");
    first.leave().await;
    until_role(&second.engine, |role| *role == Role::Leader).await;
    until_ready(&second).await;
    let kept = second.engine.schedule(&name("kept")).await.expect("an answer").expect("known");
    assert!(kept.view.state.pause.is_some(), "its state is that of the last change");
    let gone = second.engine.trigger_schedule(&name("gone")).await;
    let unknown = matches!(gone, Err(EngineError::Refused(Refusal::UnknownSchedule)));
    assert!(unknown, "{gone:?}");
    second.stop().await;
}

#[tokio::test]
async fn a_call_that_waits_for_the_end_of_a_task_ends_with_the_leadership() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let (first, second) = two(&store).await;
    let id = first.submit(task("k")).await;
    let (engine, waited_for) = (first.engine.clone(), id.clone());
    let waiting =
        tokio::spawn(async move { engine.wait(&waited_for, Duration::from_secs(3600)).await });
    // What is asked later is answered later, so the wait has begun.
    first.engine.task(&id).await.expect("an answer").expect("known");
    first.engine.transfer(None).await.expect("handed over");
    let ended = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    let ended = ended.expect("it waits for nothing more").expect("no panic");
    let lost = matches!(ended, Err(EngineError::NotLeader | EngineError::LeadershipLost));
    assert!(lost, "{ended:?}");
    second.leave().await;
    first.stop().await;
}

#[tokio::test]
async fn leadership_is_handed_over_and_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let (first, second) = two(&store).await;
    let id = first.submit(task("k")).await;
    assert_eq!(first.engine.transfer(None).await.expect("handed over"), "second");
    until_role(&second.engine, |role| *role == Role::Leader).await;
    until_role(&first.engine, |role| matches!(role, Role::Follower(_))).await;
    let refused = first.engine.task(&id).await;
    assert!(matches!(refused, Err(EngineError::LeadershipLost)), "{refused:?}");
    let refused = first.engine.submit(vec![task("k")]).await;
    assert!(matches!(refused, Err(EngineError::NotLeader)), "{refused:?}");
    let view = second.engine.task(&id).await.expect("an answer").expect("known");
    assert_eq!(view.status, Status::Pending);
    until_ready(&first).await;
    assert_eq!(second.engine.transfer(Some("first")).await.expect("handed over"), "first");
    until_role(&first.engine, |role| *role == Role::Leader).await;
    assert!(first.engine.task(&id).await.expect("an answer").is_some());
    second.leave().await;
    first.stop().await;
}

#[tokio::test]
async fn leadership_is_handed_over_while_there_is_always_more_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let (first, second) = two(&store).await;
    put_each_second(&first).await;
    // More than can be created in this test.
    let now = first.engine.schedule(&name("s")).await.expect("an answer").expect("known");
    let to = now.record.created_at;
    let from = WallTime(to.0 - 10 * 86_400_000);
    let backfill = Backfill { order: BackfillOrder::Parallel, ..backfill(from.0, to.0) };
    let begun = first.engine.backfill_schedule(&name("s"), Some(Box::new(backfill))).await;
    begun.expect("it begins");
    until(|| first.engine.info().live_tasks > 50).await;
    assert_eq!(first.engine.transfer(None).await.expect("handed over"), "second");
    until_role(&second.engine, |role| *role == Role::Leader).await;
    assert!(second.engine.info().live_tasks < 500_000, "it was still under way");
    second.leave().await;
    first.stop().await;
}

#[tokio::test]
async fn a_successor_is_ready_before_the_leader_lets_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let (first, second) = two(&store).await;
    let mut tasks = Vec::new();
    for _ in 0..20 {
        tasks.push(first.submit(task("k")).await);
    }
    let held = first.lease(10).await;
    store.hold_announcements();
    let epoch = Epoch(first.engine.info().epoch);
    let engine = first.engine.clone();
    let transfer = tokio::spawn(async move { engine.transfer(None).await });
    let announced = || store.announced.lock().expect("nobody panics with it").clone();
    until(|| !announced().is_empty()).await;
    assert_eq!(announced(), [("second".to_owned(), epoch)]);
    // The machine is made, and the first node still leads: what it does now is taken up as well.
    for held in &held[..5] {
        assert!(first.report(held, completed("")).await);
    }
    let late = first.submit(task("k")).await;
    assert_eq!(first.engine.role(), Role::Leader);
    store.release_announcements();
    assert_eq!(transfer.await.expect("no panic").expect("handed over"), "second");
    until_role(&second.engine, |role| *role == Role::Leader).await;
    until_ready(&second).await;
    assert_eq!(second.engine.info().live_tasks, 16);
    for held in &held[..5] {
        let id = TaskRef::Id(held.spec.id);
        let view = second.engine.task(&id).await.expect("an answer").expect("known");
        assert_eq!(view.status, Status::Completed);
    }
    for held in &held[5..] {
        assert!(second.report(held, completed("")).await);
    }
    let view = second.engine.task(&late).await.expect("an answer").expect("known");
    assert_eq!(view.status, Status::Pending);
    assert_eq!(second.lease(20).await.len(), 11);
    first.leave().await;
    second.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_leads_until_another_is_ready() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let (first, second) = two(&store).await;
    store.hold_announcements();
    let (engine, epoch) = (first.engine.clone(), Epoch(first.engine.info().epoch));
    let leaving = tokio::spawn(first.leave());
    let announced = || store.announced.lock().expect("nobody panics with it").clone();
    until(|| !announced().is_empty()).await;
    assert_eq!(announced(), [("second".to_owned(), epoch)]);
    assert_eq!(engine.role(), Role::Leader);
    store.release_announcements();
    until_role(&second.engine, |role| *role == Role::Leader).await;
    leaving.await.expect("no panic");
    drop(engine);
    second.stop().await;
}

#[tokio::test]
async fn leadership_is_handed_to_a_node_that_comes_back_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let first = start(&store, "first");
    until_role(&first.engine, |role| *role == Role::Leader).await;
    // A slow machine may need more than the time for which the leader waits.
    for _ in 0..10 {
        // It is polled first, so the other node is not there yet.
        let come_back = async { start(&store, "second") };
        let (handed, second) =
            tokio::join!(biased; first.engine.transfer(Some("second")), come_back);
        if matches!(&handed, Ok(to) if to == "second") {
            until_role(&second.engine, |role| *role == Role::Leader).await;
            first.leave().await;
            return second.stop().await;
        }
        assert!(matches!(handed, Err(EngineError::NoSuccessor { .. })), "{handed:?}");
        second.leave().await;
    }
    panic!("the leader does not wait");
}

#[tokio::test]
async fn leadership_is_handed_to_nobody_who_is_not_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    node.submit(task("k")).await;
    for to in [None, Some("nobody"), Some("rota")] {
        let refused = node.engine.transfer(to).await;
        assert!(matches!(refused, Err(EngineError::NoSuccessor { .. })), "{refused:?}");
    }
    assert_eq!(node.engine.role(), Role::Leader);
    node.submit(task("k")).await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_too_much_for_one_batch_lands_in_several() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    node.store.mutations_max.store(7, std::sync::atomic::Ordering::Relaxed);
    let tasks = (0..100).map(|_| task("k")).collect();
    let submitted = node.engine.submit(tasks).await.expect("an answer");
    assert!(submitted.iter().all(Result::is_ok));
    let mut done = 0;
    while done < 60 {
        for leased in node.lease(60).await {
            assert!(node.report(&leased, completed("\"r\"")).await);
            done += 1;
        }
    }
    node.stop().await;
    let node = Node::start(&data);
    until_ready(&node).await;
    assert_eq!(node.engine.info().live_tasks, 100 - done);
    node.stop().await;
}

#[tokio::test]
async fn a_task_of_many_attempts_is_deleted_in_several_batches() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let retried = defined(task("k"), |it| {
        it.policy.retry.max_attempts = 20;
        it.policy.retry.initial = Millis(1);
        it.policy.retry.max = Millis(1);
    });
    let id = node.submit(retried).await;
    for _ in 0..20 {
        let leased = node.lease(1).await;
        let failure = Failure::new(FailureReason::Error, "no");
        let failed = AttemptOutcome::Failed { failure, retry_at: None };
        assert!(node.report_silently(&leased[0], failed).await);
    }
    // The store fails the test if it gets a larger batch.
    node.store.mutations_max.store(12, std::sync::atomic::Ordering::Relaxed);
    node.engine.delete(&id).await.expect("it ended");
    assert_eq!(node.engine.task(&id).await.expect("an answer"), None);
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_has_the_leaders_name_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let first = start(&store, "first");
    until_role(&first.engine, |role| *role == Role::Leader).await;
    let options = EngineOptions {
        node: "first".to_owned(),
        address: Some("http://elsewhere:7420".to_owned()),
        ..EngineOptions::default()
    };
    let second = Node::start_on(store.clone(), options);
    let checks = second.engine.health().checks;
    let problem = checks.into_iter().find(|check| check.name == "leader").unwrap().problem.unwrap();
    assert!(
        problem.contains(
            "another node with the same name, `first`, is the leader at http://first:7420"
        )
    );
    second.leave().await;
    first.stop().await;
}

#[tokio::test]
async fn a_node_without_its_store_is_not_ready_though_it_has_nothing_to_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let (first, second) = two(&store).await;
    store.set(Mood::Away);
    let mut period = tokio::time::interval(Duration::from_millis(10));
    // The leader knows that it leads; whether it does is more than the other can tell.
    for (node, expected) in [(&first, &["store"][..]), (&second, &["store", "leader"])] {
        let fails = async {
            while node.engine.health().is_ready() {
                period.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), fails).await.expect("it becomes unready");
        let checks = node.engine.health().checks;
        let failing = checks.iter().filter(|check| check.problem.is_some());
        assert_eq!(failing.map(|check| check.name).collect::<Vec<_>>(), expected);
    }
    let checks = second.engine.health().checks;
    let problem = checks.into_iter().find(|check| check.name == "leader").unwrap().problem;
    assert_eq!(problem.unwrap(), "the leader is unknown, because the store does not answer");
    assert!(first.engine.metrics().standing().known);
    assert!(!second.engine.metrics().standing().known);
    assert_eq!(second.engine.cluster().await.leader, None);
    store.set(Mood::Well);
    until_ready(&first).await;
    until_ready(&second).await;
    second.leave().await;
    first.stop().await;
}
