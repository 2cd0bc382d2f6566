//! Cuts in the network.

use std::time::Duration;

use tokio::time::Instant;

use super::{node::another_leads, wait};
use crate::{
    cluster::{Cluster, NODE_PORT, SESSION_TTL},
    net::Host,
};

/// What a leader that hears nothing needs beyond its lease's time to be replaced.
const TAKEOVER: Duration = Duration::from_secs(3);

/// A worker that may be heard again needs so long to be connected.
const CONNECTS: Duration = Duration::from_secs(2);

/// Which way nothing passes, seen from the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Neither way.
    Both,
    /// What it sends is lost.
    Out,
    /// What is sent to it is lost.
    In,
}

impl Cut {
    async fn strike(self, node: &Host, others: &[(Host, u16)]) {
        for (other, port) in others {
            assert!(node.reaches(other, *port).await, "it is cut already");
            if self != Self::In {
                node.cut(other);
            }
            if self != Self::Out {
                other.cut(node);
            }
            assert!(!node.reaches(other, *port).await, "the cut did not strike");
        }
    }

    fn heal(self, node: &Host, others: &[(Host, u16)]) {
        for (other, _) in others {
            if self != Self::In {
                node.mend(other);
            }
            if self != Self::Out {
                other.mend(node);
            }
        }
    }
}

pub(super) async fn leader_from_store(
    cluster: &mut Cluster,
    leader: usize,
    cut: Cut,
    hold: Duration,
) {
    let (node, store) = (cluster.nodes[leader].host.clone(), cluster.store.places());
    cut.strike(&node, &store).await;
    let within = cluster.store.backend.seat_is_free_within() + TAKEOVER;
    another_leads(cluster, leader, within, Instant::now()).await;
    wait(hold).await;
    cluster.healed = Instant::now();
    cut.heal(&node, &store);
    cluster.ready(leader).await;
}

pub(super) async fn follower_from_store(cluster: &mut Cluster, follower: usize, hold: Duration) {
    let (node, store) = (cluster.nodes[follower].host.clone(), cluster.store.places());
    Cut::Both.strike(&node, &store).await;
    wait(hold).await;
    cluster.healed = Instant::now();
    Cut::Both.heal(&node, &store);
    cluster.ready(follower).await;
}

pub(super) async fn from_workers(cluster: &mut Cluster, leader: usize, cut: Cut, hold: Duration) {
    let node = &cluster.nodes[leader].host;
    // Nobody listens at a worker: that nothing passes shows from its side.
    let workers: Vec<_> = cluster.workers.values().map(|worker| worker.host.clone()).collect();
    let seen_from_worker = match cut {
        Cut::Both => Cut::Both,
        Cut::Out => Cut::In,
        Cut::In => Cut::Out,
    };
    let leader = [(node.clone(), NODE_PORT)];
    for worker in &workers {
        seen_from_worker.strike(worker, &leader).await;
    }
    // They find another way, by the other nodes; but one may be too late for its session.
    expect_losses(cluster);
    wait(hold).await;
    healed(cluster);
    for worker in &workers {
        seen_from_worker.heal(worker, &leader);
    }
}

/// All workers are cut off from where they were connected.
fn expect_losses(cluster: &mut Cluster) {
    let last = cluster.history.last_batch();
    cluster.expected_losses.cut_off(cluster.workers.keys(), last);
}

fn healed(cluster: &mut Cluster) {
    cluster.healed = Instant::now();
    cluster.expected_losses.healed(cluster.healed + SESSION_TTL + CONNECTS);
}

pub(super) async fn from_followers(cluster: &mut Cluster, leader: usize, hold: Duration) {
    let node = cluster.nodes[leader].host.clone();
    let others: Vec<_> = (0..cluster.nodes.len())
        .filter(|other| *other != leader)
        .map(|other| (cluster.nodes[other].host.clone(), NODE_PORT))
        .collect();
    Cut::Both.strike(&node, &others).await;
    // Workers that came by way of a follower have to find the leader itself.
    expect_losses(cluster);
    wait(hold).await;
    healed(cluster);
    Cut::Both.heal(&node, &others);
}
