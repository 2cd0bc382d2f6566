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
//! | partition of leader and etcd, both ways and each way | [`CutLeaderFromEtcd`], [`DeafenEtcdToLeader`], [`DeafenLeaderToEtcd`] |
//! | partition of leader and workers, both ways and each way | [`CutLeaderFromWorkers`], [`DeafenLeaderToWorkers`], [`DeafenWorkersToLeader`] |
//! | partition of followers, from etcd and from the leader | [`CutFollowerFromEtcd`], [`CutLeaderFromFollowers`] |
//! | SIGKILL of a member of etcd, of the one that leads etcd | [`KillEtcdMember`], [`KillEtcdLeader`] |
//! | loss of etcd's quorum; restart of all of etcd | [`LoseQuorum`], [`RestartEtcd`] |
//! | slow etcd: SIGSTOP in slices | [`SlowEtcd`] |
//! | compaction past who watches | [`CompactPastFollower`] |
//! | etcd is full: NOSPACE | [`FillEtcd`] |
//! | the leader's wall clock jumps, forth and back | [`JumpClock`] |

mod clock;
mod cut;
mod etcd;
mod node;

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use self::cut::Cut;
use crate::cluster::Cluster;

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
    /// No packet passes between the leader and etcd.
    CutLeaderFromEtcd,
    /// What the leader sends does not reach etcd, but what etcd sends reaches it.
    DeafenEtcdToLeader,
    /// What etcd sends does not reach the leader, but what the leader sends reaches etcd.
    DeafenLeaderToEtcd,
    /// No packet passes between the leader and the workers; the other nodes are there.
    CutLeaderFromWorkers,
    /// What workers send does not reach the leader, but what it sends reaches them.
    DeafenLeaderToWorkers,
    /// What the leader sends does not reach the workers, but what they send reaches it.
    DeafenWorkersToLeader,
    /// No packet passes between a follower and etcd.
    CutFollowerFromEtcd,
    /// No packet passes between the leader and the other nodes.
    CutLeaderFromFollowers,
    /// One member of etcd gets SIGKILL, and comes back later.
    KillEtcdMember,
    /// The member that leads etcd gets SIGKILL, and comes back later.
    KillEtcdLeader,
    /// Most members of etcd stand still, so that it can decide nothing.
    LoseQuorum,
    /// All of etcd gets SIGKILL, and comes back.
    RestartEtcd,
    /// All members of etcd stand still for a part of every moment.
    SlowEtcd,
    /// History is compacted up to now, while a follower that needs it stands still.
    CompactPastFollower,
    /// Somebody else fills etcd to its quota, so that it takes no more writes until it is emptied
    /// and its alarm is disarmed.
    FillEtcd,
    /// The leader's wall clock goes an hour forward, then two hours back.
    JumpClock,
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
    CompactPastFollower, CutFollowerFromEtcd, CutLeaderFromEtcd, CutLeaderFromFollowers,
    CutLeaderFromWorkers, DeafenEtcdToLeader, DeafenLeaderToEtcd, DeafenLeaderToWorkers,
    DeafenWorkersToLeader, DrainWorker, EndLeader, FillEtcd, JumpClock, KillAt, KillEtcdLeader,
    KillEtcdMember, KillFollower, KillLeader, KillWorker, LoseQuorum, PauseLeader, RestartEtcd,
    SlowEtcd,
};
use Point::{AfterAnswer, AfterCommit, AfterElection, BeforeAnswer, BeforeCommit, BeforeDispatch};

/// All faults. Those in one row are much alike: a short run takes one of each row.
const ROWS: &[&[Fault]] = &[
    &[KillLeader],
    &[KillAt(BeforeCommit), KillAt(AfterCommit), KillAt(AfterElection)],
    &[KillAt(BeforeDispatch), KillAt(BeforeAnswer), KillAt(AfterAnswer)],
    &[EndLeader],
    &[KillFollower],
    &[KillWorker],
    &[DrainWorker],
    &[PauseLeader],
    &[CutLeaderFromEtcd, DeafenEtcdToLeader, DeafenLeaderToEtcd],
    &[CutLeaderFromWorkers, DeafenLeaderToWorkers, DeafenWorkersToLeader],
    &[CutFollowerFromEtcd, CutLeaderFromFollowers],
    &[KillEtcdMember, KillEtcdLeader],
    &[LoseQuorum],
    &[RestartEtcd],
    &[SlowEtcd, CompactPastFollower],
    &[FillEtcd],
    &[JumpClock],
];

