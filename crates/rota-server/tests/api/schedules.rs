//! Schedules and calendars as clients see them.

use http::Request;
use http_body_util::Full;
use rota_proto::v1;
use serde_json::{Value, json};

use crate::harness::{Answer, Node};

/// A node whose cluster has raised its feature level, which schedules need.
async fn start() -> Node {
    let node = Node::start().await;
    node.has_feature_level(2).await;
    node
}

async fn put_with(node: &Node, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut request = Request::put(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    node.send(request.body(Full::from(body.to_string())).unwrap()).await
}

async fn put(node: &Node, path: &str, body: &Value) -> Answer {
    put_with(node, path, &[], body).await
}

/// A schedule that runs once a year.
fn yearly() -> Value {
    json!({ "expressions": ["30 2 1 1 *"], "template": { "kind": "report" } })
}

#[tokio::test]
async fn a_schedule_is_created_replaced_and_deleted() {
    let node = start().await;
    let path = "/v1/schedules/reports%2Fyearly";
    let must_be_new = [("if-none-match", "*")];
    let answer = put_with(&node, path, &must_be_new, &yearly()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!((answer.header("location"), answer.header("etag")), (path, "\"1\""));
    let created = answer.json();
    assert_eq!(created["name"], "reports/yearly");
    assert_eq!(created["state"], "active");
    assert_eq!(created["time_zone"], "UTC");
    assert!(created["sentence"].as_str().unwrap().contains("02:30"), "{created}");
    let definition = &created["definition"];
    assert_eq!(definition["template"]["queue"], "default");
    assert_eq!((&definition["gap"], &definition["overlap"]), (&json!("end"), &json!("skip")));

    // Whoever writes back what he has read changes nothing.
    let again = put(&node, path, definition).await;
    assert_eq!((again.status, again.header("etag")), (200, "\"1\""));
    assert_eq!(again.json()["decided_until"], created["decided_until"]);
    assert_eq!(put_with(&node, path, &must_be_new, &yearly()).await.status, 412);

    let mut other = yearly();
    other["expressions"] = json!(["0 3 1 1 *"]);
    let stale = put_with(&node, path, &[("if-match", "\"2\"")], &other).await;
    assert_eq!(stale.problem()["reason"], "version_conflict");
    let replaced = put_with(&node, path, &[("if-match", "\"1\"")], &other).await;
    assert_eq!((replaced.status, replaced.header("etag")), (200, "\"2\""));
    let any = put_with(&node, path, &[("if-match", "*")], &yearly()).await;
    assert_eq!((any.status, any.header("etag")), (200, "\"3\""));
    let nowhere = put_with(&node, "/v1/schedules/none", &[("if-match", "*")], &yearly()).await;
    assert_eq!(nowhere.status, 412);
    assert_eq!(node.get(path).await.header("etag"), "\"3\"");

    let named = |name: &str| json!({ "name": name, "expressions": ["@daily"], "template": { "kind": "k" } });
    assert_eq!(put(&node, path, &named("other")).await.fields(), ["name"]);
    for reserved in ["pause", "preview", "resume"] {
        let answer = put(&node, &format!("/v1/schedules/{reserved}"), &yearly()).await;
        assert!(answer.status == 405 || answer.fields() == ["name"], "{answer:?}");
    }

    let request = Request::delete(path).header("if-match", "\"2\"");
    let stale = node.send(request.body(Full::default()).unwrap()).await;
    assert_eq!(stale.status, 412);
    assert_eq!(node.delete(path).await.status, 204);
    assert_eq!(node.get(path).await.problem()["reason"], "unknown_schedule");
    assert_eq!(node.delete(path).await.status, 404);
    node.stop().await;
}

#[tokio::test]
async fn a_wrong_definition_names_the_field_and_the_limit() {
    let node = Node::start().await;
    let long = "x".repeat(91);
    for (change, field, words) in [
        (json!({ "expressions": [] }), "expressions", "at least one"),
        (json!({ "expressions": ["@daily", "60 * * * *"] }), "expressions[1]", "use 0 to 59"),
        (json!({ "expressions": ["0 0 30 2 *"] }), "expressions[0]", "never"),
        (json!({ "expressions": ["0 0 1--100000000 * *"] }), "expressions[0]", ""),
        (json!({ "expressions": ["* * * * MONDAYY"] }), "expressions[0]", "MONDAYY"),
        (json!({ "expressions": ["@reboot"] }), "expressions[0]", "reboot"),
        (json!({ "expressions": vec!["@daily"; 17] }), "expressions", "16"),
        (json!({ "expressions": ["x".repeat(66_000)] }), "expressions", "65536"),
        (json!({ "expressions": ["CRON_TZ=Mars @daily"] }), "expressions", "Mars"),
        (
            json!({ "expressions": ["CRON_TZ=Asia/Tokyo @daily"], "time_zone": "UTC" }),
            "expressions[0]",
            "one time zone",
        ),
        (json!({ "time_zone": "Europe/Berln" }), "time_zone", "Europe/Berlin"),
        (json!({ "time_zone": "" }), "time_zone", "empty"),
        (json!({ "intervals": [{ "every": "0s" }] }), "intervals[0]", "1s to 3660d"),
        (json!({ "intervals": [{}] }), "intervals[0].every", "missing"),
        (json!({ "intervals": [{ "every": "1.5s" }] }), "intervals[0]", "whole"),
        (json!({ "dates": ["tomorrow"] }), "dates[0]", "2026-12-24T18:00"),
        (json!({ "start": "2026-02-01T00:00", "end": "2026-01-01T00:00" }), "end", "after start"),
        (json!({ "exclude": { "dates": ["x"] } }), "exclude.dates[0]", "2026-12-25"),
        (
            json!({ "exclude": { "expressions": ["@every 5m"] } }),
            "exclude.expressions[0]",
            "interval",
        ),
        (
            json!({ "exclude": { "calendars": [{ "name": "a b" }] } }),
            "exclude.calendars[0].name",
            "character",
        ),
        (json!({ "jitter": "2d" }), "jitter", "1d"),
        (json!({ "catch_up_window": "1s" }), "catch_up_window", "10s"),
        (json!({ "catch_up_max": 0 }), "catch_up_max", "from 1 to 1000"),
        (json!({ "pause_on_failure": 1001 }), "pause_on_failure", "1000"),
        (json!({ "max_runs": 0 }), "max_runs", "at least 1"),
        (json!({ "gap": "never" }), "gap", "`end`, `skip`, `shift`"),
        (json!({ "description": "x".repeat(257) }), "description", "256"),
        (json!({ "template": null }), "template", "missing"),
        (json!({ "template": { "kind": "a b" } }), "template.kind", "character"),
        (
            json!({ "template": { "kind": "k", "retry": { "max_attempts": 0 } } }),
            "template.retry.max_attempts",
            "from 1 to 1000",
        ),
        (
            json!({ "jitter": "1h", "template": { "kind": "k", "expires_after": "1h" } }),
            "template.expires_after",
            "longer than jitter",
        ),
        (json!({ "template": { "kind": "k", "id": "a" } }), "template.id", "name of the schedule"),
        (
            json!({ "template": { "kind": "k", "run_at": "2030-01-01T00:00:00Z" } }),
            "template.run_at",
            "not part of a template",
        ),
        (
            json!({ "template": { "kind": "k", "expires_at": "2030-01-01T00:00:00Z" } }),
            "template.expires_at",
            "use expires_after",
        ),
        (json!({ "template": { "kind": "k", "delay": "1s" } }), "template.delay", "jitter"),
        (
            json!({ "template": { "kind": "k", "idempotency_key": "a" } }),
            "template.idempotency_key",
            "exactly once",
        ),
        (json!({ "cron": "@daily" }), "cron", "unknown field"),
        (json!({ "name": long }), "name", "90"),
    ] {
        let mut definition = json!({ "expressions": ["@daily"], "template": { "kind": "k" } });
        let members = definition.as_object_mut().unwrap();
        members.extend(change.as_object().unwrap().clone());
        let name = change["name"].as_str().unwrap_or("s");
        let answer = put(&node, &format!("/v1/schedules/{name}"), &definition).await;
        assert_eq!(answer.status, 400, "{change}: {answer:?}");
        let error = answer.problem()["errors"][0].clone();
        assert_eq!(error["field"], field, "{change}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{change}: {message}");
    }
    node.stop().await;
}

/// The UTC times of the runs in a preview.
async fn runs(node: &Node, definition: Value, from: &str) -> (Vec<String>, Value) {
    let asked = json!({ "definition": definition, "from": from, "count": 4 });
    let answer = node.post_json("/v1/schedules/preview", &asked).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let preview = answer.json();
    let runs = preview["upcoming"].as_array().unwrap().iter().filter(|run| run["fires"] == true);
    let runs = runs.map(|run| run["nominal_time"].as_str().unwrap().replace(".000Z", "Z"));
    (runs.collect(), preview)
}

#[tokio::test]
async fn a_preview_shows_the_change_of_clocks() {
    let node = Node::start().await;
    let new_york = |gap: &str| json!({ "expressions": ["30 2 * * *"], "time_zone": "America/New_York", "gap": gap });
    let noon = "2026-03-07T12:00:00-05:00";
    let (times, preview) = runs(&node, new_york("end"), noon).await;
    assert_eq!(
        times[..3],
        ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z", "2026-03-10T06:30:00Z"]
    );
    assert_eq!(preview["upcoming"][0]["local_time"], "2026-03-08T03:00:00-04:00");
    assert_eq!(preview["upcoming"][0]["utc_offset_seconds"], -14_400);
    let warnings = preview["warnings"].to_string();
    assert!(warnings.contains("02:30 on 2026-03-08 does not exist: runs at 03:00"), "{warnings}");
    assert_eq!(preview["time_zone"], "America/New_York");
    assert_eq!(node.get("/v1/info").await.json()["time_zone_rules"], preview["time_zone_rules"]);

    let (times, preview) = runs(&node, new_york("skip"), noon).await;
    assert_eq!(times[..2], ["2026-03-09T06:30:00Z", "2026-03-10T06:30:00Z"]);
    assert_eq!(preview["upcoming"][0]["skipped_by"], "gap");
    let (times, _) = runs(&node, new_york("shift"), noon).await;
    assert_eq!(times[0], "2026-03-08T07:30:00Z");

    let fold = |fold: &str| json!({ "expressions": ["30 1 * * *"], "time_zone": "America/New_York", "fold": fold });
    let before = "2026-10-31T12:00:00-04:00";
    let (times, _) = runs(&node, fold("first"), before).await;
    assert_eq!(times[..2], ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]);
    let (times, _) = runs(&node, fold("second"), before).await;
    assert_eq!(times[0], "2026-11-01T06:30:00Z");
    let (times, _) = runs(&node, fold("both"), before).await;
    assert_eq!(times[..2], ["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"]);

    // The name decides about H, and jitter about the time of the task.
    let hashed = json!({ "expressions": ["H H * * *"] });
    let (_, preview) = runs(&node, hashed, noon).await;
    assert!(preview["warnings"][0].as_str().unwrap().starts_with("H depends"), "{preview}");
    let jittered = json!({ "name": "s", "expressions": ["@daily"], "jitter": "1h" });
    let (_, preview) = runs(&node, jittered, noon).await;
    assert!(preview["upcoming"][0]["due_time"].is_string(), "{preview}");
    for (body, field) in [
        (json!({ "definition": { "expressions": ["@daily"] }, "count": 101 }), "count"),
        (json!({ "definition": { "expressions": ["x"] } }), "definition.expressions[0]"),
        (
            json!({ "definition": { "expressions": ["@daily"], "template": { "kind": "" } } }),
            "definition.template.kind",
        ),
        (
            json!({ "definition": { "template": { "kind": "k", "id": "x" } } }),
            "definition.template.id",
        ),
    ] {
        let answer = node.post_json("/v1/schedules/preview", &body).await;
        assert_eq!(answer.fields(), [field], "{body}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_handler_is_told_the_tick_of_its_task() {
    let node = start().await;
    let often = json!({
        "expressions": ["* * * * * *"], "overlap": "allow", "max_runs": 2,
        "template": { "kind": "ticked", "payload": { "a": 1 }, "expires_after": "1h" },
    });
    assert_eq!(put(&node, "/v1/schedules/often", &often).await.status, 201);
    let asked = json!({ "worker": "w", "kinds": ["ticked"], "wait": "30s" });
    let leased = node.post_json("/v1/leases", &asked).await.json()["tasks"][0].clone();
    let nominal = leased["tick"]["nominal_time"].as_str().unwrap().replace(".000Z", "Z");
    assert_eq!(leased["tick"]["schedule"], "often");
    assert_eq!(leased["id"], format!("often/{nominal}"));
    assert_eq!(leased["payload"], json!({ "a": 1 }));
    let id = leased["id"].as_str().unwrap().replace('/', "%2F");
    let task = node.get(&format!("/v1/tasks/{id}")).await.json();
    assert_eq!(task["tick"], leased["tick"]);
    assert!(task["expires_at"].is_string());

    // The second tick completes the schedule.
    assert_eq!(node.post_json("/v1/leases", &asked).await.json()["tasks"][0]["kind"], "ticked");
    let schedule = node.get("/v1/schedules/often").await.json();
    assert_eq!((&schedule["state"], &schedule["remaining_runs"]), (&json!("completed"), &json!(0)));
    let ticks = node.get("/v1/schedules/often/ticks?limit=1").await.json();
    assert_eq!(ticks["ticks"][0]["outcome"], "fired", "{ticks}");
    let next = ticks["next_cursor"].as_str().unwrap();
    let ticks = node.get(&format!("/v1/schedules/often/ticks?cursor={next}")).await.json();
    let first = ticks["ticks"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(first["nominal_time"], leased["tick"]["nominal_time"], "{ticks}");
    assert_eq!(first["task_id"], leased["id"]);

    // A task of somebody else may have a like name.
    node.create(&json!({ "id": "often/mine", "kind": "other" })).await;
    let manual = node.post_json("/v1/schedules/often/trigger", &json!({})).await;
    assert_eq!(manual.status, 201, "{manual:?}");
    assert_eq!(manual.json()["id"], "often/manual-1");
    assert_eq!(manual.json()["tick"]["schedule"], "often");
    assert_eq!(manual.json()["tick"].get("nominal_time"), None);
    let listed = node.get("/v1/tasks?schedule=often").await.json();
    let ids: Vec<_> = listed["tasks"].as_array().unwrap().iter().map(|task| &task["id"]).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert!(!ids.contains(&&json!("often/mine")), "{ids:?}");
    assert_eq!(node.get("/v1/tasks?schedule=other").await.json()["tasks"], json!([]));
    node.stop().await;
}

#[tokio::test]
async fn schedules_are_listed_paused_and_resumed() {
    let node = start().await;
    for (name, team) in [("a/1", "x"), ("a/2", "y"), ("b/1", "x")] {
        let mut definition = yearly();
        definition["labels"] = json!({ "team": team });
        definition["template"]["payload"] = json!({ "secret": 1 });
        let path = format!("/v1/schedules/{}", name.replace('/', "%2F"));
        assert_eq!(put(&node, &path, &definition).await.status, 201);
    }
    let names = |query: &'static str| {
        let node = &node;
        async move {
            let answer = node.get(&format!("/v1/schedules{query}")).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
            let list = answer.json();
            let names = list["schedules"].as_array().unwrap().iter();
            let names = names.map(|one| one["name"].as_str().unwrap().to_owned());
            (names.collect::<Vec<_>>(), list["next_cursor"].as_str().map(str::to_owned))
        }
    };
    assert_eq!(names("").await.0, ["a/1", "a/2", "b/1"]);
    assert_eq!(
        names("?prefix=a%2F&limit=1").await,
        (vec!["a/1".to_owned()], Some("a/1".to_owned()))
    );
    assert_eq!(names("?prefix=a%2F&cursor=a%2F1").await, (vec!["a/2".to_owned()], None));
    assert_eq!(names("?label=team%3Dx").await.0, ["a/1", "b/1"]);

    // A pause needs no body.
    let request = Request::post("/v1/schedules/a%2F2/pause").body(Full::default()).unwrap();
    let paused = node.send(request).await;
    assert_eq!((paused.status, &paused.json()["state"]), (200, &json!("paused")));
    assert_eq!(paused.json().get("next_time"), None);
    let body =
        json!({ "filter": { "labels": { "team": "x" } }, "note": "holidays", "by": "me@host" });
    let answer = node.post_json("/v1/schedules/pause", &body).await;
    assert_eq!(answer.json(), json!({ "changed": 2 }));
    let pause = node.get("/v1/schedules/b%2F1").await.json()["pause"].clone();
    assert_eq!((&pause["note"], &pause["by"]), (&json!("holidays"), &json!("me@host")));
    assert_eq!(pause["on_failure"], false);
    assert_eq!(names("?state=active").await.0, [""; 0]);
    assert_eq!(node.post_json("/v1/schedules/pause", &json!({})).await.fields(), ["all"]);
    let body = json!({ "all": true, "limit": 2 });
    let mut changed = Vec::new();
    for _ in 0..2 {
        let answer = node.post_json("/v1/schedules/resume", &body).await;
        changed.push(answer.json()["changed"].as_u64());
    }
    assert_eq!(changed, [Some(2), Some(1)]);
    assert_eq!(names("?state=active").await.0, ["a/1", "a/2", "b/1"]);
    let long = json!({ "note": "x".repeat(257) });
    assert_eq!(node.post_json("/v1/schedules/a%2F1/pause", &long).await.fields(), ["note"]);

    let path = "/v1/schedules/a%2F1";
    let next = node.get(path).await.json()["next_time"].clone();
    let skipped = node.post_json(&format!("{path}/skip"), &json!({ "nominal_time": next })).await;
    assert_eq!(skipped.json()["skip_times"], json!([next]));
    let preview = node.get(&format!("{path}/preview?count=2")).await.json();
    assert_eq!(preview["upcoming"][0]["skipped_by"], "request", "{preview}");
    let undo = json!({ "nominal_time": next, "undo": true });
    let undone = node.post_json(&format!("{path}/skip"), &undo).await;
    assert_eq!(undone.json()["skip_times"], json!([]));
    let never = json!({ "nominal_time": "2100-06-01T00:00:00Z" });
    let refused = node.post_json(&format!("{path}/skip"), &never).await;
    assert_eq!((refused.status, &refused.problem()["reason"]), (409, &json!("no_such_tick")));
    node.stop().await;
}

#[tokio::test]
async fn a_backfill_is_counted_begun_and_cancelled() {
    let node = start().await;
    assert_eq!(put(&node, "/v1/schedules/s", &yearly()).await.status, 201);
    let path = "/v1/schedules/s/backfill";
    let range = |from: &str, to: &str| json!({ "from": from, "to": to });
    let mut body = range("2020-01-01T02:30:00Z", "2022-12-31T00:00:00Z");
    body["dry_run"] = json!(true);
    let counted = node.post_json(path, &body).await.json();
    let expected =
        json!({ "occurrences": 3, "present": 0, "missing": 3, "to_create": 3, "more": false });
    assert_eq!(counted, expected);
    assert_eq!(node.delete(path).await.problem()["reason"], "no_backfill");

    body["dry_run"] = json!(false);
    let begun = node.post_json(path, &body).await.json();
    assert_eq!(begun["schedule"]["backfill"]["order"], "one_by_one", "{begun}");
    let again = node.post_json(path, &body).await;
    assert_eq!(again.problem()["reason"], "backfill_under_way");
    let (id, _) = node.lease("report").await;
    assert_eq!(id, "s/backfill-2020-01-01T02:30:00Z");
    let cancelled = node.delete(path).await;
    assert_eq!((cancelled.status, cancelled.json().get("backfill")), (200, None));

    for (body, field) in [
        (json!({}), "from"),
        (range("2022-01-01T00:00:00Z", "2020-01-01T00:00:00Z"), "to"),
        (range("2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"), "to"),
        (json!({ "from": "2100-01-01T00:00:00Z" }), "from"),
        (json!({ "from": "2020-01-01T00:00:00Z", "interval": "2d" }), "interval"),
        (json!({ "from": "2020-01-01T00:00:00Z", "priority": 10 }), "priority"),
        (json!({ "from": "2020-01-01T00:00:00Z", "order": "random" }), "order"),
    ] {
        assert_eq!(node.post_json(path, &body).await.fields(), [field], "{body}");
    }
    node.stop().await;
}

#[tokio::test]
async fn calendars_are_kept_and_used() {
    let node = start().await;
    let path = "/v1/calendars/holidays";
    let entries =
        json!([{ "days": "12-25", "note": "Christmas" }, { "days": "2026-12-24..2026-12-26" }]);
    let content = json!({ "entries": entries, "description": "Office" });
    let answer = put(&node, path, &content).await;
    assert_eq!((answer.status, answer.header("etag")), (201, "\"1\""), "{answer:?}");
    assert_eq!(answer.json()["entry_count"], 2);
    assert_eq!(put(&node, path, &content).await.header("etag"), "\"1\"");
    let stale = put_with(&node, path, &[("if-match", "\"7\"")], &json!({ "entries": [] })).await;
    assert_eq!(stale.status, 412);

    let ics = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20261225\r\nSUMMARY:Christmas\r\n\
               END:VEVENT\r\nEND:VCALENDAR\r\n";
    let file = |path: &str, text: &str| {
        let request = Request::put(path.to_owned()).header("content-type", "text/calendar");
        request.body(Full::from(text.to_owned())).unwrap()
    };
    let answer = node.send(file("/v1/calendars/imported", ics)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.json()["entries"], json!([{ "days": "2026-12-25", "note": "Christmas" }]));
    assert_eq!(node.send(file("/v1/calendars/wrong", "hello")).await.fields(), ["body"]);
    let list = node.get("/v1/calendars?limit=1").await.json();
    assert_eq!(list["calendars"][0]["name"], "holidays");
    assert_eq!(list["calendars"][0].get("entries"), None);
    assert_eq!(list["next_cursor"], "holidays");
    let list = node.get("/v1/calendars?cursor=holidays").await.json();
    assert_eq!(
        (&list["calendars"][0]["name"], list.get("next_cursor")),
        (&json!("imported"), None)
    );

    let mut definition = yearly();
    definition["expressions"] = json!(["0 9 25 12 *"]);
    let rule = |name: &str| json!({ "calendars": [{ "name": name, "on_holiday": "after" }] });
    definition["exclude"] = rule("none");
    let refused = put(&node, "/v1/schedules/s", &definition).await;
    assert_eq!((refused.status, refused.fields()), (400, vec!["exclude.calendars".to_owned()]));
    definition["exclude"] = rule("holidays");
    assert_eq!(put(&node, "/v1/schedules/s", &definition).await.status, 201);
    let query = "count=1&from=2026-01-01T00:00:00Z";
    let preview = node.get(&format!("/v1/schedules/s/preview?{query}")).await.json();
    let run = preview["upcoming"].as_array().unwrap().last().unwrap();
    assert_eq!(run["moved_from"], "2026-12-25", "{preview}");
    assert_eq!(run["nominal_time"], "2026-12-27T09:00:00.000Z", "{preview}");
    let used = node.delete(path).await;
    assert_eq!((used.status, &used.problem()["reason"]), (409, &json!("calendar_in_use")));
    assert_eq!(node.delete("/v1/calendars/imported").await.status, 204);
    assert_eq!(node.get("/v1/calendars/imported").await.status, 404);

    for (body, field) in [
        (json!({ "entries": [{ "days": "25.12." }] }), "entries[0].days"),
        (json!({ "entries": [{ "days": "12-25", "note": "x".repeat(201) }] }), "entries[0].note"),
        (json!({ "entries": vec![json!({ "days": "12-25" }); 2001] }), "entries"),
        (json!({ "entries": [], "description": "" }), "description"),
    ] {
        assert_eq!(put(&node, path, &body).await.fields(), [field]);
    }
    node.stop().await;
}

#[tokio::test]
async fn grpc_checks_the_numbers_of_its_enumerations() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut client = v1::schedule_service_client::ScheduleServiceClient::new(channel.clone());
    let definition = v1::ScheduleDefinition {
        name: Some("s".to_owned()),
        expressions: vec!["@daily".to_owned()],
        gap: Some(9),
        overlap: Some(-1),
        template: Some(v1::TaskTemplate { kind: "k".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let request = v1::PutScheduleRequest { definition: Some(definition), expected_version: None };
    let refused = client.put_schedule(request).await.unwrap_err();
    let (_, reason, fields) = crate::grpc::told(&refused);
    assert_eq!(
        (reason.as_str(), fields),
        ("invalid", vec!["gap".to_owned(), "overlap".to_owned()])
    );
    let both = v1::PutCalendarRequest {
        name: "c".to_owned(),
        entries: vec![v1::CalendarEntry { days: "12-25".to_owned(), note: None }],
        ics: Some("BEGIN:VCALENDAR".to_owned()),
        ..Default::default()
    };
    let mut client = v1::calendar_service_client::CalendarServiceClient::new(channel);
    let refused = client.put_calendar(both).await.unwrap_err();
    assert_eq!(crate::grpc::told(&refused).2, ["ics"]);
    drop(client);
    node.stop().await;
}
