//! gRPC as it is meant to be used, and its errors.

use std::collections::BTreeMap;

use rota_proto::v1::{
    self, create_tasks_response::result::Result as Item, queue_service_client::QueueServiceClient,
    server_service_client::ServerServiceClient, task_service_client::TaskServiceClient,
    worker_service_client::WorkerServiceClient,
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::harness::Node;

fn task(kind: &str) -> v1::NewTask {
    v1::NewTask { kind: kind.to_owned(), ..v1::NewTask::default() }
}

fn by_id(id: &str) -> v1::TaskRequest {
    v1::TaskRequest { id: id.to_owned() }
}

async fn create(client: &mut TaskServiceClient<Channel>, task: v1::NewTask) -> v1::Task {
    let request = v1::CreateTaskRequest { task: Some(task) };
    client.create_task(request).await.unwrap().into_inner().task.unwrap()
}

/// The code, the stable reason and the fields of a refused call.
pub(crate) fn told(status: &Status) -> (Code, String, Vec<String>) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let fields = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    (status.code(), reason, fields.into_iter().map(|violation| violation.field).collect())
}

#[tokio::test]
async fn tasks_are_created_read_and_managed() {
    let node = Node::start().await;
    let mut client = TaskServiceClient::new(node.channel().await);
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let new = v1::NewTask { labels, payload: "\0\u{1}".into(), priority: Some(9), ..task("k") };
    let made = create(&mut client, new).await;
    assert_eq!((made.priority, &made.payload[..]), (9, &b"\0\x01"[..]));

    let wait = Some(rota_proto::TimeSpan { seconds: 0, nanos: 1_000_000 });
    let read = client.get_task(v1::GetTaskRequest { id: made.id.clone(), wait }).await.unwrap();
    assert_eq!(read.into_inner().labels, made.labels);
    let delay = Some(rota_proto::TimeSpan { seconds: 3600, nanos: 0 });
    let later = v1::RescheduleTaskRequest { id: made.id.clone(), run_at: None, delay };
    let later = client.reschedule_task(later).await.unwrap().into_inner();
    assert_eq!(later.status(), v1::TaskStatus::Scheduled);
    let lower = v1::SetTaskPriorityRequest { id: made.id.clone(), priority: 0 };
    assert_eq!(client.set_task_priority(lower).await.unwrap().into_inner().priority, 0);
    let cancelled = client.cancel_task(by_id(&made.id)).await.unwrap().into_inner();
    assert_eq!(cancelled.status(), v1::TaskStatus::Cancelled);
    let again = client.retry_task(by_id(&made.id)).await.unwrap().into_inner();
    assert_eq!(again.status(), v1::TaskStatus::Pending);

    let filter = Some(v1::TaskFilter {
        statuses: vec![v1::TaskStatus::Pending.into()],
        ..v1::TaskFilter::default()
    });
    let list = v1::ListTasksRequest { filter: filter.clone(), ..Default::default() };
    assert_eq!(client.list_tasks(list).await.unwrap().into_inner().tasks.len(), 1);
    let bulk = v1::BulkTasksRequest {
        action: v1::BulkAction::Cancel.into(),
        filter,
        ..v1::BulkTasksRequest::default()
    };
    assert_eq!(client.bulk_tasks(bulk).await.unwrap().into_inner().changed, 1);
    assert!(client.list_attempts(by_id(&made.id)).await.unwrap().into_inner().attempts.is_empty());
    assert!(client.get_result(by_id(&made.id)).await.unwrap().into_inner().result.is_empty());
    client.delete_task(by_id(&made.id)).await.unwrap();
    let gone = client.cancel_task(by_id(&made.id)).await.unwrap_err();
    assert_eq!(told(&gone), (Code::NotFound, "unknown_task".to_owned(), vec![]));
    drop(client);
    node.stop().await;
}

