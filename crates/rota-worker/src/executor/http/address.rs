//! Checks the address of a request when the connection is opened, so that neither a name that resolves to a
//! private address nor a redirect can bypass it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// The addresses that can be reached in addition to public ones.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    /// Allows all addresses. For workers whose tasks come from people who can reach the network anyway.
    pub allow_private: bool,
    /// Allows the worker's own machine: 127.0.0.0/8 and ::1. For development.
    pub allow_loopback: bool,
    /// Hosts (names or addresses, as in URLs) that can be reached at any address.
    pub allowed_hosts: Vec<String>,
}

/// An address that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused(String);

impl Refused {
    pub(super) fn redirects(most: usize) -> Self {
        Self(format!("more than {most} redirects"))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl AddressPolicy {
    fn allows_host(&self, host: &str) -> bool {
        // An IPv6 address has brackets in a URL, but maybe not in the list.
        let bare = |host: &'_ str| host.trim_matches(['[', ']']).to_ascii_lowercase();
        self.allow_private || self.allowed_hosts.iter().any(|allowed| bare(allowed) == bare(host))
    }

    fn allows(&self, address: IpAddr) -> bool {
        is_public(address) || (self.allow_loopback && address.to_canonical().is_loopback())
    }

    /// Checks a URL: the scheme, and the address if the host is one. Names are checked when they are
    /// resolved.
    pub(super) fn check_url(&self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused(format!("scheme {} is not http or https", url.scheme())));
        }
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match literal {
            Ok(address) if !self.allows_host(host) && !self.allows(address) => {
                Err(refused(address))
            }
            _ => Ok(()),
        }
    }
}

fn refused(address: IpAddr) -> Refused {
    Refused(format!(
        "{address} is not a public address, and this worker does not allow it; start the worker with \
         --http-allowed-hosts {address} to allow it, or with --http-allow-private to allow all"
    ))
}

/// Resolves names, without addresses that are not allowed.
pub(super) struct Resolver {
    policy: Arc<AddressPolicy>,
}

impl Resolver {
    pub(super) fn new(policy: Arc<AddressPolicy>) -> Self {
        Self { policy }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.policy.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            if policy.allows_host(&host) {
                return Ok(Box::new(found.into_iter()) as Addrs);
            }
            let allowed: Vec<_> =
                found.iter().copied().filter(|address| policy.allows(address.ip())).collect();
            match (allowed.is_empty(), found.first()) {
                (true, Some(address)) => Err(Box::new(refused(address.ip())) as _),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// Whether the address is public, by IANA's special-purpose registries.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let benchmark = a == 198 && (b == 18 || b == 19);
    let reserved = a == 0 || a >= 240;
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || shared
        || protocol
        || benchmark
        || reserved)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(v4) = address.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    let [a, b, c, d, e, f, ..] = address.segments();
    if [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0] || a == 0x2002 {
        // Addresses that embed an IPv4 address (NAT64, 6to4) are judged by it.
        let [.., g, h] = address.segments();
        let (high, low) = if a == 0x2002 { (b, c) } else { (g, h) };
        let [w, x] = high.to_be_bytes();
        let [y, z] = low.to_be_bytes();
        return is_public_v4(Ipv4Addr::new(w, x, y, z));
    }
    let global = a & 0xe000 == 0x2000;
    let documentation = a == 0x2001 && b == 0xdb8;
    let special = a == 0x2001 && b < 0x200;
    global && !documentation && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for address in ["1.1.1.1", "93.184.216.34", "2606:4700::1", "64:ff9b::101:101"] {
            assert!(is_public(address.parse().expect("an address")), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            assert!(!is_public(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn literals_in_urls_are_checked_in_all_their_spellings() {
        let policy = AddressPolicy::default();
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]:80/",
            "http://[::ffff:169.254.169.254]/",
            "http://10.0.0.1:8080/x",
            "ftp://example.org/",
            "file:///etc/passwd",
        ] {
            let url = Url::parse(url).expect("a URL");
            assert!(policy.check_url(&url).is_err(), "{url}");
        }
        assert!(policy.check_url(&Url::parse("https://example.org/").expect("a URL")).is_ok());
        let open = AddressPolicy { allowed_hosts: vec!["127.0.0.1".into()], ..policy };
        assert!(open.check_url(&Url::parse("http://127.0.0.1:1/").expect("a URL")).is_ok());
        assert!(open.check_url(&Url::parse("http://127.0.0.2:1/").expect("a URL")).is_err());
        let open = AddressPolicy { allowed_hosts: vec!["::1".into()], ..open };
        assert!(open.check_url(&Url::parse("http://[::1]:1/").expect("a URL")).is_ok());
    }
}
