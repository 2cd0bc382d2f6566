//! The probes of a node whose engine is stalled: its loop really stands still, within a call that does not
//! come back, and everything else of the node goes on.

use std::{sync::Arc, time::Duration};

use rota_engine::EngineOptions;
use rota_server::ServerOptions;
use rota_store::conformance::SlowStore;
use serde_json::json;

use crate::harness::{Node, PATIENCE, open_store};

/// Lets the loop go when the test ends, however it ends: nothing could stop its thread.
struct LetsGo(Arc<SlowStore>);

impl Drop for LetsGo {
    fn drop(&mut self) {
        self.0.hold_limits(false);
    }
}

/// The status of a probe, and what it says: the checks of `/readyz` that fail, the line of `/healthz`.
async fn probe(node: &Node, path: &str) -> (u16, Vec<String>) {
    let answer = node.get(path).await;
    if path == "/healthz" {
        return (answer.status, vec![String::from_utf8(answer.body.to_vec()).unwrap()]);
    }
    let (status, body) = (answer.status, answer.json());
    let failing = body["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false);
    (status, failing.map(|check| check["name"].as_str().unwrap().to_owned()).collect())
}

/// Probes until it says what is wanted.
async fn until(node: &Node, path: &str, status: u16, says: &str) {
    let mut period = tokio::time::interval(Duration::from_millis(50));
    let wait = async {
        loop {
            period.tick().await;
            let (found, said) = probe(node, path).await;
            if found == status && said.concat().contains(says) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{path} never says {status}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_engine_stands_still_is_not_ready_and_at_length_not_alive() {
    let (store, dir) = open_store();
    let store = Arc::new(SlowStore::new(store, Vec::new()));
    let engine =
        EngineOptions { stalled_after: Duration::from_secs(2), ..EngineOptions::default() };
    let listen = "127.0.0.1:0".parse().unwrap();
    let node = Node::start_on(store.clone(), dir, listen, engine, ServerOptions::default()).await;
    node.create(&json!({ "kind": "k" })).await;
    assert_eq!(probe(&node, "/readyz").await, (200, vec![]));

    let lets_go = LetsGo(store.clone());
    store.hold_limits(true);
    let task = json!({ "kind": "k" });
    let check = async {
        until(&node, "/readyz", 503, "engine").await;
        assert_eq!(probe(&node, "/readyz").await, (503, vec!["engine".to_owned()]));
        assert_eq!(probe(&node, "/healthz").await, (200, vec!["ok\n".to_owned()]), "it may go on");
        let metrics = node.get("/metrics").await;
        let text = std::str::from_utf8(&metrics.body).unwrap();
        assert!(text.contains("rota_ready{check=\"engine\"} 0"), "{text}");

        until(&node, "/healthz", 503, "the engine has made no progress for").await;
        // When the store is to blame, a restart does not help.
        store.set_problem(Some("away (test)"));
        until(&node, "/healthz", 200, "ok").await;
        assert_eq!(probe(&node, "/readyz").await.1, ["store"], "one trouble is told once");
        store.set_problem(None);
        until(&node, "/healthz", 503, "the engine has made no progress for").await;
        drop(lets_go);
    };
    let (id, ()) = tokio::join!(node.create(&task), check);
    until(&node, "/readyz", 200, "").await;
    until(&node, "/healthz", 200, "ok").await;
    assert_eq!(node.get(&format!("/v1/tasks/{id}")).await.status, 200, "nothing was lost by it");
    node.stop().await;
}
