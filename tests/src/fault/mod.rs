//! What goes wrong in a cluster, on purpose. Each fault is struck, verified to have struck, kept up
//! for a while, and healed: a run whose faults did not strike proves nothing.
//!
//! | what goes wrong | faults |
//! |---|---|
//! | SIGKILL of the leader, of a follower, of a worker | [`KillLeader`], [`KillFollower`], [`KillWorker`] |
//! | a crash at a named point around a commit | [`KillAt`] each [`Point`] |
//! | SIGTERM of the leader | [`EndLeader`] |
//! | a worker is asked to drain | [`DrainWorker`] |
//! | SIGSTOP of the leader past its lease, then SIGCONT | [`PauseLeader`] |
//! | partition of leader and store, both ways and each way | [`CutLeaderFromStore`], [`DeafenStoreToLeader`], [`DeafenLeaderToStore`] |
//! | partition of leader and workers, both ways and each way | [`CutLeaderFromWorkers`], [`DeafenLeaderToWorkers`], [`DeafenWorkersToLeader`] |
//! | partition of followers, from the store and from the leader | [`CutFollowerFromStore`], [`CutLeaderFromFollowers`] |
//! | SIGKILL of a server of the store, of the one that leads it | [`KillStoreServer`], [`KillStoreLeader`] |
//! | restart of the whole store | [`RestartStore`] |
//! | a slow store, a slow agent: SIGSTOP in slices | [`SlowStore`], [`SlowAgent`] |
//! | loss of quorum (etcd, Consul) | [`LoseQuorum`] |
//! | etcd: compaction past who watches | [`CompactPastFollower`] |
//! | the store is full: NOSPACE of etcd, `maxmemory` of Redis | [`FillStore`] |
//! | Redis: a failover by an operator, of a master that stands still, to a replica that is behind | [`FailOver`], [`PauseMaster`], [`PromoteBehind`] |
//! | Redis: a crash in the middle of a write; the end of the file is gone | [`TearFile`], [`CutFile`] |
//! | Redis: a command or script that takes long | [`BlockStore`] |
//! | Redis: no replica has what commits wait for | [`LoseReplicas`] |
//! | Consul: payloads at their limit | [`LargeValues`] |
//! | the leader's wall clock jumps, forth and back; it is set back five minutes, and a day ahead | [`JumpClock`], [`SetClock`] |
//!
//! After each of them on Redis, what the former master had and the present one has not is held against what the nodes
//! tell of it ([`crate::losses`]).

mod clock;
mod consul;
mod cut;
mod etcd;
mod full;
mod node;
mod redis;
mod store;

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use self::cut::Cut;
use crate::{cluster::Cluster, losses::Before, store::Backend};

