//! The decision about each tick whose time has come.
//!
//! A schedule that its timer or a command woke waits in a queue. [`Machine::decide_ticks`] takes it from there,
//! and decides its occurrences in order, from the one after the cursor to the present. Each decision moves the
//! cursor, and goes into the batch of the step with the record of the outcome and with the task, if there is
//! one. So no tick is decided twice and none is left out, whatever happens between two steps.

use super::{
    DRIFT_TOLERATED, Machine, Mutation,
    deciding::{Deciding, TickOwners, WALKED_MAX, WRITTEN_MAX},
    fire::Fired,
    judge::{Situation, Verdict},
    times::{LATE, Next},
};
use crate::{
    Name, Outcome, Overlap, Run, SkipReason, TaskId, TaskIdSequence, TickRecord, WallTime,
    machine::TickEvent,
    machine::clock::{self, Wakes},
    machine::index::ScheduleIndex,
    schedule::write_tick_id,
};

/// Maximum number of schedules to look at in one step, so that batches stay small.
const DECIDED_MAX: usize = 4096;
/// Maximum number of timers to look at in one call of [`Machine::coming_tick_ids`].
const COMING_MAX: usize = 4096;
/// Maximum bytes of payloads of tasks that ticks create in one step.
const BYTES_MAX: usize = 8 << 20;

/// What is left to do for a schedule.
enum Left {
    /// Nothing until the next tick is due.
    Wait(WallTime),
    /// Nothing: there are no more ticks.
    Nothing,
    /// More, in the next step.
    More,
}

impl Machine {
    /// The ids of tasks that ticks may create in this step. The caller reads their owners from the store, and
    /// passes them to [`Machine::decide_ticks`].
    #[must_use]
    pub fn due_tick_ids(&mut self, now: WallTime) -> Vec<Name> {
        let mut due: Vec<_> = self.schedules.due.iter().take(DECIDED_MAX).copied().collect();
        let behind = self.schedules.pace.allowed(self.now.mono);
        due.extend(self.schedules.behind.iter().take(behind));
        let mut ids = Vec::with_capacity(due.len());
        let mut text = String::with_capacity(Name::LEN_MAX);
        for index in due {
            // It may have been removed since.
            if self.schedules.get(index).is_none_or(|entry| !entry.is_due) {
                continue;
            }
            let next = self.schedules.next(index).filter(|next| next.due_at <= now);
            let entry = self.schedules.at(index);
            let rare = entry.state.rare();
            let wants = self.schedules.progress.get(&index).and_then(|progress| progress.wants);
            let next = next.map(|next| next.nominal).filter(|next| wants != Some(*next));
            let candidates = [wants, rare.queued.first().copied(), next];
            for at in candidates.into_iter().flatten() {
                write_tick_id(&mut text, &entry.name, at);
                ids.push(Name::new(&text).expect("the name of a schedule leaves room for a date"));
            }
            if rare.backfill.is_some() {
                self.backfill_ids(index, now, &mut ids);
            }
        }
        ids
    }

    /// Ids of tasks that ticks may create between these times of the step's clock, without those that a task got in
    /// the last steps. The caller can read in advance whether they are free. Not all of them are there: those of
    /// other ticks are among [`Machine::due_tick_ids`] when their time comes.
    #[must_use]
    pub fn coming_tick_ids(&mut self, from: WallTime, until: WallTime) -> Vec<Name> {
        if self.schedules.len() == 0 {
            return Vec::new();
        }
        let coming = self.dates.coming(clock::date(from), clock::date(until), COMING_MAX);
        let mut ids = Vec::new();
        let mut text = String::with_capacity(Name::LEN_MAX);
        for wakes in coming {
            let Wakes::Schedule(index) = wakes else { continue };
            // The timer may be that of a schedule that was removed.
            let entry = self.schedules.get(index).filter(|entry| !entry.state.completed);
            if entry.is_none() {
                continue;
            }
            let Some(next) = self.schedules.next(index) else { continue };
            write_tick_id(&mut text, &self.schedules.at(index).name, next.nominal);
            let id = Name::new(&text).expect("the name of a schedule leaves room for a date");
            if self.settling.by_id(&id, None).is_none() {
                ids.push(id);
            }
        }
        ids
    }

    /// Sets the date by which schedules begin, are changed and are resumed. It is earlier than the time of the step,
    /// if the wall clock is not trusted. Call it after [`Machine::begin`].
    pub fn trust(&mut self, date: WallTime) {
        self.schedules.ahead = self.now.wall.since(date);
    }

    /// Tells whether the store has no room for new tasks. Ticks are refused then.
    pub fn note_store_full(&mut self, is_full: bool) {
        self.schedules.store_is_full = is_full;
    }

