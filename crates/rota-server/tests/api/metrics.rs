//! `/metrics`: who may read it, what it says of requests, and in which formats.

use std::net::SocketAddr;

use http::Request;
use http_body_util::Full;
use rota_engine::EngineOptions;
use rota_metrics::catalogue::{ALL, Shape, ShownBy};
use rota_proto::v1::{
    self, server_service_client::ServerServiceClient, task_service_client::TaskServiceClient,
};
use rota_server::{ServerOptions, Tokens};
use serde_json::json;

use crate::{
    cluster::Pair,
    harness::{Answer, Node},
};

const TOKEN: &str = "a-token-of-this-test";
const FOR_METRICS: &str = "a-token-for-metrics";
const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                        encoding=delimited;q=0.6,text/plain;version=0.0.4;q=0.2";

async fn ask(node: &Node, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    node.send(request.body(Full::default()).unwrap()).await
}

fn text(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{answer:?}");
    std::str::from_utf8(&answer.body).unwrap()
}

/// The value of a series, which is named with its labels.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

async fn protected(metrics: Option<&str>, metrics_open: bool) -> Node {
    let tokens = |word: Option<&str>| Tokens::new(word.map(str::to_owned)).unwrap();
    let options = ServerOptions {
        tokens: tokens(Some(TOKEN)),
        metrics_tokens: tokens(metrics),
        metrics_open,
        ..ServerOptions::default()
    };
    Node::start_with(EngineOptions::default(), options).await
}

#[tokio::test]
async fn metrics_are_for_those_who_have_a_token_for_them_or_for_all() {
    for (metrics, open, none, own, api) in [
        (None, false, 401, 401, 200),
        (Some(FOR_METRICS), false, 401, 200, 200),
        (None, true, 200, 200, 200),
    ] {
        let node = protected(metrics, open).await;
        assert_eq!(ask(&node, "/metrics", &[]).await.status, none);
        for (word, status) in [(FOR_METRICS, own), (TOKEN, api)] {
            let bearer = format!("Bearer {word}");
            let answer = ask(&node, "/metrics", &[("authorization", &bearer)]).await;
            assert_eq!(answer.status, status, "{metrics:?} {open} {word}");
        }
        let bearer = format!("Bearer {FOR_METRICS}");
        let elsewhere = ask(&node, "/v1/tasks", &[("authorization", &bearer)]).await;
        assert_eq!(elsewhere.status, 401, "a token for metrics opens nothing else");
        node.stop().await;
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_code_and_by_nothing_that_clients_make_up() {
    let node = Node::start().await;
    let id = node.create(&json!({ "kind": "k" })).await;
    for path in [format!("/v1/tasks/{id}"), "/v1/tasks/nobody".to_owned()] {
        node.get(&path).await;
    }
    for number in 0..200 {
        assert_eq!(node.get(&format!("/made/up/{number}")).await.status, 404);
    }
    let mut client = TaskServiceClient::new(node.channel().await);
    client.get_task(v1::GetTaskRequest { id, ..Default::default() }).await.unwrap();
    let unknown = v1::GetTaskRequest { id: "nobody".to_owned(), ..Default::default() };
    client.get_task(unknown).await.unwrap_err();
    let metrics = node.get("/metrics").await;
    let text = text(&metrics);
    for (protocol, route, code, count) in [
        ("rest", "/v1/tasks", "201", 1.0),
        ("rest", "/v1/tasks/{id}", "200", 1.0),
        ("rest", "/v1/tasks/{id}", "404", 1.0),
        ("rest", "other", "404", 200.0),
        ("grpc", "/rota.v1.TaskService/GetTask", "Ok", 1.0),
        ("grpc", "/rota.v1.TaskService/GetTask", "NotFound", 1.0),
    ] {
        let series = format!(
            "rota_api_requests_total{{protocol=\"{protocol}\",route=\"{route}\",code=\"{code}\"}}"
        );
        assert_eq!(value(text, &series), Some(count), "{series} in\n{text}");
    }
    let took =
        "rota_api_request_duration_seconds_count{protocol=\"rest\",route=\"/v1/tasks/{id}\"}";
    assert_eq!(value(text, took), Some(2.0));
    drop(client);
    node.stop().await;
}

#[tokio::test]
async fn a_leader_shows_all_that_is_declared_and_nothing_else() {
    let node = Node::start().await;
    node.create(&json!({ "kind": "k", "queue": "q" })).await;
    let (id, token) = node.lease("k").await;
    let (path, body) = (format!("/v1/tasks/{id}/complete"), json!({ "lease_token": token }));
    assert_eq!(node.post_json(&path, &body).await.status, 204);
    let metrics = node.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let text = text(&metrics);
    assert!(text.ends_with("# EOF\n"));
    let shown: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.into() })
        .collect();
    let mut missing: Vec<_> = ALL
        .iter()
        .filter(|metric| metric.shown_by != ShownBy::Worker)
        .filter(|metric| !shown.iter().any(|name| name == metric.name))
        .map(|metric| metric.name)
        .collect();
    // Without a limit, a loss, schedules and TLS, there is nothing to show.
    let optional = [
        "process_max_fds",
        "rota_store_loss_timestamp_seconds",
        "rota_schedule_next_tick_timestamp_seconds",
        "rota_schedule_failures",
        "rota_schedule_missed_total",
        "rota_schedule_missed_timestamp_seconds",
    ];
    missing.retain(|name| !optional.contains(name) && !name.starts_with("rota_tls_"));
    assert_eq!(missing, [""; 0]);
    assert!(shown.iter().all(|name| ALL.iter().any(|metric| metric.name == name)), "{shown:?}");
    for (series, least) in [
        ("rota_tasks_completed_total{queue=\"q\",kind=\"k\"}", 1.0),
        ("rota_sessions{state=\"serving\"}", 1.0),
        ("rota_session_slots{worker=\"w\"}", 1.0),
        ("rota_leader", 1.0),
        ("rota_leader_epoch", 1.0),
        ("rota_ready{check=\"engine\"}", 1.0),
        ("rota_store_up", 1.0),
        ("rota_store_size_bytes", 1.0),
        ("process_resident_memory_bytes", 1e6),
    ] {
        let value = value(text, series);
        assert!(value.is_some_and(|value| value >= least), "{series} = {value:?} in\n{text}");
    }
    node.stop().await;
}

