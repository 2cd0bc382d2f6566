//! Both protocols do the same: each operation that both have is asked for over each, with the same arguments, and must
//! give the same answer, or the same reason, text and fields.
//!
//! Two tasks, queues and workers of like names are the twins: REST works on one, gRPC on the other.

mod failures;
mod lists;
mod schedules;

use http::{Request, uri::PathAndQuery};
use http_body_util::Full;
use prost::Message;
use rota_proto::{
    TimeSpan,
    json::{BulkResult, NewTaskBatchResult},
    node_v1,
    operations::{Form, Method, Operation},
    v1,
};
use serde_json::{Map, Value, json};
use tonic::{Status, transport::Channel};

use crate::{grpc::told, harness::Node};

/// Members that differ from one request to the next.
const VOLATILE: &[&str] = &[
    "assigned_at",
    "at",
    "backfill",
    "bytes_used",
    "connected_at",
    "created_at",
    "decided_until",
    "ended_at",
    "error_fingerprint",
    "first_at",
    "last_at",
    // The twin of REST has older tasks beside it.
    "examined",
    "until",
    "finished_at",
    "heartbeat_age",
    "lease_token",
    "now",
    "oldest_pending_age",
    "revision",
    "run_at",
    "running_task",
    "session",
    "started_at",
    "updated_at",
];

const REST: &str = "over-rest";
const GRPC: &str = "over-grpc";

/// What one protocol works on.
#[derive(Debug, Clone, Copy)]
struct Twin {
    name: &'static str,
    session: &'static str,
    token: u64,
}

impl Twin {
    fn new(name: &'static str, session: &'static str) -> Self {
        Self { name, session, token: 1 }
    }

    fn id(&self) -> String {
        self.name.to_owned()
    }

    fn task(&self) -> v1::TaskRequest {
        v1::TaskRequest { id: self.id() }
    }

    fn queue(&self) -> v1::QueueRequest {
        v1::QueueRequest { queue: self.id() }
    }
}

/// What came of a request.
#[derive(Debug, PartialEq)]
enum CallResult {
    Answered(Value),
    Refused { reason: String, detail: String, fields: Vec<String> },
}

struct Parity {
    node: Node,
    channel: Channel,
    twins: [Twin; 2],
    answered: Vec<Operation>,
    refused: Vec<Operation>,
}

/// What is the same for both: without names of twins and without times.
fn masked(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let shown = members.into_iter().map(|(name, value)| match name.as_str() {
                known if VOLATILE.contains(&known) => (name, Value::from("some")),
                // It tells until when.
                "waiting" => (name, value["reason"].clone()),
                _ => (name, masked(value)),
            });
            Value::Object(shown.collect())
        }
        Value::Array(items) => items.into_iter().map(masked).collect(),
        Value::String(text) => text.replace(REST, "twin").replace(GRPC, "twin").into(),
        other => other,
    }
}

/// A text of gRPC, with the names that REST has for fields.
fn renamed(operation: Operation, text: &str) -> String {
    let text = text.replace("page_size", "limit").replace("page_token", "cursor");
    match operation {
        Operation::ListTasks | Operation::CountTasks => text
            .replace("filter.labels.a b", "label")
            .replace("filter.priorities", "priority")
            .replace("filter.", ""),
        _ => text,
    }
}

/// Asks over REST. The arguments are parts of the path, and then the query or the body.
async fn over_rest(node: &Node, operation: Operation, twin: &Twin, given: Value) -> CallResult {
    let http = operation.http().unwrap();
    let mut given: Map<String, Value> = given.as_object().cloned().unwrap_or_default();
    let mut path = http.path.to_owned();
    let own = ["id", "name", "queue", "worker"].map(|part| (part, twin.name));
    for (part, own) in own.into_iter().chain([("session", twin.session)]) {
        let place = format!("{{{part}}}");
        if path.contains(&place) {
            let value = given.remove(part).unwrap_or_else(|| own.into());
            path = path.replace(&place, &value.as_str().unwrap().replace(' ', "%20"));
        }
    }
    let mut body = String::new();
    if http.method == Method::Get {
        for (at, (name, value)) in given.iter().enumerate() {
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            path.push(if at == 0 { '?' } else { '&' });
            path.push_str(&format!("{name}={}", value.replace(' ', "%20")));
        }
    } else {
        body = Value::Object(given).to_string();
    }
    let method = format!("{:?}", http.method).to_uppercase();
    let request = Request::builder().method(method.as_str()).uri(path);
    let request = request.header("content-type", "application/json");
    let answer = node.send(request.body(Full::from(body)).unwrap()).await;
    match answer.status {
        204 => CallResult::Answered(Value::Null),
        200..300 => CallResult::Answered(answer.json()),
        _ => {
            let text = |name: &str| answer.problem()[name].as_str().unwrap().to_owned();
            let (reason, detail) = (text("reason"), text("detail"));
            CallResult::Refused { reason, detail, fields: answer.fields() }
        }
    }
}

