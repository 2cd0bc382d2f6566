//! The etcd backend: the obligations of every store, and what it promises beyond them about
//! elections, broken connections, security and etcd's own limits. Each test has an etcd of its own.

#![expect(clippy::unwrap_used, reason = "a test says so by a panic when it fails")]

#[path = "../shared/certificates.rs"]
mod certificates;
mod conformance;
mod elections;
mod history;
mod limits;
#[path = "../shared/node.rs"]
mod node;
mod outages;
#[path = "../shared/proxy.rs"]
mod proxy;
mod security;
mod server;
mod slow;

// What the files in `shared` open.
use rota_store::etcd::{EtcdOptions as Options, EtcdStore as Backend};
