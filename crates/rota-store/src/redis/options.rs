//! The settings of the Redis backend.

use std::{fmt, path::PathBuf, time::Duration};

use crate::store::StoreError;

/// A server that is merely busy answers within this time.
const CONTROL_PATIENCE_MIN: Duration = Duration::from_secs(1);

const DEFAULT_PORT: u16 = 6379;
const DEFAULT_SENTINEL_PORT: u16 = 26379;

/// Settings of [`crate::redis::RedisStore`]. All nodes of a cluster share the servers, the database and the prefix.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Where Redis is.
    pub servers: RedisServers,
    /// Number of the database.
    pub database: u32,
    /// Hash tag of all keys: `rota` makes keys like `{rota}:head`. Several clusters of Rota can share one Redis under
    /// different prefixes.
    pub prefix: String,
    /// TLS towards Redis and its Sentinels; `None` for plain TCP.
    pub tls: Option<RedisTls>,
    /// User and password for Redis, where it asks for one.
    pub user: Option<RedisUser>,
    /// User and password for the Sentinels, where they ask for one.
    pub sentinel_user: Option<RedisUser>,
    /// How durable Redis must be.
    pub durability: RedisDurability,
    /// Number of replicas that must have a batch before it is acknowledged. From Redis 7.2 on, they must have it on
    /// disk, before that in memory.
    pub replicas: u32,
    /// How long batches are kept for watchers. The next two settings can shorten it.
    pub history: Duration,
    /// Bytes of batches that are kept for watchers, about.
    pub history_bytes: u64,
    /// Bytes of replaced values that are kept for open snapshots. Beyond it, the snapshots end with
    /// [`StoreError::Compacted`].
    pub snapshot_bytes: u64,
    /// How long after its death a leader's seat becomes free.
    pub leader_ttl: Duration,
    /// How long Redis has for one answer.
    pub timeout: Duration,
}

/// The servers of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisServers {
    /// One server, as `host:port`.
    Single(String),
    /// Sentinels that know the master.
    Sentinel {
        /// The Sentinels, each as `host:port`.
        sentinels: Vec<String>,
        /// The name under which they watch the master.
        master: String,
    },
}

/// How durable Redis must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedisDurability {
    /// Every batch is on the disk before it is acknowledged: `appendonly yes` and `appendfsync always`. Rota refuses a
    /// server that is set up otherwise or does not tell.
    #[default]
    Always,
    /// The operator accepts that a crash of Redis or its machine loses the last batches, as many as the server's
    /// settings allow. [`StoreStatus`](crate::StoreStatus) says so.
    Async,
}

/// TLS towards Redis. The files are read anew for each connection, so they can be replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// PEM file with the authorities that may have signed the server's certificates; `None` for those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file with this node's own certificate chain. Goes with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    pub key_file: Option<PathBuf>,
}

/// A user of Redis.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUser {
    /// Name of the user; `default` where Redis has a password only.
    pub name: String,
    /// Its password. Not shown by `Debug`.
    pub password: String,
}

impl fmt::Debug for RedisUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisUser").field("name", &self.name).finish_non_exhaustive()
    }
}

impl RedisOptions {
    /// These servers; everything else by default.
    #[must_use]
    pub fn new(servers: RedisServers) -> Self {
        Self {
            servers,
            database: 0,
            prefix: "rota".to_owned(),
            tls: None,
            user: None,
            sentinel_user: None,
            durability: RedisDurability::Always,
            replicas: 0,
            history: Duration::from_secs(600),
            history_bytes: 128 << 20,
            snapshot_bytes: 256 << 20,
            leader_ttl: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
        }
    }

