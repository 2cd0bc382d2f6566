//! A worker without a stream, over gRPC: what REST offers such workers is here as well.

use rota_proto::v1::{
    self, task_service_client::TaskServiceClient, worker_service_client::WorkerServiceClient,
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tonic::{Code, transport::Channel};

use crate::{
    cluster::Pair,
    grpc::told,
    harness::{Node, PATIENCE},
};

struct Puller {
    client: WorkerServiceClient<Channel>,
    session: String,
}

impl Puller {
    fn new(channel: &Channel) -> Self {
        let client = WorkerServiceClient::new(channel.clone());
        Self { client, session: String::new() }
    }

    fn asks(&self, max: u32, wait_seconds: i64) -> v1::LeaseRequest {
        v1::LeaseRequest {
            worker: "puller".to_owned(),
            session: Some(self.session.clone()).filter(|session| !session.is_empty()),
            kinds: vec!["k".to_owned()],
            max: Some(max),
            wait: Some(rota_proto::TimeSpan { seconds: wait_seconds, nanos: 0 }),
            ..v1::LeaseRequest::default()
        }
    }

    async fn lease(&mut self, max: u32) -> Vec<v1::Dispatch> {
        let request = self.asks(max, 30);
        let leased = self.client.lease(request).await.unwrap().into_inner();
        assert_eq!(leased.ttl.unwrap().seconds, 60, "the default");
        assert!(self.session.is_empty() || self.session == leased.session);
        self.session = leased.session;
        leased.tasks
    }
}

/// A task that is not tried again within these tests.
async fn create(node: &Node, id: &str) {
    let retry = json!({"initial": "1h", "jitter": "none"});
    node.create(&json!({"kind": "k", "id": id, "payload": {"n": 1}, "retry": retry})).await;
}

async fn read(channel: &Channel, id: &str) -> v1::Task {
    let request = v1::GetTaskRequest { id: id.to_owned(), wait: None };
    TaskServiceClient::new(channel.clone()).get_task(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn tasks_are_leased_and_reported_call_by_call() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut puller = Puller::new(&channel);
    for id in ["a", "b", "c", "d"] {
        create(&node, id).await;
    }
    let mut tasks = puller.lease(4).await;
    while tasks.len() < 4 {
        tasks.extend(puller.lease(4).await);
    }
    tasks.sort_by(|a, b| a.shown_id.cmp(&b.shown_id));
    assert_eq!((tasks[0].shown_id.as_str(), &tasks[0].payload[..]), ("a", &br#"{"n":1}"#[..]));
    let workers = node.get("/v1/workers").await.json();
    assert_eq!(workers["workers"][0]["session"], puller.session);
    let session = puller.session.clone();
    puller.client.heartbeat(v1::HeartbeatRequest { session: session.clone() }).await.unwrap();

    // Progress, then success; by the client's id and by Rota's.
    let said = v1::ReportProgressRequest {
        id: "a".to_owned(),
        lease_token: tasks[0].lease_token,
        message: "half".to_owned(),
    };
    puller.client.report_progress(said).await.unwrap();
    assert_eq!(read(&channel, "a").await.progress(), "half");
    let complete = v1::CompleteRequest {
        id: tasks[0].task_id.clone(),
        lease_token: tasks[0].lease_token,
        result: "\0".into(),
        output_tail: "the end".into(),
    };
    puller.client.complete(complete.clone()).await.unwrap();
    puller.client.complete(complete.clone()).await.expect("the same again is fine");
    let done = read(&channel, "a").await;
    assert_eq!((done.status(), done.has_result), (v1::TaskStatus::Completed, true));

    let fail = |task: &v1::Dispatch, reason: v1::FailureReason| v1::FailRequest {
        id: task.shown_id.clone(),
        lease_token: task.lease_token,
        failed: Some(v1::Failed {
            reason: reason.into(),
            message: "why".to_owned(),
            retry_at: None,
        }),
        output_tail: "err".into(),
    };
    puller.client.fail(fail(&tasks[1], v1::FailureReason::Permanent)).await.unwrap();
    let failed = read(&channel, "b").await;
    assert_eq!(failed.status(), v1::TaskStatus::Failed);
    assert_eq!(failed.error.unwrap().message, "why");
    puller.client.fail(fail(&tasks[2], v1::FailureReason::Error)).await.unwrap();
    assert_eq!(read(&channel, "c").await.status(), v1::TaskStatus::Scheduled);

    let release = v1::ReleaseRequest { id: "d".to_owned(), lease_token: tasks[3].lease_token };
    puller.client.release(release).await.unwrap();
    let again = puller.lease(1).await.remove(0);
    assert_eq!((again.shown_id.as_str(), again.lease_token > tasks[3].lease_token), ("d", true));

    // What is held when the session ends goes to others.
    puller.client.close_session(v1::CloseSessionRequest { session }).await.unwrap();
    let mut other = Puller::new(&channel);
    assert_eq!(other.lease(1).await[0].shown_id, "d");
    let stale = v1::CompleteRequest { id: "d".to_owned(), ..complete };
    let status = puller.client.complete(stale).await.unwrap_err();
    assert_eq!(told(&status).1, "stale_lease");
    drop((puller, other, channel));
    node.stop().await;
}

#[tokio::test]
async fn a_session_of_one_protocol_is_a_session_of_the_other() {
    let node = Node::start().await;
    let channel = node.channel().await;
    create(&node, "a").await;
    let mut puller = Puller::new(&channel);
    let task = puller.lease(1).await.remove(0);
    let beat = node.post(&format!("/v1/sessions/{}/heartbeat", puller.session), "").await;
    assert_eq!(beat.status, 200);
    let done = json!({"lease_token": task.lease_token, "result": 7});
    assert_eq!(node.post_json("/v1/tasks/a/complete", &done).await.status, 204);
    assert_eq!(read(&channel, "a").await.status(), v1::TaskStatus::Completed);
    drop((puller, channel));
    node.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut puller = Puller::new(&channel);
    let good = puller.asks(1, 0);
    let seconds = |seconds| Some(rota_proto::TimeSpan { seconds, nanos: 0 });
    for (request, field) in [
        (v1::LeaseRequest { worker: String::new(), ..good.clone() }, "worker"),
        (v1::LeaseRequest { session: Some("me".to_owned()), ..good.clone() }, "session"),
        (v1::LeaseRequest { max: Some(0), ..good.clone() }, "max"),
        (v1::LeaseRequest { max: Some(1001), ..good.clone() }, "max"),
        (v1::LeaseRequest { wait: seconds(61), ..good.clone() }, "wait"),
        (v1::LeaseRequest { wait: seconds(-1), ..good.clone() }, "wait"),
        (v1::LeaseRequest { ttl: seconds(4), ..good.clone() }, "ttl"),
        (v1::LeaseRequest { ttl: seconds(3601), ..good.clone() }, "ttl"),
        (v1::LeaseRequest { queues: vec!["a b".to_owned()], ..good.clone() }, "queues[0]"),
        (v1::LeaseRequest { kinds: vec![String::new()], ..good }, "kinds[0]"),
    ] {
        let status = puller.client.lease(request).await.unwrap_err();
        let expected = (Code::InvalidArgument, "invalid".to_owned(), vec![field.to_owned()]);
        assert_eq!(told(&status), expected);
    }
    let session = "s_0000000000001".to_owned();
    let status = puller.client.heartbeat(v1::HeartbeatRequest { session }).await.unwrap_err();
    assert_eq!(told(&status), (Code::NotFound, "unknown_session".to_owned(), vec![]));
    let nobody = v1::CompleteRequest { id: "nobody".to_owned(), ..Default::default() };
    let status = puller.client.complete(nobody).await.unwrap_err();
    assert_eq!(told(&status), (Code::NotFound, "unknown_task".to_owned(), vec![]));
    create(&node, "a").await;
    let task = puller.lease(1).await.remove(0);
    let unsaid = v1::FailRequest {
        id: "a".to_owned(),
        lease_token: task.lease_token,
        ..v1::FailRequest::default()
    };
    let status = puller.client.fail(unsaid).await.unwrap_err();
    assert_eq!(told(&status).2, ["failed"]);
    let large = v1::CompleteRequest {
        id: "a".to_owned(),
        lease_token: task.lease_token,
        result: vec![0; (1 << 20) + 1].into(),
        ..v1::CompleteRequest::default()
    };
    let status = puller.client.complete(large).await.unwrap_err();
    assert_eq!(told(&status).2, ["result"]);
    assert_eq!(read(&channel, "a").await.status(), v1::TaskStatus::Running, "still its own");
    drop((puller, channel));
    node.stop().await;
}

/// Waits until the workers are so.
async fn until(node: &Node, is: impl Fn(&[Value]) -> bool) {
    let look = async {
        loop {
            let workers = node.get("/v1/workers").await.json();
            if is(workers["workers"].as_array().unwrap()) {
                return;
            }
        }
    };
    timeout(PATIENCE, look).await.expect("in time");
}

/// A long poll as `curl` makes it. Returns when the leader knows of it.
async fn polls(via: &Node, leader: &Node) -> TcpStream {
    let body = json!({ "worker": "gone", "kinds": ["k"], "max": 5, "wait": "60s" }).to_string();
    let head = format!(
        "POST /v1/leases HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        via.address,
        body.len()
    );
    let mut stream = TcpStream::connect(via.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    until(leader, |workers| workers.iter().any(|worker| worker["slots"] == 5)).await;
    stream
}

#[tokio::test]
async fn a_long_poll_whose_client_is_gone_takes_no_tasks() {
    let pair = Pair::start().await;
    for via in [&pair.leader, &pair.follower] {
        let stream = polls(via, &pair.leader).await;
        drop(stream);
        until(&pair.leader, <[_]>::is_empty).await;
        let channel = via.channel().await;
        let mut puller = Puller::new(&channel);
        let asks = puller.asks(5, 60);
        let call = tokio::spawn(async move { puller.client.lease(asks).await });
        until(&pair.leader, |workers| workers.iter().any(|worker| worker["slots"] == 5)).await;
        call.abort();
        until(&pair.leader, <[_]>::is_empty).await;
    }
    let id = pair.leader.create(&json!({ "kind": "k" })).await;
    assert_eq!(pair.follower.lease("k").await.0, id);
    pair.stop().await;
}

#[tokio::test]
async fn a_worker_is_told_to_stop_and_says_that_it_did() {
    let node = Node::start().await;
    let channel = node.channel().await;
    for id in ["a", "b"] {
        create(&node, id).await;
    }
    let mut puller = Puller::new(&channel);
    let mut tasks = puller.lease(2).await;
    while tasks.len() < 2 {
        tasks.extend(puller.lease(2).await);
    }
    tasks.sort_by(|a, b| a.shown_id.cmp(&b.shown_id));
    let path = format!("/v1/sessions/{}/heartbeat", puller.session);
    let quiet = json!({ "session": puller.session, "draining": false, "stop": [] });
    assert_eq!(node.post(&path, "").await.json(), quiet);
    for id in ["a", "b"] {
        assert_eq!(node.post(&format!("/v1/tasks/{id}/cancel"), "").await.status, 200);
    }
    let stop = |task: &v1::Dispatch| json!({ "id": task.shown_id, "lease_token": task.lease_token, "reason": "cancelled" });
    let told = node.post(&path, "").await.json();
    assert_eq!(told["stop"], json!([stop(&tasks[0]), stop(&tasks[1])]));
    let ask = json!({ "worker": "puller", "session": puller.session, "kinds": ["k"] });
    assert_eq!(node.post_json("/v1/leases", &ask).await.json()["stop"], told["stop"]);
    let leased = puller.client.lease(puller.asks(1, 0)).await.unwrap().into_inner();
    let session = puller.session.clone();
    let beat = puller.client.heartbeat(v1::HeartbeatRequest { session: session.clone() }).await;
    let beat = beat.unwrap().into_inner();
    assert_eq!((&leased.stop, leased.draining), (&beat.stop, beat.draining));
    assert_eq!(beat.stop[0].task_id, tasks[0].task_id);
    assert_eq!(beat.stop[0].reason(), v1::stop::Reason::Cancelled);

    let said = json!({ "lease_token": tasks[0].lease_token, "output_tail": "stopped" });
    for _ in 0..2 {
        assert_eq!(node.post_json("/v1/tasks/a/cancelled", &said).await.status, 204);
    }
    let said = v1::ReportCancelledRequest {
        id: "b".to_owned(),
        lease_token: tasks[1].lease_token,
        output_tail: "stopped".into(),
    };
    puller.client.report_cancelled(said).await.unwrap();
    for id in ["a", "b"] {
        assert_eq!(read(&channel, id).await.status(), v1::TaskStatus::Cancelled);
        let attempts = node.get(&format!("/v1/tasks/{id}/attempts")).await.json();
        assert_eq!(attempts["attempts"][0]["output_tail"], "stopped");
    }
    assert_eq!(node.post("/v1/workers/puller/drain", "").await.status, 200);
    let draining = json!({ "session": session, "draining": true, "stop": [] });
    assert_eq!(node.post(&path, "").await.json(), draining);
    drop((puller, channel));
    node.stop().await;
}

#[tokio::test]
async fn a_worker_that_names_a_lease_that_is_not_its_any_more_is_told() {
    let node = Node::start().await;
    let channel = node.channel().await;
    create(&node, "a").await;
    let mut puller = Puller::new(&channel);
    let task = puller.lease(1).await.remove(0);
    let path = format!("/v1/sessions/{}", puller.session);
    assert_eq!(node.delete(&path).await.status, 204);
    assert_eq!(node.lease("k").await.0, "a");
    let lease = |id: &str| json!({ "id": id, "lease_token": task.lease_token });
    let ask = |held: &[Value]| {
        json!({
            "worker": "puller", "session": puller.session, "kinds": ["k"], "wait": "60s", "held": held
        })
    };
    let refused = node.post_json("/v1/leases", &ask(&[lease("a"), lease("no name")])).await;
    assert_eq!((refused.status, refused.fields()), (400, vec!["held[1]".to_owned()]));
    let ask = ask(&[lease("a"), lease(&task.task_id)]);
    let told = node.post_json("/v1/leases", &ask).await.json();
    let stop =
        |id: &str| json!({ "id": id, "lease_token": task.lease_token, "reason": "lease_lost" });
    assert_eq!(told["stop"], json!([stop("a"), stop(&task.task_id)]), "as it calls them");
    let lease = v1::Lease { task_id: task.task_id.clone(), lease_token: task.lease_token };
    let held = Some(v1::HeldLeases { leases: vec![lease] });
    let asks = v1::LeaseRequest { held, ..puller.asks(1, 0) };
    let told = puller.client.lease(asks).await.unwrap().into_inner().stop;
    assert_eq!((told.len(), told[0].reason()), (1, v1::stop::Reason::LeaseLost));
    assert_eq!((&told[0].task_id, told[0].lease_token), (&task.task_id, task.lease_token));
    drop((puller, channel));
    node.stop().await;
}

#[tokio::test]
async fn another_result_by_the_same_lease_is_refused() {
    let node = Node::start().await;
    for (verb, first, second) in [
        ("complete", json!({ "result": 1 }), json!({ "result": 2 })),
        ("fail", json!({ "error": "one" }), json!({ "error": "two" })),
        ("fail", json!({ "error": "e", "output_tail": "1" }), json!({ "error": "e" })),
    ] {
        let id = node.create(&json!({ "kind": "k" })).await;
        let token = node.lease("k").await.1;
        let report = async |body: &Value| {
            let mut body = body.clone();
            body["lease_token"] = token.into();
            node.post_json(&format!("/v1/tasks/{id}/{verb}"), &body).await
        };
        assert_eq!(report(&first).await.status, 204);
        let refused = report(&second).await;
        assert_eq!((refused.status, &refused.problem()["reason"]), (409, &json!("stale_lease")));
        assert_eq!(report(&first).await.status, 204, "the same again is fine");
    }
    node.stop().await;
}

#[tokio::test]
async fn slots_are_those_asked_for_and_a_task_says_that_nobody_asked() {
    let node = Node::start().await;
    let ask = json!({ "worker": "w", "kinds": ["k"], "max": 3 });
    assert_eq!(node.post_json("/v1/leases", &ask).await.json()["tasks"], json!([]));
    let worker = node.get("/v1/workers").await.json()["workers"][0].clone();
    assert_eq!((&worker["slots"], &worker["slots_used"]), (&json!(3), &json!(0)));
    let metrics = String::from_utf8(node.get("/metrics").await.body.to_vec()).unwrap();
    assert!(metrics.contains("rota_session_slots{worker=\"w\"} 3"), "{metrics}");
    let mut waiting = Vec::new();
    for ahead in 0..3 {
        let id = node.create(&json!({ "kind": "k" })).await;
        let why = node.get(&format!("/v1/tasks/{id}")).await.json()["waiting"].clone();
        assert_eq!((&why["reason"], &why["ahead"]), (&json!("not_asked"), &json!(ahead)));
        waiting.push(why["message"].as_str().unwrap().to_owned());
    }
    insta::assert_snapshot!("not_asked", waiting.join("\n"));
    node.stop().await;
}
