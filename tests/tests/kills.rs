//! Nothing that was acknowledged is lost, and nothing ends twice, though server and workers are
//! killed with SIGKILL in the midst of a load; and the totals that its metrics show are exactly this.
//!
//! On Redis and Consul, the leader of a cluster, its workers and the only server of the store are killed.
//!
//! `ROTA_TEST_TASKS` sets how large the load is on the embedded store, and `ROTA_TEST_KILLS` how often each sort of victim
//! is killed on the others: once where nothing is said. `ROTA_TEST_SEED` repeats the choice of victims.

#![expect(
    clippy::print_stdout,
    reason = "the seed repeats a run that fails, and what was killed is worth a line"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rota_client::Client;
use rota_tests::{
    audit::{Ack, Effect, audit},
    cluster::{Cluster, Shape},
    expected_losses::ExpectedLosses,
    history,
    load::{self, Load},
    process::{LOOK, PATIENCE, Server},
    scrape::{hold_totals, scrape},
    store::Backend,
    unfinished,
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// The server is killed so often, spread over the load.
const SERVER_KILLS: usize = 20;
/// And so many workers are.
const WORKER_KILLS: usize = 10;
/// Workers at any time, and what each runs at once.
const WORKERS: usize = 3;
const SLOTS: &str = "64";
/// Clients that submit at once.
const CLIENTS: usize = 4;
/// Tasks submitted and not yet run, at most: the load lasts as long as the kills do.
const BACKLOG: usize = 2000;
/// The whole run ends within.
const DEADLINE: Duration = Duration::from_secs(900);

/// Submitted on a shared store between two kills, at least, and how often each client submits a batch.
const BETWEEN: usize = 500;
const PERIOD: Duration = Duration::from_millis(100);

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_nothing_is_lost_and_nothing_ends_twice() {
    let tasks = usize::try_from(number("ROTA_TEST_TASKS", 50_000)).expect("a number of tasks");
    let seed = number("ROTA_TEST_SEED", fastrand::u64(..));
    println!("{tasks} tasks, seed {seed}");
    let began = Instant::now();
    let server = Server::start(&["--session-ttl", "5s"]).await;
    let run = Run::new(server, tasks, seed);
    let verdict = timeout(DEADLINE, run.play()).await.expect("it ends in time");
    println!("{:.1} s: {verdict}", began.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_on_redis_nothing_is_lost_and_nothing_ends_twice() {
    kill_on(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_on_consul_nothing_is_lost_and_nothing_ends_twice() {
    kill_on(Backend::ConsulWithShortSessions).await;
}

/// Who is killed on a shared store.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Leader,
    Worker,
    Store,
}

async fn kill_on(backend: Backend) {
    let seed = number("ROTA_TEST_SEED", fastrand::u64(..));
    let kills = usize::try_from(number("ROTA_TEST_KILLS", 1)).expect("a number of kills");
    println!("{backend:?}: seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut victims = [Victim::Leader, Victim::Worker, Victim::Store].repeat(kills);
    random.shuffle(&mut victims);
    let shape = Shape { backend, servers: 1, nodes: 2, workers: 2 };
    let mut cluster = Cluster::start(shape, Path::new(env!("CARGO_BIN_EXE_effect-worker"))).await;
    let clients = (0..shape.nodes).map(|first| cluster.client(first)).collect();
    let load = Load::start(clients, load::Kind::Effect, PERIOD);
    for &victim in &victims {
        go_on(&load).await;
        kill(&mut cluster, victim, &mut random).await;
    }
    go_on(&load).await;
    let acks = load.end().await;
    if let Err(left) = unfinished::settled(&cluster, 0, PATIENCE).await {
        panic!("work does not end after {victims:?}:\n{left}");
    }
    let records = load::records(&cluster.client(0)).await;
    let done = audit(&acks, &cluster.effects(), &records, &cluster.expected_losses);
    assert_eq!(done.faults, [], "{victims:?}");
    let written = history::judge(&cluster.history_until_now().await, &records);
    assert_eq!(written.faults, [], "{victims:?}");
    println!(
        "{backend:?}: killed {victims:?}; {} acknowledged tasks completed, each once; {} attempts lost with their worker",
        done.tasks, done.lost
    );
}

/// Waits until so much more was acknowledged.
async fn go_on(load: &Load) {
    let (enough, mut look) = (load.acknowledged() + BETWEEN, tokio::time::interval(LOOK));
    let more = async {
        while load.acknowledged() < enough {
            look.tick().await;
        }
    };
    timeout(PATIENCE, more).await.expect("work goes on");
}

/// Kills it, and has it or another start in its place.
async fn kill(cluster: &mut Cluster, victim: Victim, random: &mut fastrand::Rng) {
    match victim {
        Victim::Leader => {
            let leader = cluster.leader().await;
            cluster.nodes[leader].kill().await;
            cluster.nodes[leader].start();
        }
        Victim::Worker => {
            let at = random.usize(..cluster.workers.len());
            let name = cluster.workers.keys().nth(at).expect("a worker").clone();
            cluster.kill_worker(&name).await;
            cluster.start_worker();
        }
        Victim::Store => {
            cluster.store.servers[0].kill().await;
            cluster.store.servers[0].start();
        }
    }
}

/// The load, the kills and the witnesses.
struct Run {
    server: Server,
    tasks: usize,
    random: fastrand::Rng,
    workers: BTreeMap<String, Child>,
    started: usize,
    killed: usize,
    expected_losses: ExpectedLosses,
}

impl Run {
    fn new(server: Server, tasks: usize, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let (workers, expected_losses) = (BTreeMap::new(), ExpectedLosses::default());
        Self { server, tasks, random, workers, started: 0, killed: 0, expected_losses }
    }

    async fn play(mut self) -> String {
        for _ in 0..WORKERS {
            self.start_worker();
        }
        let ran = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let share = (client..self.tasks).step_by(CLIENTS).collect();
                tokio::spawn(submit(self.server.client(), share, ran.clone()))
            })
            .collect();
        self.kill_along(&ran).await;
        let mut acks = Vec::new();
        for client in clients {
            acks.extend(client.await.expect("a client"));
        }
        load::settle(&self.server.client()).await;
        // What is judged is what a new process finds.
        self.server.kill_and_restart().await;
        let records = load::records(&self.server.client()).await;
        let verdict = audit(&acks, &self.effects(), &records, &self.expected_losses);
        assert_eq!(verdict.faults, [], "{} faults", verdict.faults.len());
        assert_eq!(verdict.tasks, self.tasks);
        hold_totals(&scrape(&self.server.url()).await, &verdict, &records);
        format!(
            "{} acknowledged tasks completed, each once; {} attempts lost with their worker; the \
             handler ran {} times, {} of them under a lost lease; server killed {SERVER_KILLS} \
             times, {} workers killed",
            verdict.tasks, verdict.lost, verdict.effects, verdict.duplicates, self.killed
        )
    }

    fn log(&self, worker: &str) -> PathBuf {
        self.server.home().join(format!("{worker}.effects"))
    }

    fn start_worker(&mut self) {
        self.started += 1;
        let name = format!("w{}", self.started);
        let child = Command::new(env!("CARGO_BIN_EXE_effect-worker"))
            .args([&self.server.url(), &name])
            .arg(self.log(&name))
            .arg(SLOTS)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a worker");
        self.workers.insert(name, child);
    }

    async fn kill_worker(&mut self) {
        let at = self.random.usize(..self.workers.len());
        let name = self.workers.keys().nth(at).expect("a worker").clone();
        let mut worker = self.workers.remove(&name).expect("a worker");
        worker.kill().await.expect("killed");
        // Batches are not looked at here: losses are expected from the beginning on.
        self.expected_losses.killed(&name, 0);
        self.killed += 1;
        self.start_worker();
    }

    /// Kills while the load goes on: each time when so many more tasks have run.
    async fn kill_along(&mut self, ran: &AtomicUsize) {
        // The last kill of the server is after the load.
        let kills = SERVER_KILLS - 1 + WORKER_KILLS;
        let mut is_server: Vec<bool> = (0..kills).map(|kill| kill >= WORKER_KILLS).collect();
        self.random.shuffle(&mut is_server);
        let mut look = tokio::time::interval(LOOK);
        for (kill, is_server) in is_server.into_iter().enumerate() {
            let due = self.tasks * (kill + 1) / (kills + 2);
            loop {
                look.tick().await;
                let count = self.count_effects();
                ran.store(count, Ordering::Relaxed);
                if count >= due {
                    break;
                }
            }
            if is_server {
                self.server.kill_and_restart().await;
            } else {
                self.kill_worker().await;
            }
        }
        ran.store(usize::MAX, Ordering::Relaxed);
    }

    fn logs(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        (1..=self.started).map(|worker| {
            let name = format!("w{worker}");
            // A worker that was killed early has no log.
            let log = fs::read(self.log(&name)).unwrap_or_default();
            (name, log)
        })
    }

    fn count_effects(&self) -> usize {
        let lines = |log: &[u8]| log.iter().filter(|byte| **byte == b'\n').count();
        self.logs().map(|(_, log)| lines(&log)).sum()
    }

    fn effects(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (worker, log) in self.logs() {
            let log = String::from_utf8(log).expect("text");
            let effect = |line| Effect::parse(&worker, line).expect("a whole line");
            effects.extend(log.lines().map(effect));
        }
        effects
    }
}

/// A client: submits its share, as far as the backlog allows.
async fn submit(client: Client, share: Vec<usize>, ran: Arc<AtomicUsize>) -> Vec<Ack> {
    let mut acks = Vec::with_capacity(share.len());
    let mut look = tokio::time::interval(LOOK);
    for batch in share.chunks(load::BATCH) {
        while batch[0] > ran.load(Ordering::Relaxed).saturating_add(BACKLOG) {
            look.tick().await;
        }
        let keys: Vec<String> = batch.iter().map(|number| format!("k{number}")).collect();
        acks.extend(load::submit(&client, load::Kind::Effect, &keys).await);
    }
    acks
}
