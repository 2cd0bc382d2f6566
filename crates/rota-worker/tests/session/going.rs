//! A worker goes: it drains by itself or because it was asked, and leaves nothing behind.

use std::time::Duration;

use rota_client::{task, v1};
use rota_worker::{HandlerError, StopReason, Worker};
use serde_json::Value;

use crate::{
    desk::{Desk, KIND},
    in_time,
    node::Node,
    proxy::{Proxy, Way},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_may_finish_and_nothing_new_begins() {
    let node = Node::start().await;
    let url = node.client().addresses().to_owned();
    let mut desk = Desk::open("w", &url);
    let id = node.create(task(KIND)).await;
    let attempt = desk.next().await;
    desk.drain.start();
    let client = node.client();
    // The server knows when the worker's credit is gone.
    let waits = node.create(task(KIND)).await;
    in_time(async {
        while !client
            .list_workers(v1::ListWorkersRequest::default())
            .await
            .unwrap()
            .workers
            .is_empty()
        {
            if client.get_task(&waits).await.unwrap().status() == v1::TaskStatus::Pending {
                break;
            }
        }
    })
    .await;
    assert!(desk.is_empty());
    attempt.complete();
    assert_eq!(node.ended(&id).await.status(), v1::TaskStatus::Completed);
    desk.closed().await.unwrap();
    assert_eq!(client.list_workers(v1::ListWorkersRequest::default()).await.unwrap().workers, []);
    let mut other = Desk::open("other", &url);
    other.next().await.complete();
    assert_eq!(node.ended(&waits).await.worker(), "other");
    other.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_come_while_it_drains_are_handed_back_unharmed() {
    let node = Node::start().await;
    let proxy = Proxy::to(node.address).await;
    let mut desk = Desk::open("w", &proxy.url());
    let id = node.create(task(KIND)).await;
    let attempt = desk.next().await;
    // The server does not learn yet that the worker takes no more.
    proxy.set_up(Way::Held);
    desk.drain.start();
    let late = node.create(task(KIND)).await;
    node.once(&late, |task| task.status() == v1::TaskStatus::Assigned).await;
    attempt.complete();
    proxy.set_up(Way::Open);
    assert_eq!(node.ended(&id).await.status(), v1::TaskStatus::Completed);
    assert!(desk.is_empty(), "it did not begin");
    desk.closed().await.unwrap();
    let mut other = Desk::open("other", node.client().addresses());
    other.next().await.complete();
    let ended = node.ended(&late).await;
    assert_eq!((ended.worker(), ended.lost), ("other", 0));
    assert_eq!(node.attempts(&late).await.iter().flatten().count(), 0, "no attempt was spent");
    other.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_patience_is_over_what_runs_goes_to_another_worker_unharmed() {
    let node = Node::start().await;
    let url = node.client().addresses().to_owned();
    let mut desk = Desk::open_with("w", &url, |worker| worker.drain_timeout(Duration::ZERO));
    let id = node.create(task(KIND).max_attempts(1)).await;
    let attempt = desk.next().await;
    let old_token = attempt.context.lease_token();
    desk.drain.start();
    assert_eq!(attempt.stopped().await, StopReason::Draining);
    attempt.end(Err(HandlerError::new("interrupted")));
    desk.closed().await.unwrap();
    let mut other = Desk::open("other", &url);
    let attempt = other.next().await;
    assert!(attempt.context.lease_token() > old_token);
    attempt.complete();
    assert_eq!(node.ended(&id).await.status(), v1::TaskStatus::Completed);
    other.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_may_ask_it_to_go() {
    let node = Node::start().await;
    let mut desk = Desk::open("w", node.client().addresses());
    let id = node.create(task(KIND)).await;
    let attempt = desk.next().await;
    let worker = "w".to_owned();
    node.client().drain_worker(v1::DrainWorkerRequest { worker }).await.unwrap();
    attempt.complete();
    desk.closed().await.unwrap();
    assert_eq!(node.ended(&id).await.status(), v1::TaskStatus::Completed);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_a_draining_worker_ends_all_the_same() {
    let node = Node::start().await;
    let mut desk = Desk::open("w", node.client().addresses());
    node.create(task(KIND)).await;
    let attempt = desk.next().await;
    let stopped = node.stop().await;
    desk.drain.now();
    assert_eq!(attempt.stopped().await, StopReason::Draining);
    attempt.end(Err(HandlerError::new("interrupted")));
    desk.closed().await.unwrap();
    drop(stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_does_not_hold_the_worker_for_ever() {
    let node = Node::start().await;
    let (started, begun) = tokio::sync::oneshot::channel();
    let started = std::sync::Mutex::new(Some(started));
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = std::sync::Arc::new(std::sync::Mutex::new(blocked));
    // It does not even let itself be dropped: it holds its thread.
    let worker = Worker::builder(node.client())
        .name("w")
        .handler("stuck", move |_, _: Value| {
            started.lock().unwrap().take().unwrap().send(()).unwrap();
            let blocked = blocked.clone();
            async move {
                let _ = blocked.lock().unwrap().recv();
                Ok::<_, HandlerError>(())
            }
        })
        .build()
        .unwrap();
    let drain = worker.drain();
    let running = tokio::spawn(worker.run());
    let id = node.create(task("stuck")).await;
    in_time(begun).await.unwrap();
    drain.now();
    in_time(running).await.unwrap().unwrap();
    let left = node.once(&id, |task| task.lost == 1).await;
    assert_eq!(left.error.unwrap().reason(), v1::FailureReason::WorkerLost);
    release.send(()).unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_dropped_tells_what_runs_to_stop() {
    let node = Node::start().await;
    let mut desk = Desk::open("w", node.client().addresses());
    node.create(task(KIND)).await;
    let attempt = desk.next().await;
    desk.kill().await;
    assert_eq!(attempt.stopped().await, StopReason::LeaseLost);
    node.stop().await;
}
