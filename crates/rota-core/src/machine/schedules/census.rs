//! Counts of all schedules: their states, the times of their next ticks, and those whose tasks fail. They are
//! kept up to date with each change, so reading them costs the same at any number of schedules.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, Machine, Schedules, ticks::LATE};
use crate::{Millis, Name, WallTime, machine::index::ScheduleIndex};

/// Maximum number of failing schedules in [`ScheduleStats`].
const FAILING_MAX: usize = 1000;
/// Stands for a time that does not come.
const NEVER: u32 = u32::MAX;

/// Figures of all schedules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduleStats {
    /// Number of schedules that are neither paused nor completed.
    pub active: u64,
    /// Number of paused schedules that are not completed.
    pub paused: u64,
    /// Number of completed schedules.
    pub completed: u64,
    /// When the earliest tick of active schedules that is not decided is or was due, in whole seconds.
    pub next_due: Option<WallTime>,
    /// Number of active schedules with a tick that has been due for some seconds and is not decided.
    pub behind: u64,
    /// Schedules with their number of failed tasks in a row, most first, up to a limit. Those that a client
    /// paused are left out.
    pub failing: Vec<(Name, u32)>,
    /// The largest number of failed tasks of those beyond the limit.
    pub failing_beyond: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Active,
    Paused,
    Completed,
}

/// What is counted of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    state: State,
    /// When its next tick is due, in seconds.
    due: u32,
    failures: u32,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Census {
    states: [u64; 3],
    /// Number of active schedules by the second at which their next ticks are due. Many schedules share few
    /// seconds.
    due: BTreeMap<u32, u32>,
    failing: BTreeSet<(u32, ScheduleIndex)>,
}

impl Census {
    fn add(&mut self, index: ScheduleIndex, counted: Counted) {
        self.states[counted.state as usize] += 1;
        if counted.due != NEVER {
            *self.due.entry(counted.due).or_default() += 1;
        }
        if counted.failures > 0 {
            self.failing.insert((counted.failures, index));
        }
    }

    fn remove(&mut self, index: ScheduleIndex, counted: Counted) {
        self.states[counted.state as usize] -= 1;
        if let Some(number) = self.due.get_mut(&counted.due) {
            *number -= 1;
            if *number == 0 {
                self.due.remove(&counted.due);
            }
        }
        self.failing.remove(&(counted.failures, index));
    }
}

impl Entry {
    fn counted(&self) -> Counted {
        let pause = self.state.rare().pause.as_deref();
        let state = match (self.state.completed, pause) {
            (true, _) => State::Completed,
            (false, Some(_)) => State::Paused,
            (false, None) => State::Active,
        };
        let due = match (state, self.next) {
            (State::Active, Some(Some(next))) => second(next.due_at),
            // It is the former time until the next one was looked for.
            (State::Active, None) => self.counted.map_or(NEVER, |counted| counted.due),
            _ => NEVER,
        };
        // Somebody who paused a schedule knows of it.
        let is_known = pause.is_some_and(|pause| !pause.on_failure);
        Counted { state, due, failures: if is_known { 0 } else { self.state.failures } }
    }
}

/// The second of a date.
fn second(at: WallTime) -> u32 {
    let seconds = u32::try_from(at.0.div_euclid(1000)).unwrap_or(if at.0 < 0 { 0 } else { NEVER });
    seconds.min(NEVER - 1)
}

impl Schedules {
    /// Counts a schedule as it is now.
    pub(super) fn count(&mut self, index: ScheduleIndex) {
        let entry = self.at_mut(index);
        let now = entry.counted();
        let Some(before) = entry.counted.replace(now) else {
            return self.census.add(index, now);
        };
        if before != now {
            self.census.remove(index, before);
            self.census.add(index, now);
        }
    }

    /// Takes a schedule that is gone out of the counts.
    pub(super) fn uncount(&mut self, index: ScheduleIndex, entry: &Entry) {
        if let Some(counted) = entry.counted {
            self.census.remove(index, counted);
        }
    }
}

impl Machine {
    /// Figures of all schedules.
    pub(in crate::machine) fn schedule_stats(&self) -> ScheduleStats {
        let census = &self.schedules.census;
        let behind_since = self.trusted_date().0.saturating_sub_unsigned(LATE.0);
        let behind = census.due.range(..second(WallTime(behind_since)));
        let mut failing = census.failing.iter().rev();
        let named = failing.by_ref().take(FAILING_MAX);
        let named =
            named.map(|(failures, index)| (self.schedules.at(*index).name.clone(), *failures));
        ScheduleStats {
            active: census.states[State::Active as usize],
            paused: census.states[State::Paused as usize],
            completed: census.states[State::Completed as usize],
            next_due: census
                .due
                .keys()
                .next()
                .map(|due| WallTime(0) + Millis::from_secs((*due).into())),
            behind: behind.map(|(_, number)| u64::from(*number)).sum(),
            failing: named.collect(),
            failing_beyond: failing.next().map(|(failures, _)| *failures),
        }
    }
}
