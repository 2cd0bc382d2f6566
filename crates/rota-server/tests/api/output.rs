//! The output of running tasks over server-sent events and gRPC, from the leader and by way of a follower.

use http::Request;
use http_body_util::Full;
use rota_engine::{EngineOptions, OutputLimits, Role};
use rota_proto::v1::{
    self, server_message::Message as Down, task_service_client::TaskServiceClient,
    worker_message::Message as Up,
};
use rota_server::{ServerOptions, Tokens};
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::{Code, Streaming};

use crate::{
    cluster::{Pair, until},
    grpc::told,
    harness::{Node, PATIENCE},
    sse::{Http, Sse},
    work::{Stream, done, hello, report},
};

async fn logs(node: &Node, id: &str, query: &str) -> Sse {
    Sse::open_at(node, Http::One, &format!("/v1/tasks/{id}/logs{query}"), &[]).await
}

/// The next event: its type and its data.
async fn next(stream: &mut Sse) -> (String, Value) {
    let block = stream.next().await;
    assert_eq!((&block.data["type"], &block.data["id"]), (&json!(block.event), &json!(block.id)));
    (block.event, block.data)
}

/// The next event, which must have this type.
async fn expect(stream: &mut Sse, kind: &str) -> Value {
    let (event, data) = next(stream).await;
    assert_eq!(event, kind, "{data}");
    data
}

/// A worker that sends output when it is asked, and the task that it runs.
struct Worker {
    stream: Stream,
    task: v1::Dispatch,
}

impl Worker {
    async fn running(node: &Node, id: &str) -> Self {
        let first = v1::Hello { streams_output: true, ..hello(10) };
        let channel = node.channel().await;
        let mut stream = Stream::open(&channel, Some(Up::Hello(first))).await.unwrap();
        stream.welcome().await;
        node.create(&json!({ "id": id, "kind": "k" })).await;
        let task = stream.dispatched(1).await.remove(0);
        Self { stream, task }
    }

    /// Waits for the next order about output.
    async fn ordered(&mut self) -> bool {
        match self.stream.hear().await.unwrap() {
            Down::WatchOutput(watch) => {
                assert_eq!(watch.task_id, self.task.task_id);
                assert_eq!(watch.lease_token, self.task.lease_token);
                watch.on
            }
            other => panic!("{other:?}"),
        }
    }

    async fn say(&self, offset: u64, output: &'static [u8]) {
        let (task_id, lease_token) = (self.task.task_id.clone(), self.task.lease_token);
        let output = v1::Output { task_id, lease_token, offset, output: output.into() };
        self.stream.say(Up::Output(output)).await;
    }

    /// Reports the end of the attempt, with the end of its output.
    async fn end(&mut self, tail: &'static [u8], written: u64) {
        let (output_tail, output_bytes) = (tail.into(), Some(written));
        let report = v1::Report { output_tail, output_bytes, ..report(&self.task, done()) };
        self.stream.say(Up::Reports(v1::Reports { seq: 1, reports: vec![report] })).await;
        assert_eq!(self.stream.results().await.refused, []);
    }
}

#[tokio::test]
async fn output_is_read_with_curl_alone_while_the_task_runs() {
    let node = Node::start().await;
    let mut worker = Worker::running(&node, "a/1").await;
    let mut stream = logs(&node, "a%2F1", "").await;
    assert_eq!(stream.head.headers["content-type"], "text/event-stream");
    assert_eq!(stream.head.headers["cache-control"], "no-store");
    let begins = expect(&mut stream, "attempt").await;
    assert_eq!((&begins["attempt"], &begins["worker"]), (&json!(1), &json!("w")));
    assert!(worker.ordered().await);
    worker.say(0, "one ü\n".as_bytes()).await;
    let output = expect(&mut stream, "output").await;
    assert_eq!((&output["output"], &output["offset"]), (&json!("one ü\n"), &json!(0)));
    assert_eq!(output.get("output_base64"), None);
    expect(&mut stream, "ready").await;
    worker.say(7, b"\xff\n").await;
    let output = expect(&mut stream, "output").await;
    assert_eq!((&output["output_base64"], &output["offset"]), (&json!("/wo="), &json!(7)));
    // Some is missing: the worker could not send it.
    worker.say(20, b"more").await;
    let gap = expect(&mut stream, "gap").await;
    assert_eq!((&gap["missing_bytes"], &gap["reason"]), (&json!(11), &json!("too_slow")));
    assert_eq!(expect(&mut stream, "output").await["output"], "more");
    worker.end(b"more\nthe end\n", 33).await;
    assert_eq!(expect(&mut stream, "output").await["output"], "\nthe end\n");
    let end = expect(&mut stream, "end").await;
    assert_eq!((&end["reason"], &end["status"]), (&json!("task_ended"), &json!("completed")));
    assert!(stream.block().await.is_none());
    node.stop().await;
}