/// One way in which a cluster can be hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The leader gets SIGKILL, and comes back later.
    KillLeader,
    /// A node that leads crashes at this point, and comes back later.
    KillAt(Point),
    /// The leader gets SIGTERM, and comes back later.
    EndLeader,
    /// A node that does not lead gets SIGKILL, and comes back later.
    KillFollower,
    /// A worker gets SIGKILL; another takes its place.
    KillWorker,
    /// A worker is asked to drain, and ends; another takes its place.
    DrainWorker,
    /// The leader stands still until another one leads, and then goes on as if nothing had been.
    PauseLeader,
    /// No packet passes between the leader and the store.
    CutLeaderFromStore,
    /// What the leader sends does not reach the store, but what the store sends reaches it.
    DeafenStoreToLeader,
    /// What the store sends does not reach the leader, but what the leader sends reaches the store.
    DeafenLeaderToStore,
    /// No packet passes between the leader and the workers; the other nodes are there.
    CutLeaderFromWorkers,
    /// What workers send does not reach the leader, but what it sends reaches them.
    DeafenLeaderToWorkers,
    /// What the leader sends does not reach the workers, but what they send reaches it.
    DeafenWorkersToLeader,
    /// No packet passes between a follower and the store.
    CutFollowerFromStore,
    /// No packet passes between the leader and the other nodes.
    CutLeaderFromFollowers,
    /// One server of the store gets SIGKILL, and comes back later.
    KillStoreServer,
    /// The server that leads the store gets SIGKILL, and comes back later.
    KillStoreLeader,
    /// All servers of the store get SIGKILL, and come back.
    RestartStore,
    /// All servers of the store stand still for a part of every moment.
    SlowStore,
    /// The server that the leader asks first stands still for most of the time.
    SlowAgent,
    /// Most servers of the store stand still, so that it can decide nothing.
    LoseQuorum,
    /// History is compacted up to now, while a follower that needs it stands still.
    CompactPastFollower,
    /// The store is filled to its limit, so that it takes no more writes until there is room again.
    FillStore,
    /// An operator has Sentinel fail over.
    FailOver,
    /// The master stands still until Sentinel has promoted a replica, and then goes on as if nothing had been.
    PauseMaster,
    /// The master dies when its replicas have heard nothing of it for a while.
    PromoteBehind,
    /// The master crashes in the middle of a write, and is back at once.
    TearFile,
    /// The master crashes, and the end of its file is gone.
    CutFile,
    /// One command keeps the master from doing anything else.
    BlockStore,
    /// All replicas stand still.
    LoseReplicas,
    /// Tasks have payloads as large as can be.
    LargeValues,
    /// The leader's wall clock goes an hour forward, then two hours back.
    JumpClock,
    /// The leader's wall clock is set back by five minutes and set right, and then a day ahead and set right.
    SetClock,
}

/// A fault that has struck, and what may have been lost by it.
#[must_use]
#[derive(Debug)]
pub struct Struck(Option<Before>);

impl Struck {
    /// Finds out what was lost, and what nodes tell of it. That takes time in which work goes on, so whoever measures how
    /// soon work goes on does that first.
    ///
    /// # Panics
    /// When nodes tell of more than was lost, or do not tell of it.
    pub async fn account(self, cluster: &mut Cluster) {
        if let Some(before) = self.0 {
            before.compare(cluster).await;
        }
    }
}

/// A moment in a node's life at which it can be made to crash: the names are the node's own, see
/// `fail_point.rs` in `rota-engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// It has won the election and read nothing yet.
    AfterElection,
    /// A batch is made, and not yet sent to the store.
    BeforeCommit,
    /// A batch has landed, and nobody has heard of it.
    AfterCommit,
    /// The same, and the next batch is on its way.
    BeforeDispatch,
    /// Tasks of the batch have gone to workers, and no client has its answer.
    BeforeAnswer,
    /// The last answer of the batch was given.
    AfterAnswer,
}

use Fault::{
    BlockStore, CompactPastFollower, CutFile, CutFollowerFromStore, CutLeaderFromFollowers,
    CutLeaderFromStore, CutLeaderFromWorkers, DeafenLeaderToStore, DeafenLeaderToWorkers,
    DeafenStoreToLeader, DeafenWorkersToLeader, DrainWorker, EndLeader, FailOver, FillStore,
    JumpClock, KillAt, KillFollower, KillLeader, KillStoreLeader, KillStoreServer, KillWorker,
    LargeValues, LoseQuorum, LoseReplicas, PauseLeader, PauseMaster, PromoteBehind, RestartStore,
    SetClock, SlowAgent, SlowStore, TearFile,
};
use Point::{AfterAnswer, AfterCommit, AfterElection, BeforeAnswer, BeforeCommit, BeforeDispatch};

