//! The pages of nodes that do not lead: they show what those of the leader do, also when it has become another.

use http::Request;
use http_body_util::Full;
use rota_engine::Role;
use rota_server::Limits;
use serde_json::json;
use tokio::time::{Duration, interval, timeout};

use crate::{
    cluster::{nodes, until},
    harness::Node,
};

/// Pages, each with something that only a node shows that knows what the leader does.
const PAGES: [(&str, &str); 15] = [
    ("", "mail/out</bdi> is paused"),
    ("tasks", "task?id=busy"),
    ("tasks?queue=mail%2Fout", "task?id=a%2Fb"),
    ("task?id=a%2Fb", "title=\"customer=7\""),
    ("edit?id=a%2Fb", "to be sent"),
    ("task?id=bad", "no route to the host"),
    ("failures", "no route to the host"),
    ("queues", "queue?name=mail%2Fout"),
    ("queue?name=mail%2Fout", "by <bdi>ann</bdi>"),
    ("workers", "task?id=busy"),
    ("schedules", "schedule?name=nightly"),
    ("schedule?name=nightly", "every night"),
    ("schedule-edit?name=nightly", "every night"),
    ("calendar?name=holidays", "12-25"),
    ("cluster", "second"),
];

/// What two nodes show can differ for so long: a node keeps costly answers for its pages, up to a minute on a slow machine.
const SETTLED: Duration = Duration::from_secs(70);

/// The content of a page, without what each node tells of itself.
async fn shown(node: &Node, path: &str) -> String {
    let answer = node.get(&format!("/ui/{path}")).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    let page = String::from_utf8(answer.body.to_vec()).unwrap();
    let (_, main) = page.split_once("<main").unwrap();
    let (_, main) = main.split_once('>').unwrap();
    let (main, _) = main.split_once("</main>").unwrap();
    let sections = main.split("<section aria-labelledby=");
    let of_all =
        sections.filter(|one| !one.starts_with("\"info-title") && !one.starts_with("\"pulse"));
    of_all.collect()
}

async fn assert_same(node: &Node, leader: &Node) {
    for (path, known) in PAGES {
        let mut look = interval(Duration::from_millis(50));
        let same = async {
            while shown(node, path).await != shown(leader, path).await {
                look.tick().await;
            }
        };
        let is_same = timeout(SETTLED, same).await.is_ok();
        let (here, there) = (shown(node, path).await, shown(leader, path).await);
        assert!(there.contains(known), "the leader shows no {known} on {path}: {there}");
        assert!(is_same, "/ui/{path} is another:\n{here}\nthe leader has:\n{there}");
    }
}

async fn put(node: &Node, path: &str, body: &serde_json::Value) {
    let request = Request::put(path).header("content-type", "application/json");
    let answer = node.send(request.body(Full::from(body.to_string())).unwrap()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// Some of everything that pages show.
async fn create_all(node: &Node) {
    for (id, queue) in [("bad", "q"), ("busy", "q"), ("a/b", "mail/out")] {
        let task = json!({
            "id": id, "kind": id, "queue": queue, "description": "to be sent",
            "labels": { "customer": "7" }, "retry": { "max_attempts": 1 },
        });
        node.create(&task).await;
    }
    let (_, token) = node.lease("bad").await;
    let failure = json!({ "lease_token": token, "error": "no route to the host" });
    let answer = node.post_json("/v1/tasks/bad/fail", &failure).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    node.lease("busy").await;
    node.post_json("/v1/queues/mail%2Fout/pause", &json!({ "by": "ann" })).await;
    put(node, "/v1/calendars/holidays", &json!({ "entries": [{ "days": "12-25" }] })).await;
    let nightly = json!({
        "description": "every night", "expressions": ["30 2 * * *"], "template": { "kind": "k" },
    });
    put(node, "/v1/schedules/nightly", &nightly).await;
}

#[tokio::test]
async fn pages_of_a_follower_are_those_of_the_leader() {
    let [first, second, third] = nodes(["first", "second", "third"], Limits::default()).await;
    first.has_feature_level(2).await;
    // Followers keep answers from before.
    for follower in [&second, &third] {
        for path in ["", "tasks", "tasks?queue=mail%2Fout", "failures", "schedules"] {
            shown(follower, path).await;
        }
    }
    create_all(&second).await;
    for follower in [&second, &third] {
        assert_same(follower, &first).await;
    }
    first.leave().await;
    let [follower, leader] = tokio::select! {
        biased;
        () = until(&second, |role| *role == Role::Leader) => [third, second],
        () = until(&third, |role| *role == Role::Leader) => [second, third],
    };
    until(&follower, |role| matches!(role, Role::Follower(_))).await;
    assert_same(&follower, &leader).await;
    follower.leave().await;
    leader.stop().await;
}
