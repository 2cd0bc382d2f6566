//! Workers without a stream: calls that are given up, that overtake one another, and what they are
//! told.

use std::{sync::atomic::Ordering, time::Duration};

use rota_core::{
    AttemptOutcome, Credit, LeaseId, Report, SessionId, SessionView, Status, StopReason,
};
use rota_engine::{
    Dispatched, EngineOptions, Instructions, LeaseRequest, LeaseResponse, StopOrder, TaskRef,
    WorkerRef,
};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use crate::support::{Mood, Node, SpecFault, name, task};

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
        Self::with(EngineOptions::default())
    }

    /// Where every payload has to be read before its task goes to a worker.
    fn uncached() -> Self {
        Self::with(EngineOptions { payload_cache_bytes: 0, ..EngineOptions::default() })
    }

    fn with(options: EngineOptions) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let node = Node::start_with(&directory.path().join("data"), options);
        Self { node, _directory: directory }
    }

    /// A task that is given to the session of a call, and whose payload cannot be read yet.
    async fn submit_unreadable(&self) -> TaskRef {
        self.node.store.hold_specs(true);
        let before = self.specs();
        let task = self.node.submit(task("k")).await;
        let wait = async {
            while self.specs() == before {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.expect("in time");
        task
    }

    fn specs(&self) -> usize {
        self.node.store.specs.load(Ordering::Relaxed)
    }

    /// Lets the engine do all that it can do without what it waits for.
    async fn settle(&self) {
        for _ in 0..10 {
            self.until(|_| true).await;
            tokio::task::yield_now().await;
        }
    }

    async fn held(&self) -> u32 {
        self.node.engine.workers().await.expect("an answer").iter().map(|view| view.held).sum()
    }

    async fn lease(&self, request: LeaseRequest) -> LeaseResponse {
        let leased = timeout(PATIENCE, self.node.engine.lease(request)).await;
        leased.expect("in time").expect("the engine answers")
    }

    /// A call that waits longer than the test does. Returns when it has asked.
    async fn waits(&self, request: LeaseRequest) -> JoinHandle<LeaseResponse> {
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

    /// A session whose worker is not heard of for longer than it may be, soon.
    async fn falls_silent(&self, session: u64) {
        let (kinds, ttl) = (vec![name("none")], Duration::from_millis(50));
        let last = LeaseRequest { kinds, ttl, ..asks(Some(session), 1, 0) };
        // It may be over before this is answered.
        let _ = self.node.engine.lease(last).await;
    }

    async fn heartbeat(&self, session: u64) -> Instructions {
        self.node.engine.pull_heartbeat(SessionId(session)).await.expect("an answer")
    }

    async fn status(&self, task: &TaskRef) -> Status {
        self.node.engine.task(task).await.expect("an answer").expect("known").status
    }

    async fn report(&self, task: &Dispatched, report: Report) {
        let lease = LeaseId { task: task.spec.id, token: task.token };
        let results = self.node.engine.report(vec![(lease, report)]).await.expect("an answer");
        assert_eq!(results, [Ok(())]);
    }
}

async fn answered(call: JoinHandle<LeaseResponse>) -> LeaseResponse {
    timeout(PATIENCE, call).await.expect("in time").expect("no panic")
}

fn completed() -> Report {
    let (output_tail, result) = (bytes::Bytes::new(), bytes::Bytes::new());
    Report::Ended { started_at: None, output_tail, outcome: AttemptOutcome::Completed { result } }
}

fn cancelled() -> Report {
    let output_tail = bytes::Bytes::new();
    Report::Ended { started_at: None, output_tail, outcome: AttemptOutcome::Cancelled }
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
        let entered = world.node.store.entered.load(Ordering::Relaxed);
        let engine = world.node.engine.clone();
        let submitted = tokio::spawn(async move { engine.submit(vec![task("k")]).await });
        while world.node.store.entered.load(Ordering::Relaxed) == entered {
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
        world.node.engine.close_session(SessionId(8), None).await.expect("it was open");
        let back = world.lease(asks(Some(9), 1, 60)).await;
        world.report(&back.tasks[0], completed()).await;
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
    assert_eq!((leased.len(), &*leased[0].spec.definition.kind), (1, "other"));
    // And the end of the session.
    let older =
        world.waits(LeaseRequest { kinds: vec![name("none")], ..asks(Some(7), 2, 60) }).await;
    world.node.engine.close_session(SessionId(7), None).await.expect("it was open");
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
    world.report(&leased.tasks[0], completed()).await;
    let attempts = world.node.engine.attempts(&task).await.expect("an answer").expect("known");
    assert_eq!(attempts[0].started_at, Some(started));
    world.node.stop().await;
}

#[tokio::test]
async fn a_worker_is_told_what_to_stop_until_it_did() {
    let world = World::new();
    let named = rota_core::ClientKeys { id: Some(name("mine")), key: None };
    let id = world.node.submit(rota_engine::NewTask { client_keys: named, ..task("k") }).await;
    let leased = world.lease(asks(Some(7), 1, 60)).await.tasks.remove(0);
    assert_eq!(world.heartbeat(7).await, Instructions::default());
    let call = world.waits(asks(Some(7), 1, 60)).await;
    world.node.engine.cancel(&id).await.expect("cancelled");
    let told = answered(call).await;
    let [order] = &told.instructions.stop[..] else { panic!("{told:?}") };
    assert_eq!((order.shown_id.as_str(), order.reason), ("mine", StopReason::Cancelled));
    assert_eq!((&order.task, order.token), (&TaskRef::Id(leased.spec.id), leased.token));
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
    let named = |task: &Dispatched| (TaskRef::Id(task.spec.id), task.token);
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

#[tokio::test]
async fn what_cannot_be_read_when_it_is_handed_over_again_fails_at_once() {
    for fault in [SpecFault::Damaged, SpecFault::Missing] {
        let world = World::uncached();
        let id = world.node.submit(task("k")).await;
        assert_eq!(world.lease(asks(Some(7), 1, 10)).await.tasks.len(), 1);
        world.node.store.fault(&id, fault);
        // The answer was lost: its worker has nothing.
        let knows_nothing = LeaseRequest { held: Some(Vec::new()), ..asks(Some(7), 1, 0) };
        assert!(world.lease(knows_nothing).await.tasks.is_empty());
        assert_eq!(world.held().await, 0, "{fault:?}: nobody holds it any more");
        let queue = world.node.engine.queue(&name("q")).await.expect("an answer").expect("known");
        assert_eq!((queue.pending, queue.failed_total), (0, 1), "{fault:?}");
        world.node.stop().await;
    }
}

#[tokio::test]
async fn what_is_still_being_read_for_a_call_that_is_given_up_goes_to_others() {
    let world = World::uncached();
    for session in [None, Some(7)] {
        let call = world.waits(asks(session, 1, 60)).await;
        let task = world.submit_unreadable().await;
        call.abort();
        assert!(call.await.is_err(), "it was given up");
        world.settle().await;
        world.node.store.hold_specs(false);
        let leased = world.lease(asks(Some(8), 1, 60)).await;
        assert_eq!((leased.tasks.len(), leased.tasks[0].attempt), (1, 1), "no attempt was spent");
        let view = world.node.engine.task(&task).await.expect("an answer").expect("known");
        assert_eq!((view.lost, view.status), (0, Status::Running));
        world.report(&leased.tasks[0], completed()).await;
    }
    world.node.stop().await;
}

#[tokio::test]
async fn a_call_whose_wait_is_over_tells_of_what_is_still_being_read() {
    let world = World::uncached();
    // Opens the session: the wait of the next call may be over as soon as it has asked.
    world.lease(asks(Some(7), 1, 0)).await;
    world.node.store.hold_specs(true);
    world.node.submit(task("k")).await;
    let engine = world.node.engine.clone();
    let call = tokio::spawn(async move { engine.lease(asks(Some(7), 1, 0)).await.expect("tasks") });
    world.until(|workers| workers[0].held == 1).await;
    world.settle().await;
    world.node.store.hold_specs(false);
    assert_eq!(answered(call).await.tasks.len(), 1);
    // Also one that serves something else from now on.
    let older = world.waits(asks(Some(7), 1, 60)).await;
    world.submit_unreadable().await;
    let (engine, other) = (world.node.engine.clone(), vec![name("other")]);
    let other = LeaseRequest { kinds: other, ..asks(Some(7), 1, 0) };
    let newer = tokio::spawn(async move { engine.lease(other).await.expect("tasks") });
    assert!(answered(older).await.tasks.is_empty());
    world.settle().await;
    world.node.store.hold_specs(false);
    assert_eq!(answered(newer).await.tasks.len(), 1);
    world.node.stop().await;
}

#[tokio::test]
async fn a_session_whose_end_is_still_on_its_way_down_may_begin_anew() {
    let world = World::uncached();
    let asked = LeaseRequest { kinds: vec![name("none")], ..asks(Some(7), 2, 60) };
    let brief = LeaseRequest { ttl: Duration::from_millis(500), ..asked };
    let silent = world.waits(brief.clone()).await;
    let other = world.waits(asks(Some(8), 1, 60)).await;
    world.submit_unreadable().await;
    silent.abort();
    world.until(|workers| workers.len() == 1).await;
    let again = LeaseRequest { wait: Duration::ZERO, ..brief };
    let engine = world.node.engine.clone();
    let call = tokio::spawn(async move { engine.lease(again).await.expect("anew") });
    world.settle().await;
    world.node.store.hold_specs(false);
    assert!(answered(call).await.tasks.is_empty());
    assert_eq!(answered(other).await.tasks.len(), 1);
    world.node.stop().await;
}

#[tokio::test]
async fn an_engine_that_stops_waits_for_no_one_who_gave_up() {
    let world = World::uncached();
    let call = world.waits(asks(Some(7), 1, 60)).await;
    world.submit_unreadable().await;
    call.abort();
    assert!(call.await.is_err(), "it was given up");
    world.settle().await;
    world.node.store.hold_specs(false);
    timeout(PATIENCE, world.node.stop()).await.expect("in time");
}

#[tokio::test]
async fn a_worker_that_was_silent_for_too_long_is_told_that_its_leases_are_lost() {
    let world = World::new();
    let mine = rota_core::ClientKeys { id: Some(name("mine")), key: None };
    for client_keys in [rota_core::ClientKeys::default(), mine] {
        world.node.submit(rota_engine::NewTask { client_keys, ..task("k") }).await;
    }
    let lost = world.lease(asks(Some(7), 2, 60)).await.tasks;
    world.falls_silent(7).await;
    world.until(<[_]>::is_empty).await;
    let others = world.lease(asks(Some(8), 2, 60)).await.tasks;
    assert_eq!((lost.len(), others.len()), (2, 2));
    // It is heard of again, and calls its tasks what it likes.
    let called = |task: &Dispatched| match &task.spec.client_keys.id {
        Some(name) => (TaskRef::Named(name.clone()), task.token),
        None => (TaskRef::Id(task.spec.id), task.token),
    };
    let order = |task: &Dispatched, reason| {
        let ((task, token), shown_id) = (called(task), task.spec.shown_id());
        StopOrder { task, shown_id, token, reason }
    };
    let held: Vec<_> = lost.iter().map(called).collect();
    let again = LeaseRequest { held: Some(held), ..asks(Some(7), 2, 60) };
    let told = world.lease(again.clone()).await;
    let all: Vec<_> = lost.iter().map(|task| order(task, StopReason::LeaseLost)).collect();
    assert_eq!((told.tasks.len(), &told.instructions.stop), (0, &all), "at once");
    // Each answer says it, and a call that waits does not come back for it again.
    assert_eq!(world.heartbeat(7).await.stop, all);
    let call = world.waits(again).await;
    world.node.submit(task("k")).await;
    let told = answered(call).await;
    assert_eq!((told.tasks.len(), &told.instructions.stop), (1, &all));
    // Until it has none of them any more.
    let stopped = LeaseRequest { held: Some(vec![called(&told.tasks[0])]), ..asks(Some(7), 2, 0) };
    assert_eq!(world.lease(stopped).await.instructions, Instructions::default());
    assert_eq!(world.heartbeat(7).await, Instructions::default());
    world.node.stop().await;
}

#[tokio::test]
async fn what_is_cancelled_is_not_lost_and_what_ended_meanwhile_may_be_reported_again() {
    let world = World::new();
    let mine = rota_core::ClientKeys { id: Some(name("mine")), key: None };
    let id =
        world.node.submit(rota_engine::NewTask { client_keys: mine.clone(), ..task("k") }).await;
    let stopped = world.lease(asks(Some(7), 1, 60)).await.tasks.remove(0);
    world.node.submit(task("k")).await;
    let ended = world.lease(asks(Some(7), 1, 60)).await.tasks.remove(0);
    world.node.engine.cancel(&id).await.expect("cancelled");
    for called in [TaskRef::Id(stopped.spec.id), TaskRef::Named(name("mine"))] {
        let held = Some(vec![(called, stopped.token), (TaskRef::Id(ended.spec.id), ended.token)]);
        let told = world.lease(LeaseRequest { held, ..asks(Some(7), 1, 0) }).await;
        let [order] = &told.instructions.stop[..] else { panic!("{told:?}") };
        assert_eq!((order.shown_id.as_str(), order.reason), ("mine", StopReason::Cancelled));
    }
    // Nor is it news to a call that waits.
    let has = |task: &Dispatched| (TaskRef::Id(task.spec.id), task.token);
    let held = Some(vec![has(&stopped), has(&ended)]);
    let call = world.waits(LeaseRequest { held, ..asks(Some(7), 2, 60) }).await;
    world.settle().await;
    assert!(!call.is_finished());
    call.abort();
    // The answer to this report did not reach it.
    world.report(&ended, completed()).await;
    let held = Some(vec![has(&ended)]);
    let told = world.lease(LeaseRequest { held, ..asks(Some(7), 1, 60) }).await;
    let reasons = told.instructions.stop.iter().map(|order| order.reason);
    let expected = [StopReason::Cancelled, StopReason::LeaseLost];
    assert_eq!(reasons.collect::<Vec<_>>(), expected);
    world.report(&ended, completed()).await;
    assert_eq!(world.status(&TaskRef::Id(ended.spec.id)).await, Status::Completed);
    world.node.stop().await;
}

#[tokio::test]
async fn no_more_is_handed_over_again_than_a_call_takes() {
    let world = World::new();
    for _ in 0..4 {
        world.node.submit(task("k")).await;
    }
    let first = world.lease(asks(Some(7), 3, 60)).await.tasks;
    assert_eq!(first.len(), 3);
    let before = world.specs();
    let nothing = LeaseRequest { held: Some(Vec::new()), ..asks(Some(7), 1, 0) };
    let one = world.lease(nothing).await.tasks;
    assert_eq!((one.len(), world.specs() - before), (1, 1), "the others' payloads are not read");
    assert_eq!(world.held().await, 3, "and they are not taken from it");
    let held = Some(vec![(TaskRef::Id(one[0].spec.id), one[0].token)]);
    let rest = world.lease(LeaseRequest { held, ..asks(Some(7), 2, 0) }).await.tasks;
    let mut told: Vec<_> = one.iter().chain(&rest).map(|task| (task.spec.id, task.token)).collect();
    told.sort_unstable();
    let mut leases: Vec<_> = first.iter().map(|task| (task.spec.id, task.token)).collect();
    leases.sort_unstable();
    assert_eq!(told, leases, "under the leases that they had, before anything new");
    world.node.stop().await;
}
