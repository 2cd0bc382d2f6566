//! Copies, checks, exports and imports of whole stores.

pub(crate) mod checks;
mod copies;
mod files;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rota_core::{
    AttemptOutcome, ClientKeys, Failure, FailureReason, Jitter, Millis, Pause, WallTime,
};
use rota_engine::{
    NewTask, RunAt, SPACES, TaskRef,
    transfer::{Contents, Copied, CopyOptions, Progress, Side, TransferError, check, copy},
};
use rota_store::{
    Batch, BatchLimits, BatchSeq, ChangeStream, CommitError, Direction, EmbeddedOptions,
    EmbeddedStore, Epoch, Fence, Head, KeyRange, Leadership, Member, Revision, Seat, Snapshot,
    Space, Store, StoreError, StoreStatus, watch,
};

use crate::support::{Node, completed, name, task};

fn quietly(_: Progress) {}

fn space(name: &str) -> Space {
    *SPACES.iter().find(|space| space.name == name).expect("a space of the engine's")
}

/// The embedded store, with batches so small that a copy has many, and a commit after which its process is gone.
struct Fragile {
    inner: EmbeddedStore,
    mutations_max: AtomicUsize,
    bytes_max: AtomicUsize,
    /// If not 0, the number of changes that it will turn out to take, once it has no commits left.
    turns_out: AtomicUsize,
    /// Commits that are left.
    left: AtomicI64,
    /// Commits that it will refuse, as if it were full and away in turn, and snapshots that it will not give.
    refused: AtomicUsize,
    away: AtomicUsize,
    /// Loses the next record of this kind.
    loses: Mutex<Option<&'static str>>,
    /// Whether the commit after which it is gone lands.
    lands: bool,
    /// Leaderships that were given up, so that the next one need not wait for their end.
    resigned: Arc<AtomicUsize>,
}

/// A leadership that counts that it was given up.
struct Resigning {
    inner: Box<dyn Leadership>,
    resigned: Arc<AtomicUsize>,
}

#[async_trait]
impl Leadership for Resigning {
    fn fence(&self) -> Fence {
        self.inner.fence()
    }

    fn seq_floor(&self) -> BatchSeq {
        self.inner.seq_floor()
    }

    fn is_held(&self) -> bool {
        self.inner.is_held()
    }

    async fn lost(&self) {
        self.inner.lost().await;
    }

    async fn resign(self: Box<Self>, successor: Option<&str>) {
        self.resigned.fetch_add(1, Ordering::SeqCst);
        self.inner.resign(successor).await;
    }
}

impl Fragile {
    fn open(directory: &Path) -> Arc<Self> {
        Self::dying(directory, i64::MAX, true)
    }

    fn dying(directory: &Path, commits: i64, lands: bool) -> Arc<Self> {
        let options = EmbeddedOptions { reserve_bytes: 0, ..EmbeddedOptions::default() };
        let inner = EmbeddedStore::open(directory, SPACES, options).expect("a directory");
        let (left, mutations_max) = (AtomicI64::new(commits), AtomicUsize::new(12));
        let (bytes_max, turns_out) = (AtomicUsize::new(64 << 20), AtomicUsize::new(0));
        let loses = Mutex::new(None);
        let (refused, away) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self {
            loses,
            inner,
            mutations_max,
            bytes_max,
            turns_out,
            left,
            refused,
            away,
            lands,
            resigned: Arc::default(),
        })
    }

    /// Whether one more call fails.
    fn fails(left: &AtomicUsize) -> bool {
        let spend = |left: usize| left.checked_sub(1);
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).is_ok()
    }

    /// Once it has no commits left, it turns out to take no more than that.
    fn lowers_to(&self, mutations: usize) {
        self.turns_out.store(mutations, Ordering::SeqCst);
    }

    fn side(self: &Arc<Self>, name: &str) -> Side {
        Side { store: self.clone(), name: name.to_owned() }
    }

    async fn records(&self) -> Vec<(&'static str, Bytes, Bytes)> {
        let snapshot = self.inner.snapshot().await.expect("a snapshot");
        let mut records = Vec::new();
        for space in SPACES {
            let all = KeyRange::all(*space);
            let page = snapshot.scan(all, Direction::Ascending, 10_000).await.expect("a page");
            assert!(!page.more);
            records.extend(page.entries.into_iter().map(|(key, value)| (space.name, key, value)));
        }
        records
    }

    /// Changes records behind everybody's back.
    async fn tamper(&self, change: impl FnOnce(&mut Batch)) {
        let leadership = self.inner.campaign(&Member::alone("tamper")).await.expect("free");
        let mut batch = Batch::new(self.inner.head().await.expect("a head").seq.next());
        change(&mut batch);
        self.inner.commit(leadership.fence(), batch).await.expect("it is ours");
        leadership.resign(None).await;
    }
}

