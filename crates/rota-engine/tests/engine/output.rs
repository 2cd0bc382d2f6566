//! Output of running tasks: who is asked for it, and what listeners are told.

use std::time::Duration;

use bytes::Bytes;
use rota_core::{AttemptOutcome, Failure, FailureReason, LeaseId, Status};
use rota_engine::{
    Dispatched, Engine, EngineError, EngineOptions, GapReason, OutputEnd, OutputLimits,
    OutputListener, OutputPlace, OutputRequest, OutputTold, SessionEvent, SessionRequest,
    SessionStream, TaskRef,
};
use tokio::time::timeout;

use crate::support::{MoodyStore, Node, completed, defined, given, name, task, worker};

fn request(task: &TaskRef) -> OutputRequest {
    OutputRequest { task: task.clone(), after: None, follow: true, tail_bytes: 1000 }
}

async fn listen(engine: &Engine, task: &TaskRef) -> OutputListener {
    engine.watch_output(request(task)).await.expect("a place")
}

async fn told(listener: &mut OutputListener) -> OutputTold {
    timeout(Duration::from_secs(20), listener.next()).await.expect("something is told")
}

fn begins() -> OutputTold {
    OutputTold::Attempt { worker: Some(name("w")) }
}

fn output(offset: u64, text: &'static str) -> OutputTold {
    OutputTold::Output { offset, bytes: Bytes::from_static(text.as_bytes()) }
}

fn lease(task: &Dispatched) -> LeaseId {
    LeaseId { task: task.spec.id, token: task.token }
}

fn failed() -> AttemptOutcome {
    let failure = Failure::new(FailureReason::Error, "no");
    AttemptOutcome::Failed { failure, retry_at: Some(rota_core::WallTime(0)) }
}

/// A worker that sends output when it is asked.
async fn streaming(node: &Node) -> SessionStream {
    let request = SessionRequest { streams_output: true, ..worker(&[]) };
    node.engine.open_session(request).await.expect("opened")
}

/// The next order about output: the lease, and whether it is wanted.
async fn ordered(stream: &mut SessionStream) -> (LeaseId, bool) {
    let next = timeout(Duration::from_secs(20), stream.events.recv()).await;
    match next.expect("an order") {
        Some(SessionEvent::WatchOutput { lease, on }) => (lease, on),
        other => panic!("{other:?}"),
    }
}

/// A running task that somebody listens to, and whose worker has said something.
struct Scene {
    node: Node,
    stream: SessionStream,
    task: TaskRef,
    leased: Dispatched,
    listener: OutputListener,
    _directory: tempfile::TempDir,
}

impl Scene {
    async fn set(limits: OutputLimits) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let options = EngineOptions { output: limits, ..EngineOptions::default() };
        let node = Node::start_with(&directory.path().join("data"), options);
        let mut stream = streaming(&node).await;
        let retried = |mut task: rota_engine::NewTask| {
            task.definition.policy.retry.max_attempts = 3;
            task
        };
        let task = node.submit(retried(task("k"))).await;
        let leased = given(&mut stream).await.remove(0);
        let mut listener = listen(&node.engine, &task).await;
        assert_eq!(ordered(&mut stream).await, (lease(&leased), true));
        assert_eq!(told(&mut listener).await, begins());
        let scene = Self { node, stream, task, leased, listener, _directory: directory };
        scene.say(0, "one\n");
        scene
    }

    fn say(&self, offset: u64, text: &str) {
        let lease = lease(&self.leased);
        self.node.engine.output(self.stream.session, lease, offset, text.as_bytes());
    }
}

