//! A store that stands still now and then: no healthy worker loses a task, every call is answered within its
//! deadline, and service is back to normal soon after each stall.
//!
//! The embedded store stands still at each commit while a file exists (see `fail_point.rs` in `rota-engine`);
//! the shared ones do by SIGSTOP. The figures are printed; on a quiet machine they are what `docs/performance.md` tells.
//! `ROTA_TEST_STALLS` says how often each stall strikes. Where nothing is said, each strikes once, and on Redis and Consul
//! only the longest.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::sys::signal::Signal;
use rota_client::{
    Client, task,
    v1::{ListQueuesRequest, Queue},
};
use rota_tests::{
    audit::{Effect, audit},
    cluster::{Cluster, Shape},
    expected_losses::ExpectedLosses,
    load::{self, Kind, Load},
    process::{LOOK, Server},
    store::Backend,
};
use tokio::{
    process::{Child, Command},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, interval, sleep_until},
};

/// Shorter than the longest stall.
const SESSION_TTL: Duration = Duration::from_secs(3);
const STALLS: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(8)];
/// Between two stalls.
const CALM: Duration = Duration::from_secs(3);
/// A call is answered within this time, if only to say that it can't be done now: the server's own deadline
/// of fifteen seconds and what a busy machine needs.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// Service is normal again within this time after a stall, on a busy machine. The goal on a quiet one is a
/// second.
const NORMAL_WITHIN: Duration = Duration::from_secs(6);
/// A call that takes no longer is as quick as without a stall, on a busy machine.
const QUICK: Duration = Duration::from_millis(250);
const PERIOD: Duration = Duration::from_millis(250);
const PROBE_PERIOD: Duration = Duration::from_millis(50);

/// A service whose store can be made to stand still.
enum Service {
    Embedded(
        Box<Server>,
        #[expect(dead_code, reason = "the worker, which is killed when this is dropped")] Child,
    ),
    Shared(Box<Cluster>),
}

impl Service {
    async fn embedded() -> Self {
        let ttl = format!("--session-ttl={}s", SESSION_TTL.as_secs());
        let stall = |home: &Path| {
            vec![("ROTA_STALL_FILE".to_owned(), stall_file(home).display().to_string())]
        };
        let server = Server::start_with(&[&ttl], stall).await;
        server.ready().await;
        let worker = Command::new(env!("CARGO_BIN_EXE_effect-worker"))
            .args([server.url(), "w1".to_owned(), effects_file(&server).display().to_string()])
            .arg("32")
            .env("ROTA_TEST_LONG_EVERY", "32")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a worker");
        Self::Embedded(Box::new(server), worker)
    }

    async fn shared(backend: Backend) -> Self {
        let shape = Shape { backend, servers: 1, nodes: 1, workers: 1 };
        let worker = Path::new(env!("CARGO_BIN_EXE_effect-worker"));
        Self::Shared(Box::new(Cluster::start_with(shape, worker, SESSION_TTL).await))
    }

    fn client(&self) -> Client {
        match self {
            Self::Embedded(server, _) => server.client(),
            Self::Shared(cluster) => cluster.client(0),
        }
    }

    /// A client that tries nothing twice: it hears what the server answers.
    fn impatient(&self) -> Client {
        let url = match self {
            Self::Embedded(server, _) => server.url(),
            Self::Shared(cluster) => cluster.url(0),
        };
        let builder = Client::builder([url]).patience(Duration::ZERO);
        builder.request_timeout(ANSWERED_WITHIN).build().expect("an address")
    }

    /// The store stands still for so long.
    async fn stall(&self, time: Duration) {
        let until = Instant::now() + time;
        match self {
            Self::Embedded(server, _) => {
                fs::write(stall_file(server.home()), "").expect("written");
                sleep_until(until).await;
                fs::remove_file(stall_file(server.home())).expect("removed");
            }
            Self::Shared(cluster) => {
                cluster.store.servers[0].signal(Signal::SIGSTOP);
                sleep_until(until).await;
                cluster.store.servers[0].signal(Signal::SIGCONT);
            }
        }
    }

    fn effects(&self) -> Vec<Effect> {
        match self {
            Self::Shared(cluster) => cluster.effects(),
            Self::Embedded(server, _) => {
                let log = fs::read_to_string(effects_file(server)).expect("effects");
                log.lines().map(|line| Effect::parse("w1", line).expect("a whole line")).collect()
            }
        }
    }
}

fn stall_file(home: &Path) -> PathBuf {
    home.join("stalled")
}

fn effects_file(server: &Server) -> PathBuf {
    server.home().join("effects")
}

/// A call of the probe.
#[derive(Debug, Clone, Copy)]
struct Call {
    asked: Instant,
    took: Duration,
}

/// Clients that come at a steady pace, whether or not those before them have their answers, and measure how
/// long each answer takes, good or bad. Half create a task, half ask for the queues.
struct Probe {
    stop: watch::Sender<bool>,
    calls: JoinHandle<Vec<Call>>,
}

impl Probe {
    fn start(client: Client) -> Self {
        let (stop, told) = watch::channel(false);
        let calls = tokio::spawn(async move {
            let (mut calls, mut tick) = (JoinSet::new(), interval(PROBE_PERIOD));
            while !*told.borrow() {
                tick.tick().await;
                let client = client.clone();
                let creates = calls.len() % 2 == 0;
                calls.spawn(async move {
                    let asked = Instant::now();
                    // A refusal is an answer as well: what counts is when it comes.
                    if creates {
                        let _ = client.create_task(task("nobody").queue("probes")).await;
                    } else {
                        let _ = client.list_queues(ListQueuesRequest::default()).await;
                    }
                    Call { asked, took: asked.elapsed() }
                });
            }
            calls.join_all().await
        });
        Self { stop, calls }
    }

