//! The Consul backend: the obligations of every store, and what it promises beyond them about
//! elections, outages, security, large batches and the length of the log. Each test has servers of its own.

#![cfg(feature = "consul")]
#![expect(clippy::unwrap_used, reason = "a test says so by a panic when it fails")]

mod conformance;
#[path = "../shared/elections.rs"]
mod elections;
mod log;
#[path = "../shared/node.rs"]
mod node;
mod outages;
#[path = "../shared/proxy.rs"]
#[expect(dead_code, reason = "tests of other backends use more of it")]
mod proxy;
mod seats;
mod security;
mod server;

// What the files in `shared` open.
use rota_store::consul::{ConsulOptions as Options, ConsulStore as Backend};
use server::Consul as Server;
