//! Requests: what the target is sent, what its answers come to, and where requests may not go.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rota_worker::{
    Done, HandlerError, StopReason,
    executor::http::{AddressPolicy, HttpExecutor},
    testing::TestTask,
};
use serde_json::{Value, json};

use crate::{
    in_time,
    target::{Answer, Target, answer},
};

fn open() -> AddressPolicy {
    AddressPolicy { allow_private: true, ..AddressPolicy::default() }
}

async fn request_under(policy: AddressPolicy, payload: Value) -> Result<Done, HandlerError> {
    let attempt = TestTask::new("http").id("order-7").attempt(2).lease_token(42).begin();
    let executor = HttpExecutor::new(policy).expect("roots");
    in_time(executor.run(attempt.context(), payload.to_string().into())).await
}

/// With a payload as written, because a `Value` rounds numbers.
async fn request_written(payload: String) -> Result<Done, HandlerError> {
    let attempt = TestTask::new("http").begin();
    let executor = HttpExecutor::new(open()).expect("roots");
    in_time(executor.run(attempt.context(), payload.into())).await
}

async fn request(payload: Value) -> Result<Done, HandlerError> {
    request_under(open(), payload).await
}

fn result(done: &Done) -> Value {
    serde_json::from_slice(&done.result).expect("JSON")
}

#[tokio::test]
async fn a_target_is_sent_the_request_and_how_to_fence_it() {
    let target = Target::saying("201 Created", "etag: \"x\"\r\nset-cookie: a=b\r\n", "made").await;
    let payload = json!({
        "url": target.url("hook?a=1"),
        "headers": {"x-key": "v", "rota-lease-token": "1", "idempotency-key": "mine"},
        "body": {"n": 1},
    });
    let result = result(&request(payload).await.unwrap());
    assert_eq!(result["status"], 201);
    assert_eq!((&result["body"], &result["body_truncated"]), (&json!("made"), &json!(false)));
    assert_eq!(result["headers"], json!({"content-length": "4", "etag": "\"x\""}));
    let requests = target.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("post /hook?a=1 http/1.1\r\n"), "{head}");
    for line in [
        "rota-lease-token: 42",
        "rota-attempt: 2",
        "rota-task-id: order-7",
        "x-key: v",
        "idempotency-key: mine",
        "content-type: application/json",
    ] {
        assert_eq!(head.lines().filter(|found| *found == line).count(), 1, "{line} in {head}");
    }
    assert!(!head.contains("rota-lease-token: 1\r\n"), "{head}");
    assert_eq!(body, r#"{"n":1}"#);
}

#[tokio::test]
async fn a_target_learns_where_the_request_belongs_in_a_trace() {
    let target = Target::saying("200 OK", "", "").await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let own = "00-11111111111111111111111111111111-2222222222222222-01";
    let executor = HttpExecutor::new(open()).expect("roots");
    for headers in [json!({}), json!({ "traceparent": own })] {
        let attempt = TestTask::new("http").trace(parent, "vendor=1").begin();
        let payload = json!({ "url": target.url("x"), "headers": headers });
        in_time(executor.clone().run(attempt.context(), payload.to_string().into())).await.unwrap();
    }
    let requests = target.requests();
    let said = |request: &str, line: &str| request.lines().any(|found| found == line);
    assert!(said(&requests[0], &format!("traceparent: {parent}")), "{}", requests[0]);
    assert!(said(&requests[0], "tracestate: vendor=1"), "{}", requests[0]);
    assert!(said(&requests[1], &format!("traceparent: {own}")), "the task's own goes over it");
    assert!(!requests[1].contains("tracestate"), "{}", requests[1]);
}