    /// Options from an address: `redis://HOST[:PORT][/DATABASE][/PREFIX]`, the same with `rediss://` for TLS, or
    /// `redis+sentinel://HOST[:PORT],…/MASTER[/DATABASE][/PREFIX]` (`rediss+sentinel://` for TLS).
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`] when it is not such an address. A user and password in it are refused, because addresses
    /// are shown and logged.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        let refused = |why: &str| StoreError::Open(format!("the address of Redis {why}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refused("has no scheme"))?;
        let (secure, by_sentinel) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            _ => return Err(refused("begins with redis://, rediss:// or redis+sentinel://")),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.contains('@') {
            return Err(refused("must not hold a user or password; set them apart"));
        }
        let default = if by_sentinel { DEFAULT_SENTINEL_PORT } else { DEFAULT_PORT };
        let mut hosts =
            hosts.split(',').map(|host| with_port(host, default)).collect::<Result<Vec<_>, _>>()?;
        let mut path = path.split('/').filter(|part| !part.is_empty()).peekable();
        let servers = if by_sentinel {
            let master = path.next().ok_or_else(|| refused("does not name the master"))?;
            RedisServers::Sentinel { sentinels: hosts, master: master.to_owned() }
        } else if hosts.len() == 1 {
            RedisServers::Single(hosts.remove(0))
        } else {
            return Err(refused("names several hosts; that goes with redis+sentinel:// only"));
        };
        let mut options = Self::new(servers);
        options.tls = secure.then(RedisTls::default);
        if let Some(database) = path.peek().and_then(|part| part.parse().ok()) {
            options.database = database;
            path.next();
        }
        if let Some(prefix) = path.next() {
            options.prefix = prefix.to_owned();
        }
        if path.next().is_some() {
            return Err(refused("has too many parts; it ends with the database and the prefix"));
        }
        Ok(options)
    }

    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let tls = self.tls.clone().unwrap_or_default();
        let has_server = match &self.servers {
            RedisServers::Single(host) => !host.is_empty(),
            RedisServers::Sentinel { sentinels, master } => {
                !sentinels.is_empty() && !master.is_empty()
            }
        };
        let problem = if !has_server {
            "no server is given"
        } else if self.prefix.is_empty()
            || !self.prefix.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            "the prefix must be of letters, digits, `-`, `_` and `.`"
        } else if tls.cert_file.is_some() != tls.key_file.is_some() {
            "a certificate and its key are given together or not at all"
        } else if self.leader_ttl < Duration::from_secs(1) {
            "the leader's time to live must be at least a second"
        } else if self.timeout.is_zero() {
            "the timeout must not be zero"
        } else {
            return Ok(());
        };
        Err(StoreError::Open(format!("Redis at {}: {problem}", self.location())))
    }

    /// How long Redis has for one answer about leadership.
    pub(super) fn control_patience(&self) -> Duration {
        (self.leader_ttl / 5).max(CONTROL_PATIENCE_MIN).min(self.timeout)
    }

    /// For people.
    pub(super) fn location(&self) -> String {
        let secure = if self.tls.is_some() { "rediss" } else { "redis" };
        let place = match &self.servers {
            RedisServers::Single(host) => format!("{secure}://{host}"),
            RedisServers::Sentinel { sentinels, master } => {
                format!("{secure}+sentinel://{}/{master}", sentinels.join(","))
            }
        };
        format!("{place}/{}/{}", self.database, self.prefix)
    }
}

fn with_port(host: &str, default: u16) -> Result<String, StoreError> {
    match split_port(host) {
        Some(_) => Ok(host.to_owned()),
        None if !host.is_empty() && (!host.contains(':') || host.ends_with(']')) => {
            Ok(format!("{host}:{default}"))
        }
        None => {
            Err(StoreError::Open(format!("the address of Redis has no host and port in `{host}`")))
        }
    }
}

/// Host and port of `host:port`.
pub(super) fn split_port(endpoint: &str) -> Option<(&str, u16)> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_servers_database_and_prefix() {
        let single = |host: &str| RedisServers::Single(host.to_owned());
        let sentinel = |hosts: &[&str]| RedisServers::Sentinel {
            sentinels: hosts.iter().map(ToString::to_string).collect(),
            master: "m".to_owned(),
        };
        for (url, servers, database, prefix, tls) in [
            ("redis://a", single("a:6379"), 0, "rota", false),
            ("rediss://a:1/", single("a:1"), 0, "rota", true),
            ("redis://[::1]:1/3", single("[::1]:1"), 3, "rota", false),
            ("redis://[::1]/3/x", single("[::1]:6379"), 3, "x", false),
            ("redis://a/x", single("a:6379"), 0, "x", false),
            ("redis+sentinel://a,b:1/m", sentinel(&["a:26379", "b:1"]), 0, "rota", false),
            ("rediss+sentinel://a/m/2/x", sentinel(&["a:26379"]), 2, "x", true),
        ] {
            let options = RedisOptions::from_url(url).expect(url);
            assert_eq!(options.servers, servers, "{url}");
            assert_eq!((options.database, options.prefix.as_str()), (database, prefix), "{url}");
            assert_eq!(options.tls.is_some(), tls, "{url}");
            assert!(options.check().is_ok(), "{url}");
        }
        for url in [
            "a:1",
            "etcd://a",
            "redis://",
            "redis://a:",
            "redis://a:b",
            "redis://a,b",
            "redis://u:p@a",
            "redis://:p@a",
            "redis+sentinel://a",
            "redis+sentinel://u:p@a/m",
            "redis://a/1/x/y",
        ] {
            let refused = RedisOptions::from_url(url);
            assert!(matches!(refused, Err(StoreError::Open(_))), "{url}: {refused:?}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let good = || RedisOptions::new(RedisServers::Single("a:1".to_owned()));
        let cert = RedisTls { cert_file: Some("cert".into()), ..RedisTls::default() };
        for (options, word) in [
            (RedisOptions { servers: RedisServers::Single(String::new()), ..good() }, "server"),
            (RedisOptions { prefix: "{a}".to_owned(), ..good() }, "prefix"),
            (RedisOptions { tls: Some(cert), ..good() }, "certificate"),
            (RedisOptions { leader_ttl: Duration::ZERO, ..good() }, "time to live"),
            (RedisOptions { timeout: Duration::ZERO, ..good() }, "timeout"),
        ] {
            let refused = options.check().expect_err(word).to_string();
            assert!(refused.contains(word), "{refused}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let user = RedisUser { name: "rota".to_owned(), password: "secret".to_owned() };
        assert!(!format!("{user:?}").contains("secret"));
    }
}
