//! What happened in a step, task by task, for those who count. The machine writes this down and
//! never reads it.

use std::sync::Arc;

use super::{Flags, Machine, TaskIndex};
use crate::{FailureReason, Millis, Name, Status, TaskId};

/// Where a task waits and what runs it. One value for all tasks of a queue and kind, cheap to share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LaneName {
    /// The queue.
    pub queue: Name,
    /// The kind.
    pub kind: Name,
}

/// Something that happened to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The task.
    pub task: TaskId,
    /// Its queue and kind.
    pub lane: Arc<LaneName>,
    /// What happened.
    pub what: Happened,
}

/// What can happen to a task, as far as it is counted. Durations are by this machine's clock alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It was created.
    Submitted,
    /// A client made it live again after it had ended.
    Revived,
    /// A timer made it due.
    Due {
        /// By how much the timer was late.
        late: Millis,
    },
    /// An attempt was given to a session.
    Started {
        /// Since it was due. `None` where it was due before, and came back from a worker.
        waited: Option<Millis>,
    },
    /// An attempt failed, and another will follow.
    Retried {
        /// From being given to a worker to the end.
        ran: Millis,
    },
    /// A handler put the task off.
    Snoozed {
        /// From being given to a worker to the end.
        ran: Millis,
    },
    /// An attempt ended with its worker.
    Lost,
    /// A worker gave it back unharmed.
    Released,
    /// It ended well.
    Completed {
        /// From being given to a worker to the end.
        ran: Millis,
    },
    /// It ended badly.
    Failed {
        /// The reason.
        reason: FailureReason,
        /// As in `Completed`. `None` where the worker was lost.
        ran: Option<Millis>,
        /// The last attempt's number.
        attempt: u32,
    },
    /// It was cancelled.
    Cancelled,
    /// It was not started in time.
    Expired,
}

impl Machine {
    /// Writes down what happened to a live task.
    pub(super) fn note(&mut self, index: TaskIndex, what: Happened) {
        let task = self.live.at(index);
        let lane = self.roster.lanes[task.lane].name.clone();
        self.step.events.push(Event { task: task.id, lane, what });
    }

    /// How long a leased task's attempt has taken.
    pub(super) fn ran(&self, index: TaskIndex) -> Option<Millis> {
        self.leases.get(&index).map(|lease| self.now.wall.since(lease.assigned_at))
    }

    /// Since when a task waits for a worker; `None` where it came back from one.
    pub(super) fn waited(&self, index: TaskIndex) -> Option<Millis> {
        let task = self.live.at(index);
        (!task.flags.has(Flags::CAME_BACK)).then(|| self.now.wall.since(task.run_at))
    }

    /// A task ended as `status`, with this reason if it failed; the attempt took so long.
    pub(super) fn note_end(
        &mut self,
        index: TaskIndex,
        status: Status,
        reason: Option<FailureReason>,
        ran: Option<Millis>,
    ) {
        let what = match status {
            Status::Completed => Happened::Completed { ran: ran.unwrap_or_default() },
            Status::Cancelled => Happened::Cancelled,
            Status::Expired => Happened::Expired,
            _ => {
                let reason = reason.unwrap_or(FailureReason::Error);
                let lost = reason == FailureReason::WorkerLost;
                let attempt = self.live.at(index).attempt;
                Happened::Failed { reason, ran: ran.filter(|_| !lost), attempt }
            }
        };
        self.note(index, what);
    }
}
