//! The etcd backend, for clusters of nodes with one leader.
//!
//! # Layout
//!
//! `layout.rs` has the table of keys; `etcdctl get --prefix rota/` shows them. A batch is one transaction, so
//! all its changes have the same revision, which is the [`Revision`] of the commit.
//!
//! # Fencing
//!
//! The leader's key exists while there is a leader. It has a lease, and the revision that created it is the
//! [`Epoch`]. etcd's revisions only grow, so epochs do, too, for the life of the data. Each batch compares
//! this revision in its own transaction. Once the key is deleted (by its holder, or by etcd when the lease
//! expires), no batch of that epoch can be applied, however long it was delayed, because a key that is
//! created again has another creation revision.
//!
//! A leader must also *stop* in time. So it counts its lease from when a renewal was sent, with two clocks,
//! one of which includes suspension of the machine (`lease.rs`, `remote/moment.rs`). The lease, the observation of
//! the leader's key and the upkeep have their own thread and connection, so that the load of the node does
//! not delay them.
//!
//! # Batches without an answer
//!
//! `writer.rs` describes how their outcome is determined.
//!
//! # Errors
//!
//! | error | meaning | reaction |
//! |---|---|---|
//! | [`CommitError::Fenced`] | the leader's key does not belong to this leadership, or etcd accepts less in a
//! transaction than configured | step down; the next leadership has limits that etcd accepts |
//! | [`CommitError::OutOfOrder`] | the head is not the batch before this one | a bug, or two writers in one process |
//! | [`CommitError::Ambiguous`] | no answer in time, or the connection broke | read the head, which
//! determines the outcome |
//! | [`CommitError::Unavailable`] | not sent, or refused without an effect | retry |
//! | [`CommitError::Full`] | etcd's quota is used up; the batch that exceeded it may have been applied |
//! compact, defragment, disarm the alarm; then Rota continues |
//! | [`CommitError::Invalid`] | more operations or bytes than the limits | split batches by [`Store::limits`]
//! |
//! | [`StoreError::NameTaken`] | another node has this name and renews its lease | give each node its own name |
//! | [`StoreError::Compacted`] | the revision has been compacted | take a new snapshot |
//! | [`StoreError::Timeout`], [`StoreError::Unavailable`] | etcd was unreachable | retry |
//!
//! # Requirements
//!
//! etcd 3.4 or later. Its `--max-txn-ops` and `--quota-backend-bytes` must be at least the values in the
//! options. With authentication, the user needs permission to read and write the prefix. Automatic compaction
//! of etcd is not needed, because the leader compacts.
//!
//! Restoring a backup sets revisions back, and so epochs and lease tokens. Restore it only while no node
//! runs.

mod answer;
mod candidate;
mod capacity;
mod changes;
mod descend;
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
mod segments;
mod snapshot;
mod status;
mod subscription;
mod upkeep;
mod usage;
mod wire;
mod writer;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;

pub use self::options::{EtcdOptions, EtcdTls, EtcdUser};
use self::{
    candidate::EtcdCandidate,
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
    remote::{background::Background, election},
    store::{ChangeStream, CommitError, Leadership, Snapshot, Store, StoreError, StoreStatus},
    watch,
};

/// The etcd backend.
///
/// [`close`](Store::close) it to give up a leadership at once. Dropping it does the same in the background.
pub struct EtcdStore {
    shared: Arc<Shared>,
    requests: Requests,
}

