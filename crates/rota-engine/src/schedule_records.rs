//! The records of schedules that a machine is made of: calendars, definitions and states.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rota_core::{Machine, ScheduleRecord, ScheduleState};
use rota_store::{Mutation, Snapshot, Space, StoreError};

use crate::{
    layout,
    records::{Calendar, Cursor, Entry, Found, Kind, Scan, Schedule, each, own},
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

    /// Loads the calendars. Call it before schedules are loaded.
    pub(crate) fn restore_calendars(&self, machine: &mut Machine, unreadable: &mut Unreadable) {
        for (key, value) in &self.calendars {
            restore_calendar(machine, key, value, unreadable);
        }
    }

    /// Decodes the schedules one after the other.
    pub(crate) fn decoded(&self) -> impl Iterator<Item = DecodedSchedule> {
        self.schedules.iter().map(|(key, value)| decode(key, value, self.states.get(key)))
    }

    /// Loads the schedule with this key, if there is one. Returns what cannot be read otherwise: its ticks are
    /// not decided then.
    pub(crate) fn restore_one(
        &self,
        key: &Bytes,
        machine: &mut Machine,
    ) -> Result<(), UnreadableSchedule> {
        let Some(value) = self.schedules.get(key) else { return Ok(()) };
        restore_schedule(machine, decode(key, value, self.states.get(key))?);
        Ok(())
    }
}

/// The records of a schedule as they are stored.
pub(crate) struct StoredSchedule {
    key: Bytes,
    value: Bytes,
    state: Option<Bytes>,
}

impl StoredSchedule {
    pub(crate) fn decode(&self) -> DecodedSchedule {
        decode(&self.key, &self.value, self.state.as_ref())
    }
}

/// A scan of all schedules with their states, page by page. Both spaces are in the order of the same keys.
pub(crate) struct ScheduleScan {
    schedules: Scan<Schedule>,
    states: Scan<Cursor>,
    /// States that were read and whose schedules come next.
    next_states: VecDeque<Entry<Cursor>>,
}

impl ScheduleScan {
    pub(crate) fn new() -> Self {
        Self {
            schedules: Scan::all(layout::SCHEDULE),
            states: Scan::all(layout::CURSOR),
            next_states: VecDeque::new(),
        }
    }

    /// The next page. `None` at the end.
    pub(crate) async fn next(
        &mut self,
        snapshot: &dyn Snapshot,
    ) -> Result<Option<Vec<StoredSchedule>>, StoreError> {
        let Some(page) = self.schedules.next(snapshot).await? else { return Ok(None) };
        let mut schedules = Vec::with_capacity(page.len());
        for Entry { key, value, .. } in page {
            let state = self.state(snapshot, &key).await?;
            // What is decoded may be a slice of it.
            schedules.push(StoredSchedule { key, value: own(&value), state });
        }
        Ok(Some(schedules))
    }

    /// The state of the schedule with this key. Keys must be asked for in order.
    async fn state(
        &mut self,
        snapshot: &dyn Snapshot,
        key: &Bytes,
    ) -> Result<Option<Bytes>, StoreError> {
        loop {
            // A state without a schedule is left out.
            while self.next_states.front().is_some_and(|found| found.key < *key) {
                self.next_states.pop_front();
            }
            if let Some(found) = self.next_states.front() {
                let is_its = found.key == *key;
                let found = if is_its { self.next_states.pop_front() } else { None };
                return Ok(found.map(|found| found.value));
            }
            match self.states.next(snapshot).await? {
                Some(page) => self.next_states.extend(page),
                None => return Ok(None),
            }
        }
    }
}

fn decode(key: &Bytes, value: &Bytes, state: Option<&Bytes>) -> DecodedSchedule {
    let unreadable = |space, why| UnreadableSchedule { space, key: key.clone(), why };
    let name = layout::parse_name(key)
        .ok_or_else(|| unreadable(layout::SCHEDULE, "the key is not a name".to_owned()))?;
    let record = Schedule::decode(&name, value)
        .map_err(|error| unreadable(layout::SCHEDULE, error.to_string()))?;
    let state = state.map_or(Found::Missing, |state| Found::decoded(Cursor::decode(&name, state)));
    match state {
        Found::Record(state) => Ok((record, Some(state))),
        Found::Missing => Ok((record, None)),
        Found::Damaged(why) | Found::Newer(why) => Err(unreadable(layout::CURSOR, why)),
    }
}

/// A schedule and its state, which is missing at first.
pub(crate) type DecodedSchedule =
    Result<(ScheduleRecord, Option<ScheduleState>), UnreadableSchedule>;

/// A record of a schedule that cannot be read, and why.
#[derive(Debug)]
pub(crate) struct UnreadableSchedule {
    pub(crate) space: Space,
    pub(crate) key: Bytes,
    pub(crate) why: String,
}

/// Loads a calendar. Call it before schedules are loaded.
pub(crate) fn restore_calendar(
    machine: &mut Machine,
    key: &Bytes,
    value: &Bytes,
    unreadable: &mut Unreadable,
) {
    match layout::parse_name(key).map(|name| Calendar::decode(&name, value)) {
        Some(Ok(record)) => machine.restore_calendar(record),
        Some(Err(error)) => unreadable.add(layout::CALENDAR, key, &error),
        None => unreadable.add(layout::CALENDAR, key, &"the key is not a name"),
    }
}

/// Loads a schedule. Call it after the live tasks and the calendars are loaded.
pub(crate) fn restore_schedule(
    machine: &mut Machine,
    (record, state): (ScheduleRecord, Option<ScheduleState>),
) {
    let new = || ScheduleState::new(machine.now().wall, record.definition.max_runs);
    let state = state.unwrap_or_else(new);
    machine.restore_schedule(&record, state);
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use rota_store::{Direction, KeyRange, Page, Revision};

    use super::*;

    /// Schedules have keys that three does not divide, and states have even ones. Pages are small.
    struct Small;

    #[async_trait]
    impl Snapshot for Small {
        fn revision(&self) -> Revision {
            Revision(1)
        }

        async fn get(&self, _: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
            unreachable!("only scans")
        }

        async fn scan(&self, range: KeyRange, _: Direction, _: usize) -> Result<Page, StoreError> {
            let (is_there, size): (fn(u8) -> bool, _) = match range.space {
                layout::SCHEDULE => (|key| key % 3 > 0, 7),
                _ => (|key| key.is_multiple_of(2), 5),
            };
            let mut keys = (0..100).filter(|key| is_there(*key) && [*key][..] >= *range.start);
            let entries = keys.by_ref().take(size).map(|key| (vec![key].into(), vec![key].into()));
            Ok(Page { entries: entries.collect(), more: keys.next().is_some() })
        }
    }

    #[tokio::test]
    async fn each_schedule_is_read_with_its_own_state() {
        let (mut scan, mut read) = (ScheduleScan::new(), Vec::new());
        while let Some(page) = scan.next(&Small).await.expect("pages") {
            read.extend(page.into_iter().map(|stored| (stored.key[0], stored.state)));
        }
        let state = |key: u8| key.is_multiple_of(2).then(|| Bytes::from(vec![key]));
        let expected: Vec<_> =
            (0..100).filter(|key| key % 3 > 0).map(|key| (key, state(key))).collect();
        assert_eq!(read, expected);
    }
}
