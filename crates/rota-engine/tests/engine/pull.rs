//! Workers without a stream: calls that are given up, that overtake one another, and what they are
//! told.

use std::time::Duration;

use rota_core::{Credit, HeldLease, Outcome, Report, SessionId, SessionView, Status, StopReason};
use rota_engine::{Dispatched, Instructions, LeaseRequest, LeasedTasks, TaskRef, WorkerRef};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use crate::support::{Mood, Node, name, task};

/// Nothing here takes so long, unless it waits for what does not come.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    node: Node,
    _directory: TempDir,
}

fn asks(session: Option<u64>, max: u32, wait: u64) -> LeaseRequest {
    LeaseRequest {
        session: session.map(SessionId),
        worker: name("w"),
        queues: Vec::new(),
        kinds: vec![name("k")],
        max,
        wait: Duration::from_secs(wait),
        ttl: Duration::from_secs(60),
        held: None,
    }
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { node: Node::start(&directory.path().join("data")), _directory: directory }
    }

    async fn lease(&self, request: LeaseRequest) -> LeasedTasks {
        let leased = timeout(PATIENCE, self.node.engine.lease(request)).await;
        leased.expect("in time").expect("the engine answers")
    }

    /// A call that waits longer than the test does. Returns when it has asked.
    async fn waits(&self, request: LeaseRequest) -> JoinHandle<LeasedTasks> {
        let (engine, max) = (self.node.engine.clone(), request.max);
        let call = tokio::spawn(async move { engine.lease(request).await.expect("an answer") });
        self.until(|workers| workers.iter().any(|view| view.credit == Credit::Take(max))).await;
        call
    }

    async fn until(&self, is: impl Fn(&[SessionView]) -> bool) {
        let look = async {
            while !is(&self.node.engine.workers().await.expect("an answer")) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, look).await.expect("in time");
    }

    async fn heartbeat(&self, session: u64) -> Instructions {
        self.node.engine.pull_heartbeat(SessionId(session)).await.expect("an answer")
    }

    async fn status(&self, task: &TaskRef) -> Status {
        self.node.engine.task(task).await.expect("an answer").expect("known").status
    }

    async fn report(&self, task: &Dispatched, report: Report) {
        let lease = HeldLease { task: task.spec.id, token: task.token };
        let results = self.node.engine.report(vec![(lease, report)]).await.expect("an answer");
        assert_eq!(results, [Ok(())]);
    }
}

async fn answered(call: JoinHandle<LeasedTasks>) -> LeasedTasks {
    timeout(PATIENCE, call).await.expect("in time").expect("no panic")
}

fn cancelled() -> Report {
    let output_tail = bytes::Bytes::new();
    Report::Ended { started_at: None, output_tail, outcome: Outcome::Cancelled }
}

#[tokio::test]
async fn a_call_that_is_given_up_takes_no_tasks() {
    let world = World::new();
    // The first call of a worker: it never learned of its session, which ends.
    let call = world.waits(asks(None, 5, 60)).await;
    call.abort();
    world.until(<[_]>::is_empty).await;
    // A later one: the session stays, and asks for nothing.
    let call = world.waits(asks(Some(7), 5, 60)).await;
    call.abort();
    world.until(|workers| workers[0].credit == Credit::Take(0)).await;
    world.node.submit(task("k")).await;
    let leased = world.lease(asks(Some(8), 1, 60)).await;
    assert_eq!((leased.tasks.len(), leased.tasks[0].attempt), (1, 1));
    world.node.stop().await;
}

#[tokio::test]
async fn what_was_given_to_a_call_that_is_given_up_goes_to_others() {
    let world = World::new();
    for session in [None, Some(7)] {
        let call = world.waits(asks(session, 1, 60)).await;
        // The assignment is on its way when the call goes.
        world.node.store.set(Mood::Holding);
        let entered = world.node.store.entered.load(std::sync::atomic::Ordering::Relaxed);
        let engine = world.node.engine.clone();
        let submitted = tokio::spawn(async move { engine.submit(vec![task("k")]).await });
        while world.node.store.entered.load(std::sync::atomic::Ordering::Relaxed) == entered {
            tokio::task::yield_now().await;
        }
        call.abort();
        assert!(call.await.is_err(), "it was given up");
        world.node.store.set(Mood::Well);
        submitted.await.expect("no panic").expect("accepted");
        let leased = world.lease(asks(Some(8), 1, 60)).await;
        assert_eq!((leased.tasks.len(), leased.tasks[0].attempt), (1, 1), "no attempt was spent");
        let task = TaskRef::Id(leased.tasks[0].spec.id);
        let view = world.node.engine.task(&task).await.expect("an answer").expect("known");
        assert_eq!((view.lost, view.status), (0, Status::Running));
        world.node.engine.close_session(SessionId(8)).await.expect("it was open");
        let back = world.lease(asks(Some(9), 1, 60)).await;
        world
            .report(
                &back.tasks[0],
                Report::Ended {
                    started_at: None,
                    output_tail: bytes::Bytes::new(),
                    outcome: Outcome::Completed { result: bytes::Bytes::new() },
                },
            )
            .await;
    }
    world.node.stop().await;
}

