//! The options of the etcd backend.

use std::{fmt, path::PathBuf, time::Duration};

use super::{
    capacity::{BATCH_BYTES_MIN, OPERATIONS_MIN, Takes},
    layout::Layout,
};
use crate::store::StoreError;

/// Time within which a busy member of etcd answers.
const CONTROL_PATIENCE_MIN: Duration = Duration::from_secs(1);

const MIB: usize = 1024 * 1024;

/// Options of [`crate::etcd::EtcdStore`]. All nodes of a cluster share `endpoints` and `prefix`.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// The members of etcd, each as `host:port`. Every connection goes to the first one, and to the next when
    /// that fails. To share the load, list them in another order on each node.
    pub endpoints: Vec<String>,
    /// Prefix of all keys, without slashes at its ends; `rota` makes keys such as `rota/leader`. Several
    /// clusters of Rota can share one etcd with different prefixes.
    pub prefix: String,
    /// TLS for connections to etcd. `None` for plain TCP.
    pub tls: Option<EtcdTls>,
    /// User, if etcd has authentication enabled.
    pub user: Option<EtcdUser>,
    /// Maximum number of operations in one transaction: etcd's `--max-txn-ops`, 128 by default.
    pub txn_ops_max: usize,
    /// Maximum bytes of one request: etcd's `--max-request-bytes`, 1.5 MiB by default.
    pub request_bytes_max: usize,
    /// Age at which the leader makes etcd compact old revisions. Near the quota they are kept only for
    /// seconds.
    pub history: Duration,
    /// Maximum size of etcd's database: its `--quota-backend-bytes`, 2 GiB by default. etcd before 3.6 does
    /// not report it, so it must be set here, too.
    pub quota_bytes: u64,
    /// Time after which the seat of a dead leader becomes free, in whole seconds. etcd raises it to its
    /// minimum of about 2 s.
    pub leader_ttl: Duration,
    /// Timeout of one request to etcd. A call takes at most about twice as long, if it is retried at another
    /// member.
    pub timeout: Duration,
}

/// TLS for connections to etcd. The files are read again for each connection, so they can be replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EtcdTls {
    /// PEM file with the CA certificates for etcd. `None` for those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client certificate chain of this node. Requires `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the private key of the client certificate.
    pub key_file: Option<PathBuf>,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdUser {
    /// Name of the user.
    pub name: String,
    /// Password. `Debug` does not show it.
    pub password: String,
}

impl fmt::Debug for EtcdUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdUser").field("name", &self.name).finish_non_exhaustive()
    }
}

impl EtcdOptions {
    /// Options with these endpoints and this prefix, and the defaults of etcd for everything else.
    #[must_use]
    pub fn new(endpoints: Vec<String>, prefix: impl Into<String>) -> Self {
        Self {
            endpoints,
            prefix: prefix.into(),
            tls: None,
            user: None,
            txn_ops_max: 128,
            request_bytes_max: MIB + MIB / 2,
            history: Duration::from_secs(600),
            quota_bytes: 2 << 30,
            leader_ttl: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
        }
    }