    async fn end(self) -> Vec<Call> {
        self.stop.send_replace(true);
        self.calls.await.expect("the probe")
    }
}

/// What a stall did.
struct Stalled {
    time: Duration,
    healed: Instant,
    /// Until a task that was created then was done.
    done_after: Duration,
    /// Tasks that were acknowledged in the second before the stall, and in the one after it.
    rates: (usize, usize),
}

impl Stalled {
    /// How long after the stall calls were slow for the last time: slower than [`QUICK`].
    fn slow_until(&self, calls: &[Call]) -> Duration {
        let after = |call: &&Call| call.asked >= self.healed && call.asked < self.healed + CALM;
        let slow = calls.iter().filter(after).filter(|call| call.took > QUICK);
        slow.map(|call| call.asked + call.took - self.healed).max().unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_stands_still_now_and_then() {
    stand_still(Service::embedded().await, "embedded", &STALLS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_stands_still_now_and_then() {
    stand_still(Service::shared(Backend::Etcd).await, "etcd", &STALLS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stands_still_now_and_then() {
    stand_still(Service::shared(Backend::Redis).await, "redis", few()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consul_stands_still_now_and_then() {
    let service = Service::shared(Backend::ConsulWithShortSessions).await;
    stand_still(service, "consul", few()).await;
}

/// How often each stall strikes, if somebody says so.
fn asked() -> Option<usize> {
    env::var("ROTA_TEST_STALLS").ok().map(|text| text.parse().expect("a number"))
}

/// The longest stall, in which sessions and the leader's seat run out, where nothing else is asked for.
fn few() -> &'static [Duration] {
    if asked().is_some() { &STALLS } else { &STALLS[STALLS.len() - 1..] }
}

#[expect(clippy::print_stdout, reason = "the figures belong to the report of a run")]
async fn stand_still(service: Service, name: &str, times: &[Duration]) {
    let rounds = asked().unwrap_or(1);
    let load = Load::start(vec![service.client()], Kind::Effect, PERIOD);
    let probe = Probe::start(service.impatient());
    let mut stalls = Vec::new();
    for &time in times.iter().cycle().take(times.len() * rounds) {
        sleep_until(Instant::now() + CALM).await;
        let before = acknowledged_within_a_second(&load).await;
        service.stall(time).await;
        let healed = Instant::now();
        let (done_after, after) =
            tokio::join!(normal_after(&service), acknowledged_within_a_second(&load));
        stalls.push(Stalled { time, healed, done_after, rates: (before, after) });
    }
    sleep_until(Instant::now() + CALM).await;
    let calls = probe.end().await;
    for stall in &stalls {
        let Stalled { time, done_after, rates: (before, after), .. } = stall;
        let slow_until = stall.slow_until(&calls);
        println!(
            "{name}: stall of {time:?}: a task was done {done_after:.2?} after it, calls were slow until \
             {slow_until:.2?} after it; {before} tasks acknowledged in the second before, {after} in the one after"
        );
    }
    let slowest = calls.iter().map(|call| call.took).max().unwrap_or_default();
    let acks = load.end().await;
    let client = service.client();
    settle(&client).await;
    let mut records = load::records(&client).await;
    let own: std::collections::BTreeSet<_> = acks.iter().map(|ack| ack.id.as_str()).collect();
    records.retain(|record| own.contains(record.id.as_str()));
    // Nobody was killed or cut off: no lease may be lost.
    let verdict = audit(&acks, &service.effects(), &records, &ExpectedLosses::default());
    println!("{name}: {} tasks, slowest answer {slowest:.2?}", verdict.tasks);
    assert_eq!(verdict.faults, []);
    assert!(slowest <= ANSWERED_WITHIN, "an answer took {slowest:?}");
    let back = stalls.iter().map(|stall| stall.done_after.max(stall.slow_until(&calls)));
    let slow: Vec<_> = back.filter(|took| *took > NORMAL_WITHIN).collect();
    assert!(slow.is_empty(), "back to normal only after {slow:?}");
}

async fn acknowledged_within_a_second(load: &Load) -> usize {
    let before = load.acknowledged();
    sleep_until(Instant::now() + Duration::from_secs(1)).await;
    load.acknowledged() - before
}

/// How long after the stall a task that is submitted then takes to be done.
async fn normal_after(service: &Service) -> Duration {
    let (healed, client) = (Instant::now(), service.impatient());
    let mut look = interval(LOOK);
    loop {
        look.tick().await;
        // In a queue of its own, behind nothing.
        let new = task("fails-first").queue("fresh").max_attempts(1);
        let Ok(created) = client.create_task(new).await else { continue };
        if client.wait_task(&created.id).await.is_ok() {
            return healed.elapsed();
        }
    }
}

/// Waits until the load's tasks are done; those of the probe are nobody's.
async fn settle(client: &Client) {
    let mut look = interval(LOOK);
    loop {
        look.tick().await;
        let queues = client.list_queues(ListQueuesRequest::default()).await.expect("queues").queues;
        let busy = |queue: &&Queue| queue.name != "probes";
        if queues
            .iter()
            .filter(busy)
            .all(|queue| queue.pending + queue.running + queue.scheduled == 0)
        {
            return;
        }
    }
}
