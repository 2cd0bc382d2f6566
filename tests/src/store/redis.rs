//! Servers of Redis and their Sentinels, asked in Redis's own protocol.

use std::{collections::BTreeMap, fs, io, path::Path, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::{cluster::Process, net::Host};

/// Where servers and Sentinels serve.
pub const PORT: u16 = 6379;
/// The same of Sentinels.
pub const SENTINEL_PORT: u16 = 26379;
/// The name under which the Sentinels watch the master.
pub const MASTER: &str = "rota";
pub(super) const SENTINELS: usize = 3;
/// With less, Sentinel may give up a new master at once: it connects to it within a second.
const DOWN_AFTER_MS: u32 = 2000;
/// How long one server has for an answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The first is the master, the others follow it.
pub(super) fn servers(hosts: Vec<Host>, home: &Path) -> Vec<Process> {
    let master = hosts[0].address();
    let server = |(at, host): (usize, Host)| {
        let name = format!("r{at}");
        let mut settings = settings(&host, &home.join(&name));
        if at > 1 {
            settings.push(format!("replicaof {master} {PORT}"));
        }
        process(host, &name, &settings, &[], home)
    };
    (1..).zip(hosts).map(server).collect()
}

/// How Redis is set up for Rota, and so that tests can block it and need not wait long for it.
fn settings(host: &Host, dir: &Path) -> Vec<String> {
    fs::create_dir_all(dir).expect("a directory");
    [
        format!("bind {}", host.address()),
        format!("port {PORT}"),
        format!("dir {}", dir.display()),
        "protected-mode no".to_owned(),
        "appendonly yes".to_owned(),
        "appendfsync always".to_owned(),
        "no-appendfsync-on-rewrite no".to_owned(),
        // Who keeps the file of a master would miss what goes to the next one.
        "auto-aof-rewrite-percentage 0".to_owned(),
        "save \"\"".to_owned(),
        "enable-debug-command yes".to_owned(),
        "repl-diskless-sync-delay 0".to_owned(),
        "repl-ping-replica-period 1".to_owned(),
    ]
    .into()
}

pub(super) fn sentinels(master: &Host, hosts: Vec<Host>, home: &Path) -> Vec<Process> {
    let sentinel = |(at, host): (usize, Host)| {
        let name = format!("s{at}");
        let dir = home.join(&name);
        fs::create_dir_all(&dir).expect("a directory");
        let settings = [
            format!("bind {}", host.address()),
            format!("port {SENTINEL_PORT}"),
            format!("dir {}", dir.display()),
            "protected-mode no".to_owned(),
            format!("sentinel monitor {MASTER} {} {PORT} 2", master.address()),
            format!("sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}"),
            format!("sentinel failover-timeout {MASTER} 4000"),
        ];
        process(host, &name, &settings, &["--sentinel"], home)
    };
    (1..).zip(hosts).map(sentinel).collect()
}

/// Redis and Sentinel write their roles into their files, so a process that is started again goes on as it was.
fn process(host: Host, name: &str, settings: &[String], mode: &[&str], home: &Path) -> Process {
    let file = home.join(format!("{name}.conf"));
    fs::write(&file, settings.join("\n") + "\n").expect("written");
    let file = file.display().to_string();
    let arguments = std::iter::once(file).chain(mode.iter().map(|mode| (*mode).to_owned()));
    Process::new(host, name, Path::new("redis-server"), arguments.collect(), home)
}

/// Whether a server has loaded its data and is in step with its master, if it has one.
pub(super) async fn is_ready(server: &str) -> bool {
    let info = info(server).await;
    info.contains("loading:0")
        && !info.contains("master_link_status:down")
        && !info.contains("master_sync_in_progress:1")
}

pub(super) async fn is_master(server: &str) -> bool {
    info(server).await.contains("role:master")
}

/// Whether a server is a replica in step with its master.
pub async fn follows(server: &str) -> bool {
    info(server).await.contains("master_link_status:up")
}

/// Whether a server is about to replace its append-only file. Nodes have it do so after a restart.
pub async fn writes_its_file_anew(server: &str) -> bool {
    let info = info(server).await;
    info.contains("aof_rewrite_in_progress:1") || info.contains("aof_rewrite_scheduled:1")
}

async fn info(server: &str) -> String {
    text(ask(server, &["INFO", "everything"]).await).unwrap_or_default()
}

/// The master as the Sentinels have it: where it is, and the number of the failover that made it so. The newest
/// answer counts.
pub async fn master(sentinels: &[String]) -> Option<(String, u64)> {
    let mut newest: Option<(String, u64)> = None;
    for sentinel in sentinels {
        let told = watched(sentinel).await;
        // The address that `SENTINEL MASTER` tells is the former one for a while.
        let place = ask(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).await;
        let place = place.as_ref().map(Value::list).unwrap_or_default();
        let [Some(ip), Some(port)] = [place.first(), place.get(1)].map(|part| part?.text()) else {
            continue;
        };
        let epoch = told.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        if newest.as_ref().is_none_or(|(_, newest)| *newest < epoch) {
            newest = Some((format!("{ip}:{port}"), epoch));
        }
    }
    newest
}

/// Whether it is settled who the master is: all Sentinels name the same, none finds anything wrong with it or is about to
/// replace it, and all other servers follow it. Only then is no change written any more that will be lost.
pub(super) async fn is_settled(sentinels: &[String], servers: &[String]) -> bool {
    let mut views = Vec::new();
    for sentinel in sentinels {
        views.push(watched(sentinel).await);
    }
    let Some(master) = agreed(&views) else { return false };
    for server in servers {
        let info = info(server).await;
        let is_in_place = match *server == master {
            true => info.contains("role:master"),
            false => info.contains("master_link_status:up") && follows_that(&info, &master),
        };
        if !is_in_place || !info.contains("loading:0") {
            return false;
        }
    }
    true
}

/// The master, if all of these views of Sentinels name it, as of the same failover, and find it as it should be.
fn agreed(views: &[BTreeMap<String, String>]) -> Option<String> {
    let named = |view: &BTreeMap<String, String>| {
        let get = |name: &str| view.get(name).cloned();
        let is_well = get("flags")? == "master";
        is_well.then_some((get("ip")?, get("port")?, get("config-epoch")?))
    };
    let first = named(views.first()?)?;
    let all = views.iter().all(|view| named(view).as_ref() == Some(&first));
    all.then(|| format!("{}:{}", first.0, first.1))
}

/// Whether a replica that says this follows that master.
fn follows_that(info: &str, master: &str) -> bool {
    let says = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let (host, port) = (says("master_host:"), says("master_port:"));
    host.zip(port).is_some_and(|(host, port)| format!("{host}:{port}") == master)
}

/// Whether a Sentinel knows that many replicas, and all other Sentinels.
pub(super) async fn knows(sentinel: &str, replicas: usize) -> bool {
    let told = watched(sentinel).await;
    told.get("num-slaves") == Some(&replicas.to_string())
        && told.get("num-other-sentinels") == Some(&(SENTINELS - 1).to_string())
}

/// What a Sentinel says of the master.
async fn watched(sentinel: &str) -> BTreeMap<String, String> {
    let told = ask(sentinel, &["SENTINEL", "MASTER", MASTER]).await;
    let told = told.as_ref().map(Value::list).unwrap_or_default();
    let text = |value: &Value| value.text().unwrap_or_default().to_owned();
    told.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

/// The number of the last batch.
///
/// # Panics
/// When the server does not answer.
pub async fn head(server: &str) -> i64 {
    let seq = text(ask(server, &["HGET", "{rota}:head", "seq"]).await);
    seq.and_then(|seq| seq.parse().ok()).expect("the head")
}

/// One command on a connection of its own.
///
/// # Errors
/// When the server does not answer in time.
pub async fn ask(server: &str, command: &[&str]) -> io::Result<Value> {
    let asked = async { Connection::to(server).await?.ask(command).await };
    timeout(ANSWERS_WITHIN, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The text of an answer that is one.
pub fn text(answer: io::Result<Value>) -> Option<String> {
    answer.ok()?.text().map(str::to_owned)
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Nil,
    /// A number.
    Number(i64),
    /// Text or bytes.
    Bytes(Vec<u8>),
    /// An error.
    Error(String),
    /// Several values.
    List(Vec<Value>),
}

impl Value {
    /// It as text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// It as values.
    #[must_use]
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(values) => values,
            _ => &[],
        }
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn to(server: &str) -> io::Result<Self> {
        let connecting = timeout(ANSWERS_WITHIN, TcpStream::connect(server));
        let stream = connecting.await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a command and reads the answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn ask(&mut self, command: &[&str]) -> io::Result<Value> {
        let mut request = format!("*{}\r\n", command.len());
        for word in command {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(request.as_bytes()).await?;
        self.read().await
    }

    async fn read(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.0.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let (kind, rest) = line.trim_end().split_at_checked(1).ok_or_else(invalid)?;
        let number = || rest.parse::<i64>().map_err(|_| invalid());
        Ok(match kind {
            "+" => Value::Bytes(rest.into()),
            "-" => Value::Error(rest.into()),
            ":" => Value::Number(number()?),
            "$" | "*" if number()? < 0 => Value::Nil,
            "$" => {
                let length = usize::try_from(number()?).map_err(|_| invalid())?;
                let mut bytes = vec![0; length + 2];
                self.0.read_exact(&mut bytes).await?;
                bytes.truncate(length);
                Value::Bytes(bytes)
            }
            "*" => {
                let mut values = Vec::new();
                for _ in 0..number()? {
                    values.push(Box::pin(self.read()).await?);
                }
                Value::List(values)
            }
            _ => return Err(invalid()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(ip: &str, flags: &str, epoch: &str) -> BTreeMap<String, String> {
        let fields = [("ip", ip), ("port", "6379"), ("flags", flags), ("config-epoch", epoch)];
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn a_master_is_settled_when_no_sentinel_is_about_to_replace_it() {
        let well = || view("10.0.0.2", "master", "4");
        assert_eq!(agreed(&[well(), well()]).as_deref(), Some("10.0.0.2:6379"));
        assert_eq!(agreed(&[]), None);
        assert_eq!(agreed(&[well(), BTreeMap::new()]), None, "one does not answer");
        // It answers again, and is replaced all the same.
        let replaces = view("10.0.0.2", "master,failover_in_progress,force_failover", "4");
        let misses = view("10.0.0.2", "s_down,master", "4");
        for other in
            [replaces, misses, view("10.0.0.3", "master", "6"), view("10.0.0.2", "master", "6")]
        {
            assert_eq!(agreed(&[well(), other]), None);
        }
    }

    #[test]
    fn a_replica_of_the_former_master_is_not_in_place() {
        let info =
            "role:slave\r\nmaster_host:10.0.0.2\r\nmaster_port:6379\r\nmaster_link_status:up\r\n";
        assert!(follows_that(info, "10.0.0.2:6379"));
        assert!(!follows_that(info, "10.0.0.3:6379"));
        assert!(!follows_that("role:master\r\n", "10.0.0.2:6379"));
    }
}
