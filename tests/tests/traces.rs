//! One trace shows the whole life of a task, across the processes that have a part in it: a real
//! node and a real worker send their spans to a real receiver of OTLP.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{net::SocketAddr, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, status::StatusCode},
};
use rota_client::{
    task,
    v1::{self, TaskStatus, schedule_service_client::ScheduleServiceClient},
};
use rota_tests::process::{PATIENCE, Server, command, end};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Endpoint};

/// Receives spans as a collector does.
struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).unwrap();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> (SocketAddr, mpsc::UnboundedReceiver<ExportTraceServiceRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, received) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector(sender));
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(async move {
        let server = tonic::transport::Server::builder().add_service(service);
        server.serve_with_incoming(incoming).await.unwrap();
    });
    (address, received)
}

/// A span and the process that sent it.
#[derive(Debug)]
struct Seen {
    process: String,
    span: Span,
}

impl Seen {
    fn number(&self, key: &str) -> Option<i64> {
        match value(&self.span.attributes, key)? {
            Value::IntValue(number) => Some(*number),
            _ => None,
        }
    }

    fn failed(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
    }
}

fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

/// Everything that was received, in the order of its beginning.
fn all(received: &mut mpsc::UnboundedReceiver<ExportTraceServiceRequest>) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Ok(request) = received.try_recv() {
        for of_process in request.resource_spans {
            let attributes = of_process.resource.unwrap().attributes;
            let process = match value(&attributes, "service.instance.id") {
                Some(Value::StringValue(name)) => name.clone(),
                other => panic!("{other:?}"),
            };
            let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            seen.extend(spans.map(|span| Seen { process: process.clone(), span }));
        }
    }
    seen.sort_by_key(|seen| seen.span.start_time_unix_nano);
    seen
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";

#[tokio::test]
async fn one_trace_shows_the_life_of_a_task_that_was_tried_again() {
    let (address, mut received) = collector().await;
    let endpoint = format!("http://{address}");
    let server = Server::start(&["--node", "n1", "--otlp-endpoint", &endpoint]).await;
    server.ready().await;
    let url = server.url();
    let options = ["worker", "--url", &url, "--name", "w1", "--allow-command"];
    let mut worker = command(&options, server.home())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
        .spawn()
        .unwrap();

    let client = server.client().traced(&format!("00-{TRACE}-{CLIENT}-01"), "vendor=kept");
    let script = "echo $TRACEPARENT $TRACESTATE; test $ROTA_ATTEMPT = 2";
    let new = task("command")
        .id("retried")
        .payload_json(&serde_json::json!({ "argv": [script], "shell": "sh" }))
        .backoff(Duration::from_millis(1), 1.0, Duration::from_millis(1));
    client.create_task(new).await.unwrap();
    let ended = timeout(PATIENCE, client.wait_task("retried")).await.unwrap().unwrap();
    assert_eq!((ended.status(), ended.attempt), (TaskStatus::Completed, 2));
    assert_eq!(ended.trace_id.as_deref(), Some(TRACE));
    let result: serde_json::Value =
        serde_json::from_slice(&client.get_result("retried").await.unwrap()).unwrap();
    // A task of its own, to see that it gets a trace of its own.
    server.client().create_task(task("nobody").id("other")).await.unwrap();
    // They send what they have when they end.
    end(&mut worker).await;
    server.stop().await;

    let (mine, others): (Vec<_>, Vec<_>) =
        all(&mut received).into_iter().partition(|seen| hex(&seen.span.trace_id) == TRACE);
    let story: Vec<_> = mine
        .iter()
        .map(|seen| {
            (
                seen.process.as_str(),
                seen.span.name.as_str(),
                seen.number("rota.attempt"),
                seen.failed(),
            )
        })
        .collect();
    let expected = [
        ("n1", "submit", None, false),
        ("n1", "wait", Some(1), false),
        ("w1", "attempt", Some(1), true),
        ("n1", "wait", Some(2), false),
        ("w1", "attempt", Some(2), false),
    ];
    let sorted = |mut story: Vec<_>| {
        story.sort_unstable();
        story
    };
    assert_eq!(sorted(story.clone()), sorted(expected.to_vec()), "{story:?}");

    let submit = mine.iter().find(|seen| seen.span.name == "submit").unwrap();
    assert_eq!(hex(&submit.span.parent_span_id), CLIENT);
    for seen in &mine {
        assert_eq!(seen.span.trace_state, "vendor=kept", "{seen:?}");
        assert!(seen.span.end_time_unix_nano >= seen.span.start_time_unix_nano);
        if seen.span.name != "submit" {
            assert_eq!(seen.span.parent_span_id, submit.span.span_id, "{seen:?}");
        }
    }
    let second = mine.iter().find(|seen| seen.process == "w1" && !seen.failed()).unwrap();
    let said = format!("00-{TRACE}-{}-01 vendor=kept\n", hex(&second.span.span_id));
    assert_eq!(result["stdout"], said, "the program knows its attempt's span");

    let [other] = &others[..] else { panic!("{others:?}") };
    assert_eq!((other.span.name.as_str(), other.span.parent_span_id.len()), ("submit", 0));
}

