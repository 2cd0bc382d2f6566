//! The embedded backend: a directory on one machine with a storage engine (fjall, a log-structured merge tree
//! with a journal), for one process at a time.
//!
//! Writes go through one thread, [`writer`]. Each batch is one atomic write that includes its head, and is
//! synced before it is acknowledged. Reads use a view of the engine, without the writer. Elections are among
//! callers within the process, and watchers read a bounded log of recent batches.
//!
//! The writer thread compares the epoch of a batch, and a new epoch is durable before anybody holds it. So an
//! ended leadership cannot write, not even in the next process.

mod acknowledged;
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
    directory::Directory,
    election::{Election, EmbeddedLeadership},
    engine::Engine,
    fault::Fault,
    keeper::Keeper,
    read::EmbeddedSnapshot,
    writer::{Requests, Writer},
};
use crate::{
    change_log::{ChangeLog, ChangeLogBounds},
    model::{Batch, BatchLimits, Epoch, Fence, Head, Member, Revision, Seat, Space},
    store::{
        Change, ChangeStream, CommitError, Leadership, Snapshot, Store, StoreError, StoreStatus,
    },
};

/// Duration of a commit after which the status reports a problem, because the disk may hang.
const SLOW_COMMIT: Duration = Duration::from_secs(5);

/// Maximum number of batches that are kept for watchers.
const WATCHED_BATCHES: usize = 4096;

/// The embedded backend. Reads need a running tokio runtime.
///
/// [`close`](Store::close) it to release the directory. Dropping it releases the directory a little later.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    requests: Requests,
}

/// The state that the writer thread and the callers share.
struct Shared {
    location: String,
    /// The engine. `None` while it is reopened, and after the store is closed.
    engine: RwLock<Option<Arc<Engine>>>,
    /// The semaphore of concurrent reads.
    reads: Arc<Semaphore>,
    election: Arc<Election>,
    changes: Arc<ChangeLog>,
    condition: Mutex<Condition>,
}

/// The data for [`Store::status`], which must never wait for the disk.
#[derive(Default)]
struct Condition {
    revision: Revision,
    bytes_used: Option<u64>,
    bytes_free: Option<u64>,
    problem: Option<String>,
    pressure: Option<String>,
    closed: bool,
    /// Start of the current commit.
    busy_since: Option<Instant>,
}

/// The last observations of the writer.
struct Observed {
    used: Option<u64>,
    free: Option<u64>,
    problem: Option<String>,
    pressure: Option<String>,
}

impl EmbeddedStore {
    /// Opens or creates the data directory `dir` with these spaces. It blocks while it recovers earlier data,
    /// possibly for seconds. Call it before serving, or on a blocking thread.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Locked`]: another process, or another store in this process, uses it.
    /// - [`StoreError::Format`]: a version with another format wrote it.
    /// - [`StoreError::Corrupt`]: acknowledged data is damaged or missing.
    /// - [`StoreError::Open`]: anything else, such as missing permission.
    pub fn open(
        dir: &Path,
        spaces: &[Space],
        options: EmbeddedOptions,
    ) -> Result<Self, StoreError> {
        let directory = Directory::acquire(dir)?;
        let watched = ChangeLogBounds { batches: WATCHED_BATCHES, bytes: options.watch_bytes };
        let (mut keeper, found) = Keeper::open(directory, spaces, options).map_err(open_error)?;
        let revision = Revision(found.head.seq.0);
        let shared = Arc::new(Shared {
            location: dir.display().to_string(),
            engine: RwLock::new(None),
            reads: Arc::new(Semaphore::new(read::READS_MAX)),
            election: Arc::new(Election::new(found.epoch)),
            changes: Arc::new(ChangeLog::new(revision, watched)),
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

    fn is_shared(&self) -> bool {
        false
    }

    async fn close(&self) {
        // An error means that it is already closed.
        let _ = self.requests.close().await;
    }
}

impl Shared {
    /// The engine, for a read.
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

    /// Records the start or end of a commit.
    fn busy(&self, busy: bool) {
        self.condition().busy_since = busy.then(Instant::now);
    }

    /// Records a durable batch.
    fn landed(&self, change: Change) {
        self.condition().revision = change.revision;
        self.changes.push(change);
    }

    /// Records the observations of the writer.
    fn observed(&self, observed: Observed) {
        let Observed { used, free, problem, pressure } = observed;
        let mut condition = self.condition();
        condition.bytes_used = used.or(condition.bytes_used);
        condition.bytes_free = free.or(condition.bytes_free);
        condition.problem = problem;
        condition.pressure = pressure;
    }

    /// Ends everything except the engine.
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
        }
    }
}

/// The error of a failure during opening.
fn open_error(fault: Fault) -> StoreError {
    match fault {
        Fault::Damaged(why) => StoreError::Corrupt(why),
        fault => StoreError::Open(format!("cannot open {fault}")),
    }
}
