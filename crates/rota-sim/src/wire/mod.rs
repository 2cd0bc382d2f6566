//! The network as byte streams: the shipped server, forwarder, worker and client over connections in
//! memory.
//!
//! `stream` owns what a connection is, `parts` puts the shipped parts on it, `user` is a client that
//! uses the shipped client, and `edit` what it changes of waiting tasks.

mod edit;
mod parts;
mod stream;
mod user;

pub(crate) use self::{
    parts::{WorkerPlan, serve, work},
    stream::{Connections, break_all},
    user::User,
};

use std::net::{Ipv4Addr, SocketAddr};

use crate::world::Endpoint;

/// Where a node listens.
fn address(endpoint: Endpoint) -> SocketAddr {
    let last = u8::try_from(endpoint.0).unwrap_or(u8::MAX);
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), 7420))
}

/// The node with that address, `10.0.0.3:7420`.
fn endpoint(authority: &str) -> Option<Endpoint> {
    let address: SocketAddr = authority.parse().ok()?;
    match address.ip() {
        std::net::IpAddr::V4(ip) => Some(Endpoint(ip.octets()[3].into())),
        std::net::IpAddr::V6(_) => None,
    }
}

/// A node's address as a URL.
pub(crate) fn url(endpoint: Endpoint) -> String {
    format!("http://{}", address(endpoint))
}
