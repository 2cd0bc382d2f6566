//! A thread with its own runtime, for work that must not be delayed by the load of the process: the lease,
//! the election, and the observation of the leader.

use std::{thread, time::Duration};

use tokio::{
    runtime::{Builder, Handle},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::store::StoreError;

/// Time for tasks to end after `stop`.
const ENDING: Duration = Duration::from_secs(3);

/// Starts the thread. It ends after `stop`, when all `tasks` have ended or a few seconds have passed.
pub(crate) fn start(
    backend: &str,
    stop: CancellationToken,
    tasks: TaskTracker,
) -> Result<Handle, StoreError> {
    let failed = |error: std::io::Error| {
        StoreError::Open(format!("cannot start the control thread of {backend}: {error}"))
    };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let handle = runtime.handle().clone();
    let work = async move {
        stop.cancelled().await;
        // Tasks that do not end in time are dropped with the runtime.
        let _ = timeout(ENDING, tasks.wait()).await;
    };
    thread::Builder::new()
        .name(format!("rota-{backend}"))
        .spawn(move || runtime.block_on(work))
        .map_err(failed)?;
    Ok(handle)
}
