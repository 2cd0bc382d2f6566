//! Reads of schedules.

use super::Machine;
use crate::{Name, ScheduleState, TaskId, WallTime};

/// The state of a schedule, for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleView {
    pub version: u32,
    pub state: ScheduleState,
    /// The task of the last tick, while it has not ended.
    pub running: Option<TaskId>,
    /// The next nominal time that is not skipped.
    pub next: Option<WallTime>,
}

impl Machine {
    /// The state of a schedule. `None` if there is none with this name.
    #[must_use]
    pub fn schedule(&self, name: &Name) -> Option<ScheduleView> {
        let index = self.schedules.find(name)?;
        let entry = self.schedules.at(index);
        let next = if entry.state.completed {
            None
        } else {
            self.schedules.coming(index, self.trusted_date())
        };
        Some(ScheduleView {
            version: entry.version,
            state: (&entry.state).into(),
            running: entry.state.last_task.filter(|_| self.is_running(index)),
            next,
        })
    }
}
