//! Servers of stores on this machine, one of each for a test: etcd, Redis and Consul.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use tempfile::TempDir;

use crate::process::{PATIENCE, tool};

/// A server of a store. Killed when dropped.
#[derive(Debug)]
pub struct LocalStore {
    /// The URL of a store on it.
    pub url: String,
    process: Child,
    _home: TempDir,
}

impl LocalStore {
    /// Starts etcd.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn etcd() -> Self {
        Self::start("etcd", "ready to serve client requests", |home, port, other| {
            let clients = format!("http://127.0.0.1:{port}");
            let peers = format!("http://127.0.0.1:{other}");
            let mut etcd = Command::new("etcd");
            etcd.arg("--data-dir").arg(home.join("data")).args(["--name", "m"]);
            etcd.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
            etcd.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
            etcd.args(["--initial-cluster", &format!("m={peers}")]);
            etcd
        })
    }

    /// Starts Redis as Rota wants it.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn redis() -> Self {
        Self::start("redis", "eady to accept connections", |home, port, _| {
            let mut redis = Command::new("redis-server");
            redis.current_dir(home).args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
            redis.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
            redis
        })
    }

    /// Starts Consul, which may grant sessions of a second.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn consul() -> Self {
        Self::start("consul", "info in sync|Synced node info", |home, port, other| {
            let configuration = format!(
                r#"{{
                    "data_dir": "{}", "server": true, "bootstrap_expect": 1, "node_name": "n",
                    "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "session_ttl_min": "1s",
                    "performance": {{ "raft_multiplier": 1 }}, "log_level": "debug",
                    "disable_update_check": true,
                    "ports": {{ "http": {port}, "server": {other}, "serf_lan": {}, "dns": -1, "grpc": -1,
                                "serf_wan": -1 }}
                }}"#,
                home.join("data").display(),
                free_port()
            );
            let file = home.join("consul.json");
            std::fs::write(&file, configuration).expect("a file");
            let mut consul = Command::new(tool("servers/consul-1.8/usr/bin/consul"));
            consul.arg("agent").arg(format!("-config-file={}", file.display()));
            consul
        })
    }

    /// Starts a server that says one of these words when it serves.
    fn start(scheme: &str, words: &str, command: impl Fn(&Path, u16, u16) -> Command) -> Self {
        // Another process may take a port between our finding it free and the server's using it.
        for _ in 0..5 {
            let (home, port) = (tempfile::tempdir().expect("a directory"), free_port());
            let mut command = command(home.path(), port, free_port());
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut process = command.spawn().expect("it is installed (tests/install.sh)");
            let (told, serves) = mpsc::channel();
            let stdout = process.stdout.take().expect("it was piped");
            let stderr = process.stderr.take().expect("it was piped");
            read(stdout, words, told.clone());
            read(stderr, words, told);
            if serves.recv_timeout(PATIENCE).is_ok() {
                let url = format!("{scheme}://127.0.0.1:{port}");
                return Self { url, process, _home: home };
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("{scheme} does not start");
    }
}

/// Reads to the end, or the server would wait, and tells when it says one of these words.
fn read(output: impl std::io::Read + Send + 'static, words: &str, told: mpsc::Sender<()>) {
    let words: Vec<String> = words.split('|').map(str::to_owned).collect();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if words.iter().any(|words| line.contains(words)) {
                // The test may not wait for it any more.
                let _ = told.send(());
            }
        }
    });
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
