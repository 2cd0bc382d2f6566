//! What a schedule learns when one of its tasks ends.

use super::Machine;
use crate::{Name, Pause, PauseEvent, Status, TaskId, WallTime, is_backfill_id, schedule_of};

/// Number of tasks whose ends in one step are written together with the state of their schedule. If more end
/// at once and the leader is lost between two batches, a failure may be counted twice or not at all.
const LINKED_MAX: u8 = 4;

/// The end of a task that a tick created.
pub(in crate::machine) struct TickEnd<'a> {
    pub(in crate::machine) task: TaskId,
    pub(in crate::machine) id: Option<&'a Name>,
    pub(in crate::machine) nominal: WallTime,
    pub(in crate::machine) status: Status,
    /// Whether it had ended before, and a client ran it again.
    pub(in crate::machine) was_retried: bool,
}

impl Machine {
    /// Notes the end of a tick's task: success, failures in a row, and ticks that wait for this end. It becomes
    /// durable with the records of the task.
    pub(in crate::machine) fn tick_ended(&mut self, end: &TickEnd<'_>) {
        let TickEnd { task, nominal, status, .. } = *end;
        let Some(id) = end.id else { return };
        let Some(index) = schedule_of(id).and_then(|name| self.schedules.find(name)) else {
            return;
        };
        let now = self.now.wall;
        let entry = self.schedules.at_mut(index);
        let state = &mut entry.state;
        let rare = state.rare();
        let wakes = (state.last_task == Some(task) && !rare.queued.is_empty())
            || rare.backfill.as_ref().is_some_and(|backfill| backfill.last_task == Some(task));
        // A client that runs a task again, or runs past ticks, looks after them. The same goes for the tasks
        // of a deleted schedule with the same name.
        let counts = !end.was_retried && !is_backfill_id(id) && nominal > entry.created_at;
        match status {
            Status::Completed => {
                state.succeeded(nominal);
                if !is_backfill_id(id) {
                    state.failures = 0;
                }
            }
            Status::Failed | Status::Expired if counts => {
                state.failures = state.failures.saturating_add(1);
                let limit = entry.plan.rules.pause_on_failure;
                if limit > 0 && state.failures >= limit && state.rare().pause.is_none() {
                    let note = format!("{} tasks in a row failed", state.failures);
                    state.rare_mut().pause = Some(Box::new(Pause {
                        at: now,
                        by: "rota".into(),
                        note: note.into(),
                        on_failure: true,
                    }));
                    let schedule = entry.name.clone();
                    self.step.pauses.push(PauseEvent { schedule, paused: true });
                }
            }
            _ if !wakes => return,
            _ => {}
        }
        if entry.ends < LINKED_MAX {
            entry.ends += 1;
            self.schedules.links.push((index, task));
        }
        self.schedules.touch(index);
        if wakes {
            self.schedules.wake(index);
        }
    }
}
