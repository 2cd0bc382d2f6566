//! Nodes and workers that die, end or stand still.

use std::time::Duration;

use nix::sys::signal::Signal;
use rota_client::v1::{DrainWorkerRequest, TransferLeadershipRequest};
use tokio::time::{Instant, timeout};

use super::{Point, wait};
use crate::{
    cluster::{Cluster, node_name},
    process::{LOOK, PATIENCE},
};

/// What a takeover may take beyond the time after which the seat becomes free.
const TAKEOVER: Duration = Duration::from_secs(1);

pub(super) async fn kill_leader(cluster: &mut Cluster, leader: usize) {
    cluster.nodes[leader].kill().await;
    another_leads(
        cluster,
        leader,
        cluster.store.backend.seat_is_free_within() + TAKEOVER,
        Instant::now(),
    )
    .await;
    cluster.healed = Instant::now();
    cluster.nodes[leader].start();
    cluster.ready(leader).await;
}

/// A node is started anew so that it will crash at that point, and is made the leader.
pub(super) async fn kill_at(
    cluster: &mut Cluster,
    node: usize,
    point: Point,
    random: &mut fastrand::Rng,
) {
    // Election comes once to a process, the others with each batch.
    let time = if point == Point::AfterElection { 1 } else { random.usize(1..30) };
    let armed = format!("{}:{time}", point.name());
    lead_with(cluster, node, &[("ROTA_FAIL_POINT", &armed)]).await;
    cluster.nodes[node].dies_of(Signal::SIGABRT).await;
    another_leads(
        cluster,
        node,
        cluster.store.backend.seat_is_free_within() + TAKEOVER,
        Instant::now(),
    )
    .await;
    cluster.healed = Instant::now();
    cluster.nodes[node].start();
    cluster.ready(node).await;
}

/// Starts a follower anew with these variables, and hands leadership to it.
pub(super) async fn lead_with(cluster: &mut Cluster, node: usize, variables: &[(&str, &str)]) {
    cluster.nodes[node].kill().await;
    cluster.nodes[node].start_with(variables);
    cluster.ready(node).await;
    let request = || TransferLeadershipRequest { to: Some(node_name(node)) };
    let mut look = tokio::time::interval(LOOK);
    let handed = async {
        // Not yet a member, or the former leader has just gone: then it is asked again.
        while cluster.client(node + 1).transfer_leadership(request()).await.is_err() {
            look.tick().await;
        }
    };
    timeout(PATIENCE, handed).await.expect("leadership is handed over");
}

pub(super) async fn end_leader(cluster: &mut Cluster, leader: usize) {
    cluster.nodes[leader].end().await;
    another_leads(cluster, leader, TAKEOVER, Instant::now()).await;
    cluster.healed = Instant::now();
    cluster.nodes[leader].start();
    cluster.ready(leader).await;
}

pub(super) async fn kill_follower(cluster: &mut Cluster, follower: usize, hold: Duration) {
    cluster.nodes[follower].kill().await;
    wait(hold).await;
    cluster.healed = Instant::now();
    cluster.nodes[follower].start();
    cluster.ready(follower).await;
}

pub(super) async fn kill_worker(cluster: &mut Cluster, random: &mut fastrand::Rng) {
    let at = random.usize(..cluster.workers.len());
    let name = cluster.workers.keys().nth(at).expect("a worker").clone();
    cluster.kill_worker(&name).await;
    cluster.healed = Instant::now();
    cluster.start_worker();
}

/// A worker that is asked to drain ends what it runs and then itself; it loses nothing.
pub(super) async fn drain_worker(cluster: &mut Cluster, random: &mut fastrand::Rng) {
    let at = random.usize(..cluster.workers.len());
    let name = cluster.workers.keys().nth(at).expect("a worker").clone();
    let request = || DrainWorkerRequest { worker: name.clone() };
    let mut look = tokio::time::interval(LOOK);
    let drained = async {
        while cluster.client(0).drain_worker(request()).await.is_err() {
            look.tick().await;
        }
    };
    timeout(PATIENCE, drained).await.expect("the worker is asked to drain");
    cluster.workers.remove(&name).expect("a worker").ends().await;
    cluster.healed = Instant::now();
    cluster.start_worker();
}

pub(super) async fn pause_leader(cluster: &mut Cluster, leader: usize, hold: Duration) {
    cluster.nodes[leader].signal(Signal::SIGSTOP);
    another_leads(
        cluster,
        leader,
        cluster.store.backend.seat_is_free_within() + TAKEOVER,
        Instant::now(),
    )
    .await;
    wait(hold).await;
    cluster.healed = Instant::now();
    cluster.nodes[leader].signal(Signal::SIGCONT);
    cluster.ready(leader).await;
}

/// Waits until another node leads, at most for so long from when the leader was lost.
#[expect(clippy::print_stdout, reason = "how long it took belongs to the report of a run")]
pub(super) async fn another_leads(
    cluster: &Cluster,
    former: usize,
    within: Duration,
    lost: Instant,
) {
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
