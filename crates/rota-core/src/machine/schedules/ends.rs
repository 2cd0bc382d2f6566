//! What a schedule learns when one of its tasks ends.

use super::Machine;
use crate::{Name, Pause, Status, TaskId, WallTime, schedule_of};

impl Machine {
    /// Notes the end of a tick's task: success, failures in a row, and ticks that wait for this end. It becomes
    /// durable with the records of the task.
    pub(in crate::machine) fn tick_ended(
        &mut self,
        task: TaskId,
        id: Option<&Name>,
        nominal: WallTime,
        status: Status,
    ) {
        let Some(index) = id.and_then(schedule_of).and_then(|name| self.schedules.find(name))
        else {
            return;
        };
        let now = self.now.wall;
        let entry = self.schedules.at_mut(index);
        let limit = entry.rules.pause_on_failure;
        let state = &mut entry.state;
        let waits = state.last_task == Some(task) && !state.queued.is_empty();
        match status {
            Status::Completed => {
                state.last_success = state.last_success.max(Some(nominal));
                state.failures = 0;
            }
            Status::Failed | Status::Expired => {
                state.failures = state.failures.saturating_add(1);
                if limit > 0 && state.failures >= limit && state.pause.is_none() {
                    let note = format!("{} tasks in a row failed", state.failures);
                    state.pause = Some(Box::new(Pause {
                        at: now,
                        by: "rota".into(),
                        note: note.into(),
                        on_failure: true,
                    }));
                }
            }
            _ if !waits => return,
            _ => {}
        }
        entry.had_end = true;
        self.schedules.links.push((index, task));
        self.schedules.touch(index);
        if waits {
            self.schedules.wake(index);
        }
    }
}
