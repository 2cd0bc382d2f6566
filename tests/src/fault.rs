//! What goes wrong in a cluster, on purpose. Each fault is struck, verified to have struck, kept up
//! for a while, and healed: a run whose faults did not strike proves nothing.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    cluster::{Cluster, ETCD_PORT, LEADER_TTL, NODE_PORT},
    process::{LOOK, PATIENCE},
};

/// One way in which a cluster can be hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The leader gets SIGKILL, and comes back later.
    KillLeader,
    /// The leader gets SIGTERM, and comes back later.
    EndLeader,
    /// A node that does not lead gets SIGKILL, and comes back later.
    KillFollower,
    /// A worker gets SIGKILL; another takes its place.
    KillWorker,
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
}

use Fault::{
    CompactPastFollower, CutFollowerFromEtcd, CutLeaderFromEtcd, CutLeaderFromFollowers,
    CutLeaderFromWorkers, DeafenEtcdToLeader, DeafenLeaderToEtcd, EndLeader, KillEtcdLeader,
    KillEtcdMember, KillFollower, KillLeader, KillWorker, LoseQuorum, PauseLeader, RestartEtcd,
    SlowEtcd,
};

impl Fault {
    /// All there are.
    pub const ALL: &[Self] = &[
        KillLeader,
        EndLeader,
        KillFollower,
        KillWorker,
        PauseLeader,
        CutLeaderFromEtcd,
        DeafenEtcdToLeader,
        DeafenLeaderToEtcd,
        CutLeaderFromWorkers,
        CutFollowerFromEtcd,
        CutLeaderFromFollowers,
        KillEtcdMember,
        KillEtcdLeader,
        LoseQuorum,
        RestartEtcd,
        SlowEtcd,
        CompactPastFollower,
    ];

    /// Strikes, holds and heals it.
    ///
    /// # Panics
    /// When it did not strike, or the cluster did not do what it must meanwhile: elect another
    /// leader, above all.
    pub async fn inflict(self, cluster: &mut Cluster, hold: Duration, random: &mut fastrand::Rng) {
        let leader = cluster.leader().await;
        let follower = (leader + 1 + random.usize(..cluster.nodes.len() - 1)) % cluster.nodes.len();
        let member = random.usize(..cluster.etcd.len());
        match self {
            KillLeader => {
                cluster.nodes[leader].kill().await;
                let began = Instant::now();
                another_leads(cluster, leader, LEADER_TTL + Duration::from_secs(1), began).await;
                cluster.nodes[leader].start();
                cluster.ready(leader).await;
            }
            EndLeader => {
                cluster.nodes[leader].end().await;
                another_leads(cluster, leader, Duration::from_secs(1), Instant::now()).await;
                cluster.nodes[leader].start();
                cluster.ready(leader).await;
            }
            KillFollower => {
                cluster.nodes[follower].kill().await;
                wait(hold).await;
                cluster.nodes[follower].start();
                cluster.ready(follower).await;
            }
            KillWorker => kill_worker(cluster, random).await,
            PauseLeader => {
                cluster.nodes[leader].signal(Signal::SIGSTOP);
                let began = Instant::now();
                another_leads(cluster, leader, LEADER_TTL + Duration::from_secs(1), began).await;
                wait(hold).await;
                cluster.nodes[leader].signal(Signal::SIGCONT);
                cluster.ready(leader).await;
            }
            CutLeaderFromEtcd | DeafenEtcdToLeader | DeafenLeaderToEtcd => {
                let cut = Cut { out: self != DeafenLeaderToEtcd, back: self != DeafenEtcdToLeader };
                cut.strike(cluster, leader).await;
                let began = Instant::now();
                another_leads(cluster, leader, LEADER_TTL + Duration::from_secs(3), began).await;
                wait(hold).await;
                cut.heal(cluster, leader);
                cluster.ready(leader).await;
            }
            CutFollowerFromEtcd => {
                let cut = Cut { out: true, back: true };
                cut.strike(cluster, follower).await;
                wait(hold).await;
                cut.heal(cluster, follower);
                cluster.ready(follower).await;
            }
            CutLeaderFromWorkers => cut_from_workers(cluster, leader, hold).await,
            CutLeaderFromFollowers => cut_from_followers(cluster, leader, hold).await,
            KillEtcdMember => restart_members(cluster, &[member], hold).await,
            KillEtcdLeader => {
                let member = etcd_leader(cluster).await;
                restart_members(cluster, &[member], hold).await;
            }
            RestartEtcd => {
                let all: Vec<_> = (0..cluster.etcd.len()).collect();
                restart_members(cluster, &all, hold).await;
            }
            LoseQuorum => lose_quorum(cluster, hold).await,
            SlowEtcd => slow_etcd(cluster, hold).await,
            CompactPastFollower => compact_past(cluster, follower, hold).await,
        }
    }
}

async fn wait(time: Duration) {
    sleep_until(Instant::now() + time).await;
}