#[tokio::test]
async fn each_node_answers_for_itself() {
    let pair = Pair::start().await;
    pair.follower.create(&json!({ "kind": "k", "queue": "q" })).await;
    for (node, leads) in [(&pair.leader, 1.0), (&pair.follower, 0.0)] {
        let metrics = node.get("/metrics").await;
        let text = text(&metrics);
        assert_eq!(value(text, "rota_leader"), Some(leads));
        assert_eq!(value(text, "rota_leader_known"), Some(1.0));
        let submitted = value(text, "rota_tasks_submitted_total{queue=\"q\",kind=\"k\"}");
        assert_eq!(submitted, (leads > 0.0).then_some(1.0));
        let depth = value(text, "rota_tasks{queue=\"q\",state=\"pending\"}");
        assert_eq!(depth, (leads > 0.0).then_some(1.0));
    }
    pair.stop().await;
}

/// What the tests read of Prometheus' messages.
mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct MetricFamily {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(int32, tag = "3")]
        pub(super) kind: i32,
        #[prost(message, repeated, tag = "4")]
        pub(super) metrics: Vec<Metric>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metric {
        #[prost(message, optional, tag = "7")]
        pub(super) histogram: Option<Histogram>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Histogram {
        #[prost(uint64, tag = "1")]
        pub(super) sample_count: u64,
        #[prost(sint32, tag = "5")]
        pub(super) schema: i32,
        #[prost(message, repeated, tag = "12")]
        pub(super) positive_spans: Vec<BucketSpan>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct BucketSpan {
        #[prost(uint32, tag = "2")]
        pub(super) length: u32,
    }

    pub(super) const COUNTER: i32 = 0;
    pub(super) const HISTOGRAM: i32 = 4;
}

#[tokio::test]
async fn prometheus_gets_native_histograms_under_the_same_names() {
    let node = Node::start().await;
    let mut client = ServerServiceClient::new(node.channel().await);
    client.get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
    let metrics = ask(&node, "/metrics", &[("accept", PROTOBUF)]).await;
    assert!(metrics.header("content-type").starts_with("application/vnd.google.protobuf;"));
    let mut body = metrics.body.clone();
    let mut families = Vec::new();
    while !body.is_empty() {
        families.push(
            <wire::MetricFamily as prost::Message>::decode_length_delimited(&mut body).unwrap(),
        );
    }
    for family in &families {
        let declared = ALL.iter().find(|metric| metric.name == family.name);
        let declared = declared.unwrap_or_else(|| panic!("{} is not declared", family.name));
        assert_eq!(declared.shape == Shape::Counter, family.kind == wire::COUNTER);
    }
    let requests =
        families.iter().find(|family| family.name == "rota_api_request_duration_seconds").unwrap();
    assert_eq!(requests.kind, wire::HISTOGRAM);
    let histogram = requests.metrics[0].histogram.as_ref().unwrap();
    assert!(histogram.sample_count > 0 && histogram.schema > 0, "{histogram:?}");
    assert!(histogram.positive_spans.iter().any(|span| span.length > 0), "{histogram:?}");
    drop(client);
    node.stop().await;
}

/// A scrape while others scrape costs the engine one look at a time, and each gets its answer.
#[tokio::test]
async fn many_may_scrape_at_once() {
    let node = Node::start().await;
    node.create(&json!({ "kind": "k" })).await;
    let all: Vec<SocketAddr> = vec![node.address; 50];
    let answers = futures_util::future::join_all(all.iter().map(|_| node.get("/metrics"))).await;
    for answer in &answers {
        assert_eq!(value(text(answer), "rota_live_tasks"), Some(1.0));
    }
    node.stop().await;
}
