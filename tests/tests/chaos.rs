//! A cluster under load on each shared store, hurt again and again: nothing acknowledged is lost, nothing ends twice, no
//! lease is honoured twice, and work goes on soon after each fault. Where Redis acknowledges before its replicas have a
//! change, some is lost by design: then every loss is told with its number.
//!
//! Each process runs on a host of its own, which takes root. Without it all are on the loopback interface,
//! and the faults that cut links are left out, which the run says.
//!
//! `make chaos` runs it with these settings: `ROTA_TEST_SEED` repeats the plan of the faults.
//! `ROTA_TEST_DURATION` (`90s`, `10m`, `1h`) has all of them strike, and again and again for that long;
//! without it, some of each sort strike once on etcd, and a few of their own kind on the other stores. `ROTA_TEST_FAULTS` names those that are to strike, as they
//! are printed or by how they begin, with commas between; `ROTA_TEST_LOG` says what the nodes log, and
//! `ROTA_TEST_KEEP` leaves all logs behind, as a run that fails does anyway.

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

use rota_client::{Client, task};
use rota_tests::{
    audit::{self, Probe, audit},
    cluster::{Cluster, Shape},
    fault::Fault,
    history,
    load::{self, BATCH, Kind, Load},
    losses::{self, Losses},
    process::LOOK,
    pull_worker::PullWorker,
    report::Report,
    schedules::{self, Schedules},
    store::Backend,
    ticks, unfinished,
    users::{self, Experience, Users},
};
use tokio::time::timeout;

/// After a fault is healed, a task that is submitted then is done within this time, on a machine that
/// is busy with everything else; what is expected of a quiet one is a lease's time and a second.
const LIVE_WITHIN: Duration = Duration::from_secs(10);
/// How long a fault lasts, beyond what it takes to strike.
const HOLD: Duration = Duration::from_secs(3);
/// How long workers hear nothing of the leader, or nobody of the store: longer than a session lives without
/// its worker.
const LONG_HOLD: Duration = Duration::from_secs(8);
/// How long there is no quorum, in a run that is given its time.
const OUTAGE: Duration = Duration::from_secs(30);
/// The clients, and how often each submits a batch, unless the run is so long that the store would
/// not hold what it leaves.
const CLIENTS: usize = 3;
/// Users who cancel, retry and read.
const USERS: usize = 3;
const PERIOD: Duration = Duration::from_millis(400);
const TASKS_MAX: usize = 150_000;
/// Schedules with a tick each second, in a short run and at most. A longer run has so many that their ticks are no more
/// than `TASKS_MAX`.
const FEW_SCHEDULES: usize = 20;
const MANY_SCHEDULES: usize = 1000;
/// A run that strikes each fault once takes about so long.
const ROUND: Duration = Duration::from_secs(150);
/// The plan of a short run.
const SHORT_SEED: u64 = 1;
/// After the last fault, all work ends within this time.
const ENDS_WITHIN: Duration = Duration::from_secs(120);
/// What the ids of probes begin with.
const PROBE: &str = "probe-";

/// What the environment asks for.
struct Plan {
    seed: u64,
    random: fastrand::Rng,
    duration: Option<Duration>,
    only: Vec<String>,
    /// What strikes where nothing is asked for; empty: some of each sort.
    short: Vec<Fault>,
}

impl Plan {
    /// The plan of that seed, where the environment names none, with these faults where it selects none.
    fn read(seed: Option<u64>, short: &[Fault]) -> Self {
        let setting = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
        let told = setting("ROTA_TEST_SEED").map(|text| text.parse().expect("a number"));
        let seed = told.or(seed).unwrap_or_else(|| fastrand::u64(..));
        let only = setting("ROTA_TEST_FAULTS").unwrap_or_default();
        Self {
            seed,
            random: fastrand::Rng::with_seed(seed),
            duration: setting("ROTA_TEST_DURATION").map(|text| duration(&text)),
            only: only.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            short: short.to_vec(),
        }
    }

    /// The faults of the next round.
    fn round(&mut self, cluster: &Cluster) -> Vec<Fault> {
        let can = |fault: &Fault| cluster.has_links() || !fault.cuts();
        let backend = cluster.store.backend;
        if self.duration.is_none() && self.only.is_empty() {
            let faults = match self.short.is_empty() {
                true => Fault::selection(backend, &mut self.random),
                false => self.short.clone(),
            };
            return faults.into_iter().filter(can).collect();
        }
        let mut faults = Fault::all(backend, &mut self.random);
        faults.retain(can);
        let named = |fault: &Fault| {
            let name = format!("{fault:?}");
            self.only.is_empty() || self.only.iter().any(|only| name.starts_with(only))
        };
        faults.retain(named);
        assert!(
            !faults.is_empty(),
            "no fault that can strike here has such a name: {:?}",
            self.only
        );
        faults
    }

