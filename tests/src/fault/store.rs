//! What goes wrong with any shared store: servers that die, stand still, or are slow.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::wait;
use crate::cluster::Cluster;

/// How long a slow server stands still at a time.
const SLICE: Duration = Duration::from_millis(150);
/// The same of a single server that the others do without.
const LONG_SLICE: Duration = Duration::from_millis(900);

/// Kills those servers, and starts them again.
pub(super) async fn restart(cluster: &mut Cluster, servers: &[usize], hold: Duration) {
    for &server in servers {
        cluster.store.servers[server].kill().await;
        assert!(!cluster.store.answers(server).await, "the kill did not strike");
    }
    wait(hold).await;
    cluster.healed = Instant::now();
    for &server in servers {
        cluster.store.servers[server].start();
    }
    cluster.store.is_whole().await;
}

pub(super) async fn lose_quorum(cluster: &mut Cluster, hold: Duration) {
    let stopped = cluster.store.servers.len() / 2 + 1;
    for server in &cluster.store.servers[..stopped] {
        server.signal(Signal::SIGSTOP);
    }
    // The one that is left cannot answer what needs the others.
    assert!(!cluster.store.answers(stopped).await, "the loss of quorum did not strike");
    // Workers may come back later than their sessions last, once there is a leader again.
    wait(hold).await;
    cluster.healed = Instant::now();
    for server in &cluster.store.servers[..stopped] {
        server.signal(Signal::SIGCONT);
    }
    cluster.store.is_whole().await;
}

/// All servers stand still for a part of every moment.
pub(super) async fn slow(cluster: &mut Cluster, hold: Duration) {
    let all: Vec<_> = (0..cluster.store.servers.len()).collect();
    slow_down(cluster, &all, SLICE, hold).await;
}

/// One server stands still for most of the time; the others are well.
pub(super) async fn slow_one(cluster: &mut Cluster, server: usize, hold: Duration) {
    slow_down(cluster, &[server], LONG_SLICE, hold).await;
}

async fn slow_down(cluster: &mut Cluster, servers: &[usize], slice: Duration, hold: Duration) {
    let signal = |signal: Signal| {
        for &server in servers {
            cluster.store.servers[server].signal(signal);
        }
    };
    let slices = async {
        let until = Instant::now() + hold;
        while Instant::now() < until {
            signal(Signal::SIGSTOP);
            wait(slice).await;
            signal(Signal::SIGCONT);
            wait(slice / 3).await;
        }
    };
    // Whoever asks in the meantime waits for the end of a slice, most of the time.
    let questions = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..8 {
            let asked = Instant::now();
            cluster.store.answers(servers[0]).await;
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let ((), slowest) = tokio::join!(slices, questions);
    assert!(slowest > slice / 2, "the store was not slow: it answered within {slowest:?}");
    cluster.healed = Instant::now();
}
