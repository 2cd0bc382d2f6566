//! The store over etcd, version 3: for many nodes, of which one leads.
//!
//! # Layout
//!
//! The table of keys is in `layout.rs`; `etcdctl get --prefix rota/` shows them. A batch is one
//! transaction, so all that it changes has one revision, and that is the [`Revision`] of the commit.
//!
//! # Fencing
//!
//! The leader's key exists while somebody leads. It hangs on a lease, and the revision that created
//! it is the [`Epoch`]: etcd's revisions only grow, so epochs do, for the life of the data. Each
//! batch compares that revision in its own transaction. Once the key is deleted (by its holder, or
//! by etcd when the lease expired) no batch of that epoch can land, however long it was on its way,
//! because a key that is created again has another creation revision.
//!
//! So that a leader also *stops* in time, it counts its lease from when a renewal was sent, by clocks
//! of which one counts the time in which the machine was suspended (`lease.rs`, `remote/moment.rs`). The lease, the observation of the leader's key and the upkeep have
//! a thread and a connection of their own, so that no load of the node delays them.
//!
//! # Batches that got no answer
//!
//! `writer.rs` tells how it is made certain whether they landed.
//!
//! # What errors mean
//!
//! | error | what happened | what to do |
//! |---|---|---|
//! | [`CommitError::Fenced`] | the leader's key is not the one of this leadership, or etcd takes less in a transaction than the options say | step down; the next leadership has limits that etcd takes |
//! | [`CommitError::OutOfOrder`] | the head is not the batch before this one | a bug, or two writers in one process |
//! | [`CommitError::Ambiguous`] | no answer in time, or the connection broke | ask for the head, which makes certain |
//! | [`CommitError::Unavailable`] | not sent, or refused before etcd did anything | try again |
//! | [`CommitError::Full`] | etcd's quota is used up; the batch that passed it may have landed | compact, defragment, disarm the alarm; then it goes on by itself |
//! | [`CommitError::Invalid`] | more operations or bytes than the limits | cut batches by [`Store::limits`] |
//! | [`StoreError::NameTaken`] | another node has this name and renews its lease | give each node its own name |
//! | [`StoreError::Compacted`] | the revision is older than the history that is kept | take a new snapshot |
//! | [`StoreError::Timeout`], [`StoreError::Unavailable`] | etcd was not reached | try again |
//!
//! # What etcd must be
//!
//! Version 3.4 or later. `--max-txn-ops` and `--quota-backend-bytes` must be at least what the
//! options say. With authentication, the user needs to read and write the prefix. etcd's own
//! automatic compaction is not needed: the leader compacts.
//!
//! A backup that is restored takes revisions back, and so epochs and lease tokens: restore it while
//! no node runs.

