//! REST as it is meant to be used.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::Node;

#[tokio::test]
async fn a_task_is_created_leased_completed_and_read() {
    let node = Node::start().await;
    let task = json!({
        "kind": "resize", "queue": "images", "payload": { "file": "cat.png", "width": 640 },
        "labels": { "customer": "acme" }, "priority": 7, "timeout": "90s",
        "description": "the cat of the front page",
        "retry": { "max_attempts": 3, "initial": "500ms" },
    });
    let created = node.post_json("/v1/tasks", &task).await;
    assert_eq!(created.status, 201, "{created:?}");
    let shown = created.json();
    let id = shown["id"].as_str().unwrap();
    assert_eq!(created.header("location"), format!("/v1/tasks/{id}"));
    assert_eq!(shown["status"], "pending");
    assert_eq!(shown["waiting"]["reason"], "no_worker");
    assert_eq!(shown["timeout"], "1m30s");
    assert_eq!(shown["retry"]["initial"], "500ms");
    assert_eq!(shown["payload"], task["payload"]);
    assert_eq!(shown["description"], task["description"]);

    let asked = json!({ "worker": "w1", "queues": ["images"], "max": 5, "wait": "30s" });
    let leased = node.post_json("/v1/leases", &asked).await.json();
    assert_eq!(leased["tasks"][0]["description"], task["description"]);
    let lease = &leased["tasks"][0];
    assert_eq!(lease["id"], *id);
    assert_eq!(lease["payload"], task["payload"]);
    assert_eq!(lease["attempt"], 1);
    let token = lease["lease_token"].as_u64().unwrap();

    let progress = json!({ "lease_token": token, "message": "half" });
    let path = format!("/v1/tasks/{id}");
    assert_eq!(node.post_json(&format!("{path}/progress"), &progress).await.status, 204);
    let running = node.get(&path).await.json();
    assert_eq!(
        (running["progress"].as_str(), running["worker"].as_str()),
        (Some("half"), Some("w1"))
    );

    let done = json!({ "lease_token": token, "result": { "ok": true }, "output_tail": "done\n" });
    assert_eq!(node.post_json(&format!("{path}/complete"), &done).await.status, 204);
    let ended = node.get(&format!("{path}?wait=30s")).await.json();
    assert_eq!(
        (ended["status"].as_str(), ended["has_result"].as_bool()),
        (Some("completed"), Some(true))
    );
    let result = node.get(&format!("{path}/result")).await;
    assert_eq!(
        (result.header("content-type"), result.json()),
        ("application/json", json!({ "ok": true }))
    );
    let attempts = node.get(&format!("{path}/attempts")).await.json();
    assert_eq!(attempts["attempts"][0]["output_tail"], "done\n");

    assert_eq!(node.delete(&path).await.status, 204);
    assert_eq!(node.get(&path).await.status, 404);
    node.stop().await;
}

#[tokio::test]
async fn a_handler_puts_its_task_off_and_its_attempt_stays_in_the_history() {
    let node = Node::start().await;
    let new = json!({ "kind": "k", "retry": { "max_attempts": 1, "max_snoozes": 2 } });
    let path = format!("/v1/tasks/{}", node.create(&new).await);
    let asked = json!({ "worker": "w1", "max": 1, "wait": "30s" });
    let leased = node.post_json("/v1/leases", &asked).await.json();
    let token = &leased["tasks"][0]["lease_token"];
    let snooze = format!("{path}/snooze");
    for (wrong, field) in [
        (json!({ "lease_token": token }), "until"),
        (json!({ "lease_token": token, "until": "2030-01-01T00:00:00Z", "delay": "1m" }), "delay"),
        (json!({ "lease_token": token, "delay": "-1s" }), "delay"),
    ] {
        let answer = node.post_json(&snooze, &wrong).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{answer:?}");
    }
    let later = json!({ "lease_token": token, "delay": "1h", "output_tail": "not yet" });
    assert_eq!(node.post_json(&snooze, &later).await.status, 204);
    assert_eq!(node.post_json(&snooze, &later).await.status, 204, "a repeat");
    let other = json!({ "lease_token": token, "delay": "2h" });
    assert_eq!(node.post_json(&snooze, &other).await.status, 409);
    let task = node.get(&path).await.json();
    assert_eq!(
        (&task["status"], &task["waiting"]["reason"]),
        (&json!("scheduled"), &json!("snoozed"))
    );
    let counts = ["attempt", "failures", "snoozes", "lost"].map(|name| task[name].as_u64());
    assert_eq!(counts, [Some(1), Some(0), Some(1), Some(0)]);
    let attempts = node.get(&format!("{path}/attempts")).await.json();
    let attempt = &attempts["attempts"][0];
    assert_eq!(
        (&attempt["outcome"], &attempt["output_tail"]),
        (&json!("snoozed"), &json!("not yet"))
    );
    assert_eq!((&attempt["until"], &attempt["error"]), (&task["run_at"], &Value::Null));
    node.stop().await;
}

