//! A server as a child process.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rota_client::{Client, v1};
use serde::Serialize;
use tempfile::TempDir;
use tokio::process::{Child as Process, Command};

use crate::exit::Failure;

/// Time for a server to load its backlog.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A running server. Dropping this kills it.
pub(super) struct Child {
    process: Process,
    url: String,
    data: PathBuf,
    /// The temporary directory. Dropping this removes it.
    _temporary: Option<TempDir>,
}

/// Resources that a server used.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Usage {
    /// Resident memory.
    pub(super) resident_bytes: u64,
    /// Resident memory that no file backs.
    pub(super) anonymous_bytes: u64,
    /// CPU time since the start.
    pub(super) cpu_seconds: f64,
}

impl Child {
    pub(super) async fn start(data: Option<PathBuf>) -> Result<Self, Failure> {
        let (data, temporary) = match data {
            Some(data) => (data, None),
            None => {
                let temporary = TempDir::new()?;
                (temporary.path().join("data"), Some(temporary))
            }
        };
        let listen = format!("127.0.0.1:{}", free_port()?);
        let process = spawn(&data, &listen)?;
        let url = format!("http://{listen}");
        let child = Self { process, url, data, _temporary: temporary };
        child.wait_ready().await?;
        Ok(child)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Kills the server, and starts another on the same data. Returns the time until the new one was ready.
    pub(super) async fn restart(&mut self) -> Result<Duration, Failure> {
        self.kill().await?;
        self.start_again().await
    }

    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        Ok(self.process.kill().await?)
    }

    /// Starts a server on the data of the one that was killed. Returns the time until it was ready.
    pub(super) async fn start_again(&mut self) -> Result<Duration, Failure> {
        let started = Instant::now();
        let listen = self.url.trim_start_matches("http://").to_owned();
        self.process = spawn(&self.data, &listen)?;
        self.wait_ready().await?;
        Ok(started.elapsed())
    }

    async fn wait_ready(&self) -> Result<(), Failure> {
        let client = Client::builder([self.url.clone()]).patience(READY_WITHIN).build()?;
        let ready = async {
            loop {
                let info = client.get_server_info(v1::GetServerInfoRequest {}).await?;
                if info.ready {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(READY_WITHIN, ready)
            .await
            .map_err(|_| Failure::failed("the server did not become ready"))?
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        let pid = self.process.id()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The fields after the program's name, which can have spaces. Ticks are 10 ms.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let user: f64 = fields.next()?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        Some(Usage {
            resident_bytes: kib("VmRSS:")? * 1024,
            anonymous_bytes: kib("RssAnon:")? * 1024,
            cpu_seconds: (user + system) / 100.0,
        })
    }
}

fn spawn(data: &Path, listen: &str) -> Result<Process, Failure> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command
        .args(["server", "--listen", listen, "--log", "warn"])
        .arg("--store")
        .arg(format!("file:{}", data.display()))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    Ok(command.spawn()?)
}

fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
