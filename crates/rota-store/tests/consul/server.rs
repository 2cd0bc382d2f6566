//! Servers of Consul for tests, each on free ports and data of its own.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, mpsc},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rota_store::consul::ConsulOptions;
use tempfile::TempDir;

/// How long servers have until they serve.
const START: Duration = Duration::from_secs(30);

/// A running server of Consul. Killed when dropped.
pub(crate) struct Consul {
    dir: TempDir,
    ports: Ports,
    process: Child,
    /// Told when it has entered itself into the catalog, for which it needs a leader.
    entered: Mutex<mpsc::Receiver<()>>,
    /// What tests ask with.
    token: Option<&'static str>,
}

#[derive(Clone, Copy)]
struct Ports {
    http: u16,
    https: u16,
    serf: u16,
    server: u16,
}

impl Consul {
    /// Starts one that is set up as Consul is by itself, but that it may grant sessions of a second.
    pub(crate) fn start() -> Self {
        Self::servers(1, "", None).remove(0)
    }

    /// Starts one with these fields in its configuration, which is asked with that token.
    pub(crate) fn with(fields: &str, token: Option<&'static str>) -> Self {
        Self::servers(1, fields, token).remove(0)
    }

    /// Starts a cluster of three.
    pub(crate) fn cluster() -> [Self; 3] {
        Self::servers(3, "", None).try_into().map_err(|_| "three were asked for").unwrap()
    }

    fn servers(count: usize, fields: &str, token: Option<&'static str>) -> Vec<Self> {
        // Another process may take a port between our finding it free and Consul's using it.
        for _ in 0..10 {
            let ports: Vec<Ports> = (0..count)
                .map(|_| Ports {
                    http: free_port(),
                    https: free_port(),
                    serf: free_port(),
                    server: free_port(),
                })
                .collect();
            let servers: Vec<_> = ports
                .iter()
                .map(|own| {
                    let dir = tempfile::tempdir().unwrap();
                    configure(dir.path(), *own, &ports, fields);
                    let (process, entered) = spawn(dir.path());
                    Self { dir, ports: *own, process, entered: Mutex::new(entered), token }
                })
                .collect();
            if servers.iter().all(Self::serves) {
                return servers;
            }
        }
        panic!("Consul does not start; is it there? (tests/install.sh)");
    }

    /// Its address for clients.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ports.http)
    }

    /// Its address for clients with TLS, where it has a certificate.
    pub(crate) fn secure_endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ports.https)
    }

    /// How a store reaches it.
    pub(crate) fn options(&self) -> ConsulOptions {
        ConsulOptions::new(vec![self.endpoint()], "rota")
    }

    /// Waits until it serves; false if it does not.
    fn serves(&self) -> bool {
        self.entered.lock().unwrap().recv_timeout(START).is_ok()
    }

    /// Whether it is the leader of the servers.
    pub(crate) fn leads(&self) -> bool {
        let leader = self.ask("GET", "status/leader", "").unwrap_or_default();
        leader.contains(&format!(":{}\"", self.ports.server))
    }

    /// The body of its answer; nothing where there is none, or it is no success.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.endpoint()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let length = body.len();
        let token = self.token.unwrap_or_default();
        let request = format!(
            "{method} /v1/{path} HTTP/1.0\r\nHost: consul\r\nX-Consul-Token: {token}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
    }

    /// The keys that begin so.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let told = self.ask("GET", &format!("kv/{prefix}?keys"), "").unwrap_or_default();
        let quoted = told.split('"').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on its data, and waits until it serves.
    pub(crate) fn restart(&mut self) {
        self.begin();
        assert!(self.serves(), "Consul does not start again");
    }

    /// Starts it again on its data.
    pub(crate) fn begin(&mut self) {
        let (process, entered) = spawn(self.dir.path());
        (self.process, self.entered) = (process, Mutex::new(entered));
    }

    /// Stops it in its tracks; connections stay open and nothing answers.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }
}

fn configure(dir: &Path, own: Ports, all: &[Ports], fields: &str) {
    let Ports { http, https, serf, server } = own;
    let https = if fields.contains("cert_file") { i32::from(https) } else { -1 };
    let others: Vec<_> = all.iter().map(|other| format!("\"127.0.0.1:{}\"", other.serf)).collect();
    let data = dir.join("data");
    let configuration = format!(
        r#"{{ {fields}
            "data_dir": "{}", "server": true, "bootstrap_expect": {}, "node_name": "n{server}",
            "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "retry_join": [{}],
            "retry_interval": "1s", "session_ttl_min": "1s", "disable_update_check": true,
            "performance": {{ "raft_multiplier": 1 }}, "log_level": "debug",
            "ports": {{ "http": {http}, "https": {https}, "serf_lan": {serf}, "server": {server},
                        "dns": -1, "grpc": -1, "serf_wan": -1 }}
        }}"#,
        data.display(),
        all.len(),
        others.join(","),
    );
    std::fs::write(dir.join("consul.json"), configuration).unwrap();
}

fn spawn(dir: &Path) -> (Child, mpsc::Receiver<()>) {
    let mut process = Command::new(program())
        .arg("agent")
        .arg(format!("-config-file={}", dir.join("consul.json").display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("Consul starts; is it there? (tests/install.sh)");
    let stdout = process.stdout.take().unwrap();
    let (entered, has_entered) = mpsc::channel();
    std::thread::spawn(move || {
        // Read to its end, or Consul would block when the pipe is full.
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line.contains("Synced node info") || line.contains("Node info in sync") {
                let _ = entered.send(());
            }
        }
    });
    (process, has_entered)
}

/// Consul 1.8, as `tests/servers.sh` unpacked it.
pub(crate) fn program() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let program = target.join("tools/servers/consul-1.8/usr/bin/consul");
    assert!(program.exists(), "{} is missing; run tests/install.sh", program.display());
    program
}

/// A port that nobody uses now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Drop for Consul {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
