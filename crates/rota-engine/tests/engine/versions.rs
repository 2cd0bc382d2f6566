//! Records of other versions: what a newer node wrote is kept by an older one that rewrites it, and a
//! record that this version cannot read is left alone without harm to the others.

use std::path::Path;

use bytes::Bytes;
use rota_core::{Failure, FailureReason, Outcome};
use rota_engine::SPACES;
use rota_store::{
    Batch, Direction, EmbeddedOptions, EmbeddedStore, KeyRange, Leadership, Member, Space, Store,
};

use crate::support::{Node, completed, name, task};

/// A field of text that no version has: number 1000.
fn foreign(text: &str) -> Vec<u8> {
    field(1000, text.as_bytes())
}

/// A field of bytes.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    prost::encoding::bytes::encode(number, &content.to_vec(), &mut field);
    field
}

fn space(name: &str) -> Space {
    *SPACES.iter().find(|space| space.name == name).expect("a space of the engine's")
}

/// The store of a node that is not running, as another version could read and write it.
struct Records {
    store: EmbeddedStore,
    leadership: Box<dyn Leadership>,
}

impl Records {
    async fn open(data: &Path) -> Self {
        let options = EmbeddedOptions { reserve_bytes: 0, ..EmbeddedOptions::default() };
        let store = EmbeddedStore::open(data, SPACES, options).expect("it is free");
        let leadership = store.campaign(&Member::alone("another version")).await.expect("free");
        Self { store, leadership }
    }

    async fn only(&self, name: &str) -> (Bytes, Bytes) {
        let snapshot = self.store.snapshot().await.expect("a snapshot");
        let all = KeyRange::all(space(name));
        let page = snapshot.scan(all, Direction::Ascending, 2).await.expect("a page");
        assert_eq!(page.entries.len(), 1, "records of {name}");
        page.entries.into_iter().next().expect("one")
    }

    async fn put(&self, name: &str, key: Bytes, value: impl Into<Bytes>) {
        let mut batch = Batch::new(self.store.head().await.expect("a head").seq.next());
        batch.put(space(name), key, value);
        self.store.commit(self.leadership.fence(), batch).await.expect("it is ours");
    }

    /// Adds fields to the only record of a space.
    async fn append(&self, name: &str, fields: &[u8]) {
        let (key, value) = self.only(name).await;
        self.put(name, key, [&value, fields].concat()).await;
    }

    async fn close(self) {
        self.leadership.resign(None).await;
        self.store.close().await;
    }
}

fn holds(record: &[u8], text: &str) -> bool {
    record.windows(text.len()).any(|part| part == text.as_bytes())
}

/// What the only record of a space holds of these texts.
async fn kept<'a>(data: &Path, name: &str, texts: &[&'a str]) -> Vec<&'a str> {
    let store = Records::open(data).await;
    let (_, record) = store.only(name).await;
    store.close().await;
    texts.iter().copied().filter(|text| holds(&record, text)).collect()
}

fn failed() -> Outcome {
    let failure = Failure::new(FailureReason::Permanent, "broken");
    Outcome::Failed { failure, retry_at: None }
}

#[tokio::test]
async fn fields_of_a_newer_version_stay_with_a_task_through_its_whole_life() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    let id = node.submit(task("k")).await;
    node.stop().await;
    let store = Records::open(&data).await;
    store
        .append("live", &[foreign("of the task"), field(14, &foreign("of the policy"))].concat())
        .await;
    store.append("spec", &field(8, &foreign("of the policy"))).await;
    store.close().await;
    let all = ["of the task", "of the policy"];

    let node = Node::start(&data);
    let first = node.lease(1).await;
    node.stop().await;
    assert_eq!(kept(&data, "live", &all).await, all, "leased");

    let node = Node::start(&data);
    assert!(node.report(&first[0], failed()).await);
    node.stop().await;
    assert_eq!(kept(&data, "dead", &all[..1]).await, ["of the task"], "failed");

    let node = Node::start(&data);
    node.engine.retry(&id).await.expect("a dead letter can be retried");
    node.stop().await;
    assert_eq!(kept(&data, "live", &all).await, all, "retried");

    let node = Node::start(&data);
    let second = node.lease(1).await;
    assert!(node.report(&second[0], completed("")).await);
    node.stop().await;
    assert_eq!(kept(&data, "done", &all[..1]).await, ["of the task"], "completed");
}

#[tokio::test]
async fn fields_of_a_lease_are_kept_as_long_as_the_lease() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    let id = node.submit(task("k")).await;
    let leased = node.lease(1).await;
    node.stop().await;
    let store = Records::open(&data).await;
    store.append("live", &field(12, &foreign("of the lease"))).await;
    store.close().await;

    let node = Node::start(&data);
    node.engine.cancel(&id).await.expect("it can be cancelled");
    node.stop().await;
    assert_eq!(kept(&data, "live", &["of the lease"]).await, ["of the lease"], "rewritten");

    let node = Node::start(&data);
    assert!(node.report(&leased[0], failed()).await);
    node.stop().await;
    assert_eq!(kept(&data, "dead", &["of the lease"]).await, [""; 0], "the lease is over");
}

#[tokio::test]
async fn fields_of_an_attempt_are_kept_when_its_task_is_retried() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    let id = node.submit(task("k")).await;
    let leased = node.lease(1).await;
    assert!(node.report_silently(&leased[0], failed()).await);
    node.stop().await;
    let store = Records::open(&data).await;
    let attempt = [foreign("of the attempt"), field(7, &foreign("of the failure"))].concat();
    let end = field(16, &foreign("of the end"));
    store.append("dead", &[field(11, &attempt), end].concat()).await;
    store.close().await;

    let node = Node::start(&data);
    node.engine.retry(&id).await.expect("a dead letter can be retried");
    node.stop().await;
    let all = ["of the attempt", "of the failure"];
    assert_eq!(kept(&data, "attempt", &all).await, all);
    assert_eq!(kept(&data, "live", &["of the end"]).await, ["of the end"]);
}

#[tokio::test]
async fn fields_of_a_queue_are_kept_when_it_is_resumed() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    node.engine.set_paused(&name("q"), true).await.expect("an answer");
    node.stop().await;
    let store = Records::open(&data).await;
    store.append("queue", &foreign("of the queue")).await;
    store.close().await;

    let node = Node::start(&data);
    node.engine.set_paused(&name("q"), false).await.expect("an answer");
    node.stop().await;
    assert_eq!(kept(&data, "queue", &["of the queue"]).await, ["of the queue"]);
}

#[tokio::test]
async fn totals_that_only_a_newer_version_counts_are_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    node.submit(task("k")).await;
    node.stop().await;
    let store = Records::open(&data).await;
    // Counts are a packed field 1; what is appended goes behind those that this version knows.
    store.append("total", &[field(1, &[77; 3]), foreign("of the total")].concat()).await;
    store.close().await;

    let node = Node::start(&data);
    node.submit(task("k")).await;
    node.stop().await;
    let seen = kept(&data, "total", &["MMM", "of the total"]).await;
    assert_eq!(seen, ["MMM", "of the total"], "77 is M");
}
