//! Removes the records of old ticks.

use super::{Machine, Mutation, Reply};
use crate::{Name, WallTime};

impl Machine {
    /// Removes the record of a tick, unless its retention goes on, or ticks to come can still extend it.
    pub(in crate::machine) fn purge_tick(
        &mut self,
        schedule: Name,
        first: WallTime,
        retain_until: Option<WallTime>,
    ) -> Reply {
        // The end of a tick that waits writes another entry of the log.
        let Some(until) = retain_until else { return Reply::Done };
        let index = self.schedules.find(&schedule);
        let open_run = index.and_then(|index| self.schedules.at(index).state.rare().open_run);
        if until > self.now.wall || open_run.is_some_and(|run| run.first == first) {
            return Reply::Kept { until };
        }
        self.step.mutations.push(Mutation::DeleteTick { schedule, first });
        Reply::Done
    }
}
