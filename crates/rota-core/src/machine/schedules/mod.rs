//! The schedules of the machine: the table, and the commands of clients that change it.
//!
//! `ticks` decides the nominal times that have come, `fire` creates their tasks, and `ends` learns how those
//! tasks ended.

mod backfill;
mod calendars;
mod ends;
mod fire;
mod retention;
mod ticks;
mod view;

use std::{collections::VecDeque, sync::Arc};

use rustc_hash::FxHashMap;

pub use ticks::TickOwners;
pub use view::ScheduleView;

use super::{
    Machine, Mutation, Refusal, Reply,
    clock::{self, Wakes},
    index::{ScheduleIndex, Table},
};
use crate::{
    CalendarRecord, Name, Pause, ScheduleFingerprints, ScheduleRecord, ScheduleState, TaskId,
    Template, TickRules, WallTime,
};

/// A schedule, as far as its ticks need it. The rest is in its stored record.
#[derive(Debug)]
pub(super) struct Entry {
    name: Name,
    recurrence: Arc<rota_cron::Recurrence>,
    template: Arc<Template>,
    rules: TickRules,
    max_runs: Option<u64>,
    version: u32,
    created_at: WallTime,
    fingerprints: ScheduleFingerprints,
    state: ScheduleState,
    /// The occurrence after the cursor, once it was looked for. `Some(None)`: there is none.
    next: Option<Option<ticks::Next>>,
    /// The tick whose task waits until the owner of its id was read.
    wants: Option<WallTime>,
    /// Whether it is in the queue of those that are due.
    is_due: bool,
    /// Whether its state must be written at the end of the step.
    is_dirty: bool,
    /// Whether a task of it ended in this step. Its next task is created in a later step, so that one batch has
    /// at most the records of one task that ends and those of none that begins.
    had_end: bool,
}

/// All schedules and calendars.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    entries: Table<ScheduleIndex, Option<Entry>>,
    by_name: FxHashMap<Name, ScheduleIndex>,
    calendars: FxHashMap<Name, Arc<CalendarRecord>>,
    /// Schedules to look at, in the order in which their timers fired.
    due: VecDeque<ScheduleIndex>,
    /// Schedules that are behind. They come after those that are due, and fewer at a time.
    behind: VecDeque<ScheduleIndex>,
    dirty: Vec<ScheduleIndex>,
    /// Tasks that must be written together with the state of their schedule.
    links: Vec<(ScheduleIndex, TaskId)>,
}

impl Schedules {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<ScheduleIndex> {
        self.by_name.get(name).copied()
    }

    /// # Panics
    /// When the index is vacant.
    fn at(&self, index: ScheduleIndex) -> &Entry {
        self.entries[index].as_ref().expect("an index in use")
    }

    /// # Panics
    /// When the index is vacant.
    fn at_mut(&mut self, index: ScheduleIndex) -> &mut Entry {
        self.entries[index].as_mut().expect("an index in use")
    }

    /// Has the schedule looked at in this step or the next one.
    pub(super) fn wake(&mut self, index: ScheduleIndex) {
        if let Some(entry) = &mut self.entries[index]
            && !entry.is_due
        {
            entry.is_due = true;
            self.due.push_back(index);
        }
    }

    /// Has all schedules looked at, because their timers are gone.
    pub(super) fn wake_all(&mut self) {
        let indices: Vec<_> = self.by_name.values().copied().collect();
        indices.into_iter().for_each(|index| self.wake(index));
    }

    /// Has the state of the schedule written at the end of the step.
    fn touch(&mut self, index: ScheduleIndex) {
        let entry = self.at_mut(index);
        if !entry.is_dirty {
            entry.is_dirty = true;
            self.dirty.push(index);
        }
    }

    /// Whether there are schedules to look at.
    pub(super) fn are_due(&self) -> bool {
        !self.due.is_empty() || !self.behind.is_empty()
    }

    /// The schedules that use the calendar.
    fn users_of(&self, calendar: &Name) -> impl Iterator<Item = ScheduleIndex> {
        let uses = |index: &ScheduleIndex| {
            self.at(*index).recurrence.calendars().any(|name| name == calendar.as_str())
        };
        self.by_name.values().copied().filter(uses)
    }

    /// Has the schedules that use the calendar looked at, because their next ticks may be other ones now.
    fn calendar_changed(&mut self, calendar: &Name) {
        for index in self.users_of(calendar).collect::<Vec<_>>() {
            self.at_mut(index).next = None;
            self.wake(index);
        }
    }
}

