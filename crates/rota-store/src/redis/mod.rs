//! The store over Redis, version 7 and later, and over Valkey: for many nodes, of which one leads.
//!
//! # Layout
//!
//! The table of keys is in `layout.rs`; `redis-cli --scan --pattern '{rota}:*'` shows them. A batch is one script, and its
//! number is the [`Revision`]. Keys of a space are in a hash for their values and in a sorted set for their order.
//!
//! # Scripts
//!
//! Every operation is one Lua script (`scripts/`), so it is atomic. Redis rolls nothing back, so the commit looks at
//! everything that could refuse it before its first write: the fence, the position, and by their declaration, memory.
//! Each new connection of the writer tries all commands once, so that no missing permission stops a script in its middle.
//!
//! # Fencing
//!
//! The leader's key holds the epoch and a random id, and each batch compares both. The epoch comes from a counter that only
//! grows; the id still tells two leaderships apart where a failover took the counter back. The key expires by the server's
//! clock. That decides only when another node may lead, never who may write. A server's clock that is set forward by more
//! than a fifth of the time to live can make [`Leadership::is_held`] say yes for a moment longer than is true.
//!
//! # Batches that got no answer
//!
//! `writer.rs` tells how it is made certain whether they landed.
//!
//! # Snapshots
//!
//! `snapshot.rs` tells how a revision stays readable while the data changes.
//!
//! # Durability
//!
//! Redis must run with `appendonly yes`, `appendfsync always` and `no-appendfsync-on-rewrite no`, and each connection asks
//! for it. [`RedisDurability::Async`] accepts less, and [`StoreStatus::weakness`] says so.
//!
//! A torn file is written anew after a restart (`torn.rs`).
//!
//! # Failover
//!
//! Redis replicates after it acknowledges. A replica that is promoted can lack acknowledged batches, unless
//! [`RedisOptions::replicas`] has each commit wait for replicas. Rota detects such a loss (`lineage.rs`): a process that has
//! seen batches that the store has not gives up its leadership, logs an error with their number and keeps it in
//! [`Store::lost`]. A failover ends the leadership in any case. The next one begins its epoch
//! and its batches at `config-epoch × 2^32` of Sentinel, so that numbers grow although the store went back.
//!
//! A master that is cut off from its Sentinels serves reads and, without `replicas`, commits until the leader notices (within
//! a second where it reaches a Sentinel). Those reads can be stale and those commits are lost, and told as lost.
//!
//! # What errors mean
//!
//! | error | what happened | what to do |
//! |---|---|---|
//! | [`CommitError::Fenced`] | the leader's key is not the one of this leadership, or batches were found to be missing | step down |
//! | [`CommitError::OutOfOrder`] | the head is not the batch before this one | a bug, or two writers in one process |
//! | [`CommitError::Ambiguous`] | no answer in time, the connection broke, or too few replicas have it | ask for the head, which makes certain |
//! | [`CommitError::Unavailable`] | not sent, or refused before Redis did anything | try again |
//! | [`CommitError::Full`] | `maxmemory` is reached, or Redis cannot write its file | give Redis memory or disk; then it goes on by itself |
//! | [`CommitError::Invalid`] | more changes or bytes than the limits | cut batches by [`Store::limits`] |
//! | [`StoreError::Open`] | Redis is too old or not set up as it must be | change its settings |
//! | [`StoreError::NameTaken`] | another node has this name and renews its entry | give each node its own name |
//! | [`StoreError::Compacted`] | the log does not reach back so far, or the snapshot expired | take a new snapshot |
//! | [`StoreError::Timeout`], [`StoreError::Unavailable`] | Redis was not reached | try again |

mod answer;
mod candidate;
mod changes;
mod connection;
mod fault;
mod fitness;
mod layout;
mod lineage;
mod link;
mod observer;
mod options;
mod position;
mod read;
mod script;
mod seat;
mod sentinel;
mod server;
mod snapshot;
mod status;
mod torn;
mod writer;

