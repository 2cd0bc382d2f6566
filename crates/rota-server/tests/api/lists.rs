//! Lists over REST: filters, searches and pages, and what is done to the tasks of a list.

use serde_json::{Value, json};

use crate::harness::Node;

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let node = Node::start().await;
    let task = |n: usize| {
        let queue = if n.is_multiple_of(2) { "even" } else { "odd" };
        json!({ "kind": "k", "queue": queue, "labels": { "n": n.to_string(), "url": "a=b:c" } })
    };
    let tasks: Vec<Value> = (0..25).map(task).collect();
    let made = node.post_json("/v1/tasks/batch", &json!({ "tasks": tasks })).await.json();
    assert_eq!(made["results"].as_array().unwrap().len(), 25);
    let last = made["results"][24]["id"].as_str().unwrap();
    node.post(&format!("/v1/tasks/{last}/cancel"), "").await;

    let count = async |query: &str| {
        let page = node.get(&format!("/v1/tasks?{query}")).await;
        assert_eq!(page.status, 200, "{query}: {page:?}");
        page.json()["tasks"].as_array().unwrap().len()
    };
    assert_eq!(count("").await, 25);
    assert_eq!(count("queue=odd").await, 12);
    assert_eq!(count("status=pending").await, 24);
    assert_eq!(count("status=pending,cancelled").await, 25);
    assert_eq!(count("status=cancelled&status=failed").await, 1);
    assert_eq!(count("label=n=7").await, 1);
    assert_eq!(count("label=url=a%3Db:c&label=n=8&queue=even").await, 1);
    assert_eq!(count("label=n=7&label=url=x").await, 0);
    assert_eq!(count("kind=other").await, 0);
    assert_eq!(count("created_to=2000-01-01T00:00:00Z").await, 0);
    assert_eq!(count("created_from=2000-01-01T00:00:00Z&run_at_to=2400-01-01T00:00:00Z").await, 25);

    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = node.get(&format!("/v1/tasks?limit=10{cursor}")).await.json();
        let ids = page["tasks"].as_array().unwrap().iter().map(|task| task["id"].clone());
        seen.extend(ids);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let mut newest_first = made["results"].as_array().unwrap().clone();
    newest_first.reverse();
    let newest_first: Vec<Value> = newest_first.iter().map(|one| one["id"].clone()).collect();
    assert_eq!(seen, newest_first);
    node.stop().await;
}

#[tokio::test]
async fn tasks_are_searched_and_pages_say_how_far_they_looked() {
    let node = Node::start().await;
    let task =
        |n: usize| json!({ "kind": "k", "payload": { "to": format!("user{n}@Example.org") } });
    let tasks: Vec<Value> = (0..20).map(task).collect();
    node.post_json("/v1/tasks/batch", &json!({ "tasks": tasks })).await;
    node.create(&json!({ "kind": "k", "id": "order:7", "priority": 9 })).await;
    let page = node.get("/v1/tasks?search=USER1%40example.org&time_limit=1s").await.json();
    assert_eq!(page["tasks"].as_array().unwrap().len(), 1);
    assert_eq!((&page["examined"], page.get("next_cursor")), (&json!(21), None));
    assert_eq!(page.get("examined_back_to"), None);
    let page = node.get("/v1/tasks?search=%40example&limit=5").await.json();
    assert_eq!(page["tasks"].as_array().unwrap().len(), 5);
    assert_eq!(page["examined"], 6);
    assert_eq!(page["examined_back_to"].as_str().unwrap().len(), "2026-01-31T12:00:00.000Z".len());
    assert_eq!(node.get("/v1/tasks?priority=9").await.json()["tasks"][0]["id"], "order:7");
    let named = node.get("/v1/tasks?search=order:7").await.json();
    assert_eq!((&named["tasks"][0]["id"], &named["examined"]), (&json!("order:7"), &json!(1)));
    let next =
        format!("/v1/tasks?search=order:7&cursor={}", named["next_cursor"].as_str().unwrap());
    let page = node.get(&next).await.json();
    assert_eq!((&page["tasks"], &page["examined"]), (&json!([]), &json!(21)));
    let bulk = json!({ "action": "cancel", "filter": { "search": "user1", "priority": [5] } });
    let outcome = node.post_json("/v1/tasks/bulk", &bulk).await.json();
    // user1 and user10 to user19.
    assert_eq!((&outcome["changed"], &outcome["examined"]), (&json!(11), &json!(21)));
    node.lease("k").await;
    let mine = node.get("/v1/tasks?worker=w").await.json();
    assert_eq!(mine["tasks"].as_array().unwrap().len(), 1, "{mine}");
    node.stop().await;
}

