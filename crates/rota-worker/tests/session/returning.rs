//! A worker comes back: after a restart of the server, after broken connections, after too long.

use std::time::Duration;

use rota_client::{task, v1};
use rota_engine::EngineOptions;
use rota_worker::StopReason;
use serde_json::Value;

use crate::{
    desk::{Desk, KIND},
    node::Node,
    proxy::{Proxy, Way},
};

/// Larger than what else goes up meanwhile, and less than a stream may send before it is told to go on.
const LARGE: usize = 40_000;

fn large() -> Value {
    Value::from("r".repeat(LARGE))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_goes_on_through_a_restart_of_the_server() {
    let node = Node::start().await;
    let mut desk = Desk::open("w", node.client().addresses());
    for _ in 0..2 {
        node.create(task(KIND)).await;
    }
    // Two that come in one message may begin in either order.
    let (first, second) = (desk.next().await, desk.next().await);
    let [before, during] = [&first, &second].map(|it| it.context.task_id().to_owned());
    node.once(&during, |task| task.status() == v1::TaskStatus::Running).await;
    let stopped = node.stop().await;
    // One ends while nobody listens.
    first.complete();
    let node = stopped.start().await;
    assert_eq!(node.ended(&before).await.status(), v1::TaskStatus::Completed);
    // The other ends when the server is back, and has said meanwhile that it runs.
    node.once(&during, |task| task.status() == v1::TaskStatus::Running).await;
    second.complete();
    assert_eq!(node.ended(&during).await.status(), v1::TaskStatus::Completed);
    for id in [before, during] {
        assert_eq!(node.attempts(&id).await, [None], "one attempt, which completed");
    }
    // And the worker takes new tasks.
    let third = node.create(task(KIND)).await;
    desk.next().await.complete();
    assert_eq!(node.ended(&third).await.status(), v1::TaskStatus::Completed);
    assert!(desk.is_empty(), "nothing ran twice");
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_did_not_arrive_is_said_again() {
    let node = Node::start().await;
    let proxy = Proxy::to(node.address).await;
    let mut desk = Desk::open("w", &proxy.url());
    let id = node.create(task(KIND)).await;
    let attempt = desk.next().await;
    proxy.set_up(Way::Lost);
    attempt.end(Ok(large()));
    proxy.has_lost(LARGE).await;
    assert_ne!(node.client().get_task(&id).await.unwrap().status(), v1::TaskStatus::Completed);
    proxy.cut();
    let ended = node.ended(&id).await;
    assert_eq!((ended.status(), ended.attempt), (v1::TaskStatus::Completed, 1));
    assert_eq!(node.client().get_result(&id).await.unwrap().len(), LARGE + 2);
    assert!(desk.is_empty(), "nothing ran twice");
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_whose_answer_did_not_arrive_does_no_harm_when_said_again() {
    let node = Node::start().await;
    let proxy = Proxy::to(node.address).await;
    let mut desk = Desk::open("w", &proxy.url());
    let id = node.create(task(KIND)).await;
    let attempt = desk.next().await;
    proxy.set_down(Way::Lost);
    attempt.complete();
    assert_eq!(node.ended(&id).await.status(), v1::TaskStatus::Completed);
    proxy.has_lost(1).await;
    proxy.cut();
    // The worker is back when it runs the next one.
    let next = node.create(task(KIND)).await;
    desk.next().await.complete();
    assert_eq!(node.ended(&next).await.status(), v1::TaskStatus::Completed);
    assert_eq!(node.attempts(&id).await, [None]);
    assert!(desk.is_empty(), "nothing ran twice");
    desk.drain.start();
    desk.closed().await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_did_not_arrive_is_sent_again() {
    let node = Node::start().await;
    let proxy = Proxy::to(node.address).await;
    let mut desk = Desk::open("w", &proxy.url());
    // It serves once it has run something.
    node.create(task(KIND)).await;
    desk.next().await.complete();
    proxy.set_down(Way::Lost);
    let id = node.create(task(KIND).payload_json("x".repeat(LARGE).as_str())).await;
    proxy.has_lost(LARGE).await;
    assert!(desk.is_empty());
    proxy.cut();
    desk.next().await.complete();
    let ended = node.ended(&id).await;
    assert_eq!((ended.status(), ended.attempt), (v1::TaskStatus::Completed, 1));
    assert!(desk.is_empty(), "nothing ran twice");
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_gone_is_given_nothing_more() {
    let node = Node::start().await;
    let mut gone = Desk::open("gone", node.client().addresses());
    node.create(task(KIND)).await;
    gone.next().await.complete();
    gone.kill().await;
    node.without("gone").await;
    let mut desk = Desk::open("w", node.client().addresses());
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(node.create(task(KIND)).await);
    }
    for _ in 0..4 {
        desk.next().await.complete();
    }
    for id in ids {
        let ended = node.ended(&id).await;
        assert_eq!((ended.status(), ended.attempt), (v1::TaskStatus::Completed, 1));
    }
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_welcome_was_lost_gets_what_its_session_was_given() {
    let node = Node::start().await;
    let proxy = Proxy::to(node.address).await;
    proxy.set_down(Way::Lost);
    let id = node.create(task(KIND)).await;
    let mut desk = Desk::open("w", &proxy.url());
    node.once(&id, |task| task.status() == v1::TaskStatus::Assigned).await;
    proxy.set_down(Way::Open);
    proxy.cut();
    desk.next().await.complete();
    let ended = node.ended(&id).await;
    assert_eq!((ended.status(), ended.attempt), (v1::TaskStatus::Completed, 1));
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_again_and_again_lose_nothing_and_double_nothing() {
    let node = Node::start().await;
    let proxy = Proxy::to(node.address).await;
    let mut desk = Desk::open("w", &proxy.url());
    let mut ids = Vec::new();
    for round in 0..30 {
        ids.push(node.create(task(KIND)).await);
        if round % 3 == 0 {
            proxy.cut();
        }
        desk.next().await.complete();
        if round % 3 == 1 {
            proxy.cut();
        }
    }
    for id in ids {
        let ended = node.ended(&id).await;
        assert_eq!((ended.status(), ended.attempt), (v1::TaskStatus::Completed, 1), "{id}");
    }
    assert!(desk.is_empty(), "nothing ran twice");
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_cut_off_for_too_long_learns_that_its_lease_is_lost() {
    let ttl = Duration::from_millis(600);
    let node = Node::start_with(EngineOptions { session_ttl: ttl, ..Default::default() }).await;
    let proxy = Proxy::to(node.address).await;
    let mut far = Desk::open("far", &proxy.url());
    let id = node.create(task(KIND).backoff(Duration::ZERO, 1.0, Duration::ZERO)).await;
    let old = far.next().await;
    proxy.set_up(Way::Held);
    proxy.set_down(Way::Held);
    let mut near = Desk::open("near", node.client().addresses());
    let new = near.next().await;
    assert!(new.context.lease_token() > old.context.lease_token(), "the token only grows");
    assert_eq!(new.context.attempt(), 2);
    assert_eq!(old.context.stop_reason(), None, "it cannot know");
    proxy.cut();
    assert_eq!(old.stopped().await, StopReason::LeaseLost);
    old.complete();
    new.end(Ok(Value::from("mine")));
    assert_eq!(node.ended(&id).await.worker(), "near");
    assert_eq!(node.client().get_result(&id).await.unwrap(), "\"mine\"");
    let lost = Some(v1::FailureReason::WorkerLost);
    assert_eq!(node.attempts(&id).await, [lost, None]);
    // Its slots are free again: both serve.
    near.kill().await;
    let [a, b] = [node.create(task(KIND)).await, node.create(task(KIND)).await];
    let (first, second) = (far.next().await, far.next().await);
    first.complete();
    second.complete();
    node.ended(&a).await;
    node.ended(&b).await;
    far.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_network_forgets_costs_no_lease() {
    let session_ttl = Duration::from_secs(2);
    let node = Node::start_with(EngineOptions { session_ttl, ..Default::default() }).await;
    let proxy = Proxy::to(node.address).await;
    // There is no other node to go to, only another connection.
    let mut desk = Desk::open("w", &proxy.url());
    let id = node.create(task(KIND)).await;
    let attempt = desk.next().await;
    proxy.forget();
    let next = node.create(task(KIND)).await;
    desk.next().await.complete();
    assert_eq!(node.ended(&next).await.status(), v1::TaskStatus::Completed);
    attempt.complete();
    assert_eq!(node.ended(&id).await.status(), v1::TaskStatus::Completed);
    for id in [id, next] {
        assert_eq!(node.attempts(&id).await, [None], "one attempt, which completed");
    }
    assert!(desk.is_empty(), "nothing ran twice");
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stands_still_costs_no_lease_while_another_serves() {
    let session_ttl = Duration::from_secs(2);
    let node = Node::start_with(EngineOptions { session_ttl, ..Default::default() }).await;
    let (silent, other) = (Proxy::to(node.address).await, Proxy::to(node.address).await);
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let urls = [silent.url(), nobody, other.url()];
    let mut desk = Desk::open_at("w", &urls.each_ref().map(String::as_str), |builder| builder);
    let id = node.create(task(KIND)).await;
    let attempt = desk.next().await;
    // Nothing says that this way is dead but that no heartbeat is acknowledged.
    silent.set_up(Way::Held);
    silent.set_down(Way::Held);
    let next = node.create(task(KIND)).await;
    desk.next().await.complete();
    assert_eq!(node.ended(&next).await.status(), v1::TaskStatus::Completed);
    attempt.complete();
    assert_eq!(node.ended(&id).await.status(), v1::TaskStatus::Completed);
    for id in [id, next] {
        assert_eq!(node.attempts(&id).await, [None], "one attempt, which completed");
    }
    assert!(desk.is_empty(), "nothing ran twice");
    desk.kill().await;
    silent.cut();
    node.stop().await;
}
