//! What goes wrong with Redis only: failovers, replicas that are behind, files that are torn or cut off, a server that
//! is blocked or full.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::PathBuf,
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::time::{Instant, timeout};

use super::{
    full::{drained, refusal},
    store, wait,
};
use crate::{
    cluster::Cluster,
    process::{LOOK, PATIENCE},
    store::{Backend, redis},
    users,
};

/// How long a blocked server does nothing else: longer than Sentinel waits for an answer.
const BLOCKED: Duration = Duration::from_millis(2500);
/// The same where commits wait for a replica: shorter than Sentinel waits. A failover of a master that lives on loses what only
/// replicas confirm that still follow it.
const BLOCKED_SHORTLY: Duration = Duration::from_millis(1200);
/// Rounds of an empty loop in Lua that take about a millisecond.
const LOOPS_PER_MS: u128 = 100_000;
/// What is cut off the end of a file at most, and at least: some batches.
const CUT_BYTES: std::ops::Range<u64> = 10_000..200_000;
/// The begin of a command that was not written to its end.
const TORN: &[u8] = b"*3\r\n$4\r\nHSET\r\n$100\r\n{rota}:torn";

/// A server that is not the master dies, and comes back.
pub(super) async fn kill_replica(
    cluster: &mut Cluster,
    hold: Duration,
    random: &mut fastrand::Rng,
) {
    let master = cluster.store.leader().await;
    let count = cluster.store.servers.len();
    let replica = (master + random.usize(1..count)) % count;
    store::restart(cluster, &[replica], hold).await;
}

/// The master dies; Sentinel promotes a replica, and the former master comes back as one.
pub(super) async fn kill_master(cluster: &mut Cluster) {
    let master = cluster.store.leader().await;
    cluster.store.servers[master].kill().await;
    another_is_master(cluster, master).await;
    cluster.healed = Instant::now();
    cluster.store.servers[master].start();
    cluster.store.is_whole().await;
}

/// The master stands still until another is promoted, and then goes on as if nothing had been.
pub(super) async fn pause_master(cluster: &mut Cluster) {
    let master = cluster.store.leader().await;
    cluster.store.servers[master].signal(Signal::SIGSTOP);
    another_is_master(cluster, master).await;
    cluster.store.servers[master].signal(Signal::SIGCONT);
    // Work goes on meanwhile, but who asks the former master is told to wait.
    is_replica(cluster, master).await;
    cluster.healed = Instant::now();
}

/// An operator has Sentinel fail over while all is well.
pub(super) async fn fail_over(cluster: &mut Cluster) {
    let master = cluster.store.leader().await;
    let sentinel = &cluster.store.sentinel_addresses()[0];
    let mut look = tokio::time::interval(LOOK);
    let begun = async {
        // Not yet a replica that can be promoted, or the last failover was a moment ago.
        while redis::text(redis::ask(sentinel, &["SENTINEL", "FAILOVER", redis::MASTER]).await)
            .is_none_or(|answer| answer != "OK")
        {
            look.tick().await;
        }
    };
    timeout(PATIENCE, begun).await.expect("Sentinel begins a failover");
    another_is_master(cluster, master).await;
    is_replica(cluster, master).await;
    cluster.healed = Instant::now();
}

/// Replicas hear nothing of the master for a while, then it dies: one that is behind is promoted.
pub(super) async fn promote_behind(cluster: &mut Cluster, hold: Duration) {
    let master = cluster.store.leader().await;
    let servers = &cluster.store.servers;
    let host = servers[master].host.clone();
    let others = (0..servers.len()).filter(|other| *other != master);
    let replicas: Vec<_> = others.map(|other| servers[other].host.clone()).collect();
    for replica in &replicas {
        host.cut(replica);
    }
    wait(hold / 2).await;
    cluster.store.servers[master].kill().await;
    for replica in &replicas {
        host.mend(replica);
    }
    another_is_master(cluster, master).await;
    cluster.healed = Instant::now();
    cluster.store.servers[master].start();
    cluster.store.is_whole().await;
}

/// All replicas stand still, so that no commit has as many of them as it waits for.
pub(super) async fn lose_replicas(cluster: &mut Cluster, hold: Duration) {
    let master = cluster.store.leader().await;
    let replicas: Vec<_> =
        (0..cluster.store.servers.len()).filter(|server| *server != master).collect();
    for &replica in &replicas {
        cluster.store.servers[replica].signal(Signal::SIGSTOP);
    }
    wait(hold).await;
    cluster.healed = Instant::now();
    for &replica in &replicas {
        cluster.store.servers[replica].signal(Signal::SIGCONT);
    }
    cluster.store.is_whole().await;
}

/// The master crashes in the middle of a write that nobody was told of, and is back before Sentinel acts.
pub(super) async fn tear_file(cluster: &mut Cluster) {
    let master = cluster.store.leader().await;
    cluster.store.servers[master].kill().await;
    let file = append_only_file(cluster, master);
    let mut file = OpenOptions::new().append(true).open(file).expect("the file");
    file.write_all(TORN).expect("written");
    cluster.healed = Instant::now();
    cluster.store.servers[master].start();
    cluster.store.is_whole().await;
}