/// Creates a schedule that creates one task, in the next second.
async fn schedule_once(server: &Server, name: &str) {
    let channel = Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap();
    let template = v1::TaskTemplate {
        kind: "command".to_owned(),
        payload: serde_json::json!({ "argv": ["true"] }).to_string().into(),
        ..v1::TaskTemplate::default()
    };
    let definition = v1::ScheduleDefinition {
        name: Some(name.to_owned()),
        expressions: vec!["* * * * * *".to_owned()],
        template: Some(template),
        max_runs: Some(1),
        ..v1::ScheduleDefinition::default()
    };
    let put = v1::PutScheduleRequest { definition: Some(definition), expected_version: None };
    let mut schedules = ScheduleServiceClient::new(channel);
    // The first batch of the leader raises the feature level that schedules need.
    let mut look = tokio::time::interval(Duration::from_millis(50));
    let created = async {
        while schedules.put_schedule(put.clone()).await.is_err() {
            look.tick().await;
        }
    };
    timeout(PATIENCE, created).await.unwrap();
}

#[tokio::test]
async fn the_trace_of_a_tick_names_the_schedule_and_the_nominal_time() {
    let (address, mut received) = collector().await;
    let endpoint = format!("http://{address}");
    let server = Server::start(&["--node", "n1", "--otlp-endpoint", &endpoint]).await;
    server.ready().await;
    let url = server.url();
    let options = ["worker", "--url", &url, "--name", "w1", "--allow-command"];
    let mut worker = command(&options, server.home())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
        .spawn()
        .unwrap();
    schedule_once(&server, "often").await;
    let client = server.client();
    let filter = v1::TaskFilter {
        schedule: Some("often".to_owned()),
        statuses: vec![TaskStatus::Completed.into()],
        ..v1::TaskFilter::default()
    };
    let page = v1::ListTasksRequest { filter: Some(filter), ..v1::ListTasksRequest::default() };
    let mut look = tokio::time::interval(Duration::from_millis(50));
    let completed = async {
        loop {
            look.tick().await;
            let found = client.list_tasks(page.clone()).await.unwrap().tasks;
            if let [task] = &found[..] {
                return task.id.clone();
            }
        }
    };
    let id = timeout(PATIENCE, completed).await.unwrap();
    end(&mut worker).await;
    server.stop().await;

    let seen = all(&mut received);
    let named = |name: &str| {
        let found: Vec<_> = seen.iter().filter(|seen| seen.span.name == name).collect();
        let [one] = found[..] else { panic!("{name}: {seen:?}") };
        one
    };
    let tick = named("tick");
    let says = |key: &str| match value(&tick.span.attributes, key) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!((says("rota.task.id"), says("rota.schedule").as_str()), (id.clone(), "often"));
    assert_eq!(id, format!("often/{}", says("rota.nominal_time")));
    assert!(tick.span.parent_span_id.is_empty() && !tick.failed(), "{tick:?}");
    for (name, process) in [("wait", "n1"), ("attempt", "w1")] {
        let child = named(name);
        assert_eq!(child.process, process);
        assert_eq!(child.span.trace_id, tick.span.trace_id);
        assert_eq!(child.span.parent_span_id, tick.span.span_id);
    }
}

#[tokio::test]
async fn without_a_collector_a_client_s_trace_still_reaches_the_program() {
    let server = Server::start(&[]).await;
    server.ready().await;
    let url = server.url();
    let mut worker =
        command(&["worker", "--url", &url, "--allow-command"], server.home()).spawn().unwrap();
    let parent = format!("00-{TRACE}-{CLIENT}-00");
    let arguments = [
        "task",
        "create",
        "--url",
        &url,
        "--id",
        "t",
        "--command",
        "--",
        "printenv",
        "TRACEPARENT",
    ];
    let created = command(&arguments, server.home()).env("TRACEPARENT", &parent).output().await;
    assert!(created.as_ref().unwrap().status.success(), "{created:?}");
    let client = server.client();
    let ended = timeout(PATIENCE, client.wait_task("t")).await.unwrap().unwrap();
    assert_eq!(ended.status(), TaskStatus::Completed, "{ended:?}");
    assert_eq!(ended.trace_id.as_deref(), parent.split('-').nth(1));
    let result = client.get_result("t").await.unwrap();
    let result: serde_json::Value = serde_json::from_slice(&result).unwrap();
    assert_eq!(result["stdout"], format!("{parent}\n"));
    end(&mut worker).await;
    server.stop().await;
}
