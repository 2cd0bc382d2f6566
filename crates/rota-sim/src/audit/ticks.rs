//! Ticks: each has one outcome, in the batch that moves the cursor over it and creates its task.
//!
//! The check is exact. A batch that moves the cursor of a schedule has an outcome for each instant that a walk over
//! the schedule's times finds between the former cursor and the new one, in order, and for no other. What is in no
//! batch does not happen: an instant that is behind the cursor never gets an outcome again, but for one that waits for
//! its turn.

use std::{collections::BTreeSet, time::Duration};

use rota_core::Overlap;
use rota_cron::{Kind, Timestamp, jitter};

use super::{
    Auditor, Rule,
    asked::Moment,
    clocks::SUSPENDED_MS,
    records::{
        BY_REQUEST, COALESCED, CONFLICT, Cursor, EXCLUDED, EXPIRED, FIRED, GAP, MISSED, OVERLAP,
        PAUSED, QUEUED, REFUSED, Run, SKIPPED,
    },
    schedules::{Begun, Schedule, TaskOfTick, Timetable, text_of},
};
use crate::{machine::WALL_AT_START, world::Endpoint};

/// A tick that is no later than this is neither missed nor stood for by another.
const LATE_MS: i64 = 10_000;
/// While nothing is wrong for so long, ticks are decided within this time.
const CALM_US: u64 = 12_000_000;
const DECIDED_WITHIN_MS: i64 = 6_000;
/// Two clocks that are right may differ by so much as things are rounded.
const ROUNDING_MS: i64 = 10;

type Broken = Vec<(Rule, String)>;

/// What the rest of the batch and of the world says of a schedule's ticks.
struct Seen {
    /// The latest date by which they may have been decided.
    now_ms: i64,
    /// The task of the last tick lived before the batch, and after it.
    lived: bool,
    lives: bool,
    /// Ids of the schedule that a task had before the batch.
    taken: Vec<i64>,
    /// The node may not have believed its clock.
    in_doubt: bool,
}

/// Instants that got an outcome: those after `after_ms`, up to the last of the run.
struct Decided {
    run: Run,
    count: u64,
    /// The first of them, where that is known.
    first_ms: Option<i64>,
}

impl Timetable {
    /// The first instant after this one, and why it does not run.
    fn next(&self, after_ms: i64) -> Option<(i64, Option<u32>)> {
        let found = self.recurrence.next_after(Timestamp(after_ms), &())?;
        let skip = match found.kind {
            Kind::Fires => None,
            Kind::Skipped(rota_cron::Skip::Gap { .. }) => Some(GAP),
            Kind::Skipped(rota_cron::Skip::Excluded { .. }) => Some(EXCLUDED),
        };
        Some((found.at.0, skip))
    }

    /// Walks over the instants of an outcome. Gives the last of them.
    fn walk(&self, from_ms: i64, one: &Decided) -> Result<i64, String> {
        let mut at_ms = from_ms;
        for number in 0..one.count {
            let Some((next_ms, skip)) = self.next(at_ms) else {
                return Err(format!("{:?} has more ticks than there are", one.run));
            };
            if number == 0 && one.first_ms.is_some_and(|first_ms| first_ms != next_ms) {
                return Err(format!("{:?} comes after {from_ms}, and not {next_ms}", one.run));
            }
            let reason = (one.run.outcome == SKIPPED).then_some(one.run.reason);
            if reason.filter(|reason| [GAP, EXCLUDED].contains(reason)) != skip {
                let run = one.run;
                return Err(format!("{next_ms} is in {run:?}; its times skip it: {skip:?}"));
            }
            at_ms = next_ms;
        }
        if at_ms != one.run.last_ms {
            return Err(format!("{:?} ends at {at_ms}", one.run));
        }
        Ok(at_ms)
    }

    /// When a tick may be decided.
    fn due_ms(&self, name: &str, nominal_ms: i64) -> i64 {
        if self.jitter_ms == 0 {
            return nominal_ms;
        }
        let room = self.next(nominal_ms).map_or(i64::MAX, |(next_ms, _)| next_ms - nominal_ms - 1);
        let most = self.jitter_ms.min(room).max(0).cast_unsigned();
        let delay = jitter(name, Timestamp(nominal_ms), Duration::from_millis(most)).as_millis();
        nominal_ms + i64::try_from(delay).unwrap_or(0)
    }
}

