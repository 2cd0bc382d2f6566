//! What becomes of a tick, as a function of the situation in which it comes.

use crate::{Outcome, Overlap, ScheduleState, SkipReason};

/// The situation of a tick that is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    /// Set if the recurrence itself takes the tick away.
    pub(super) skip: Option<SkipReason>,
    /// Whether the schedule is paused, or was at that time.
    pub(super) is_paused: bool,
    /// Whether a client asked to skip this tick.
    pub(super) is_to_skip: bool,
    pub(super) overlap: Overlap,
    /// Whether the task of the last tick has not ended.
    pub(super) is_running: bool,
    /// Number of earlier ticks that wait for their turn.
    pub(super) queued: usize,
    /// Number of ticks that may still create tasks, including those that wait.
    pub(super) runs_left: Option<u64>,
}

/// What the time of a tick means under the rules for late ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lateness {
    /// It is in time, or it is to be caught up on.
    InTime,
    /// A later tick is due as well, and stands for it.
    Followed,
    /// It is too late to be caught up on.
    TooLate,
}

/// What to do with a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Create its task.
    Fire,
    /// Let it wait for its turn.
    Queue,
    /// Cancel the running task, and let it wait in place of those that wait already.
    Replace,
    /// It creates no task.
    Outcome(Outcome),
}

impl Situation {
    /// The verdict. `lateness` is only asked where it matters, because it looks at other ticks.
    pub(super) fn judge(&self, lateness: impl FnOnce() -> Lateness) -> Verdict {
        let skipped = |reason| Verdict::Outcome(Outcome::Skipped(reason));
        if let Some(reason) = self.skip {
            return skipped(reason);
        }
        if self.is_paused {
            return skipped(SkipReason::Paused);
        }
        if self.is_to_skip {
            return skipped(SkipReason::ByRequest);
        }
        match lateness() {
            Lateness::InTime => {}
            Lateness::Followed => return Verdict::Outcome(Outcome::Coalesced),
            Lateness::TooLate => return Verdict::Outcome(Outcome::Missed),
        }
        if self.overlap == Overlap::Allow || (!self.is_running && self.queued == 0) {
            return Verdict::Fire;
        }
        // Each tick that waits needs one of the runs that are left.
        let has_run = self.runs_left.is_none_or(|left| left > self.queued as u64);
        match self.overlap {
            Overlap::QueueOne if self.queued == 0 && has_run => Verdict::Queue,
            Overlap::QueueAll if self.queued < ScheduleState::QUEUED_MAX && has_run => {
                Verdict::Queue
            }
            Overlap::CancelRunning => Verdict::Replace,
            _ => skipped(SkipReason::Overlap),
        }
    }
}
