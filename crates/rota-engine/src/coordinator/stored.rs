//! What the store has of tasks that are not live, handed to the commands about them.

use rota_core::{Command, Refusal};
use rota_store::StoreError;

use super::Coordinator;
use crate::{api::EngineError, lookup::Lookups};

impl Coordinator<'_> {
    pub(super) fn needs_lookup(&self, command: &Command) -> bool {
        self.machine.wants_stored(command).is_some()
            || matches!(command, Command::Retry { spec: None, .. })
    }

    /// Hands a command what it needs to know of the store. A damaged record fails this command alone.
    pub(super) fn fill(
        &self,
        command: &mut Command,
        lookups: Option<&Lookups>,
    ) -> Result<(), Refusal> {
        if !self.needs_lookup(command) {
            return Ok(());
        }
        // The caller looked whether there are any before it began; what was ended since, the machine
        // knows.
        let Some(lookups) = lookups else { return Ok(()) };
        let wanted = self.machine.wants_stored(command);
        if let Command::Retry { task, spec: spec @ None, .. } = command {
            *spec = lookups.spec(*task)?;
        }
        if let Some(task) = wanted {
            match command {
                Command::Cancel { stored, .. }
                | Command::Retry { stored, .. }
                | Command::Reschedule { stored, .. }
                | Command::SetPriority { stored, .. }
                | Command::Delete { stored, .. }
                | Command::Purge { stored, .. }
                | Command::Report { stored, .. } => *stored = lookups.stored(task)?,
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn purge(
        &mut self,
        tasks: &[rota_core::TaskId],
        entries: Vec<bytes::Bytes>,
        lookups: &Result<Lookups, StoreError>,
    ) -> Result<(), EngineError> {
        let lookups = lookups.as_ref().map_err(|error| EngineError::Store(error.clone()))?;
        let mut all_read = true;
        for task in tasks {
            let stored = match lookups.stored(*task) {
                Ok(stored) => stored,
                // It stays, and so does its entry. The others are not to wait until somebody mends it.
                Err(refusal) => {
                    self.shared.specs.damaged("done", *task, &refusal.to_string());
                    all_read = false;
                    continue;
                }
            };
            // Purging leaves alone what may not be purged; it refuses nothing.
            let _ = self.machine.apply(Command::Purge { task: *task, stored });
        }
        self.step.commands += tasks.len();
        if all_read {
            self.step.entries.extend(entries);
        }
        Ok(())
    }
}