#[tokio::test]
async fn output_is_told_while_the_task_runs_and_its_end_with_the_report() {
    let mut scene = Scene::set(OutputLimits::default()).await;
    assert_eq!(told(&mut scene.listener).await, output(0, "one\n"));
    assert_eq!(told(&mut scene.listener).await, OutputTold::Ready);
    scene.say(4, "two\n");
    assert_eq!(told(&mut scene.listener).await, output(4, "two\n"));
    // A second listener gets what is known, and the worker need not be asked again.
    let mut second = listen(&scene.node.engine, &scene.task).await;
    assert_eq!(told(&mut second).await, begins());
    assert_eq!(told(&mut second).await, output(0, "one\ntwo\n"));
    assert_eq!(told(&mut second).await, OutputTold::Ready);
    let lease = lease(&scene.leased);
    scene.node.engine.output_ends(lease, 14, b"wo\nthree\n");
    assert_eq!(told(&mut scene.listener).await, output(8, "three\n"));
    assert!(scene.node.report(&scene.leased, completed("")).await);
    for listener in [&mut scene.listener, &mut second] {
        let mut next = told(listener).await;
        while matches!(next, OutputTold::Output { .. }) {
            next = told(listener).await;
        }
        assert_eq!(next, OutputTold::Ended(OutputEnd::Task(Status::Completed)));
    }
    scene.node.stop().await;
}

