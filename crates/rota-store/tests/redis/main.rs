//! The Redis backend: the obligations of every store on each server that is supported, and what it promises beyond them about
//! settings, crashes, broken connections and failovers. Each test has servers of its own.

#![expect(clippy::unwrap_used, reason = "a test says so by a panic when it fails")]

#[path = "../shared/certificates.rs"]
mod certificates;
mod conformance;
#[path = "../shared/elections.rs"]
mod elections;
mod former;
mod limits;
mod losses;
#[path = "../shared/node.rs"]
mod node;
mod outages;
#[path = "../shared/proxy.rs"]
#[expect(dead_code, reason = "tests of other backends use more of it")]
mod proxy;
mod seats;
mod server;
mod settings;
mod torn;

// What the files in `shared` open.
use rota_store::redis::{RedisOptions as Options, RedisStore as Backend};
use server::Redis as Server;
