//! What can be set about the etcd backend.

use std::{fmt, path::PathBuf, time::Duration};

use super::{
    capacity::{BATCH_BYTES_MIN, OPERATIONS_MIN, Takes},
    layout::Layout,
};
use crate::store::StoreError;

/// A member of etcd that is merely busy answers within this time.
const CONTROL_PATIENCE_MIN: Duration = Duration::from_secs(1);

const MIB: usize = 1024 * 1024;

/// Settings of [`crate::etcd::EtcdStore`]. All nodes of a cluster share `endpoints` and `prefix`.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// The members of etcd, each as `host:port`. Every connection goes to the first of them and moves
    /// on to the next when that fails; so nodes that name them in another order share the load out.
    pub endpoints: Vec<String>,
    /// What all keys begin with, without slashes at its ends; `rota` makes keys like
    /// `rota/leader`. Several clusters of Rota can share one etcd under different prefixes.
    pub prefix: String,
    /// TLS towards etcd; `None` for plain TCP.
    pub tls: Option<EtcdTls>,
    /// Whom to authenticate as, where etcd has authentication enabled.
    pub user: Option<EtcdUser>,
    /// The operations that etcd takes in one transaction: its `--max-txn-ops`, 128 unless set.
    pub txn_ops_max: usize,
    /// The bytes that etcd takes in one request: its `--max-request-bytes`, 1.5 MiB unless set.
    pub request_bytes_max: usize,
    /// How long old revisions are kept before the leader has etcd compact them away. Near the quota
    /// they are kept for seconds only.
    pub history: Duration,
    /// The size to which etcd's database may grow: its `--quota-backend-bytes`, 2 GiB unless set.
    /// etcd before 3.6 does not tell, so it must be said here as well.
    pub quota_bytes: u64,
    /// How long after its death a leader's seat becomes free. Whole seconds; etcd raises it to the
    /// least that it can keep (about 2 s).
    pub leader_ttl: Duration,
    /// How long etcd has for one answer. A call takes at most about twice as long, when it is tried
    /// again at another member.
    pub timeout: Duration,
}

/// TLS towards etcd. The files are read anew for each connection, so they can be replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EtcdTls {
    /// PEM file with the authorities that may have signed etcd's certificates; `None` for those of
    /// the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file with this node's own certificate chain. Goes with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    pub key_file: Option<PathBuf>,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdUser {
    /// Name of the user.
    pub name: String,
    /// Its password. Not shown by `Debug`.
    pub password: String,
}

impl fmt::Debug for EtcdUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdUser").field("name", &self.name).finish_non_exhaustive()
    }
}

impl EtcdOptions {
    /// These endpoints and this prefix; everything else as etcd is unless it was set up otherwise.
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

    /// Options from an address such as `etcd://10.0.0.1:2379,10.0.0.2:2379/rota`. The port is 2379
    /// and the prefix `rota` unless given.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`] when it is not such an address. A user and password in it are refused,
    /// because addresses are shown and logged.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        let refused = |why: &str| StoreError::Open(format!("the address of etcd {why}"));
        let rest = url.strip_prefix("etcd://").ok_or_else(|| refused("begins with etcd://"))?;
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.contains('@') {
            return Err(refused("must not hold a user; set it apart"));
        }
        let endpoint = |host: &str| match host.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => Ok(host.to_owned()),
            None if !host.is_empty() => Ok(format!("{host}:2379")),
            _ if host.ends_with(']') => Ok(format!("{host}:2379")),
            _ => Err(refused(&format!("has no host and port in `{host}`"))),
        };
        let endpoints = hosts.split(',').map(endpoint).collect::<Result<_, _>>()?;
        let prefix = prefix.trim_matches('/');
        Ok(Self::new(endpoints, if prefix.is_empty() { "rota" } else { prefix }))
    }

    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let tls = self.tls.clone().unwrap_or_default();
        let layout = Layout::new(&self.prefix, &[]);
        let problem = if self.endpoints.is_empty() {
            "no endpoint is given"
        } else if self.prefix.is_empty() || self.prefix.trim_matches('/') != self.prefix {
            "the prefix must not be empty nor begin or end with a slash"
        } else if self.txn_ops_max < OPERATIONS_MIN {
            "etcd must take at least 8 operations in a transaction"
        } else if Takes::said(self).limits(&layout).bytes_max < BATCH_BYTES_MIN {
            "etcd must take requests of at least 68 KiB"
        } else if tls.cert_file.is_some() != tls.key_file.is_some() {
            "a certificate and its key are given together or not at all"
        } else if self.leader_ttl < Duration::from_secs(1) {
            "the leader's time to live must be at least a second"
        } else if self.timeout.is_zero() {
            "the timeout must not be zero"
        } else {
            return Ok(());
        };
        Err(StoreError::Open(format!("etcd at {}: {problem}", self.location())))
    }

    /// How long etcd has for one answer about leadership. Less than for others: a request that a member
    /// took while etcd had no leader is answered late or never, and the next one at once.
    pub(super) fn control_patience(&self) -> Duration {
        (self.leader_ttl / 5).max(CONTROL_PATIENCE_MIN).min(self.timeout)
    }

    /// Endpoints and prefix, for people.
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
            (EtcdOptions { request_bytes_max: 60_000, ..good() }, "requests"),
            (EtcdOptions { tls: Some(cert), ..good() }, "certificate"),
            (EtcdOptions { leader_ttl: Duration::ZERO, ..good() }, "time to live"),
            (EtcdOptions { timeout: Duration::ZERO, ..good() }, "timeout"),
        ] {
            let refused = options.check().expect_err(word).to_string();
            assert!(refused.contains(word), "{refused}");
        }
    }
}