#[tokio::test]
async fn a_listener_that_waits_is_woken_by_each_piece() {
    let mut scene = Scene::set(OutputLimits::default()).await;
    assert_eq!(told(&mut scene.listener).await, output(0, "one\n"));
    assert_eq!(told(&mut scene.listener).await, OutputTold::Ready);
    let Scene { node, stream, leased, mut listener, .. } = scene;
    for (offset, text) in [(4, "two\n"), (8, "three\n")] {
        let say = async {
            node.engine.output(stream.session, lease(&leased), offset, text.as_bytes());
        };
        // It waits before anything is said.
        let (next, ()) = tokio::join!(told(&mut listener), say);
        assert_eq!(next, output(offset, text));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_worker_sends_nothing_once_the_last_listener_has_left() {
    let mut scene = Scene::set(OutputLimits::default()).await;
    let second = listen(&scene.node.engine, &scene.task).await;
    drop(second);
    let again = listen(&scene.node.engine, &scene.task).await;
    drop(again);
    drop(scene.listener);
    // The others asked nothing of it.
    assert_eq!(ordered(&mut scene.stream).await, (lease(&scene.leased), false));
    let task = scene.leased.spec.id;
    assert!(!scene.node.engine.watches_output(task));
    let _back = listen(&scene.node.engine, &scene.task).await;
    assert_eq!(ordered(&mut scene.stream).await, (lease(&scene.leased), true));
    scene.node.stop().await;
}

#[tokio::test]
async fn a_slow_listener_is_told_of_a_gap_and_holds_nobody_up() {
    let limits = OutputLimits { task_bytes: 10_000, ..OutputLimits::default() };
    let mut scene = Scene::set(limits).await;
    for round in 0..100 {
        scene.say(4 + round * 1000, &"x".repeat(1000));
    }
    let OutputTold::Gap { missing: Some(missing), reason } = told(&mut scene.listener).await else {
        panic!("a gap")
    };
    assert_eq!(reason, GapReason::TooSlow);
    let OutputTold::Output { offset, bytes } = told(&mut scene.listener).await else {
        panic!("output")
    };
    assert_eq!((offset, offset + bytes.len() as u64), (missing, 100_004));
    assert!(bytes.len() <= 10_000);
    scene.node.stop().await;
}

#[tokio::test]
async fn a_gap_in_an_attempt_is_not_one_in_the_attempt_before() {
    let limits = OutputLimits { task_bytes: 10_000, ..OutputLimits::default() };
    let mut scene = Scene::set(limits).await;
    assert!(scene.node.report(&scene.leased, failed()).await);
    let again = given(&mut scene.stream).await.remove(0);
    // It knows all of the first attempt, and the beginning of the second is gone when it comes.
    for round in 0..100 {
        let (session, piece) = (scene.stream.session, [b'x'; 1000]);
        scene.node.engine.output(session, lease(&again), round * 1000, &piece);
    }
    let after = Some(OutputPlace::after(scene.leased.token.0));
    let wanted = OutputRequest { after, ..request(&scene.task) };
    let mut listener = scene.node.engine.watch_output(wanted).await.expect("a place");
    assert_eq!(told(&mut listener).await, begins());
    let gap = told(&mut listener).await;
    assert!(matches!(gap, OutputTold::Gap { missing: Some(_), .. }), "{gap:?}");
    scene.node.stop().await;
}

#[tokio::test]
async fn one_who_goes_on_is_told_of_the_last_ten_attempts_before_the_one_that_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mut stream = streaming(&node).await;
    let patient = defined(task("k"), |it| it.policy.retry.max_attempts = 20);
    let task = node.submit(patient).await;
    let first = given(&mut stream).await.remove(0);
    let mut running = first.clone();
    for _ in 0..12 {
        assert!(node.report(&running, failed()).await);
        running = given(&mut stream).await.remove(0);
    }
    let after = Some(OutputPlace::after(first.token.0));
    let wanted = OutputRequest { after, ..request(&task) };
    let mut listener = node.engine.watch_output(wanted).await.expect("a place");
    let mut seen = Vec::new();
    while listener.attempt() < running.attempt {
        if let OutputTold::Output { .. } = told(&mut listener).await {
            seen.push(listener.attempt());
        }
    }
    assert_eq!((running.attempt, seen), (13, (3..13).collect()));
    node.stop().await;
}

#[tokio::test]
async fn a_retry_is_told_and_its_worker_is_asked_at_once() {
    let mut scene = Scene::set(OutputLimits::default()).await;
    assert!(scene.node.report(&scene.leased, failed()).await);
    let again = given(&mut scene.stream).await.remove(0);
    assert_eq!(again.attempt, 2);
    assert_eq!(ordered(&mut scene.stream).await, (lease(&again), true));
    scene.node.engine.output(scene.stream.session, lease(&again), 0, b"second");
    // A late word of the first attempt counts for nothing.
    scene.say(4, "late");
    let expected = [output(0, "one\n"), begins(), output(0, "second"), OutputTold::Ready];
    for expected in expected {
        assert_eq!(told(&mut scene.listener).await, expected);
    }
    assert_eq!(scene.listener.attempt(), 2);
    scene.node.stop().await;
}

#[tokio::test]
async fn a_worker_that_comes_back_is_asked_again() {
    let mut scene = Scene::set(OutputLimits::default()).await;
    let held = [scene.leased.clone()];
    let session = Some(scene.stream.session);
    let request = SessionRequest { session, streams_output: true, ..worker(&held) };
    scene.stream = scene.node.engine.open_session(request).await.expect("opened");
    assert_eq!(ordered(&mut scene.stream).await, (lease(&scene.leased), true));
    // It begins with what it has kept.
    scene.say(2, "e\ntwo");
    let mut heard = Vec::new();
    while heard.len() < 7 {
        if let OutputTold::Output { bytes, .. } = told(&mut scene.listener).await {
            heard.extend_from_slice(&bytes);
        }
    }
    assert_eq!(heard, b"one\ntwo");
    scene.node.stop().await;
}

#[tokio::test]
async fn a_worker_that_cannot_stream_reports_its_output_at_the_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mut stream = node.engine.open_session(worker(&[])).await.expect("opened");
    let waiting = node.submit(task("k")).await;
    let leased = given(&mut stream).await.remove(0);
    let mut listener = listen(&node.engine, &waiting).await;
    assert_eq!(told(&mut listener).await, begins());
    assert_eq!(told(&mut listener).await, OutputTold::AtEnd);
    assert_eq!(told(&mut listener).await, OutputTold::Ready);
    node.engine.output_ends(lease(&leased), 3, b"out");
    assert!(node.report(&leased, completed("")).await);
    assert_eq!(told(&mut listener).await, output(0, "out"));
    let end = OutputTold::Ended(OutputEnd::Task(Status::Completed));
    assert_eq!(told(&mut listener).await, end);
    node.stop().await;
}

