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

/// Number of occurrences to look at for the next one that is not skipped.
const LOOKED_AT: usize = 1000;

impl Machine {
    /// The state of a schedule. `None` if there is none with this name.
    #[must_use]
    pub fn schedule(&self, name: &Name) -> Option<ScheduleView> {
        let index = self.schedules.find(name)?;
        let entry = self.schedules.at(index);
        let running = entry.state.last_task.filter(|_| self.is_running(index));
        let mut after = entry.state.cursor.max(self.now.wall);
        let mut next = None;
        for _ in 0..LOOKED_AT {
            if entry.state.completed {
                break;
            }
            let Some(found) = self.schedules.occurrence_after(index, after) else { break };
            if found.skip.is_none() && entry.state.to_skip.binary_search(&found.nominal).is_err() {
                next = Some(found.nominal);
                break;
            }
            after = found.nominal;
        }
        Some(ScheduleView { version: entry.version, state: entry.state.clone(), running, next })
    }
}
