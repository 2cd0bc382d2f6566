//! A cluster of real processes, each on a host of its own: members of etcd, nodes, and workers that
//! write down what they ran.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rota_client::{Client, v1::GetServerInfoRequest};
use tempfile::TempDir;
use tokio::{process::Child, time::timeout};

use crate::{
    audit::Effect,
    net::{Host, Network},
    process::{LOOK, PATIENCE, rota},
};

/// Where members of etcd serve clients, and each other.
pub const ETCD_PORT: u16 = 2379;
const ETCD_PEER_PORT: u16 = 2380;
/// Where nodes serve.
pub const NODE_PORT: u16 = 7420;
/// A leader that is gone is replaced after so long.
pub const LEADER_TTL: Duration = Duration::from_secs(3);

/// A process on a host, which can be started again.
#[derive(Debug)]
pub struct Process {
    /// Where it runs.
    pub host: Host,
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Starts it; what it says goes behind what it said before.
    ///
    /// # Panics
    /// When it runs already, or cannot be started.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().append(true).create(true).open(&self.log).expect("a log");
        let mut command = self.host.command(&self.program);
        command.args(&self.arguments).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("it can be started"));
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(Child::id).expect("it runs");
        kill(Pid::from_raw(i32::try_from(id).expect("a process number")), signal).expect("sent");
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Panics
    /// When it had ended by itself.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let ended = child.try_wait().expect("a child");
        assert_eq!(ended, None, "{} ended by itself:\n{}", self.name, self.last_words());
        child.kill().await.expect("killed");
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        let mut child = self.child.take().expect("it runs");
        timeout(PATIENCE, child.wait()).await.expect("it ends").expect("it can be waited for");
    }

    /// The end of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// What a cluster is made of.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Members of etcd.
    pub etcd: usize,
    /// Nodes.
    pub nodes: usize,
    /// Workers.
    pub workers: usize,
}

/// The cluster. All of it is gone when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// Members of etcd.
    pub etcd: Vec<Process>,
    /// Nodes.
    pub nodes: Vec<Process>,
    /// Workers that run, by name.
    pub workers: BTreeMap<String, Process>,
    /// Workers that lost, or may have lost, what they ran: killed, or cut off for long.
    pub excused: BTreeSet<String>,
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
        let (mut network, home) = (Network::new(), tempfile::tempdir().expect("a directory"));
        let etcd = members(&mut network, shape.etcd, home.path());
        let nodes = nodes(&mut network, shape.nodes, &etcd, home.path());
        let mut cluster = Self {
            etcd,
            nodes,
            workers: BTreeMap::new(),
            excused: BTreeSet::new(),
            workers_started: 0,
            program: worker.to_owned(),
            home,
            network,
        };
        cluster.etcd.iter_mut().chain(&mut cluster.nodes).for_each(Process::start);
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
        self.info(node).await.is_some_and(|(leader, _)| leader == node_name(node))
    }

    /// Waits until a node can serve.
    ///
    /// # Panics
    /// When it does not become ready within a minute.
    pub async fn ready(&self, node: usize) {
        let mut look = tokio::time::interval(LOOK);
        let ready = async {
            while !self.info(node).await.is_some_and(|(_, ready)| ready) {
                look.tick().await;
            }
        };
        if timeout(PATIENCE, ready).await.is_err() {
            panic!("node {node} is not ready:\n{}", self.nodes[node].last_words());
        }
    }

    /// The leader's name as a node knows it, and whether the node is ready.
    async fn info(&self, node: usize) -> Option<(String, bool)> {
        let client = Client::builder([self.url(node)])
            .request_timeout(Duration::from_secs(1))
            .patience(Duration::ZERO)
            .build()
            .expect("an address");
        let info = client.get_server_info(GetServerInfoRequest {}).await.ok()?;
        Some((info.leader, info.ready))
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
        let mut worker = Process {
            host: self.network.host(),
            name: name.clone(),
            program: self.program.clone(),
            arguments: arguments.into(),
            log: self.home.path().join(format!("{name}.log")),
            child: None,
        };
        worker.start();
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

    /// Whether a member of etcd answers, asked by this process.
    pub async fn etcd_answers(&self, member: usize) -> bool {
        self.etcdctl(member, &["endpoint", "health"]).await.is_some()
    }

    /// Runs `etcdctl` against one member; what it said, if it succeeded within two seconds.
    pub async fn etcdctl(&self, member: usize, arguments: &[&str]) -> Option<String> {
        let endpoint = format!("{}:{ETCD_PORT}", self.etcd[member].host.address());
        let mut command = tokio::process::Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint]);
        command.args(["--command-timeout", "1s", "--dial-timeout", "1s"]).args(arguments);
        command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let output = timeout(Duration::from_secs(2), command.output()).await.ok()?.ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then_some(text)
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
    }
}

/// The name of a node.
#[must_use]
pub fn node_name(node: usize) -> String {
    format!("n{}", node + 1)
}

fn members(network: &mut Network, count: usize, home: &Path) -> Vec<Process> {
    let hosts: Vec<_> = (0..count).map(|_| network.host()).collect();
    let peer = |host: &Host| format!("http://{}:{ETCD_PEER_PORT}", host.address());
    let all: Vec<_> = (1..).zip(&hosts).map(|(at, host)| format!("e{at}={}", peer(host))).collect();
    let member = |(at, host): (usize, Host)| {
        let name = format!("e{at}");
        let client = format!("http://{}:{ETCD_PORT}", host.address());
        let arguments = [
            ("--name", name.clone()),
            ("--data-dir", home.join(&name).display().to_string()),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", peer(&host)),
            ("--initial-advertise-peer-urls", peer(&host)),
            ("--initial-cluster", all.join(",")),
            ("--max-txn-ops", "2000".to_owned()),
        ];
        let arguments =
            arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        let log = home.join(format!("{name}.log"));
        Process { host, name, program: "etcd".into(), arguments, log, child: None }
    };
    (1..).zip(hosts).map(member).collect()
}

fn nodes(network: &mut Network, count: usize, etcd: &[Process], home: &Path) -> Vec<Process> {
    let endpoint = |member: &Process| format!("{}:{ETCD_PORT}", member.host.address());
    let endpoints: Vec<_> = etcd.iter().map(endpoint).collect();
    let store = format!("etcd://{}/rota", endpoints.join(","));
    let node = |at: usize| {
        let (host, name) = (network.host(), node_name(at));
        let arguments = [
            "server".to_owned(),
            "--insecure-no-auth".to_owned(),
            format!("--node={name}"),
            format!("--listen={}:{NODE_PORT}", host.address()),
            format!("--store={store}"),
            "--store-txn-ops-max=2000".to_owned(),
            format!("--leader-ttl={}s", LEADER_TTL.as_secs()),
            "--session-ttl=10s".to_owned(),
        ];
        let log = home.join(format!("{name}.log"));
        let arguments = arguments.into();
        Process { host, name, program: rota(), arguments, log, child: None }
    };
    (0..count).map(node).collect()
}
