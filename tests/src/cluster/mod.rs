//! A cluster of real processes, each on a host of its own: the servers of a shared store, nodes, and workers
//! that write down what they ran.

mod hosted;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rota_client::{
    Client,
    v1::{GetServerInfoRequest, ServerInfo},
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep_until, timeout};

pub use self::hosted::Process;
use crate::{
    audit::Effect,
    expected_losses::ExpectedLosses,
    history::{Loss, Revision},
    net::Network,
    process::{LOOK, PATIENCE, rota},
    recorder::Recorder,
    store::{Backend, Store, consul, etcd, redis},
};

/// Where nodes serve.
pub const NODE_PORT: u16 = 7420;
/// A worker that is not heard of for so long loses what it has.
pub const SESSION_TTL: Duration = Duration::from_secs(5);
/// Of so many keys (`k7`, `k135` and so on), one is of a task that runs for seven seconds: longer than a
/// session lives without its worker.
const LONG_EVERY: usize = 128;

/// What a cluster is made of.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The store that the nodes share.
    pub backend: Backend,
    /// Servers of the store.
    pub servers: usize,
    /// Nodes.
    pub nodes: usize,
    /// Workers.
    pub workers: usize,
}

/// The cluster. All of it is gone when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The store that the nodes share.
    pub store: Store,
    /// Nodes.
    pub nodes: Vec<Process>,
    /// Workers that run, by name.
    pub workers: BTreeMap<String, Process>,
    /// Workers that may have lost what they ran, and when.
    pub expected_losses: ExpectedLosses,
    /// What the store lost.
    pub losses: Vec<Loss>,
    /// When what went wrong last was no longer so.
    pub healed: Instant,
    /// What was written to the store, from the beginning.
    pub history: Recorder,
    workers_started: usize,
    program: PathBuf,
    home: TempDir,
    // After the processes, which are on it.
    network: Network,
}