impl Fault {
    /// All there are, in an order of this generator's.
    #[must_use]
    pub fn all(random: &mut fastrand::Rng) -> Vec<Self> {
        let mut faults = ROWS.concat();
        random.shuffle(&mut faults);
        faults
    }

    /// Some of each sort, by choice of this generator.
    #[must_use]
    pub fn selection(random: &mut fastrand::Rng) -> Vec<Self> {
        let mut faults: Vec<_> = ROWS.iter().map(|row| row[random.usize(..row.len())]).collect();
        random.shuffle(&mut faults);
        faults
    }

    /// Whether it cuts links, which not every [`crate::net::Network`] has.
    #[must_use]
    pub fn cuts(self) -> bool {
        matches!(
            self,
            CutLeaderFromEtcd
                | DeafenEtcdToLeader
                | DeafenLeaderToEtcd
                | CutLeaderFromWorkers
                | DeafenLeaderToWorkers
                | DeafenWorkersToLeader
                | CutFollowerFromEtcd
                | CutLeaderFromFollowers
        )
    }

    /// Strikes, holds and heals it.
    ///
    /// # Panics
    /// When it did not strike, or the cluster did not do what it must meanwhile: elect another
    /// leader, above all.
    pub async fn inflict(self, cluster: &mut Cluster, hold: Duration, random: &mut fastrand::Rng) {
        cluster.close_expected_losses().await;
        let leader = cluster.leader().await;
        let follower = (leader + 1 + random.usize(..cluster.nodes.len() - 1)) % cluster.nodes.len();
        let member = random.usize(..cluster.etcd.len());
        match self {
            KillLeader => node::kill_leader(cluster, leader).await,
            KillAt(point) => node::kill_at(cluster, follower, point, random).await,
            EndLeader => node::end_leader(cluster, leader).await,
            KillFollower => node::kill_follower(cluster, follower, hold).await,
            KillWorker => node::kill_worker(cluster, random).await,
            DrainWorker => node::drain_worker(cluster, random).await,
            PauseLeader => node::pause_leader(cluster, leader, hold).await,
            CutLeaderFromEtcd => cut::leader_from_etcd(cluster, leader, Cut::Both, hold).await,
            DeafenEtcdToLeader => cut::leader_from_etcd(cluster, leader, Cut::Out, hold).await,
            DeafenLeaderToEtcd => cut::leader_from_etcd(cluster, leader, Cut::In, hold).await,
            CutLeaderFromWorkers => cut::from_workers(cluster, leader, Cut::Both, hold).await,
            DeafenWorkersToLeader => cut::from_workers(cluster, leader, Cut::Out, hold).await,
            DeafenLeaderToWorkers => cut::from_workers(cluster, leader, Cut::In, hold).await,
            CutFollowerFromEtcd => cut::follower_from_etcd(cluster, follower, hold).await,
            CutLeaderFromFollowers => cut::from_followers(cluster, leader, hold).await,
            KillEtcdMember => etcd::restart(cluster, &[member], hold).await,
            KillEtcdLeader => {
                let member = etcd::leader(cluster).await;
                etcd::restart(cluster, &[member], hold).await;
            }
            RestartEtcd => {
                let all: Vec<_> = (0..cluster.etcd.len()).collect();
                etcd::restart(cluster, &all, hold).await;
            }
            LoseQuorum => etcd::lose_quorum(cluster, hold).await,
            SlowEtcd => etcd::slow(cluster, hold).await,
            CompactPastFollower => etcd::compact_past(cluster, follower, hold).await,
            FillEtcd => etcd::fill(cluster, leader).await,
            JumpClock => clock::jump(cluster, follower, hold).await,
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
