//! Two nodes: whichever is asked, the leader answers, and a change of leader fails nobody.

use std::net::{SocketAddr, TcpListener};

use http::Request;
use http_body_util::Full;
use rota_engine::{EngineOptions, Role};
use rota_proto::v1::{
    self, server_service_client::ServerServiceClient, task_service_client::TaskServiceClient,
    worker_service_client::WorkerServiceClient,
};
use rota_server::{Limits, ServerOptions};
use serde_json::json;
use tokio::time::timeout;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use crate::harness::{Answer, Node, PATIENCE, open_store};

pub(crate) struct Pair {
    pub(crate) leader: Node,
    pub(crate) follower: Node,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        Self::start_limited(Limits::default()).await
    }

    pub(crate) async fn start_limited(limits: Limits) -> Self {
        let [leader, follower] = nodes(["first", "second"], limits).await;
        Self { leader, follower }
    }

    pub(crate) async fn stop(self) {
        self.follower.leave().await;
        self.leader.stop().await;
    }
}

/// Nodes of one cluster. The first leads.
pub(crate) async fn nodes<const N: usize>(names: [&str; N], limits: Limits) -> [Node; N] {
    let (store, dir) = open_store();
    let mut nodes = Vec::new();
    for name in names {
        let listen = free();
        let engine = EngineOptions {
            node: name.to_owned(),
            address: Some(format!("http://{listen}")),
            ..EngineOptions::default()
        };
        let server = ServerOptions { limits, ..ServerOptions::default() };
        let node = Node::start_on(store.clone(), dir.clone(), listen, engine, server).await;
        let is_first = nodes.is_empty();
        let settled = |role: &Role| match is_first {
            true => *role == Role::Leader,
            false => matches!(role, Role::Follower(_)),
        };
        until(&node, settled).await;
        nodes.push(node);
    }
    nodes.try_into().unwrap_or_else(|_| unreachable!("one for each name"))
}

