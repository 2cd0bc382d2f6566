//! A Redis for one test: a process with a free port and a data directory of its own.

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
use rota_store::redis::{RedisOptions, RedisServers};
use tempfile::TempDir;

/// How long a server may take to start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// What makes Redis as durable as Rota wants it.
const DURABLE: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];

/// A running server. Killed when dropped.
pub(crate) struct Redis {
    dir: TempDir,
    program: PathBuf,
    arguments: Vec<String>,
    port: u16,
    process: Child,
}

impl Redis {
    /// Starts Redis as Rota wants it.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts Redis with these arguments after the usual ones.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::launch("redis-server".into(), &[&DURABLE[..], arguments].concat())
    }

    /// Starts Valkey as Rota wants it.
    pub(crate) fn valkey() -> Self {
        Self::valkey_with(&[])
    }

    /// Starts Valkey with these arguments after the usual ones.
    pub(crate) fn valkey_with(arguments: &[&str]) -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let program = target.join("tools/servers/valkey-8/usr/bin/valkey-server");
        assert!(program.exists(), "{} is missing; run tests/install.sh", program.display());
        Self::launch(program, &[&DURABLE[..], arguments].concat())
    }

    fn launch(program: PathBuf, arguments: &[&str]) -> Self {
        // Another process may take a port between our finding it free and the server's using it.
        for _ in 0..10 {
            let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            let starting = spawn(&program, dir.path(), port, &arguments);
            if let Some(process) = serving(starting) {
                return Self { dir, program, arguments, port, process };
            }
        }
        panic!("{} does not start; is it installed? (tests/install.sh)", program.display());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its address for clients.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How a store reaches it.
    pub(crate) fn options(&self) -> RedisOptions {
        RedisOptions::new(RedisServers::Single(self.endpoint()))
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on its data.
    pub(crate) fn restart(&mut self) {
        let starting = spawn(&self.program, self.dir.path(), self.port, &self.arguments);
        self.process = serving(starting).expect("it starts again");
    }

    /// The part of its append-only file that grows.
    pub(crate) fn append_only_file(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.dir.path().join("appendonlydir")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let number = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?;
            name.strip_suffix(".incr.aof")?.rsplit('.').next()?.parse::<u32>().ok()
        };
        paths.filter_map(|path| Some((number(&path)?, path))).max().unwrap().1
    }

    /// Waits while the server writes its file anew, if it does.
    pub(crate) fn has_written_its_file_anew(&self) {
        let told = || self.cli(&["INFO", "persistence"]);
        let writes = |told: String| {
            told.contains("aof_rewrite_in_progress:1") || told.contains("aof_rewrite_scheduled:1")
        };
        while writes(told()) {
            std::thread::yield_now();
        }
    }

    /// Removes all that it has written.
    pub(crate) fn remove_data(&self) {
        std::fs::remove_dir_all(self.dir.path().join("appendonlydir")).unwrap();
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

    /// What the server says to that, asked by its own tool.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        cli(self.port, arguments)
    }
}

/// A Sentinel of the master's kind that watches it under the name `rota`, and alone decides about its failover. Killed when dropped.
pub(crate) struct Sentinel {
    _dir: TempDir,
    port: u16,
    process: Child,
}

impl Sentinel {
    /// Starts one, and waits until it knows that replica.
    pub(crate) fn watching(master: &Redis, replica: &Redis) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = dir.path().join("sentinel.conf");
        let watch = format!("sentinel monitor rota 127.0.0.1 {} 1", master.port());
        let settings =
            "sentinel down-after-milliseconds rota 500\nsentinel failover-timeout rota 10000";
        std::fs::write(&file, format!("{watch}\n{settings}\n")).unwrap();
        let arguments = [file.to_string_lossy().into_owned(), "--sentinel".to_owned()];
        let starting = spawn(&master.program, dir.path(), port, &arguments);
        let process = serving(starting).expect("Sentinel starts");
        let sentinel = Self { _dir: dir, port, process };
        sentinel.knows(replica);
        sentinel
    }

    /// Waits until it knows that replica, and that the replica follows the master.
    pub(crate) fn knows(&self, replica: &Redis) {
        let known = format!("127.0.0.1:{}", replica.port());
        let told = || cli(self.port, &["SENTINEL", "REPLICAS", "rota"]);
        while !told()
            .split("name\n")
            .any(|one| one.starts_with(&known) && one.contains("master-link-status\nok"))
        {
            std::thread::yield_now();
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `redis-cli` says to that at this port.
pub(crate) fn cli(port: u16, arguments: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .args(["-e", "-p", &port.to_string()])
        .args(arguments)
        .output()
        .expect("redis-cli is installed (tests/install.sh)");
    let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

/// A process that may come to serve.
type Starting = (Child, mpsc::Receiver<()>);

/// Starts it; an argument that names a configuration file must come first.
fn spawn(program: &Path, dir: &Path, port: u16, arguments: &[String]) -> Starting {
    let mut process = Command::new(program)
        .current_dir(dir)
        .args(arguments)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error} (tests/install.sh)", program.display()));
    let stdout = process.stdout.take().unwrap();
    let (serving, is_serving) = mpsc::channel();
    std::thread::spawn(move || {
        // Read to its end, or the server would block when the pipe is full.
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line.contains("eady to accept connections") || line.contains("Sentinel ID is") {
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
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