use std::sync::{Arc, atomic::AtomicBool};

use async_trait::async_trait;
use bytes::Bytes;

pub use self::options::{RedisDurability, RedisOptions, RedisServers, RedisTls, RedisUser};
use self::{
    candidate::RedisCandidate,
    layout::{FORMAT, Layout},
    link::Link,
    server::Server,
    snapshot::RedisSnapshot,
    writer::{Requests, Writer},
};
use crate::{
    model::{Batch, BatchLimits, Epoch, Fence, Head, Member, Revision, Seat, Space},
    remote::{background::Background, election},
    store::{
        ChangeStream, CommitError, Leadership, LostBatches, Snapshot, Store, StoreError,
        StoreStatus,
    },
    watch,
};

/// The Redis backend.
///
/// [`close`](Store::close) it to give up a leadership at once; dropping it does so too, in the background.
pub struct RedisStore {
    shared: Arc<Shared>,
    requests: Requests,
}

/// What all parts have in common.
struct Shared {
    server: Arc<Server>,
    /// For reads that callers ask for.
    reads: Link,
    /// For the seat, the members and signs of life: used on the control thread alone.
    control: Link,
    /// For questions after the server's health.
    inquiries: Link,
    background: Background,
    leader: watch::Sender<Option<Seat>>,
    /// Who leads, as each look of the observer finds it.
    seen: tokio::sync::watch::Sender<Option<Seat>>,
    /// Which campaign announced that it is ready to take over, and from which leadership.
    ready: tokio::sync::watch::Sender<(String, Epoch)>,
    /// Whether this process was among the members before.
    has_entered: AtomicBool,
}

impl RedisStore {
    /// A store in Redis with these spaces. Must be called within a tokio runtime.
    ///
    /// It neither waits for Redis nor needs it to be there, so that nodes and Redis can be started in any order: until it can
    /// be reached, reads and commits fail with `Unavailable`, campaigns and watches wait.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`] when the options cannot work, or there is no thread to be had.
    pub fn open(options: RedisOptions, spaces: &[Space]) -> Result<Self, StoreError> {
        options.check()?;
        let by_sentinel = matches!(options.servers, RedisServers::Sentinel { .. });
        let layout = Layout::new(&options.prefix, spaces);
        let server = Arc::new(Server::new(options, layout));
        let background = Background::start("redis")?;
        let shared = Arc::new(Shared {
            reads: Link::new(&server),
            control: Link::new(&server),
            inquiries: Link::new(&server),
            server,
            background,
            leader: watch::Sender::default(),
            seen: tokio::sync::watch::Sender::default(),
            ready: tokio::sync::watch::Sender::default(),
            has_entered: AtomicBool::new(false),
        });
        shared.background.spawn_control(observer::run(Arc::clone(&shared)));
        if by_sentinel {
            shared.background.spawn_control(observer::follow_sentinels(Arc::clone(&shared)));
        }
        Ok(Self { requests: Writer::start(&shared), shared })
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.shared.background.stop();
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError> {
        self.requests.commit(fence, batch).await
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        read::values(&self.shared, keys).await
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.requests.head().await
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        Ok(Arc::new(RedisSnapshot::take(&self.shared).await?))
    }

    async fn watch(&self, after: Revision) -> Result<ChangeStream, StoreError> {
        changes::watch(&self.shared, after)
    }

    async fn campaign(&self, me: &Member) -> Result<Box<dyn Leadership>, StoreError> {
        election::campaign(RedisCandidate::new(&self.shared, me)).await
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

    fn lost(&self) -> Option<LostBatches> {
        self.shared.server.lineage.lost()
    }

    fn limits(&self) -> BatchLimits {
        writer::LIMITS
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
        match self.server.foreign_format() {
            Some(found) => Err(StoreError::Format {
                location: self.server.options.location(),
                found,
                supported: FORMAT,
            }),
            None => Ok(()),
        }
    }
}