    fn hold(&self, fault: Fault) -> Duration {
        match fault {
            Fault::LoseQuorum if self.duration.is_some() => OUTAGE,
            Fault::LoseQuorum
            | Fault::CutLeaderFromWorkers
            | Fault::DeafenLeaderToWorkers
            | Fault::DeafenWorkersToLeader => LONG_HOLD,
            _ => HOLD,
        }
    }

    fn schedules(&self) -> usize {
        if let Some(count) = env::var("ROTA_TEST_SCHEDULES").ok().filter(|text| !text.is_empty()) {
            return count.parse().expect("a number");
        }
        let Some(duration) = self.duration else { return FEW_SCHEDULES };
        let seconds = duration.max(ROUND).as_secs();
        MANY_SCHEDULES.min(TASKS_MAX / usize::try_from(seconds).expect("a short time"))
    }

    fn period(&self) -> Duration {
        let batches = u32::try_from(TASKS_MAX / BATCH / CLIENTS).expect("few batches");
        PERIOD.max(self.duration.unwrap_or_default() / batches)
    }
}

/// A number and a unit; seconds without one.
fn duration(text: &str) -> Duration {
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    let seconds = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        other => panic!("no unit of time: {other}"),
    };
    Duration::from_secs(digits.parse::<u64>().expect("a number and a unit") * seconds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hurt_in_every_way_nothing_is_lost_and_nothing_ends_twice() {
    hurt(Backend::Etcd, Plan::read(None, &[])).await;
}

/// Each commit waits for a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hurt_in_every_way_nothing_is_lost_on_redis_with_replicas() {
    let short = [Fault::KillStoreLeader, Fault::PauseLeader, Fault::TearFile];
    hurt(Backend::ReplicatedRedis, Plan::read(Some(SHORT_SEED), &short)).await;
}

/// Commits do not wait for replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hurt_in_every_way_each_loss_of_redis_is_told() {
    let short = [Fault::PromoteBehind, Fault::CutFile, Fault::KillLeader];
    hurt(Backend::Redis, Plan::read(Some(SHORT_SEED), &short)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hurt_in_every_way_nothing_is_lost_on_consul() {
    let short = [Fault::KillStoreLeader, Fault::LargeValues, Fault::LoseQuorum];
    hurt(Backend::ConsulWithShortSessions, Plan::read(Some(SHORT_SEED), &short)).await;
}

/// Schedules with a tick each second, while leaders are killed, stand still, are cut off and hand over, and while their
/// clocks are wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hurt_in_every_way_each_tick_of_a_schedule_is_decided_once() {
    let short = [Fault::PauseLeader, Fault::SetClock, Fault::EndLeader];
    let mut plan = Plan::read(Some(SHORT_SEED), &short);
    println!("ROTA_TEST_SEED={} repeats this plan", plan.seed);
    let shape = Shape { backend: Backend::Etcd, servers: 3, nodes: 3, workers: 2 };
    let mut cluster = Cluster::start(shape, Path::new(env!("CARGO_BIN_EXE_effect-worker"))).await;
    cluster.leader().await;
    let schedules = Schedules::create(&cluster.url(0), "effect", plan.schedules()).await;
    let began = Instant::now();
    loop {
        for fault in plan.round(&cluster) {
            // It waits for the end of all work near the quota, and ticks create more until the store is full.
            if fault == Fault::FillStore {
                continue;
            }
            println!("{:6.1} s: {fault:?}", began.elapsed().as_secs_f64());
            let hold = plan.hold(fault);
            fault.inflict(&mut cluster, hold, &mut plan.random).await.account(&mut cluster).await;
            let decided_after = schedules.catch_up(&cluster.url(1)).await;
            println!("    all ticks are decided after {decided_after:.1?}");
        }
        if plan.duration.is_none_or(|duration| began.elapsed() >= duration) {
            break;
        }
    }
    schedules.pause(&cluster.url(0)).await;
    settle(&cluster).await;
    let (told, records) =
        (schedules.told(&cluster.url(0)).await, load::records(&cluster.client(0)).await);
    let history = cluster.history_until_now().await;
    let verdict = ticks::judge(&history, &told, schedules::now_s());
    println!(
        "{} schedules: {} ticks decided, {} fired",
        verdict.schedules, verdict.ticks, verdict.fired
    );
    let mut shown = verdict.faults.clone();
    shown.truncate(10);
    assert_eq!(shown, [], "{} promises were broken", verdict.faults.len());
    assert_eq!(verdict.schedules, plan.schedules());
    // Each tick that fired has one task, which is there in the end.
    let theirs = records.iter().map(|record| record.id.clone());
    let theirs: std::collections::BTreeSet<_> =
        theirs.filter(|id| schedules::is_theirs(id)).collect();
    assert_eq!(theirs.symmetric_difference(&verdict.ids).next(), None);
    // Leaders wrote as they may.
    assert_eq!(history::judge(&history, &[]).faults, []);
}

