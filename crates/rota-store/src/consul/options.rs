//! What can be set about the Consul backend.

use std::{fmt, path::PathBuf, time::Duration};

use crate::store::StoreError;

/// A longer prefix would leave too little room beside the names of the pieces that a transaction deletes.
const PREFIX_BYTES_MAX: usize = 64;

/// Settings of [`crate::consul::ConsulStore`]. All nodes of a cluster share `prefix`.
#[derive(Debug, Clone)]
pub struct ConsulOptions {
    /// Agents of Consul, each as `host:port`: usually the one on this machine, or the servers. Requests go to
    /// the first of them, and on to the next when it fails.
    pub agents: Vec<String>,
    /// What all keys begin with, without slashes at its ends.
    pub prefix: String,
    /// TLS towards Consul; `None` for plain HTTP.
    pub tls: Option<ConsulTls>,
    /// The ACL token, which needs `key:write` on the prefix and `session:write`.
    pub token: Option<ConsulToken>,
    /// The datacenter that holds the data; `None` for that of the agent.
    pub datacenter: Option<String>,
    /// The namespace of the keys (Consul Enterprise).
    pub namespace: Option<String>,
    /// The TTL of sessions. Consul takes at least its `session_ttl_min` (10 s unless set), and frees a dead
    /// leader's seat after up to twice the TTL.
    pub leader_ttl: Duration,
    /// Maximum time for one answer.
    pub timeout: Duration,
    /// The bytes of memory that Consul may use for this store.
    pub size_bytes_max: u64,
    /// The log may grow to this size, or to twice what is live, before what is live is moved out of its oldest
    /// part.
    pub log_bytes_min: u64,
}

/// TLS towards Consul. The files are read when the store is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsulTls {
    /// PEM file with the authorities that may have signed Consul's certificates; `None` for those of
    /// the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file with this node's own certificate chain. Goes with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    pub key_file: Option<PathBuf>,
}

/// An ACL token. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsulToken(pub String);

impl fmt::Debug for ConsulToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConsulToken(…)")
    }
}

impl ConsulOptions {
    /// These agents and this prefix; everything else as Consul is unless it was set up otherwise.
    #[must_use]
    pub fn new(agents: Vec<String>, prefix: impl Into<String>) -> Self {
        Self {
            agents,
            prefix: prefix.into(),
            tls: None,
            token: None,
            datacenter: None,
            namespace: None,
            leader_ttl: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            size_bytes_max: 512 << 20,
            log_bytes_min: 64 << 20,
        }
    }

    /// Options from an address such as `consul://10.0.0.1:8500,10.0.0.2:8500/rota?dc=dc1`. The port is 8500
    /// and the prefix `rota` unless given. The query may have `dc`, `ns` and `tls=true`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`] when it is not such an address. A token in it is refused, because addresses are
    /// shown and logged.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        let refused = |why: &str| StoreError::Open(format!("invalid address of Consul: {why}"));
        let rest =
            url.strip_prefix("consul://").ok_or_else(|| refused("it must begin with consul://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.contains('@') {
            return Err(refused("it must not hold a token; set the token apart"));
        }
        let agent = |host: &str| match host.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(host.to_owned())
            }
            None if !host.is_empty() => Ok(format!("{host}:8500")),
            _ if host.ends_with(']') => Ok(format!("{host}:8500")),
            _ => Err(refused(&format!("no host and port in `{host}`"))),
        };
        let agents = hosts.split(',').map(agent).collect::<Result<_, _>>()?;
        let prefix = prefix.trim_matches('/');
        let mut options = Self::new(agents, if prefix.is_empty() { "rota" } else { prefix });
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (key, value) {
                ("token", _) => {
                    return Err(refused("it must not hold a token; set the token apart"));
                }
                ("dc", value) if is_name(value) => options.datacenter = Some(value.to_owned()),
                ("ns", value) if is_name(value) => options.namespace = Some(value.to_owned()),
                ("tls", "true") => options.tls = Some(ConsulTls::default()),
                ("tls", "false") => options.tls = None,
                _ => return Err(refused(&format!("`{pair}` is none of dc=…, ns=…, tls=true"))),
            }
        }
        Ok(options)
    }

    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let tls = self.tls.clone().unwrap_or_default();
        let named = |name: &Option<String>| name.as_deref().is_none_or(is_name);
        let problem = if self.agents.is_empty() {
            "no agent is given"
        } else if self.prefix.is_empty() || self.prefix.trim_matches('/') != self.prefix {
            "the prefix must not be empty nor begin or end with a slash"
        } else if self.prefix.contains("..") {
            // From 1.21.5 on, Consul refuses such keys.
            "the prefix must not have two dots in a row"
        } else if self.prefix.len() > PREFIX_BYTES_MAX || !self.prefix.split('/').all(is_name) {
            "the prefix has at most 64 letters, digits, `-`, `_`, `.` and slashes"
        } else if !named(&self.datacenter) || !named(&self.namespace) {
            "the names of datacenter and namespace have letters, digits, `-`, `_` and `.` only"
        } else if tls.cert_file.is_some() != tls.key_file.is_some() {
            "a certificate and its key are given together or not at all"
        } else if self.leader_ttl < Duration::from_secs(1) {
            "the leader's time to live must be at least a second"
        } else if self.timeout.is_zero() {
            "the timeout must not be zero"
        } else if self.size_bytes_max < 16 << 20 {
            "the size must be at least 16 MiB"
        } else {
            return Ok(());
        };
        Err(StoreError::Open(format!("Consul at {}: {problem}", self.location())))
    }

    /// Agents and prefix, for people.
    pub(super) fn location(&self) -> String {
        let datacenter = self.datacenter.as_ref().map(|name| format!("?dc={name}"));
        format!("{}/{}{}", self.agents.join(","), self.prefix, datacenter.unwrap_or_default())
    }
}

