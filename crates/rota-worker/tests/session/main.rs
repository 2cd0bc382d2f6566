//! A worker's session with a real server in this process: what survives restarts and broken
//! connections, and what ends a task.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod desk;
mod ends;
mod examples;
mod gate;
mod going;
mod node;
mod output;
mod proxy;
mod refusals;
mod returning;
mod scheduled;
mod scrape;
mod typed;

use std::time::Duration;

/// Nothing in these tests takes so long.
const PATIENCE: Duration = Duration::from_secs(40);

/// What something comes to, in time.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}
