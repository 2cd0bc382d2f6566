//! Calendars: sets of days that schedules share.

use std::sync::Arc;

use super::{
    Change, Entry, Machine, Mutation, Refusal, Reply, ScheduleIndex, Schedules,
    commands::may_be_repeat,
};
use crate::{CalendarRecord, Name};

impl Schedules {
    /// The schedules that use the calendar.
    fn users_of(&self, calendar: &Name) -> impl Iterator<Item = (ScheduleIndex, &Entry)> {
        let entries = self.entries.iter();
        let used = entries.filter_map(|(index, entry)| Some((index, entry.as_deref()?)));
        used.filter(move |(_, entry)| {
            entry.plan.recurrence.calendars().any(|name| name == calendar.as_str())
        })
    }

    /// Has the schedules that use the calendar looked at, because their next ticks may be other ones now.
    fn calendar_changed(&mut self, calendar: &Name) {
        let users: Vec<_> = self.users_of(calendar).map(|(index, _)| index).collect();
        for index in users {
            self.at_mut(index).next = None;
            self.wake(index);
        }
    }
}

impl Machine {
    pub(in crate::machine) fn put_calendar(
        &mut self,
        mut record: CalendarRecord,
        if_version: Option<u32>,
    ) -> Result<Reply, Refusal> {
        let found = self.schedules.calendars.get(&record.name).cloned();
        let version = found.as_ref().map_or(0, |found| found.version);
        let is_same = found.as_ref().is_some_and(|found| {
            found.calendar == record.calendar && found.description == record.description
        });
        if let Some(wanted) = if_version.filter(|wanted| *wanted != version) {
            if is_same && may_be_repeat(wanted, version) {
                return Ok(Reply::Schedule { version, change: Change::None });
            }
            return Err(Refusal::ScheduleVersion { wanted, version });
        }
        let now = self.now.wall;
        let change = match &found {
            Some(_) if is_same => return Ok(Reply::Schedule { version, change: Change::None }),
            Some(found) => {
                record.created_at = found.created_at;
                Change::Replaced
            }
            None => {
                let limit = u64::from(self.limits.calendars_max);
                if self.schedules.calendars.len() as u64 >= limit {
                    return Err(Refusal::TooManyNames { what: "calendars", limit });
                }
                record.created_at = now;
                Change::Created
            }
        };
        (record.updated_at, record.version) = (now, version + 1);
        let record = Arc::new(record);
        self.schedules.calendars.insert(record.name.clone(), record.clone());
        self.schedules.calendar_changed(&record.name);
        self.step.mutations.push(Mutation::PutCalendar(record));
        Ok(Reply::Schedule { version: version + 1, change })
    }

    pub(in crate::machine) fn delete_calendar(
        &mut self,
        name: &Name,
        if_version: Option<u32>,
    ) -> Result<Reply, Refusal> {
        let found = self.schedules.calendars.get(name).ok_or(Refusal::NoSuchCalendar)?;
        let version = found.version;
        if let Some(wanted) = if_version.filter(|wanted| *wanted != version) {
            return Err(Refusal::ScheduleVersion { wanted, version });
        }
        if let Some((_, user)) = self.schedules.users_of(name).next() {
            let schedule = user.name.clone();
            return Err(Refusal::CalendarInUse { schedule });
        }
        self.schedules.calendars.remove(name);
        self.step.mutations.push(Mutation::DeleteCalendar(name.clone()));
        Ok(Reply::Done)
    }

    /// Loads a calendar. Only before the first step, and before the schedules.
    pub fn restore_calendar(&mut self, record: CalendarRecord) {
        self.schedules.calendars.insert(record.name.clone(), Arc::new(record));
    }

    /// A calendar by its name.
    #[must_use]
    pub fn calendar(&self, name: &str) -> Option<&Arc<CalendarRecord>> {
        self.schedules.calendars.get(name)
    }

    /// All calendars, in no order.
    pub fn calendars(&self) -> impl Iterator<Item = &Arc<CalendarRecord>> {
        self.schedules.calendars.values()
    }
}
