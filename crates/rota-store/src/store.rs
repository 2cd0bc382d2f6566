//! The trait [`Store`] and its contract. A backend that breaks a sentence of the contract has a bug.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;

use crate::{
    model::{
        Batch, BatchLimits, BatchSeq, Direction, Epoch, Fence, Head, KeyRange, Member, Mutation,
        Page, Revision, Seat, Space,
    },
    watch,
};

/// An ordered, durable, fenced key-value store.
///
/// # Contract
///
/// 1. **Durable.** When [`commit`](Store::commit) returns `Ok`, the batch survives the loss of
///    this process and of this machine's power (embedded: fsync returned; etcd: a quorum has it).
/// 2. **Atomic.** A batch is applied completely or not at all, for every reader and through every crash.
/// 3. **Ordered.** Batch *n + 1* is applied only after batch *n*: a commit whose `seq` is not the number of
///    the head plus one changes nothing and returns [`CommitError::OutOfOrder`]. Exception: the first batch of a
///    leadership can have any number above the head ([`Head::admits`]), so that numbers also grow if a store
///    has lost its newest batches, or its data came from another store.
/// 4. **Fenced.** A batch is applied only while the epoch of its fence is the newest one that
///    [`campaign`](Store::campaign) has ever returned, and that leadership has not been given up. Otherwise
///    it changes nothing and returns [`CommitError::Fenced`]. Once a later epoch exists, a batch of an
///    earlier one is never applied, however long it was delayed.
/// 5. **Never guessed.** If the store cannot know whether a batch was applied, it returns
///    [`CommitError::Ambiguous`], and [`head`](Store::head) then tells. All other errors except
///    [`CommitError::Full`] mean that the batch was not applied and will not be applied later.
/// 6. **Linearizable.** [`get`](Store::get), [`head`](Store::head) and [`snapshot`](Store::snapshot) see
///    every batch whose commit returned before the call.
/// 7. **Consistent.** Everything that one `get` or one [`Snapshot`] returns is from one revision.
/// 8. **Watched in order.** [`watch`](Store::watch) yields every batch after its starting revision, complete,
///    once, and in the order of revisions. If it cannot (history was compacted, the reader was too slow), it
///    ends with [`StoreError::Compacted`] instead of omitting a batch.
/// 9. **Cancel safe.** Dropping the future of a read changes nothing. Dropping the future of a
///    commit leaves its outcome unknown, as in 5.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes a batch under a fence. At most one commit of a leadership is in flight at a time; a second call
    /// waits for the first.
    async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError>;

    /// Reads the values of these keys at one revision, in the given order.
    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// Reads the last durable batch.
    async fn head(&self) -> Result<Head, StoreError>;

    /// A snapshot of the store, to read page by page while the store changes.
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError>;

    /// A stream of batches as they become durable, from the first one after `after`.
    async fn watch(&self, after: Revision) -> Result<ChangeStream, StoreError>;

    /// Waits until this process is the leader. The process is a member during the campaign, and then during
    /// its leadership. Cancel safe: a dropped campaign leaves no leader behind.
    ///
    /// If several processes share the store, a name that another live member uses is refused with
    /// [`StoreError::NameTaken`], and that member stays. A process that restarts after a crash waits until
    /// the store has released its former entry.
    async fn campaign(&self, me: &Member) -> Result<Box<dyn Leadership>, StoreError>;

    /// The leader, as far as this process knows. `None` while there is none, or nothing is known. It can be
    /// out of date, so it helps to find the leader, but never proves who it is.
    fn leader(&self) -> watch::Receiver<Option<Seat>>;

    /// The members that campaign or lead now, by name.
    async fn members(&self) -> Result<Vec<Member>, StoreError>;

    /// Announces to other members that this one is ready to take over from this leadership at once
    /// ([`Member::ready_for`]). Returns immediately. An announcement can be late or lost, and ends with the
    /// campaign of this name, so only the speed of a takeover may depend on it.
    fn announce_ready(&self, name: &str, leadership: Epoch);

    /// The status of the store. Never fails, and answers within about a second, because operators need it
    /// during problems.
    async fn status(&self) -> StoreStatus;

    /// Acknowledged batches that this process has seen in the store and that are missing from it now. Answers at
    /// once. `None` for a store that keeps the law.
    fn lost(&self) -> Option<LostBatches> {
        None
    }

    /// The limits of a batch. They do not change during a leadership, but the next one can have lower limits:
    /// if a backend turns out to accept less than configured, the batch that showed it is
    /// [fenced](CommitError::Fenced), because its leadership has ended. So read them again after each
    /// campaign.
    fn limits(&self) -> BatchLimits;

    /// Whether several processes can open this store at once, so that one node can take over from another.
    fn is_shared(&self) -> bool;

    /// Ends background work, and releases files, locks and connections. Later calls fail with
    /// [`StoreError::Unavailable`].
    async fn close(&self);
}

/// A won election.
#[async_trait]
pub trait Leadership: Send + Sync {
    /// The fence for batches of this leadership.
    fn fence(&self) -> Fence;

    /// The minimum number of the first batch of this leadership. It is above every number that the store may have
    /// given out before, including batches that it has lost since. 0 stands for the number of the head plus one,
    /// which is enough for a store that never loses a batch.
    fn seq_floor(&self) -> BatchSeq {
        BatchSeq(0)
    }