#[async_trait]
impl Store for Fragile {
    async fn commit(&self, fence: Fence, mut batch: Batch) -> Result<Revision, CommitError> {
        assert!(batch.mutations.len() <= self.limits().mutations_max, "a batch is too large");
        if Self::fails(&self.refused) {
            let is_full = self.refused.load(Ordering::SeqCst).is_multiple_of(2);
            let why = "for a moment (test)".to_owned();
            return Err(if is_full {
                CommitError::Full(why)
            } else {
                CommitError::Unavailable(why)
            });
        }
        let mut loses = self.loses.lock().expect("nobody panics with it").take();
        if loses.is_some() {
            Arc::make_mut(&mut batch.mutations)
                .retain(|change| loses.take_if(|lost| *lost == change.space().name).is_none());
            *self.loses.lock().expect("nobody panics with it") = loses;
        }
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left == 0 && self.turns_out.load(Ordering::SeqCst) > 0 {
            self.mutations_max.store(self.turns_out.load(Ordering::SeqCst), Ordering::SeqCst);
            self.left.store(i64::MAX, Ordering::SeqCst);
            return Err(CommitError::Fenced { ours: fence.epoch });
        }
        match left {
            1.. => self.inner.commit(fence, batch).await,
            0 if self.lands => {
                self.inner.commit(fence, batch).await?;
                Err(CommitError::Fenced { ours: fence.epoch })
            }
            _ => Err(CommitError::Fenced { ours: fence.epoch }),
        }
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.inner.get(keys).await
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.inner.head().await
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        if Self::fails(&self.away) {
            return Err(StoreError::Unavailable("away (test)".to_owned()));
        }
        self.inner.snapshot().await
    }

    async fn watch(&self, after: Revision) -> Result<ChangeStream, StoreError> {
        self.inner.watch(after).await
    }

    async fn campaign(&self, me: &Member) -> Result<Box<dyn Leadership>, StoreError> {
        let (inner, resigned) = (self.inner.campaign(me).await?, self.resigned.clone());
        Ok(Box::new(Resigning { inner, resigned }))
    }

    fn leader(&self) -> watch::Receiver<Option<Seat>> {
        self.inner.leader()
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.inner.members().await
    }

    fn announce_ready(&self, name: &str, leadership: Epoch) {
        self.inner.announce_ready(name, leadership);
    }

    async fn status(&self) -> StoreStatus {
        self.inner.status().await
    }

    fn limits(&self) -> BatchLimits {
        let mutations_max = self.mutations_max.load(Ordering::SeqCst);
        let bytes_max = self.bytes_max.load(Ordering::SeqCst);
        BatchLimits { mutations_max, bytes_max, ..self.inner.limits() }
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// What the tasks of a filled store are called by.
struct Filled {
    leased: TaskRef,
    token: u64,
    waiting: usize,
}

fn named(id: &str, key: &str) -> NewTask {
    let id = (!id.is_empty()).then(|| name(id));
    let key = (!key.is_empty()).then(|| key.into());
    NewTask { client_keys: ClientKeys { id, key }, ..task("k") }
}

fn failed(reason: FailureReason) -> AttemptOutcome {
    AttemptOutcome::Failed { failure: Failure::new(reason, "broken"), retry_at: None }
}

/// A store with tasks in every state, and a queue with settings.
async fn fill(directory: &Path) -> Filled {
    let node = Node::start(directory);
    node.submit(named("finished", "")).await;
    let leased = node.lease(1).await;
    assert!(node.report(&leased[0], completed("{\"a\": 1}")).await);
    node.submit(named("", "broken/once")).await;
    let leased = node.lease(1).await;
    assert!(node.report(&leased[0], failed(FailureReason::Permanent)).await);
    let mut again = task("k");
    again.definition.policy.retry.max_attempts = 3;
    again.definition.policy.retry.initial = Millis::from_secs(3600);
    again.definition.policy.retry.jitter = Jitter::None;
    let again = node.submit(again).await;
    let leased = node.lease(1).await;
    assert!(node.report(&leased[0], failed(FailureReason::Error)).await);
    let cancelled = node.submit(task("k")).await;
    node.engine.cancel(&cancelled).await.expect("it waits");
    let revived = node.submit(task("k")).await;
    node.engine.cancel(&revived).await.expect("it waits");
    node.engine.retry(&revived).await.expect("it ended");
    node.engine.cancel(&revived).await.expect("it waits again");
    let deleted = node.submit(named("gone", "")).await;
    node.engine.cancel(&deleted).await.expect("it waits");
    node.engine.delete(&deleted).await.expect("it ended");
    node.submit(task("leased")).await;
    let leased = node.lease(1).await;
    let pause = Pause {
        at: WallTime(1_800_000_000_000),
        by: "ann".into(),
        note: "migration".into(),
        on_failure: false,
    };
    node.engine.pause_queue(&name("paused"), Some(pause)).await.expect("an answer");
    let waiting = 10;
    for number in 0..waiting {
        let mut later = named(&format!("later-{number}"), &format!("key {number}"));
        later.run_at = RunAt::After(Millis::from_secs(86_400));
        later.definition.payload = Bytes::from(format!("{{\"number\": {number}}}"));
        node.submit(later).await;
    }
    // Waits for its next attempt.
    node.engine.task(&again).await.expect("an answer").expect("it is there");
    node.stop().await;
    // A node that runs for longer writes it.
    let store = Fragile::open(directory);
    store.tamper(|batch| batch.put(space("cluster"), "level", "1")).await;
    store.close().await;
    Filled { leased: TaskRef::Id(leased[0].spec.id), token: leased[0].token.0, waiting }
}

async fn try_copy(
    from: &Arc<Fragile>,
    to: &Arc<Fragile>,
    options: CopyOptions,
) -> Result<Copied, TransferError> {
    let (from, to) = (from.side("from"), to.side("to"));
    let copied = copy(&from, &to, options, &quietly);
    tokio::time::timeout(Duration::from_secs(60), copied).await.expect("it ends")
}

/// The contents of a store without faults.
async fn clean(store: &Arc<Fragile>) -> Contents {
    let mut faults = Vec::new();
    let found = check(&store.side("store"), &mut |fault| faults.push(fault), &quietly).await;
    assert_eq!(faults, []);
    found.expect("it can be read").contents
}
