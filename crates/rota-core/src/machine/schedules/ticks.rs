//! The decision about each tick whose time has come.
//!
//! A schedule that its timer or a command woke waits in a queue. [`Machine::decide_ticks`] takes it from there,
//! and decides its occurrences in order, from the one after the cursor to the present. Each decision moves the
//! cursor, and goes into the batch of the step with the record of the outcome and with the task, if there is
//! one. So no tick is decided twice and none is left out, whatever happens between two steps.

use rota_cron::{CalendarLookup, Kind, Skip, Timestamp};
use rustc_hash::FxHashMap;

use super::{Machine, Mutation, Schedules, fire::Fired};
use crate::{
    CatchUp, KeyOwner, Millis, Name, Outcome, Overlap, Run, ScheduleState, SkipReason,
    TaskIdSequence, TickRecord, WallTime, machine::TickEvent, machine::index::ScheduleIndex,
    tick_id,
};

/// Maximum number of schedules to look at in one step, so that batches stay small.
const DECIDED_MAX: usize = 4096;
/// Maximum number of schedules that are behind, in one step.
const BEHIND_MAX: usize = 256;
/// Maximum number of ticks of one schedule in one step.
const WALKED_MAX: usize = 1000;
/// Maximum bytes of payloads of tasks that ticks create in one step.
const BYTES_MAX: usize = 8 << 20;
/// A tick that is later than this is subject to `catch_up`. Changes of the leader usually take less.
const LATE: Millis = Millis::from_secs(10);
/// Interval at which a paused schedule writes the ticks that it skips.
const PAUSED_PERIOD: Millis = Millis::from_secs(60);

/// The tasks that own the ids of coming ticks, as the store has it. The caller reads them for
/// [`Machine::due_tick_ids`]. A tick whose id is not among them waits for the next step.
#[derive(Debug, Default)]
pub struct TickOwners(FxHashMap<Name, Option<KeyOwner>>);

impl TickOwners {
    /// Adds what the store has for an id.
    pub fn insert(&mut self, id: Name, owner: Option<KeyOwner>) {
        self.0.insert(id, owner);
    }

    pub(super) fn get(&self, id: &Name) -> Option<Option<KeyOwner>> {
        self.0.get(id).copied()
    }
}

/// What decisions of a step need.
pub(super) struct Deciding<'a> {
    /// The date by which ticks are judged.
    pub(super) now: WallTime,
    pub(super) ids: &'a mut TaskIdSequence,
    pub(super) owners: &'a TickOwners,
    /// Bytes of payloads so far.
    pub(super) bytes: usize,
}

/// An occurrence, as far as a decision needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) nominal: WallTime,
    /// Set if it creates no task, whatever the state of the schedule is.
    pub(super) skip: Option<SkipReason>,
}

/// What to do with a tick.
enum Verdict {
    Fire,
    Queue,
    Outcome(Outcome),
    /// No more ticks may create tasks.
    Completed,
}

impl CalendarLookup for Schedules {
    fn calendar(&self, name: &str) -> Option<&rota_cron::Calendar> {
        self.calendars.get(name).map(|record| record.calendar.as_ref())
    }
}

impl Schedules {
    /// The first occurrence after a date.
    pub(super) fn occurrence_after(&self, index: ScheduleIndex, after: WallTime) -> Option<Next> {
        let found = self.at(index).recurrence.next_after(Timestamp(after.0), self)?;
        let skip = match found.kind {
            Kind::Fires => None,
            Kind::Skipped(Skip::Gap { .. }) => Some(SkipReason::Gap),
            Kind::Skipped(Skip::Excluded { .. }) => Some(SkipReason::Excluded),
        };
        Some(Next { nominal: WallTime(found.at.0), skip })
    }

    /// The occurrence after the cursor.
    pub(super) fn next(&mut self, index: ScheduleIndex) -> Option<Next> {
        let entry = self.at(index);
        if let Some(known) = entry.next {
            return known;
        }
        let next = self.occurrence_after(index, entry.state.cursor);
        self.at_mut(index).next = Some(next);
        next
    }

