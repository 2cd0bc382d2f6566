//! The etcd backend: the obligations of every store, and what it promises beyond them about
//! elections, broken connections, security and etcd's own limits. Each test has an etcd of its own: the one of the
//! system, which is 3.4 on Debian 12. `etcd_3_5` runs the same tests on etcd 3.5.

#![expect(clippy::unwrap_used, reason = "a test says so by a panic when it fails")]

#[path = "../shared/certificates.rs"]
mod certificates;
mod conformance;
#[path = "../shared/elections.rs"]
mod elections;
mod history;
mod limits;
#[path = "../shared/node.rs"]
mod node;
mod outages;
#[path = "../shared/proxy.rs"]
mod proxy;
mod seats;
mod security;
mod server;
mod slow;

/// The folder of the servers of another release than the system's, below the build output.
const SERVERS: Option<&str> = None;

// What the files in `shared` open.
use rota_store::etcd::{EtcdOptions as Options, EtcdStore as Backend};
use server::Etcd as Server;
