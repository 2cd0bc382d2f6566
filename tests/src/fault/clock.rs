//! Wall clocks that jump. libfaketime stands between a node and its C library and shifts what
//! `CLOCK_REALTIME` says by what a file says; `CLOCK_MONOTONIC` is left alone, as a kernel leaves it
//! alone when its date is set.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, timeout};

use super::{node, wait};
use crate::{
    cluster::Cluster,
    process::{LOOK, PATIENCE},
};

/// How far it jumps, either way.
const JUMP_S: i64 = 3600;
/// How far it is set wrong: back, and ahead.
const WRONG_S: [i64; 2] = [-300, 86_400];
/// Dates are alike when they differ by no more.
const ALIKE_S: i64 = 30;

/// Where Debian's package has it, for one of many architectures.
fn library() -> PathBuf {
    let library = |directory: fs::DirEntry| directory.path().join("faketime/libfaketime.so.1");
    let found = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(library);
    found.into_iter().find(|path| path.is_file()).expect("libfaketime: run tests/install.sh")
}

/// A node whose clock can be set leads; its clock goes forward and far back; then a node with a right
/// clock takes over from it.
pub(super) async fn jump(cluster: &mut Cluster, node: usize, hold: Duration) {
    let offset = lead(cluster, node).await;
    let (_, epoch) = leads_since(cluster, node).await;
    for seconds in [JUMP_S, -JUMP_S] {
        set(&offset, seconds);
        shows(cluster, node, seconds).await;
        wait(hold / 2).await;
        leads_on(cluster, node, epoch).await;
    }
    // What it wrote with a date far ahead is the business of one with another clock.
    set(&offset, JUMP_S);
    shows(cluster, node, JUMP_S).await;
    wait(hold / 2).await;
    node::kill_leader(cluster, node).await;
}

/// A node whose clock can be set leads; its clock is wrong for a while, and right again, in each of two ways.
pub(super) async fn set_wrong(cluster: &mut Cluster, node: usize, hold: Duration) {
    let offset = lead(cluster, node).await;
    let (_, epoch) = leads_since(cluster, node).await;
    for seconds in WRONG_S {
        set(&offset, seconds);
        shows(cluster, node, seconds).await;
        wait(hold / 2).await;
        set(&offset, 0);
        shows(cluster, node, 0).await;
        leads_on(cluster, node, epoch).await;
    }
    cluster.healed = Instant::now();
}

/// A node whose clock can be set leads. Gives the file that sets it.
async fn lead(cluster: &mut Cluster, node: usize) -> PathBuf {
    let (library, offset) = (library(), cluster.file(&format!("clock-{node}")));
    set(&offset, 0);
    let variables = [
        ("LD_PRELOAD", library.to_str().expect("a path of text")),
        ("FAKETIME_TIMESTAMP_FILE", offset.to_str().expect("a path of text")),
        ("FAKETIME_CACHE_DURATION", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    node::lead_with(cluster, node, &variables).await;
    // It was handed leadership, and need not have taken it yet.
    let mut look = tokio::time::interval(LOOK);
    let led = async {
        while !cluster.leads(node).await {
            look.tick().await;
        }
    };
    timeout(PATIENCE, led).await.expect("the node leads");
    shows(cluster, node, 0).await;
    offset
}

async fn leads_on(cluster: &Cluster, node: usize, epoch: u64) {
    let now = leads_since(cluster, node).await;
    assert_eq!(now, (true, epoch), "a jump of the wall clock cost leadership");
}

/// In one step, for it may be read at any time.
fn set(file: &Path, seconds: i64) {
    let new = file.with_extension("new");
    fs::write(&new, format!("{seconds:+}\n")).expect("written");
    fs::rename(&new, file).expect("renamed");
}

/// Waits until the node's clock is off by so much.
async fn shows(cluster: &Cluster, node: usize, seconds: i64) {
    let mut look = tokio::time::interval(LOOK);
    let shown = async {
        loop {
            look.tick().await;
            let info = cluster.server_info(node).await;
            let Some(now) = info.and_then(|info| info.now) else { continue };
            let right = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a date");
            let off = now.seconds - i64::try_from(right.as_secs()).expect("a date");
            if (off - seconds).abs() <= ALIKE_S {
                return;
            }
        }
    };
    timeout(PATIENCE, shown).await.expect("the clock is set: the jump struck");
}

/// Whether it leads, and since when.
async fn leads_since(cluster: &Cluster, node: usize) -> (bool, u64) {
    let epoch = cluster.server_info(node).await.map(|info| info.epoch);
    (cluster.leads(node).await, epoch.unwrap_or_default())
}
