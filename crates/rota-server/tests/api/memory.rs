//! Memory: many legal requests at once take no more than they may.

use std::time::Duration;

use rota_proto::v1::{self, task_service_client::TaskServiceClient};
use rota_server::Limits;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Node, PATIENCE};

/// The head of a request with a large body.
const LARGE: &str = "POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                     content-type: application/json\r\ncontent-length: 1000000\r\n\r\n";

/// Sends the head, and so much of the body.
async fn begin(node: &Node, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(LARGE.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'1'; bytes]).await.unwrap();
    stream
}

/// A node whose room for large bodies is taken, but for less than one more needs, and who took it.
async fn crowded() -> (Node, [TcpStream; 2]) {
    let limits = Limits {
        request_bytes: 1 << 20,
        bodies_in_flight_bytes: 2 << 20,
        body_timeout: Duration::from_secs(4),
        ..Limits::default()
    };
    let node = Node::start_limited(limits).await;
    let slow = [begin(&node, 600_000).await, begin(&node, 256 << 10).await];
    let held = async {
        let bytes = |line: &str| line.strip_prefix("rota_api_bodies_bytes ")?.parse::<u64>().ok();
        // Half a mebibyte and the part for one body alone (5/16), then a quarter.
        while node.metrics().await.lines().find_map(bytes) < Some(17 << 16) {}
    };
    timeout(PATIENCE, held).await.expect("its room is taken");
    (node, slow)
}

async fn answer(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // How the connection ended does not matter, only that it did and what came before.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn bodies_beyond_the_budget_are_refused_and_small_ones_pass() {
    let (node, [slow, _also_slow]) = crowded().await;
    let small = async {
        node.create(&json!({ "kind": "k" })).await;
    };
    let large = async { answer(begin(&node, 900_000).await).await };
    let (refused, ()) = tokio::join!(large, small);
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    assert!(refused.contains(r#""name":"bodies_in_flight_bytes","max":2097152"#), "{refused}");
    let slow = answer(slow).await;
    assert!(slow.starts_with("HTTP/1.1 408 "), "{slow}");
    // Its room is free again.
    let payload = "1".repeat(800_000);
    node.create(&json!({ "kind": "k", "payload": payload })).await;
    node.stop().await;
}

#[tokio::test]
async fn calls_beyond_the_budget_are_refused() {
    let (node, slow) = crowded().await;
    let mut client = TaskServiceClient::new(node.channel().await);
    let payload = vec![b'1'; 800_000].into();
    let task = v1::NewTask { kind: "k".to_owned(), payload, ..v1::NewTask::default() };
    let status = client.create_task(v1::CreateTaskRequest { task: Some(task) }).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["limit"], "bodies_in_flight_bytes");
    assert!(details.retry_info().is_some());
    drop(slow);
    node.stop().await;
}