    /// When the tick may create its task: its nominal time and its jitter.
    fn due_at(&self, index: ScheduleIndex, nominal: WallTime) -> WallTime {
        let entry = self.at(index);
        let most = entry.rules.jitter;
        if most == Millis(0) {
            return nominal;
        }
        let following = self.occurrence_after(index, nominal);
        let room = following.map_or(most, |next| next.nominal.since(nominal));
        let most = most.min(Millis(room.0.saturating_sub(1)));
        let delay = rota_cron::jitter(&entry.name, Timestamp(nominal.0), most.as_duration());
        nominal + Millis::from_duration(delay)
    }

    /// The next occurrence after `nominal` that is not skipped, if it is due by `now`. Looks at a bounded
    /// number.
    fn is_followed(&self, index: ScheduleIndex, nominal: WallTime, now: WallTime) -> bool {
        let mut after = nominal;
        for _ in 0..WALKED_MAX {
            match self.occurrence_after(index, after) {
                Some(next) if next.nominal > now => return false,
                Some(next) if next.skip.is_none() => {
                    return self.due_at(index, next.nominal) <= now;
                }
                Some(next) => after = next.nominal,
                None => return false,
            }
        }
        false
    }

    /// The first of the last `count` occurrences up to `now`, no earlier than `from`.
    fn last_of(
        &self,
        index: ScheduleIndex,
        count: usize,
        from: WallTime,
        now: WallTime,
    ) -> WallTime {
        let mut span = 60_000;
        loop {
            let begin = WallTime(from.0.max(now.0 - span));
            let mut found = Vec::new();
            let mut after = begin;
            while let Some(next) = self.occurrence_after(index, after) {
                if next.nominal > now {
                    break;
                }
                after = next.nominal;
                found.push(next.nominal);
            }
            if found.len() > count {
                return found[found.len() - count];
            }
            if begin == from {
                return from;
            }
            span *= 4;
        }
    }
}

impl Machine {
    /// The ids of ticks that may create tasks in this step. The caller reads their owners from the store, and
    /// passes them to [`Machine::decide_ticks`].
    #[must_use]
    pub fn due_tick_ids(&mut self, now: WallTime) -> Vec<Name> {
        let due: Vec<_> = self.schedules.due.iter().take(DECIDED_MAX).copied().collect();
        let behind = self.schedules.behind.iter().take(BEHIND_MAX).copied();
        let mut ids = Vec::new();
        for index in due.into_iter().chain(behind.collect::<Vec<_>>()) {
            let next = self.schedules.next(index);
            let entry = self.schedules.at(index);
            let queued = entry.state.queued.first().copied();
            let next = next.map(|next| next.nominal).filter(|nominal| *nominal <= now);
            let candidates = [entry.wants, queued, next];
            ids.extend(candidates.into_iter().flatten().map(|at| tick_id(&entry.name, at)));
        }
        ids
    }

    /// Decides the ticks that have come by `now`. Call it once in a step, after [`Machine::tick`]. `now` may be
    /// earlier than the time of the step, if its wall clock is not trusted.
    pub fn decide_ticks(&mut self, now: WallTime, ids: &mut TaskIdSequence, owners: &TickOwners) {
        let mut deciding = Deciding { now, ids, owners, bytes: 0 };
        for _ in 0..self.schedules.due.len().min(DECIDED_MAX) {
            if deciding.bytes > BYTES_MAX {
                break;
            }
            let Some(index) = self.schedules.due.pop_front() else { break };
            self.schedules.at_mut(index).is_due = false;
            self.decide(index, &mut deciding);
        }
        for _ in 0..self.schedules.behind.len().min(BEHIND_MAX) {
            if deciding.bytes > BYTES_MAX {
                break;
            }
            let Some(index) = self.schedules.behind.pop_front() else { break };
            self.schedules.at_mut(index).is_due = false;
            self.decide(index, &mut deciding);
        }
    }