    /// Options from an address such as `etcd://10.0.0.1:2379,10.0.0.2:2379/rota`. The default port is 2379,
    /// and the default prefix is `rota`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`] when the address is invalid. A user in it is refused, because addresses are shown
    /// and logged.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        let refused = |why: &str| StoreError::Open(format!("the address of etcd {why}"));
        let rest = url.strip_prefix("etcd://").ok_or_else(|| refused("must begin with etcd://"))?;
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.contains('@') {
            return Err(refused("must not contain a user; set the user separately"));
        }
        let endpoint = |host: &str| match host.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => Ok(host.to_owned()),
            None if !host.is_empty() => Ok(format!("{host}:2379")),
            _ if host.ends_with(']') => Ok(format!("{host}:2379")),
            _ => Err(refused(&format!("has an invalid host and port: `{host}`"))),
        };
        let endpoints = hosts.split(',').map(endpoint).collect::<Result<_, _>>()?;
        let prefix = prefix.trim_matches('/');
        Ok(Self::new(endpoints, if prefix.is_empty() { "rota" } else { prefix }))
    }

    /// Validates the options.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let tls = self.tls.clone().unwrap_or_default();
        let layout = Layout::new(&self.prefix, &[]);
        let problem = if self.endpoints.is_empty() {
            "at least one endpoint is required"
        } else if self.prefix.is_empty() || self.prefix.trim_matches('/') != self.prefix {
            "the prefix must not be empty, and must not begin or end with a slash"
        } else if self.txn_ops_max < OPERATIONS_MIN {
            "the maximum number of operations in a transaction must be at least 8"
        } else if Takes::said(self).limits(&layout).bytes_max < BATCH_BYTES_MIN {
            "the maximum size of a request must be at least 68 KiB"
        } else if tls.cert_file.is_some() != tls.key_file.is_some() {
            "a client certificate and its private key must be set together"
        } else if self.leader_ttl < Duration::from_secs(1) {
            "the TTL of the leader must be at least 1 s"
        } else if self.timeout.is_zero() {
            "the timeout must not be zero"
        } else {
            return Ok(());
        };
        Err(StoreError::Open(format!("etcd at {}: {problem}", self.location())))
    }

    /// Timeout of requests about leadership. It is shorter than others, because a request that a member
    /// accepted while etcd had no leader is answered late or never, and the next one at once.
    pub(super) fn control_patience(&self) -> Duration {
        (self.leader_ttl / 5).max(CONTROL_PATIENCE_MIN).min(self.timeout)
    }

    /// Endpoints and prefix as text.
    pub(super) fn location(&self) -> String {
        format!("{}/{}", self.endpoints.join(","), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_endpoints_and_prefix() {
        for (url, endpoints, prefix) in [
            ("etcd://a:1", &["a:1"][..], "rota"),
            ("etcd://a", &["a:2379"], "rota"),
            ("etcd://a:1,b,c:3/", &["a:1", "b:2379", "c:3"], "rota"),
            ("etcd://a/x/y/", &["a:2379"], "x/y"),
            (
                "etcd://10.0.0.1:2379,[::1]:2379,[fe80::1]/x",
                &["10.0.0.1:2379", "[::1]:2379", "[fe80::1]:2379"],
                "x",
            ),
        ] {
            let options = EtcdOptions::from_url(url).expect(url);
            assert_eq!(options.endpoints, endpoints);
            assert_eq!(options.prefix, prefix);
            assert!(options.check().is_ok(), "{url}");
        }
        for url in [
            "a:1",
            "http://a:1",
            "etcd://",
            "etcd://a:",
            "etcd://a:b",
            "etcd://a,,b",
            "etcd://u:p@a",
        ] {
            let refused = EtcdOptions::from_url(url);
            assert!(matches!(refused, Err(StoreError::Open(_))), "{url}: {refused:?}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let good = || EtcdOptions::new(vec!["a:1".to_owned()], "rota");
        let cert = EtcdTls { cert_file: Some("cert".into()), ..EtcdTls::default() };
        for (options, word) in [
            (EtcdOptions { endpoints: Vec::new(), ..good() }, "endpoint"),
            (EtcdOptions { prefix: String::new(), ..good() }, "prefix"),
            (EtcdOptions { prefix: "/rota".to_owned(), ..good() }, "prefix"),
            (EtcdOptions { txn_ops_max: 1, ..good() }, "operations"),
            (EtcdOptions { request_bytes_max: 60_000, ..good() }, "request"),
            (EtcdOptions { tls: Some(cert), ..good() }, "certificate"),
            (EtcdOptions { leader_ttl: Duration::ZERO, ..good() }, "TTL"),
            (EtcdOptions { timeout: Duration::ZERO, ..good() }, "timeout"),
        ] {
            let refused = options.check().expect_err(word).to_string();
            assert!(refused.contains(word), "{refused}");
        }
    }
}
