//! Connections: what each may take, and how they end.

use std::time::Duration;

use rota_server::Limits;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Node, PATIENCE};

fn hasty() -> Limits {
    let short = Duration::from_millis(200);
    Limits { header_timeout: short, body_timeout: short, ..Limits::default() }
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let node = Node::start_limited(hasty()).await;
    for begun in ["", "P", "PRI * HTTP/2.0\r\n", "GET /healthz HT", "GET / HTTP/1.1\r\nx: y\r\n"] {
        let answer = node.send_raw(begun.as_bytes()).await;
        assert!(!answer.contains("HTTP/1.1 200"), "{begun}: {answer}");
    }
    assert_eq!(node.get("/healthz").await.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_answered_408_and_names_the_limit() {
    let node = Node::start_limited(hasty()).await;
    for begun in ["P", "GET /healthz HT", "GET / HTTP/1.1\r\nx: y\r\n"] {
        let answer = node.send_raw(begun.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{begun}: {answer}");
        assert!(answer.contains("content-type: application/problem+json"), "{answer}");
        assert!(answer.contains(r#""limit":{"name":"header_timeout_ms","max":200}"#), "{answer}");
    }
    // Nothing was asked: nothing is said.
    assert_eq!(node.send_raw(b"").await, "");
    let answered = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert!(!node.send_raw(answered).await.contains("408"));
    node.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_408() {
    let node = Node::start_limited(hasty()).await;
    let head = "POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let answer = node.send_raw(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""reason":"request_timeout""#), "{answer}");
    assert!(answer.contains(r#""limit":{"name":"body_timeout_ms","max":200}"#), "{answer}");
    node.stop().await;
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let node = Node::start_limited(hasty()).await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(1 << 20));
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    let address = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(70_000));
    for (bytes, status, reason) in [
        ("\x16\x03\x01\x02\x00\x01\x00\x01", "400", "invalid"),
        ("GET /healthz\0 HTTP/1.1\r\n\r\n", "400", "invalid"),
        ("hello\r\n\r\n", "400", "invalid"),
        (&long, "431", "head_too_large"),
        (&headers, "431", "head_too_large"),
        (&address, "414", "uri_too_long"),
    ] {
        let answer = node.send_raw(bytes.as_bytes()).await;
        let shown: String = bytes.chars().take(40).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer}");
        assert!(answer.contains("content-type: application/problem+json"), "{shown:?}: {answer}");
        assert!(answer.contains(&format!(r#""reason":"{reason}""#)), "{shown:?}: {answer}");
    }
    // The preface of HTTP/2 and then none of its frames.
    node.send_raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(node.get("/healthz").await.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn a_connection_too_many_is_told_and_a_place_is_used_again() {
    let node = Node::start_limited(Limits { connections: 2, ..Limits::default() }).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        held.push(stream);
    }
    let answer = node.send_raw(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains(r#""limit":{"name":"connections","max":2}"#), "{answer}");
    drop(held);
    let again = async {
        loop {
            let answer = node
                .send_raw(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            if answer.await.starts_with("HTTP/1.1 200 ") {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("a place once they are gone");
    node.stop().await;
}

#[tokio::test]
async fn a_stop_answers_who_waits_and_ends_idle_connections() {
    let node = Node::start().await;
    let id = node.create(&json!({ "kind": "k" })).await;
    let idle = TcpStream::connect(node.address).await.unwrap();
    let mut waits = TcpStream::connect(node.address).await.unwrap();
    let ask = format!("GET /v1/tasks/{id}?wait=60s HTTP/1.1\r\nhost: localhost\r\n\r\n");
    waits.write_all(ask.as_bytes()).await.unwrap();
    let mut leases = TcpStream::connect(node.address).await.unwrap();
    let body = r#"{"worker":"w","kinds":["none"],"wait":"60s"}"#;
    let ask = format!(
        "POST /v1/leases HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    leases.write_all(ask.as_bytes()).await.unwrap();
    // The worker is shown once its call has arrived.
    let arrived = async { while node.get("/v1/workers").await.json()["workers"] == json!([]) {} };
    tokio::time::timeout(PATIENCE, arrived).await.unwrap();
    tokio::time::timeout(Duration::from_secs(8), node.stop()).await.expect("no wait to the end");
    let mut answer = String::new();
    waits.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.clear();
    leases.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(idle);
}
