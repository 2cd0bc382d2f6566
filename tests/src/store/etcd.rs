//! Members of etcd, asked by `etcdctl`.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncWriteExt, time::timeout};

use crate::{
    cluster::Process,
    net::Host,
    process::{PATIENCE, tool},
};

/// Where members serve clients, and each other.
pub const PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// What etcd may grow to: far more than a run of some hundred thousand tasks needs, and little enough
/// to be filled within seconds.
pub const QUOTA_BYTES: u64 = 256 << 20;

/// The program of etcd: that which `ROTA_TEST_ETCD` names, or the installed one.
pub(super) fn program() -> PathBuf {
    let named = std::env::var_os("ROTA_TEST_ETCD").filter(|path| !path.is_empty());
    named.map_or_else(|| "etcd".into(), PathBuf::from)
}

/// etcd 3.5, as `tests/servers.sh` unpacked it.
pub(super) fn program_35() -> PathBuf {
    tool("servers/etcd-3.5/usr/bin/etcd")
}

pub(super) fn members(program: &Path, hosts: Vec<Host>, home: &Path) -> Vec<Process> {
    let peer = |host: &Host| format!("http://{}:{PEER_PORT}", host.address());
    let all: Vec<_> = (1..).zip(&hosts).map(|(at, host)| format!("e{at}={}", peer(host))).collect();
    let member = |(at, host): (usize, Host)| {
        let name = format!("e{at}");
        let client = format!("http://{}:{PORT}", host.address());
        let arguments = [
            ("--name", name.clone()),
            ("--data-dir", home.join(&name).display().to_string()),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", peer(&host)),
            ("--initial-advertise-peer-urls", peer(&host)),
            ("--initial-cluster", all.join(",")),
            ("--quota-backend-bytes", QUOTA_BYTES.to_string()),
        ];
        let arguments =
            arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        Process::new(host, &name, program, arguments, home)
    };
    (1..).zip(hosts).map(member).collect()
}

pub(super) async fn is_healthy(member: &str) -> bool {
    ctl(member, &["endpoint", "health"]).await.is_some()
}

pub(super) async fn leads(member: &str) -> bool {
    let status = ctl(member, &["endpoint", "status", "-w", "json"]).await;
    let status: serde_json::Value =
        status.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let status = &status[0]["Status"];
    status["leader"].is_number() && status["leader"] == status["header"]["member_id"]
}

/// The revision of now, and that of the last batch.
///
/// # Panics
/// When the member does not answer.
pub async fn head(member: &str) -> (i64, i64) {
    let head = ctl(member, &["get", "rota/head", "-w", "json"]).await.expect("the head");
    let head: serde_json::Value = serde_json::from_str(&head).expect("JSON");
    let revision = |place: &serde_json::Value| place.as_i64().expect("a revision");
    (revision(&head["header"]["revision"]), revision(&head["kvs"][0]["mod_revision"]))
}

/// Runs `etcdctl` against one member; what it said, if it succeeded within two seconds.
pub async fn ctl(member: &str, arguments: &[&str]) -> Option<String> {
    ctl_within(Duration::from_secs(2), member, arguments, None).await
}

/// The same with a minute, and this to read.
pub async fn ctl_with(member: &str, arguments: &[&str], input: Option<&str>) -> Option<String> {
    ctl_within(PATIENCE, member, arguments, input).await
}

async fn ctl_within(
    patience: Duration,
    member: &str,
    arguments: &[&str],
    input: Option<&str>,
) -> Option<String> {
    let command_timeout = format!("{}ms", patience.as_millis() / 2);
    let mut command = tokio::process::Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", member]);
    command.args(["--command-timeout", &command_timeout, "--dial-timeout", "1s"]);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let run = async {
        let mut child = command.spawn().ok()?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin.write_all(input.as_bytes()).await.ok()?;
        }
        child.wait_with_output().await.ok()
    };
    let output = timeout(patience, run).await.ok()??;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}
