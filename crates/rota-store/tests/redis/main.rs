//! The Redis backend: the obligations of every store on each server that is supported, and what it promises beyond them about
//! settings, crashes, broken connections and failovers. Each test has servers of its own.

#![expect(clippy::unwrap_used, reason = "a test says so by a panic when it fails")]

#[path = "../etcd/certificates.rs"]
mod certificates;
mod conformance;
mod limits;
mod losses;
mod node;
mod outages;
#[path = "../etcd/proxy.rs"]
#[expect(dead_code, reason = "tests of other backends use more of it")]
mod proxy;
mod server;
mod settings;
