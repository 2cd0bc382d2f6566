//! Backfills: the tasks of past ticks.

use super::{Change, Machine, Refusal, Reply};
use crate::{Backfill, Name};

impl Machine {
    /// Begins a backfill, or cancels the one that is under way.
    pub(in crate::machine) fn backfill(
        &mut self,
        schedule: &Name,
        backfill: Option<Box<Backfill>>,
    ) -> Result<Reply, Refusal> {
        let index = self.find_schedule(schedule, None)?;
        let entry = self.schedules.at_mut(index);
        let version = entry.version;
        match (&entry.state.backfill, &backfill) {
            (Some(_), Some(_)) => return Err(Refusal::BackfillUnderWay),
            (None, None) => return Err(Refusal::NoBackfill),
            (Some(_), None) | (None, Some(_)) => entry.state.backfill = backfill,
        }
        self.schedules.touch(index);
        self.schedules.wake(index);
        Ok(Reply::Schedule { version, change: Change::Replaced })
    }
}
