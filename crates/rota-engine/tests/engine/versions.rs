//! Records of other versions: what a newer node wrote is kept by an older one that rewrites it, and a
//! record that this version cannot read is left alone without harm to the others.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::{
    AttemptOutcome, ClientKeys, Failure, FailureReason, Millis, Pause, Refusal, Retention, Status,
};
use rota_engine::{
    BulkAction, EngineError, EngineOptions, NewTask, Role, SPACES, TaskFilter, TaskRef,
};
use rota_store::{
    Batch, Direction, EmbeddedOptions, EmbeddedStore, KeyRange, Leadership, Member, Space, Store,
};

use crate::support::{MoodyStore, Node, completed, name, task};

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

fn failed() -> AttemptOutcome {
    let failure = Failure::new(FailureReason::Permanent, "broken");
    AttemptOutcome::Failed { failure, retry_at: None }
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
    node.engine.pause_queue(&name("q"), Some(Pause::default())).await.expect("an answer");
    node.stop().await;
    let store = Records::open(&data).await;
    store.append("queue", &foreign("of the queue")).await;
    store.close().await;

    let node = Node::start(&data);
    node.engine.pause_queue(&name("q"), None).await.expect("an answer");
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

/// A status that no version has.
const STATUS: [u8; 2] = [4 << 3, 99];

fn is_unreadable<T>(answer: &Result<T, EngineError>) -> bool {
    matches!(answer, Err(EngineError::Refused(Refusal::Unreadable { .. })))
}

/// A store with one task whose record this version cannot read.
async fn with_unreadable_task(data: &Path, fields: &[u8]) -> (TaskRef, Bytes) {
    let node = Node::start(data);
    let named =
        NewTask { client_keys: ClientKeys { id: Some(name("mine")), key: None }, ..task("k") };
    let id = node.submit(named).await;
    node.stop().await;
    let store = Records::open(data).await;
    store.append("live", fields).await;
    let (_, record) = store.only("live").await;
    store.close().await;
    (id, record)
}

fn problem(node: &Node) -> Option<String> {
    let checks = node.engine.health().checks;
    checks.into_iter().find(|check| check.name == "records").expect("there is such a check").problem
}

/// Whatever this leader is asked about the task, it leaves it alone, and it serves the others.
async fn leaves_it_alone(node: &Node, id: &TaskRef) {
    node.engine.queues().await.expect("it leads");
    assert!(node.engine.health().is_ready(), "{:?}", node.engine.health());
    let problem = problem(node).expect("it says so");
    assert!(problem.starts_with("cannot read 1 record "), "{problem}");
    assert!(is_unreadable(&node.engine.task(id).await));
    assert!(is_unreadable(&node.engine.task(&"mine".parse().expect("a name")).await));
    assert!(is_unreadable(&node.engine.wait(id, Duration::from_millis(1)).await));
    assert!(is_unreadable(&node.engine.attempts(id).await));
    assert!(is_unreadable(&node.engine.cancel(id).await));
    assert!(is_unreadable(&node.engine.retry(id).await));
    assert!(is_unreadable(&node.engine.delete(id).await));
    let named =
        NewTask { client_keys: ClientKeys { id: Some(name("mine")), key: None }, ..task("k") };
    let again = node.engine.submit(vec![named]).await.expect("an answer");
    assert!(!again[0].as_ref().expect("a repeat").created, "its name is not free");
    let queue = node.engine.queue(&name("q")).await.expect("an answer").expect("known");
    assert_eq!((queue.unreadable, queue.pending), (1, 0));
    node.submit(task("k")).await;
    let leased = node.lease(5).await;
    assert_eq!(leased.len(), 1, "another task runs");
    assert!(node.report(&leased[0], completed("1")).await);
    let page = node.engine.list(&TaskFilter::default(), 10, None).await.expect("a page");
    assert_eq!(page.tasks.len(), 1, "lists go on without it");
}

#[tokio::test]
async fn a_status_of_a_newer_version_sets_that_task_aside_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let (id, record) = with_unreadable_task(&data, &STATUS).await;
    let node = Node::start(&data);
    leaves_it_alone(&node, &id).await;
    node.stop().await;

    let store = Records::open(&data).await;
    let (key, kept) = store.only("live").await;
    assert_eq!(kept, record, "it is as it was");
    // The version that wrote it leads again, and goes on.
    store.put("live", key, kept.slice(..kept.len() - STATUS.len())).await;
    store.close().await;
    let node = Node::start(&data);
    let view = node.engine.task(&id).await.expect("an answer").expect("known");
    assert_eq!((view.status, problem(&node)), (Status::Pending, None));
    node.stop().await;
}

#[tokio::test]
async fn a_damaged_record_sets_its_task_aside_at_a_takeover_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let (id, _) = with_unreadable_task(&data, &STATUS).await;
    let store = MoodyStore::open(&data);
    let first = knows("first", 2, &store);
    first.engine.queues().await.expect("it leads");
    let second = knows("second", 2, &store);
    until(|| second.engine.health().is_ready()).await;
    assert_eq!(problem(&second), None, "the leader says it");
    first.leave().await;
    until(|| second.engine.role() == Role::Leader).await;
    second.engine.queues().await.expect("it leads");
    leaves_it_alone(&second, &id).await;
    second.stop().await;
}