#[tokio::test]
async fn a_waiting_task_is_changed_in_part_and_only_in_the_version_that_is_meant() {
    let node = Node::start().await;
    let new = json!({
        "kind": "k", "id": "order/42", "delay": "1h", "payload": { "a": 1 }, "priority": 3,
        "labels": { "keep": "1", "change": "2", "drop": "3" }, "description": "first",
        "retry": { "max_attempts": 4, "initial": "2s" }, "timeout": "10s",
    });
    node.create(&new).await;
    let path = "/v1/tasks/order%2F42";
    let patch = async |body: &Value, version: Option<&str>| {
        let mut request =
            Request::patch(path).header("content-type", "application/merge-patch+json");
        if let Some(version) = version {
            request = request.header("if-match", version);
        }
        let body = Full::new(Bytes::from(body.to_string()));
        node.send(request.body(body).expect("a request")).await
    };
    let before = node.get(path).await.json();
    assert_eq!(before["version"], 1);
    let change = json!({
        "payload": [2.50], "labels": { "change": "4", "drop": null }, "description": null,
        "retry": { "max_attempts": 9 }, "timeout": null,
    });
    let changed = patch(&change, Some("\"1\"")).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let task = changed.json();
    assert_eq!((&task["version"], &task["payload"]), (&json!(2), &json!([2.50])));
    assert_eq!(task["labels"], json!({ "keep": "1", "change": "4" }));
    assert_eq!((&task["description"], &task["timeout"]), (&Value::Null, &json!("30m")));
    let retry = &task["retry"];
    assert_eq!((&retry["max_attempts"], &retry["initial"]), (&json!(9), &json!("2s")));
    for same in ["priority", "run_at", "queue", "kind", "created_at"] {
        assert_eq!(task[same], before[same], "{same}");
    }
    let stale = patch(&json!({ "priority": 1 }), Some("1")).await;
    assert_eq!((stale.status, &stale.json()["reason"]), (412, &json!("version_conflict")));
    for (wrong, field) in [
        (json!({ "queue": "other" }), "queue"),
        (json!({ "retry": { "max_attempts": 0 } }), "retry.max_attempts"),
        (json!({ "expires_at": "1999-01-01T00:00:00Z" }), "expires_at"),
        (json!({ "status": null }), "status"),
        (json!({}), "body"),
    ] {
        let answer = patch(&wrong, None).await;
        assert_eq!(answer.status, 400, "{wrong}: {answer:?}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{wrong}: {answer:?}");
    }
    let now = json!({ "run_at": null, "priority": 9 });
    let due = patch(&now, None).await.json();
    assert_eq!((&due["status"], &due["priority"]), (&json!("pending"), &json!(9)));
    // A repeat is compared with what was first submitted.
    assert_eq!(node.post_json("/v1/tasks", &new).await.status, 200);
    let asked = json!({ "worker": "w1", "max": 1, "wait": "30s" });
    let leased = node.post_json("/v1/leases", &asked).await.json();
    assert_eq!(leased["tasks"][0]["payload"], json!([2.50]));
    let late = patch(&json!({ "priority": 1, "expires_at": "1999-01-01T00:00:00Z" }), None).await;
    assert_eq!((late.status, &late.json()["reason"]), (409, &json!("illegal_state")));
    node.stop().await;
}

