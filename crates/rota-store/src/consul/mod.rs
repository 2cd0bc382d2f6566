//! The store over Consul, version 1.8 and later: for many nodes, of which one leads.
//!
//! # Design
//!
//! Consul is made for small data: it holds all keys in memory, writes every change to one Raft log, and takes 64
//! operations and 512 KiB in a transaction. A task costs some eight changes, so with one key for each record a
//! transaction would hold eight tasks. Hence the keys of the store are not keys in Consul. The store is a **log of
//! pieces**, and each piece is one key with many changes packed into it (`piece.rs`). A commit costs three operations,
//! however large it is, and bytes are what counts.
//!
//! - **The log.** A batch is the next piece. `head` says which pieces there are, and each transaction changes it under
//!   a condition, so all that is written has one order. The table of keys is in `layout.rs`.
//! - **Large batches.** A piece beyond 360 KiB is staged in parts that nothing refers to; the transaction of the commit
//!   names them. The leader removes parts that were staged and never named (`upkeep.rs`).
//! - **The state.** Each node that opens the store replays the log into persistent maps in memory (`state.rs`), and
//!   follows it (`replica.rs`). A snapshot is a copy of the maps' roots; a watch reads the most recent batches from
//!   memory (`change_log.rs`).
//! - **The log stays short.** When it is more than twice what is live, the leader writes what is live of its oldest
//!   pieces again at its end and deletes them (`cleaner.rs`). There are no checkpoints, so no moment in which
//!   everything is written again. In the long run each committed byte costs at most two that Consul writes.
//!
//! Other layouts were considered. Sorted segments by range of keys (a checkpoint) would rewrite almost all segments each
//! time, since the changes of a million tasks are spread over all of them. Levels of sorted runs would bound that, at
//! ten times the code and with more bytes rewritten than here.
//!
//! # Fencing
//!
//! The leader's key is held by a session and is deleted with it. Each transaction demands that the index at which the
//! key was set is still its index, so nothing of a former leadership lands, however long it was on its way. The epoch
//! is counted in a key of its own. `session.rs` says how a leader stops in time by the clock, and why there is no lock
//! delay.
//!
//! A seat whose node died is free after twice the TTL of the session: 20 s with Consul's least TTL of 10 s. Set
//! `session_ttl_min` in Consul's configuration and the leader's TTL here for less.
//!
//! # Reads
//!
//! A read asks Consul for the head with `consistent`, and waits until this node has replayed it. A leader whose session
//! surely lasts need not ask: nobody else can have committed.
//!
//! # What errors mean
//!
//! | error | what happened | what to do |
//! |---|---|---|
//! | [`CommitError::Fenced`] | the leader's key is not the one of this leadership | step down |
//! | [`CommitError::OutOfOrder`] | the head does not admit this number | a bug, or two writers in one process |
//! | [`CommitError::Ambiguous`] | no answer in time, or the connection broke | ask for the head, which makes certain |
//! | [`CommitError::Unavailable`] | not sent, or refused before Consul did anything | try again |
//! | [`CommitError::Full`] | what is live has almost reached `size_bytes_max` | delete, or raise it |
//! | [`CommitError::Invalid`] | more changes or bytes than the limits | cut batches by [`Store::limits`] |
//! | [`StoreError::NameTaken`] | another node has this name and answers | give each node its own name |
//! | [`StoreError::Compacted`] | the revision is older than what is kept in memory | take a new snapshot |
//! | [`StoreError::Timeout`], [`StoreError::Unavailable`] | Consul was not reached | try again |
//!
//! # What Consul must be
//!
//! Version 1.8 or later with its default limits. With ACLs, the token needs `key:write` on the prefix and
//! `session:write`. All that is live, and as much again, is in the memory of each server and of each node.
//! A backup that is restored takes the log back: restore it while no node runs. A session that an operator destroys ends a leadership without its holder's knowing for a moment: writes stay fenced,
//! but that node may answer reads from before.