#[tokio::test]
async fn a_target_learns_the_times_of_a_schedule() {
    let target = Target::saying("200 OK", "", "").await;
    let nominal = UNIX_EPOCH + Duration::from_secs(1_772_953_200);
    let attempt = TestTask::new("http").tick("hooks/daily", nominal).begin();
    let payload = json!({
        "url": target.url("x?at={{nominal_time}}"),
        "headers": {"rota-nominal-time": "mine"},
        "body": {"for": "{{schedule}}", "since": "{{last_success_time}}"},
    });
    let executor = HttpExecutor::new(open()).expect("roots");
    in_time(executor.run(attempt.context(), payload.to_string().into())).await.unwrap();
    let requests = target.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("post /x?at=2026-03-08t07:00:00z http/1.1\r\n"), "{head}");
    let times = head.lines().filter(|line| line.contains("-time:") || line.contains("-schedule:"));
    let mut times: Vec<&str> = times.collect();
    times.sort_unstable();
    assert!(times[0].starts_with("rota-actual-time: 20"), "{head}");
    assert_eq!(
        times[1..],
        ["rota-nominal-time: 2026-03-08t07:00:00z", "rota-schedule: hooks/daily"]
    );
    assert_eq!(body, r#"{"for":"hooks/daily","since":""}"#);
}

#[tokio::test]
async fn methods_and_bodies_are_what_the_task_says() {
    let target = Target::saying("200 OK", "", "").await;
    for (extra, first, last) in [
        (json!({}), "get /x http/1.1", ""),
        (json!({"method": "delete"}), "delete /x http/1.1", ""),
        (json!({"body": "plain"}), "post /x http/1.1", "plain"),
        (json!({"method": "PUT", "body": [1, 2]}), "put /x http/1.1", "[1,2]"),
    ] {
        let mut payload = json!({"url": target.url("x")});
        payload.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        request(payload).await.unwrap();
        let requests = target.requests();
        let (head, body) = requests.last().unwrap().split_once("\r\n\r\n").unwrap();
        assert_eq!((head.lines().next().unwrap(), body), (first, last));
        assert!(head.contains("idempotency-key: order-7"), "unless it is set: {head}");
    }
}

