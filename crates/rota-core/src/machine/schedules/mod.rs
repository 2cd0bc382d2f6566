//! The schedules of the machine: the table, their timers, and what a step writes of them.
//!
//! `commands` and `calendars` have what clients change. `times` finds the next nominal time, `judge` says what
//! becomes of a tick, `ticks` decides the ticks that have come, `fire` creates their tasks, and `ends` learns how
//! those tasks ended. `backfill` creates the tasks of past ticks. `census` counts all schedules.

mod backfill;
mod calendars;
mod census;
mod commands;
mod deciding;
mod ends;
mod fire;
mod judge;
mod kept;
mod pace;
mod retention;
mod ticks;
mod times;
mod view;

use std::{collections::VecDeque, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};

pub use census::ScheduleStats;
pub use deciding::TickOwners;
pub use view::ScheduleView;

pub(super) use ends::TickEnd;

use self::{kept::Kept, pace::Pace, times::Next};
use super::{
    Change, Machine, Mutation, PutSchedule, Refusal, Reply,
    clock::{self, Wakes},
    index::{ScheduleIndex, Table},
};
use crate::{
    CalendarRecord, Millis, MonoTime, Name, ScheduleDefinition, ScheduleFingerprints,
    ScheduleRecord, ScheduleState, TaskId, Template, TickRules, WallTime,
};

/// A paused schedule writes the ticks that it skips no more often than this.
const PAUSED_PERIOD: Millis = Millis::from_secs(60);
/// A tick that is later than this when its timer is set or fires is caught up on at a bounded pace.
const PACED_FROM: Millis = Millis::from_secs(1);
/// Timers are set again when the distance between the wall clock and the trusted date changes by more than this.
const DRIFT_TOLERATED: u64 = 1000;

/// A schedule, as far as its ticks need it. The rest is in its stored record.
#[derive(Debug)]
pub(super) struct Entry {
    name: Name,
    plan: Arc<Plan>,
    template: Arc<Template>,
    version: u32,
    created_at: WallTime,
    fingerprints: ScheduleFingerprints,
    state: Kept,
    /// The occurrence after the cursor, once it was looked for. `Some(None)`: there is none.
    next: Option<Option<Next>>,
    /// The date of the timer that was set last. The timer is gone once the date is over.
    timer: u64,
    /// Whether it is in one of the queues of schedules to look at.
    is_due: bool,
    /// Whether its state must be written at the end of the step.
    is_dirty: bool,
    /// Number of its tasks that ended in this step.
    ends: u8,
    /// What the census has of it.
    counted: Option<census::Counted>,
}

/// When a schedule has ticks and how they are decided. Schedules with an equal plan share it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Plan {
    recurrence: Arc<rota_cron::Recurrence>,
    rules: TickRules,
    max_runs: Option<u64>,
}

/// What is remembered between the steps of one decision or of one catch-up. It need not outlive the leader.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// The tick whose task waits until the owner of its id was read.
    wants: Option<WallTime>,
    /// The first late tick that is caught up on.
    from: Option<WallTime>,
    /// Whether ticks were coalesced, so that those behind them are as well, although they are in time.
    coalesces: bool,
}

/// All schedules and calendars.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    /// Whether ticks are refused, because the store has no room for new tasks.
    store_is_full: bool,
    /// Boxed, because a growing table then moves little.
    entries: Table<ScheduleIndex, Option<Box<Entry>>>,
    by_name: FxHashMap<Name, ScheduleIndex>,
    plans: FxHashSet<Arc<Plan>>,
    calendars: FxHashMap<Name, Arc<CalendarRecord>>,
    progress: FxHashMap<ScheduleIndex, Progress>,
    census: census::Census,
    /// Schedules to look at, in the order in which their timers fired. Each that `is_due` is once in this queue or in the
    /// other: twice, it could create two tasks in one step.
    due: VecDeque<ScheduleIndex>,
    /// Schedules that are behind. They come after those that are due, and no faster than `pace` allows.
    behind: VecDeque<ScheduleIndex>,
    pace: Pace,
    dirty: Vec<ScheduleIndex>,
    /// Tasks that must be written together with the state of their schedule.
    links: Vec<(ScheduleIndex, TaskId)>,
    /// How far the wall clock is ahead of the date by which ticks are decided.
    ahead: Millis,
    /// The same when all timers were set.
    ahead_of_timers: Millis,
}

