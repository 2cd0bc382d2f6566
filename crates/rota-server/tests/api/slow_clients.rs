//! Clients that read nothing, or send a part and fall silent: what they hold is bounded, and others are served.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rota_engine::{EngineOptions, Role};
use rota_proto::{
    TimeSpan,
    v1::{self, server_message::Message as Down},
};
use rota_server::{Limits, ServerOptions};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use crate::{
    cluster::{self, Pair},
    harness::{Node, PATIENCE, open_store},
};

/// One connection of HTTP/2 whose client reads no more than 64 KiB of an answer unasked.
async fn connection(node: &Node) -> http2::SendRequest<Body> {
    let stream = TcpStream::connect(node.address).await.unwrap();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(64 << 20)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    // It ends with the test.
    tokio::spawn(connection);
    sender
}

fn url(node: &Node, path: &str) -> String {
    format!("http://{}{path}", node.address)
}

async fn get(connection: &http2::SendRequest<Body>, node: &Node, path: &str) -> Response<Incoming> {
    let request = Request::get(url(node, path)).body(Body::empty()).unwrap();
    timeout(PATIENCE, connection.clone().send_request(request)).await.expect("a head").unwrap()
}

/// A task whose answer is larger than what a client is sent unasked.
async fn large_task(node: &Node) -> String {
    let id = node.create(&json!({ "kind": "k", "payload": "x".repeat(1_000_000) })).await;
    format!("/v1/tasks/{id}")
}

#[tokio::test]
async fn answers_that_nobody_reads_do_not_hold_up_the_way_to_the_leader() {
    let pair = Pair::start().await;
    let path = large_task(&pair.leader).await;
    let connection = connection(&pair.follower).await;
    let mut unread = Vec::new();
    // As much as a connection between nodes may carry unread.
    for _ in 0..12 {
        unread.push(get(&connection, &pair.follower, &path).await);
    }
    assert!(unread.iter().all(|answer| answer.status() == 200));
    let answer = pair.follower.get(&path).await;
    assert_eq!((answer.status, answer.body.len() > 1_000_000), (200, true));
    let whole = unread.pop().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(whole, answer.body, "what was not read is there still");
    let streams = pair.follower.metrics().await;
    assert!(streams.contains("rota_forward_streams{lane=\"short\"} 0\n"), "{streams}");
    drop((unread, connection));
    pair.stop().await;
}

/// Bytes of answers that clients have not read, as the node counts them.
async fn answers_bytes(node: &Node) -> u64 {
    let metrics = node.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("rota_api_answers_bytes "));
    line.expect("the metric").parse().expect("a number")
}