    /// Decides the ticks of one schedule, in order. At most one of them creates a task.
    fn decide(&mut self, index: ScheduleIndex, deciding: &mut Deciding<'_>) {
        let mut has_fired = false;
        let mut catch_up_from = None;
        for _ in 0..WALKED_MAX {
            let entry = self.schedules.at(index);
            if entry.had_end {
                return self.look_again(index, deciding.now);
            }
            let is_paused = entry.state.pause.is_some();
            if !is_paused && !entry.state.queued.is_empty() && !self.is_running(index) {
                if has_fired || !self.fire_queued(index, deciding) {
                    return self.look_again(index, deciding.now);
                }
                has_fired = true;
            }
            let entry = self.schedules.at(index);
            if entry.state.completed {
                return;
            }
            let Some(next) = self.schedules.next(index) else { return self.complete(index) };
            let due_at = self.schedules.due_at(index, next.nominal);
            if due_at > deciding.now {
                return self.await_tick(index, due_at, deciding.now);
            }
            let late = deciding.now.since(due_at);
            let outcome = match self.judge(index, next, late, deciding.now, &mut catch_up_from) {
                Verdict::Completed => return self.complete(index),
                Verdict::Outcome(outcome) => outcome,
                Verdict::Queue => {
                    self.queue_tick(index, next.nominal);
                    Outcome::Queued
                }
                Verdict::Fire if has_fired => return self.look_again(index, deciding.now),
                Verdict::Fire => match self.fire(index, next.nominal, deciding) {
                    Fired::Task(task) => {
                        has_fired = true;
                        Outcome::Fired(task)
                    }
                    Fired::Refused(reason) => Outcome::Refused(reason),
                    Fired::WantsOwner => return self.look_again(index, deciding.now),
                },
            };
            self.settle(index, next.nominal, outcome, late);
        }
        self.look_again(index, deciding.now);
    }

    /// Has the schedule looked at in the next step. One that is far behind comes after all others.
    fn look_again(&mut self, index: ScheduleIndex, now: WallTime) {
        let next = self.schedules.next(index);
        let is_behind = next.is_some_and(|next| now.since(next.nominal) > LATE);
        let entry = self.schedules.at_mut(index);
        if !entry.is_due {
            entry.is_due = true;
            let queue =
                if is_behind { &mut self.schedules.behind } else { &mut self.schedules.due };
            queue.push_back(index);
        }
    }

    /// Sets the timer of the next tick. `date` is by `now`, which may be behind the clock of the timers.
    fn await_tick(&mut self, index: ScheduleIndex, date: WallTime, now: WallTime) {
        let mut left = date.since(now);
        if self.schedules.at(index).state.pause.is_some() {
            left = left.max(PAUSED_PERIOD);
        }
        self.wake_schedule_at(index, self.now.wall + left);
    }

    fn complete(&mut self, index: ScheduleIndex) {
        let entry = self.schedules.at_mut(index);
        if !entry.state.completed {
            entry.state.completed = true;
            self.schedules.touch(index);
        }
    }

    /// Whether the task of the last tick that created one has not ended.
    pub(super) fn is_running(&self, index: ScheduleIndex) -> bool {
        self.schedules
            .at(index)
            .state
            .last_task
            .is_some_and(|task| self.live.find(task).is_some() || self.unreadable.contains(&task))
    }

    fn judge(
        &mut self,
        index: ScheduleIndex,
        next: Next,
        late: Millis,
        now: WallTime,
        catch_up_from: &mut Option<WallTime>,
    ) -> Verdict {
        if let Some(reason) = next.skip {
            return Verdict::Outcome(Outcome::Skipped(reason));
        }
        let entry = self.schedules.at_mut(index);
        let state = &mut entry.state;
        if state.pause.is_some() || next.nominal <= state.paused_until {
            return Verdict::Outcome(Outcome::Skipped(SkipReason::Paused));
        }
        if let Ok(at) = state.to_skip.binary_search(&next.nominal) {
            state.to_skip.remove(at);
            return Verdict::Outcome(Outcome::Skipped(SkipReason::ByRequest));
        }
        if state.runs_left == Some(0) {
            return Verdict::Completed;
        }
        if let Some(outcome) = self.judge_late(index, next.nominal, late, now, catch_up_from) {
            return Verdict::Outcome(outcome);
        }
        self.judge_overlap(index)
    }

    /// What becomes of a tick that comes late. `None` if it is as good as one in time.
    fn judge_late(
        &self,
        index: ScheduleIndex,
        nominal: WallTime,
        late: Millis,
        now: WallTime,
        catch_up_from: &mut Option<WallTime>,
    ) -> Option<Outcome> {
        let entry = self.schedules.at(index);
        let rules = entry.rules;
        let coalesces = entry.state.open_run.is_some_and(|run| run.outcome == Outcome::Coalesced);
        if late <= LATE && !coalesces {
            return None;
        }
        if late > LATE.max(rules.catch_up_window) {
            return Some(Outcome::Missed);
        }
        match rules.catch_up {
            CatchUp::None if late > LATE => Some(Outcome::Missed),
            CatchUp::Last if self.schedules.is_followed(index, nominal, now) => {
                Some(Outcome::Coalesced)
            }
            CatchUp::All if late > LATE => {
                let from = *catch_up_from.get_or_insert_with(|| {
                    let most = rules.catch_up_max as usize;
                    let oldest = WallTime(now.0.saturating_sub_unsigned(rules.catch_up_window.0));
                    self.schedules.last_of(index, most, oldest, now)
                });
                (nominal < from).then_some(Outcome::Missed)
            }
            CatchUp::None | CatchUp::Last | CatchUp::All => None,
        }
    }

