//! The state of a schedule in memory. A million schedules must fit, so properties that only few have are apart.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::{
    Backfill, MissedTick, Outcome, Pause, RefusedReason, Run, ScheduleState, TaskId, WallTime,
};

/// Stands for a time that has not come yet, because an `Option` would take twice the room.
const NEVER: WallTime = WallTime(i64::MIN);

/// A [`ScheduleState`] in little room.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) cursor: WallTime,
    pub(super) last_task: Option<TaskId>,
    last_fired: WallTime,
    last_success: WallTime,
    /// The two parts of a [`MissedTick`], because it would take twice the room.
    last_missed: WallTime,
    missed_as: Option<RefusedReason>,
    pub(super) completed: bool,
    pub(super) failures: u32,
    /// `None` if nothing in it differs from the default.
    rare: Option<Box<Rare>>,
}

/// What few schedules have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rare {
    pub(super) pause: Option<Box<Pause>>,
    pub(super) paused_until: WallTime,
    pub(super) runs_left: Option<u64>,
    pub(super) manual: u32,
    pub(super) queued: Vec<WallTime>,
    pub(super) to_skip: Vec<WallTime>,
    pub(super) open_run: Option<Run>,
    pub(super) backfill: Option<Box<Backfill>>,
    unknown: Bytes,
}

impl Default for Rare {
    fn default() -> Self {
        Self {
            pause: None,
            paused_until: NEVER,
            runs_left: None,
            manual: 0,
            queued: Vec::new(),
            to_skip: Vec::new(),
            open_run: None,
            backfill: None,
            unknown: Bytes::new(),
        }
    }
}

static NOTHING_RARE: LazyLock<Rare> = LazyLock::new(Rare::default);

impl Kept {
    pub(super) fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING_RARE)
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Frees the room for what few schedules have, if this one has nothing of it any more.
    pub(super) fn tidy(&mut self) {
        if self.rare.as_deref().is_some_and(|rare| *rare == *NOTHING_RARE) {
            self.rare = None;
        }
    }

    pub(super) fn last_fired(&self) -> Option<WallTime> {
        Some(self.last_fired).filter(|at| *at != NEVER)
    }

    pub(super) fn last_success(&self) -> Option<WallTime> {
        Some(self.last_success).filter(|at| *at != NEVER)
    }

    /// Notes that a tick has created this task.
    pub(super) fn fired(&mut self, nominal: WallTime, task: TaskId) {
        self.last_task = Some(task);
        self.last_fired = nominal;
        if let Some(rare) = &mut self.rare {
            rare.runs_left = rare.runs_left.map(|left| left.saturating_sub(1));
        }
    }

    pub(super) fn succeeded(&mut self, nominal: WallTime) {
        self.last_success = self.last_success.max(nominal);
    }

    /// Notes what became of a tick. Its nominal time can be earlier than that of others, if it had to wait.
    pub(super) fn decided(&mut self, nominal: WallTime, outcome: Outcome) {
        let refused = match outcome {
            Outcome::Missed => None,
            Outcome::Refused(reason) => Some(reason),
            Outcome::Fired(_) | Outcome::Queued | Outcome::Skipped(_) | Outcome::Coalesced => {
                return;
            }
        };
        if nominal >= self.last_missed {
            (self.last_missed, self.missed_as) = (nominal, refused);
        }
    }

    fn last_missed(&self) -> Option<MissedTick> {
        let missed = MissedTick { nominal: self.last_missed, refused: self.missed_as };
        Some(missed).filter(|missed| missed.nominal != NEVER)
    }

    /// Moves the cursor. What concerned earlier ticks only is forgotten.
    pub(super) fn move_cursor(&mut self, nominal: WallTime) {
        self.cursor = nominal;
        if let Some(rare) = &mut self.rare {
            if rare.paused_until <= nominal {
                rare.paused_until = NEVER;
            }
            if !rare.to_skip.is_empty() {
                let over = rare.to_skip.partition_point(|at| *at <= nominal);
                rare.to_skip.drain(..over);
            }
        }
    }
}

impl From<ScheduleState> for Kept {
    fn from(state: ScheduleState) -> Self {
        let ScheduleState {
            cursor,
            completed,
            pause,
            paused_until,
            runs_left,
            last_task,
            last_fired,
            last_success,
            last_missed,
            failures,
            manual,
            queued,
            to_skip,
            open_run,
            backfill,
            unknown,
        } = state;
        let rare = Rare {
            pause,
            paused_until,
            runs_left,
            manual,
            queued,
            to_skip,
            open_run,
            backfill,
            unknown,
        };
        let mut kept = Self {
            cursor,
            last_task,
            last_fired: last_fired.unwrap_or(NEVER),
            last_success: last_success.unwrap_or(NEVER),
            last_missed: last_missed.map_or(NEVER, |missed| missed.nominal),
            missed_as: last_missed.and_then(|missed| missed.refused),
            failures,
            completed,
            rare: Some(Box::new(rare)),
        };
        kept.tidy();
        kept
    }
}

impl From<&Kept> for ScheduleState {
    fn from(kept: &Kept) -> Self {
        let Rare {
            pause,
            paused_until,
            runs_left,
            manual,
            queued,
            to_skip,
            open_run,
            backfill,
            unknown,
        } = kept.rare().clone();
        Self {
            cursor: kept.cursor,
            completed: kept.completed,
            pause,
            paused_until,
            runs_left,
            last_task: kept.last_task,
            last_fired: kept.last_fired(),
            last_success: kept.last_success(),
            last_missed: kept.last_missed(),
            failures: kept.failures,
            manual,
            queued,
            to_skip,
            open_run,
            backfill,
            unknown,
        }
    }
}