#[tokio::test]
async fn a_newer_call_of_a_session_takes_over() {
    let world = World::new();
    let older = world.waits(asks(Some(7), 5, 60)).await;
    let newer = world.lease(asks(Some(7), 1, 0)).await;
    assert!(newer.tasks.is_empty() && answered(older).await.tasks.is_empty());
    // Also one that serves something else now.
    let older = world.waits(asks(Some(7), 5, 60)).await;
    let other = LeaseRequest { kinds: vec![name("other")], ..asks(Some(7), 2, 60) };
    let newer = world.waits(other).await;
    assert!(answered(older).await.tasks.is_empty());
    world.node.submit(task("k")).await;
    world.node.submit(task("other")).await;
    let leased = answered(newer).await.tasks;
    assert_eq!((leased.len(), &*leased[0].spec.kind), (1, "other"));
    // And the end of the session.
    let older =
        world.waits(LeaseRequest { kinds: vec![name("none")], ..asks(Some(7), 2, 60) }).await;
    world.node.engine.close_session(SessionId(7)).await.expect("it was open");
    assert!(answered(older).await.tasks.is_empty());
    world.until(<[_]>::is_empty).await;
    world.node.stop().await;
}

#[tokio::test]
async fn another_workers_session_is_left_alone() {
    let world = World::new();
    let mine = world.waits(asks(Some(7), 5, 60)).await;
    let other = LeaseRequest { worker: name("other"), ..asks(Some(7), 1, 60) };
    assert!(world.node.engine.lease(other).await.is_err());
    world.node.submit(task("k")).await;
    assert_eq!(answered(mine).await.tasks.len(), 1);
    world.node.stop().await;
}

#[tokio::test]
async fn what_is_handed_over_runs_since_then() {
    let world = World::new();
    let task = world.node.submit(task("k")).await;
    let leased = world.lease(asks(Some(7), 1, 60)).await;
    let view = world.node.engine.task(&task).await.expect("an answer").expect("known");
    assert_eq!(view.status, Status::Running);
    let started = view.started_at.expect("when");
    world
        .report(
            &leased.tasks[0],
            Report::Ended {
                started_at: None,
                output_tail: bytes::Bytes::new(),
                outcome: Outcome::Completed { result: bytes::Bytes::new() },
            },
        )
        .await;
    let attempts = world.node.engine.attempts(&task).await.expect("an answer").expect("known");
    assert_eq!(attempts[0].started_at, Some(started));
    world.node.stop().await;
}

#[tokio::test]
async fn a_worker_is_told_what_to_stop_until_it_did() {
    let world = World::new();
    let named = rota_core::Binds { id: Some(name("mine")), key: None };
    let id = world.node.submit(rota_engine::NewTask { binds: named, ..task("k") }).await;
    let leased = world.lease(asks(Some(7), 1, 60)).await.tasks.remove(0);
    assert_eq!(world.heartbeat(7).await, Instructions::default());
    let call = world.waits(asks(Some(7), 1, 60)).await;
    world.node.engine.cancel(&id).await.expect("cancelled");
    let told = answered(call).await;
    let [order] = &told.instructions.stop[..] else { panic!("{told:?}") };
    assert_eq!((order.shown_id.as_str(), order.reason), ("mine", StopReason::Cancelled));
    assert_eq!(order.lease, HeldLease { task: leased.spec.id, token: leased.token });
    // Each answer says it, and a call that waits does not come back for it again.
    assert_eq!(world.heartbeat(7).await, told.instructions);
    assert_eq!(world.lease(asks(Some(7), 1, 0)).await.instructions, told.instructions);
    let call = world.waits(asks(Some(7), 1, 60)).await;
    world.report(&leased, cancelled()).await;
    assert_eq!(world.status(&id).await, Status::Cancelled);
    assert_eq!(world.heartbeat(7).await, Instructions::default());
    world.node.engine.drain(&WorkerRef::Session(SessionId(7))).await.expect("an answer");
    assert!(answered(call).await.instructions.draining);
    assert!(world.heartbeat(7).await.draining);
    world.node.stop().await;
}

#[tokio::test]
async fn what_a_lost_answer_told_of_is_told_again_to_who_says_what_it_has() {
    let world = World::new();
    for _ in 0..3 {
        world.node.submit(task("k")).await;
    }
    let first = world.lease(asks(Some(7), 2, 10)).await.tasks;
    assert_eq!(first.len(), 2);
    let named = |task: &Dispatched| (task.spec.id.to_string(), task.token);
    let lease = |task: &Dispatched| (task.spec.id, task.token, task.attempt);
    // It has the one and never heard of the other.
    let knows = LeaseRequest { held: Some(vec![named(&first[0])]), ..asks(Some(7), 1, 0) };
    let again = world.lease(knows.clone()).await.tasks;
    assert_eq!(again.iter().map(lease).collect::<Vec<_>>(), [lease(&first[1])]);
    // Who names all, or says nothing of it, gets what is new.
    let all = LeaseRequest { held: Some(first.iter().map(named).collect()), ..knows.clone() };
    let new = world.lease(all).await.tasks;
    assert_eq!(new.len(), 1);
    assert!(!first.iter().map(lease).any(|known| known == lease(&new[0])));
    assert!(world.lease(asks(Some(7), 1, 0)).await.tasks.is_empty());
    // Nor is it told of what it is to stop.
    world.node.engine.cancel(&TaskRef::Id(first[1].spec.id)).await.expect("cancelled");
    let left = world.lease(LeaseRequest { max: 3, ..knows }).await;
    assert_eq!(left.tasks.iter().map(lease).collect::<Vec<_>>(), [lease(&new[0])]);
    assert_eq!(left.instructions.stop.len(), 1);
    world.node.stop().await;
}
