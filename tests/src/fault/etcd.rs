//! What goes wrong with etcd only.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, timeout};

use super::{
    full::{drained, refusal},
    wait,
};
use crate::{
    cluster::Cluster,
    process::{LOOK, PATIENCE},
    store::etcd,
};

/// What fills etcd, a piece of it, and where.
const FILLER: usize = 1 << 20;
const FILLERS_MAX: usize = 1024;
const FILL: &str = "fill/";
/// What a node says when it has copied the backlog.
const COPIED: &str = "standing by";

/// The follower stands still, and so loses its connections: when it goes on, it has to ask for changes
/// that can be read no more, and to copy all anew.
pub(super) async fn compact_past(cluster: &mut Cluster, follower: usize, hold: Duration) {
    let copied = cluster.nodes[follower].said(COPIED);
    cluster.nodes[follower].signal(Signal::SIGSTOP);
    wait(hold).await;
    for member in 0..cluster.store.servers.len() {
        cluster.store.servers[member].kill().await;
        cluster.store.servers[member].start();
        cluster.store.is_whole().await;
    }
    // What landed before the last of them was killed, the follower may have been sent, whichever it watched.
    goes_on(cluster).await;
    compact(cluster).await;
    cluster.healed = Instant::now();
    cluster.nodes[follower].signal(Signal::SIGCONT);
    let mut look = tokio::time::interval(LOOK);
    let copies = async {
        while cluster.nodes[follower].said(COPIED) == copied {
            look.tick().await;
        }
    };
    timeout(PATIENCE, copies).await.expect("the compaction struck: it copies all anew");
    cluster.ready(follower).await;
}

/// Fills it until new work is refused, then until it takes nothing, and empties it again. Neither
/// etcd nor a node is started anew, and leadership stays where it is.
pub(super) async fn fill(cluster: &mut Cluster, leader: usize) {
    let mut fillers = 0;
    let refused = loop {
        assert!(fillers < FILLERS_MAX, "etcd has room for ever");
        assert!(put_filler(cluster, fillers).await, "etcd is full, and new work is taken still");
        fillers += 1;
        if let Some(refused) = refusal(cluster, leader).await {
            break refused;
        }
    };
    assert!(refused.contains("near its quota"), "new work is refused because: {refused}");
    // What was accepted can still run and end.
    drained(cluster, leader).await;
    while put_filler(cluster, fillers).await {
        assert!(fillers < FILLERS_MAX, "etcd has room for ever");
        fillers += 1;
    }
    let member = cluster.store.address(0);
    let alarms = etcd::ctl(&member, &["alarm", "list"]).await.unwrap_or_default();
    assert!(alarms.contains("NOSPACE"), "etcd does not say that it is full: {alarms}");
    let refused = refusal(cluster, leader).await;
    assert!(refused.is_some(), "new work is taken though etcd is full");
    empty(cluster).await;
    cluster.healed = Instant::now();
    assert!(cluster.leads(leader).await, "leadership was lost because etcd was full");
}

/// What an operator does: removes what need not be there, compacts, defragments, disarms the alarm.
async fn empty(cluster: &Cluster) {
    let first = cluster.store.address(0);
    assert!(etcd::ctl(&first, &["del", "--prefix", FILL]).await.is_some(), "fillers stay");
    compact(cluster).await;
    for member in 0..cluster.store.servers.len() {
        let defrag = etcd::ctl_with(&cluster.store.address(member), &["defrag"], None).await;
        assert!(defrag.is_some(), "a member of etcd cannot be defragmented");
    }
    let disarmed = etcd::ctl(&first, &["alarm", "disarm"]).await;
    assert!(disarmed.is_some(), "the alarm cannot be disarmed");
}

/// Writes a megabyte that is nobody's; false when there is no room for it.
async fn put_filler(cluster: &Cluster, number: usize) -> bool {
    let (key, value) = (format!("{FILL}{number:04}"), "x".repeat(FILLER));
    etcd::ctl_with(&cluster.store.address(0), &["put", &key], Some(&value)).await.is_some()
}

/// Waits for another batch.
async fn goes_on(cluster: &Cluster) {
    let (_, before) = etcd::head(&cluster.store.address(0)).await;
    let mut look = tokio::time::interval(LOOK);
    let batch = async {
        while etcd::head(&cluster.store.address(0)).await.1 == before {
            look.tick().await;
        }
    };
    timeout(PATIENCE, batch).await.expect("work goes on");
}

/// Compacts history up to now. Who keeps it for the judge is let read it first.
async fn compact(cluster: &Cluster) {
    let member = cluster.store.address(0);
    let (revision, read) = etcd::head(&member).await;
    cluster.history.has_read(read).await;
    // Until its room can be used again: `defrag` gives back no other.
    let physical = ["compact", "--physical", &revision.to_string()];
    let compacted = etcd::ctl_with(&member, &physical, None).await;
    assert!(compacted.is_some(), "nothing was compacted");
}
