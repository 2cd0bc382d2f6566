//! The trait itself. Its prose is law: a backend that breaks a sentence of it has a bug.

use std::{pin::Pin, sync::Arc, time::Duration};

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
/// # The law
///
/// 1. **Durable.** When [`commit`](Store::commit) returns `Ok`, the batch survives the loss of
///    this process and of this machine's power (embedded: fsync returned; etcd: a quorum has it).
/// 2. **Atomic.** A batch lands whole or not at all, for every reader and through every crash.
/// 3. **Ordered.** Batch *n + 1* lands only on top of batch *n*: a commit whose `seq` is not the
///    head's plus one changes nothing and says [`CommitError::OutOfOrder`]. One exception: the first
///    batch of a leadership may carry any number above the head ([`Head::admits`]), so that numbers
///    also grow where a store has lost its newest batches, and where data came from another store.
/// 4. **Fenced.** A batch lands only while its fence's epoch is the newest one that
///    [`campaign`](Store::campaign) ever gave out and that leadership has not been given up.
///    Otherwise it changes nothing and says [`CommitError::Fenced`]. Once a later epoch exists, no
///    batch of an earlier one lands, ever, however long it was delayed on its way.
/// 5. **Never guessed.** Where the store cannot know whether a batch landed, it says
///    [`CommitError::Ambiguous`]; [`head`](Store::head) then tells. All other errors mean that the
///    batch did not land and will not land later, but for [`CommitError::Full`].
/// 6. **Linearizable.** [`get`](Store::get), [`head`](Store::head) and the moment at which
///    [`snapshot`](Store::snapshot) is taken see every batch whose commit returned before the call.
/// 7. **Consistent.** All that one `get` or one [`Snapshot`] returns is of one revision.
/// 8. **Watched in order.** [`watch`](Store::watch) yields every batch that lands after its
///    starting revision, whole, once, in order of revision; where it can't (history was compacted,
///    the reader was too slow) it ends with [`StoreError::Compacted`] rather than leave one out.
/// 9. **Cancel safe.** Dropping the future of a read changes nothing. Dropping the future of a
///    commit leaves it ambiguous, as in 5.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes one batch under a fence. At most one commit is in flight at a time per leadership;
    /// a second call waits for the first.
    async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError>;

    /// The values of these keys at one revision, in the order asked for.
    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// The last batch that landed.
    async fn head(&self) -> Result<Head, StoreError>;

    /// The store as it is now, to be read page by page while it changes.
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError>;

    /// Batches as they land, from the first one after `after`.
    async fn watch(&self, after: Revision) -> Result<ChangeStream, StoreError>;

    /// Waits until this process is the leader, and is a member until it wins, fails or is dropped;
    /// then its leadership is. Cancel safe: a dropped campaign leaves no leader behind.
    ///
    /// Where several processes share the store, a name that another living member has is refused with
    /// [`StoreError::NameTaken`], and that member stays. One that came back after a crash waits until
    /// the store has let go of its former self.
    async fn campaign(&self, me: &Member) -> Result<Box<dyn Leadership>, StoreError>;

    /// Who leads, as far as this process knows; `None` while nobody does or nothing is known. It
    /// may lag behind the truth, so it serves to find the leader, never to prove who that is.
    fn leader(&self) -> watch::Receiver<Option<Seat>>;

    /// Who campaigns or leads now, by name.
    async fn members(&self) -> Result<Vec<Member>, StoreError>;

    /// Has the other members see that this one is ready to take over from that leadership at once
    /// ([`Member::ready_for`]). Returns immediately. An announcement may be late or get lost, and it ends with the
    /// campaign of that name, so nothing may depend on it but time.
    fn announce_ready(&self, name: &str, leadership: Epoch);

    /// How the store is: never fails, and answers within a second or so, because an operator asks
    /// when things are bad.
    async fn status(&self) -> StoreStatus;

    /// What one batch may hold, for a caller to cut its batches to. It stays as it is while a
    /// leadership lasts, but the next one may find less: where a backend turns out to take less than
    /// it was said to, the batch that showed it is [fenced](CommitError::Fenced), for its leadership
    /// has ended. So ask for it anew after each campaign.
    fn limits(&self) -> BatchLimits;

    /// Ends background work and releases what the backend holds (files, locks, connections). Later
    /// calls fail with [`StoreError::Unavailable`].
    async fn close(&self);
}

/// A won election.
#[async_trait]
pub trait Leadership: Send + Sync {
    /// What batches of this leadership carry.
    fn fence(&self) -> Fence;

    /// The least number that the first batch of this leadership may carry. It is above every number that the
    /// store can have given out before, also in batches that it has lost since. The head's plus one is enough
    /// for a store that never loses a batch, so that is what 0 stands for.
    fn seq_floor(&self) -> BatchSeq {
        BatchSeq(0)
    }

    /// Whether this leadership can be relied on at this moment: no other can have begun. Answers at once,
    /// by the clock where it is a matter of time, so it can be asked before something is said that no
    /// commit vouches for.
    fn is_held(&self) -> bool;

    /// Resolves when this leadership can no longer be relied on (it expired, it was taken, the
    /// backend closed). Until then it is held.
    async fn lost(&self);