impl Auditor {
    /// Judges what a batch did to schedules. Before its tasks are.
    pub(super) fn judge_schedules(&mut self, at: &Moment, endpoint: Endpoint, sent_us: (u64, u64)) {
        let ahead_ms = self.clocks.ahead_ms(endpoint, sent_us.0, sent_us.1);
        let now_ms = WALL_AT_START + (sent_us.1 / 1000).cast_signed() + ahead_ms;
        let in_doubt = self.clocks.was_in_doubt(endpoint, sent_us.0, sent_us.1);
        let mut broken = Broken::new();
        for name in std::mem::take(&mut self.schedules.touched) {
            let Some(schedule) = self.schedules.by_name.get_mut(&name) else { continue };
            let last = schedule.last_fired.and_then(|(task, _)| self.tasks.get(&task));
            let firsts = schedule.put.iter().map(|(_, run)| run.first_ms);
            let taken = firsts.filter(|first| {
                let key = format!("id/{name}/{}", text_of(*first));
                self.bound.contains_key(key.as_bytes())
            });
            let seen = Seen {
                now_ms,
                lived: last.is_some_and(super::Task::lived),
                lives: last.is_some_and(|task| task.live.is_some()),
                taken: taken.collect(),
                in_doubt,
            };
            let was = broken.len();
            self.counts.ticks += schedule.judge(&name, &seen, at, &mut broken);
            for (_, what) in &mut broken[was..] {
                what.insert_str(0, &format!("{name}: "));
            }
        }
        for (rule, what) in broken {
            self.broken(rule, at.now_us, what);
        }
    }

    /// Checks that the ticks of all schedules are decided in time, when nothing was wrong for a while.
    pub(crate) fn check_ticks(&mut self, now_us: u64) {
        let since_us = now_us.saturating_sub(CALM_US);
        let in_doubt = self.clocks.was_any_in_doubt(since_us, now_us);
        if self.by_wire || in_doubt || !self.weather.was_calm(since_us) {
            return;
        }
        let now_ms = WALL_AT_START + (now_us / 1000).cast_signed();
        let mut late = None;
        for (name, schedule) in &self.schedules.by_name {
            let state = &schedule.state;
            let Some(timetable) = &schedule.timetable else { continue };
            if state.completed || state.pause.is_some() {
                continue;
            }
            let Some((next_ms, _)) = timetable.next(state.cursor_ms) else { continue };
            if timetable.due_ms(name, next_ms) + DECIDED_WITHIN_MS < now_ms {
                late = Some(format!("{name}: tick {} has no outcome", text_of(next_ms)));
            }
        }
        if let Some(late) = late {
            self.broken(Rule::Progress, now_us, late);
        }
    }

    /// Whether a schedule may cancel this task because its next tick is due.
    pub(super) fn is_replaced(&self, task: u64) -> bool {
        let replaces = |schedule: &Schedule| {
            let overlap = schedule.timetable.as_ref().map(|timetable| timetable.overlap);
            let fired = [schedule.last_fired, schedule.fired_before];
            fired.into_iter().flatten().any(|(fired, _)| fired == task)
                && overlap == Some(Overlap::CancelRunning)
        };
        self.schedules.by_name.values().any(replaces)
    }

    /// Compares the keys of the records of ticks in the store with those that batches wrote.
    pub(crate) fn check_tick_keys(&mut self, now_us: u64, stored: &[bytes::Bytes]) {
        let known = self.schedules.tick_keys();
        if !stored.iter().eq(known.iter()) {
            let stored: BTreeSet<_> = stored.iter().cloned().collect();
            let differ: Vec<_> = known.symmetric_difference(&stored).take(3).collect();
            let what = format!("records of ticks are and are not in the store: {differ:?}");
            self.broken(Rule::Lost, now_us, what);
        }
    }
}

