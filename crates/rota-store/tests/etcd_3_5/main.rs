//! The tests of `etcd` on etcd 3.5, but for those of slow connections, where the server makes no difference.

#![cfg(feature = "etcd")]
#![expect(clippy::unwrap_used, reason = "a test says so by a panic when it fails")]

#[path = "../shared/certificates.rs"]
mod certificates;
#[path = "../etcd/conformance.rs"]
mod conformance;
#[path = "../shared/elections.rs"]
mod elections;
#[path = "../etcd/history.rs"]
mod history;
#[path = "../etcd/limits.rs"]
mod limits;
#[path = "../shared/node.rs"]
mod node;
#[path = "../etcd/outages.rs"]
mod outages;
#[path = "../shared/proxy.rs"]
#[expect(dead_code, reason = "tests of slow connections use more of it")]
mod proxy;
#[path = "../etcd/seats.rs"]
mod seats;
#[path = "../etcd/security.rs"]
mod security;
#[path = "../etcd/server.rs"]
mod server;

/// The folder of the servers of another release than the system's, below the build output.
const SERVERS: Option<&str> = Some("etcd-3.5");

// What the files in `shared` open.
use rota_store::etcd::{EtcdOptions as Options, EtcdStore as Backend};
use server::Etcd as Server;