impl Schedules {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<ScheduleIndex> {
        self.by_name.get(name).copied()
    }

    fn get(&self, index: ScheduleIndex) -> Option<&Entry> {
        self.entries[index].as_deref()
    }

    /// # Panics
    /// When the index is vacant.
    fn at(&self, index: ScheduleIndex) -> &Entry {
        self.get(index).expect("an index in use")
    }

    /// # Panics
    /// When the index is vacant.
    fn at_mut(&mut self, index: ScheduleIndex) -> &mut Entry {
        self.entries[index].as_deref_mut().expect("an index in use")
    }

    /// Has the schedule looked at in this step or the next one. The index may be vacant.
    pub(super) fn wake(&mut self, index: ScheduleIndex) {
        if let Some(entry) = &mut self.entries[index]
            && !entry.is_due
        {
            entry.is_due = true;
            self.due.push_back(index);
        }
    }

    /// The timer of the schedule has fired. The index may be vacant. Timers of many schedules fire late together if no
    /// leader could look at them, or the wall clock jumps.
    pub(super) fn timer_fired(&mut self, index: ScheduleIndex, now: u64) {
        let late = self.get(index).map(|entry| now.saturating_sub(entry.timer));
        if late.is_some_and(|late| late > PACED_FROM.0) {
            self.put_behind(index);
        } else {
            self.wake(index);
        }
    }

    /// Has the schedule looked at after those that are due.
    fn put_behind(&mut self, index: ScheduleIndex) {
        let entry = self.at_mut(index);
        if !entry.is_due {
            entry.is_due = true;
            self.behind.push_back(index);
        }
    }

    /// Has the state of the schedule written at the end of the step.
    fn touch(&mut self, index: ScheduleIndex) {
        let entry = self.at_mut(index);
        if !entry.is_dirty {
            entry.is_dirty = true;
            self.dirty.push(index);
        }
    }

    /// The time until the next step for schedules that are due or behind. `None` if there are none.
    pub(super) fn wait(&self, now: MonoTime) -> Option<Millis> {
        if !self.due.is_empty() {
            return Some(Millis(0));
        }
        (!self.behind.is_empty()).then(|| self.pace.wait(self.behind.len(), now))
    }

    /// The plan of a definition, shared with other schedules.
    fn plan(&mut self, definition: &ScheduleDefinition) -> Arc<Plan> {
        let plan = Plan {
            recurrence: definition.recurrence.clone(),
            rules: definition.rules,
            max_runs: definition.max_runs,
        };
        if let Some(known) = self.plans.get(&plan) {
            return known.clone();
        }
        let plan = Arc::new(plan);
        self.plans.insert(plan.clone());
        plan
    }

    /// Forgets a plan that no other schedule has.
    fn release(&mut self, plan: &Arc<Plan>) {
        // One is in the set, and the caller has one.
        if Arc::strong_count(plan) == 2 {
            self.plans.remove(plan);
        }
    }

    fn insert(&mut self, record: &ScheduleRecord, state: ScheduleState) -> ScheduleIndex {
        let entry = Box::new(Entry {
            name: record.name.clone(),
            plan: self.plan(&record.definition),
            template: record.definition.template.clone(),
            version: record.version,
            created_at: record.created_at,
            fingerprints: record.fingerprints,
            state: state.into(),
            next: None,
            timer: 0,
            is_due: false,
            is_dirty: false,
            ends: 0,
            counted: None,
        });
        let index = self.entries.insert(Some(entry));
        self.by_name.insert(record.name.clone(), index);
        self.count(index);
        index
    }

    /// Removes the schedule. Its index may still be in timers.
    fn remove(&mut self, index: ScheduleIndex) {
        let entry = self.entries[index].take().expect("an index in use");
        // The next schedule with this index must not find itself there.
        if entry.is_due {
            self.due.retain(|due| *due != index);
            self.behind.retain(|behind| *behind != index);
        }
        self.by_name.remove(&entry.name);
        self.uncount(index, &entry);
        self.progress.remove(&index);
        self.release(&entry.plan);
        self.entries.release(index);
    }