#[tokio::test]
async fn many_are_changed_by_a_filter() {
    let node = Node::start().await;
    let tasks: Vec<Value> = (0..5).map(|_| json!({ "kind": "k", "queue": "bulk-q" })).collect();
    node.post_json("/v1/tasks/batch", &json!({ "tasks": tasks })).await;
    node.create(&json!({ "kind": "k", "queue": "other" })).await;
    let filter = json!({ "queue": "bulk-q" });
    for (action, changed, skipped) in [("cancel", 5, 0), ("cancel", 0, 5), ("retry", 5, 0)] {
        let answer =
            node.post_json("/v1/tasks/bulk", &json!({ "action": action, "filter": filter })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let outcome = answer.json();
        assert_eq!((&outcome["changed"], &outcome["skipped"]), (&json!(changed), &json!(skipped)));
    }
    assert_eq!(node.get("/v1/queues/other").await.json()["pending"], 1);
    node.stop().await;
}

#[tokio::test]
async fn failures_are_grouped_and_their_fingerprint_selects_tasks() {
    let node = Node::start().await;
    for id in ["count", "b"] {
        let retry = json!({ "max_attempts": 1 });
        node.create(&json!({ "id": id, "kind": "mail", "retry": retry })).await;
    }
    let lease = json!({ "worker": "w", "max": 2, "wait": "10s" });
    let leased = node.post_json("/v1/leases", &lease).await.json();
    for (at, task) in leased["tasks"].as_array().unwrap().iter().enumerate() {
        let id = task["id"].as_str().unwrap();
        let error = format!("user {at} not found");
        let report = json!({ "lease_token": task["lease_token"], "error": error });
        let answer = node.post_json(&format!("/v1/tasks/{id}/fail"), &report).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    node.create(&json!({ "kind": "mail" })).await;
    let found = node.get("/v1/failures?kind=mail&state=failed&time_limit=1s").await.json();
    let group = &found["groups"][0];
    assert_eq!(group["message"], "user <n> not found");
    assert_eq!((&group["count"], &group["queues"]), (&json!(2), &json!(["default"])));
    assert_eq!(group["sample"]["reason"], "error");
    assert_eq!((&found["other"], &found["complete"]), (&json!(0), &json!(true)));
    let later = node.get("/v1/failures?failed_from=2400-01-01T00:00:00Z").await.json();
    assert_eq!(later["groups"], json!([]));

    let error = group["error_fingerprint"].as_str().unwrap();
    let listed = node.get(&format!("/v1/tasks?error_fingerprint={error}")).await.json();
    assert_eq!(listed["tasks"].as_array().unwrap().len(), 2);
    let counted = node.get(&format!("/v1/task-counts?error_fingerprint={error}")).await.json();
    assert_eq!((&counted["count"], &counted["at_least"]), (&json!(2), &json!(false)));
    let counted = node.get("/v1/task-counts?status=pending&time_limit=10ms").await.json();
    assert_eq!(counted, json!({ "count": 1, "at_least": false, "examined": 0 }));
    // The path of the counts hides no task.
    assert_eq!(node.get("/v1/tasks/count").await.json()["status"], "failed");

    let filter = json!({ "error_fingerprint": error });
    let mut bulk = json!({ "action": "delete", "filter": filter, "dry_run": true });
    for _ in 0..2 {
        let outcome = node.post_json("/v1/tasks/bulk", &bulk).await.json();
        assert_eq!((&outcome["changed"], &outcome["skipped"]), (&json!(2), &json!(0)));
    }
    bulk["dry_run"] = json!(false);
    let outcome = node.post_json("/v1/tasks/bulk", &bulk).await.json();
    assert_eq!(outcome["changed"], 2);
    assert_eq!(node.get("/v1/failures").await.json()["groups"], json!([]));

    for (path, field) in [
        ("/v1/failures?limit=0", "limit"),
        ("/v1/failures?limit=1001", "limit"),
        ("/v1/failures?time_limit=3s", "time_limit"),
        ("/v1/failures?state=lost", "state"),
        ("/v1/failures?status=failed", "status"),
        ("/v1/failures?failed_to=x", "failed_to"),
        ("/v1/task-counts?time_limit=9ms", "time_limit"),
        ("/v1/task-counts?limit=1", "limit"),
        ("/v1/tasks?error_fingerprint=FF", "error_fingerprint"),
    ] {
        let answer = node.get(path).await;
        assert_eq!((answer.status, answer.fields()), (400, vec![field.to_owned()]), "{path}");
    }
    node.stop().await;
}

/// The names on all pages of a list, each of at most two.
async fn names_by_pages(node: &Node, list: &str) -> Vec<String> {
    let (mut names, mut path) = (Vec::new(), format!("/v1/{list}?limit=2"));
    loop {
        let page = node.get(&path).await.json();
        let rows = page[list].as_array().unwrap();
        assert!((1..=2).contains(&rows.len()), "{page}");
        names.extend(rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { return names };
        assert_eq!(rows.len(), 2, "{page}");
        path = format!("/v1/{list}?limit=2&cursor={next}");
    }
}

#[tokio::test]
async fn queues_and_workers_are_listed_by_pages() {
    let node = Node::start().await;
    for name in ["c", "a/1", "b:2", "d.", "e"] {
        node.create(&json!({ "kind": "k", "queue": name })).await;
    }
    for name in ["w2", "w1", "w1", "w3"] {
        let asked = json!({ "worker": name, "kinds": ["none"] });
        assert_eq!(node.post_json("/v1/leases", &asked).await.status, 200);
    }
    assert_eq!(names_by_pages(&node, "queues").await, ["a/1", "b:2", "c", "d.", "e"]);
    assert_eq!(names_by_pages(&node, "workers").await, ["w1", "w1", "w2", "w3"]);
    let all = node.get("/v1/queues").await.json();
    assert_eq!((all["queues"].as_array().unwrap().len(), all.get("next_cursor")), (5, None));
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=1", "limit"),
        ("cursor=", "cursor"),
        ("cursor=%20", "cursor"),
        ("page_size=1", "page_size"),
    ] {
        for list in ["queues", "workers"] {
            let refused = node.get(&format!("/v1/{list}?{query}")).await;
            assert_eq!(
                (refused.status, refused.fields()),
                (400, vec![field.to_owned()]),
                "{query}"
            );
        }
    }
    let refused = node.get("/v1/workers?cursor=w1").await;
    assert_eq!(refused.fields(), ["cursor"]);
    node.stop().await;
}