impl Schedule {
    /// Judges what the batch at hand did. Gives the number of ticks that it decided.
    fn judge(&mut self, name: &str, seen: &Seen, at: &Moment, broken: &mut Broken) -> u64 {
        let put = std::mem::take(&mut self.put);
        let tasks = std::mem::take(&mut self.tasks);
        let begun = self.begun.take();
        let Some(state) = self.new_state.take() else {
            if !put.is_empty() || !tasks.is_empty() || begun.is_some() {
                let what = format!("{put:?} and tasks {tasks:?} are written without its state");
                broken.push((Rule::Ticks, what));
            }
            return 0;
        };
        let Some(timetable) = self.timetable.clone() else { return 0 };
        if state.cursor_ms < self.state.cursor_ms {
            let what =
                format!("its cursor went from {} to {}", self.state.cursor_ms, state.cursor_ms);
            broken.push((Rule::Ticks, what));
        }
        let mut decided = Vec::new();
        let mut fired = Vec::new();
        let mut queued = self.state.queued_ms.clone();
        for (before, run) in put {
            queued.extend((run.outcome == QUEUED).then_some(run.first_ms));
            match compare(before, run, &queued) {
                Ok(Some(one)) => decided.push(one),
                Ok(None) => {}
                Err(what) => broken.push((Rule::Ticks, what)),
            }
            if run.outcome == FIRED && before != Some(run) {
                fired.push((run.task.unwrap_or_default(), run.first_ms));
            }
        }
        decided.sort_by_key(|one| one.run.last_ms);
        let (was, is) = (&self.state, &state);
        let fires = !fired.is_empty();
        let context = Context { name, timetable: &timetable, seen, was, is, fires };
        let begins = begun.is_some();
        if let Err(what) = context.walk_all(begun, &decided, at) {
            broken.push((Rule::Ticks, what));
        }
        context.check_dates(&decided, broken);
        for one in &decided {
            let asked = Asked { to_skip: &self.to_skip, paused: self.was_paused, begins };
            context.check_reason(one, &asked, broken);
        }
        self.check_tasks(&context, &fired, &tasks, broken);
        self.runs += fired.len() as u64;
        if timetable.max_runs.is_some_and(|max| self.runs > max) {
            let what = format!("{} ticks of {:?} fired", self.runs, timetable.max_runs);
            broken.push((Rule::Ticks, what));
        }
        if state.completed
            && state.runs_left != Some(0)
            && timetable.next(state.cursor_ms).is_some()
        {
            broken.push((Rule::Ticks, "is completed, and has ticks to come".to_owned()));
        }
        let count = decided.iter().map(|one| one.count).sum();
        self.state = state;
        if let Some(last) = fired.last() {
            self.fired_before = self.last_fired.replace(*last);
        }
        count
    }

    /// Each tick that fired has its task, and each task its tick.
    fn check_tasks(
        &self,
        context: &Context<'_>,
        fired: &[(u64, i64)],
        tasks: &[TaskOfTick],
        broken: &mut Broken,
    ) {
        let mut made: Vec<_> = tasks.iter().map(|task| (task.id, task.nominal_ms)).collect();
        let mut wanted = fired.to_vec();
        made.sort_unstable();
        wanted.sort_unstable();
        if made != wanted {
            broken.push((Rule::Ticks, format!("fired {wanted:?}, and its tasks are {made:?}")));
        }
        for task in tasks {
            let id = format!("{}/{}", context.name, text_of(task.nominal_ms));
            if task.client_id != id {
                broken.push((Rule::Ticks, format!("a task is {}, not {id}", task.client_id)));
            }
            let previous_ms = self.last_fired.map(|(_, nominal_ms)| nominal_ms);
            if fired.len() == 1 && task.previous_ms != previous_ms {
                let what = format!("{id} follows {:?}, not {previous_ms:?}", task.previous_ms);
                broken.push((Rule::Ticks, what));
            }
        }
        let overlaps = context.timetable.overlap == Overlap::Allow;
        if !overlaps && !fired.is_empty() && (context.seen.lives || fired.len() > 1) {
            let what = format!("fired {fired:?} while {:?} lives", self.last_fired);
            broken.push((Rule::Ticks, what));
        }
    }
}

/// What a record adds to the one before it, where these ticks wait or have waited. Nothing where no instant got its first outcome.
fn compare(before: Option<Run>, run: Run, queued: &[i64]) -> Result<Option<Decided>, String> {
    let Run { first_ms, last_ms, count, .. } = run;
    let is_alone = first_ms == last_ms && count == 1;
    if [FIRED, QUEUED].contains(&run.outcome) && !is_alone {
        return Err(format!("{run:?} stands for several ticks"));
    }
    let Some(before) = before else {
        return Ok(Some(Decided { run, count, first_ms: Some(first_ms) }));
    };
    if before == run {
        return Ok(None);
    }
    // A tick that waited has its turn.
    let waited = before.outcome == QUEUED && queued.contains(&first_ms);
    if waited && is_alone && [FIRED, SKIPPED, REFUSED].contains(&run.outcome) {
        return Ok(None);
    }
    let same = (before.outcome, before.reason) == (run.outcome, run.reason);
    let folds = same && run.outcome >= SKIPPED;
    if folds && last_ms > before.last_ms && count > before.count {
        let count = count - before.count;
        return Ok(Some(Decided { run, count, first_ms: None }));
    }
    Err(format!("{before:?} became {run:?}"))
}

/// What clients asked of a schedule.
struct Asked<'a> {
    to_skip: &'a BTreeSet<i64>,
    paused: bool,
    /// It begins anew in the batch.
    begins: bool,
}

/// A schedule in a batch.
struct Context<'a> {
    name: &'a str,
    timetable: &'a Timetable,
    seen: &'a Seen,
    was: &'a Cursor,
    is: &'a Cursor,
    /// A tick fires in the batch.
    fires: bool,
}