#[tokio::test]
async fn a_json_body_is_sent_as_it_is_written() {
    let target = Target::saying("200 OK", "", "").await;
    let body = r#"{"wei":100000000000000000001, "z":1, "a":1.10, "large":1e400}"#;
    let written = format!(r#"{{"url":"{}","body":{body}}}"#, target.url("x"));
    request_written(written).await.unwrap();
    let requests = target.requests();
    let (head, sent) = requests.last().unwrap().split_once("\r\n\r\n").unwrap();
    assert_eq!(sent, body);
    assert!(head.contains("content-type: application/json"), "{head}");
    // No body, as before.
    let written = format!(r#"{{"url":"{}","body":null}}"#, target.url("x"));
    request_written(written).await.unwrap();
    assert!(target.requests().last().unwrap().starts_with("get /x"));
}

#[tokio::test]
async fn a_header_that_is_given_twice_is_refused() {
    let target = Target::saying("200 OK", "", "").await;
    for (headers, named) in
        [(r#"{"x-key":"a","x-key":"b"}"#, "x-key"), (r#"{"X-Key":"a","x-key":"b"}"#, "x-key")]
    {
        let written = format!(r#"{{"url":"{}","headers":{headers}}}"#, target.url("x"));
        let error = request_written(written).await.unwrap_err();
        assert!(error.is_permanent());
        let message = error.message();
        assert!(message.contains(named) && message.contains("given twice"), "{message}");
    }
    assert!(target.requests().is_empty());
}

#[tokio::test]
async fn answers_are_judged_by_their_status() {
    for (status, permanent) in [
        ("301 Moved Permanently", true),
        ("304 Not Modified", true),
        ("400 Bad Request", true),
        ("401 Unauthorized", true),
        ("404 Not Found", true),
        ("409 Conflict", true),
        ("422 Unprocessable Content", true),
        ("408 Request Timeout", false),
        ("429 Too Many Requests", false),
        ("500 Internal Server Error", false),
        ("502 Bad Gateway", false),
        ("503 Service Unavailable", false),
        ("599 Odd", false),
    ] {
        let target = Target::saying(status, "", "because").await;
        let error = request(json!({"url": target.url("")})).await.unwrap_err();
        assert_eq!(error.is_permanent(), permanent, "{status}");
        assert!(error.message().contains(&status[..3]), "{}", error.message());
        // By the protocol there is no body in a 304.
        let said = if status.starts_with("304") { "" } else { "because" };
        assert_eq!(error.output_tail(), said, "what the answer said is kept");
        assert_eq!(error.again_at(), None);
    }
}

#[tokio::test]
async fn a_target_may_say_when_to_come_again() {
    let in_two_hours = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(7200));
    for (said, seconds) in [
        ("120".to_owned(), Some(120)),
        (" 5 ".to_owned(), Some(5)),
        (in_two_hours, Some(7200)),
        ("Thu, 01 Jan 1970 00:00:00 GMT".to_owned(), Some(0)),
        // Nobody waits for ever because a target says so.
        ("999999999".to_owned(), Some(24 * 3600)),
        ("soon".to_owned(), None),
        ("-1".to_owned(), None),
    ] {
        let header = format!("retry-after: {said}\r\n");
        let target = Target::saying("503 Service Unavailable", &header, "").await;
        let before = SystemTime::now();
        let error = request(json!({"url": target.url("")})).await.unwrap_err();
        let wait = error.again_at().map(|at| at.duration_since(before).unwrap_or_default());
        match (wait, seconds) {
            (None, None) => {}
            (Some(wait), Some(seconds)) => {
                let off = wait.as_secs_f64() - f64::from(seconds);
                assert!(off.abs() < 10.0, "{said}: {wait:?}");
            }
            other => panic!("{said}: {other:?}"),
        }
        // A refusal for good stays one.
        let target = Target::saying("404 Not Found", &header, "").await;
        assert!(request(json!({"url": target.url("")})).await.unwrap_err().is_permanent());
    }
}

#[tokio::test]
async fn private_addresses_are_refused_in_every_spelling() {
    let target = Target::saying("200 OK", "", "").await;
    let port = target.address.port();
    let every = |host: &str| format!("http://{host}:{port}/");
    for url in [
        every("127.0.0.1"),
        every("localhost"),
        every("LocalHost"),
        every("[::1]"),
        every("[::ffff:127.0.0.1]"),
        every("[::ffff:7f00:1]"),
        every("0"),
        every("0x7f000001"),
        every("2130706433"),
        every("127.1"),
        every("user:secret@127.0.0.1"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "gopher://127.0.0.1/".to_owned(),
        "not a url".to_owned(),
    ] {
        let error = request_under(AddressPolicy::default(), json!({"url": url})).await.unwrap_err();
        assert!(error.is_permanent(), "{url}: {}", error.message());
        assert!(!error.message().contains("secret"), "{}", error.message());
    }
    assert_eq!(target.requests(), Vec::<String>::new(), "nobody got there");
}

#[tokio::test]
async fn an_allowed_host_is_reached_by_its_name_alone() {
    let target = Target::saying("200 OK", "", "").await;
    let port = target.address.port();
    let allow = |host: &str| AddressPolicy {
        allowed_hosts: vec![host.to_owned()],
        ..AddressPolicy::default()
    };
    for (allowed, asked, may) in [
        ("localhost", "localhost", true),
        ("localhost", "LocalHost", true),
        ("localhost", "127.0.0.1", false),
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "localhost", false),
    ] {
        let url = format!("http://{asked}:{port}/");
        let outcome = request_under(allow(allowed), json!({"url": url})).await;
        assert_eq!(outcome.is_ok(), may, "{allowed}, {asked}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_worker_for_development_reaches_its_own_machine_and_no_private_network() {
    let target = Target::saying("200 OK", "", "").await;
    let port = target.address.port();
    let policy = || AddressPolicy { allow_loopback: true, ..AddressPolicy::default() };
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{port}/");
        let outcome = request_under(policy(), json!({"url": url})).await;
        assert!(outcome.is_ok(), "{host}: {outcome:?}");
    }
    for host in ["10.0.0.1", "169.254.169.254", "[fe80::1]", "0.0.0.0", "[::]"] {
        let url = format!("http://{host}:{port}/");
        let error = request_under(policy(), json!({"url": url})).await.unwrap_err();
        assert!(error.is_permanent(), "{host}: {}", error.message());
        assert!(error.message().contains("--http-allow-private"), "{}", error.message());
    }
}

#[tokio::test]
async fn a_redirect_leads_nowhere_that_the_task_could_not_go() {
    let inside = Target::saying("200 OK", "", "secret").await;
    let port = inside.address.port();
    for to in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        "file:///etc/passwd".to_owned(),
    ] {
        let location = format!("location: {to}\r\n");
        let outside = Target::saying("302 Found", &location, "").await;
        let url = format!("http://localhost:{}/", outside.address.port());
        // The first target is allowed by its name; what it points at is not.
        let policy =
            AddressPolicy { allowed_hosts: vec!["localhost".to_owned()], ..Default::default() };
        let error = request_under(policy, json!({"url": url})).await.unwrap_err();
        assert!(error.is_permanent(), "{to}: {}", error.message());
        assert_eq!(outside.requests().len(), 1);
    }
    assert_eq!(inside.requests(), Vec::<String>::new(), "nobody got there");
}

#[tokio::test]
async fn redirects_are_followed_but_not_for_ever() {
    let target = Target::start(|path| {
        let to = match path {
            "start" => "location: /end\r\n",
            "end" => return Answer::Bytes(answer("200 OK", "", "there")),
            _ => "location: /round\r\n",
        };
        Answer::Bytes(answer("307 Temporary Redirect", to, ""))
    })
    .await;
    let payload = json!({"url": target.url("start"), "body": "kept"});
    assert_eq!(result(&request(payload).await.unwrap())["body"], "there");
    let requests = target.requests();
    assert!(requests[1].starts_with("post /end") && requests[1].ends_with("kept"));
    let error = request(json!({"url": target.url("round")})).await.unwrap_err();
    assert!(error.is_permanent(), "{}", error.message());
    assert_eq!(target.requests().len(), 2 + 6, "the request and five redirects");
}

#[tokio::test]
async fn a_redirect_to_another_origin_takes_nothing_along() {
    let other = Target::saying("200 OK", "", "there").await;
    for (status, method, may) in [
        ("301 Moved Permanently", "GET", true),
        ("302 Found", "POST", true),
        ("303 See Other", "PUT", true),
        ("307 Temporary Redirect", "GET", true),
        ("308 Permanent Redirect", "HEAD", true),
        ("301 Moved Permanently", "PUT", false),
        ("307 Temporary Redirect", "POST", false),
        ("308 Permanent Redirect", "DELETE", false),
    ] {
        let to = format!("location: {}\r\n", other.url("elsewhere"));
        let target = Target::saying(status, &to, "").await;
        let before = other.requests().len();
        let mut payload = json!({
            "url": target.url("hook?key=1"), "method": method,
            "headers": {
                "x-api-key": "secret", "authorization": "secret", "cookie": "secret",
                "content-type": "text/secret", "accept": "text/plain",
            },
        });
        if !matches!(method, "GET" | "HEAD") {
            payload["body"] = json!("secret");
        }
        let outcome = request(payload).await;
        let got = other.requests().split_off(before);
        if !may {
            let error = outcome.unwrap_err();
            assert!(error.is_permanent(), "{status} {method}");
            assert!(error.message().contains("another origin"), "{}", error.message());
            assert_eq!(got, Vec::<String>::new(), "{status} {method}");
            continue;
        }
        outcome.unwrap();
        assert_eq!(got.len(), 1, "{status} {method}");
        assert!(got[0].contains("accept: text/plain"), "{}", got[0]);
        for kept_back in ["secret", "rota-", "idempotency-key", "order-7", "referer", "traceparent"]
        {
            let request = got[0].replace("user-agent: rota/", "");
            assert!(!request.contains(kept_back), "{kept_back}: {}", got[0]);
        }
    }
}

#[tokio::test]
async fn what_is_not_text_is_kept_byte_for_byte() {
    let bytes = [0x1f, 0x8b, 0x08, 0xff, 0x00];
    let head = "content-encoding: gzip\r\ncontent-type: text/plain; x=\"\u{fc}\"\r\n";
    let target = Target::giving("200 OK", head.as_bytes(), &bytes).await;
    let result = result(&request(json!({"url": target.url("")})).await.unwrap());
    assert_eq!((&result["body"], &result["body_encoding"]), (&json!("H4sI/wA="), &json!("base64")));
    assert_eq!(result["headers"]["content-encoding"], "gzip");
    let head = b"etag: \"\xfc\"\r\n";
    let target = Target::giving("200 OK", head, "grüße".as_bytes()).await;
    let result = self::result(&request(json!({"url": target.url("")})).await.unwrap());
    assert_eq!((&result["body"], &result["body_encoding"]), (&json!("grüße"), &Value::Null));
    assert_eq!(result["headers"]["etag"], "\"ü\"", "ISO 8859-1");
    let target = Target::giving("500 Internal Server Error", b"", &bytes).await;
    let error = request(json!({"url": target.url("")})).await.unwrap_err();
    assert_eq!(error.output_tail()[..], bytes);
}

#[tokio::test]
async fn an_endless_body_is_cut() {
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    let target = Target::start(|_| Answer::Endless(head.to_owned())).await;
    let result = result(&request(json!({"url": target.url("")})).await.unwrap());
    assert_eq!(result["body_truncated"], true);
    assert_eq!(result["body"].as_str().unwrap().len(), 160 << 10);
    let head = "HTTP/1.1 404 Not Found\r\n\r\n";
    let target = Target::start(|_| Answer::Endless(head.to_owned())).await;
    let error = request(json!({"url": target.url("")})).await.unwrap_err();
    assert!(error.is_permanent());
    assert_eq!(error.output_tail().len(), 160 << 10);
}

#[tokio::test]
async fn a_target_that_is_silent_is_given_up_when_the_task_must_stop() {
    let target = Target::start(|_| Answer::Silence).await;
    let attempt = TestTask::new("http").begin();
    let executor = HttpExecutor::new(open()).unwrap();
    let payload = json!({"url": target.url("")}).to_string();
    let running = tokio::spawn(executor.run(attempt.context(), payload.into()));
    attempt.stop(StopReason::Timeout);
    let error = in_time(running).await.unwrap().unwrap_err();
    assert!(!error.is_permanent());
}

#[tokio::test]
async fn a_target_that_is_not_there_is_tried_again() {
    let gone = Target::saying("200 OK", "", "").await;
    let url = gone.url("");
    drop(gone);
    let error = request(json!({"url": url})).await.unwrap_err();
    assert!(!error.is_permanent(), "{}", error.message());
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".as_bytes().to_vec();
    let target = Target::start(move |_| Answer::Bytes(half.clone())).await;
    let error = request(json!({"url": target.url("")})).await.unwrap_err();
    assert!(!error.is_permanent(), "{}", error.message());
}

#[tokio::test]
async fn what_frames_a_request_is_not_for_the_task_to_say() {
    let target = Target::saying("200 OK", "", "").await;
    for name in ["Content-Length", "transfer-encoding", "HOST", "connection", "upgrade"] {
        let payload = json!({"url": target.url(""), "headers": {name: "5"}});
        let error = request(payload).await.unwrap_err();
        assert!(error.is_permanent() && error.message().contains(name), "{}", error.message());
    }
    assert!(target.requests().is_empty());
}

#[tokio::test]
async fn what_is_no_request_fails_for_good_and_says_why() {
    let url = "http://example.org/";
    for (payload, expected) in [
        (json!({}), "missing field `url`"),
        (json!({"url": url, "verb": "GET"}), "unknown field `verb`"),
        (json!({"url": url, "method": "G E T"}), "method"),
        (json!({"url": url, "headers": {"a b": "c"}}), "header"),
        (json!({"url": url, "headers": {"a": "b\r\nc: d"}}), "header"),
        (json!({"url": "/relative"}), "url"),
    ] {
        let error = request(payload.clone()).await.unwrap_err();
        assert!(error.is_permanent(), "{payload}");
        assert!(error.message().contains(expected), "{payload}: {}", error.message());
    }
}