    /// Decides the ticks that have come by `now`. Call it once in a step, after [`Machine::tick`]. `now` may be
    /// earlier than the time of the step, if its wall clock is not trusted.
    pub fn decide_ticks(&mut self, now: WallTime, ids: &mut TaskIdSequence, owners: &TickOwners) {
        self.schedules.ahead = self.now.wall.since(now);
        if self.schedules.ahead.0.abs_diff(self.schedules.ahead_of_timers.0) > DRIFT_TOLERATED {
            self.arm_schedules();
        }
        let text = String::with_capacity(Name::LEN_MAX);
        let mut deciding = Deciding { now, ids, owners, bytes: 0, text };
        // What is put there meanwhile is for the next step.
        let allowed = self.schedules.pace.allowed(self.now.mono);
        let behind = self.schedules.behind.len().min(allowed);
        for _ in 0..self.schedules.due.len().min(DECIDED_MAX) {
            if deciding.bytes > BYTES_MAX {
                break;
            }
            let Some(index) = self.schedules.due.pop_front() else { break };
            if self.is_taken_up(index) {
                if self.is_behind(index, now) {
                    self.schedules.put_behind(index);
                } else {
                    self.decide(index, &mut deciding);
                }
            }
        }
        for _ in 0..behind {
            if deciding.bytes > BYTES_MAX {
                break;
            }
            let Some(index) = self.schedules.behind.pop_front() else { break };
            self.schedules.pace.take(1);
            if self.is_taken_up(index) {
                self.decide(index, &mut deciding);
            }
        }
    }

    /// Whether a schedule from a queue is still to be looked at. It may have been removed since.
    fn is_taken_up(&mut self, index: ScheduleIndex) -> bool {
        let entry = self.schedules.entries[index].as_deref_mut();
        entry.is_some_and(|entry| std::mem::take(&mut entry.is_due))
    }

    /// Whether the next tick is late.
    fn is_behind(&mut self, index: ScheduleIndex, now: WallTime) -> bool {
        !self.schedules.at(index).state.completed
            && self.schedules.next(index).is_some_and(|next| now.since(next.due_at) > LATE)
    }

    fn decide(&mut self, index: ScheduleIndex, deciding: &mut Deciding<'_>) {
        match self.decide_due(index, deciding) {
            Left::More if self.is_behind(index, deciding.now) => {
                return self.schedules.put_behind(index);
            }
            Left::More => return self.schedules.wake(index),
            Left::Wait(due_at) => self.await_tick(index, due_at),
            Left::Nothing => {}
        }
        if !self.schedules.progress.is_empty() {
            self.schedules.progress.remove(&index);
        }
        // A backfill comes behind the ticks that are due.
        if self.backfill_ticks(index, deciding) {
            self.schedules.put_behind(index);
        }
    }

    /// Decides the ticks of one schedule, in order. At most one of them creates a task.
    fn decide_due(&mut self, index: ScheduleIndex, deciding: &mut Deciding<'_>) -> Left {
        let written = self.step.mutations.len();
        let mut has_fired = false;
        for _ in 0..WALKED_MAX {
            let entry = self.schedules.at(index);
            // Its next task is created in a later step than that in which one ends, so that the records of both
            // need not fit into one batch.
            if entry.ends > 0 || self.step.mutations.len() >= written + WRITTEN_MAX {
                return Left::More;
            }
            let rare = entry.state.rare();
            if !rare.queued.is_empty() {
                if rare.pause.is_some() {
                    self.end_queued(index, Outcome::Skipped(SkipReason::Paused));
                    continue;
                }
                if rare.runs_left == Some(0) {
                    self.end_queued(index, Outcome::Skipped(SkipReason::ByRequest));
                    continue;
                }
                if entry.plan.rules.overlap == Overlap::Allow || !self.is_running(index) {
                    // The clock may have been set back since the tick was due.
                    let nominal = rare.queued[0];
                    if nominal > deciding.now {
                        return Left::Wait(nominal);
                    }
                    if has_fired || !self.fire_queued(index, deciding) {
                        return Left::More;
                    }
                    has_fired = true;
                    continue;
                }
            }
            if entry.state.completed {
                return Left::Nothing;
            }
            let next = self
                .schedules
                .next(index)
                .filter(|_| self.schedules.at(index).state.rare().runs_left != Some(0));
            let Some(next) = next else {
                self.schedules.at_mut(index).state.completed = true;
                self.schedules.touch(index);
                return Left::Nothing;
            };
            if next.due_at > deciding.now {
                return Left::Wait(next.due_at);
            }
            let outcome = match self.judge(index, &next, deciding.now) {
                Verdict::Outcome(outcome) => outcome,
                Verdict::Queue => {
                    self.schedules.at_mut(index).state.rare_mut().queued.push(next.nominal);
                    Outcome::Queued
                }
                Verdict::Replace => {
                    if !self.schedules.at(index).state.rare().queued.is_empty() {
                        // The tick takes the place of those that wait.
                        self.end_queued(index, Outcome::Skipped(SkipReason::Overlap));
                        continue;
                    }
                    self.cancel_running(index);
                    self.schedules.at_mut(index).state.rare_mut().queued.push(next.nominal);
                    Outcome::Queued
                }
                Verdict::Fire if has_fired => return Left::More,
                Verdict::Fire => match self.fire(index, next.nominal, deciding) {
                    Fired::Task(task) => {
                        has_fired = true;
                        Outcome::Fired(task)
                    }
                    Fired::Refused(reason) => Outcome::Refused(reason),
                    Fired::WantsOwner => return Left::More,
                },
            };
            self.settle(index, &next, outcome, deciding.now);
        }
        Left::More
    }