/// The master crashes, and the end of its file is gone, with acknowledged changes in it.
pub(super) async fn cut_file(cluster: &mut Cluster, random: &mut fastrand::Rng) {
    let master = cluster.store.leader().await;
    cluster.store.servers[master].kill().await;
    let file = append_only_file(cluster, master);
    // Another file takes its place: it is kept to find out what was lost.
    let short = file.with_extension("short");
    let length = fs::copy(&file, &short).expect("copied");
    let cut = File::options().write(true).open(&short).expect("the file");
    cut.set_len(length - random.u64(CUT_BYTES).min(length / 2)).expect("cut off");
    fs::rename(&short, &file).expect("renamed");
    cluster.healed = Instant::now();
    cluster.store.servers[master].start();
    cluster.store.is_whole().await;
}

/// A command or a script keeps the server from doing anything else.
#[expect(clippy::print_stdout, reason = "how long it took belongs to the report of a run")]
pub(super) async fn block(cluster: &mut Cluster, random: &mut fastrand::Rng) {
    let server = cluster.store.address(cluster.store.leader().await);
    let mut connection = redis::Connection::to(&server).await.expect("the master");
    let time = match cluster.store.backend {
        Backend::ReplicatedRedis => BLOCKED_SHORTLY,
        _ => BLOCKED,
    };
    let seconds = time.as_secs_f64().to_string();
    let script = format!("for i = 1, {} do end return 1", time.as_millis() * LOOPS_PER_MS);
    let command =
        if random.bool() { vec!["DEBUG", "SLEEP", &seconds] } else { vec!["EVAL", &script, "0"] };
    let blocked = Instant::now();
    let answer = timeout(PATIENCE, connection.ask(&command)).await.expect("it ends");
    println!("    blocked for {:.1?} by {}", blocked.elapsed(), command[0]);
    // The connection is gone if the server was made a replica meanwhile.
    assert!(!matches!(answer, Ok(redis::Value::Error(_))), "{answer:?}");
    cluster.healed = Instant::now();
    cluster.store.is_whole().await;
}

/// `maxmemory` is nearly reached, then reached, then raised.
pub(super) async fn fill(cluster: &mut Cluster, leader: usize) {
    let server = cluster.store.address(cluster.store.leader().await);
    let used = async || {
        let info = redis::text(redis::ask(&server, &["INFO", "memory"]).await).expect("an answer");
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        used.and_then(|used| used.trim().parse::<u64>().ok()).expect("a number of bytes")
    };
    let set = async |bytes: u64| {
        let command = ["CONFIG", "SET", "maxmemory", &bytes.to_string()];
        let answer = redis::text(redis::ask(&server, &command).await);
        assert_eq!(answer.as_deref(), Some("OK"), "maxmemory is set");
    };
    set(used().await + (8 << 20)).await;
    let mut look = tokio::time::interval(LOOK);
    let refused = async {
        loop {
            if let Some(refused) = refusal(cluster, leader).await {
                return refused;
            }
            look.tick().await;
        }
    };
    let refused = timeout(PATIENCE, refused).await.expect("new work is refused");
    assert!(refused.contains("nearly full"), "new work is refused because: {refused}");
    // What was accepted can still run and end. A task whose cancellation was lost runs until it is cancelled again.
    users::cancel_again(&cluster.client(leader)).await;
    drained(cluster, leader).await;
    set(used().await / 2).await;
    let refused = redis::ask(&server, &["SET", "{rota}:filler", "x"]).await;
    let says = matches!(&refused, Ok(redis::Value::Error(error)) if error.starts_with("OOM"));
    assert!(says, "Redis does not say that it is full: {refused:?}");
    wait(Duration::from_secs(1)).await;
    set(0).await;
    cluster.healed = Instant::now();
}

/// The part of its append-only file that grows.
fn append_only_file(cluster: &Cluster, server: usize) -> PathBuf {
    let directory = cluster.file(&format!("r{}", server + 1)).join("appendonlydir");
    let entries = fs::read_dir(directory).expect("it has files").flatten();
    let grows = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let number: u32 = name.strip_suffix(".incr.aof")?.rsplit('.').next()?.parse().ok()?;
        Some((number, entry.path()))
    });
    grows.max().expect("it has one").1
}

/// Waits until the Sentinels have made another server the master.
async fn another_is_master(cluster: &Cluster, former: usize) {
    let mut look = tokio::time::interval(LOOK);
    let promoted = async {
        while cluster.store.leader().await == former {
            look.tick().await;
        }
    };
    timeout(PATIENCE, promoted).await.expect("Sentinel promotes another server");
}

/// Waits until a former master follows the new one.
async fn is_replica(cluster: &Cluster, former: usize) {
    let (server, mut look) = (cluster.store.address(former), tokio::time::interval(LOOK));
    let follows = async {
        while !redis::follows(&server).await {
            look.tick().await;
        }
    };
    timeout(PATIENCE, follows).await.expect("the former master becomes a replica");
}