    /// Gives leadership up at once, so that another node need not wait for it to expire. Where a
    /// successor is named, other members let it go first for a moment (seconds); one that does not
    /// exist or does not come delays the election by no more.
    async fn resign(self: Box<Self>, successor: Option<&str>);
}

/// A frozen view of the store. Reading it never blocks commits. Holding one for long may cost the
/// backend disk space, so drop it when done.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// The revision that this view shows.
    fn revision(&self) -> Revision;

    /// The values of these keys, in the order asked for.
    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// Up to `limit` entries of `range` (from its start or, descending, from its end). A backend may
    /// end a page earlier where values are big, but a page of a range that holds anything is never
    /// empty unless `limit` is 0. To go on while [`Page::more`] is set, narrow the range behind the
    /// last key returned.
    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, StoreError>;
}

/// One batch that landed, as a watcher sees it.
#[derive(Debug, Clone)]
pub struct Change {
    /// The revision it made.
    pub revision: Revision,
    /// Who wrote it, and its number.
    pub head: Head,
    /// What it changed. The delete of a key that was not there may be missing, for it changed
    /// nothing.
    pub mutations: Arc<Vec<Mutation>>,
}

/// Batches in order; see law 8.
pub type ChangeStream = Pin<Box<dyn Stream<Item = Result<Change, StoreError>> + Send>>;

/// What an operator wants to know of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// `embedded`, `etcd`, …
    pub backend: &'static str,
    /// Where it is: a directory, endpoints. Never with credentials in it.
    pub location: String,
    /// Bytes used, where known.
    pub bytes_used: Option<u64>,
    /// Bytes it may grow to (quota or free disk plus used), where known.
    pub bytes_max: Option<u64>,
    /// The newest epoch this process knows of.
    pub epoch: Epoch,
    /// The revision of the last commit this process knows of.
    pub revision: Revision,
    /// Why it cannot take writes now; `None` while it can.
    pub problem: Option<String>,
    /// Why it should get no new work, though it still takes what lets running work end.
    pub pressure: Option<String>,
    /// In which way it keeps less than the law promises, because its operator accepted that; `None`
    /// where it keeps the whole law.
    pub weakness: Option<String>,
    /// Acknowledged batches that this process has seen in it and that are missing from it now.
    pub lost: Option<LostBatches>,
}

/// Batches that were acknowledged and are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostBatches {
    /// How many.
    pub batches: u64,
    /// When the last batch landed that is left; `None` where none is.
    pub since: Option<std::time::SystemTime>,
}

/// Why a batch was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another leadership exists or this one ended. It did not land and never will.
    #[error("refused by the fence: epoch {ours} is no longer the newest")]
    Fenced {
        /// The epoch the batch carried.
        ours: Epoch,
    },
    /// The batch's number does not follow the head (law 3). It did not land.
    #[error("batch {got} does not follow the head, which is {head:?}")]
    OutOfOrder {
        /// The number the batch carried.
        got: BatchSeq,
        /// Where the store is.
        head: Head,
    },
    /// There is no room (disk full, quota). The same batch may be tried again, and nothing else before:
    /// etcd can have taken the very batch by which the quota was passed. Then it lands no second time,
    /// but is [out of order](Self::OutOfOrder), and the head tells.
    #[error("the store is full: {0}")]
    Full(String),
    /// The batch breaks a limit of the store. It did not land and trying again won't help.
    #[error("the batch is not acceptable: {0}")]
    Invalid(String),
    /// The store can't be reached or refused for a passing reason. It did not land; try again.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// It is not known whether the batch landed. Ask [`Store::head`].
    #[error("the outcome of the commit is not known: {0}")]
    Ambiguous(String),
    /// The data is damaged in a way that may not be passed over.
    #[error("the store is corrupt: {0}")]
    Corrupt(String),
}

/// Why a read failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached, or is closed. Passing: try again.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The revision asked for is no longer kept.
    #[error("the revision is no longer kept; read a new snapshot")]
    Compacted,
    /// The data is damaged; the message names the place.
    #[error("the store is corrupt: {0}")]
    Corrupt(String),
    /// Opening failed because another process has it.
    #[error("{location} is in use by another process{}", pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    Locked {
        /// What was to be opened.
        location: String,
        /// Who has it, where known.
        pid: Option<u32>,
    },
    /// The data was written in a format that this version does not read.
    #[error("{location} has data format {found}; this version reads {supported}")]
    Format {
        /// What was to be opened.
        location: String,
        /// The version found.
        found: String,
        /// The version this build reads.
        supported: u32,
    },
    /// The call took longer than allowed.
    #[error("the store did not answer within {0:?}")]
    Timeout(Duration),
    /// A campaign under a name that another node has, which is alive.
    #[error(
        "another node{} is named `{name}`; give each node its own name",
        address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default()
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Where other nodes reach the node that has it.
        address: Option<String>,
    },
    /// The caller broke a rule of the trait, such as naming a space that was not declared.
    #[error("the request is not acceptable: {0}")]
    Invalid(String),
    /// Opening failed for another reason (permission, not a directory, …).
    #[error("{0}")]
    Open(String),
}