/// Asks over gRPC.
async fn over_grpc<Q, A>(
    channel: &Channel,
    operation: Operation,
    message: Q,
    show: impl Fn(A) -> Value,
) -> CallResult
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static(operation.grpc().unwrap());
    let codec = tonic_prost::ProstCodec::<Q, A>::default();
    let answer: Result<tonic::Response<A>, Status> =
        grpc.unary(tonic::Request::new(message), path, codec).await;
    match answer {
        Ok(answer) => CallResult::Answered(show(answer.into_inner())),
        Err(status) => {
            let (_, reason, fields) = told(&status);
            CallResult::Refused {
                reason,
                detail: renamed(operation, status.message()),
                fields: fields.iter().map(|field| renamed(operation, field)).collect(),
            }
        }
    }
}

/// The JSON form of a message that has one.
fn shown<A: serde::Serialize>(answer: A) -> Value {
    serde_json::to_value(answer).unwrap()
}

/// What REST answers with 204.
fn nothing<A>(_: A) -> Value {
    Value::Null
}

impl Parity {
    /// Asks for the same over both protocols, each for its twin. Returns both answers.
    async fn same<Q, A>(
        &mut self,
        operation: Operation,
        given: impl Fn(&Twin) -> Value,
        message: impl Fn(&Twin) -> Q,
        show: impl Fn(A) -> Value,
    ) -> [Value; 2]
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let [one, other] = self.twins;
        let rest = over_rest(&self.node, operation, &one, given(&one)).await;
        let grpc = over_grpc(&self.channel, operation, message(&other), show).await;
        match (rest, grpc) {
            (CallResult::Answered(rest), CallResult::Answered(grpc)) => {
                assert_eq!(masked(rest.clone()), masked(grpc.clone()), "{operation:?}");
                self.answered.push(operation);
                [rest, grpc]
            }
            (rest, grpc) => panic!("{operation:?} was not answered: {rest:?}, {grpc:?}"),
        }
    }

    /// Asks for what both must refuse alike.
    async fn refused<Q: Message + 'static>(
        &mut self,
        operation: Operation,
        given: Value,
        message: Q,
        field: &str,
    ) {
        let rest =
            over_rest(&self.node, operation, &Twin::new("none", "s_0123456789abc"), given).await;
        // The type of the answer does not matter: there is none.
        let show = |_: v1::Task| Value::Null;
        let grpc = over_grpc(&self.channel, operation, message, show).await;
        assert_eq!(rest, grpc, "{operation:?}");
        let CallResult::Refused { fields, .. } = rest else {
            panic!("{operation:?} was answered: {rest:?}")
        };
        assert_eq!(fields.first().map_or("", String::as_str), field, "{operation:?}");
        self.refused.push(operation);
    }

    /// Leases the next task of each twin.
    async fn lease(&mut self) {
        let given = |twin: &Twin| json!({ "worker": twin.name, "session": twin.session, "kinds": [twin.name] });
        let message = |twin: &Twin| v1::LeaseRequest {
            worker: twin.id(),
            session: Some(twin.session.to_owned()),
            kinds: vec![twin.id()],
            ..Default::default()
        };
        let show = shown::<v1::LeaseResponse>;
        let answers = self.same(Operation::LeaseTasks, given, message, show).await;
        for (twin, answer) in self.twins.iter_mut().zip(answers) {
            twin.token = answer["tasks"][0]["lease_token"].as_u64().unwrap();
        }
    }

    /// Asks for an operation on a task by its id alone.
    async fn on_task<A: Message + Default + 'static>(
        &mut self,
        operation: Operation,
        show: impl Fn(A) -> Value,
    ) {
        self.same(operation, |_| Value::Null, Twin::task, show).await;
    }
}

