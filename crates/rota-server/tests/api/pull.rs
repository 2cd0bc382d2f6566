//! A worker without a stream, over gRPC: what REST offers such workers is here as well.

use rota_proto::v1::{
    self, task_service_client::TaskServiceClient, worker_service_client::WorkerServiceClient,
};
use serde_json::json;
use tonic::{Code, transport::Channel};

use crate::{grpc::told, harness::Node};

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
            session: self.session.clone(),
            kinds: vec!["k".to_owned()],
            max: Some(max),
            wait: Some(prost_types::Duration { seconds: wait_seconds, nanos: 0 }),
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
    assert_eq!(read(&channel, "a").await.progress, "half");
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
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for (request, field) in [
        (v1::LeaseRequest { worker: String::new(), ..good.clone() }, "worker"),
        (v1::LeaseRequest { session: "me".to_owned(), ..good.clone() }, "session"),
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
    assert_eq!(read(&channel, "a").await.status(), v1::TaskStatus::Assigned, "still its own");
    drop((puller, channel));
    node.stop().await;
}