/// A schedule to create or replace.
#[derive(Debug, Clone)]
pub struct PutSchedule {
    /// The new record. The machine sets its version and its times.
    pub record: ScheduleRecord,
    /// The version that the client saw last. Another one is a conflict. 0 means that there must be none.
    pub if_version: Option<u32>,
}

impl Machine {
    pub(super) fn put_schedule(&mut self, put: PutSchedule) -> Result<Reply, Refusal> {
        let PutSchedule { mut record, if_version } = put;
        let found = self.schedules.find(&record.name);
        let version = found.map_or(0, |index| self.schedules.at(index).version);
        if let Some(wanted) = if_version.filter(|wanted| *wanted != version) {
            return Err(Refusal::ScheduleVersion { wanted, version });
        }
        let calendars = record.definition.recurrence.calendars();
        if let Some(unknown) =
            calendars.filter(|name| !self.schedules.calendars.contains_key(*name)).next()
        {
            return Err(Refusal::UnknownCalendar { calendar: unknown.into() });
        }
        let now = self.now.wall;
        (record.updated_at, record.version) = (now, version + 1);
        let Some(index) = found else {
            let limit = self.limits.schedules_max;
            if self.schedules.len() >= limit as usize {
                return Err(Refusal::TooManyNames { what: "schedules", limit: limit.into() });
            }
            record.created_at = now;
            let state = ScheduleState::new(now, record.definition.max_runs);
            let index = self.insert_schedule(&record, state);
            self.schedules.touch(index);
            self.step.mutations.push(Mutation::PutSchedule(Arc::new(record)));
            return Ok(Reply::Schedule { version: 1, change: Change::Created });
        };
        let entry = self.schedules.at_mut(index);
        if entry.fingerprints == record.fingerprints {
            return Ok(Reply::Schedule { version, change: Change::None });
        }
        record.created_at = entry.created_at;
        let has_other_times = entry.fingerprints.times != record.fingerprints.times;
        if has_other_times {
            entry.state.cursor = entry.state.cursor.max(now);
            entry.state.completed = false;
            entry.state.to_skip.clear();
        }
        if entry.max_runs != record.definition.max_runs {
            entry.state.runs_left = record.definition.max_runs;
            entry.state.completed = false;
        }
        entry.redefine(&record);
        self.schedules.touch(index);
        self.schedules.wake(index);
        self.step.mutations.push(Mutation::PutSchedule(Arc::new(record)));
        Ok(Reply::Schedule { version: version + 1, change: Change::Replaced })
    }

    fn insert_schedule(&mut self, record: &ScheduleRecord, state: ScheduleState) -> ScheduleIndex {
        let definition = &record.definition;
        let index = self.schedules.entries.insert(Some(Entry {
            name: record.name.clone(),
            recurrence: definition.recurrence.clone(),
            template: definition.template.clone(),
            rules: definition.rules,
            max_runs: definition.max_runs,
            version: record.version,
            created_at: record.created_at,
            fingerprints: record.fingerprints,
            state,
            next: None,
            wants: None,
            is_due: false,
            is_dirty: false,
            had_end: false,
        }));
        self.schedules.by_name.insert(record.name.clone(), index);
        self.schedules.wake(index);
        index
    }

    pub(super) fn delete_schedule(
        &mut self,
        name: &Name,
        if_version: Option<u32>,
    ) -> Result<Reply, Refusal> {
        let index = self.find_schedule(name, if_version)?;
        self.remove_schedule(index);
        self.step.mutations.push(Mutation::DeleteSchedule(name.clone()));
        Ok(Reply::Done)
    }

    /// Removes the schedule from memory. Its index may still be in the queues and in timers.
    fn remove_schedule(&mut self, index: ScheduleIndex) {
        let entry = self.schedules.entries[index].take().expect("an index in use");
        self.schedules.by_name.remove(&entry.name);
        self.schedules.dirty.retain(|dirty| *dirty != index);
        self.schedules.links.retain(|(schedule, _)| *schedule != index);
        self.schedules.due.retain(|due| *due != index);
        self.schedules.behind.retain(|behind| *behind != index);
        self.schedules.entries.release(index);
    }