#[tokio::test]
async fn a_task_that_was_retried_has_no_start_deadline_any_more() {
    let node = Node::start().await;
    let id = node.create(&json!({ "kind": "k", "expires_at": "2100-01-01T00:00:00Z" })).await;
    let path = format!("/v1/tasks/{id}");
    assert_ne!(node.get(&path).await.json()["expires_at"], Value::Null);
    node.post(&format!("{path}/cancel"), "").await;
    node.post(&format!("{path}/retry"), "").await;
    assert_eq!(node.get(&path).await.json()["expires_at"], Value::Null);
    // Later than the former deadline.
    let run_at = json!({ "run_at": "2101-01-01T00:00:00Z" });
    let later = node.post_json(&format!("{path}/reschedule"), &run_at).await;
    assert_eq!(later.status, 200, "{later:?}");
    let request = Request::patch(&path).header("content-type", "application/merge-patch+json");
    let body = Full::new(Bytes::from(json!({ "description": "x" }).to_string()));
    let patched = node.send(request.body(body).expect("a request")).await;
    assert_eq!(patched.status, 200, "{patched:?}");
    assert_eq!(patched.json()["expires_at"], Value::Null, "no other change brings it back");
    node.stop().await;
}

#[tokio::test]
async fn payloads_that_are_not_json_come_back_in_base64() {
    let node = Node::start().await;
    let id = node.create(&json!({ "kind": "k", "payload_base64": "/wAB" })).await;
    let shown = node.get(&format!("/v1/tasks/{id}")).await.json();
    assert_eq!((&shown["payload"], &shown["payload_base64"]), (&Value::Null, &json!("/wAB")));
    let exact =
        Bytes::from_static(br#"{"kind":"k","payload":{"b":1.50,  "a":12345678901234567890}}"#);
    let shown = node.post("/v1/tasks", exact).await;
    let body = String::from_utf8_lossy(&shown.body);
    assert!(body.contains(r#""payload":{"b":1.50,  "a":12345678901234567890}"#), "{body}");
    node.stop().await;
}

#[tokio::test]
async fn ids_with_slashes_and_colons_are_found_by_their_paths() {
    let node = Node::start().await;
    for (id, encoded) in [("a/b:c", "a%2Fb:c"), ("a/../b", "a%2F..%2Fb"), ("x:y", "x%3Ay")] {
        let created = node.post_json("/v1/tasks", &json!({ "kind": "k", "id": id })).await;
        assert_eq!(created.status, 201);
        let location = created.header("location").to_owned();
        for path in [location, format!("/v1/tasks/{encoded}")] {
            assert_eq!(node.get(&path).await.json()["id"], id, "{path}");
        }
        let answer = node.post(&format!("/v1/tasks/{encoded}/cancel"), "").await;
        assert_eq!(answer.json()["status"], "cancelled");
    }
    let said = json!({ "note": "migration", "by": "ann" });
    let answer = node.post_json("/v1/queues/a%2Fb/pause", &said).await;
    let pause = answer.json()["pause"].clone();
    assert_eq!((&pause["by"], &pause["note"]), (&json!("ann"), &json!("migration")));
    let again = node.post_json("/v1/queues/a%2Fb/pause", &said).await;
    assert_eq!(again.json()["pause"], pause, "a repeat changes nothing");
    let answer = node.post("/v1/queues/a%2Fb/pause", "").await;
    assert_eq!(
        (answer.json()["name"].as_str(), answer.json()["paused"].as_bool()),
        (Some("a/b"), Some(true))
    );
    assert_eq!(node.get("/v1/queues/a%2Fb").await.json()["paused"], true);
    assert_eq!(node.post("/v1/queues/a%2Fb/resume", "").await.json()["paused"], false);
    node.stop().await;
}

#[tokio::test]
async fn a_repeat_is_the_same_task_and_another_body_a_conflict() {
    let node = Node::start().await;
    for name in ["id", "idempotency_key"] {
        let task = json!({ "kind": "k", name: "mine", "payload": 1 });
        let first = node.post_json("/v1/tasks", &task).await;
        assert_eq!(first.status, 201, "{first:?}");
        let again = node.post_json("/v1/tasks", &task).await;
        assert_eq!((again.status, &again.json()["id"]), (200, &first.json()["id"]));
        let other = json!({ "kind": "k", name: "mine", "payload": 2 });
        let answer = node.post_json("/v1/tasks", &other).await;
        assert_eq!((answer.status, answer.fields()), (409, vec![name.to_owned()]));
        assert_eq!(answer.problem()["reason"], "conflict");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_failure_backs_off_and_is_told() {
    let node = Node::start().await;
    let retry = json!({ "initial": "1h", "max": "1h", "jitter": "none" });
    let id = node.create(&json!({ "kind": "k", "retry": retry })).await;
    let (_, token) = node.lease("k").await;
    let path = format!("/v1/tasks/{id}");
    let failed = json!({ "lease_token": token, "error": "no such file" });
    assert_eq!(node.post_json(&format!("{path}/fail"), &failed).await.status, 204);
    let shown = node.get(&path).await.json();
    assert_eq!(shown["status"], "scheduled");
    assert_eq!(shown["error"], json!({ "reason": "error", "message": "no such file" }));
    assert_eq!(
        (&shown["waiting"]["reason"], &shown["waiting"]["attempt"]),
        (&json!("backing_off"), &json!(1))
    );

    assert_eq!(
        node.post_json(&format!("{path}/reschedule"), &json!({ "delay": "0s" })).await.status,
        200
    );
    let (_, token) = node.lease("k").await;
    let failed = json!({ "lease_token": token, "error": "useless", "permanent": true });
    assert_eq!(node.post_json(&format!("{path}/fail"), &failed).await.status, 204);
    let shown = node.get(&path).await.json();
    assert_eq!(
        (&shown["status"], &shown["error"]["reason"]),
        (&json!("failed"), &json!("permanent"))
    );
    assert_eq!(node.post(&format!("{path}/retry"), "").await.json()["status"], "pending");
    node.stop().await;
}

#[tokio::test]
async fn queues_workers_and_the_server_are_shown() {
    let node = Node::start().await;
    node.create(&json!({ "kind": "k", "queue": "q" })).await;
    node.create(&json!({ "kind": "k", "queue": "q", "delay": "1h" })).await;
    let queues = node.get("/v1/queues").await.json();
    let queue = &queues["queues"][0];
    assert_eq!(
        (&queue["name"], &queue["pending"], &queue["scheduled"]),
        (&json!("q"), &json!(1), &json!(1))
    );

    let leased =
        node.post_json("/v1/leases", &json!({ "worker": "w", "kinds": ["none"] })).await.json();
    let session = leased["session"].as_str().unwrap();
    let workers = node.get("/v1/workers").await.json();
    assert_eq!(
        (&workers["workers"][0]["name"], &workers["workers"][0]["session"]),
        (&json!("w"), &json!(session))
    );
    assert_eq!(node.post(&format!("/v1/sessions/{session}/heartbeat"), "").await.status, 200);
    assert_eq!(node.post("/v1/workers/w/drain", "").await.json()["workers"][0]["draining"], true);
    assert_eq!(node.delete(&format!("/v1/sessions/{session}")).await.status, 204);
    assert_eq!(node.get("/v1/workers").await.json()["workers"], json!([]));

    let info = node.get("/v1/info").await.json();
    assert_eq!((&info["ready"], &info["limits"]["payload_bytes"]), (&json!(true), &json!(1 << 20)));
    assert_eq!(node.get("/readyz").await.json()["ready"], true);
    assert_eq!(node.get("/").await.header("location"), "/docs");
    node.stop().await;
}

#[tokio::test]
async fn a_full_queue_says_when_to_try_again() {
    let mut options = rota_engine::EngineOptions::default();
    options.machine.queue_length_max = 2;
    let node = Node::start_with(options, rota_server::ServerOptions::default()).await;
    for _ in 0..2 {
        node.create(&json!({ "kind": "k" })).await;
    }
    let answer = node.post_json("/v1/tasks", &json!({ "kind": "k" })).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "1"));
    insta::assert_json_snapshot!("problem_of_a_full_queue", answer.problem());
    let batch = json!({ "tasks": [{ "kind": "k" }, { "kind": "a b" }] });
    let answer = node.post_json("/v1/tasks/batch", &batch).await;
    insta::assert_json_snapshot!("batch_on_a_full_queue", answer.json());
    node.stop().await;
}

#[tokio::test]
async fn the_longest_key_that_may_be_allowed_can_be_kept() {
    let limits = rota_server::Limits {
        idempotency_key_bytes: rota_engine::IDEMPOTENCY_KEY_BYTES_MAX,
        ..rota_server::Limits::default()
    };
    let node = Node::start_limited(limits).await;
    let key = "k".repeat(rota_engine::IDEMPOTENCY_KEY_BYTES_MAX);
    let answer = node.post_json("/v1/tasks", &json!({ "kind": "k", "idempotency_key": key })).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    node.stop().await;
}

#[tokio::test]
async fn configured_limits_are_in_force_and_named() {
    let limits = rota_server::Limits {
        payload_bytes: 10,
        labels: 1,
        batch: 2,
        page_size: 3,
        json_depth: 2,
        name_characters: 8,
        idempotency_key_bytes: 4,
        wait: std::time::Duration::from_secs(2),
        worker_slots: 5,
        ..rota_server::Limits::default()
    };
    let node = Node::start_limited(limits).await;
    let limit = async |path: &str, body: Value| {
        let answer = node.post_json(path, &body).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        answer.problem()["errors"][0]["limit"].clone()
    };
    let task = |member: &str, value: Value| json!({ "kind": "k", member: value });
    let named = |name: &str, max: u64| json!({ "name": name, "max": max });
    assert_eq!(
        limit("/v1/tasks", task("payload", json!("0123456789"))).await,
        named("payload_bytes", 10)
    );
    assert_eq!(limit("/v1/tasks", task("payload", json!([[[]]]))).await, named("json_depth", 2));
    assert_eq!(
        limit("/v1/tasks", task("labels", json!({ "a": "", "b": "" }))).await,
        named("labels", 1)
    );
    for member in ["queue", "kind", "id"] {
        assert_eq!(
            limit("/v1/tasks", task(member, json!("ninechars"))).await,
            named("name_characters", 8),
            "{member}"
        );
    }
    assert_eq!(
        limit("/v1/tasks", task("labels", json!({ "ninechars": "" }))).await,
        named("name_characters", 8)
    );
    assert_eq!(
        limit("/v1/tasks", task("idempotency_key", json!("fives"))).await,
        named("idempotency_key_bytes", 4)
    );
    let lease = |member: &str, value: Value| json!({ "worker": "w", member: value });
    assert_eq!(limit("/v1/leases", lease("worker", json!("ninechars"))).await["max"], 8);
    assert_eq!(limit("/v1/leases", lease("max", json!(4))).await, named("page_size", 3));
    assert_eq!(limit("/v1/leases", lease("wait", json!("3s"))).await, named("wait_ms", 2000));
    assert_eq!(limit("/v1/queues/ninechars/pause", json!({})).await["max"], 8);
    // What is only looked for may have any name.
    assert_eq!(node.get("/v1/tasks?queue=ninechars").await.status, 200);
    for path in ["/v1/tasks?limit=0", "/v1/tasks/x?wait=-1s"] {
        // What is too little exceeds no limit.
        assert_eq!(node.get(path).await.problem()["errors"][0].get("limit"), None, "{path}");
    }
    for (path, name, max) in
        [("/v1/tasks?limit=4", "page_size", 3), ("/v1/tasks/x?wait=3s", "wait_ms", 2000)]
    {
        let problem = node.get(path).await.problem();
        assert_eq!(problem["errors"][0]["limit"], named(name, max), "{problem}");
    }
    let tasks = json!({ "tasks": [task("queue", json!("q")), task("queue", json!("q")), task("queue", json!("q"))] });
    assert_eq!(limit("/v1/tasks/batch", tasks).await, named("batch", 2));
    assert_eq!(node.get("/v1/tasks?limit=4").await.fields(), ["limit"]);
    let info = node.get("/v1/info").await.json();
    assert_eq!(info["limits"]["json_depth"], 2);
    assert_eq!(info["limits"]["name_characters"], 8);
    assert_eq!(info["limits"]["idempotency_key_bytes"], 4);
    node.stop().await;
}

#[tokio::test]
async fn results_are_not_to_be_guessed_at_by_browsers() {
    let node = Node::start().await;
    let id = node.create(&json!({ "kind": "k" })).await;
    let (_, token) = node.lease("k").await;
    let done = json!({ "lease_token": token, "result": "<script>" });
    node.post_json(&format!("/v1/tasks/{id}/complete"), &done).await;
    let answer = node.get(&format!("/v1/tasks/{id}/result")).await;
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let head = Request::head(format!("/v1/tasks/{id}")).body(Full::default()).unwrap();
    let answer = node.send(head).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    node.stop().await;
}