    /// Takes a new definition over.
    fn redefine(&mut self, index: ScheduleIndex, record: &ScheduleRecord) {
        let plan = self.plan(&record.definition);
        self.progress.remove(&index);
        let entry = self.at_mut(index);
        let former = std::mem::replace(&mut entry.plan, plan);
        entry.template = record.definition.template.clone();
        entry.version = record.version;
        entry.fingerprints = record.fingerprints;
        entry.next = None;
        self.release(&former);
    }
}

impl Machine {
    /// Loads a schedule. Only before the first step, and after the live tasks and the calendars.
    pub fn restore_schedule(&mut self, record: &ScheduleRecord, state: ScheduleState) {
        let index = self.schedules.insert(record, state);
        self.arm_schedule(index);
    }

    /// Undoes [`Machine::restore_schedule`], because one of its records has changed or is gone.
    pub fn forget_schedule(&mut self, name: &Name) {
        if let Some(index) = self.schedules.find(name) {
            self.schedules.remove(index);
        }
    }

    /// Number of schedules.
    #[must_use]
    pub fn schedules(&self) -> usize {
        self.schedules.len()
    }

    /// The date by which ticks are decided, as far as it is known.
    fn trusted_date(&self) -> WallTime {
        let ahead = i64::try_from(self.schedules.ahead.0).unwrap_or(i64::MAX);
        WallTime(self.now.wall.0.saturating_sub(ahead))
    }

    /// Sets the timer of a schedule, or has it looked at if there is something to do.
    fn arm_schedule(&mut self, index: ScheduleIndex) {
        let state = &self.schedules.at(index).state;
        let (completed, rare) = (state.completed, state.rare());
        if !rare.queued.is_empty() || rare.backfill.is_some() {
            self.schedules.wake(index);
            return;
        }
        if completed {
            return;
        }
        let late = match self.schedules.next(index) {
            Some(next) if next.due_at > self.trusted_date() => {
                return self.await_tick(index, next.due_at);
            }
            Some(next) => self.trusted_date().since(next.due_at),
            None => Millis(0),
        };
        // A leader that begins has all that was due meanwhile before it. Newer ticks do not wait for that.
        if late > PACED_FROM {
            self.schedules.put_behind(index);
        } else {
            self.schedules.wake(index);
        }
    }

    /// Sets the timers of all schedules, because they are gone or stand at other dates.
    pub(super) fn arm_schedules(&mut self) {
        self.schedules.ahead_of_timers = self.schedules.ahead;
        let used = self.schedules.entries.iter().filter(|(_, entry)| entry.is_some());
        let indices: Vec<_> = used.map(|(index, _)| index).collect();
        for index in indices {
            let entry = self.schedules.at_mut(index);
            entry.timer = 0;
            if !entry.is_due {
                self.arm_schedule(index);
            }
        }
    }

    /// Sets the timer of the next tick.
    fn await_tick(&mut self, index: ScheduleIndex, due_at: WallTime) {
        let mut left = due_at.since(self.trusted_date());
        if self.schedules.at(index).state.rare().pause.is_some() {
            left = left.max(PAUSED_PERIOD);
        }
        self.wake_schedule_in(index, left);
    }

    fn wake_schedule_in(&mut self, index: ScheduleIndex, left: Millis) {
        let date = clock::date(self.now.wall + left);
        let timer = &mut self.schedules.at_mut(index).timer;
        // A timer that is set for an earlier date is enough: the next one is set when it fires.
        if *timer <= self.dates.now() || *timer > date {
            *timer = date;
            self.dates.insert(date, Wakes::Schedule(index));
        }
    }

    /// Writes what the step changed. Call it at the end of the step.
    pub(super) fn seal_schedules(&mut self) {
        let mut links = std::mem::take(&mut self.schedules.links);
        links.sort_by_key(|(index, _)| *index);
        for index in std::mem::take(&mut self.schedules.dirty) {
            // It may have been removed in this step.
            let Some(entry) = self.schedules.entries[index].as_deref_mut() else { continue };
            if !std::mem::take(&mut entry.is_dirty) {
                continue;
            }
            entry.ends = 0;
            entry.state.tidy();
            self.step.mutations.push(Mutation::PutScheduleState {
                schedule: entry.name.clone(),
                state: Box::new((&entry.state).into()),
                with: {
                    let begin = links.partition_point(|(linked, _)| *linked < index);
                    let own = links[begin..].iter().take_while(|(linked, _)| *linked == index);
                    own.map(|(_, task)| *task).collect()
                },
            });
            self.schedules.count(index);
        }
    }
}