async fn message(stream: &mut Streaming<v1::TaskOutput>) -> v1::TaskOutput {
    timeout(PATIENCE, stream.message()).await.expect("in time").unwrap().expect("it goes on")
}

#[tokio::test]
async fn both_protocols_stream_the_same_and_the_worker_is_asked_once() {
    let node = Node::start().await;
    let mut worker = Worker::running(&node, "a").await;
    let mut rest = logs(&node, "a", "").await;
    assert!(worker.ordered().await);
    worker.say(0, b"one").await;
    let mut client = TaskServiceClient::new(node.channel().await);
    let request = v1::WatchOutputRequest { id: "a".to_owned(), ..Default::default() };
    let mut grpc = client.watch_output(request.clone()).await.unwrap().into_inner();
    for kind in ["attempt", "output", "ready"] {
        let over_rest = expect(&mut rest, kind).await;
        let over_grpc = message(&mut grpc).await;
        assert_eq!(serde_json::to_value(&over_grpc).unwrap(), over_rest);
    }
    worker.say(3, b" two").await;
    let over_rest = expect(&mut rest, "output").await;
    let over_grpc = message(&mut grpc).await;
    assert_eq!((over_grpc.output.as_ref(), over_grpc.offset()), (&b" two"[..], 3));
    assert_eq!(serde_json::to_value(&over_grpc).unwrap(), over_rest);
    // One that goes on after an id is told nothing twice.
    let last = over_rest["id"].as_str().unwrap().to_owned();
    let again = v1::WatchOutputRequest { last_event_id: Some(last.clone()), ..request };
    let mut again = client.watch_output(again).await.unwrap().into_inner();
    assert_eq!(message(&mut again).await.r#type, "ready");
    let header = [("last-event-id", last.as_str())];
    let path = "/v1/tasks/a/logs?last_event_id=1-0";
    let mut by_header = Sse::open_at(&node, Http::Two, path, &header).await;
    expect(&mut by_header, "ready").await;
    // What is known now, and no more.
    let mut now = logs(&node, "a", "?follow=false").await;
    expect(&mut now, "attempt").await;
    assert_eq!(expect(&mut now, "output").await["output"], "one two");
    assert_eq!(expect(&mut now, "end").await["reason"], "up_to_date");
    assert!(now.block().await.is_none());
    // The worker is told when the last of them has left.
    drop((rest, grpc, again, by_header, client));
    assert!(!worker.ordered().await);
    node.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_field() {
    let node = Node::start().await;
    node.create(&json!({ "id": "a", "kind": "k" })).await;
    for (query, field) in [
        ("?last_event_id=1", "last_event_id"),
        ("?last_event_id=", "last_event_id"),
        ("?last_event_id=1-2&last_event_id=1-2", "last_event_id"),
        ("?follow=1", "follow"),
        ("?follow=", "follow"),
        ("?unknown=1", "unknown"),
    ] {
        let answer = node.get(&format!("/v1/tasks/a/logs{query}")).await;
        assert_eq!((answer.status, answer.fields()), (400, vec![field.to_owned()]), "{query}");
    }
    let mut request = Request::get("/v1/tasks/a/logs");
    for value in ["1-2", "1-2"] {
        request = request.header("last-event-id", value);
    }
    assert_eq!(node.send(request.body(Full::default()).unwrap()).await.status, 400);
    assert_eq!(node.get("/v1/tasks/b/logs").await.status, 404);
    let mut client = TaskServiceClient::new(node.channel().await);
    let request = v1::WatchOutputRequest {
        id: "a b".to_owned(),
        last_event_id: Some("x".to_owned()),
        ..Default::default()
    };
    let (code, _, fields) = told(&client.watch_output(request).await.unwrap_err());
    assert_eq!((code, fields), (Code::InvalidArgument, vec!["id".into(), "last_event_id".into()]));
    let request = v1::WatchOutputRequest { id: "b".to_owned(), ..Default::default() };
    assert_eq!(client.watch_output(request).await.unwrap_err().code(), Code::NotFound);
    drop(client);
    node.stop().await;
}

#[tokio::test]
async fn more_listeners_than_allowed_are_told_to_come_later() {
    let output = OutputLimits { task_listeners: 1, ..OutputLimits::default() };
    let engine = EngineOptions { output, ..EngineOptions::default() };
    let node = Node::start_with(engine, ServerOptions::default()).await;
    node.create(&json!({ "id": "a", "kind": "k" })).await;
    let mut stream = logs(&node, "a", "").await;
    expect(&mut stream, "ready").await;
    let refused = node.get("/v1/tasks/a/logs").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "5"));
    assert!(refused.problem()["detail"].as_str().unwrap().contains("output_listeners_per_task"));
    let info = node.get("/v1/info").await.json();
    assert_eq!(info["limits"]["output_listeners_per_task"], 1);
    node.stop().await;
}