/// The budget and the time of answers are the same whichever way an answer takes, and in both protocols.
#[tokio::test]
async fn unread_answers_have_a_budget_and_a_time_on_every_way() {
    let limits = Limits {
        answers_in_flight_bytes: 2 << 20,
        body_timeout: Duration::from_secs(2),
        ..Limits::default()
    };
    let pair = Pair::start_limited(limits).await;
    let path = large_task(&pair.leader).await;
    let id = path.rsplit('/').next().unwrap();
    for node in [&pair.leader, &pair.follower] {
        let connection = connection(node).await;
        let first = get(&connection, node, &path).await;
        // A change whose answer is large is carried out, and its answer counts as well.
        let change = v1::SetTaskPriorityRequest { id: id.to_owned(), priority: 7 };
        let mut message = vec![0; 5];
        change.encode(&mut message).unwrap();
        message[4] = u8::try_from(change.encoded_len()).unwrap();
        let request = Request::post(url(node, "/rota.v1.TaskService/SetTaskPriority"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::from(message))
            .unwrap();
        let second = connection.clone().send_request(request).await.unwrap();
        assert_eq!(second.headers().get("grpc-status"), None, "{second:?}");
        let both = async { while answers_bytes(node).await < 2_000_000 {} };
        timeout(PATIENCE, both).await.expect("both are counted");
        assert_eq!(node.get("/v1/queues").await.status, 200);
        let free = async { while answers_bytes(node).await > 0 {} };
        timeout(PATIENCE, free).await.expect("what nobody reads is dropped");
        for unread in [first, second] {
            assert!(unread.into_body().collect().await.is_err(), "it was broken off");
        }
        assert_eq!(node.get(&path).await.status, 200);
    }
    pair.stop().await;
}

/// The probe of the way to the leader notices when answers begin and do not end.
#[tokio::test]
async fn a_leader_whose_answers_do_not_end_is_not_reached() {
    let (store, dir) = open_store();
    let fake = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut nodes = Vec::new();
    let address = fake.local_addr().unwrap();
    for name in ["first", "second"] {
        let engine = EngineOptions {
            node: name.to_owned(),
            address: Some(format!("http://{address}")),
            ..EngineOptions::default()
        };
        let listen = "127.0.0.1:0".parse().unwrap();
        let server = ServerOptions::default();
        nodes.push(Node::start_on(store.clone(), dir.clone(), listen, engine, server).await);
        let leads = |role: &Role| {
            matches!((name, role), ("first", Role::Leader) | ("second", Role::Follower(_)))
        };
        cluster::until(nodes.last().unwrap(), leads).await;
    }
    tokio::spawn(async move {
        while let Ok((stream, _)) = fake.accept().await {
            let service = service_fn(|_| async {
                let endless = tokio_stream::pending::<Result<Bytes, Infallible>>();
                Ok::<_, Infallible>(Response::new(Body::from_stream(endless)))
            });
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    let late = "rota_forward_failures_total{reason=\"late\"} ";
    let noticed = async {
        while !nodes[1]
            .metrics()
            .await
            .lines()
            .any(|line| line.strip_prefix(late).is_some_and(|count| count != "0"))
        {}
    };
    timeout(PATIENCE, noticed).await.expect("the probe fails");
    nodes.pop().unwrap().leave().await;
    nodes.pop().unwrap().stop().await;
}

/// A message of a worker as gRPC frames it.
fn framed(message: v1::worker_message::Message) -> Bytes {
    let message = v1::WorkerMessage { message: Some(message) };
    let length = u32::try_from(message.encoded_len()).unwrap();
    let mut framed = [&[0][..], &length.to_be_bytes()].concat();
    message.encode(&mut framed).unwrap();
    framed.into()
}

fn hello(name: &str, slots: u32) -> Bytes {
    let hello = v1::Hello { name: name.to_owned(), slots, ..v1::Hello::default() };
    framed(v1::worker_message::Message::Hello(hello))
}

/// A worker's stream of which each byte is ours: what it says, and what it hears.
struct Worker {
    says: mpsc::Sender<Bytes>,
    hears: Incoming,
    /// What was heard of messages that are not complete.
    heard: BytesMut,
}

impl Worker {
    async fn connect(connection: &http2::SendRequest<Body>, node: &Node, name: &str) -> Self {
        Self::connect_with(connection, node, hello(name, 2)).await
    }

    async fn connect_with(
        connection: &http2::SendRequest<Body>,
        node: &Node,
        hello: Bytes,
    ) -> Self {
        let (says, parts) = mpsc::channel(64);
        says.send(hello).await.unwrap();
        let parts = ReceiverStream::new(parts).map(Ok::<_, Infallible>);
        let request = Request::post(url(node, "/rota.v1.WorkerService/Work"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::from_stream(parts))
            .unwrap();
        let answer = connection.clone().send_request(request);
        let answer = timeout(PATIENCE, answer).await.expect("its hello is heard").unwrap();
        let mut worker = Self { says, hears: answer.into_body(), heard: BytesMut::new() };
        worker.hear().await;
        worker
    }

    /// The next bytes from the server.
    async fn hear(&mut self) -> Bytes {
        let frame = timeout(PATIENCE, self.hears.frame()).await.expect("something is said");
        frame.unwrap().unwrap().into_data().unwrap()
    }

    /// The next message from the server.
    async fn hear_message(&mut self) -> Down {
        loop {
            if let [_, a, b, c, d, rest @ ..] = &self.heard[..] {
                let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                if rest.len() >= length {
                    let message = self.heard.split_to(5 + length).split_off(5);
                    return v1::ServerMessage::decode(message).unwrap().message.unwrap();
                }
            }
            let more = self.hear().await;
            self.heard.extend_from_slice(&more);
        }
    }

    /// Begins a message of 1 MiB, and sends so much of it as the server takes.
    async fn begin_large_message(&self) {
        let header = [&[0][..], &(1_u32 << 20).to_be_bytes()].concat();
        self.says.send(header.into()).await.unwrap();
        for _ in 0..15 {
            self.says.send(vec![0x0a; 64 << 10].into()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn workers_that_read_nothing_do_not_silence_others_through_a_follower() {
    let pair = Pair::start().await;
    for _ in 0..24 {
        large_task(&pair.leader).await;
    }
    let connection = connection(&pair.follower).await;
    let mut unread = Vec::new();
    for at in 0..12 {
        let worker = Worker::connect(&connection, &pair.follower, &format!("deaf{at}")).await;
        let credit = v1::Credit { slots: 2 };
        worker.says.send(framed(v1::worker_message::Message::Credit(credit))).await.unwrap();
        unread.push(worker);
    }
    let all_sent = async {
        let none = |task: &serde_json::Value| task["status"] == "pending";
        while pair.leader.get("/v1/tasks").await.json()["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .any(none)
        {}
    };
    timeout(PATIENCE, all_sent).await.expect("each has its tasks");
    Worker::connect(&connection, &pair.follower, "healthy").await;
    drop((unread, connection));
    pair.stop().await;
}

#[tokio::test]
async fn streams_that_are_held_back_do_not_silence_others_of_their_connection() {
    let limits = Limits { bodies_in_flight_bytes: 1 << 20, ..Limits::default() };
    let engine = EngineOptions { session_ttl: Duration::from_secs(2), ..EngineOptions::default() };
    let options = ServerOptions { limits, ..ServerOptions::default() };
    let node = Node::start_with(engine, options).await;
    let connection = connection(&node).await;
    let healthy = Worker::connect(&connection, &node, "healthy").await;
    let mut held_back = Vec::new();
    // More than the room for streams, and than a connection once carried unread.
    for at in 0..8 {
        let worker = Worker::connect(&connection, &node, &format!("held{at}")).await;
        worker.begin_large_message().await;
        held_back.push(worker);
    }
    // Each sign of life is heard: the session outlives its time several times.
    let lives = async {
        let mut period = tokio::time::interval(Duration::from_millis(300));
        for _ in 0..14 {
            period.tick().await;
            let beat = v1::Heartbeat::default();
            let beat = framed(v1::worker_message::Message::Heartbeat(beat));
            healthy.says.send(beat).await.unwrap();
            let workers = node.get("/v1/workers").await.json();
            assert!(workers.to_string().contains("healthy"), "{workers}");
        }
    };
    timeout(PATIENCE, lives).await.expect("it can say that it lives");
    node.stop().await;
}

#[tokio::test]
async fn a_report_that_arrives_slowly_keeps_the_session_of_its_worker() {
    let ttl = Duration::from_secs(2);
    let engine = EngineOptions { session_ttl: ttl, ..EngineOptions::default() };
    let node = Node::start_with(engine, ServerOptions::default()).await;
    let connection = connection(&node).await;
    let mut worker = Worker::connect(&connection, &node, "slow").await;
    let message = "x".repeat(60_000);
    let failed = v1::Failed { message, ..v1::Failed::default() };
    let outcome = Some(v1::report::Outcome::Failed(failed));
    let report = v1::Report { task_id: "t_0".to_owned(), outcome, ..v1::Report::default() };
    let reports = v1::Reports { seq: 7, reports: vec![report] };
    let mut rest = framed(v1::worker_message::Message::Reports(reports));
    // Its heartbeats would wait behind the report, for more than twice the TTL of its session.
    let slowly = async {
        let mut period = tokio::time::interval(ttl / 20);
        while !rest.is_empty() {
            period.tick().await;
            worker.says.send(rest.split_to(rest.len().min(1 << 10))).await.unwrap();
            let workers = node.get("/v1/workers").await.json();
            assert!(workers.to_string().contains("slow"), "{workers}");
        }
    };
    timeout(PATIENCE, slowly).await.expect("all is sent");
    while !matches!(worker.hear_message().await, Down::ReportResults(results) if results.seq == 7) {
    }
    drop((worker, connection));
    node.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_slow_to_receive_is_heard_while_an_answer_waits() {
    let engine = EngineOptions { session_ttl: PATIENCE * 2, ..EngineOptions::default() };
    let node = Node::start_with(engine, ServerOptions::default()).await;
    for _ in 0..20 {
        large_task(&node).await;
    }
    let connection = connection(&node).await;
    let mut worker = Worker::connect_with(&connection, &node, hello("slow", 20)).await;
    let workers = async || node.get("/v1/workers").await.json()["workers"][0].clone();
    let has_all = async { while workers().await["slots_used"] != 20 {} };
    timeout(PATIENCE, has_all).await.expect("all tasks are on the way");
    let task = loop {
        if let Down::Dispatches(mut tasks) = worker.hear_message().await {
            break tasks.tasks.remove(0);
        }
    };
    // The next tasks have begun to arrive. It reads no more, so few answers find room.
    worker.hear().await;
    let say = async |message| worker.says.send(framed(message)).await.unwrap();
    for seq in 1..=6 {
        let done = match seq {
            6 => crate::work::report(&task, crate::work::done()),
            _ => v1::Report { task_id: "t_0".to_owned(), ..v1::Report::default() },
        };
        let reports = v1::Reports { seq, reports: vec![done] };
        say(v1::worker_message::Message::Reports(reports)).await;
    }
    let path = format!("/v1/tasks/{}", task.task_id);
    let completed = async { while node.get(&path).await.json()["status"] != "completed" {} };
    timeout(PATIENCE, completed).await.expect("the report is heard");
    let since = Instant::now();
    let age = async || {
        let workers = workers().await;
        workers["heartbeat_age"].as_str().unwrap().parse::<TimeSpan>().unwrap().duration()
    };
    let heard = async {
        let mut period = tokio::time::interval(Duration::from_millis(50));
        while age().await > since.elapsed() {
            period.tick().await;
            say(v1::worker_message::Message::Heartbeat(v1::Heartbeat {})).await;
        }
    };
    timeout(PATIENCE, heard).await.expect("its heartbeats are heard");
    drop((worker, connection));
    node.stop().await;
}

#[tokio::test]
async fn a_body_takes_room_as_it_arrives_and_silent_clients_keep_nobody_out() {
    let limits =
        Limits { request_bytes: 1 << 20, bodies_in_flight_bytes: 4 << 20, ..Limits::default() };
    let node = Node::start_limited(limits).await;
    let mut silent = Vec::new();
    for length in [1_000_000, 60_000] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(node.address).await.unwrap();
            let head = format!(
                "POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n{{"
            );
            tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
            silent.push(stream);
        }
    }
    // Messages of gRPC say their length as well.
    let connection = connection(&node).await;
    let mut calls = Vec::new();
    for _ in 0..20 {
        let (says, parts) = mpsc::channel(2);
        says.send(Bytes::from_static(&[0, 0, 0x0f, 0, 0, 0x0a])).await.unwrap();
        let parts = ReceiverStream::new(parts).map(Ok::<_, Infallible>);
        let request = Request::post(url(&node, "/rota.v1.TaskService/CreateTask"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::from_stream(parts))
            .unwrap();
        let mut connection = connection.clone();
        calls.push(tokio::spawn(async move {
            let _ = connection.send_request(request).await;
            drop(says);
        }));
    }
    let all_came = async {
        let none = "\nrota_api_bodies_bytes 0\n";
        while node.metrics().await.contains(none) {}
    };
    timeout(PATIENCE, all_came).await.expect("some of them are there");
    for _ in 0..3 {
        node.create(&json!({ "kind": "k", "payload": "1".repeat(900_000) })).await;
        node.create(&json!({ "kind": "k" })).await;
    }
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    drop((silent, connection));
    node.stop().await;
}
