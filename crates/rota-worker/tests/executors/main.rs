//! The executors with real programs and real connections, without a server of Rota.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod command;
mod http;
mod target;

use std::time::Duration;

/// Nothing in these tests takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an executor came to, in time.
async fn in_time<T>(work: impl Future<Output = T> + Send) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}
