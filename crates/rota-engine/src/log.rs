//! What the log says of tasks, once it is durable, and of sessions: failures and workers' coming and
//! going as `INFO`, the rest as `DEBUG`.

use rota_core::{Event, Happened, OpenSession, SessionEnd, SessionId};
use tracing::{debug, info};

/// What became of tasks.
pub(crate) fn ends(events: &[Event], epoch: u64) {
    for Event { task, lane, what } in events {
        let (queue, kind) = (lane.queue.as_str(), lane.kind.as_str());
        match what {
            Happened::Failed { reason, attempt, .. } => {
                info!(%task, queue, kind, attempt, ?reason, epoch, "failed for good");
            }
            Happened::Completed { .. } => debug!(%task, queue, kind, epoch, "completed"),
            Happened::Cancelled => debug!(%task, queue, kind, epoch, "cancelled"),
            Happened::Expired => debug!(%task, queue, kind, epoch, "expired"),
            _ => {}
        }
    }
}

/// A worker came, or came back.
pub(crate) fn session_opened(session: SessionId, open: &OpenSession, epoch: u64) {
    let (worker, slots, held) =
        (open.worker.as_str(), open.slots, open.held.as_ref().map(Vec::len));
    info!(%session, worker, slots, held, epoch, "a worker's session opened");
}

/// A worker went, or was not heard of.
pub(crate) fn session_ended(end: &SessionEnd, epoch: u64) {
    let SessionEnd { session, worker, reason, tasks } = end;
    let worker = worker.as_str();
    info!(%session, worker, ?reason, tasks, epoch, "a worker's session ended");
}