    /// Whether this leadership certainly holds at this moment, so that no other can have begun. Answers at
    /// once, by the clock if it depends on time. Check it before sending an answer that no commit covers.
    fn is_held(&self) -> bool;

    /// Resolves when this leadership may be lost: it expired, another one began, or the backend closed. Until
    /// then it is held.
    async fn lost(&self);

    /// Gives up leadership at once, so that another node need not wait for it to expire. If a successor is
    /// named, other members wait a few seconds for it. A successor that does not exist or does not campaign
    /// delays the election by no more than that.
    async fn resign(self: Box<Self>, successor: Option<&str>);
}

/// A consistent view of the store. Reading it never blocks commits. Holding it for long can cost the backend
/// disk space, so drop it when done.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// The revision of this view.
    fn revision(&self) -> Revision;

    /// Reads the values of these keys, in the given order.
    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// Reads up to `limit` entries of `range`, from its start or, descending, from its end. A backend can end
    /// a page earlier if values are large, but the page of a non-empty range is never empty unless `limit` is
    /// 0. To continue while [`Page::more`] is set, narrow the range to after the last key.
    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, StoreError>;
}

/// A durable batch, for watchers.
#[derive(Debug, Clone)]
pub struct Change {
    /// The revision of the batch.
    pub revision: Revision,
    /// The epoch and number of the batch.
    pub head: Head,
    /// The changes. The delete of a missing key can be omitted, because it changed nothing.
    pub mutations: Arc<Vec<Mutation>>,
}

/// A stream of batches in order; see rule 8.
pub type ChangeStream = Pin<Box<dyn Stream<Item = Result<Change, StoreError>> + Send>>;

/// The status of a store, for operators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Kind of the store, such as `embedded` or `etcd`.
    pub backend: &'static str,
    /// Location: a directory or endpoints. It never contains credentials.
    pub location: String,
    /// Bytes used, if known.
    pub bytes_used: Option<u64>,
    /// Bytes to which it can grow (quota, or free disk space plus used space), if known.
    pub bytes_max: Option<u64>,
    /// The newest epoch that this process knows.
    pub epoch: Epoch,
    /// The revision of the last commit that this process knows.
    pub revision: Revision,
    /// Why it cannot accept writes now. `None` while it can.
    pub problem: Option<String>,
    /// Why it should get no new tasks, although it still accepts the changes by which running tasks end.
    pub pressure: Option<String>,
    /// In which way it keeps less than the law promises, because its operator accepted that; `None`
    /// where it keeps the whole law.
    pub weakness: Option<String>,
}

/// Batches that were acknowledged and are gone, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostBatches {
    /// How many; `None` where the store went back before this process knew it, so that nobody can tell whether
    /// batches are missing and how many.
    pub batches: Option<u64>,
    /// Whether more than that may be missing, because the store also went back at a time when this process did not
    /// know it. Always set without a number.
    pub maybe_more: bool,
    /// When the last batch landed that is left; `None` where none is.
    pub since: Option<SystemTime>,
    /// When this process noticed the loss.
    pub noticed: SystemTime,
}

/// Why a commit failed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another leadership exists, or this one has ended. The batch was not applied and never will be.
    #[error("refused by the fence: epoch {ours} is no longer the newest")]
    Fenced {
        /// The epoch of the batch.
        ours: Epoch,
    },
    /// The number of the batch does not follow the head (rule 3). The batch was not applied.
    #[error("batch {got} does not follow the head, which is {head:?}")]
    OutOfOrder {
        /// The number of the batch.
        got: BatchSeq,
        /// The head of the store.
        head: Head,
    },
    /// The store is full (disk, quota). Retry the same batch before any other: etcd may have accepted the
    /// batch that exceeded the quota. Then the retry is [out of order](Self::OutOfOrder), and the head tells.
    #[error("the store is full: {0}")]
    Full(String),
    /// The batch exceeds a limit of the store. It was not applied, and a retry cannot help.
    #[error("invalid batch: {0}")]
    Invalid(String),
    /// The store is unreachable, or refused for a temporary reason. The batch was not applied; retry.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The outcome is unknown. Read [`Store::head`].
    #[error("the outcome of the commit is unknown: {0}")]
    Ambiguous(String),
    /// The data is damaged.
    #[error("the store is corrupt: {0}")]
    Corrupt(String),
}

/// Why a read failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store is unreachable or closed. Retry.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The requested revision has been compacted.
    #[error("the revision has been compacted; read a new snapshot")]
    Compacted,
    /// The data is damaged. The message names the place.
    #[error("the store is corrupt: {0}")]
    Corrupt(String),
    /// Opening failed because another process uses the store.
    #[error("{location} is in use by another process{}", pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    Locked {
        /// The store to open.
        location: String,
        /// The other process, if known.
        pid: Option<u32>,
    },
    /// This version does not support the format of the data.
    #[error("{location} has data format {found}, but this version supports {supported}")]
    Format {
        /// The store to open.
        location: String,
        /// The format of the data.
        found: String,
        /// The format that this version supports.
        supported: u32,
    },
    /// The call timed out.
    #[error("the store did not answer within {0:?}")]
    Timeout(Duration),
    /// Another live node has the same name.
    #[error(
        "another node{} has the same name, `{name}`; give each node its own name",
        address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default()
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The address of the other node.
        address: Option<String>,
    },
    /// The caller broke a rule of the trait, for example with an undeclared space.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// Opening failed for another reason, such as missing permission.
    #[error("{0}")]
    Open(String),
}
