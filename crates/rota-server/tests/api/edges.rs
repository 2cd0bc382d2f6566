//! The edges of what HTTP and JSON allow: each is taken faithfully or refused, never ignored.

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Answer, Node};

async fn create(node: &Node, keys: &[&str], body: &Value) -> Answer {
    let mut request = Request::post("/v1/tasks").header("content-type", "application/json");
    for key in keys {
        request = request.header("Idempotency-Key", *key);
    }
    node.send(request.body(Full::from(body.to_string())).unwrap()).await
}

#[tokio::test]
async fn the_header_for_idempotency_counts_as_the_field() {
    let node = Node::start().await;
    let body = json!({ "kind": "k" });
    let keyed = json!({ "kind": "k", "idempotency_key": "one" });
    let first = create(&node, &["one"], &body).await;
    assert_eq!((first.status, &first.json()["idempotency_key"]), (201, &json!("one")));
    for (keys, body) in
        [(&["one"][..], &body), (&["\"one\""], &body), (&["one"], &keyed), (&[], &keyed)]
    {
        let again = create(&node, keys, body).await;
        assert_eq!((again.status, &again.json()["id"]), (200, &first.json()["id"]), "{keys:?}");
    }
    for keys in [&["two"][..], &["one", "one"], &[""], &["\"\""]] {
        let refused = create(&node, keys, &keyed).await;
        assert_eq!((refused.status, refused.fields()), (400, vec!["idempotency-key".into()]));
    }
    let long = create(&node, &[&"a".repeat(257)], &body).await;
    assert_eq!(long.fields(), ["idempotency_key"]);
    let batch = Request::post("/v1/tasks/batch")
        .header("content-type", "application/json")
        .header("idempotency-key", "three")
        .body(Full::from(r#"{"tasks":[{"kind":"k"}]}"#))
        .unwrap();
    assert_eq!(node.send(batch).await.fields(), ["idempotency-key"]);
    node.stop().await;
}

#[tokio::test]
async fn a_task_is_not_moved_beyond_its_expiry() {
    let node = Node::start().await;
    let id = node
        .create(&json!({ "kind": "k", "delay": "1h", "expires_at": "2490-01-01T00:00:00Z" }))
        .await;
    let path = format!("/v1/tasks/{id}/reschedule");
    for (body, field) in [
        (json!({ "run_at": "2490-01-01T00:00:01Z" }), "run_at"),
        (json!({ "delay": "400d", "run_at": null }), ""),
        (json!({ "delay": "146000d" }), ""),
    ] {
        let answer = node.post_json(&path, &body).await;
        if field.is_empty() {
            assert_eq!(answer.status, 200, "{answer:?}");
        } else {
            assert_eq!((answer.status, answer.fields()), (400, vec![field.to_owned()]));
        }
    }
    let id = node
        .create(&json!({ "kind": "k", "delay": "1m", "expires_at": "2100-01-01T00:00:00Z" }))
        .await;
    let path = format!("/v1/tasks/{id}/reschedule");
    let answer = node.post_json(&path, &json!({ "delay": "36500d" })).await;
    assert_eq!((answer.status, answer.fields()), (400, vec!["delay".to_owned()]));
    let task = node.get(&format!("/v1/tasks/{id}")).await.json();
    assert_eq!(task["status"], "scheduled", "nothing was changed");
    node.stop().await;
}

#[tokio::test]
async fn integers_may_be_written_with_a_fraction_of_nothing() {
    let node = Node::start().await;
    let task = r#"{"kind":"k","priority":7.0,"retry":{"max_attempts":3.0,"max_lost":0.0}}"#;
    let made = node.post("/v1/tasks", task).await.json();
    assert_eq!((&made["priority"], &made["retry"]["max_attempts"]), (&json!(7), &json!(3)));
    let leased = node.post("/v1/leases", r#"{"worker":"w","max":1.0}"#).await.json();
    let token = leased["tasks"][0]["lease_token"].as_u64().unwrap();
    let path = format!("/v1/tasks/{}/complete", made["id"].as_str().unwrap());
    let done = node.post(&path, format!(r#"{{"lease_token":{token}.0}}"#)).await;
    assert_eq!(done.status, 204, "{done:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_request_names_one_host_and_ends_its_lines_fully() {
    let node = Node::start().await;
    for (head, status) in [
        ("GET /healthz HTTP/1.1\r\nhost: localhost\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nhost:\r\n", 200),
        ("GET /healthz HTTP/1.0\r\n", 200),
        ("GET /healthz HTTP/1.1\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nhost: localhost\r\nHost: localhost\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nhost: a b\r\n", 400),
        ("GET /healthz HTTP/1.1\nhost: localhost\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nhost: localhost\n", 400),
    ] {
        let answer = node.send_raw(format!("{head}connection: close\r\n\r\n").as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.{} {status}", head.contains("HTTP/1.1") as u8)),
            "{head:?}: {answer}"
        );
        assert!(status == 200 || answer.contains("application/problem+json"), "{answer}");
    }
    node.stop().await;
}

/// Wherever a head ends for a proxy in between, it ends there for the server too: in every head of a connection.
#[tokio::test]
async fn later_requests_of_a_connection_end_their_lines_fully_too() {
    let node = Node::start().await;
    let task = "{\n\"kind\":\n\"k\"\n}";
    let post = "POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let sized = format!("{post}Content-Length: {}\r\n\r\n{task}", task.len());
    let chunked = format!(
        "{post}transfer-encoding: chunked\r\n\r\n3\r\n{}\r\n{:x};a=b\r\n{}\r\n0\r\nx: y\r\n\r\n",
        &task[..3],
        task.len() - 3,
        &task[3..]
    );
    let get = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    for first in [get, &sized, &chunked] {
        let first_status = if first == get { "HTTP/1.1 200" } else { "HTTP/1.1 201" };
        let fine = node.send_raw(format!("{first}{first}{last}").as_bytes()).await;
        assert_eq!(fine.matches(first_status).count(), if first == get { 3 } else { 2 }, "{fine}");
        assert!(!fine.contains(" 400 "), "{first}: {fine}");
        for wrong in [
            "GET /healthz HTTP/1.1\nhost: localhost\r\n\r\n",
            "GET /healthz HTTP/1.1\r\nhost: localhost\n\r\n",
            "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\n",
        ] {
            let answer = node.send_raw(format!("{first}{wrong}").as_bytes()).await;
            assert!(answer.starts_with(first_status), "{first}{wrong}: {answer}");
            let (_, refused) =
                answer.split_once("HTTP/1.1 400 ").unwrap_or_else(|| panic!("{answer}"));
            assert!(refused.contains("application/problem+json"), "{refused}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_repeat_is_answered_after_its_task_has_expired() {
    let node = Node::start().await;
    let soon = node.engine().info().now + rota_core::Millis(1500);
    let nanos = i32::try_from(soon.0 % 1000).unwrap() * 1_000_000;
    let soon = rota_proto::Date { seconds: soon.0 / 1000, nanos };
    let task = json!({ "kind": "k", "idempotency_key": "order-1", "expires_at": soon });
    let id = node.create(&task).await;
    let ended = node.get(&format!("/v1/tasks/{id}?wait=20s")).await.json();
    assert_eq!(ended["status"], "expired", "{ended}");
    let repeat = node.post_json("/v1/tasks", &task).await;
    assert_eq!((repeat.status, &repeat.json()["id"]), (200, &json!(id)), "{repeat:?}");
    let other = json!({ "kind": "k", "idempotency_key": "order-2", "expires_at": soon });
    let other = node.post_json("/v1/tasks", &other).await;
    assert_eq!((other.status, other.fields()), (400, vec!["expires_at".to_owned()]));
    node.stop().await;
}