/// Faults of every store. Those in one row are much alike: a short run takes one of each row.
const ROWS: &[&[Fault]] = &[
    &[KillLeader],
    &[KillAt(BeforeCommit), KillAt(AfterCommit), KillAt(AfterElection)],
    &[KillAt(BeforeDispatch), KillAt(BeforeAnswer), KillAt(AfterAnswer)],
    &[EndLeader],
    &[KillFollower],
    &[KillWorker],
    &[DrainWorker],
    &[PauseLeader],
    &[CutLeaderFromStore, DeafenStoreToLeader, DeafenLeaderToStore],
    &[CutLeaderFromWorkers, DeafenLeaderToWorkers, DeafenWorkersToLeader],
    &[CutFollowerFromStore, CutLeaderFromFollowers],
    &[KillStoreServer, KillStoreLeader],
    &[RestartStore],
    &[JumpClock, SetClock],
];
/// Those of one store only.
const ETCD: &[&[Fault]] = &[&[LoseQuorum], &[SlowStore, CompactPastFollower], &[FillStore]];
const REDIS: &[&[Fault]] = &[
    &[PromoteBehind],
    &[CutFile],
    &[TearFile],
    &[FailOver, PauseMaster],
    &[SlowStore, BlockStore],
    &[FillStore],
];
/// Without a failover of a master that lives on: it loses what only replicas confirm that still follow it.
const REPLICATED_REDIS: &[&[Fault]] =
    &[&[TearFile], &[SlowStore, BlockStore], &[FillStore], &[LoseReplicas]];
const CONSUL: &[&[Fault]] = &[&[LoseQuorum], &[SlowStore, SlowAgent], &[LargeValues]];

