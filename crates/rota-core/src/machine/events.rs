//! Events of a step for each task, for metrics and logs. The machine writes them and never reads them.

use std::sync::Arc;

use super::{Flags, Machine, TaskIndex};
use crate::{FailureReason, Millis, Name, Outcome, Status, TaskId, WallTime};

/// The queue and kind of a task. One shared value for all tasks of a queue and kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LaneName {
    pub queue: Name,
    pub kind: Name,
}

/// An event of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub task: TaskId,
    pub lane: Arc<LaneName>,
    pub what: Happened,
}

/// A tick that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TickEvent {
    pub schedule: Name,
    pub nominal: WallTime,
    pub outcome: Outcome,
    /// Time since the tick was due, jitter included.
    pub late: Millis,
    /// Whether the tick waited for its turn, so that `late` says nothing about the scheduler.
    pub was_queued: bool,
}

/// A schedule that was paused or resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseEvent {
    pub schedule: Name,
    pub paused: bool,
}

/// The kinds of events. All durations are by the clock of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// The task was created.
    Submitted,
    /// A client ran the ended task again.
    Revived,
    /// A timer made the task due.
    Due {
        /// Delay of the timer.
        late: Millis,
    },
    /// The task was leased to a session.
    Started {
        /// Time since the task was due. `None` if it came back from a worker.
        waited: Option<Millis>,
    },
    /// An attempt failed, and another will follow.
    Retried {
        /// Time from the lease to the end.
        ran: Millis,
    },
    /// The handler put the task off.
    Snoozed {
        /// Time from the lease to the end.
        ran: Millis,
    },
    /// The worker of an attempt was lost.
    Lost,
    /// A worker returned the task unprocessed.
    Released,
    /// The task completed.
    Completed {
        /// Time from the lease to the end.
        ran: Millis,
    },
    /// The task failed.
    Failed {
        reason: FailureReason,
        /// As in `Completed`. `None` if the worker was lost.
        ran: Option<Millis>,
        /// The number of the last attempt.
        attempt: u32,
    },
    /// The task was cancelled.
    Cancelled,
    /// The task expired.
    Expired,
}

impl Machine {
    /// Records an event of a live task.
    pub(super) fn note(&mut self, index: TaskIndex, what: Happened) {
        let task = self.live.at(index);
        let lane = self.roster.lanes[task.lane].name.clone();
        self.step.events.push(Event { task: task.id, lane, what });
    }

    /// The duration of a leased task's attempt so far.
    pub(super) fn ran(&self, index: TaskIndex) -> Option<Millis> {
        self.leases.get(&index).map(|lease| self.now.wall.since(lease.assigned_at))
    }

    /// Since when a task waits for a worker. `None` if it came back from one.
    pub(super) fn waited(&self, index: TaskIndex) -> Option<Millis> {
        let task = self.live.at(index);
        (!task.flags.has(Flags::CAME_BACK)).then(|| self.now.wall.since(task.run_at))
    }

    /// Records that a task ended as `status`, with the reason if it failed and the duration of the attempt.
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