#[tokio::test]
async fn a_token_is_needed_as_for_other_reads() {
    let tokens = Tokens::new(["a-token-of-this-test".to_owned()]).unwrap();
    let options = ServerOptions { tokens, ..ServerOptions::default() };
    let node = Node::start_with(EngineOptions::default(), options).await;
    assert_eq!(node.get("/v1/tasks/a/logs").await.status, 401);
    node.stop().await;
}

#[tokio::test]
async fn a_worker_without_a_stream_reports_its_output_at_the_end() {
    let node = Node::start().await;
    node.create(&json!({ "id": "a", "kind": "k" })).await;
    let (_, token) = node.lease("k").await;
    let mut stream = logs(&node, "a", "").await;
    for kind in ["attempt", "at_end", "ready"] {
        expect(&mut stream, kind).await;
    }
    let done = json!({ "lease_token": token, "output_tail": "all of it" });
    assert_eq!(node.post_json("/v1/tasks/a/complete", &done).await.status, 204);
    assert_eq!(expect(&mut stream, "output").await["output"], "all of it");
    assert_eq!(expect(&mut stream, "end").await["reason"], "task_ended");
    node.stop().await;
}

#[tokio::test]
async fn a_follower_carries_the_stream_and_a_client_goes_on_at_the_next_leader() {
    let pair = Pair::start().await;
    let mut worker = Worker::running(&pair.follower, "a").await;
    let mut carried = logs(&pair.follower, "a", "").await;
    expect(&mut carried, "attempt").await;
    assert!(worker.ordered().await);
    worker.say(0, b"one").await;
    let last = expect(&mut carried, "output").await["id"].as_str().unwrap().to_owned();
    expect(&mut carried, "ready").await;
    let handed = pair.follower.post_json("/v1/cluster/transfer", &json!({})).await;
    assert_eq!(handed.status, 200);
    assert_eq!(carried.next().await.data["reason"], "leader_changed");
    assert!(carried.block().await.is_none());
    until(&pair.follower, |role| *role == Role::Leader).await;
    until(&pair.leader, |role| matches!(role, Role::Follower(_))).await;
    // The worker comes back with its task, and is asked by the new leader.
    let mut again = logs(&pair.leader, "a", &format!("?last_event_id={last}")).await;
    let held =
        v1::Lease { task_id: worker.task.task_id.clone(), lease_token: worker.task.lease_token };
    let first = v1::Hello { streams_output: true, held: vec![held], ..hello(10) };
    let session = pair.leader.get("/v1/workers").await.json()["workers"][0]["session"].clone();
    let first = v1::Hello { session: session.as_str().unwrap().to_owned(), ..first };
    let channel = pair.leader.channel().await;
    worker.stream = Stream::open(&channel, Some(Up::Hello(first))).await.unwrap();
    worker.stream.welcome().await;
    assert!(worker.ordered().await);
    worker.say(0, b"one two").await;
    let mut heard = Vec::new();
    while heard.last().is_none_or(|(kind, _)| kind != "output") {
        heard.push(next(&mut again).await);
    }
    // It may have been told that it is up to date before the worker came.
    heard.retain(|(kind, _)| kind != "ready");
    let [(_, output)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((&output["output"], &output["offset"]), (&json!(" two"), &json!(3)));
    worker.end(b"one two", 7).await;
    while next(&mut again).await.0 != "end" {}
    pair.stop().await;
}