async fn submissions(both: &mut Parity) {
    let members = |twin: &Twin| {
        json!({
            "id": twin.name, "kind": twin.name, "queue": twin.name, "payload": { "a": 1 },
            "labels": { "l": "v" }, "retry": { "max_attempts": 1 }, "timeout": "1m",
        })
    };
    let task = |twin: &Twin| v1::NewTask {
        id: Some(twin.id()),
        kind: twin.id(),
        queue: Some(twin.id()),
        payload: r#"{"a":1}"#.into(),
        labels: [("l".to_owned(), "v".to_owned())].into(),
        retry: Some(v1::RetryPolicy { max_attempts: Some(1), ..Default::default() }),
        timeout: Some(TimeSpan { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    let create = |twin: &Twin| v1::CreateTaskRequest { task: Some(task(twin)) };
    let show = |answer: v1::CreateTaskResponse| shown(answer.task);
    both.same(Operation::CreateTask, members, create, show).await;

    let second = |twin: &Twin| format!("{}-2", twin.name);
    let given = |twin: &Twin| {
        let second = json!({ "id": second(twin), "kind": twin.name, "queue": twin.name });
        json!({ "tasks": [second, { "kind": "a b" }, members(twin)] })
    };
    let message = |twin: &Twin| v1::CreateTasksRequest {
        tasks: vec![
            v1::NewTask {
                id: Some(second(twin)),
                kind: twin.id(),
                queue: Some(twin.id()),
                ..Default::default()
            },
            v1::NewTask { kind: "a b".to_owned(), ..Default::default() },
            task(twin),
        ],
    };
    let show = |answer: v1::CreateTasksResponse| shown(NewTaskBatchResult::from(answer));
    both.same(Operation::CreateTasks, given, message, show).await;
}

async fn management(both: &mut Parity) {
    use Operation as O;
    let given = |_: &Twin| json!({ "wait": "1ms" });
    let wait = Some(TimeSpan { seconds: 0, nanos: 1_000_000 });
    let message = |twin: &Twin| v1::GetTaskRequest { id: twin.id(), wait };
    both.same(O::GetTask, given, message, shown::<v1::Task>).await;
    lists::answered(both).await;
    failures::counted(both).await;
    let delay = Some(TimeSpan { seconds: 3600, nanos: 0 });
    let message = |twin: &Twin| v1::RescheduleTaskRequest { id: twin.id(), run_at: None, delay };
    both.same(O::RescheduleTask, |_| json!({ "delay": "1h" }), message, shown::<v1::Task>).await;
    let message = |twin: &Twin| v1::SetTaskPriorityRequest { id: twin.id(), priority: 7 };
    both.same(O::SetTaskPriority, |_| json!({ "priority": 7 }), message, shown::<v1::Task>).await;
    let given = |_: &Twin| json!({ "description": "d", "labels": { "l": null }, "priority": 8 });
    let message = |twin: &Twin| v1::UpdateTaskRequest {
        id: twin.id(),
        change: Some(v1::TaskChange {
            description: Some("d".to_owned()),
            priority: Some(8),
            ..Default::default()
        }),
        update_mask: Some(rota_proto::FieldMask {
            paths: ["description", "labels.l", "priority"].map(str::to_owned).to_vec(),
        }),
        expected_version: None,
    };
    both.same(O::UpdateTask, given, message, shown::<v1::Task>).await;
    both.on_task(O::CancelTask, shown::<v1::Task>).await;
    both.on_task(O::RetryTask, shown::<v1::Task>).await;
    both.on_task(O::GetResult, |answer: v1::GetResultResponse| {
        assert!(answer.result.is_empty());
        Value::Null
    })
    .await;
    both.same(O::PauseQueue, |_| Value::Null, Twin::queue, shown::<v1::Queue>).await;
    both.same(O::ResumeQueue, |_| Value::Null, Twin::queue, shown::<v1::Queue>).await;
    let message = |_: &Twin| v1::ListQueuesRequest { page_size: 1, ..Default::default() };
    let given = |_: &Twin| json!({ "limit": 1 });
    both.same(O::ListQueues, given, message, shown::<v1::ListQueuesResponse>).await;
}

async fn work(both: &mut Parity) {
    use Operation as O;
    both.lease().await;
    let given = |twin: &Twin| json!({ "lease_token": twin.token, "message": "half" });
    let message = |twin: &Twin| v1::ReportProgressRequest {
        id: twin.id(),
        lease_token: twin.token,
        message: "half".to_owned(),
    };
    both.same(O::ReportProgress, given, message, nothing::<v1::ReportProgressResponse>).await;
    let message = |twin: &Twin| v1::HeartbeatRequest { session: twin.session.to_owned() };
    both.same(O::Heartbeat, |_| Value::Null, message, shown::<v1::HeartbeatResponse>).await;
    let message = |_: &Twin| v1::ListWorkersRequest { page_size: 1, ..Default::default() };
    let given = |_: &Twin| json!({ "limit": 1 });
    both.same(O::ListWorkers, given, message, shown::<v1::ListWorkersResponse>).await;
    let given = |twin: &Twin| json!({ "lease_token": twin.token });
    let message = |twin: &Twin| v1::ReleaseRequest { id: twin.id(), lease_token: twin.token };
    both.same(O::ReleaseTask, given, message, nothing::<v1::ReleaseResponse>).await;

    both.lease().await;
    let given = |twin: &Twin| json!({ "lease_token": twin.token, "delay": "0s" });
    let message = |twin: &Twin| v1::SnoozeRequest {
        id: twin.id(),
        lease_token: twin.token,
        delay: Some(TimeSpan { seconds: 0, nanos: 0 }),
        ..Default::default()
    };
    both.same(O::SnoozeTask, given, message, nothing::<v1::SnoozeResponse>).await;

    both.lease().await;
    let given =
        |twin: &Twin| json!({ "lease_token": twin.token, "error": "e", "output_tail": "o" });
    let message = |twin: &Twin| v1::FailRequest {
        id: twin.id(),
        lease_token: twin.token,
        failed: Some(v1::Failed {
            reason: v1::FailureReason::Error.into(),
            message: "e".to_owned(),
            retry_at: None,
        }),
        output_tail: "o".into(),
    };
    both.same(O::FailTask, given, message, nothing::<v1::FailResponse>).await;
    both.on_task(O::ListAttempts, shown::<v1::ListAttemptsResponse>).await;
    failures::listed(both).await;
    both.on_task(O::RetryTask, shown::<v1::Task>).await;

    both.lease().await;
    let given = |twin: &Twin| json!({ "lease_token": twin.token, "result": [1] });
    let message = |twin: &Twin| v1::CompleteRequest {
        id: twin.id(),
        lease_token: twin.token,
        result: "[1]".into(),
        ..Default::default()
    };
    both.same(O::CompleteTask, given, message, nothing::<v1::CompleteResponse>).await;
    let show =
        |answer: v1::GetResultResponse| serde_json::from_slice::<Value>(&answer.result).unwrap();
    both.on_task(O::GetResult, show).await;
}

async fn ends(both: &mut Parity) {
    use Operation as O;
    both.lease().await;
    let second = |twin: &Twin| format!("{}-2", twin.name);
    let given = |twin: &Twin| json!({ "id": second(twin) });
    let message = |twin: &Twin| v1::TaskRequest { id: second(twin) };
    both.same(O::CancelTask, given, message, shown::<v1::Task>).await;
    let given = |twin: &Twin| json!({ "id": second(twin), "lease_token": twin.token });
    let message = |twin: &Twin| v1::ReportCancelledRequest {
        id: second(twin),
        lease_token: twin.token,
        ..Default::default()
    };
    both.same(O::ReportCancelled, given, message, nothing::<v1::ReportCancelledResponse>).await;
    let message = |twin: &Twin| v1::DrainWorkerRequest { worker: twin.name.to_owned() };
    // Of several sessions, gRPC shows the first.
    let show = |worker: v1::Worker| json!({ "workers": [shown(worker)] });
    both.same(O::DrainWorker, |_| Value::Null, message, show).await;
    let message = |twin: &Twin| v1::CloseSessionRequest { session: twin.session.to_owned() };
    both.same(O::CloseSession, |_| Value::Null, message, nothing::<v1::CloseSessionResponse>).await;
    both.on_task(O::DeleteTask, nothing::<v1::DeleteTaskResponse>).await;
    let dry = failures::dry_run(both).await;
    let given = |twin: &Twin| json!({ "action": "delete", "filter": { "queue": twin.name } });
    let message = |twin: &Twin| v1::BulkTasksRequest {
        action: v1::BulkAction::Delete.into(),
        filter: Some(v1::TaskFilter { queue: Some(twin.id()), ..Default::default() }),
        ..Default::default()
    };
    let show = |answer: v1::BulkTasksResponse| shown(BulkResult::from(answer));
    let [real, _] = both.same(O::BulkTasks, given, message, show).await;
    assert_eq!(dry, real, "the dry run changed nothing");
}

async fn server(both: &mut Parity) {
    use Operation as O;
    let none = |_: &Twin| Value::Null;
    let message = |_: &Twin| v1::GetServerInfoRequest {};
    both.same(O::GetServerInfo, none, message, shown::<v1::ServerInfo>).await;
    both.same(O::GetCluster, none, |_| v1::GetClusterRequest {}, shown::<v1::Cluster>).await;
    both.same(O::GetNode, none, |_| v1::GetNodeRequest {}, shown::<v1::Node>).await;
    let (none, nothing) = (Value::Null, v1::TransferLeadershipRequest::default());
    both.refused(O::TransferLeadership, none, nothing, "to").await;
    // The log of this node belongs to its tests.
    let request = node_v1::GetLogFilterRequest {};
    both.refused(O::GetLogFilter, Value::Null, request, "").await;
}

async fn bad_tasks(both: &mut Parity) {
    use Operation as O;
    let task = v1::NewTask { kind: "a b".to_owned(), priority: Some(12), ..Default::default() };
    let given = json!({ "kind": "a b", "priority": 12 });
    both.refused(O::CreateTask, given, v1::CreateTaskRequest { task: Some(task) }, "kind").await;
    let given = json!({ "tasks": [] });
    both.refused(O::CreateTasks, given, v1::CreateTasksRequest::default(), "tasks").await;
    for (id, field) in [("a b", "id"), ("none", "")] {
        let given = json!({ "id": id });
        let message = v1::TaskRequest { id: id.to_owned() };
        for operation in
            [O::GetTask, O::CancelTask, O::RetryTask, O::DeleteTask, O::ListAttempts, O::GetResult]
        {
            both.refused(operation, given.clone(), message.clone(), field).await;
        }
    }
    let wait = Some(TimeSpan { seconds: 61, nanos: 0 });
    let message = v1::GetTaskRequest { id: "none".to_owned(), wait };
    both.refused(O::GetTask, json!({ "wait": "61s" }), message, "wait").await;
    let message = v1::RescheduleTaskRequest { id: "none".to_owned(), ..Default::default() };
    both.refused(O::RescheduleTask, json!({}), message, "run_at").await;
    let change = v1::TaskChange { priority: Some(3), ..Default::default() };
    let message =
        v1::UpdateTaskRequest { id: "none".to_owned(), change: Some(change), ..Default::default() };
    both.refused(O::UpdateTask, json!({ "priority": 3 }), message, "").await;
    let message = v1::SetTaskPriorityRequest { id: "none".to_owned(), priority: 10 };
    both.refused(O::SetTaskPriority, json!({ "priority": 10 }), message, "priority").await;
    lists::refused(both).await;
    failures::refused(both).await;
}

async fn bad_others(both: &mut Parity) {
    use Operation as O;
    let message = v1::ListQueuesRequest { page_size: 1001, ..Default::default() };
    both.refused(O::ListQueues, json!({ "limit": 1001 }), message, "limit").await;
    let message = v1::ListQueuesRequest { page_token: "a b".to_owned(), ..Default::default() };
    both.refused(O::ListQueues, json!({ "cursor": "a b" }), message, "cursor").await;
    let message = v1::ListWorkersRequest { page_token: "x".to_owned(), ..Default::default() };
    both.refused(O::ListWorkers, json!({ "cursor": "x" }), message, "cursor").await;
    for operation in [O::PauseQueue, O::ResumeQueue] {
        let message = v1::QueueRequest { queue: "a b".to_owned() };
        both.refused(operation, json!({ "queue": "a b" }), message, "queue").await;
    }
    for (worker, field) in [("a b", "worker"), ("none", "")] {
        let message = v1::DrainWorkerRequest { worker: worker.to_owned() };
        both.refused(O::DrainWorker, json!({ "worker": worker }), message, field).await;
    }
    let message = v1::LeaseRequest { worker: "w".to_owned(), max: Some(0), ..Default::default() };
    both.refused(O::LeaseTasks, json!({ "worker": "w", "max": 0 }), message, "max").await;
    for (session, field) in [("me", "session"), ("s_0123456789abc", "")] {
        let session = session.to_owned();
        let given = json!({ "session": session });
        let message = v1::HeartbeatRequest { session };
        both.refused(O::Heartbeat, given.clone(), message.clone(), field).await;
        both.refused(O::CloseSession, given, message, field).await;
    }
    let message = v1::TransferLeadershipRequest { to: Some("a b".to_owned()) };
    both.refused(O::TransferLeadership, json!({ "to": "a b" }), message, "to").await;
    let message = node_v1::SetLogFilterRequest { filter: " ".to_owned() };
    both.refused(O::SetLogFilter, json!({ "filter": " " }), message, "filter").await;
    for (id, field) in [("a b", "id"), ("none", "")] {
        let token = json!({ "id": id, "lease_token": 1 });
        let message = v1::ReleaseRequest { id: id.to_owned(), lease_token: 1 };
        for operation in [O::CompleteTask, O::ReportCancelled, O::ReleaseTask] {
            both.refused(operation, token.clone(), message.clone(), field).await;
        }
        let given = json!({ "id": id, "lease_token": 1, "message": "m" });
        let message = v1::ReportProgressRequest {
            id: id.to_owned(),
            lease_token: 1,
            message: "m".to_owned(),
        };
        both.refused(O::ReportProgress, given, message, field).await;
        let given = json!({ "id": id, "lease_token": 1, "delay": "1s" });
        let message = v1::SnoozeRequest {
            id: id.to_owned(),
            lease_token: 1,
            delay: Some(TimeSpan { seconds: 1, nanos: 0 }),
            ..Default::default()
        };
        both.refused(O::SnoozeTask, given, message, field).await;
        let given = json!({ "id": id, "lease_token": 1, "error": "e" });
        let failed = Some(v1::Failed { message: "e".to_owned(), ..Default::default() });
        let message =
            v1::FailRequest { id: id.to_owned(), lease_token: 1, failed, ..Default::default() };
        both.refused(O::FailTask, given, message, field).await;
    }
}

#[tokio::test]
async fn both_protocols_answer_and_refuse_alike() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let twins = [Twin::new(REST, "s_0000000000001"), Twin::new(GRPC, "s_0000000000002")];
    let mut both = Parity { node, channel, twins, answered: Vec::new(), refused: Vec::new() };
    submissions(&mut both).await;
    management(&mut both).await;
    work(&mut both).await;
    ends(&mut both).await;
    schedules::definitions(&mut both).await;
    schedules::runs(&mut both).await;
    server(&mut both).await;
    bad_tasks(&mut both).await;
    bad_others(&mut both).await;
    schedules::refused(&mut both).await;

    use Operation as O;
    // There is no other node to lead, and the log of this one belongs to its tests.
    let never_answered = [O::TransferLeadership, O::GetLogFilter, O::SetLogFilter];
    let never_refused = [O::GetServerInfo, O::GetCluster, O::GetNode];
    let calls = O::ALL.iter().filter(|op| op.http().is_some() && op.form() != Form::Stream);
    for operation in calls.filter(|op| op.grpc().is_some()) {
        let answered = both.answered.contains(operation);
        assert_eq!(answered, !never_answered.contains(operation), "{operation:?}");
        let refused = both.refused.contains(operation);
        assert_eq!(refused, !never_refused.contains(operation), "{operation:?}");
    }
    let Parity { node, channel, .. } = both;
    drop(channel);
    node.stop().await;
}