    fn judge(&mut self, index: ScheduleIndex, next: &Next, now: WallTime) -> Verdict {
        let entry = self.schedules.at(index);
        let rare = entry.state.rare();
        let situation = Situation {
            skip: next.skip,
            is_paused: self.is_paused_at(index, next.nominal),
            is_to_skip: rare.to_skip.binary_search(&next.nominal).is_ok(),
            overlap: entry.plan.rules.overlap,
            is_running: self.is_running(index),
            queued: rare.queued.len(),
            runs_left: rare.runs_left,
        };
        situation.judge(|| self.schedules.lateness(index, next, now))
    }

    /// Whether the schedule is paused, or was paused at that time.
    pub(super) fn is_paused_at(&self, index: ScheduleIndex, nominal: WallTime) -> bool {
        let rare = self.schedules.at(index).state.rare();
        rare.pause.is_some() || nominal <= rare.paused_until
    }

    /// Whether the task of the last tick that created one has not ended.
    pub(super) fn is_running(&self, index: ScheduleIndex) -> bool {
        let last_task = self.schedules.at(index).state.last_task;
        last_task.is_some_and(|task| self.is_live(task))
    }

    /// Whether a task has not ended, as far as it is known.
    pub(super) fn is_live(&self, task: TaskId) -> bool {
        self.live.find(task).is_some() || self.unreadable.contains(&task)
    }

    fn cancel_running(&mut self, index: ScheduleIndex) {
        let last_task = self.schedules.at(index).state.last_task;
        if let Some(task) = last_task.filter(|task| self.live.find(*task).is_some()) {
            self.cancel(task, None).expect("a live task can be cancelled");
            self.schedules.links.push((index, task));
        }
    }

    /// Writes the outcome of the tick after the cursor, and moves the cursor.
    pub(super) fn settle(
        &mut self,
        index: ScheduleIndex,
        next: &Next,
        outcome: Outcome,
        now: WallTime,
    ) {
        let nominal = next.nominal;
        let entry = self.schedules.at_mut(index);
        let open_run = entry.state.rare().open_run;
        let run = match open_run {
            Some(run) if run.outcome == outcome => {
                Run { last: nominal, count: run.count + 1, ..run }
            }
            _ => Run { outcome, first: nominal, last: nominal, count: 1 },
        };
        if outcome.folds() || open_run.is_some() {
            entry.state.rare_mut().open_run = Some(run).filter(|_| outcome.folds());
        }
        entry.state.decided(nominal, outcome);
        entry.state.move_cursor(nominal);
        entry.next = None;
        if let Some(progress) = self.schedules.progress.get_mut(&index) {
            progress.wants = None;
        }
        self.write_run(index, run);
        let schedule = self.schedules.at(index).name.clone();
        let late = now.since(next.due_at);
        self.step.ticks.push(TickEvent { schedule, nominal, outcome, late, was_queued: false });
        self.schedules.touch(index);
    }

    /// Writes the final outcome of the oldest tick that waits.
    pub(super) fn end_queued(&mut self, index: ScheduleIndex, outcome: Outcome) {
        let entry = self.schedules.at_mut(index);
        let nominal = entry.state.rare_mut().queued.remove(0);
        entry.state.decided(nominal, outcome);
        let schedule = entry.name.clone();
        self.write_run(index, Run { outcome, first: nominal, last: nominal, count: 1 });
        let late = self.trusted_date().since(nominal);
        self.step.ticks.push(TickEvent { schedule, nominal, outcome, late, was_queued: true });
        self.schedules.touch(index);
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
