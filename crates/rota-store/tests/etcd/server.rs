//! An etcd for one test: a process with free ports and a data directory of its own.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
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
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        // Another process may take a port between our finding it free and etcd's using it.
        for _ in 0..10 {
            let dir = tempfile::tempdir().unwrap();
            let ports = (free_port(), free_port());
            if let Some(process) = run(dir.path(), scheme, ports, &arguments) {
                return Self { dir, arguments, scheme, ports, process };
            }
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
        let again = run(self.dir.path(), self.scheme, self.ports, &self.arguments);
        self.process = again.expect("etcd starts again");
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
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}://{}", self.scheme, self.endpoint()))
            .args(arguments)
            .output()
            .expect("etcdctl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Starts the process and waits until it serves; nothing if it ends instead.
fn run(
    dir: &Path,
    scheme: &str,
    (client, peer): (u16, u16),
    arguments: &[String],
) -> Option<Child> {
    let clients = format!("{scheme}://127.0.0.1:{client}");
    let peers = format!("http://127.0.0.1:{peer}");
    let mut process = Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("default={peers}")])
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
