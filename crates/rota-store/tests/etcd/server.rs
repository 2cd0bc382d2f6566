//! An etcd for one test: a process with free ports and a data directory of its own.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rota_store::etcd::EtcdOptions;
use tempfile::TempDir;

/// How long etcd may take to start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A running etcd. Killed when dropped.
pub(crate) struct Etcd {
    dir: TempDir,
    arguments: Vec<String>,
    scheme: &'static str,
    /// For clients and for peers.
    ports: (u16, u16),
    process: Child,
}

impl Etcd {
    /// Starts one that is set up as etcd is by itself.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with these arguments beside the usual ones.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::secured("http", arguments)
    }

    /// Starts one that is reached by that scheme.
    pub(crate) fn secured(scheme: &'static str, arguments: &[&str]) -> Self {
        Self::members(scheme, 1, arguments).remove(0)
    }

    /// Starts a cluster of three.
    pub(crate) fn cluster() -> [Self; 3] {
        Self::cluster_with(&[])
    }

    /// Starts a cluster of three, each with these arguments beside the usual ones.
    pub(crate) fn cluster_with(arguments: &[&str]) -> [Self; 3] {
        let members = Self::members("http", 3, arguments);
        members.try_into().map_err(|_| "three were asked for").unwrap()
    }

    fn members(scheme: &'static str, count: usize, arguments: &[&str]) -> Vec<Self> {
        // Another process may take a port between our finding it free and etcd's using it.
        for _ in 0..10 {
            let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
            let peers = ports.iter().map(|(_, peer)| format!("m{peer}=http://127.0.0.1:{peer}"));
            let peers = format!("--initial-cluster={}", peers.collect::<Vec<_>>().join(","));
            let arguments = arguments.iter().map(ToString::to_string);
            let arguments: Vec<String> = arguments.chain([peers]).collect();
            let dirs: Vec<TempDir> = ports.iter().map(|_| tempfile::tempdir().unwrap()).collect();
            // None of several serves before the others are there.
            let started: Vec<_> = std::iter::zip(&dirs, &ports)
                .map(|(dir, ports)| spawn(dir.path(), scheme, *ports, &arguments))
                .collect();
            let started: Option<Vec<_>> = started.into_iter().map(serving).collect();
            let Some(started) = started else { continue };
            let members = std::iter::zip(std::iter::zip(dirs, ports), started);
            return members
                .map(|((dir, ports), process)| {
                    let arguments = arguments.clone();
                    Self { dir, arguments, scheme, ports, process }
                })
                .collect();
        }
        panic!("etcd does not start; is it installed? (tests/install.sh)");
    }

    /// Its address for clients.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ports.0)
    }

    /// How a store reaches it.
    pub(crate) fn options(&self) -> EtcdOptions {
        EtcdOptions::new(vec![self.endpoint()], "rota")
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on its data.
    pub(crate) fn restart(&mut self) {
        let starting = self.begin();
        self.came_back(starting);
    }

    /// Waits until what was begun serves.
    pub(crate) fn came_back(&mut self, starting: Starting) {
        self.process = serving(starting).expect("etcd starts again");
    }

    /// Starts it again on its data, without waiting until it serves.
    pub(crate) fn begin(&self) -> Starting {
        spawn(self.dir.path(), self.scheme, self.ports, &self.arguments)
    }

    /// Stops it in its tracks; connections stay open and nothing answers.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        // The call returns before each of its threads has stopped.
        let tasks = format!("/proc/{}/task", self.process.id());
        let is_stopped = |task: &Path| {
            let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('T'))
        };
        while !std::fs::read_dir(&tasks).unwrap().flatten().all(|task| is_stopped(&task.path())) {
            std::thread::yield_now();
        }
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// What etcd's own tool says to that.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        let output = Command::new(program("etcdctl"))
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}://{}", self.scheme, self.endpoint()))
            .args(arguments)
            .output()
            .expect("etcdctl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A program of the release that is tested.
fn program(name: &str) -> PathBuf {
    let Some(servers) = crate::SERVERS else { return name.into() };
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let program = target.join("tools/servers").join(servers).join("usr/bin").join(name);
    assert!(program.exists(), "{} is missing; run tests/install.sh", program.display());
    program
}

/// A process that may come to serve.
pub(crate) type Starting = (Child, mpsc::Receiver<()>);

fn spawn(dir: &Path, scheme: &str, (client, peer): (u16, u16), arguments: &[String]) -> Starting {
    let clients = format!("{scheme}://127.0.0.1:{client}");
    let peers = format!("http://127.0.0.1:{peer}");
    let mut process = Command::new(program("etcd"))
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--name", &format!("m{peer}")])
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        // A single member need not wait for the votes of others.
        .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcd is installed");
    let stderr = process.stderr.take().unwrap();
    let (serving, is_serving) = mpsc::channel();
    std::thread::spawn(move || {
        // Read to its end, or etcd would block when the pipe is full.
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if line.contains("ready to serve client requests") {
                let _ = serving.send(());
            }
        }
    });
    (process, is_serving)
}

/// The process when it serves; nothing if it ends instead.
fn serving((mut process, is_serving): Starting) -> Option<Child> {
    if is_serving.recv_timeout(START).is_ok() {
        Some(process)
    } else {
        let _ = process.kill();
        process.wait().unwrap();
        None
    }
}

/// A port that nobody uses now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
