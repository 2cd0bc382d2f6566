//! Log messages about tasks, once their changes are durable, and about sessions. Failures and sessions are
//! `INFO`, the rest is `DEBUG`.

use rota_core::{Event, Happened, OpenSession, Outcome, SessionEnd, SessionId, TickEvent};
use tracing::{debug, info, warn};

/// Logs the ends of tasks.
pub(crate) fn ends(events: &[Event], epoch: u64) {
    for Event { task, lane, what } in events {
        let (queue, kind) = (lane.queue.as_str(), lane.kind.as_str());
        match what {
            Happened::Failed { reason, attempt, .. } => {
                info!(%task, queue, kind, attempt, ?reason, epoch, "task failed");
            }
            Happened::Completed { .. } => debug!(%task, queue, kind, epoch, "task completed"),
            Happened::Cancelled => debug!(%task, queue, kind, epoch, "task cancelled"),
            Happened::Expired => debug!(%task, queue, kind, epoch, "task expired"),
            _ => {}
        }
    }
}

/// Logs that a session was opened or resumed.
pub(crate) fn session_opened(session: SessionId, open: &OpenSession, epoch: u64) {
    let (worker, slots, held) =
        (open.worker.as_str(), open.slots, open.held.as_ref().map(Vec::len));
    info!(%session, worker, slots, held, epoch, "session opened");
}

/// Logs that a session ended.
pub(crate) fn session_ended(end: &SessionEnd, epoch: u64) {
    let SessionEnd { session, worker, reason, tasks } = end;
    let worker = worker.as_str();
    info!(%session, worker, ?reason, tasks, epoch, "session ended");
}

/// Logs decided ticks. Those that should have created a task, and did not, are warnings: one for each schedule
/// and outcome.
pub(crate) fn ticks(ticks: &[TickEvent], epoch: u64) {
    let mut last = None;
    for TickEvent { schedule, nominal, outcome, late, was_queued: _ } in ticks {
        if last.replace((schedule, outcome)) == Some((schedule, outcome)) {
            continue;
        }
        // The text of the date is made only if somebody reads it.
        match outcome {
            Outcome::Missed | Outcome::Refused(_) => {
                warn!(%schedule, nominal = rota_core::nominal_text(*nominal), %outcome, %late, epoch,
                    "a tick created no task");
            }
            _ => {
                debug!(%schedule, nominal = rota_core::nominal_text(*nominal), %outcome, %late, epoch,
                    "tick decided");
            }
        }
    }
}
