//! A cluster under load, hurt again and again: nothing acknowledged is lost, nothing ends twice, no
//! lease is honoured twice, and work goes on soon after each fault.
//!
//! Each process runs on a network of its own, so this needs root. `ROTA_TEST_SEED` repeats the order
//! of the faults, `ROTA_TEST_SECONDS` sets how long they go on; without it, each fault strikes once.

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

use rota_client::{Client, task};
use rota_tests::{
    audit::audit,
    cluster::{Cluster, Shape},
    fault::Fault,
    load::{self, Load},
};
use tokio::time::timeout;

/// After a fault is healed, a task that is submitted then is done within this time.
const LIVE_WITHIN: Duration = Duration::from_secs(30);
/// How long a fault lasts, beyond what it takes to strike.
const HOLD: Duration = Duration::from_secs(4);
/// The clients, and how often each submits a batch.
const CLIENTS: usize = 3;
const PERIOD: Duration = Duration::from_millis(250);
/// What the ids of probes begin with.
const PROBE: &str = "probe-";

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hurt_in_every_way_nothing_is_lost_and_nothing_ends_twice() {
    let seed = number("ROTA_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    let seconds = number("ROTA_TEST_SECONDS").map(Duration::from_secs);
    let mut random = fastrand::Rng::with_seed(seed);
    println!("seed {seed}");
    let shape = Shape { etcd: 3, nodes: 3, workers: 3 };
    let mut cluster = Cluster::start(shape, Path::new(env!("CARGO_BIN_EXE_effect-worker"))).await;
    let clients = (0..CLIENTS).map(|first| cluster.client(first)).collect();
    let load = Load::start(clients, PERIOD);
    let began = Instant::now();
    loop {
        let mut faults = Fault::ALL.to_vec();
        random.shuffle(&mut faults);
        for fault in faults {
            let before = load.acknowledged();
            println!("{:6.1} s: {fault:?}", began.elapsed().as_secs_f64());
            fault.inflict(&mut cluster, HOLD, &mut random).await;
            let healed = Instant::now();
            probe(&cluster.client(0)).await;
            println!(
                "    alive {:.1?} after it was healed; {} tasks acknowledged meanwhile",
                healed.elapsed(),
                load.acknowledged() - before
            );
        }
        if seconds.is_none_or(|seconds| began.elapsed() >= seconds) {
            break;
        }
    }
    let acks = load.end().await;
    let client = cluster.client(0);
    load::settle(&client).await;
    let (mut records, mut effects) = (load::records(&client).await, cluster.effects());
    // Probes are asked for by nobody's books.
    records.retain(|record| !record.id.starts_with(PROBE));
    effects.retain(|effect| !effect.id.starts_with(PROBE));
    let verdict = audit(&acks, &effects, &records, &cluster.excused);
    assert_eq!(verdict.faults, [], "{} faults", verdict.faults.len());
    println!(
        "{} acknowledged tasks completed, each once; {} attempts lost with their worker; the \
         handler ran {} times, {} of them under a lost lease",
        verdict.tasks, verdict.lost, verdict.effects, verdict.duplicates
    );
}

/// Work goes on: a task that is submitted now is done soon.
async fn probe(client: &Client) {
    let id = format!("{PROBE}{}", fastrand::u64(..));
    let alive = async {
        let task = task("effect").id(&id).payload_json(&"k1");
        client.create_task(task).await.expect("it is accepted");
        client.wait_task(&id).await.expect("it ends")
    };
    let done = timeout(LIVE_WITHIN, alive).await;
    assert!(done.is_ok(), "a task was not done within {LIVE_WITHIN:?} of the healing");
}