    fn judge_overlap(&mut self, index: ScheduleIndex) -> Verdict {
        let skipped = Verdict::Outcome(Outcome::Skipped(SkipReason::Overlap));
        let queued = self.schedules.at(index).state.queued.len();
        if queued == 0 && !self.is_running(index) {
            return Verdict::Fire;
        }
        match self.schedules.at(index).rules.overlap {
            Overlap::Allow => Verdict::Fire,
            Overlap::Skip => skipped,
            Overlap::QueueOne if queued == 0 => Verdict::Queue,
            Overlap::QueueAll if queued < ScheduleState::QUEUED_MAX => Verdict::Queue,
            Overlap::QueueOne | Overlap::QueueAll => skipped,
            Overlap::CancelRunning => {
                self.cancel_running(index);
                Verdict::Queue
            }
        }
    }

    /// Cancels the task of the last tick, and skips ticks that wait for it, because a newer one takes their
    /// place.
    fn cancel_running(&mut self, index: ScheduleIndex) {
        let entry = self.schedules.at_mut(index);
        let replaced = std::mem::take(&mut entry.state.queued);
        let last_task = entry.state.last_task;
        for nominal in replaced {
            self.end_queued(index, nominal, Outcome::Skipped(SkipReason::Overlap));
        }
        if let Some(task) = last_task.filter(|task| self.live.find(*task).is_some()) {
            self.cancel(task, None).expect("a live task can be cancelled");
        }
    }

    fn queue_tick(&mut self, index: ScheduleIndex, nominal: WallTime) {
        let state = &mut self.schedules.at_mut(index).state;
        state.queued.push(nominal);
        state.runs_left = state.runs_left.map(|left| left.saturating_sub(1));
    }

    /// Writes the outcome of the tick after the cursor, and moves the cursor.
    fn settle(&mut self, index: ScheduleIndex, nominal: WallTime, outcome: Outcome, late: Millis) {
        let entry = self.schedules.at_mut(index);
        entry.state.cursor = nominal;
        entry.next = None;
        entry.wants = None;
        let alone = Run { outcome, first: nominal, last: nominal, count: 1 };
        let run = match entry.state.open_run {
            Some(run) if run.outcome == outcome => {
                Run { last: nominal, count: run.count + 1, ..run }
            }
            _ => alone,
        };
        entry.state.open_run = Some(run).filter(|_| outcome.folds());
        self.write_run(index, run);
        self.schedules.touch(index);
        let schedule = self.schedules.at(index).name.clone();
        self.step.ticks.push(TickEvent { schedule, nominal, outcome, late });
    }

    /// Writes the final outcome of a tick that was queued.
    pub(super) fn end_queued(&mut self, index: ScheduleIndex, nominal: WallTime, outcome: Outcome) {
        let run = Run { outcome, first: nominal, last: nominal, count: 1 };
        self.write_run(index, run);
        self.schedules.touch(index);
        let schedule = self.schedules.at(index).name.clone();
        let late = self.now.wall.since(nominal);
        self.step.ticks.push(TickEvent { schedule, nominal, outcome, late });
    }

    /// Writes the record of a run. A run that goes on in the same step is written once.
    fn write_run(&mut self, index: ScheduleIndex, run: Run) {
        let retention = self.retention.completed.max(self.retention.other);
        let retain_until = (run.outcome != Outcome::Queued).then_some(self.now.wall + retention);
        let schedule = self.schedules.at(index).name.clone();
        let record = TickRecord { schedule, run, decided_at: self.now.wall, retain_until };
        match self.step.mutations.last_mut() {
            Some(Mutation::PutTick(last))
                if last.run.first == run.first && last.schedule == record.schedule =>
            {
                **last = record;
            }
            _ => self.step.mutations.push(Mutation::PutTick(Box::new(record))),
        }
    }
}