impl Fault {
    fn rows(backend: Backend) -> Vec<&'static [Self]> {
        let own = match backend {
            Backend::Etcd | Backend::Etcd35 => ETCD,
            Backend::Redis => REDIS,
            Backend::ReplicatedRedis => REPLICATED_REDIS,
            Backend::Consul | Backend::ConsulWithShortSessions => CONSUL,
        };
        [ROWS, own].concat()
    }

    /// All there are for that store, in an order of this generator's.
    #[must_use]
    pub fn all(backend: Backend, random: &mut fastrand::Rng) -> Vec<Self> {
        let mut faults = Self::rows(backend).concat();
        random.shuffle(&mut faults);
        faults
    }

    /// Some of each sort, by choice of this generator.
    #[must_use]
    pub fn selection(backend: Backend, random: &mut fastrand::Rng) -> Vec<Self> {
        let rows = Self::rows(backend).into_iter();
        let mut faults: Vec<_> = rows.map(|row| row[random.usize(..row.len())]).collect();
        random.shuffle(&mut faults);
        faults
    }

    /// Whether it strikes the store; Redis can lose something by each of them.
    fn is_of_store(self) -> bool {
        matches!(
            self,
            KillStoreServer
                | KillStoreLeader
                | RestartStore
                | SlowStore
                | FillStore
                | FailOver
                | PauseMaster
                | PromoteBehind
                | TearFile
                | CutFile
                | BlockStore
                | LoseReplicas
                | LoseQuorum
                | SlowAgent
                | CompactPastFollower
                | LargeValues
        )
    }

    /// Whether it cuts links, which not every [`crate::net::Network`] has.
    #[must_use]
    pub fn cuts(self) -> bool {
        matches!(
            self,
            CutLeaderFromStore
                | DeafenStoreToLeader
                | DeafenLeaderToStore
                | CutLeaderFromWorkers
                | DeafenLeaderToWorkers
                | DeafenWorkersToLeader
                | CutFollowerFromStore
                | CutLeaderFromFollowers
                | PromoteBehind
        )
    }

    /// Strikes, holds and heals it.
    ///
    /// # Panics
    /// When it did not strike, or the cluster did not do what it must meanwhile: elect another
    /// leader, above all.
    pub async fn inflict(
        self,
        cluster: &mut Cluster,
        hold: Duration,
        random: &mut fastrand::Rng,
    ) -> Struck {
        cluster.close_expected_losses().await;
        if !self.is_of_store() {
            self.strike_nodes(cluster, hold, random).await;
            return Struck(None);
        }
        let before = match cluster.store.backend.is_redis() {
            true => Some(Before::keep(cluster).await),
            false => None,
        };
        self.strike_store(cluster, hold, random).await;
        Struck(before)
    }

    async fn strike_nodes(self, cluster: &mut Cluster, hold: Duration, random: &mut fastrand::Rng) {
        let leader = cluster.leader().await;
        let follower = (leader + 1 + random.usize(..cluster.nodes.len() - 1)) % cluster.nodes.len();
        match self {
            KillLeader => node::kill_leader(cluster, leader).await,
            KillAt(point) => node::kill_at(cluster, follower, point, random).await,
            EndLeader => node::end_leader(cluster, leader).await,
            KillFollower => node::kill_follower(cluster, follower, hold).await,
            KillWorker => node::kill_worker(cluster, random).await,
            DrainWorker => node::drain_worker(cluster, random).await,
            PauseLeader => node::pause_leader(cluster, leader, hold).await,
            CutLeaderFromStore => cut::leader_from_store(cluster, leader, Cut::Both, hold).await,
            DeafenStoreToLeader => cut::leader_from_store(cluster, leader, Cut::Out, hold).await,
            DeafenLeaderToStore => cut::leader_from_store(cluster, leader, Cut::In, hold).await,
            CutLeaderFromWorkers => cut::from_workers(cluster, leader, Cut::Both, hold).await,
            DeafenWorkersToLeader => cut::from_workers(cluster, leader, Cut::Out, hold).await,
            DeafenLeaderToWorkers => cut::from_workers(cluster, leader, Cut::In, hold).await,
            CutFollowerFromStore => cut::follower_from_store(cluster, follower, hold).await,
            CutLeaderFromFollowers => cut::from_followers(cluster, leader, hold).await,
            JumpClock => clock::jump(cluster, follower, hold).await,
            SetClock => clock::set_wrong(cluster, follower, hold).await,
            _ => unreachable!("a fault of the store"),
        }
    }

    async fn strike_store(self, cluster: &mut Cluster, hold: Duration, random: &mut fastrand::Rng) {
        let leader = cluster.leader().await;
        let is_redis = cluster.store.backend.is_redis();
        match self {
            KillStoreServer if is_redis => redis::kill_replica(cluster, hold, random).await,
            KillStoreServer => {
                let server = random.usize(..cluster.store.servers.len());
                store::restart(cluster, &[server], hold).await;
            }
            KillStoreLeader if is_redis => redis::kill_master(cluster).await,
            KillStoreLeader => {
                let server = cluster.store.leader().await;
                store::restart(cluster, &[server], hold).await;
            }
            RestartStore => {
                let all: Vec<_> = (0..cluster.store.servers.len()).collect();
                store::restart(cluster, &all, hold).await;
            }
            SlowStore => store::slow(cluster, hold).await,
            // All nodes name the servers in this order.
            SlowAgent => store::slow_one(cluster, 0, hold).await,
            LoseQuorum => store::lose_quorum(cluster, hold).await,
            CompactPastFollower => {
                let others = cluster.nodes.len() - 1;
                let follower = (leader + 1 + random.usize(..others)) % cluster.nodes.len();
                etcd::compact_past(cluster, follower, hold).await;
            }
            FillStore if is_redis => redis::fill(cluster, leader).await,
            FillStore => etcd::fill(cluster, leader).await,
            FailOver => redis::fail_over(cluster).await,
            PauseMaster => redis::pause_master(cluster).await,
            PromoteBehind => redis::promote_behind(cluster, hold).await,
            TearFile => redis::tear_file(cluster).await,
            CutFile => redis::cut_file(cluster, random).await,
            BlockStore => redis::block(cluster, random).await,
            LoseReplicas => redis::lose_replicas(cluster, hold).await,
            LargeValues => consul::large_values(cluster, random).await,
            _ => unreachable!("a fault of nodes"),
        }
    }
}

impl Point {
    /// As `ROTA_FAIL_POINT` names it.
    fn name(self) -> &'static str {
        match self {
            AfterElection => "after-election",
            BeforeCommit => "before-commit",
            AfterCommit => "after-commit",
            BeforeDispatch => "before-dispatch",
            BeforeAnswer => "before-answer",
            AfterAnswer => "after-answer",
        }
    }
}

async fn wait(time: Duration) {
    sleep_until(Instant::now() + time).await;
}
