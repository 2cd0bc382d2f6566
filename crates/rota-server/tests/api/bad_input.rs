//! What nobody should send over HTTP: each gets its status and the field named, and the server goes
//! on serving.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::Node;

/// A body with one task and these further members.
fn task(members: &str) -> String {
    format!(r#"{{"kind":"k",{members}}}"#)
}

fn labels(count: usize) -> String {
    let label = |n| format!(r#""l{n}":"v""#);
    let all: Vec<String> = (0..count).map(label).collect();
    task(&format!(r#""labels":{{{}}}"#, all.join(",")))
}

/// Bodies of `POST /v1/tasks`: a name, the body, the field that the answer must name.
fn new_tasks() -> Vec<(&'static str, Bytes, &'static str)> {
    let long = |n: usize| "a".repeat(n);
    let cases: Vec<(&str, String, &str)> = vec![
        ("nothing", String::new(), "body"),
        ("half an object", "{".into(), "body"),
        ("no JSON", "kind=k".into(), "body"),
        ("two values", r#"{"kind":"k"} {"kind":"k"}"#.into(), "body"),
        ("a list for an object", r#"[null,null,"k"]"#.into(), "body"),
        ("a text for an object", r#""k""#.into(), "body"),
        ("null", "null".into(), "body"),
        ("deep", format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), "body"),
        (
            "deep payload",
            task(&format!(r#""payload":{}{}"#, "[".repeat(65), "]".repeat(65))),
            "payload",
        ),
        (
            "very deep payload",
            task(&format!(r#""payload":{}{}"#, "[".repeat(99_999), "]".repeat(99_999))),
            "payload",
        ),
        (
            "deep and not closed",
            task(&format!(r#""payload":{}"#, r#"{"a":"#.repeat(90_000))),
            "payload",
        ),
        ("deep labels", task(&format!(r#""labels":{}"#, r#"{"a":"#.repeat(1000))), "labels.a"),
        ("an unknown field", task(r#""queu":"q""#), "queu"),
        ("an unknown field within", task(r#""retry":{"attempts":3}"#), "retry.attempts"),
        ("no kind", "{}".into(), "kind"),
        ("kind is a number", r#"{"kind":5}"#.into(), "kind"),
        ("kind is null", r#"{"kind":null}"#.into(), "kind"),
        ("kind is empty", r#"{"kind":""}"#.into(), "kind"),
        ("kind twice", r#"{"kind":"a","kind":"b"}"#.into(), "kind"),
        ("kind is long", format!(r#"{{"kind":"{}"}}"#, long(129)), "kind"),
        ("kind is enormous", format!(r#"{{"kind":"{}"}}"#, long(1 << 20)), "kind"),
        ("kind for a shell", r#"{"kind":"$(reboot)"}"#.into(), "kind"),
        ("kind with NUL", r#"{"kind":"a\u0000b"}"#.into(), "kind"),
        ("kind with a line break", r#"{"kind":"a\nb"}"#.into(), "kind"),
        ("kind in other letters", r#"{"kind":"кind"}"#.into(), "kind"),
        ("kind that turns the text", r#"{"kind":"\u202Egnp.exe"}"#.into(), "kind"),
        ("half a surrogate", r#"{"kind":"\ud800"}"#.into(), "kind"),
        ("kind that a path cannot name", r#"{"kind":".."}"#.into(), "kind"),
        ("queue is empty", task(r#""queue":"""#), "queue"),
        ("queue with a space", task(r#""queue":"a b""#), "queue"),
        ("queue that a path cannot name", task(r#""queue":"..""#), "queue"),
        ("id is empty", task(r#""id":"""#), "id"),
        ("id is long", task(&format!(r#""id":"{}""#, long(129))), "id"),
        ("id like one of ours", task(r#""id":"t_0123456789abc""#), "id"),
        ("id that a path cannot name", task(r#""id":"..""#), "id"),
        ("id that is a path of ours", task(r#""id":"batch""#), "id"),
        ("id with an emoji", task(r#""id":"😀""#), "id"),
        ("key is empty", task(r#""idempotency_key":"""#), "idempotency_key"),
        ("key is long", task(&format!(r#""idempotency_key":"{}""#, long(257))), "idempotency_key"),
        ("key with a bell", task(r#""idempotency_key":"\u0007""#), "idempotency_key"),
        ("labels are a list", task(r#""labels":["a"]"#), "labels"),
        ("a label is a number", task(r#""labels":{"a":1}"#), "labels.a"),
        ("a label twice", task(r#""labels":{"a":"1","a":"2"}"#), "labels.a"),
        ("33 labels", labels(33), "labels"),
        (
            "a long description",
            task(&format!(r#""description":"{}""#, "ä".repeat(257))),
            "description",
        ),
        ("an empty description", task(r#""description":"""#), "description"),
        ("a label's name", task(r#""labels":{"a b":"1"}"#), "labels.a b"),
        (
            "a label's value is long",
            task(&format!(r#""labels":{{"a":"{}"}}"#, long(1025))),
            "labels.a",
        ),
        ("a label with NUL", task(r#""labels":{"a":"\u0000"}"#), "labels.a"),
        ("half a character", task(r#""payload":"\ud83d""#), "payload"),
        ("half a character in a name", task(r#""payload":{"a":[{"\uDC00":1}]}"#), "payload"),
        ("half a character in base64", task(r#""payload_base64":"Ilx1ZGVhZCI=""#), "payload"),
        ("id of zeros", task(r#""id":"t_0000000000000""#), "id"),
        ("expires_at in the past", task(r#""expires_at":"2020-01-01T00:00:00Z""#), "expires_at"),
        (
            "expires_at in the past of a task with an id",
            task(r#""id":"mine","expires_at":"2020-01-01T00:00:00Z""#),
            "expires_at",
        ),
        (
            "run_at after expires_at of a task with a key",
            task(
                r#""idempotency_key":"k","run_at":"2030-01-01T00:00:00Z","expires_at":"2029-01-01T00:00:00Z""#,
            ),
            "expires_at",
        ),
        (
            "a delay that ends after expires_at",
            task(r#""delay":"36500d","expires_at":"2030-01-01T00:00:00Z""#),
            "expires_at",
        ),
        ("two payloads", task(r#""payload":1,"payload_base64":"AA==""#), "payload_base64"),
        ("base64 that is none", task(r#""payload_base64":"?""#), "payload_base64"),
        (
            "payload of 1 MiB and some",
            task(&format!(r#""payload":"{}""#, long(1 << 20))),
            "payload",
        ),
        ("priority 10", task(r#""priority":10"#), "priority"),
        ("priority -1", task(r#""priority":-1"#), "priority"),
        ("priority 1.5", task(r#""priority":1.5"#), "priority"),
        ("priority 1e999", task(r#""priority":1e999"#), "priority"),
        ("priority 2^64", task(r#""priority":18446744073709551616"#), "priority"),
        ("priority in words", task(r#""priority":"high""#), "priority"),
        ("run_at in words", task(r#""run_at":"tomorrow""#), "run_at"),
        ("run_at as a number", task(r#""run_at":1767225600"#), "run_at"),
        ("run_at before 1970", task(r#""run_at":"1969-12-31T23:59:59Z""#), "run_at"),
        ("run_at after 2499", task(r#""run_at":"2500-01-01T00:00:01Z""#), "run_at"),
        ("run_at in the year 9999", task(r#""run_at":"9999-12-30T00:00:00Z""#), "run_at"),
        ("run_at beyond the last date", task(r#""run_at":"9999-12-31T23:59:59Z""#), "run_at"),
        ("run_at on no day", task(r#""run_at":"2026-02-30T00:00:00Z""#), "run_at"),
        ("expires_at without a zone", task(r#""expires_at":"2026-02-03T00:00:00""#), "expires_at"),
        (
            "expires_at before run_at",
            task(r#""run_at":"2030-01-01T00:00:00Z","expires_at":"2029-12-31T23:59:59Z""#),
            "expires_at",
        ),
        ("run_at and delay", task(r#""run_at":"2030-01-01T00:00:00Z","delay":"1s""#), "delay"),
        ("delay is negative", task(r#""delay":"-5s""#), "delay"),
        ("delay without a unit", task(r#""delay":"5""#), "delay"),
        ("delay of ages", task(r#""delay":"999999999d""#), "delay"),
        ("delay beyond all numbers", task(r#""delay":"99999999999999999999d""#), "delay"),
        ("timeout of nothing", task(r#""timeout":"0s""#), "timeout"),
        ("timeout of a year", task(r#""timeout":"366d""#), "timeout"),
        ("retention of a century", task(r#""retention":"36525d""#), "retention"),
        ("retry is a list", task(r#""retry":[3]"#), "retry"),
        ("no attempts", task(r#""retry":{"max_attempts":0}"#), "retry.max_attempts"),
        ("1001 attempts", task(r#""retry":{"max_attempts":1001}"#), "retry.max_attempts"),
        ("1001 losses", task(r#""retry":{"max_lost":1001}"#), "retry.max_lost"),
        ("backoff that shrinks", task(r#""retry":{"multiplier":0.5}"#), "retry.multiplier"),
        ("backoff that explodes", task(r#""retry":{"multiplier":1e308}"#), "retry.multiplier"),
        ("backoff of a year", task(r#""retry":{"initial":"366d"}"#), "retry.initial"),
        ("backoff above its end", task(r#""retry":{"initial":"2s","max":"1s"}"#), "retry.initial"),
        ("backoff above the default", task(r#""retry":{"initial":"2h"}"#), "retry.initial"),
        ("backoff below zero", task(r#""retry":{"max":"-1s"}"#), "retry.max"),
        ("jitter of another sort", task(r#""retry":{"jitter":"some"}"#), "retry.jitter"),
    ];
    let bytes = |(name, body, field): (_, String, _)| (name, Bytes::from(body), field);
    let mut cases: Vec<_> = cases.into_iter().map(bytes).collect();
    cases.push(("no UTF-8", Bytes::from_static(b"{\"kind\":\"\xff\"}"), "kind"));
    cases.push((
        "no UTF-8 in the payload",
        Bytes::from_static(b"{\"kind\":\"k\",\"payload\":\"\xff\"}"),
        "payload",
    ));
    cases
}

#[tokio::test]
async fn new_tasks_that_are_wrong_name_the_field() {
    let node = Node::start().await;
    for (name, body, field) in new_tasks() {
        let answer = node.post("/v1/tasks", body).await;
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
        assert_eq!(answer.fields(), [field], "{name}: {answer:?}");
        assert!(answer.body.len() < 2000, "{name}: a long answer");
    }
    assert_eq!(node.get("/v1/tasks").await.json()["tasks"], json!([]));
    node.create(&json!({ "kind": "k" })).await;
    node.stop().await;
}

/// Paths without a body: method, path, status, reason, field.
const PATHS: &[(&str, &str, u16, &str, &str)] = &[
    ("GET", "/v1/nothing", 404, "not_found", ""),
    ("GET", "/v2/tasks", 404, "not_found", ""),
    ("GET", "//v1/tasks", 404, "not_found", ""),
    ("GET", "/v1/../openapi.json", 404, "not_found", ""),
    ("GET", "/v1/tasks/", 404, "not_found", ""),
    ("GET", "/v1/tasks/x/../../info", 404, "not_found", ""),
    ("PUT", "/v1/tasks", 405, "method_not_allowed", ""),
    ("DELETE", "/v1/info", 405, "method_not_allowed", ""),
    ("TRACE", "/v1/tasks", 405, "method_not_allowed", ""),
    ("GET", "/v1/leases", 405, "method_not_allowed", ""),
    ("GET", "/v1/tasks/none", 404, "unknown_task", ""),
    ("GET", "/v1/tasks/t_0123456789abc", 404, "unknown_task", ""),
    ("GET", "/v1/tasks/..%2F..%2Fetc%2Fpasswd", 404, "unknown_task", ""),
    ("GET", "/v1/tasks/none/result", 404, "unknown_task", ""),
    ("GET", "/v1/tasks/none/attempts", 404, "unknown_task", ""),
    ("DELETE", "/v1/tasks/none", 404, "unknown_task", ""),
    ("POST", "/v1/tasks/none/cancel", 404, "unknown_task", ""),
    ("POST", "/v1/tasks/none/retry", 404, "unknown_task", ""),
    ("GET", "/v1/tasks/%00", 400, "invalid", "id"),
    ("GET", "/v1/tasks/%FF", 400, "invalid", "id"),
    ("GET", "/v1/tasks/a%20b", 400, "invalid", "id"),
    ("GET", "/v1/tasks/%E2%80%AE", 400, "invalid", "id"),
    ("GET", "/v1/tasks/none?wait=61s", 400, "invalid", "wait"),
    ("GET", "/v1/tasks/none?wait=-1s", 400, "invalid", "wait"),
    ("GET", "/v1/tasks/none?wait=forever", 400, "invalid", "wait"),
    ("GET", "/v1/tasks/none?wait=1s&wait=2s", 400, "invalid", "wait"),
    ("GET", "/v1/tasks/none?until=1s", 400, "invalid", "until"),
    ("GET", "/v1/tasks/none/result?wait=1s", 400, "invalid", "wait"),
    ("DELETE", "/v1/tasks/none?wait=1s", 400, "invalid", "wait"),
    ("POST", "/v1/tasks/none/cancel?force=1", 400, "invalid", "force"),
    ("GET", "/v1/info?x=1", 400, "invalid", "x"),
    ("GET", "/v1/queues?name=q", 400, "invalid", "name"),
    ("GET", "/v1/cluster?x", 400, "invalid", "x"),
    ("GET", "/node/log-filter?filter=debug", 400, "invalid", "filter"),
    ("DELETE", "/v1/sessions/s_0123456789abc?x=1", 400, "invalid", "x"),
    ("GET", "/v1/queues/none", 404, "unknown_queue", ""),
    ("GET", "/v1/queues/a%20b", 400, "invalid", "queue"),
    ("POST", "/v1/queues/%00/pause", 400, "invalid", "queue"),
    ("POST", "/v1/workers/none/drain", 404, "unknown_worker", ""),
    ("POST", "/v1/workers/s_0123456789abc/drain", 404, "unknown_worker", ""),
    ("POST", "/v1/workers/%0A/drain", 400, "invalid", "worker"),
    ("POST", "/v1/sessions/s_0123456789abc/heartbeat", 404, "unknown_session", ""),
    ("POST", "/v1/sessions/me/heartbeat", 400, "invalid", "session"),
    ("DELETE", "/v1/sessions/s_0123456789abc", 404, "unknown_session", ""),
    ("GET", "/v1/tasks?status=done", 400, "invalid", "status"),
    ("GET", "/v1/tasks?status=", 400, "invalid", "status"),
    ("GET", "/v1/tasks?queue=", 400, "invalid", "queue"),
    ("GET", "/v1/tasks?queue=a&queue=b", 400, "invalid", "queue"),
    ("GET", "/v1/tasks?kind=%00", 400, "invalid", "kind"),
    ("GET", "/v1/tasks?kind=%FF", 400, "invalid", "kind"),
    ("GET", "/v1/tasks?label=a", 400, "invalid", "label"),
    ("GET", "/v1/tasks?label=a%20b%3Dc", 400, "invalid", "label"),
    ("GET", "/v1/tasks?limit=0", 400, "invalid", "limit"),
    ("GET", "/v1/tasks?limit=1001", 400, "invalid", "limit"),
    ("GET", "/v1/tasks?limit=-1", 400, "invalid", "limit"),
    ("GET", "/v1/tasks?limit=ten", 400, "invalid", "limit"),
    ("GET", "/v1/tasks?limit=99999999999999999999", 400, "invalid", "limit"),
    ("GET", "/v1/tasks?cursor=x", 400, "invalid", "cursor"),
    ("GET", "/v1/tasks?created_from=now", 400, "invalid", "created_from"),
    ("GET", "/v1/tasks?created_to=9999-12-30T00:00:00Z", 400, "invalid", "created_to"),
    ("GET", "/v1/tasks?run_at_from=2026", 400, "invalid", "run_at_from"),
    ("GET", "/v1/tasks?run_at_to=1900-01-01T00:00:00Z", 400, "invalid", "run_at_to"),
    ("GET", "/v1/tasks?search=", 400, "invalid", "search"),
    ("GET", "/v1/tasks?search=a%00", 400, "invalid", "search"),
    ("GET", "/v1/tasks?search=a&search=b", 400, "invalid", "search"),
    ("GET", "/v1/tasks?worker=", 400, "invalid", "worker"),
    ("GET", "/v1/tasks?worker=a%20b", 400, "invalid", "worker"),
    ("GET", "/v1/tasks?priority=10", 400, "invalid", "priority"),
    ("GET", "/v1/tasks?priority=high", 400, "invalid", "priority"),
    ("GET", "/v1/tasks?priority=", 400, "invalid", "priority"),
    ("GET", "/v1/tasks?time_limit=9ms", 400, "invalid", "time_limit"),
    ("GET", "/v1/tasks?time_limit=2001ms", 400, "invalid", "time_limit"),
    ("GET", "/v1/tasks?time_limit=100", 400, "invalid", "time_limit"),
    ("GET", "/v1/tasks?sort=asc", 400, "invalid", "sort"),
    ("GET", "/v1/tasks?%00=1", 400, "invalid", "\0"),
];

#[tokio::test]
async fn paths_and_queries_that_are_wrong_name_the_parameter() {
    let node = Node::start().await;
    for &(method, path, status, reason, field) in PATHS {
        let request = Request::builder().method(method).uri(path).body(Full::default()).unwrap();
        let answer = node.send(request).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(answer.problem()["reason"], reason, "{method} {path}");
        let fields = answer.fields();
        assert_eq!(fields.first().map_or("", String::as_str), field, "{method} {path}: {answer:?}");
        assert_eq!(answer.header("allow").is_empty(), status != 405, "{method} {path}");
    }
    assert_eq!(node.get("/healthz").await.status, 200);
    node.stop().await;
}

/// Bodies for other paths: path, body, field.
fn bodies() -> Vec<(&'static str, String, &'static str)> {
    let many: Vec<Value> = (0..1001).map(|_| json!({ "kind": "k" })).collect();
    let names: Vec<String> = (0..1001).map(|n| format!("q{n}")).collect();
    let lease = |member: &str| format!(r#"{{"worker":"w",{member}}}"#);
    vec![
        ("/v1/tasks/batch", "{}".into(), "tasks"),
        ("/v1/tasks/batch", r#"{"tasks":[]}"#.into(), "tasks"),
        ("/v1/tasks/batch", r#"{"tasks":{}}"#.into(), "tasks"),
        ("/v1/tasks/batch", r#"{"tasks":[[]]}"#.into(), "tasks[0]"),
        ("/v1/tasks/batch", r#"{"tasks":[{"kind":"k"},{"kind":1}]}"#.into(), "tasks[1].kind"),
        ("/v1/tasks/batch", r#"{"tasks":[{}]}"#.into(), "tasks[0].kind"),
        ("/v1/tasks/batch", json!({ "tasks": many }).to_string(), "tasks"),
        ("/v1/tasks/bulk", r#"{"action":"cancel"}"#.into(), "filter"),
        ("/v1/tasks/bulk", r#"{"action":"stop","filter":{}}"#.into(), "action"),
        ("/v1/tasks/bulk", r#"{"action":"cancel","filter":{}}"#.into(), "all"),
        ("/v1/tasks/bulk", r#"{"action":"cancel","filter":{},"all":false}"#.into(), "all"),
        (
            "/v1/tasks/bulk",
            r#"{"action":"delete","filter":{"status":[],"queue":"q"}}"#.into(),
            "filter.status",
        ),
        (
            "/v1/tasks/bulk",
            r#"{"action":"delete","filter":{"priority":[3,10]}}"#.into(),
            "filter.priority",
        ),
        ("/v1/tasks/bulk", r#"{"action":"delete","filter":{"search":""}}"#.into(), "filter.search"),
        ("/v1/tasks/x/complete", r#"{"lease_token":1,"result":"\udead"}"#.into(), "result"),
        ("/v1/tasks/x/complete", r#"{"lease_token":1.5}"#.into(), "lease_token"),
        ("/v1/tasks/x/fail", r#"{"lease_token":1,"error":"\ud800"}"#.into(), "error"),
        (
            "/v1/tasks/bulk",
            r#"{"action":"cancel","filter":{"queue":"q"},"all":true}"#.into(),
            "all",
        ),
        (
            "/v1/tasks/bulk",
            r#"{"action":"cancel","filter":{"state":"failed"}}"#.into(),
            "filter.state",
        ),
        ("/v1/tasks/bulk", r#"{"action":"cancel","filter":{"queue":""}}"#.into(), "filter.queue"),
        (
            "/v1/tasks/bulk",
            r#"{"action":"cancel","filter":{"status":["no"]}}"#.into(),
            "filter.status[0]",
        ),
        (
            "/v1/tasks/bulk",
            r#"{"action":"cancel","filter":{"statuses":["failed"]}}"#.into(),
            "filter.statuses",
        ),
        ("/v1/tasks/bulk", r#"{"action":"cancel","filter":{"kind":"a b"}}"#.into(), "filter.kind"),
        (
            "/v1/tasks/bulk",
            r#"{"action":"cancel","filter":{},"all":true,"limit":1001}"#.into(),
            "limit",
        ),
        (
            "/v1/tasks/bulk",
            r#"{"action":"cancel","filter":{},"all":true,"cursor":"?"}"#.into(),
            "cursor",
        ),
        ("/v1/tasks/x/reschedule", "{}".into(), "run_at"),
        (
            "/v1/tasks/x/reschedule",
            r#"{"delay":"1s","run_at":"2030-01-01T00:00:00Z"}"#.into(),
            "delay",
        ),
        ("/v1/tasks/x/priority", "{}".into(), "priority"),
        ("/v1/tasks/x/priority", r#"{"priority":10}"#.into(), "priority"),
        ("/v1/leases", "{}".into(), "worker"),
        ("/v1/leases", r#"{"worker":"a b"}"#.into(), "worker"),
        ("/v1/leases", lease(r#""max":0"#), "max"),
        ("/v1/leases", lease(r#""max":1001"#), "max"),
        ("/v1/leases", lease(r#""wait":"61s""#), "wait"),
        ("/v1/leases", lease(r#""ttl":"1s""#), "ttl"),
        ("/v1/leases", lease(r#""ttl":"2h""#), "ttl"),
        ("/v1/leases", lease(r#""session":"me""#), "session"),
        ("/v1/leases", lease(r#""queues":["a b"]"#), "queues[0]"),
        ("/v1/leases", lease(&format!(r#""kinds":{}"#, json!(names))), "kinds"),
        ("/v1/tasks/x/complete", "{}".into(), "lease_token"),
        ("/v1/tasks/x/complete", r#"{"lease_token":-1}"#.into(), "lease_token"),
        ("/v1/tasks/x/complete", r#"{"lease_token":"1"}"#.into(), "lease_token"),
        (
            "/v1/tasks/x/complete",
            format!(r#"{{"lease_token":1,"result":"{}"}}"#, "a".repeat(1 << 20)),
            "result",
        ),
        (
            "/v1/tasks/x/complete",
            format!(r#"{{"lease_token":1,"result":{}{}}}"#, "[".repeat(65), "]".repeat(65)),
            "result",
        ),
        ("/v1/tasks/x/fail", r#"{"lease_token":1}"#.into(), "error"),
        (
            "/v1/tasks/x/fail",
            r#"{"lease_token":1,"error":"e","retry_at":"1900-01-01T00:00:00Z"}"#.into(),
            "retry_at",
        ),
        (
            "/v1/tasks/x/progress",
            format!(r#"{{"lease_token":1,"message":"{}"}}"#, "a".repeat(1025)),
            "message",
        ),
    ]
}

#[tokio::test]
async fn other_bodies_that_are_wrong_name_the_field() {
    let node = Node::start().await;
    for (path, body, field) in bodies() {
        let shown: String = body.chars().take(80).collect();
        let answer = node.post(path, body).await;
        assert_eq!(answer.status, 400, "{path} {shown}: {answer:?}");
        assert_eq!(answer.fields(), [field], "{path} {shown}: {answer:?}");
    }
    assert_eq!(node.get("/healthz").await.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn all_that_is_wrong_is_said_at_once() {
    let node = Node::start().await;
    let body = json!({ "kind": "a b", "queue": "ü", "priority": 12, "timeout": "0s" });
    let answer = node.post_json("/v1/tasks", &body).await;
    assert_eq!(answer.fields(), ["queue", "kind", "priority", "timeout"]);
    insta::assert_json_snapshot!("problem_of_many_fields", answer.problem());
    node.stop().await;
}

#[tokio::test]
async fn one_wrong_task_of_a_batch_is_refused_alone() {
    let node = Node::start().await;
    let body =
        json!({ "tasks": [{ "kind": "a" }, { "kind": "a b" }, { "kind": "c", "priority": 11 }] });
    let answer = node.post_json("/v1/tasks/batch", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.json()["results"].clone();
    assert_eq!(results[0]["created"], true);
    assert_eq!(results[1]["error"]["field"], "tasks[1].kind");
    assert_eq!(results[2]["error"]["field"], "tasks[2].priority");
    assert_eq!(results[2]["error"]["status"], 400);
    node.stop().await;
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_by_their_type() {
    let node = Node::start().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "", "/"] {
        let request = Request::post("/v1/tasks").header("content-type", kind);
        let answer = node.send(request.body(Full::from(r#"{"kind":"k"}"#)).unwrap()).await;
        assert_eq!(answer.status, 415, "{kind}");
        assert_eq!(answer.problem()["reason"], "unsupported_media_type");
    }
    let request = Request::post("/v1/tasks").body(Full::from(r#"{"kind":"k"}"#)).unwrap();
    assert_eq!(node.send(request).await.status, 415);
    let request =
        Request::post("/v1/tasks").header("content-type", "Application/JSON; charset=utf-8");
    let answer = node.send(request.body(Full::from(r#"{"kind":"k"}"#)).unwrap()).await;
    assert_eq!(answer.status, 201);
    node.stop().await;
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_and_names_the_limit() {
    let node = Node::start().await;
    let answer = node.post("/v1/tasks", vec![b' '; (16 << 20) + 1]).await;
    assert_eq!(answer.status, 413);
    let problem = answer.problem();
    assert!(problem["detail"].as_str().unwrap().contains("request_bytes"), "{problem}");
    assert_eq!(problem["errors"][0]["limit"], json!({ "name": "request_bytes", "max": 16 << 20 }));
    node.stop().await;
}

#[tokio::test]
async fn illegal_transitions_are_conflicts() {
    let node = Node::start().await;
    let waiting = node.create(&json!({ "kind": "waits" })).await;
    let done = node.create(&json!({ "kind": "done" })).await;
    let (_, token) = node.lease("done").await;
    let path = format!("/v1/tasks/{done}/complete");
    assert_eq!(node.post_json(&path, &json!({ "lease_token": token })).await.status, 204);
    let running = node.create(&json!({ "kind": "running" })).await;
    node.lease("running").await;
    let later = json!({ "delay": "1h" });
    let cancelled = node.create(&json!({ "kind": "waits" })).await;
    node.post(&format!("/v1/tasks/{cancelled}/cancel"), "").await;
    let cases = [
        (&waiting, "retry", Value::Null, "; wait until it has ended, or cancel it first"),
        (&running, "retry", Value::Null, "; wait until it has ended, or cancel it first"),
        (&running, "reschedule", later.clone(), "; cancel it first, and then retry it"),
        (&running, "priority", json!({ "priority": 1 }), "; cancel it first, and then retry it"),
        (&done, "cancel", Value::Null, "; read its result or delete it"),
        (&done, "retry", Value::Null, "; create a new task"),
        (&done, "reschedule", later.clone(), "; create a new task"),
        (&done, "priority", json!({ "priority": 1 }), "; create a new task"),
        (&cancelled, "reschedule", later, "; retry it first"),
    ];
    for (id, verb, body, instead) in cases {
        let answer = node.post_json(&format!("/v1/tasks/{id}/{verb}"), &body).await;
        assert_eq!(answer.status, 409, "{verb} {answer:?}");
        assert_eq!(answer.problem()["reason"], "illegal_state", "{verb}");
        let detail = answer.problem()["detail"].to_string();
        assert!(detail.contains(instead), "{verb}: {detail}");
    }
    for id in [&waiting, &running] {
        let answer = node.delete(&format!("/v1/tasks/{id}")).await;
        assert_eq!(
            (answer.status, answer.problem()["reason"].as_str()),
            (409, Some("illegal_state"))
        );
        assert!(answer.problem()["detail"].to_string().contains("cancel it first"), "{answer:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn stale_lease_tokens_are_refused_and_named() {
    let node = Node::start().await;
    let id = node.create(&json!({ "kind": "k" })).await;
    let (_, token) = node.lease("k").await;
    for wrong in [0, token - 1, token + 1, u64::MAX] {
        for verb in ["complete", "fail", "cancelled", "release", "progress"] {
            let body = json!({ "lease_token": wrong });
            let mut body = body.as_object().unwrap().clone();
            match verb {
                "fail" => drop(body.insert("error".into(), "e".into())),
                "progress" => drop(body.insert("message".into(), "m".into())),
                _ => {}
            }
            let answer = node.post_json(&format!("/v1/tasks/{id}/{verb}"), &body.into()).await;
            assert_eq!(answer.status, 409, "{verb} {answer:?}");
            assert_eq!(answer.problem()["reason"], "stale_lease");
            assert_eq!(answer.fields(), ["lease_token"]);
        }
    }
    let path = format!("/v1/tasks/{id}/complete");
    let done = json!({ "lease_token": token, "result": 1 });
    assert_eq!(node.post_json(&path, &done).await.status, 204);
    assert_eq!(node.post_json(&path, &done).await.status, 204, "the same again is fine");
    let path = format!("/v1/tasks/{id}/fail");
    let other = json!({ "lease_token": token, "error": "e" });
    assert_eq!(node.post_json(&path, &other).await.status, 409, "something else is not");
    node.stop().await;
}
