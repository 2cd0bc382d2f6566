//! Servers of Consul, asked by HTTP.

use std::{fs, path::Path, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{cluster::Process, net::Host, process::tool};

/// Where servers serve clients, and each other.
pub const PORT: u16 = 8500;
const SERVER_PORT: u16 = 8300;
const SERF_PORT: u16 = 8301;
/// How long one server has for an answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// Servers that are set up as Consul is by itself, but that sessions may be as short as `session_ttl_min`.
pub(super) fn servers(
    hosts: Vec<Host>,
    home: &Path,
    session_ttl_min: Option<Duration>,
) -> Vec<Process> {
    let program = tool("servers/consul-1.8/usr/bin/consul");
    let all: Vec<_> =
        hosts.iter().map(|host| format!("\"{}:{SERF_PORT}\"", host.address())).collect();
    let (count, all) = (hosts.len(), all.join(","));
    let short = session_ttl_min
        .map_or_else(String::new, |ttl| format!("\"session_ttl_min\": \"{}s\",", ttl.as_secs()));
    let server = |(at, host): (usize, Host)| {
        let name = format!("c{at}");
        let (address, data) = (host.address(), home.join(&name));
        let settings = format!(
            r#"{{ {short}
                "data_dir": "{}", "server": true, "bootstrap_expect": {count}, "node_name": "{name}",
                "bind_addr": "{address}", "client_addr": "{address}", "retry_join": [{all}],
                "retry_interval": "1s", "disable_update_check": true, "leave_on_terminate": false,
                "performance": {{ "raft_multiplier": 1 }},
                "ports": {{ "http": {PORT}, "serf_lan": {SERF_PORT}, "server": {SERVER_PORT},
                            "dns": -1, "grpc": -1, "serf_wan": -1 }}
            }}"#,
            data.display()
        );
        let file = home.join(format!("{name}.json"));
        fs::write(&file, settings).expect("written");
        let arguments = vec!["agent".to_owned(), format!("-config-file={}", file.display())];
        Process::new(host, &name, &program, arguments, home)
    };
    (1..).zip(hosts).map(server).collect()
}

/// Whether a server answers what needs most servers.
pub(super) async fn is_ready(server: &str) -> bool {
    ask(server, "GET", "kv/?keys&consistent&separator=/", "", ANSWERS_WITHIN).await.is_some()
}

pub(super) async fn leads(server: &str) -> bool {
    let (ip, _) = server.rsplit_once(':').unwrap_or_default();
    let leader = ask(server, "GET", "status/leader", "", ANSWERS_WITHIN).await;
    leader.is_some_and(|answer| answer.body == format!("\"{ip}:{SERVER_PORT}\"").into_bytes())
}

/// The number of the last batch.
///
/// # Panics
/// When the server does not answer.
pub async fn head(server: &str) -> i64 {
    let head = ask(server, "GET", "kv/rota/head?raw&consistent", "", ANSWERS_WITHIN).await;
    let head: serde_json::Value =
        serde_json::from_slice(&head.expect("the head").body).expect("JSON");
    head["seq"].as_i64().expect("a number")
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// Up to which change it knows.
    pub index: u64,
    /// The body.
    pub body: Vec<u8>,
}

/// A key, as Consul tells it. `value` is in base64.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KeyValue {
    /// At which change it was created.
    pub create_index: i64,
    /// At which change it was written last.
    pub modify_index: i64,
    /// Its value.
    #[serde(default)]
    pub value: Option<String>,
}

impl Answer {
    /// The keys that it tells.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyValue> {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The answer to a request, unless there is none in time or it is no success. A key that is not there is one, with an
/// empty body.
pub async fn ask(
    server: &str,
    method: &str,
    path: &str,
    body: &str,
    within: Duration,
) -> Option<Answer> {
    let asked = async {
        let mut stream = TcpStream::connect(server).await.ok()?;
        let length = body.len();
        let request = format!(
            "{method} /v1/{path} HTTP/1.0\r\nHost: consul\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        Some(answer)
    };
    let answer = timeout(within, asked).await.ok()??;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.lines().next()?.split(' ').nth(1)?.to_owned();
    let index = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("x-consul-index").then(|| value.parse().ok())?
    });
    let index = index.unwrap_or(0);
    match status.as_str() {
        "200" => Some(Answer { index, body: answer[end + 4..].to_vec() }),
        "404" => Some(Answer { index, body: Vec::new() }),
        _ => None,
    }
}
