//! Carries out requests of retention: removes ended tasks and records of ticks whose time is over.

use rota_core::{Command, Reply, TaskCommand};
use rota_store::StoreError;

use crate::{
    api::EngineError,
    codec::Expiring,
    coordinator::Coordinator,
    layout,
    planted::Planted,
    prefetch::Prefetched,
    records::Done,
    request::{PurgeEntry, Purged},
};

/// Number of records to remove for one request, unless a single task has more. A task has a record for each attempt.
pub(crate) const RECORDS_MAX: usize = 5000;

impl Coordinator<'_> {
    /// Removes tasks and ticks whose retention is over, up to a number of records.
    ///
    /// An entry can name a task that has ended again since and must be kept for longer, so the machine
    /// compares its date with the current time. If the clock has jumped since the log was read, this
    /// comparison would be wrong, so nothing is removed.
    pub(crate) fn purge(
        &mut self,
        mut expiring: Expiring,
        entry: PurgeEntry,
        prefetched: &Result<Prefetched, StoreError>,
    ) -> Result<Purged, EngineError> {
        let prefetched = prefetched.as_ref().map_err(|error| EngineError::Store(error.clone()))?;
        if self.doubted {
            self.step.commands += expiring.len();
            return Ok(Purged::default());
        }
        let span = layout::parse_retain_span(&entry.key);
        let (mut all, mut records, mut taken) = (true, 0, 0);
        for task in &expiring.tasks {
            let stored = prefetched.stored(*task);
            let found = stored.as_ref().ok().and_then(Option::as_ref);
            let its = 1 + found.map_or(0, |done| done.attempt as usize);
            if taken > 0 && records + its > RECORDS_MAX {
                break;
            }
            (records, taken) = (records + its, taken + 1);
            let stored = match stored {
                Ok(stored) => stored,
                // The task and its entry stay, but other tasks must not wait until somebody repairs it.
                Err(refusal) => {
                    self.shared.records.tell::<Done>(task, &refusal.to_string());
                    all = false;
                    continue;
                }
            };
            let command = if Planted::PurgesBlindly.is_made() {
                TaskCommand::Delete
            } else {
                TaskCommand::Purge
            };
            let reply = self.machine.apply(Command::Task { task: *task, command, stored });
            // The clock was set back since. A task that ended again later has another entry.
            if let Ok(Reply::Kept { until }) = reply {
                all &= Some(layout::retain_span(until)) != span;
            }
        }
        expiring.tasks.drain(..taken);
        if expiring.tasks.is_empty() {
            for tick in std::mem::take(&mut expiring.ticks) {
                records += 1;
                all &= self.purge_tick(&tick, span, prefetched);
            }
        }
        self.step.commands += records;
        if all && entry.is_last && expiring.len() == 0 {
            self.step.entries.push(entry.key);
        }
        Ok(Purged { all, left: expiring })
    }
}