mod candidate;
mod cleaner;
mod fault;
mod layout;
mod link;
mod observer;
mod options;
mod pen;
mod piece;
mod registration;
mod replica;
mod seat;
mod session;
mod snapshot;
mod state;
mod status;
mod txn;
mod upkeep;
mod writer;

use std::{
    collections::HashSet,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;

pub use self::options::{ConsulOptions, ConsulTls, ConsulToken};
use self::{
    candidate::ConsulCandidate,
    fault::Fault,
    layout::{FORMAT, Layout},
    link::Link,
    observer::Seen,
    pen::Certain,
    replica::Replica,
    snapshot::ConsulSnapshot,
    state::View,
    writer::{Requests, Writer},
};
use crate::{
    model::{Batch, BatchLimits, Epoch, Fence, Head, Member, Revision, Seat, Space},
    remote::{background::Background, election, moment::Moment},
    store::{ChangeStream, CommitError, Leadership, Snapshot, Store, StoreError, StoreStatus},
    watch,
};

/// How often it is looked whether a leadership has expired.
const LOOK: Duration = Duration::from_millis(500);

/// The Consul backend.
///
/// [`close`](Store::close) it to give up a leadership at once; dropping it does so too, in the
/// background.
pub struct ConsulStore {
    shared: Arc<Shared>,
    requests: Requests,
}

/// An epoch in which this store leads, and until when that is certain.
type Lead = (Epoch, watch::Receiver<Moment>);

/// What all parts have in common.
struct Shared {
    options: Arc<ConsulOptions>,
    layout: Layout,
    /// Makes the ids of this process's parts differ from those of others.
    name: String,
    reads: Link,
    commits: Link,
    /// For the session and the election: used on the control thread alone.
    control: Link,
    /// For questions after Consul's health, which must not wait for anything.
    inquiries: Link,
    background: Background,
    replica: Arc<Replica>,
    /// In which epoch the replica is surely the newest.
    certain: Certain,
    /// Parts that are staged, or of which it is not known whether a piece names them.
    staging: Mutex<HashSet<String>>,
    seen: watch::Sender<Seen>,
    leader: watch::Sender<Option<Seat>>,
    lead: watch::Sender<Option<Lead>>,
    /// The newest epoch that is known.
    epoch: AtomicU64,
    /// The newest epoch of this store that has ended.
    ended: AtomicU64,
    /// Which campaign announced that it is ready to take over, and from which leadership.
    ready: watch::Sender<(String, Epoch)>,
    /// Whether this process was among the members before.
    has_entered: AtomicBool,
    /// The newest revision of a commit that is known.
    revision: AtomicU64,
    /// The format of the data, once it was found to be another than ours.
    foreign_format: OnceLock<String>,
}

impl ConsulStore {
    /// A store in Consul with these spaces. Must be called within a tokio runtime.
    ///
    /// It neither waits for Consul nor needs it to be there, so that nodes and Consul can be started in
    /// any order: until it can be reached, reads and commits fail with `Unavailable`, campaigns and
    /// watches wait.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`] when the options cannot work, or there is no thread to be had.
    pub fn open(options: ConsulOptions, spaces: &[Space]) -> Result<Self, StoreError> {
        options.check()?;
        let link = Link::new(&options)?;
        let control = Link::new(&options)?;
        let background = Background::start("consul")?;
        let shared = Arc::new(Shared {
            layout: Layout::new(&options.prefix, spaces),
            name: format!("{:016x}", RandomState::new().build_hasher().finish()),
            reads: link.clone(),
            commits: link.clone(),
            inquiries: link,
            control,
            options: Arc::new(options),
            background,
            replica: Arc::new(Replica::new()),
            certain: Certain::default(),
            staging: Mutex::default(),
            seen: watch::Sender::default(),
            leader: watch::Sender::default(),
            lead: watch::Sender::default(),
            epoch: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            ready: watch::Sender::default(),
            has_entered: AtomicBool::new(false),
            revision: AtomicU64::new(0),
            foreign_format: OnceLock::new(),
        });
        shared.background.spawn_control(observer::run(Arc::clone(&shared)));
        shared.background.tasks.spawn(replica::run(Arc::clone(&shared)));
        Ok(Self { requests: Writer::start(&shared), shared })
    }
}

impl Drop for ConsulStore {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

#[async_trait]
impl Store for ConsulStore {
    async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError> {
        self.requests.commit(fence, batch).await
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let view = replica::newest(&self.shared).await?;
        snapshot::values(&self.shared, &view, keys)
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.requests.head().await
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(Arc::new(ConsulSnapshot::take(&self.shared).await?))
    }

    async fn watch(&self, after: Revision) -> Result<ChangeStream, StoreError> {
        self.shared.check_open()?;
        self.shared.replica.changes.watch(after)
    }

    async fn campaign(&self, me: &Member) -> Result<Box<dyn Leadership>, StoreError> {
        let shared = Arc::clone(&self.shared);
        election::campaign(ConsulCandidate { shared, me: me.clone() }).await
    }

    fn leader(&self) -> watch::Receiver<Option<Seat>> {
        self.shared.leader.subscribe()
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        registration::members(&self.shared).await
    }

    fn announce_ready(&self, name: &str, leadership: Epoch) {
        self.shared.ready.send_replace((name.to_owned(), leadership));
    }

    async fn status(&self) -> StoreStatus {
        status::status(&self.shared).await
    }

    fn limits(&self) -> BatchLimits {
        writer::LIMITS
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn close(&self) {
        self.shared.stop();
        self.shared.background.ended().await;
        self.shared.leader.send_replace(None);
    }
}

impl Shared {
    fn stop(&self) {
        self.background.stop();
        self.replica.changes.close();
    }

    /// Whether the store can be used at all.
    fn check_open(&self) -> Result<(), StoreError> {
        self.background.check_open()?;
        match self.foreign_format.get() {
            Some(found) => Err(self.foreign(found)),
            None => Ok(()),
        }
    }

    fn foreign(&self, found: &str) -> StoreError {
        StoreError::Format {
            location: self.options.location(),
            found: found.to_owned(),
            supported: FORMAT,
        }
    }

    /// What a fault means to a reader. Takes note of the data's format.
    fn explain(&self, fault: Fault) -> StoreError {
        match fault {
            Fault::Foreign(found) => {
                if self.foreign_format.set(found.clone()).is_ok() {
                    tracing::error!(
                        found,
                        supported = FORMAT,
                        "the data in Consul has another format"
                    );
                }
                self.foreign(&found)
            }
            fault => fault.into(),
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

    /// Whether it is known without asking Consul that nothing of that epoch can land.
    fn has_ended(&self, epoch: Epoch) -> bool {
        epoch.0 <= self.ended.load(Ordering::Acquire)
    }

    /// Whether this store surely leads in that epoch now.
    fn leads(&self, epoch: Epoch) -> bool {
        let lead = self.lead.borrow();
        let surely = |(leading, until): &Lead| {
            *leading == epoch && !until.borrow().has_passed_at(Moment::now())
        };
        lead.as_ref().is_some_and(surely) && !self.has_ended(epoch)
    }

    /// The state, if it is surely the newest there is.
    fn certain_view(&self) -> Option<View> {
        let epoch = self.certain.epoch().filter(|epoch| self.leads(*epoch))?;
        let view = self.replica.view()?;
        // Asked again: a leadership that lasted until here vouches for the view.
        self.leads(epoch).then_some(view)
    }

    /// Waits while this store leads.
    async fn not_leading(&self) {
        let mut lead = self.lead.subscribe();
        loop {
            let epoch = lead.borrow_and_update().as_ref().map(|(epoch, _)| *epoch);
            if !epoch.is_some_and(|epoch| self.leads(epoch)) {
                return;
            }
            // Either it changes or it is time to look at the clock.
            let _ = timeout(LOOK, lead.changed()).await;
        }
    }

    fn staging(&self) -> MutexGuard<'_, HashSet<String>> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw_revision(&self, revision: Revision) {
        self.revision.fetch_max(revision.0, Ordering::AcqRel);
    }

    fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }
}