impl Context<'_> {
    /// Walks from the former cursor to the new one, over each instant that got an outcome.
    fn walk_all(
        &self,
        begun: Option<Begun>,
        decided: &[Decided],
        at: &Moment,
    ) -> Result<(), String> {
        let mut at_ms = self.was.cursor_ms;
        let mut rest = decided;
        if let Some(Begun { old, at_ms: begun_ms, again }) = begun {
            // The ticks that were due come before the new times.
            while let (Some(old), [one, others @ ..]) = (&old, rest)
                && one.run.last_ms <= begun_ms
                && let Ok(next_ms) = old.walk(at_ms, one)
            {
                (at_ms, rest) = (next_ms, others);
            }
            if again {
                // What its times were in between, no record says.
                let between = rest.iter().take_while(|one| one.run.last_ms <= begun_ms);
                rest = &rest[between.count()..];
            }
            let next_ms = rest.first().and_then(|one| one.first_ms);
            let is_exact = !again && !self.seen.in_doubt;
            let from_ms = if is_exact {
                begun_ms
            } else {
                next_ms.map_or(self.is.cursor_ms, |next_ms| next_ms - 1)
            };
            let left = old.as_ref().and_then(|old| old.next(at_ms));
            if let Some((left_ms, _)) = left.filter(|(left_ms, _)| is_exact && *left_ms <= from_ms)
            {
                return Err(format!(
                    "{left_ms} has no outcome, and its times changed at {from_ms}"
                ));
            }
            let suspended_ms = if self.seen.in_doubt { SUSPENDED_MS } else { 0 };
            let from = at.begun_ms - at.slack_ms() - suspended_ms;
            let span = from..=at.sent_ms + at.slack_ms();
            if from_ms > at_ms && !span.contains(&from_ms) {
                return Err(format!("it begins at {from_ms}, not within {span:?}"));
            }
            at_ms = at_ms.max(from_ms);
        }
        for one in rest {
            at_ms = self.timetable.walk(at_ms, one)?;
        }
        if at_ms != self.is.cursor_ms {
            let cursor_ms = self.is.cursor_ms;
            return Err(format!(
                "its cursor is {cursor_ms}, and the outcomes are those up to {at_ms}"
            ));
        }
        Ok(())
    }

    /// No tick is decided before its time.
    fn check_dates(&self, decided: &[Decided], broken: &mut Broken) {
        for Decided { run, .. } in decided {
            let is_skipped = run.outcome == SKIPPED;
            let due_ms = match is_skipped {
                true => run.last_ms,
                false => self.timetable.due_ms(self.name, run.last_ms),
            };
            if due_ms > self.seen.now_ms + ROUNDING_MS {
                let now_ms = self.seen.now_ms;
                broken.push((
                    Rule::Dates,
                    format!("{run:?} was decided by {now_ms}, before {due_ms}"),
                ));
            }
        }
    }

    /// An outcome has a reason.
    fn check_reason(&self, one: &Decided, asked: &Asked<'_>, broken: &mut Broken) {
        let Run { outcome, reason, first_ms, last_ms, .. } = one.run;
        let is_late = |nominal_ms: i64| nominal_ms + LATE_MS <= self.seen.now_ms + ROUNDING_MS;
        let overlaps = self.timetable.overlap == Overlap::Allow;
        let paused = |state: &Cursor, at_ms: i64| {
            state.pause.is_some() || state.paused_until_ms.is_some_and(|until_ms| at_ms <= until_ms)
        };
        let has_reason = match (outcome, reason) {
            (FIRED, _) => true,
            (QUEUED, _) => !overlaps && self.has_last(),
            (SKIPPED, OVERLAP) => !overlaps && self.has_last(),
            (SKIPPED, PAUSED) => {
                asked.paused || paused(self.was, last_ms) || paused(self.is, last_ms)
            }
            // Checked with the walk.
            (SKIPPED, EXCLUDED | GAP) => true,
            (SKIPPED, BY_REQUEST) => asked.begins || asked.to_skip.contains(&last_ms),
            (COALESCED, _) => {
                let next = self.timetable.next(last_ms);
                next.is_some_and(|(next_ms, _)| next_ms <= self.seen.now_ms + ROUNDING_MS)
            }
            (MISSED, _) => is_late(last_ms),
            (REFUSED, CONFLICT) => {
                self.seen.taken.contains(&first_ms) || one.count > 1 || one.first_ms.is_none()
            }
            (REFUSED, EXPIRED) => self.timetable.expires_after_ms.is_some(),
            _ => false,
        };
        if !has_reason {
            let what = format!("{:?} has no reason; {:?} became {:?}", one.run, self.was, self.is);
            broken.push((Rule::Ticks, what));
        }
    }

    /// Whether a tick may have to wait.
    fn has_last(&self) -> bool {
        let queues = !self.was.queued_ms.is_empty() || !self.is.queued_ms.is_empty();
        self.seen.lived || self.seen.lives || self.fires || queues
    }
}
