//! Totals of tasks by queue and kind, and their exposition.

use std::sync::Arc;

use crate::{
    catalogue::{self as all, Metric},
    snapshot::Snapshot,
};

/// The counts of tasks. Their numbers are in the store, so they never change their meaning, and new ones are
/// added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Tasks created.
    Submitted = 0,
    /// Ended tasks that run again.
    Revived = 1,
    /// Attempts leased to a worker.
    Started = 2,
    /// Attempts returned unprocessed.
    Released = 3,
    /// Failed attempts that are retried.
    Retried = 4,
    /// Attempts whose worker was lost.
    Lost = 5,
    /// Tasks that completed.
    Completed = 6,
    /// Tasks that failed, by an error.
    FailedError = 7,
    /// Tasks that failed, by a permanent error.
    FailedPermanent = 8,
    /// Tasks that failed, by a timeout.
    FailedTimeout = 9,
    /// Tasks that failed, because too many workers were lost.
    FailedWorkerLost = 10,
    /// Tasks that were cancelled.
    Cancelled = 11,
    /// Tasks that expired.
    Expired = 12,
    /// Attempts whose handler snoozed the task.
    Snoozed = 13,
}

/// Number of counts.
pub const COUNTS: usize = 14;

/// The totals, by [`Count`].
pub type Counts = [u64; COUNTS];

/// The totals of one queue and kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The queue, or `other`.
    pub queue: Arc<str>,
    /// The kind, or `other`.
    pub kind: Arc<str>,
    /// The totals since the creation of the store.
    pub counts: Counts,
}

const BY_LANE: [(Count, &Metric); 10] = [
    (Count::Submitted, &all::TASKS_SUBMITTED),
    (Count::Revived, &all::TASKS_REVIVED),
    (Count::Started, &all::TASKS_STARTED),
    (Count::Released, &all::TASKS_RELEASED),
    (Count::Snoozed, &all::TASKS_SNOOZED),
    (Count::Retried, &all::TASKS_RETRIED),
    (Count::Lost, &all::TASKS_LOST),
    (Count::Completed, &all::TASKS_COMPLETED),
    (Count::Cancelled, &all::TASKS_CANCELLED),
    (Count::Expired, &all::TASKS_EXPIRED),
];

const BY_REASON: [(Count, &str); 4] = [
    (Count::FailedError, "error"),
    (Count::FailedPermanent, "permanent"),
    (Count::FailedTimeout, "timeout"),
    (Count::FailedWorkerLost, "worker_lost"),
];

/// Exposes all totals.
#[expect(clippy::cast_precision_loss, reason = "the exposition format has no other numbers")]
pub(crate) fn show(rows: &[Row], snapshot: &mut Snapshot) {
    for Row { queue, kind, counts } in rows {
        let lane = [queue.clone(), kind.clone()];
        for (count, metric) in BY_LANE {
            snapshot.set(metric, lane.clone(), counts[count as usize] as f64);
        }
        for (count, reason) in BY_REASON {
            let labels = [queue.clone(), kind.clone(), reason.into()];
            snapshot.set(&all::TASKS_FAILED, labels, counts[count as usize] as f64);
        }
    }
}