/// Waits until another node leads, at most for so long from when the leader was lost.
#[expect(clippy::print_stdout, reason = "how long it took belongs to the report of a run")]
async fn another_leads(cluster: &Cluster, former: usize, within: Duration, lost: Instant) {
    let others: Vec<_> = (0..cluster.nodes.len()).filter(|node| *node != former).collect();
    let mut look = tokio::time::interval(LOOK);
    let elected = async {
        loop {
            look.tick().await;
            for &node in &others {
                if cluster.leads(node).await {
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, elected).await.expect("another node leads");
    // A busy machine is given as much again; how long it takes on a quiet one is a measurement.
    let took = lost.elapsed();
    println!("    another leader after {took:.1?} (expected within {within:.1?})");
    assert!(took < within * 2, "another leader only after {took:?}");
}

async fn kill_worker(cluster: &mut Cluster, random: &mut fastrand::Rng) {
    let at = random.usize(..cluster.workers.len());
    let name = cluster.workers.keys().nth(at).expect("a worker").clone();
    let mut worker = cluster.workers.remove(&name).expect("a worker");
    worker.kill().await;
    cluster.excused.insert(name);
    cluster.start_worker();
}

/// A cut between a node and all of etcd.
#[derive(Clone, Copy)]
struct Cut {
    /// What the node sends.
    out: bool,
    /// What etcd sends.
    back: bool,
}

impl Cut {
    async fn strike(self, cluster: &Cluster, node: usize) {
        let node = &cluster.nodes[node].host;
        assert!(node.reaches(&cluster.etcd[0].host, ETCD_PORT).await, "it is cut already");
        for member in &cluster.etcd {
            if self.out {
                node.cut(&member.host);
            }
            if self.back {
                member.host.cut(node);
            }
        }
        for member in &cluster.etcd {
            assert!(!node.reaches(&member.host, ETCD_PORT).await, "the cut did not strike");
        }
    }

    fn heal(self, cluster: &Cluster, node: usize) {
        let node = &cluster.nodes[node].host;
        for member in &cluster.etcd {
            if self.out {
                node.mend(&member.host);
            }
            if self.back {
                member.host.mend(node);
            }
        }
    }
}

async fn cut_from_workers(cluster: &mut Cluster, leader: usize, hold: Duration) {
    let node = cluster.nodes[leader].host.clone();
    for worker in cluster.workers.values() {
        node.cut(&worker.host);
        worker.host.cut(&node);
        assert!(!worker.host.reaches(&node, NODE_PORT).await, "the cut did not strike");
    }
    // They find another way, by the other nodes; but one may be too late for its session.
    cluster.excused.extend(cluster.workers.keys().cloned());
    wait(hold).await;
    for worker in cluster.workers.values() {
        node.mend(&worker.host);
        worker.host.mend(&node);
    }
}

async fn cut_from_followers(cluster: &mut Cluster, leader: usize, hold: Duration) {
    let node = &cluster.nodes[leader].host;
    let others: Vec<_> = (0..cluster.nodes.len())
        .filter(|other| *other != leader)
        .map(|other| &cluster.nodes[other].host)
        .collect();
    for other in &others {
        node.cut(other);
        other.cut(node);
        assert!(!other.reaches(node, NODE_PORT).await, "the cut did not strike");
    }
    // Workers that came by way of a follower have to find the leader itself.
    cluster.excused.extend(cluster.workers.keys().cloned());
    wait(hold).await;
    for other in &others {
        node.mend(other);
        other.mend(node);
    }
}

/// Which member leads etcd.
async fn etcd_leader(cluster: &Cluster) -> usize {
    for member in 0..cluster.etcd.len() {
        let status = cluster.etcdctl(member, &["endpoint", "status", "-w", "json"]).await;
        let status: serde_json::Value =
            status.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let status = &status[0]["Status"];
        if status["leader"].is_number() && status["leader"] == status["header"]["member_id"] {
            return member;
        }
    }
    panic!("no member of etcd says that it leads");
}

async fn restart_members(cluster: &mut Cluster, members: &[usize], hold: Duration) {
    for &member in members {
        cluster.etcd[member].kill().await;
        assert!(!cluster.etcd_answers(member).await, "the kill did not strike");
    }
    wait(hold).await;
    for &member in members {
        cluster.etcd[member].start();
    }
    etcd_is_whole(cluster).await;
}

async fn lose_quorum(cluster: &mut Cluster, hold: Duration) {
    let stopped = cluster.etcd.len() / 2 + 1;
    for member in &cluster.etcd[..stopped] {
        member.signal(Signal::SIGSTOP);
    }
    // The one that is left cannot answer what needs the others.
    assert!(!cluster.etcd_answers(stopped).await, "the loss of quorum did not strike");
    // Workers may come back later than their sessions last, once there is a leader again.
    wait(hold).await;
    for member in &cluster.etcd[..stopped] {
        member.signal(Signal::SIGCONT);
    }
    etcd_is_whole(cluster).await;
}

async fn slow_etcd(cluster: &mut Cluster, hold: Duration) {
    let until = Instant::now() + hold;
    let mut slices = 0;
    while Instant::now() < until {
        for member in &cluster.etcd {
            member.signal(Signal::SIGSTOP);
        }
        wait(Duration::from_millis(150)).await;
        for member in &cluster.etcd {
            member.signal(Signal::SIGCONT);
        }
        wait(Duration::from_millis(50)).await;
        slices += 1;
    }
    assert!(slices > 0, "etcd was never slow");
}

async fn compact_past(cluster: &mut Cluster, follower: usize, hold: Duration) {
    cluster.nodes[follower].signal(Signal::SIGSTOP);
    wait(hold).await;
    let head = cluster.etcdctl(0, &["get", "rota/head", "-w", "json"]).await.expect("the head");
    let head: serde_json::Value = serde_json::from_str(&head).expect("JSON");
    let revision = head["header"]["revision"].to_string();
    assert!(cluster.etcdctl(0, &["compact", &revision]).await.is_some(), "nothing was compacted");
    cluster.nodes[follower].signal(Signal::SIGCONT);
    cluster.ready(follower).await;
}

async fn etcd_is_whole(cluster: &Cluster) {
    let mut look = tokio::time::interval(LOOK);
    let whole = async {
        for member in 0..cluster.etcd.len() {
            while !cluster.etcd_answers(member).await {
                look.tick().await;
            }
        }
    };
    timeout(PATIENCE, whole).await.expect("etcd comes back");
}