#[tokio::test]
async fn of_many_tasks_each_has_its_result() {
    let node = Node::start().await;
    let mut client = TaskServiceClient::new(node.channel().await);
    let mut tasks = vec![task("k"); 1000];
    tasks[500] = task("not a kind");
    let made = client.create_tasks(v1::CreateTasksRequest { tasks }).await.unwrap().into_inner();
    assert_eq!(made.results.len(), 1000);
    for (at, result) in made.results.into_iter().enumerate() {
        match result.result.unwrap() {
            Item::Task(created) => assert!(created.created && at != 500),
            Item::Error(error) => {
                assert_eq!((at, error.field.as_str()), (500, "tasks[500].kind"));
                assert_eq!(error.code, i32::from(Code::InvalidArgument));
                assert_eq!(error.reason, "invalid");
            }
        }
    }
    drop(client);
    node.stop().await;
}

#[tokio::test]
async fn errors_say_the_field_the_reason_and_when_to_try_again() {
    let mut options = rota_engine::EngineOptions::default();
    options.machine.queue_length_max = 1;
    let node = Node::start_with(options, rota_server::ServerOptions::default()).await;
    let mut client = TaskServiceClient::new(node.channel().await);
    let retry = Some(v1::RetryPolicy { max_attempts: Some(0), ..v1::RetryPolicy::default() });
    let bad = v1::NewTask { priority: Some(10), retry, ..task("") };
    let request = v1::CreateTaskRequest { task: Some(bad) };
    let status = client.create_task(request).await.unwrap_err();
    let fields = ["kind", "priority", "retry.max_attempts"].map(str::to_owned).to_vec();
    assert_eq!(told(&status), (Code::InvalidArgument, "invalid".to_owned(), fields));

    let empty = Some(String::new());
    let (id, queue) = (empty.clone(), empty.clone());
    let bad = v1::NewTask { id, queue, idempotency_key: empty.clone(), ..task("k") };
    let request = v1::CreateTaskRequest { task: Some(bad) };
    let status = client.create_task(request).await.unwrap_err();
    let fields = ["queue", "id", "idempotency_key"].map(str::to_owned).to_vec();
    assert_eq!(told(&status), (Code::InvalidArgument, "invalid".to_owned(), fields));
    let filter = v1::TaskFilter { queue: empty, ..v1::TaskFilter::default() };
    let request = v1::ListTasksRequest { filter: Some(filter), ..Default::default() };
    let status = client.list_tasks(request).await.unwrap_err();
    assert_eq!(told(&status).2, ["filter.queue"]);

    let named = v1::NewTask { id: Some("mine".to_owned()), ..task("k") };
    create(&mut client, named.clone()).await;
    let other = v1::NewTask { payload: "other".into(), ..named };
    let request = v1::CreateTaskRequest { task: Some(other) };
    let status = client.create_task(request).await.unwrap_err();
    assert_eq!(told(&status), (Code::AlreadyExists, "conflict".to_owned(), vec!["id".to_owned()]));

    let request = v1::CreateTaskRequest { task: Some(task("k")) };
    let status = client.create_task(request).await.unwrap_err();
    assert_eq!(told(&status).0, Code::ResourceExhausted);
    let details = status.get_error_details();
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    let said = &details.error_info().unwrap().metadata;
    assert_eq!((said["limit"].as_str(), said["max"].as_str()), ("queue_length", "1"));
    let words = &details.bad_request().unwrap().field_violations[0].description;
    assert!(words.ends_with("(limit queue_length)"), "{words}");

    let many = v1::CreateTasksRequest { tasks: vec![task("k"), task("a b")] };
    let results = client.create_tasks(many).await.unwrap().into_inner().results;
    let mut errors = results.into_iter().map(|result| match result.result {
        Some(Item::Error(error)) => error,
        other => panic!("{other:?}"),
    });
    let full = errors.next().unwrap();
    assert_eq!((full.limit.as_str(), full.limit_max), ("queue_length", 1));
    assert_eq!(full.retry_after.map(|after| after.seconds), Some(1));
    let wrong = errors.next().unwrap();
    assert_eq!((wrong.limit.as_str(), wrong.limit_max, wrong.retry_after), ("", 0, None));

    let bulk = v1::BulkTasksRequest {
        action: v1::BulkAction::Delete.into(),
        ..v1::BulkTasksRequest::default()
    };
    let status = client.bulk_tasks(bulk.clone()).await.unwrap_err();
    assert_eq!(told(&status).2, ["all"]);
    let meant = v1::BulkTasksRequest { all: true, ..bulk };
    assert_eq!(client.bulk_tasks(meant).await.unwrap().into_inner().skipped, 1);
    assert_eq!(
        client.retry_task(by_id("mine")).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    drop(client);
    node.stop().await;
}

#[tokio::test]
async fn queues_workers_and_the_server_are_shown() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut queues = QueueServiceClient::new(channel.clone());
    let queue = || v1::QueueRequest { queue: "q".to_owned() };
    let pause = |queue: &str| v1::PauseQueueRequest {
        queue: queue.to_owned(),
        ..v1::PauseQueueRequest::default()
    };
    assert!(queues.pause_queue(pause("q")).await.unwrap().into_inner().paused);
    let all = queues.list_queues(v1::ListQueuesRequest::default()).await.unwrap().into_inner();
    assert_eq!((all.queues[0].name.as_str(), all.queues[0].paused), ("q", true));
    let ask = |page_token: &str| v1::ListQueuesRequest {
        page_size: 1,
        page_token: page_token.to_owned(),
    };
    queues.pause_queue(pause("r")).await.unwrap();
    let page = queues.list_queues(ask("")).await.unwrap().into_inner();
    assert_eq!((page.queues.len(), page.queues[0].name.as_str()), (1, "q"));
    let page = queues.list_queues(ask(page.next_page_token())).await.unwrap().into_inner();
    assert_eq!((page.queues[0].name.as_str(), page.next_page_token()), ("r", ""));
    let status = queues.list_queues(ask("no name")).await.unwrap_err();
    assert_eq!(
        told(&status),
        (Code::InvalidArgument, "invalid".to_owned(), vec!["page_token".to_owned()])
    );
    assert!(!queues.resume_queue(queue()).await.unwrap().into_inner().paused);
    let mut workers = WorkerServiceClient::new(channel.clone());
    let all = workers.list_workers(v1::ListWorkersRequest::default()).await.unwrap().into_inner();
    assert!(all.workers.is_empty());
    let drain = v1::DrainWorkerRequest { worker: "w".to_owned() };
    let status = workers.drain_worker(drain).await.unwrap_err();
    assert_eq!(told(&status), (Code::NotFound, "unknown_worker".to_owned(), vec![]));
    let mut server = ServerServiceClient::new(channel);
    let info = server.get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    assert!(info.ready && info.limits["payload_bytes"] == 1 << 20);
    drop((queues, workers, server));
    node.stop().await;
}

#[tokio::test]
async fn services_are_described_to_older_clients_too() {
    use tonic_reflection::pb::{v1, v1alpha};
    let node = Node::start().await;
    let channel = node.channel().await;
    let ask = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let ask = v1::ServerReflectionRequest { message_request: Some(ask), ..Default::default() };
    let mut now = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let told = now.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let told = format!("{:?}", told.collect::<Vec<_>>().await);
    assert!(told.contains("rota.v1.TaskService"), "{told}");

    let ask = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let ask = v1alpha::ServerReflectionRequest { message_request: Some(ask), ..Default::default() };
    let mut older = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let told = older.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let told = format!("{:?}", told.collect::<Vec<_>>().await);
    assert!(told.contains("rota.v1.TaskService"), "{told}");
    drop((now, older));
    node.stop().await;
}