    pub(super) fn pause_schedule(
        &mut self,
        name: &Name,
        pause: Option<Pause>,
    ) -> Result<Reply, Refusal> {
        let index = self.find_schedule(name, None)?;
        let now = self.now.wall;
        let entry = self.schedules.at_mut(index);
        let version = entry.version;
        match (entry.state.pause.is_some(), pause) {
            (false, None) => return Ok(Reply::Schedule { version, change: Change::None }),
            (_, Some(pause)) => entry.state.pause = Some(Box::new(pause)),
            (true, None) => {
                entry.state.pause = None;
                entry.state.failures = 0;
                entry.state.paused_until = now;
            }
        }
        self.schedules.touch(index);
        self.schedules.wake(index);
        Ok(Reply::Schedule { version, change: Change::Replaced })
    }

    /// Skips a coming tick, or takes that back.
    pub(super) fn skip_tick(
        &mut self,
        name: &Name,
        nominal: WallTime,
        skip: bool,
    ) -> Result<Reply, Refusal> {
        let index = self.find_schedule(name, None)?;
        let before = WallTime(nominal.0 - 1);
        let coming = self.schedules.occurrence_after(index, before);
        let is_coming = coming.is_some_and(|next| next.nominal == nominal && next.skip.is_none());
        let entry = self.schedules.at_mut(index);
        if !is_coming || nominal <= entry.state.cursor {
            return Err(Refusal::NoSuchTick { nominal });
        }
        let version = entry.version;
        let to_skip = &mut entry.state.to_skip;
        match (to_skip.binary_search(&nominal), skip) {
            (Ok(_), true) | (Err(_), false) => {
                return Ok(Reply::Schedule { version, change: Change::None });
            }
            (Ok(at), false) => drop(to_skip.remove(at)),
            (Err(_), true) if to_skip.len() >= ScheduleState::TO_SKIP_MAX => {
                let limit = ScheduleState::TO_SKIP_MAX as u64;
                return Err(Refusal::TooManyNames { what: "ticks to skip", limit });
            }
            (Err(at), true) => to_skip.insert(at, nominal),
        }
        self.schedules.touch(index);
        Ok(Reply::Schedule { version, change: Change::Replaced })
    }

    fn find_schedule(
        &self,
        name: &Name,
        if_version: Option<u32>,
    ) -> Result<ScheduleIndex, Refusal> {
        let index = self.schedules.find(name).ok_or(Refusal::UnknownSchedule)?;
        let version = self.schedules.at(index).version;
        match if_version {
            Some(wanted) if wanted != version => Err(Refusal::ScheduleVersion { wanted, version }),
            _ => Ok(index),
        }
    }

    /// Loads a schedule. Only before the first step, and after the live tasks.
    pub fn restore_schedule(&mut self, record: &ScheduleRecord, state: ScheduleState) {
        self.insert_schedule(record, state);
    }

    /// Undoes [`Machine::restore_schedule`], because one of its records has changed or is gone.
    pub fn forget_schedule(&mut self, name: &Name) {
        if let Some(index) = self.schedules.find(name) {
            self.remove_schedule(index);
        }
    }

    /// Number of schedules.
    #[must_use]
    pub fn schedules(&self) -> usize {
        self.schedules.len()
    }

    /// Sets the timer of a schedule.
    fn wake_schedule_at(&mut self, index: ScheduleIndex, date: WallTime) {
        self.dates.insert(clock::date(date), Wakes::Schedule(index));
    }

    /// Writes what the step changed. Call it at the end of the step.
    pub(super) fn seal_schedules(&mut self) {
        let dirty = std::mem::take(&mut self.schedules.dirty);
        if dirty.is_empty() {
            return;
        }
        let mut links: FxHashMap<ScheduleIndex, Vec<TaskId>> = FxHashMap::default();
        for (index, task) in self.schedules.links.drain(..) {
            links.entry(index).or_default().push(task);
        }
        for index in dirty {
            let entry = self.schedules.at_mut(index);
            (entry.is_dirty, entry.had_end) = (false, false);
            let with = links.remove(&index).unwrap_or_default();
            self.step.mutations.push(Mutation::PutScheduleState {
                schedule: entry.name.clone(),
                state: Box::new(entry.state.clone()),
                with,
            });
        }
    }
}

/// What a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Created,
    Replaced,
    /// The schedule was already so.
    None,
}

impl Entry {
    fn redefine(&mut self, record: &ScheduleRecord) {
        let definition = &record.definition;
        self.recurrence = definition.recurrence.clone();
        self.template = definition.template.clone();
        self.rules = definition.rules;
        self.max_runs = definition.max_runs;
        self.version = record.version;
        self.fingerprints = record.fingerprints;
        self.next = None;
        self.wants = None;
    }
}
