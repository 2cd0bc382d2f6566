//! A worker that is refused: for good at its first connection, and never later.

use std::time::Duration;

use rota_client::{task, v1};
use rota_engine::EngineOptions;
use rota_server::Tokens;
use rota_worker::WorkerError;
use serde_json::Value;

use crate::{
    desk::{Desk, KIND},
    gate::{Gate, Odd},
    in_time,
    node::Node,
};

/// Answers that say nothing about the worker: of proxies, and of servers that are set up wrongly.
const ODD: [Odd; 10] = [
    Odd(401, None),
    Odd(403, None),
    Odd(404, None),
    Odd(413, None),
    Odd(200, None),
    Odd(200, Some(16)),
    Odd(200, Some(7)),
    Odd(200, Some(12)),
    Odd(200, Some(3)),
    Odd(200, Some(8)),
];

async fn patient_node() -> Node {
    let session_ttl = Duration::from_secs(60);
    Node::start_with(EngineOptions { session_ttl, ..EngineOptions::default() }).await
}

fn unknown_token() -> Tokens {
    Tokens::new(["a-token-that-the-worker-does-not-have".to_owned()]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_in_between_cost_no_task_and_no_result() {
    let node = patient_node().await;
    let gate = Gate::to(node.address).await;
    let mut desk = Desk::open("w", &gate.url());
    for odd in ODD {
        let [runs, ends] = [node.create(task(KIND)).await, node.create(task(KIND)).await];
        let (first, second) = (desk.next().await, desk.next().await);
        gate.answer(Some(odd));
        gate.has_answered(1).await;
        // It ends while nobody takes its result.
        first.complete();
        gate.has_answered(1).await;
        assert_eq!(second.context.stop_reason(), None, "{odd:?}");
        gate.answer(None);
        second.complete();
        for id in [runs, ends] {
            let ended = node.ended(&id).await;
            assert_eq!(ended.status(), v1::TaskStatus::Completed, "{odd:?}");
            assert_eq!(node.attempts(&id).await, [None], "{odd:?}");
        }
    }
    assert!(desk.is_empty(), "nothing ran twice");
    desk.drain.start();
    desk.closed().await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_at_first_does_not_end_the_worker() {
    let node = Node::start().await;
    let gate = Gate::to(node.address).await;
    gate.answer(Some(Odd(401, None)));
    let mut desk = Desk::open("w", &gate.url());
    gate.has_answered(2).await;
    gate.answer(None);
    let id = node.create(task(KIND)).await;
    desk.next().await.complete();
    assert_eq!(node.ended(&id).await.status(), v1::TaskStatus::Completed);
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_ends_a_worker_that_was_never_connected() {
    let node = Node::start().await.stop().await.start_protected(unknown_token()).await;
    let desk = Desk::open("w", node.client().addresses());
    match in_time(desk.closed()).await {
        Err(WorkerError::Refused(error)) => assert_eq!(error.reason_word(), "unauthenticated"),
        other => panic!("not refused: {other:?}"),
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_later_ends_nothing() {
    let node = patient_node().await;
    let mut desk = Desk::open("w", node.client().addresses());
    let id = node.create(task(KIND)).await;
    let attempt = desk.next().await;
    let node = node.stop().await.start_protected(unknown_token()).await;
    attempt.complete();
    let node = node.stop().await.start().await;
    assert_eq!(node.ended(&id).await.status(), v1::TaskStatus::Completed);
    assert_eq!(node.attempts(&id).await, [None]);
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_that_refuses_does_not_end_a_worker_that_has_others() {
    let good = Node::start().await;
    let bad = Node::start().await.stop().await.start_protected(unknown_token()).await;
    let urls = [bad.client().addresses().to_owned(), good.client().addresses().to_owned()];
    let mut desk = Desk::open_at("w", &urls.each_ref().map(String::as_str), |builder| builder);
    let id = good.create(task(KIND)).await;
    desk.next().await.complete();
    assert_eq!(good.ended(&id).await.status(), v1::TaskStatus::Completed);
    desk.kill().await;
    good.stop().await;
    bad.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_larger_than_a_request_in_all_arrive_one_by_one() {
    let node = Node::start_taking(2 << 20, 1 << 20).await;
    let url = node.client().addresses().to_owned();
    let mut desk = Desk::open_with("w", &url, |builder| builder.slots(5));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(node.create(task(KIND)).await);
    }
    let mut attempts = Vec::new();
    for _ in 0..5 {
        attempts.push(desk.next().await);
    }
    for attempt in attempts {
        attempt.end(Ok(Value::from("r".repeat(985_000))));
    }
    for id in ids {
        assert_eq!(node.ended(&id).await.status(), v1::TaskStatus::Completed);
        assert_eq!(node.attempts(&id).await, [None]);
    }
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_no_request_can_carry_fails_alone_and_says_why() {
    let node = Node::start_taking(1 << 20, 2 << 20).await;
    let url = node.client().addresses().to_owned();
    let mut desk = Desk::open_with("w", &url, |builder| builder.slots(2));
    for _ in 0..2 {
        let [large, small] = [node.create(task(KIND)).await, node.create(task(KIND)).await];
        let mut attempts = [desk.next().await, desk.next().await];
        attempts.sort_by_key(|attempt| attempt.context.task_id() == small);
        let [first, second] = attempts;
        first.end(Ok(Value::from("r".repeat(1 << 20))));
        second.complete();
        assert_eq!(node.ended(&small).await.status(), v1::TaskStatus::Completed);
        let ended = node.ended(&large).await;
        assert_eq!((ended.status(), ended.attempt), (v1::TaskStatus::Failed, 1));
        let error = ended.error.unwrap();
        assert_eq!(error.reason(), v1::FailureReason::Permanent);
        assert!(error.message.contains("limit request_bytes"), "{}", error.message);
    }
    desk.kill().await;
    node.stop().await;
}