impl Cluster {
    /// Starts all of it and waits until every node can serve. `worker` is the program that runs
    /// tasks: `worker URLS NAME LOG SLOTS`.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start(shape: Shape, worker: &Path) -> Self {
        Self::start_with(shape, worker, SESSION_TTL).await
    }

    /// The same, with sessions that live for so long without their worker.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start_with(shape: Shape, worker: &Path, session_ttl: Duration) -> Self {
        Self::start_all(&rota(), shape, worker, session_ttl, Store::options).await
    }

    /// The same with nodes of any version.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start_as(program: &Path, shape: Shape, worker: &Path) -> Self {
        Self::start_all(program, shape, worker, SESSION_TTL, Store::options_of_all_versions).await
    }

    async fn start_all(
        program: &Path,
        shape: Shape,
        worker: &Path,
        session_ttl: Duration,
        options: fn(&Store) -> Vec<String>,
    ) -> Self {
        let (mut network, home) = (Network::new(), tempfile::tempdir().expect("a directory"));
        let store = Store::new(shape.backend, &mut network, shape.servers, home.path());
        let nodes =
            nodes(program, &mut network, shape.nodes, &options(&store), session_ttl, home.path());
        let history = Recorder::start(&store);
        let mut cluster = Self {
            healed: Instant::now(),
            history,
            store,
            nodes,
            workers: BTreeMap::new(),
            expected_losses: ExpectedLosses::default(),
            losses: Vec::new(),
            workers_started: 0,
            program: worker.to_owned(),
            home,
            network,
        };
        cluster.store.start().await;
        cluster.nodes.iter_mut().for_each(Process::start);
        for node in 0..shape.nodes {
            cluster.ready(node).await;
        }
        for _ in 0..shape.workers {
            cluster.start_worker();
        }
        cluster
    }

    /// Where a node is.
    #[must_use]
    pub fn url(&self, node: usize) -> String {
        format!("http://{}:{NODE_PORT}", self.nodes[node].host.address())
    }

    /// A client of all nodes, which begins with this one.
    ///
    /// # Panics
    /// Never: the addresses are ones.
    #[must_use]
    pub fn client(&self, first: usize) -> Client {
        let count = self.nodes.len();
        let urls = (0..count).map(|at| self.url((first + at) % count));
        Client::builder(urls).patience(PATIENCE).build().expect("addresses")
    }

    /// A client of one node alone, which tries nothing twice and waits for a second.
    ///
    /// # Panics
    /// Never: the address is one.
    #[must_use]
    pub fn client_of(&self, node: usize) -> Client {
        Client::builder([self.url(node)])
            .request_timeout(Duration::from_secs(1))
            .patience(Duration::ZERO)
            .build()
            .expect("an address")
    }

    /// Whether links between its hosts can be cut.
    #[must_use]
    pub fn has_links(&self) -> bool {
        self.network.has_links()
    }

    /// A file that is gone with the cluster.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Which node leads, as soon as one says that it does.
    ///
    /// # Panics
    /// When none does within a minute.
    pub async fn leader(&self) -> usize {
        let mut look = tokio::time::interval(LOOK);
        let found = async {
            loop {
                look.tick().await;
                for node in 0..self.nodes.len() {
                    if self.leads(node).await {
                        return node;
                    }
                }
            }
        };
        timeout(PATIENCE, found).await.expect("a leader")
    }

    /// Whether a node says that it leads.
    pub async fn leads(&self, node: usize) -> bool {
        self.server_info(node).await.is_some_and(|info| info.leader == Some(node_name(node)))
    }

    /// Waits until a node can serve.
    ///
    /// # Panics
    /// When it does not become ready within a minute.
    pub async fn ready(&self, node: usize) {
        let mut look = tokio::time::interval(LOOK);
        let ready = async {
            while !self.server_info(node).await.is_some_and(|info| info.ready) {
                look.tick().await;
            }
        };
        if timeout(PATIENCE, ready).await.is_err() {
            panic!("node {node} is not ready:\n{}", self.nodes[node].last_words());
        }
    }

    /// What a node says of itself, if it answers within a second.
    pub async fn server_info(&self, node: usize) -> Option<ServerInfo> {
        self.client_of(node).get_server_info(GetServerInfoRequest {}).await.ok()
    }

    /// One more worker, on a host of its own.
    pub fn start_worker(&mut self) {
        self.workers_started += 1;
        let name = format!("w{}", self.workers_started);
        let count = self.nodes.len();
        let urls: Vec<_> =
            (0..count).map(|at| self.url((self.workers_started + at) % count)).collect();
        let effects = self.effects_of(&name);
        let arguments =
            [urls.join(","), name.clone(), effects.display().to_string(), "32".to_owned()];
        let host = self.network.host();
        let home = self.home.path();
        let mut worker = Process::new(host, &name, &self.program, arguments.into(), home);
        worker.start_with(&[("ROTA_TEST_LONG_EVERY", &LONG_EVERY.to_string())]);
        self.workers.insert(name, worker);
    }

    /// Where a worker writes down what it does.
    #[must_use]
    pub fn effects_of(&self, worker: &str) -> PathBuf {
        self.home.path().join(format!("{worker}.effects"))
    }

    /// What the workers wrote down.
    ///
    /// # Panics
    /// When a line is not one of theirs.
    #[must_use]
    pub fn effects(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for number in 1..=self.workers_started {
            let worker = format!("w{number}");
            // A worker that was killed early has none.
            let log = fs::read_to_string(self.effects_of(&worker)).unwrap_or_default();
            let effect = |line| Effect::parse(&worker, line).expect("a whole line");
            effects.extend(log.lines().map(effect));
        }
        effects
    }

    /// Kills a worker, which is no longer part of the cluster then. Its leases are lost.
    ///
    /// # Panics
    /// When there is no such worker.
    pub async fn kill_worker(&mut self, name: &str) {
        self.expected_losses.killed(name, self.history.last_batch());
        self.workers.remove(name).expect("a worker").kill().await;
    }

    /// Waits until nobody can lose anything any more by having been cut off, and notes which batch was
    /// the last by which somebody may have.
    ///
    /// # Panics
    /// When the store does not answer.
    pub async fn close_expected_losses(&mut self) {
        if let Some(moment) = self.expected_losses.closes_at() {
            sleep_until(moment).await;
            self.history_until_now().await;
            self.expected_losses.close(self.history.last_batch());
        }
    }

    /// All that was written to the store until now, and that it still has.
    ///
    /// # Panics
    /// When the store does not answer, or history was lost.
    pub async fn history_until_now(&self) -> Vec<Revision> {
        let leader = self.store.address(self.store.leader().await);
        let head = match self.store.backend {
            Backend::Etcd | Backend::Etcd35 => etcd::head(&leader).await.1,
            Backend::Redis | Backend::ReplicatedRedis => redis::head(&leader).await,
            Backend::Consul | Backend::ConsulWithShortSessions => consul::head(&leader).await,
        };
        self.history.has_read(head).await;
        self.history.revisions()
    }
}

impl Drop for Cluster {
    #[expect(
        clippy::print_stderr,
        reason = "what they said belongs to the report of a failed test"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in &self.nodes {
                eprintln!("== {}\n{}", process.name, process.last_words());
            }
        }
        if std::thread::panicking() || std::env::var_os("ROTA_TEST_KEEP").is_some() {
            self.home.disable_cleanup(true);
            eprintln!("== all logs are in {}", self.home.path().display());
        }
    }
}

/// The name of a node.
#[must_use]
pub fn node_name(node: usize) -> String {
    format!("n{}", node + 1)
}

fn nodes(
    program: &Path,
    network: &mut Network,
    count: usize,
    options: &[String],
    session_ttl: Duration,
    home: &Path,
) -> Vec<Process> {
    let node = |at: usize| {
        let (host, name) = (network.host(), node_name(at));
        let arguments = [
            "server".to_owned(),
            "--insecure-no-auth".to_owned(),
            format!("--node={name}"),
            format!("--listen={}:{NODE_PORT}", host.address()),
            format!("--session-ttl={}s", session_ttl.as_secs()),
        ];
        let log = std::env::var("ROTA_TEST_LOG")
            .ok()
            .filter(|filter| !filter.is_empty())
            .map(|filter| format!("--log={filter}"));
        let arguments = arguments.into_iter().chain(options.iter().cloned()).chain(log).collect();
        Process::new(host, &name, program, arguments, home)
    };
    (0..count).map(node).collect()
}
