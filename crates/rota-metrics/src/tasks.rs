//! Totals of tasks by queue and kind: what they are, and how they are shown.

use std::sync::Arc;

use crate::{
    catalogue::{self as all, Metric},
    snapshot::Snapshot,
};

/// What is counted of tasks. The numbers are kept in the store: they never change their meaning, and
/// new ones go to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Created.
    Submitted = 0,
    /// Made live again.
    Revived = 1,
    /// Attempts given to a worker.
    Started = 2,
    /// Attempts given back.
    Released = 3,
    /// Attempts that another follows.
    Retried = 4,
    /// Attempts that ended with their worker.
    Lost = 5,
    /// Ended well.
    Completed = 6,
    /// Ended as failed, by an error.
    FailedError = 7,
    /// Ended as failed, for good.
    FailedPermanent = 8,
    /// Ended as failed, by a timeout.
    FailedTimeout = 9,
    /// Ended as failed, with too many workers lost.
    FailedWorkerLost = 10,
    /// Cancelled.
    Cancelled = 11,
    /// Expired.
    Expired = 12,
    /// Attempts whose handlers put the task off.
    Snoozed = 13,
}

/// How many there are.
pub const COUNTS: usize = 14;

/// How often each happened, by [`Count`].
pub type Counts = [u64; COUNTS];

/// The totals of one queue and kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The queue, or `other`.
    pub queue: Arc<str>,
    /// The kind, or `other`.
    pub kind: Arc<str>,
    /// How often each happened since the store's beginning.
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

/// Shows all totals.
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
