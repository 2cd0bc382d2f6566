//! The store in a directory of one machine: an embedded engine (fjall, a log-structured merge
//! tree with a journal) behind the trait, for one process at a time.
//!
//! Writes go through one thread, [`writer`]; each batch is one atomic write with its head in it,
//! synced before it is acknowledged. Reads go past the writer, to a view of the engine. What other
//! nodes would do over the network happens within the process: an election is among its callers,
//! watchers read a bounded log of the latest batches.
//!
//! The epoch of a batch is compared by the writer thread and the newest one is durable before
//! anybody holds it, so a leadership that ended cannot write even in the next process.

mod acknowledged;
mod changes;
mod directory;
mod election;
mod engine;
mod fault;
mod journal;
mod keeper;
mod options;
mod read;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

pub use self::options::EmbeddedOptions;
use self::{
    changes::ChangeLog,
    directory::Directory,
    election::{Election, EmbeddedLeadership},
    engine::Engine,
    fault::Fault,
    keeper::Keeper,
    read::EmbeddedSnapshot,
    writer::{Requests, Writer},
};
use crate::{
    model::{Batch, BatchLimits, Epoch, Fence, Head, Member, Revision, Seat, Space},
    store::{
        Change, ChangeStream, CommitError, Leadership, Snapshot, Store, StoreError, StoreStatus,
    },
};

/// A commit that takes longer than this is told to operators: the disk may hang.
const SLOW_COMMIT: Duration = Duration::from_secs(5);

/// The embedded backend. Reads need a running tokio runtime.
///
/// [`close`](Store::close) it to release the directory; dropping it does so too, but later, when
/// its thread gets to it.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    requests: Requests,
}

/// What the writer thread and the callers have in common.
struct Shared {
    location: String,
    /// `None` while it is opened anew, and once the store is closed.
    engine: RwLock<Option<Arc<Engine>>>,
    /// As many turns as there may be reads at the same time.
    reads: Arc<Semaphore>,
    election: Arc<Election>,
    changes: Arc<ChangeLog>,
    condition: Mutex<Condition>,
}

/// What [`Store::status`] tells, kept here so that asking never waits for the disk.
#[derive(Default)]
struct Condition {
    revision: Revision,
    bytes_used: Option<u64>,
    bytes_free: Option<u64>,
    problem: Option<String>,
    pressure: Option<String>,
    closed: bool,
    /// When the commit began that is being written now.
    busy_since: Option<Instant>,
}

/// What the writer saw when it looked around.
struct Observed {
    used: Option<u64>,
    free: Option<u64>,
    problem: Option<String>,
    pressure: Option<String>,
}

