//! The probes of a node whose engine is stalled: its loop really stands still, within a call that does not
//! come back, and everything else of the node goes on.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rota_engine::EngineOptions;
use rota_server::ServerOptions;
use rota_store::{
    Batch, BatchLimits, ChangeStream, CommitError, EmbeddedStore, Fence, Head, Leadership, Member,
    Revision, Seat, Snapshot, Space, Store, StoreError, StoreStatus, watch,
};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Node, PATIENCE, open_store};

/// The embedded store with a trap: the loop asks for limits between two steps, on its own thread.
struct Trap {
    inner: Arc<EmbeddedStore>,
    closed: Mutex<bool>,
    opened: Condvar,
    away: Mutex<bool>,
}

impl Trap {
    fn new() -> (Arc<Self>, Arc<TempDir>) {
        let (inner, dir) = open_store();
        let (closed, away) = (Mutex::new(false), Mutex::new(false));
        (Arc::new(Self { inner, closed, opened: Condvar::new(), away }), dir)
    }

    fn close_trap(&self) {
        *self.closed.lock().unwrap() = true;
    }

    fn open_trap(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn set_away(&self, away: bool) {
        *self.away.lock().unwrap() = away;
    }
}

/// Opens the trap when the test ends, however it ends: nothing could stop the thread in it.
struct Opens(Arc<Trap>);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open_trap();
    }
}

#[async_trait]
impl Store for Trap {
    fn limits(&self) -> BatchLimits {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        // A guard that is released at once: nobody else waits for it.
        drop(self.opened.wait_while(closed, |closed| *closed));
        self.inner.limits()
    }

    async fn status(&self) -> StoreStatus {
        let problem = self.away.lock().unwrap().then(|| "away (test)".to_owned());
        StoreStatus { problem, ..self.inner.status().await }
    }

    async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError> {
        self.inner.commit(fence, batch).await
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.inner.get(keys).await
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.inner.head().await
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        self.inner.snapshot().await
    }

    async fn watch(&self, after: Revision) -> Result<ChangeStream, StoreError> {
        self.inner.watch(after).await
    }

    async fn campaign(&self, me: &Member) -> Result<Box<dyn Leadership>, StoreError> {
        self.inner.campaign(me).await
    }

    fn leader(&self) -> watch::Receiver<Option<Seat>> {
        self.inner.leader()
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.inner.members().await
    }

    async fn close(&self) {
        self.inner.close().await;
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
    let (store, dir) = Trap::new();
    let engine =
        EngineOptions { stalled_after: Duration::from_secs(2), ..EngineOptions::default() };
    let listen = "127.0.0.1:0".parse().unwrap();
    let node = Node::start_on(store.clone(), dir, listen, engine, ServerOptions::default()).await;
    node.create(&json!({ "kind": "k" })).await;
    assert_eq!(probe(&node, "/readyz").await, (200, vec![]));

    let opens = Opens(store.clone());
    store.close_trap();
    let task = json!({ "kind": "k" });
    let check = async {
        until(&node, "/readyz", 503, "engine").await;
        assert_eq!(probe(&node, "/readyz").await, (503, vec!["engine".to_owned()]));
        assert_eq!(probe(&node, "/healthz").await, (200, vec!["ok\n".to_owned()]), "it may go on");
        let metrics = node.get("/metrics").await;
        let text = std::str::from_utf8(&metrics.body).unwrap();
        assert!(text.contains("rota_ready{check=\"engine\"} 0"), "{text}");

        until(&node, "/healthz", 503, "the engine has done nothing for").await;
        // When the store is to blame, a restart does not help.
        store.set_away(true);
        until(&node, "/healthz", 200, "ok").await;
        assert_eq!(probe(&node, "/readyz").await.1, ["store"], "one trouble is told once");
        store.set_away(false);
        until(&node, "/healthz", 503, "the engine has done nothing for").await;
        drop(opens);
    };
    let (id, ()) = tokio::join!(node.create(&task), check);
    until(&node, "/readyz", 200, "").await;
    until(&node, "/healthz", 200, "ok").await;
    assert_eq!(node.get(&format!("/v1/tasks/{id}")).await.status, 200, "nothing was lost by it");
    node.stop().await;
}
