//! A thread with a runtime of its own, for what must not wait behind the load of the process: the
//! lease, the election, the observation of the leader.

use std::{thread, time::Duration};

use tokio::{
    runtime::{Builder, Handle},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::store::StoreError;

/// How long tasks have to end after `stop`.
const ENDING: Duration = Duration::from_secs(3);

/// Starts the thread. It ends after `stop`, when all `tasks` have ended or a few seconds have passed.
pub(crate) fn start(
    backend: &str,
    stop: CancellationToken,
    tasks: TaskTracker,
) -> Result<Handle, StoreError> {
    let failed =
        |error: std::io::Error| StoreError::Open(format!("no thread for {backend}: {error}"));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let handle = runtime.handle().clone();
    let work = async move {
        stop.cancelled().await;
        // What does not end in time is dropped with the runtime.
        let _ = timeout(ENDING, tasks.wait()).await;
    };
    thread::Builder::new()
        .name(format!("rota-{backend}"))
        .spawn(move || runtime.block_on(work))
        .map_err(failed)?;
    Ok(handle)
}