impl EmbeddedStore {
    /// Opens the data directory `dir`, or creates it, with these spaces. Blocks until earlier data
    /// is recovered, for up to seconds; call it before serving, or on a blocking thread.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Locked`]: another process (or another value in this one) has it.
    /// - [`StoreError::Format`]: it was written by a version with another format.
    /// - [`StoreError::Corrupt`]: something that was acknowledged is damaged or missing.
    /// - [`StoreError::Open`]: anything else, such as missing permission.
    pub fn open(
        dir: &Path,
        spaces: &[Space],
        options: EmbeddedOptions,
    ) -> Result<Self, StoreError> {
        let directory = Directory::acquire(dir)?;
        let watch_bytes = options.watch_bytes;
        let (mut keeper, found) = Keeper::open(directory, spaces, options).map_err(open_error)?;
        let revision = Revision(found.head.seq.0);
        let shared = Arc::new(Shared {
            location: dir.display().to_string(),
            engine: RwLock::new(None),
            reads: Arc::new(Semaphore::new(read::READS_MAX)),
            election: Arc::new(Election::new(found.epoch)),
            changes: Arc::new(ChangeLog::new(revision, watch_bytes)),
            condition: Mutex::new(Condition { revision, ..Condition::default() }),
        });
        keeper.share(&shared);
        keeper.maintain();
        let writer = Writer { shared: Arc::clone(&shared), keeper };
        Ok(Self { requests: writer.start()?, shared })
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        drop(self.requests.close());
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError> {
        self.requests.commit(fence, batch).await
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let (engine, keys) = (self.shared.engine()?, keys.to_vec());
        let read = move || read::values(&engine, &engine.view(), &keys);
        read::blocking(&self.shared.reads, read).await
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.requests.head().await
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(Arc::new(EmbeddedSnapshot::take(&self.shared)?))
    }

    async fn watch(&self, after: Revision) -> Result<ChangeStream, StoreError> {
        self.shared.changes.watch(after)
    }

    async fn campaign(&self, me: &Member) -> Result<Box<dyn Leadership>, StoreError> {
        let joined = self.shared.election.join(me);
        let seat = self.shared.election.wait(&me.name).await?;
        let held = self.requests.campaign(seat).await?;
        let leadership = EmbeddedLeadership::new(held, joined, self.requests.clone());
        tracing::debug!(node = me.name, epoch = leadership.fence().epoch.0, "leading");
        Ok(Box::new(leadership))
    }

    fn leader(&self) -> crate::watch::Receiver<Option<Seat>> {
        self.shared.election.leader()
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.shared.engine()?;
        Ok(self.shared.election.joined())
    }

    fn announce_ready(&self, name: &str, leadership: Epoch) {
        self.shared.election.announce_ready(name, leadership);
    }

    async fn status(&self) -> StoreStatus {
        self.shared.status()
    }

    fn limits(&self) -> BatchLimits {
        options::LIMITS
    }

    async fn close(&self) {
        // An error means that it was closed before.
        let _ = self.requests.close().await;
    }
}

impl Shared {
    /// The engine for a read.
    fn engine(&self) -> Result<Arc<Engine>, StoreError> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        engine
            .clone()
            .ok_or_else(|| StoreError::Unavailable("the store is closed or recovering".to_owned()))
    }

    fn set_engine(&self, engine: Option<Arc<Engine>>) {
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = engine;
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a commit began or ended.
    fn busy(&self, busy: bool) {
        self.condition().busy_since = busy.then(Instant::now);
    }

    /// Notes a batch that is durable.
    fn landed(&self, change: Change) {
        self.condition().revision = change.revision;
        self.changes.push(change);
    }

    /// Notes what the writer saw when it looked around.
    fn observed(&self, observed: Observed) {
        let Observed { used, free, problem, pressure } = observed;
        let mut condition = self.condition();
        condition.bytes_used = used.or(condition.bytes_used);
        condition.bytes_free = free.or(condition.bytes_free);
        condition.problem = problem;
        condition.pressure = pressure;
    }

    /// Ends everything but the engine itself.
    fn end(&self) {
        self.condition().closed = true;
        self.election.close();
        self.changes.close();
        self.set_engine(None);
    }

    fn status(&self) -> StoreStatus {
        let epoch = self.election.epoch();
        let condition = self.condition();
        let slow = condition.busy_since.map(|since| since.elapsed());
        let problem = if condition.closed {
            Some("the store is closed".to_owned())
        } else if let Some(waited) = slow.filter(|waited| *waited > SLOW_COMMIT) {
            Some(format!("a commit has been waiting for the disk for {} s", waited.as_secs()))
        } else {
            condition.problem.clone()
        };
        let limit = |used: u64| condition.bytes_free.map(|free| used.saturating_add(free));
        StoreStatus {
            backend: "embedded",
            location: self.location.clone(),
            bytes_used: condition.bytes_used,
            bytes_max: condition.bytes_used.and_then(limit),
            epoch,
            revision: condition.revision,
            problem,
            pressure: condition.pressure.clone(),
            weakness: None,
            lost: None,
        }
    }
}

/// What a failure of the engine means to who opens the directory.
fn open_error(fault: Fault) -> StoreError {
    match fault {
        Fault::Damaged(why) => StoreError::Corrupt(why),
        fault => StoreError::Open(format!("cannot open {fault}")),
    }
}