/// The shared state of all parts.
struct Shared {
    options: Arc<EtcdOptions>,
    layout: Layout,
    /// The limits of a transaction.
    capacity: Capacity,
    members: Arc<Members>,
    /// The link for reads of callers.
    reads: Link,
    /// The sizes of requests for single keys and for ranges.
    portions: Portions,
    scans: Portions,
    /// The link for the lease, the election and the upkeep, only for the control thread.
    control: Link,
    /// The links for the status of etcd, which must not wait for anything.
    inquiries: Inquiries,
    background: Background,
    seen: watch::Sender<Seen>,
    leader: watch::Sender<Option<Seat>>,
    /// The newest known epoch.
    epoch: AtomicU64,
    /// The newest ended epoch of this store.
    ended: AtomicU64,
    /// The newest epoch that this store has given up by itself.
    abandoned: watch::Sender<Epoch>,
    /// The campaign that announced that it is ready to take over, and from which leadership.
    ready: watch::Sender<(String, Epoch)>,
    /// Whether this process was among the members before.
    has_entered: AtomicBool,
    /// The newest known revision of a commit.
    revision: AtomicU64,
    /// The format of the data, if it is not supported.
    foreign_format: OnceLock<String>,
}

impl EtcdStore {
    /// Opens a store in etcd with these spaces. Must be called within a tokio runtime.
    ///
    /// It does not wait for etcd, so that nodes and etcd can start in any order. Until etcd is reachable,
    /// reads and commits fail with `Unavailable`, and campaigns and watches wait.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`] when the options are invalid, or no thread can be started.
    pub fn open(options: EtcdOptions, spaces: &[Space]) -> Result<Self, StoreError> {
        options.check()?;
        let options = Arc::new(options);
        let members = Arc::new(Members::new(options.endpoints.len()));
        let background = Background::start("etcd")?;
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
            background,
            seen: watch::Sender::default(),
            leader: watch::Sender::default(),
            epoch: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            abandoned: watch::Sender::default(),
            ready: watch::Sender::default(),
            has_entered: AtomicBool::new(false),
            revision: AtomicU64::new(0),
            foreign_format: OnceLock::new(),
        });
        shared.background.spawn_control(observer::run(Arc::clone(&shared)));
        Ok(Self { requests: Writer::start(&shared), shared })
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.shared.background.stop();
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
        let shared = Arc::clone(&self.shared);
        election::campaign(EtcdCandidate { shared, me: me.clone() }).await
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

    fn is_shared(&self) -> bool {
        true
    }

    async fn close(&self) {
        self.shared.background.stop();
        self.shared.background.ended().await;
        self.shared.leader.send_replace(None);
    }
}

impl Shared {
    /// Whether the store can be used at all.
    fn check_open(&self) -> Result<(), StoreError> {
        self.background.check_open()?;
        match self.foreign_format.get() {
            Some(found) => Err(StoreError::Format {
                location: self.options.location(),
                found: found.clone(),
                supported: FORMAT,
            }),
            None => Ok(()),
        }
    }

    /// Records the format of the data.
    fn check_format(&self, found: &[u8]) {
        let found = String::from_utf8_lossy(found);
        if found != FORMAT.to_string() && self.foreign_format.set(found.to_string()).is_ok() {
            tracing::error!(%found, supported = FORMAT, "unsupported data format in etcd");
        }
    }

    fn saw_epoch(&self, epoch: Epoch) {
        self.epoch.fetch_max(epoch.0, Ordering::AcqRel);
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Records that a leadership of this store has ended.
    fn end(&self, epoch: Epoch) {
        self.ended.fetch_max(epoch.0, Ordering::AcqRel);
    }

    /// Gives up a leadership of this store that cannot continue.
    fn abandon(&self, epoch: Epoch) {
        self.end(epoch);
        self.abandoned.send_if_modified(|newest| {
            let newer = *newest < epoch;
            *newest = (*newest).max(epoch);
            newer
        });
    }

    /// Whether it is certain, without asking etcd, that no batch of this epoch can be applied.
    fn has_ended(&self, epoch: Epoch) -> bool {
        epoch.0 <= self.ended.load(Ordering::Acquire)
    }

    fn saw_revision(&self, revision: Revision) {
        self.revision.fetch_max(revision.0, Ordering::AcqRel);
    }

    fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }
}