#[tokio::test]
async fn damaged_settings_pause_their_queue_until_it_is_resumed() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    node.submit(task("k")).await;
    node.stop().await;
    let store = Records::open(&data).await;
    store.put("queue", Bytes::from_static(b"q"), vec![0xFF; 3]).await;
    store.put("total", Bytes::from_static(b"q k"), vec![0xFF; 3]).await;
    store.put("retain", Bytes::from_static(b"0000000000000001/1"), vec![0xFF; 3]).await;
    store.close().await;
    let node = Node::start(&data);
    let queue = node.engine.queue(&name("q")).await.expect("an answer").expect("known");
    assert_eq!((queue.paused, queue.pending), (true, 1));
    assert!(problem(&node).expect("it says so").starts_with("cannot read 2 records "));
    node.engine.pause_queue(&name("q"), None).await.expect("an answer");
    assert_eq!(node.lease(1).await.len(), 1);
    node.stop().await;
    let node = Node::start(&data);
    node.engine.queues().await.expect("it leads");
    assert_eq!(problem(&node), None, "both were written anew");
    node.stop().await;
}

#[tokio::test]
async fn one_unreadable_record_of_an_ended_task_does_not_hold_up_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    let id = node.submit(task("k")).await;
    let leased = node.lease(1).await;
    assert!(node.report_silently(&leased[0], failed()).await);
    node.stop().await;
    let store = Records::open(&data).await;
    // A reason of a failure that no version has.
    store.append("dead", &field(12, &[0x08, 99])).await;
    store.close().await;
    // From here on what ends may be removed at once.
    let retention = Retention { completed: Millis(0), other: Millis(0) };
    let options = EngineOptions { retention, ..EngineOptions::default() };
    let node = Node::start_with(&data, options);
    let other = node.submit(task("k")).await;
    let leased = node.lease(1).await;
    assert!(node.report_silently(&leased[0], failed()).await);
    assert!(is_unreadable(&node.engine.task(&id).await));
    assert!(is_unreadable(&node.engine.retry(&id).await));
    let all = TaskFilter::default();
    let page = node.engine.list(&all, 10, None).await.expect("a page");
    assert_eq!(page.tasks.len(), 1);
    let done = node.engine.bulk(BulkAction::Retry, &all, 10, None).await.expect("an answer");
    assert_eq!(done.changed, 1);
    assert_eq!(node.lease(1).await.len(), 1, "{other:?} is tried again");
    node.stop().await;
}

/// A node that knows this feature level.
fn knows(node: &str, feature_level: u32, store: &Arc<MoodyStore>) -> Node {
    let options = EngineOptions {
        node: node.to_owned(),
        address: Some(format!("http://{node}:7420")),
        feature_level,
        ..EngineOptions::default()
    };
    Node::start_on(store.clone(), options)
}

/// Nothing signals this.
async fn until(holds: impl Fn() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(10));
    let wait = async {
        while !holds() {
            look.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it comes to hold");
}

fn level(node: &Node) -> u32 {
    node.engine.info().cluster_feature_level
}

#[tokio::test]
async fn the_level_rises_when_the_last_node_knows_it_and_is_the_same_for_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let old = knows("old", 1, &store);
    until(|| level(&old) == 1).await;
    let new = knows("new", 3, &store);
    until(|| new.engine.health().is_ready() && level(&new) == 1).await;
    old.engine.transfer(None).await.expect("there is another");
    until(|| new.engine.role() == Role::Leader).await;
    new.engine.queues().await.expect("it leads");
    until(|| old.engine.health().is_ready()).await;
    assert_eq!(level(&new), 1, "the old one is still there");
    old.leave().await;
    let newer = knows("newer", 4, &store);
    until(|| level(&new) == 3 && level(&newer) == 3).await;
    newer.leave().await;
    new.stop().await;
}

#[tokio::test]
async fn a_node_that_knows_less_than_the_cluster_uses_forwards_and_does_not_lead() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let new = knows("new", 3, &store);
    until(|| level(&new) == 3).await;
    let old = knows("old", 2, &store);
    until(|| old.engine.health().is_ready()).await;
    let refused = old.engine.submit(vec![task("k")]).await;
    assert!(matches!(refused, Err(EngineError::NotLeader)), "{refused:?}");
    let problems = |node: &Node| {
        let checks = node.engine.health().checks.into_iter();
        let said = checks.filter_map(|check| Some(format!("{}: {}", check.name, check.problem?)));
        said.collect::<Vec<_>>().join("; ")
    };
    let reason = "this node supports feature level 2, but the cluster uses 3; the node does not lead and only \
                  forwards; upgrade it";
    assert_eq!(problems(&old), format!("version: {reason}"));
    new.leave().await;
    until(|| problems(&old).contains("there is no leader")).await;
    assert!(!old.engine.health().is_ready() && old.engine.role() == Role::Unknown);
    let again = knows("again", 3, &store);
    until(|| old.engine.health().is_ready() && again.engine.role() == Role::Leader).await;
    old.leave().await;
    again.stop().await;
}