#[tokio::test]
async fn what_is_kept_of_an_ended_attempt_is_told_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mut stream = streaming(&node).await;
    let ended = node.submit(task("k")).await;
    let leased = given(&mut stream).await.remove(0);
    assert!(node.report(&leased, completed("")).await);
    let end = OutputTold::Ended(OutputEnd::Task(Status::Completed));
    let mut listener = listen(&node.engine, &ended).await;
    for expected in [begins(), output(0, "out"), end.clone()] {
        assert_eq!(told(&mut listener).await, expected);
    }
    let after = Some(listener.place());
    assert_eq!(after, Some(OutputPlace::after(leased.token.0)));
    let again = OutputRequest { after, ..request(&ended) };
    let mut again = node.engine.watch_output(again).await.expect("a place");
    assert_eq!(told(&mut again).await, end, "nothing is told twice");
    let partly = OutputPlace { lease: leased.token.0, offset: 1 };
    let partly = OutputRequest { after: Some(partly), ..request(&ended) };
    let mut partly = node.engine.watch_output(partly).await.expect("a place");
    assert_eq!(told(&mut partly).await, output(1, "ut"));
    // It goes on after a place that is not of this task as one that begins.
    let foreign = OutputPlace { lease: u64::MAX, offset: 1 };
    let foreign = OutputRequest { after: Some(foreign), ..request(&ended) };
    let mut foreign = node.engine.watch_output(foreign).await.expect("a place");
    assert_eq!(told(&mut foreign).await, begins());
    node.stop().await;
}

#[tokio::test]
async fn a_listener_comes_before_the_task_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let waiting = node.submit(task("k")).await;
    let mut listener = listen(&node.engine, &waiting).await;
    assert_eq!(told(&mut listener).await, OutputTold::Ready);
    let now = OutputRequest { follow: false, ..request(&waiting) };
    let mut now = node.engine.watch_output(now).await.expect("a place");
    assert_eq!(told(&mut now).await, OutputTold::Ended(OutputEnd::UpToDate));
    let mut stream = streaming(&node).await;
    let leased = given(&mut stream).await.remove(0);
    assert_eq!(ordered(&mut stream).await, (lease(&leased), true));
    node.engine.output(stream.session, lease(&leased), 0, b"out");
    assert_eq!(told(&mut listener).await, begins());
    assert_eq!(told(&mut listener).await, output(0, "out"));
    node.stop().await;
}

#[tokio::test]
async fn output_of_others_is_left_out() {
    let mut scene = Scene::set(OutputLimits::default()).await;
    let other = SessionRequest { worker: name("x"), streams_output: true, ..worker(&[]) };
    let other = scene.node.engine.open_session(other).await.expect("opened");
    scene.node.engine.output(other.session, lease(&scene.leased), 4, b"forged");
    scene.say(4, "true");
    assert_eq!(told(&mut scene.listener).await, output(0, "one\ntrue"));
    scene.node.stop().await;
}

#[tokio::test]
async fn there_are_limits_of_listeners() {
    let limits = OutputLimits { listeners: 3, task_listeners: 2, ..OutputLimits::default() };
    let scene = Scene::set(limits).await;
    let engine = &scene.node.engine;
    let second = listen(engine, &scene.task).await;
    let refused = engine.watch_output(request(&scene.task)).await;
    let Err(EngineError::Overloaded { reason, .. }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("output_listeners_per_task") && reason.contains('2'), "{reason}");
    let others = [scene.node.submit(task("a")).await, scene.node.submit(task("b")).await];
    let _third = listen(engine, &others[0]).await;
    let refused = engine.watch_output(request(&others[1])).await;
    let Err(EngineError::Overloaded { reason, .. }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("(output_listeners)") && reason.contains('3'), "{reason}");
    drop(second);
    listen(engine, &others[1]).await;
    let missing = TaskRef::Named(name("nobody"));
    assert!(engine.watch_output(request(&missing)).await.is_err());
    scene.node.stop().await;
}

#[tokio::test]
async fn the_end_of_a_leadership_ends_the_stream() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_on(store, EngineOptions::default());
    let waiting = node.submit(defined(task("k"), |_| ())).await;
    let mut listener = listen(&node.engine, &waiting).await;
    assert_eq!(told(&mut listener).await, OutputTold::Ready);
    let store = node.store.clone();
    let leaving = tokio::spawn(node.leave());
    assert_eq!(told(&mut listener).await, OutputTold::Ended(OutputEnd::LeaderChanged));
    drop(listener);
    leaving.await.expect("no panic");
    rota_store::Store::close(store.as_ref()).await;
}
