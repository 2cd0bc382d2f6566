//! The records of schedules that a machine is made of: calendars, definitions and states.

use std::collections::BTreeMap;

use bytes::Bytes;
use rota_core::{Machine, Name, ScheduleState};
use rota_store::{Mutation, Snapshot, Space, StoreError};

use crate::{
    layout,
    records::{Calendar, Cursor, Entry, Found, Kind, Schedule, each, own},
    unreadable::Unreadable,
};

/// The records, by their keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScheduleRecords {
    calendars: BTreeMap<Bytes, Bytes>,
    schedules: BTreeMap<Bytes, Bytes>,
    states: BTreeMap<Bytes, Bytes>,
}

impl ScheduleRecords {
    pub(crate) async fn read(snapshot: &dyn Snapshot) -> Result<Self, StoreError> {
        let mut records = Self::default();
        each(snapshot, |entry: &Entry<Calendar>| {
            records.calendars.insert(own(&entry.key), own(&entry.value));
        })
        .await?;
        each(snapshot, |entry: &Entry<Schedule>| {
            records.schedules.insert(own(&entry.key), own(&entry.value));
        })
        .await?;
        each(snapshot, |entry: &Entry<Cursor>| {
            records.states.insert(own(&entry.key), own(&entry.value));
        })
        .await?;
        Ok(records)
    }

    /// Whether the records of this space are among them.
    pub(crate) fn holds(space: Space) -> bool {
        [layout::CALENDAR, layout::SCHEDULE, layout::CURSOR].contains(&space)
    }

    /// Applies a change of the store, if it is about schedules.
    pub(crate) fn apply(&mut self, mutation: &Mutation) {
        let space = mutation.space();
        let records = if space == layout::CALENDAR {
            &mut self.calendars
        } else if space == layout::SCHEDULE {
            &mut self.schedules
        } else if space == layout::CURSOR {
            &mut self.states
        } else {
            return;
        };
        match mutation {
            Mutation::Put { key, value, .. } => drop(records.insert(own(key), own(value))),
            Mutation::Delete { key, .. } => drop(records.remove(key)),
        }
    }

    /// Loads all of them. Call it after the live tasks are loaded.
    pub(crate) fn restore(&self, machine: &mut Machine, unreadable: &mut Unreadable) {
        for (key, value) in &self.calendars {
            let found = layout::parse_name(key).map(|name| Calendar::decode(&name, value));
            match found {
                Some(Ok(record)) => machine.restore_calendar(record),
                Some(Err(error)) => unreadable.add(layout::CALENDAR, key, &error),
                None => unreadable.add(layout::CALENDAR, key, &"the key is not a name"),
            }
        }
        for key in self.schedules.keys() {
            if let Err((space, why)) = self.restore_one(key, machine) {
                unreadable.add(space, key, &why);
            }
        }
    }

    /// Loads the schedule with this key, if there is one. Returns what cannot be read otherwise: its ticks are
    /// not decided then.
    pub(crate) fn restore_one(
        &self,
        key: &Bytes,
        machine: &mut Machine,
    ) -> Result<(), (Space, String)> {
        let Some(value) = self.schedules.get(key) else { return Ok(()) };
        let name = layout::parse_name(key)
            .ok_or_else(|| (layout::SCHEDULE, "the key is not a name".to_owned()))?;
        let record = Schedule::decode(&name, value)
            .map_err(|error| (layout::SCHEDULE, error.to_string()))?;
        let state = match self.state(&name, key) {
            Found::Record(state) => state,
            Found::Missing => ScheduleState::new(machine.now().wall, record.definition.max_runs),
            Found::Damaged(why) | Found::Newer(why) => return Err((layout::CURSOR, why)),
        };
        machine.restore_schedule(&record, state);
        Ok(())
    }

    fn state(&self, name: &Name, key: &Bytes) -> Found<ScheduleState> {
        match self.states.get(key) {
            Some(value) => Found::decoded(Cursor::decode(name, value)),
            None => Found::Missing,
        }
    }
}
