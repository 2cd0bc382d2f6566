//! Events over server-sent events and gRPC, from the leader and by way of a follower.

use std::time::Duration;

use http::Request;
use http_body_util::Full;
use rota_engine::{EngineOptions, EventLimits, Role};
use rota_proto::v1::{self, event_service_client::EventServiceClient};
use rota_server::{ServerOptions, Tokens};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::{
    cluster::{Pair, until},
    grpc::told,
    harness::{Node, PATIENCE},
    sse::{Http, Sse},
};

#[tokio::test]
async fn a_task_is_followed_with_curl_alone() {
    let node = Node::start().await;
    for http in [Http::One, Http::Two] {
        let mut stream = Sse::open_with(&node, http, "?type=task", &[]).await;
        assert_eq!(stream.head.headers["content-type"], "text/event-stream");
        assert_eq!(stream.head.headers["cache-control"], "no-store");
        let first = stream.next().await;
        assert_eq!((first.event.as_str(), first.retry.as_deref()), ("ready", Some("1000")));
        let secret = json!({ "kind": "k", "payload": "secret", "labels": { "team": "a" } });
        let id = node.create(&secret).await;
        let created = stream.next().await;
        assert_eq!(
            (created.event.as_str(), &created.data["task"]["id"]),
            ("task.created", &json!(id))
        );
        assert_eq!(created.data["type"], "task.created");
        assert_eq!(created.data["id"], json!(created.id));
        let task = &created.data["task"];
        assert_eq!((&task["status"], &task["attempt"]), (&json!("pending"), &json!(0)));
        assert_eq!((&task["queue"], &task["labels"]["team"]), (&json!("default"), &json!("a")));
        assert!(!created.data.to_string().contains("secret"), "{}", created.data);
        let (leased, token) = node.lease("k").await;
        assert_eq!(leased, id);
        let done = json!({ "lease_token": token, "result": "secret" });
        let done = node.post_json(&format!("/v1/tasks/{id}/complete"), &done).await;
        assert_eq!(done.status, 204, "{done:?}");
        let started = stream.next().await;
        assert_eq!(started.event, "task.started");
        assert_eq!((&started.data["task"]["worker"]), (&json!("w")));
        let completed = stream.next().await;
        let task = &completed.data["task"];
        assert_eq!(completed.event, "task.completed");
        assert_eq!((&task["status"], &task["attempt"]), (&json!("completed"), &json!(1)));
        assert_eq!((&task["has_result"], task.get("result")), (&json!(true), None));
        assert!(task["finished_at"].is_string() && task.get("labels").is_none(), "{task}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_client_goes_on_where_it_was() {
    let node = Node::start().await;
    let (mut stream, began) = Sse::ready(&node, "?kind=k").await;
    let first = node.create(&json!({ "kind": "k" })).await;
    let seen = stream.next().await.id.unwrap();
    drop(stream);
    let second = node.create(&json!({ "kind": "k" })).await;
    let header = [("last-event-id", seen.as_str())];
    // The header is newer than an address that a browser uses again.
    let stale = format!("?kind=k&last_event_id={began}");
    let mut by_header = Sse::open_with(&node, Http::One, &stale, &header).await;
    let mut by_query = Sse::open(&node, &format!("?kind=k&last_event_id={seen}")).await;
    let mut from_start = Sse::open(&node, &stale).await;
    for stream in [&mut by_header, &mut by_query] {
        assert_eq!(stream.next().await.event, "ready");
        assert_eq!(stream.task().await, ("task.created".to_owned(), second.clone()));
    }
    assert_eq!(from_start.next().await.event, "ready");
    assert_eq!(from_start.task().await.1, first);
    assert_eq!(from_start.task().await.1, second);
    let mut other = Sse::open(&node, "?last_event_id=99-1-0").await;
    let reset = other.next().await;
    assert_eq!((reset.event.as_str(), &reset.data["reason"]), ("reset", &json!("leader_changed")));
    assert_ne!(reset.id.as_deref(), Some("99-1-0"), "it goes on from here");
    node.stop().await;
}

#[tokio::test]
async fn parameters_select_events() {
    let node = Node::start().await;
    let (mut by_id, _) = Sse::ready(&node, "?task=a/1,a/2").await;
    let (mut by_prefix, _) = Sse::ready(&node, "?task_prefix=a/").await;
    let (mut by_queue, _) = Sse::ready(&node, "?queue=q&type=task.cancelled,queue").await;
    let (mut by_label, _) = Sse::ready(&node, "?label=team=a&status=cancelled&brief=true").await;
    for (id, team) in [("a/1", "a"), ("b/1", "a"), ("a/3", "b"), ("a/2", "a")] {
        let task = json!({ "id": id, "kind": "k", "queue": "q", "labels": { "team": team } });
        node.create(&task).await;
    }
    assert_eq!(node.post("/v1/queues/q/pause", "").await.status, 200);
    assert_eq!(node.post("/v1/tasks/a%2F1/cancel", "").await.status, 200);
    let created = |id: &str| ("task.created".to_owned(), id.to_owned());
    let cancelled = || ("task.cancelled".to_owned(), "a/1".to_owned());
    assert_eq!(by_id.task().await, created("a/1"));
    assert_eq!(by_id.task().await, created("a/2"));
    assert_eq!(by_id.task().await, cancelled());
    for id in ["a/1", "a/3", "a/2"] {
        assert_eq!(by_prefix.task().await, created(id));
    }
    let paused = by_queue.next().await;
    assert_eq!(
        (paused.event.as_str(), &paused.data["queue"]["name"]),
        ("queue.paused", &json!("q"))
    );
    assert_eq!(by_queue.task().await, cancelled());
    assert_eq!(by_label.task().await, cancelled());
    node.stop().await;
}

#[tokio::test]
async fn grpc_streams_the_same() {
    let node = Node::start().await;
    let mut client = EventServiceClient::new(node.channel().await);
    let request = v1::WatchEventsRequest { types: vec!["task".to_owned()], ..Default::default() };
    let mut stream = client.watch_events(request.clone()).await.unwrap().into_inner();
    let ready = stream.message().await.unwrap().unwrap();
    assert_eq!(ready.r#type, "ready");
    let id = node.create(&json!({ "kind": "k" })).await;
    let event = stream.message().await.unwrap().unwrap();
    let task = event.task.unwrap();
    assert_eq!((event.r#type.as_str(), &task.id), ("task.created", &id));
    assert_eq!(task.status(), v1::TaskStatus::Pending);
    let again = v1::WatchEventsRequest { last_event_id: Some(ready.id), ..request };
    let mut again = client.watch_events(again).await.unwrap().into_inner();
    assert_eq!(again.message().await.unwrap().unwrap().r#type, "ready");
    assert_eq!(again.message().await.unwrap().unwrap().id, event.id);
    node.stop_listening().await;
    let end = stream.message().await.unwrap().unwrap();
    assert_eq!((end.r#type.as_str(), end.reason()), ("end", "shutting_down"));
    assert!(stream.message().await.unwrap().is_none());
    drop((client, stream, again));
    node.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_field() {
    let node = Node::start().await;
    let tasks = vec!["x"; 101].join(",");
    for (query, field) in [
        ("?last_event_id=1-2", "last_event_id"),
        ("?last_event_id=", "last_event_id"),
        ("?last_event_id=1-2-3&last_event_id=1-2-3", "last_event_id"),
        ("?last_event_id=18446744073709551616-1-1", "last_event_id"),
        ("?type=task.none", "type"),
        ("?type=", "type"),
        ("?task=a%20b", "task"),
        ("?task=", "task"),
        (&format!("?task={tasks}"), "task"),
        ("?task_prefix=%00", "task_prefix"),
        ("?task_prefix=", "task_prefix"),
        ("?worker=", "worker"),
        ("?worker=a&worker=b", "worker"),
        ("?queue=a%20b", "queue"),
        ("?label=a", "label"),
        ("?status=none", "status"),
        ("?created_from=soon", "created_from"),
        ("?search=timeout", "search"),
        ("?priority=10", "priority"),
        ("?brief=1", "brief"),
        ("?brief=true&brief=true", "brief"),
        ("?unknown=1", "unknown"),
        ("?error_fingerprint=00000000000000ff", "error_fingerprint"),
    ] {
        let answer = node.get(&format!("/v1/events{query}")).await;
        assert_eq!((answer.status, answer.fields()), (400, vec![field.to_owned()]), "{query}");
    }
    for values in [&["x"][..], &["1-2-3", "1-2-3"], &["1-2-3\u{e9}"]] {
        let mut request = Request::get("/v1/events");
        for value in values {
            request = request.header("last-event-id", value.as_bytes());
        }
        let answer = node.send(request.body(Full::default()).unwrap()).await;
        assert_eq!(answer.status, 400, "{values:?}");
        assert_eq!(answer.fields().len(), 1);
    }
    let mut client = EventServiceClient::new(node.channel().await);
    let request = v1::WatchEventsRequest {
        filter: Some(v1::TaskFilter {
            queue: Some(String::new()),
            search: Some("timeout".to_owned()),
            ..Default::default()
        }),
        tasks: vec!["ok".to_owned(), "a b".to_owned()],
        types: vec!["none".to_owned()],
        last_event_id: Some("-1-0-0".to_owned()),
        ..Default::default()
    };
    let refused = client.watch_events(request).await.unwrap_err();
    let (code, _, fields) = told(&refused);
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(fields, ["filter.queue", "tasks[1]", "types[0]", "last_event_id"]);
    drop(client);
    node.stop().await;
}

#[tokio::test]
async fn more_listeners_than_allowed_are_told_to_come_later() {
    let engine = EngineOptions {
        events: EventLimits { listeners: 1, ..EventLimits::default() },
        ..EngineOptions::default()
    };
    let node = Node::start_with(engine, ServerOptions::default()).await;
    let (stream, _) = Sse::ready(&node, "").await;
    let refused = node.get("/v1/events").await;
    assert_eq!(refused.status, 429);
    assert!(refused.problem()["detail"].as_str().unwrap().contains("event_listeners"));
    assert_eq!(refused.header("retry-after"), "5");
    let info = node.get("/v1/info").await.json();
    assert_eq!(info["limits"]["event_listeners"], 1);
    let shown = node.metrics().await;
    assert!(shown.lines().any(|line| line == "rota_event_listeners 1"), "{shown}");
    drop(stream);
    let gone = async { while !node.metrics().await.contains("rota_event_listeners 0") {} };
    timeout(PATIENCE, gone).await.expect("its place is free");
    Sse::ready(&node, "").await;
    node.stop().await;
}

#[tokio::test]
async fn a_token_is_needed_as_for_other_reads() {
    let tokens = Tokens::new(["a-token-of-this-test".to_owned()]).unwrap();
    let options = ServerOptions { tokens, ..ServerOptions::default() };
    let node = Node::start_with(EngineOptions::default(), options).await;
    assert_eq!(node.get("/v1/events").await.status, 401);
    let mut client = EventServiceClient::new(node.channel().await);
    let refused = client.watch_events(v1::WatchEventsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let bearer = [("authorization", "Bearer a-token-of-this-test")];
    let mut stream = Sse::open_with(&node, Http::One, "", &bearer).await;
    assert_eq!(stream.next().await.event, "ready");
    drop((client, stream));
    node.stop().await;
}

#[tokio::test]
async fn a_comment_with_the_place_comes_while_nothing_happens() {
    let node = Node::start().await;
    let (mut stream, _) = Sse::ready(&node, "?type=worker").await;
    // No event of a worker, but the place moves past it.
    node.create(&json!({ "kind": "k" })).await;
    let mut last = None;
    tokio::time::pause();
    for _ in 0..2 {
        let began = Instant::now();
        let block = stream.next().await;
        assert_eq!((block.comment.as_deref(), block.event.as_str()), (Some("heartbeat"), ""));
        assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
        last = block.id.or(last);
    }
    tokio::time::resume();
    drop(stream);
    let mut again = Sse::open(&node, &format!("?last_event_id={}", last.unwrap())).await;
    assert_eq!(again.next().await.event, "ready");
    node.post("/v1/queues/q/pause", "").await;
    assert_eq!(again.next().await.event, "queue.paused", "the task is not told again");
    node.stop().await;
}

#[tokio::test]
async fn a_stopping_node_ends_its_streams_and_waits_for_none() {
    let node = Node::start().await;
    let (mut stream, at) = Sse::ready(&node, "").await;
    let began = Instant::now();
    let stopping = tokio::spawn(node.stop());
    let end = stream.next().await;
    assert_eq!((end.event.as_str(), &end.data["reason"]), ("end", &json!("shutting_down")));
    assert_eq!(end.id, Some(at));
    assert!(stream.block().await.is_none());
    stopping.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(9), "the server waited for the stream");
}

#[tokio::test]
async fn a_follower_carries_the_stream_and_says_when_it_ends() {
    let pair = Pair::start().await;
    let (mut direct, _) = Sse::ready(&pair.leader, "").await;
    let (mut carried, _) = Sse::ready(&pair.follower, "").await;
    let mut over_two = Sse::open_with(&pair.follower, Http::Two, "", &[]).await;
    assert_eq!(over_two.next().await.event, "ready");
    let refused = pair.follower.get("/v1/events?type=none").await;
    assert_eq!((refused.status, refused.fields()), (400, vec!["type".to_owned()]));
    let id = pair.leader.create(&json!({ "kind": "k" })).await;
    let mut last = String::new();
    for stream in [&mut direct, &mut carried, &mut over_two] {
        let event = stream.next().await;
        assert_eq!((event.event.as_str(), &event.data["task"]["id"]), ("task.created", &json!(id)));
        last = event.id.unwrap();
    }
    // The leadership ends, and with it all streams.
    let handed = pair.follower.post_json("/v1/cluster/transfer", &json!({})).await;
    assert_eq!(handed.status, 200);
    for stream in [&mut direct, &mut carried, &mut over_two] {
        let end = stream.next().await;
        assert_eq!((end.event.as_str(), &end.data["reason"]), ("end", &json!("leader_changed")));
        assert!(stream.block().await.is_none());
    }
    until(&pair.follower, |role| *role == Role::Leader).await;
    until(&pair.leader, |role| matches!(role, Role::Follower(_))).await;
    for node in [&pair.leader, &pair.follower] {
        let mut stream = Sse::open(node, &format!("?last_event_id={last}")).await;
        let reset = stream.next().await;
        assert_eq!(
            (reset.event.as_str(), &reset.data["reason"]),
            ("reset", &json!("leader_changed"))
        );
    }
    let (mut carried, _) = Sse::ready(&pair.leader, "").await;
    pair.leader.leave().await;
    let end = carried.next().await;
    assert_eq!((end.event.as_str(), &end.data["reason"]), ("end", &json!("shutting_down")));
    assert!(carried.block().await.is_none());
    pair.follower.stop().await;
}