#[expect(clippy::print_stdout, reason = "what struck belongs to the report of a run")]
async fn hurt(backend: Backend, mut plan: Plan) {
    println!("{backend:?}: ROTA_TEST_SEED={} repeats this plan", plan.seed);
    let shape = Shape { backend, servers: 3, nodes: 3, workers: 3 };
    let mut cluster = Cluster::start(shape, Path::new(env!("CARGO_BIN_EXE_effect-worker"))).await;
    let clients = (0..CLIENTS).map(|first| cluster.client(first)).collect();
    let load = Load::start(clients, Kind::Effect, plan.period());
    let users = Users::start((0..USERS).map(|first| cluster.client(first)).collect(), plan.seed);
    let pull_worker = PullWorker::start(cluster.client(1)).await;
    let pulled = Load::start(vec![cluster.client(2)], Kind::Pulled, plan.period() * 4);
    let began = Instant::now();
    let mut probes = Vec::new();
    loop {
        for fault in plan.round(&cluster) {
            let before = load.acknowledged();
            println!("{:6.1} s: {fault:?}", began.elapsed().as_secs_f64());
            let hold = plan.hold(fault);
            let struck = fault.inflict(&mut cluster, hold, &mut plan.random).await;
            let done_after = probe(&cluster.client(0), cluster.healed).await;
            println!(
                "    alive {done_after:.1?} after it was healed; {} tasks acknowledged meanwhile",
                load.acknowledged() - before
            );
            probes.push(Probe { after: format!("{fault:?}"), done_after });
            struck.account(&mut cluster).await;
        }
        if plan.duration.is_none_or(|duration| began.elapsed() >= duration) {
            break;
        }
    }
    let mut acks = ended(&cluster, "clients", load.end()).await;
    acks.extend(ended(&cluster, "clients of the pull worker", pulled.end()).await);
    let experience = ended(&cluster, "users", users.end()).await;
    if backend == Backend::Redis {
        users::cancel_again(&cluster.client(0)).await;
    }
    settle(&cluster).await;
    cluster.close_expected_losses().await;
    let pulled = pull_worker.end().await;
    let report = judge(&cluster, &acks, pulled, experience, probes).await;
    println!("{backend:?}\n{report}ROTA_TEST_SEED={} repeats the plan of this run", plan.seed);
    assert_eq!(report.broken(), [], "promises were broken");
}

/// Waits for the end of what was told to stop.
async fn ended<T>(cluster: &Cluster, who: &str, end: impl Future<Output = T>) -> T {
    match timeout(ENDS_WITHIN, end).await {
        Ok(result) => result,
        Err(_) => panic!("{who} do not come to an end:\n{}", unfinished::left(cluster, 0).await),
    }
}

/// Waits until nothing is left to be done.
async fn settle(cluster: &Cluster) {
    if let Err(left) = unfinished::settled(cluster, 0, ENDS_WITHIN).await {
        panic!("work does not end:\n{left}");
    }
}

/// Has all witnesses heard.
async fn judge(
    cluster: &Cluster,
    acks: &[audit::Ack],
    pulled: Vec<audit::Effect>,
    mut experience: Experience,
    probes: Vec<Probe>,
) -> Report {
    let (mut records, mut effects) = (load::records(&cluster.client(0)).await, cluster.effects());
    effects.extend(pulled);
    experience.compare(&records);
    // Probes are in nobody's books, and users keep books of their own.
    records.retain(|record| !record.id.starts_with(PROBE) && !users::is_theirs(&record.id));
    effects.retain(|effect| !effect.id.starts_with(PROBE));
    let history = cluster.history_until_now().await;
    let mut written = history::judge(&history, &records);
    let dropped = cluster.history.dropped();
    let lost = cluster.losses.iter().map(|loss| &loss.batches).chain(&dropped);
    written.faults.extend(losses::recurring(&history, lost.map(Vec::as_slice)));
    let done = audit(acks, &effects, &records, &cluster.expected_losses);
    let mut losses = Losses::new(&cluster.losses, &dropped, acks);
    if cluster.store.backend == Backend::ReplicatedRedis {
        losses.excuse_nothing();
    }
    Report::new(probes, LIVE_WITHIN, done, written, &experience, losses)
}

/// Work goes on: a task that is submitted now is done soon after it all was healed. `None`: it was not
/// for a long time.
async fn probe(client: &Client, healed: tokio::time::Instant) -> Option<Duration> {
    let id = format!("{PROBE}{}", fastrand::u64(..));
    let alive = async {
        let task = || task("effect").id(&id).payload_json(&"k1");
        let mut look = tokio::time::interval(LOOK);
        // Refused by a node that has not yet heard that it is over: its name makes a repeat safe.
        while client.create_task(task()).await.is_err() {
            look.tick().await;
        }
        client.wait_task(&id).await.expect("it ends")
    };
    timeout(LIVE_WITHIN * 3, alive).await.ok().map(|_| healed.elapsed())
}
