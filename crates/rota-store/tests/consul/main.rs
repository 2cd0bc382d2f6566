//! The Consul backend: the obligations of every store, and what it promises beyond them about
//! elections, outages, security, large batches and the length of the log. Each test has servers of its own.

#![cfg(feature = "consul")]
#![expect(clippy::unwrap_used, reason = "a test says so by a panic when it fails")]

mod conformance;
mod elections;
mod log;
mod node;
mod outages;
mod proxy;
mod security;
mod server;