/// Whether it can stand in an address as it is.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_agents_prefix_and_datacenter() {
        for (url, agents, prefix, datacenter) in [
            ("consul://a:1", &["a:1"][..], "rota", None),
            ("consul://a", &["a:8500"], "rota", None),
            ("consul://a:1,b/x/y/?dc=dc2", &["a:1", "b:8500"], "x/y", Some("dc2")),
            ("consul://[::1]:8500,[fe80::1]/x", &["[::1]:8500", "[fe80::1]:8500"], "x", None),
        ] {
            let options = ConsulOptions::from_url(url).expect(url);
            assert_eq!(options.agents, agents);
            assert_eq!(options.prefix, prefix);
            assert_eq!(options.datacenter.as_deref(), datacenter);
            assert!(options.check().is_ok(), "{url}");
        }
        assert!(ConsulOptions::from_url("consul://a?tls=true").expect("it is one").tls.is_some());
        for url in [
            "a:1",
            "consul://",
            "consul://a:b",
            "consul://a,,b",
            "consul://t@a",
            "consul://a?token=secret",
            "consul://a?dc=",
            "consul://a?dc=a%20b",
            "consul://a?other=1",
        ] {
            let refused = ConsulOptions::from_url(url);
            assert!(matches!(refused, Err(StoreError::Open(_))), "{url}: {refused:?}");
            assert!(!refused.expect_err(url).to_string().contains("secret"), "{url}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let good = || ConsulOptions::new(vec!["a:1".to_owned()], "rota");
        let cert = ConsulTls { cert_file: Some("cert".into()), ..ConsulTls::default() };
        for (options, word) in [
            (ConsulOptions { agents: Vec::new(), ..good() }, "agent"),
            (ConsulOptions { prefix: String::new(), ..good() }, "prefix"),
            (ConsulOptions { prefix: "a//b".to_owned(), ..good() }, "prefix"),
            (ConsulOptions { prefix: "a?b".to_owned(), ..good() }, "prefix"),
            (ConsulOptions { prefix: "a/../b".to_owned(), ..good() }, "prefix"),
            (ConsulOptions { datacenter: Some("a&b".to_owned()), ..good() }, "datacenter"),
            (ConsulOptions { tls: Some(cert), ..good() }, "certificate"),
            (ConsulOptions { leader_ttl: Duration::ZERO, ..good() }, "time to live"),
            (ConsulOptions { timeout: Duration::ZERO, ..good() }, "timeout"),
            (ConsulOptions { size_bytes_max: 1, ..good() }, "size"),
        ] {
            let refused = options.check().expect_err(word).to_string();
            assert!(refused.contains(word), "{refused}");
        }
        let token = ConsulOptions { token: Some(ConsulToken("secret".to_owned())), ..good() };
        assert!(!format!("{token:?}").contains("secret"));
    }
}