/// Another may take it before it is used; then the test fails and says so.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) async fn until(node: &Node, is: impl Fn(&Role) -> bool) {
    let mut changes = node.engine().role_changes();
    let wait = async {
        while !is(&node.engine().role()) {
            changes.changed().await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the role changes");
}

#[tokio::test]
async fn a_follower_has_the_leader_answer() {
    let pair = Pair::start().await;
    let id = pair.follower.create(&json!({ "kind": "k", "payload": { "x": 1 } })).await;
    for node in [&pair.leader, &pair.follower] {
        let task = node.get(&format!("/v1/tasks/{id}")).await.json();
        assert_eq!((&task["status"], &task["payload"]["x"]), (&json!("pending"), &json!(1)));
    }
    // Errors, too, come as they are.
    let wrong = pair.follower.post_json("/v1/tasks", &json!({ "kind": "k", "wrong": 1 })).await;
    assert_eq!((wrong.status, wrong.problem()["reason"].as_str().unwrap()), (400, "invalid"));
    assert_eq!(pair.follower.get("/v1/tasks/none").await.status, 404);
    let mut client = TaskServiceClient::new(pair.follower.channel().await);
    let request = v1::TaskRequest { id: id.clone() };
    let task = client.cancel_task(request.clone()).await.unwrap().into_inner();
    assert_eq!(task.status(), v1::TaskStatus::Cancelled);
    let again =
        client.reschedule_task(v1::RescheduleTaskRequest { id, ..Default::default() }).await;
    assert!(again.is_err());
    pair.stop().await;
}

#[tokio::test]
async fn schedules_and_calendars_are_kept_through_a_follower() {
    let pair = Pair::start().await;
    let Pair { leader, follower } = &pair;
    leader.has_feature_level(2).await;
    let yearly = json!({ "expressions": ["30 2 1 1 *"], "template": { "kind": "report" } });
    let call = async |verb: &str, path: &str, body: serde_json::Value| {
        let request = Request::builder().method(verb).uri(path);
        let request = request.header("content-type", "application/json");
        follower.send(request.body(Full::from(body.to_string())).unwrap()).await
    };
    for (verb, path, body, status) in [
        ("PUT", "/v1/calendars/c", json!({ "entries": [{ "days": "12-25" }] }), 201),
        ("PUT", "/v1/schedules/s", yearly.clone(), 201),
        ("PUT", "/v1/schedules/s", yearly, 200),
        (
            "POST",
            "/v1/schedules/preview",
            json!({ "definition": { "expressions": ["@daily"] } }),
            200,
        ),
        ("POST", "/v1/schedules/s/pause", json!({ "note": "holidays" }), 200),
        ("POST", "/v1/schedules/resume", json!({ "all": true }), 200),
        ("POST", "/v1/schedules/s/skip", json!({ "nominal_time": "2100-06-01T00:00:00Z" }), 409),
        ("POST", "/v1/schedules/s/trigger", json!({}), 201),
        ("POST", "/v1/schedules/s/backfill", json!({ "from": "2020-01-01T00:00:00Z" }), 200),
        ("DELETE", "/v1/schedules/s/backfill", json!({}), 200),
    ] {
        let answer = call(verb, path, body).await;
        assert_eq!(answer.status, status, "{verb} {path}: {answer:?}");
    }
    for path in ["/v1/schedules", "/v1/schedules/s", "/v1/schedules/s/ticks", "/v1/calendars/c"] {
        let (there, here) = (leader.get(path).await, follower.get(path).await);
        assert_eq!((there.status, there.json()), (here.status, here.json()), "{path}");
        assert_eq!(there.status, 200, "{path}");
        let etag = |answer: &Answer| answer.headers.get("etag").cloned();
        assert_eq!(etag(&there), etag(&here), "{path}");
    }
    assert_eq!(leader.get("/v1/tasks/s%2Fmanual-1").await.status, 200);
    for path in ["/v1/schedules/s", "/v1/calendars/c"] {
        assert_eq!(call("DELETE", path, json!({})).await.status, 204);
        assert_eq!(leader.get(path).await.status, 404);
    }
    pair.stop().await;
}

#[tokio::test]
async fn a_worker_works_through_a_follower() {
    let pair = Pair::start().await;
    let mut client = WorkerServiceClient::new(pair.follower.channel().await);
    let (up, messages) = tokio::sync::mpsc::channel(8);
    let send = async |message| {
        up.send(v1::WorkerMessage { message: Some(message) }).await.unwrap();
    };
    send(v1::worker_message::Message::Hello(v1::Hello {
        name: "w".to_owned(),
        slots: 1,
        ..v1::Hello::default()
    }))
    .await;
    let mut down = client.work(ReceiverStream::new(messages)).await.unwrap().into_inner();
    let mut next = async || timeout(PATIENCE, down.next()).await.unwrap();
    assert!(matches!(
        next().await.unwrap().unwrap().message,
        Some(v1::server_message::Message::Welcome(_))
    ));
    send(v1::worker_message::Message::Credit(v1::Credit { slots: 1 })).await;
    pair.leader.create(&json!({ "kind": "k" })).await;
    let tasks = next().await.unwrap().unwrap().message;
    assert!(matches!(tasks, Some(v1::server_message::Message::Dispatches(_))), "{tasks:?}");
    // The stream ends with the leadership that it led to, so that the worker comes back.
    let handed = pair.follower.post_json("/v1/cluster/transfer", &json!({})).await;
    assert_eq!((handed.status, &handed.json()["to"]), (200, &json!("second")));
    while let Some(Ok(_)) = next().await {}
    until(&pair.follower, |role| *role == Role::Leader).await;
    pair.stop().await;
}

#[tokio::test]
async fn requests_are_held_while_leadership_changes() {
    let pair = Pair::start().await;
    let create = async |node: &Node, count: u32| {
        for _ in 0..count {
            node.create(&json!({ "kind": "k" })).await;
        }
    };
    let transfer = async {
        for to in ["second", "first", "second"] {
            let handed = pair.leader.post_json("/v1/cluster/transfer", &json!({ "to": to })).await;
            assert_eq!(handed.status, 200, "{handed:?}");
            let new = if to == "first" { &pair.leader } else { &pair.follower };
            until(new, |role| *role == Role::Leader).await;
        }
    };
    tokio::join!(create(&pair.leader, 150), create(&pair.follower, 150), transfer);
    let queues = pair.leader.get("/v1/queues").await.json();
    assert_eq!(queues["queues"][0]["pending"], 300, "{queues}");
    pair.stop().await;
}

#[tokio::test]
async fn what_was_carried_once_goes_no_further() {
    let pair = Pair::start().await;
    let request = Request::get("/v1/tasks").header("rota-forwarded", "1");
    let answer = pair.follower.send(request.body(Full::default()).unwrap()).await;
    assert_eq!((answer.status, answer.header("rota-leader-lost")), (503, "before"));
    assert_eq!(answer.problem()["reason"], "not_leader");
    pair.stop().await;
}

#[tokio::test]
async fn every_node_tells_of_all() {
    let pair = Pair::start().await;
    for node in [&pair.leader, &pair.follower] {
        let ready = async { while node.get("/readyz").await.status != 200 {} };
        timeout(PATIENCE, ready).await.expect("it is ready");
    }
    for node in [&pair.leader, &pair.follower] {
        let cluster = node.get("/v1/cluster").await.json();
        assert_eq!(cluster["leader"], "first");
        let nodes: Vec<_> = cluster["nodes"].as_array().unwrap().iter().collect();
        let told: Vec<_> =
            nodes.iter().map(|node| (node["name"].as_str(), node["role"].as_str())).collect();
        assert_eq!(
            told,
            [(Some("first"), Some("leader")), (Some("second"), Some("follower"))],
            "{cluster}"
        );
    }
    let mut client = ServerServiceClient::new(pair.follower.channel().await);
    let cluster = client.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner();
    assert_eq!((cluster.leader(), cluster.nodes.len()), ("first", 2));
    let refused = client
        .transfer_leadership(v1::TransferLeadershipRequest { to: Some("nobody".to_owned()) })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    pair.stop().await;
}

/// Requests that wait through a follower, with as many as the leader allows on one connection.
#[tokio::test]
async fn long_polls_through_a_follower_leave_room_for_everybody_else() {
    let limits = Limits { streams_per_connection: 2, ..Limits::default() };
    let pair = Pair::start_limited(limits).await;
    let id = pair.leader.create(&json!({ "kind": "k" })).await;
    let path = format!("/v1/tasks/{id}?wait=60s");
    let waits = async {
        tokio::join!(
            pair.follower.get(&path),
            pair.follower.get(&path),
            pair.follower.get(&path),
            pair.follower.get(&path),
            pair.follower.get(&path),
        )
    };
    let others = async {
        // They are with the leader once as many streams are in use.
        let all_wait = async {
            let line = "rota_forward_streams{lane=\"long\"} 5";
            while !pair.follower.metrics().await.contains(line) {}
        };
        timeout(PATIENCE, all_wait).await.expect("all of them wait");
        let quick = async {
            assert_eq!(pair.follower.get("/v1/queues").await.status, 200);
            pair.follower.create(&json!({ "kind": "other" })).await;
            let mut client = WorkerServiceClient::new(pair.follower.channel().await);
            let (sender, messages) = tokio::sync::mpsc::channel(8);
            let hello = v1::Hello { name: "w".to_owned(), slots: 1, ..v1::Hello::default() };
            let hello = Some(v1::worker_message::Message::Hello(hello));
            sender.send(v1::WorkerMessage { message: hello }).await.unwrap();
            let down = client.work(ReceiverStream::new(messages)).await.unwrap();
            down.into_inner().next().await.unwrap().unwrap();
        };
        timeout(PATIENCE, quick).await.expect("answers at once");
        let ready = pair.follower.get("/readyz").await.json();
        let forwarding = ready["checks"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(forwarding, json!({ "name": "forwarding", "ok": true }), "{ready}");
        pair.leader.post_json(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
    };
    let (waited, ()) = tokio::join!(waits, others);
    for answer in [waited.0, waited.1, waited.2, waited.3, waited.4] {
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("cancelled")));
    }
    pair.stop().await;
}

#[tokio::test]
async fn a_leader_that_cannot_be_reached_is_said_to_be() {
    let pair = Pair::start().await;
    let id = pair.follower.create(&json!({ "kind": "k" })).await;
    // The leader's engine goes on, its port does not.
    pair.leader.stop_listening().await;
    let answer = pair.follower.get(&format!("/v1/tasks/{id}")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    let detail = answer.problem()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("cannot reach the leader"), "{detail}");
    let lost = "rota_forward_failures_total{reason=\"unreachable\"}";
    let metrics = pair.follower.metrics().await;
    assert!(metrics.contains(lost) && !metrics.contains(&format!("{lost} 0")), "{metrics}");
    let ready = async { while pair.follower.get("/readyz").await.status == 200 {} };
    timeout(PATIENCE, ready).await.expect("it says that it cannot serve");
    let ready = pair.follower.get("/readyz").await.json();
    let forwarding = ready["checks"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&forwarding["name"], &forwarding["ok"]), (&json!("forwarding"), &json!(false)));
    let metrics = pair.follower.metrics().await;
    assert!(metrics.contains("rota_ready{check=\"forwarding\"} 0.0\n"), "{metrics}");
    pair.stop().await;
}
