//! How attempts end: as their handler says, by a panic, a cancellation, a timeout, or with more than
//! the server takes.

use std::time::Duration;

use rota_client::{task, v1};
use rota_worker::{HandlerError, StopReason, TaskContext, Worker};
use serde_json::Value;

use crate::{
    desk::{Desk, KIND},
    in_time,
    node::Node,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_reaches_the_handler() {
    let node = Node::start().await;
    let mut desk = Desk::open("w", node.client().addresses());
    let [obeys, ignores] = [node.create(task(KIND)).await, node.create(task(KIND)).await];
    let mut attempts = [desk.next().await, desk.next().await];
    attempts.sort_by_key(|attempt| attempt.context.task_id() == ignores);
    let [first, second] = attempts;
    node.client().cancel_task(&obeys).await.unwrap();
    assert_eq!(first.stopped().await, StopReason::Cancelled);
    first.end(Err(HandlerError::new("stopped")));
    assert_eq!(node.ended(&obeys).await.status(), v1::TaskStatus::Cancelled);
    // Done is done: a handler that ends before it notices has not worked in vain.
    node.client().cancel_task(&ignores).await.unwrap();
    second.stopped().await;
    second.complete();
    assert_eq!(node.ended(&ignores).await.status(), v1::TaskStatus::Completed);
    desk.kill().await;
    node.stop().await;
}

#[tokio::test]
async fn an_empty_list_of_queues_does_not_mean_all() {
    let client = rota_client::Client::connect(["http://127.0.0.1:1"]).unwrap();
    let builder = Worker::builder(client)
        .handler(KIND, |_: TaskContext, value: Value| async move { Ok::<_, HandlerError>(value) });
    let error = builder.queues(Vec::<String>::new()).build().err().unwrap();
    assert!(matches!(error, rota_worker::WorkerError::NoQueue), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_reaches_the_handler_and_counts_as_one() {
    let node = Node::start().await;
    let mut desk = Desk::open("w", node.client().addresses());
    let short = task(KIND).timeout(Duration::from_millis(200)).max_attempts(1);
    let id = node.create(short).await;
    let attempt = desk.next().await;
    assert_eq!(attempt.stopped().await, StopReason::Timeout);
    attempt.end(Err(HandlerError::new("was in the middle of it")));
    let ended = node.ended(&id).await;
    assert_eq!(ended.status(), v1::TaskStatus::Failed);
    let error = ended.error.unwrap();
    assert_eq!(error.reason(), v1::FailureReason::Timeout);
    assert!(error.message.contains("was in the middle of it"), "{}", error.message);
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_says_whether_and_when_to_try_again() {
    let node = Node::start().await;
    let mut desk = Desk::open("w", node.client().addresses());
    let id = node.create(task(KIND)).await;
    let attempt = desk.next().await;
    attempt.end(Err(HandlerError::retry_after("later", Duration::from_secs(3600))));
    let waits = node.once(&id, |task| task.status() == v1::TaskStatus::Scheduled).await;
    let waiting = waits.waiting.unwrap();
    assert_eq!(waiting.reason(), v1::waiting::Reason::BackingOff);
    let until = std::time::SystemTime::from(waiting.until.unwrap());
    let wait = until.duration_since(std::time::SystemTime::now()).unwrap();
    assert!(wait > Duration::from_secs(3500) && wait <= Duration::from_secs(3600), "{wait:?}");
    let id = node.create(task(KIND)).await;
    desk.next().await.end(Err(HandlerError::permanent("never")));
    let ended = node.ended(&id).await;
    assert_eq!((ended.status(), ended.attempt), (v1::TaskStatus::Failed, 1));
    assert_eq!(ended.error.unwrap().reason(), v1::FailureReason::Permanent);
    desk.kill().await;
    node.stop().await;
}

/// Panics when it is dropped.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_failed_attempt_and_not_the_workers_end() {
    let node = Node::start().await;
    let worker = Worker::builder(node.client())
        .name("w")
        .slots(1)
        .handler("at-once", |_, _: Value| {
            panic!("at once");
            #[expect(unreachable_code, reason = "tells the type")]
            async {
                Ok::<_, HandlerError>(())
            }
        })
        .handler("later", |_, _: Value| async {
            tokio::task::yield_now().await;
            let words = 7;
            if words == 7 {
                panic!("later, with {words} words");
            }
            Ok::<_, HandlerError>(())
        })
        .handler("when-dropped", |context: TaskContext, _: Value| async move {
            let _grenade = Grenade;
            // It does not listen, so it is dropped.
            context.progress("waiting");
            std::future::pending::<Result<(), HandlerError>>().await
        })
        .handler("fine", |_, _: Value| async { Ok::<_, HandlerError>(1) })
        .build()
        .unwrap();
    let drain = worker.drain();
    let running = tokio::spawn(worker.run());
    for (kind, words) in [
        ("at-once", "the handler panicked: at once"),
        ("later", "the handler panicked: later, with 7 words"),
        ("when-dropped", "the handler panicked when it was dropped"),
    ] {
        let timeout = Duration::from_millis(200);
        let id = node.create(task(kind).max_attempts(1).timeout(timeout)).await;
        let ended = node.ended(&id).await;
        assert_eq!(ended.status(), v1::TaskStatus::Failed, "{kind}");
        let message = ended.error.unwrap().message;
        assert!(message.contains(words), "{kind}: {message}");
    }
    // Its one slot is free.
    let id = node.create(task("fine")).await;
    assert_eq!(node.ended(&id).await.status(), v1::TaskStatus::Completed);
    drain.start();
    in_time(running).await.unwrap().unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_does_not_fit_fails_for_good() {
    let node = Node::start().await;
    let worker = Worker::builder(node.client())
        .handler("add", |_, (a, b): (u32, u32)| async move { Ok::<_, HandlerError>(a + b) })
        .build()
        .unwrap();
    let running = tokio::spawn(worker.run());
    let good = node.create(task("add").payload_json(&(1, 2))).await;
    let bad = node.create(task("add").payload_json("one and two")).await;
    assert_eq!(node.ended(&good).await.status(), v1::TaskStatus::Completed);
    assert_eq!(node.client().get_result(&good).await.unwrap(), "3");
    let error = node.ended(&bad).await.error.unwrap();
    assert_eq!(error.reason(), v1::FailureReason::Permanent);
    assert!(error.message.contains("does not fit"), "{}", error.message);
    running.abort();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_shown_while_it_runs_and_the_last_word_counts() {
    let node = Node::start().await;
    let mut desk = Desk::open("w", node.client().addresses());
    let id = node.create(task(KIND)).await;
    let attempt = desk.next().await;
    for step in 0..=5000 {
        attempt.context.progress(format!("step {step}"));
    }
    let shown = node.once(&id, |task| task.progress() == "step 5000").await;
    assert_eq!(shown.status(), v1::TaskStatus::Running);
    attempt.context.progress("ü".repeat(2000));
    let shown = node.once(&id, |task| task.progress().starts_with('ü')).await;
    assert_eq!(shown.progress().len(), 1024);
    attempt.complete();
    node.ended(&id).await;
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_server_takes_is_said_instead_of_hanging() {
    let node = Node::start().await;
    let mut desk = Desk::open("w", node.client().addresses());
    // Over the limit of a result, and over that of a whole message.
    for megabytes in [2, 40] {
        let id = node.create(task(KIND)).await;
        let result = Value::from("x".repeat(megabytes << 20));
        desk.next().await.end(Ok(result));
        let ended = node.ended(&id).await;
        assert_eq!((ended.status(), ended.attempt), (v1::TaskStatus::Failed, 1));
        let message = ended.error.unwrap().message;
        assert!(message.contains("limit result_bytes"), "{message}");
    }
    let id = node.create(task(KIND).max_attempts(1)).await;
    let error = HandlerError::new("e".repeat(40 << 20));
    let tail = [vec![b'a'; 40 << 20], b"the end".to_vec()].concat();
    desk.next().await.end(Err(error.with_output(tail.into())));
    assert_eq!(node.ended(&id).await.status(), v1::TaskStatus::Failed);
    let attempts = node.client().list_attempts(&id).await.unwrap();
    assert!(attempts[0].output_tail.ends_with(b"the end"));
    assert_eq!(attempts[0].output_tail.len(), 64 << 10);
    desk.drain.start();
    desk.closed().await.unwrap();
    node.stop().await;
}