mod answer;
mod capacity;
mod changes;
mod descend;
mod election;
mod fault;
mod layout;
mod lease;
mod link;
mod members;
mod observer;
mod options;
mod portion;
mod read;
mod registration;
mod seat;
mod snapshot;
mod status;
mod subscription;
mod upkeep;
mod usage;
mod wire;
mod writer;

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{runtime::Handle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::options::{EtcdOptions, EtcdTls, EtcdUser};
use self::{
    capacity::Capacity,
    layout::{FORMAT, Layout},
    link::Link,
    members::Members,
    observer::Seen,
    portion::Portions,
    snapshot::EtcdSnapshot,
    status::Inquiries,
    writer::{Requests, Writer},
};
use crate::{
    model::{Batch, BatchLimits, Epoch, Fence, Head, Member, Revision, Seat, Space},
    remote::thread,
    store::{ChangeStream, CommitError, Leadership, Snapshot, Store, StoreError, StoreStatus},
    watch,
};

/// How long closing waits for what is on its way.
const CLOSING: Duration = Duration::from_secs(2);

/// The etcd backend.
///
/// [`close`](Store::close) it to give up a leadership at once; dropping it does so too, in the
/// background.
pub struct EtcdStore {
    shared: Arc<Shared>,
    requests: Requests,
}

/// What all parts have in common.
struct Shared {
    options: Arc<EtcdOptions>,
    layout: Layout,
    /// What one transaction may hold.
    capacity: Capacity,
    members: Arc<Members>,
    /// For reads that callers ask for.
    reads: Link,
    /// How much of single keys and of ranges one request asks for.
    portions: Portions,
    scans: Portions,
    /// For the lease, the election and the upkeep: used on the control thread alone.
    control: Link,
    /// For questions after etcd's health, which must not wait for anything.
    inquiries: Inquiries,
    /// Where the control thread's tasks run.
    control_runtime: Handle,
    tasks: TaskTracker,
    /// Cancelled when the store closes.
    stop: CancellationToken,
    seen: watch::Sender<Seen>,
    leader: watch::Sender<Option<Seat>>,
    /// The newest epoch that is known.
    epoch: AtomicU64,
    /// The newest epoch of this store that has ended.
    ended: AtomicU64,
    /// The newest epoch that this store gave up by itself.
    abandoned: watch::Sender<Epoch>,
    /// Which campaign announced that it is ready to take over, and from which leadership.
    ready: watch::Sender<(String, Epoch)>,
    /// The newest revision of a commit that is known.
    revision: AtomicU64,
    /// The format of the data, once it was found to be another than ours.
    foreign_format: OnceLock<String>,
    /// Why the last commit or campaign did not work.
    trouble: Mutex<Option<String>>,
}

impl EtcdStore {
    /// A store in etcd with these spaces. Must be called within a tokio runtime.
    ///
    /// It neither waits for etcd nor needs it to be there, so that nodes and etcd can be started in
    /// any order: until it can be reached, reads and commits fail with `Unavailable`, campaigns and
    /// watches wait.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`] when the options cannot work, or there is no thread to be had.
    pub fn open(options: EtcdOptions, spaces: &[Space]) -> Result<Self, StoreError> {
        options.check()?;
        let options = Arc::new(options);
        let members = Arc::new(Members::new(options.endpoints.len()));
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let control_runtime = thread::start("etcd", stop.clone(), tasks.clone())?;
        let shared = Arc::new(Shared {
            layout: Layout::new(&options.prefix, spaces),
            capacity: Capacity::new(&options),
            reads: Link::new("reads", &options, &members),
            control: Link::new("control", &options, &members)
                .for_small_requests(options.control_patience()),
            inquiries: Inquiries::new(&options, &members),
            members,
            portions: Portions::new(
                read::PART_BYTES,
                options.txn_ops_max.min(read::KEYS_MAX),
                options.request_bytes_max,
            ),
            scans: Portions::new(
                snapshot::PART_BYTES,
                snapshot::PART_MAX,
                options.request_bytes_max,
            ),
            options,
            control_runtime,
            tasks,
            stop,
            seen: watch::Sender::default(),
            leader: watch::Sender::default(),
            epoch: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            abandoned: watch::Sender::default(),
            ready: watch::Sender::default(),
            revision: AtomicU64::new(0),
            foreign_format: OnceLock::new(),
            trouble: Mutex::new(None),
        });
        shared.spawn_control(observer::run(Arc::clone(&shared)));
        Ok(Self { requests: Writer::start(&shared), shared })
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError> {
        self.requests.commit(fence, batch).await
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        read::values(&self.shared, keys, None).await
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.requests.head().await
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(Arc::new(EtcdSnapshot::take(&self.shared).await?))
    }

    async fn watch(&self, after: Revision) -> Result<ChangeStream, StoreError> {
        changes::watch(&self.shared, after)
    }

    async fn campaign(&self, me: &Member) -> Result<Box<dyn Leadership>, StoreError> {
        Ok(Box::new(election::campaign(&self.shared, me).await?))
    }

    fn leader(&self) -> watch::Receiver<Option<Seat>> {
        self.shared.leader.subscribe()
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        read::members(&self.shared).await
    }

    fn announce_ready(&self, name: &str, leadership: Epoch) {
        self.shared.ready.send_replace((name.to_owned(), leadership));
    }

    async fn status(&self) -> StoreStatus {
        status::status(&self.shared).await
    }

    fn limits(&self) -> BatchLimits {
        self.shared.capacity.takes().limits(&self.shared.layout)
    }

    async fn close(&self) {
        self.shared.stop();
        if timeout(CLOSING, self.shared.tasks.wait()).await.is_err() {
            tracing::debug!("closed the store with requests on their way");
        }
        self.shared.leader.send_replace(None);
    }
}

impl Shared {
    /// Starts a task that no load of the process delays.
    fn spawn_control(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.control_runtime);
    }

    fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
    }

    /// Whether the store can be used at all.
    fn check_open(&self) -> Result<(), StoreError> {
        if self.stop.is_cancelled() {
            return Err(self.closed());
        }
        match self.foreign_format.get() {
            Some(found) => Err(StoreError::Format {
                location: self.options.location(),
                found: found.clone(),
                supported: FORMAT,
            }),
            None => Ok(()),
        }
    }

    fn closed(&self) -> StoreError {
        StoreError::Unavailable("the store is closed".to_owned())
    }

    /// Takes note of the data's format.
    fn check_format(&self, found: &[u8]) {
        let found = String::from_utf8_lossy(found);
        if found != FORMAT.to_string() && self.foreign_format.set(found.to_string()).is_ok() {
            tracing::error!(%found, supported = FORMAT, "the data in etcd has another format");
        }
    }

    fn saw_epoch(&self, epoch: Epoch) {
        self.epoch.fetch_max(epoch.0, Ordering::AcqRel);
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Notes that a leadership of this store is over.
    fn end(&self, epoch: Epoch) {
        self.ended.fetch_max(epoch.0, Ordering::AcqRel);
    }

    /// Gives a leadership of this store up that can't go on.
    fn abandon(&self, epoch: Epoch) {
        self.end(epoch);
        self.abandoned.send_if_modified(|newest| {
            let newer = *newest < epoch;
            *newest = (*newest).max(epoch);
            newer
        });
    }

    /// Whether it is known without asking etcd that nothing of that epoch can land.
    fn has_ended(&self, epoch: Epoch) -> bool {
        epoch.0 <= self.ended.load(Ordering::Acquire)
    }

    fn saw_revision(&self, revision: Revision) {
        self.revision.fetch_max(revision.0, Ordering::AcqRel);
    }

    fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    /// Keeps what operators are to know of a commit.
    fn note_commit(&self, outcome: &Result<Revision, CommitError>) {
        match outcome {
            // One that had landed before is answered so: etcd is well.
            Ok(_) | Err(CommitError::OutOfOrder { .. }) => self.note_trouble(None),
            Err(
                error @ (CommitError::Full(_)
                | CommitError::Unavailable(_)
                | CommitError::Ambiguous(_)
                | CommitError::Corrupt(_)),
            ) => self.note_trouble(Some(error.to_string())),
            Err(_) => {}
        }
    }

    fn note_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
