//! What goes wrong with etcd.

use std::time::Duration;

use nix::sys::signal::Signal;
use rota_client::{ClientError, Reason, task};
use tokio::time::{Instant, timeout};

use super::wait;
use crate::{
    cluster::Cluster,
    process::{LOOK, PATIENCE},
};

/// What fills etcd, a piece of it, and where.
const FILLER: usize = 1 << 20;
const FILLERS_MAX: usize = 1024;
const FILL: &str = "fill/";
/// How long a slow etcd stands still at a time.
const SLICE: Duration = Duration::from_millis(150);
/// What a node says when it has copied the backlog.
const COPIED: &str = "standing by";

/// Which member leads etcd.
pub(super) async fn leader(cluster: &Cluster) -> usize {
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

pub(super) async fn restart(cluster: &mut Cluster, members: &[usize], hold: Duration) {
    for &member in members {
        cluster.etcd[member].kill().await;
        assert!(!cluster.etcd_answers(member).await, "the kill did not strike");
    }
    wait(hold).await;
    cluster.healed = Instant::now();
    for &member in members {
        cluster.etcd[member].start();
    }
    is_whole(cluster).await;
}

pub(super) async fn lose_quorum(cluster: &mut Cluster, hold: Duration) {
    let stopped = cluster.etcd.len() / 2 + 1;
    for member in &cluster.etcd[..stopped] {
        member.signal(Signal::SIGSTOP);
    }
    // The one that is left cannot answer what needs the others.
    assert!(!cluster.etcd_answers(stopped).await, "the loss of quorum did not strike");
    // Workers may come back later than their sessions last, once there is a leader again.
    wait(hold).await;
    cluster.healed = Instant::now();
    for member in &cluster.etcd[..stopped] {
        member.signal(Signal::SIGCONT);
    }
    is_whole(cluster).await;
}

pub(super) async fn slow(cluster: &mut Cluster, hold: Duration) {
    let slices = async {
        let until = Instant::now() + hold;
        while Instant::now() < until {
            for member in &cluster.etcd {
                member.signal(Signal::SIGSTOP);
            }
            wait(SLICE).await;
            for member in &cluster.etcd {
                member.signal(Signal::SIGCONT);
            }
            wait(SLICE / 3).await;
        }
    };
    // Whoever asks in the meantime waits for the end of a slice, most of the time.
    let questions = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..8 {
            let asked = Instant::now();
            cluster.etcd_answers(0).await;
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let ((), slowest) = tokio::join!(slices, questions);
    assert!(slowest > SLICE / 2, "etcd was not slow: it answered within {slowest:?}");
    cluster.healed = Instant::now();
}

/// The follower stands still, and so loses its connections: when it goes on, it has to ask for changes
/// that can be read no more, and to copy all anew.
pub(super) async fn compact_past(cluster: &mut Cluster, follower: usize, hold: Duration) {
    let copied = cluster.nodes[follower].said(COPIED);
    cluster.nodes[follower].signal(Signal::SIGSTOP);
    wait(hold).await;
    for member in 0..cluster.etcd.len() {
        cluster.etcd[member].kill().await;
        cluster.etcd[member].start();
        is_whole(cluster).await;
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
    let alarms = cluster.etcdctl(0, &["alarm", "list"]).await.unwrap_or_default();
    assert!(alarms.contains("NOSPACE"), "etcd does not say that it is full: {alarms}");
    let refused = refusal(cluster, leader).await;
    assert!(refused.is_some(), "new work is taken though etcd is full");
    empty(cluster).await;
    cluster.healed = Instant::now();
    assert!(cluster.leads(leader).await, "leadership was lost because etcd was full");
}

/// What an operator does: removes what need not be there, compacts, defragments, disarms the alarm.
async fn empty(cluster: &Cluster) {
    assert!(cluster.etcdctl(0, &["del", "--prefix", FILL]).await.is_some(), "fillers stay");
    compact(cluster).await;
    for member in 0..cluster.etcd.len() {
        let defrag = cluster.etcdctl_within(PATIENCE, member, &["defrag"], None).await;
        assert!(defrag.is_some(), "a member of etcd cannot be defragmented");
    }
    let disarmed = cluster.etcdctl(0, &["alarm", "disarm"]).await;
    assert!(disarmed.is_some(), "the alarm cannot be disarmed");
}

/// Writes a megabyte that is nobody's; false when there is no room for it.
async fn put_filler(cluster: &Cluster, number: usize) -> bool {
    let (key, value) = (format!("{FILL}{number:04}"), "x".repeat(FILLER));
    cluster.etcdctl_within(PATIENCE, 0, &["put", &key], Some(&value)).await.is_some()
}

/// Why the leader takes no new task, if it does not.
async fn refusal(cluster: &Cluster, leader: usize) -> Option<String> {
    let client = cluster.client_of(leader);
    let ask = async {
        loop {
            let probe = task("effect").payload_json(&"k1").id("probe-full");
            match client.create_task(probe).await {
                Ok(_) => return None,
                Err(error) if error.reason() == Some(Reason::StoreFull) => {
                    return Some(error.to_string());
                }
                // On a busy machine an answer may be late. Its name makes it the same task again.
                Err(ClientError::OutcomeUnknown { .. }) => {}
                Err(error) => panic!("a full store is no reason for this: {error:?}"),
            }
        }
    };
    timeout(PATIENCE, ask).await.expect("an answer though the store is full")
}

/// Waits until nothing is left to be done.
async fn drained(cluster: &Cluster, leader: usize) {
    let settled = timeout(PATIENCE, crate::load::settle(&cluster.client(leader))).await;
    assert!(settled.is_ok(), "running work does not end near the quota");
}

/// Compacts history up to now. Who keeps it for the judge is let read it first.
/// The revision of now, and that of the last batch.
async fn head(cluster: &Cluster) -> (i64, i64) {
    let head = cluster.etcdctl(0, &["get", "rota/head", "-w", "json"]).await.expect("the head");
    let head: serde_json::Value = serde_json::from_str(&head).expect("JSON");
    let revision = |place: &serde_json::Value| place.as_i64().expect("a revision");
    (revision(&head["header"]["revision"]), revision(&head["kvs"][0]["mod_revision"]))
}

/// Waits for another batch.
async fn goes_on(cluster: &Cluster) {
    let (_, before) = head(cluster).await;
    let mut look = tokio::time::interval(LOOK);
    let batch = async {
        while head(cluster).await.1 == before {
            look.tick().await;
        }
    };
    timeout(PATIENCE, batch).await.expect("work goes on");
}

async fn compact(cluster: &Cluster) {
    let (revision, read) = head(cluster).await;
    cluster.history.has_read(read).await;
    // Until its room can be used again: `defrag` gives back no other.
    let physical = ["compact", "--physical", &revision.to_string()];
    let compacted = cluster.etcdctl_within(PATIENCE, 0, &physical, None).await;
    assert!(compacted.is_some(), "nothing was compacted");
}

async fn is_whole(cluster: &Cluster) {
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
