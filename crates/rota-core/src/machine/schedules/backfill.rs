//! Backfills: the tasks of past ticks.
//!
//! A backfill walks over its range with a cursor of its own, and leaves the cursor, the runs that are left and the
//! overlap policy of the schedule alone. It also leaves the outcomes of the ticks alone: a tick that was missed was
//! missed, whatever is made up for later.

use super::{Change, Machine, Refusal, Reply, ScheduleIndex, deciding::Deciding, fire::NewTick};
use crate::{
    Backfill, BackfillOrder, BackfillScope, Millis, Name, RefusedReason, WallTime, backfill_id,
    machine::schedules::deciding::{WALKED_MAX, WRITTEN_MAX},
    tick_id,
};

/// Number of ticks whose ids are looked up for one step.
const LOOKED_UP: usize = 16;
/// Time after which it tries again to put a task into a full queue.
const FULL_PERIOD: Millis = Millis::from_secs(1);

/// A search for the next tick of a backfill.
enum Past {
    Tick(WallTime),
    /// None so far: all up to this time are skipped.
    Skipped(WallTime),
    End,
}

impl Machine {
    /// Begins a backfill, or cancels the one that is under way.
    pub(in crate::machine) fn backfill(
        &mut self,
        schedule: &Name,
        backfill: Option<Box<Backfill>>,
    ) -> Result<Reply, Refusal> {
        let index = self.find_schedule(schedule, None)?;
        let entry = self.schedules.at_mut(index);
        let version = entry.version;
        match (&entry.state.rare().backfill, &backfill) {
            (Some(_), Some(_)) => return Err(Refusal::BackfillUnderWay),
            (None, None) => return Err(Refusal::NoBackfill),
            (Some(_), None) | (None, Some(_)) => {}
        }
        entry.state.rare_mut().backfill = backfill.map(|mut backfill| {
            backfill.cursor = WallTime(backfill.from.0.saturating_sub(1));
            backfill
        });
        self.schedules.touch(index);
        self.schedules.wake(index);
        Ok(Reply::Schedule { version, change: Change::Replaced })
    }

    /// The ids whose owners tell which of the next ticks have a task.
    pub(super) fn backfill_ids(&self, index: ScheduleIndex, now: WallTime, ids: &mut Vec<Name>) {
        let entry = self.schedules.at(index);
        let Some(backfill) = &entry.state.rare().backfill else { return };
        if !self.may_backfill(backfill, now) {
            return;
        }
        let mut after = backfill.cursor;
        for _ in 0..LOOKED_UP {
            let Past::Tick(nominal) = self.past_tick(index, after, now) else { return };
            ids.extend([tick_id(&entry.name, nominal), backfill_id(&entry.name, nominal)]);
            after = nominal;
        }
    }

    /// Whether the next task of the backfill can be created now.
    fn may_backfill(&self, backfill: &Backfill, now: WallTime) -> bool {
        let waits = backfill.order == BackfillOrder::OneByOne
            && backfill.last_task.is_some_and(|task| self.is_live(task));
        !waits && backfill.next_at <= now
    }

    /// The first tick of the backfill after a time. Only past ticks count: those to come are decided as usual.
    fn past_tick(&self, index: ScheduleIndex, mut after: WallTime, now: WallTime) -> Past {
        let state = &self.schedules.at(index).state;
        let Some(backfill) = &state.rare().backfill else { return Past::End };
        let last = if state.completed { now } else { state.cursor };
        let last = last.min(backfill.to);
        for _ in 0..WALKED_MAX {
            match self.schedules.occurrence_after(index, after) {
                Some(next) if next.nominal > last => return Past::End,
                Some(next) if next.skip.is_none() => return Past::Tick(next.nominal),
                Some(next) => after = next.nominal,
                None => return Past::End,
            }
        }
        Past::Skipped(after)
    }

    /// Goes on with the backfill. At most one tick creates a task. Returns whether there is more to do in the
    /// next step.
    pub(super) fn backfill_ticks(
        &mut self,
        index: ScheduleIndex,
        deciding: &mut Deciding<'_>,
    ) -> bool {
        let written = self.step.mutations.len();
        loop {
            let entry = self.schedules.at(index);
            let Some(backfill) = &entry.state.rare().backfill else { return false };
            if entry.ends > 0 || self.step.mutations.len() >= written + WRITTEN_MAX {
                return true;
            }
            if !self.may_backfill(backfill, deciding.now) {
                // If it waits for the end of a task, that end wakes the schedule.
                let left = backfill.next_at.since(deciding.now);
                if left > Millis(0) {
                    self.wake_schedule_in(index, left);
                }
                return false;
            }
            let nominal = match self.past_tick(index, backfill.cursor, deciding.now) {
                // The clock was set back.
                Past::Tick(nominal) if nominal > deciding.now => {
                    self.wake_schedule_in(index, nominal.since(deciding.now));
                    return false;
                }
                Past::Tick(nominal) => nominal,
                Past::Skipped(until) => {
                    self.change_backfill(index, |backfill| backfill.cursor = until);
                    return true;
                }
                Past::End => {
                    self.schedules.at_mut(index).state.rare_mut().backfill = None;
                    self.schedules.touch(index);
                    return false;
                }
            };
            match self.backfill_tick(index, nominal, deciding) {
                Backfilled::None => {}
                Backfilled::Task | Backfilled::WantsOwners => return true,
                Backfilled::QueueFull => {
                    self.wake_schedule_in(index, FULL_PERIOD);
                    return false;
                }
            }
        }
    }

    fn backfill_tick(
        &mut self,
        index: ScheduleIndex,
        nominal: WallTime,
        deciding: &mut Deciding<'_>,
    ) -> Backfilled {
        let now = deciding.now;
        let entry = self.schedules.at(index);
        let rare = entry.state.rare();
        let backfill = rare.backfill.as_ref().expect("the caller found it");
        let (id, usual_id) = (backfill_id(&entry.name, nominal), tick_id(&entry.name, nominal));
        let (Some((_, owner)), Some((_, usual_owner))) =
            (deciding.owners.get(&id), deciding.owners.get(&usual_id))
        else {
            return Backfilled::WantsOwners;
        };
        let has_usual =
            self.settling.by_id(&usual_id, usual_owner).is_some() || rare.queued.contains(&nominal);
        let is_present = self.settling.by_id(&id, owner).is_some()
            || (backfill.scope == BackfillScope::Missing && has_usual);
        if is_present {
            self.change_backfill(index, |backfill| {
                backfill.cursor = nominal;
                backfill.present += 1;
            });
            return Backfilled::None;
        }
        let tick = NewTick {
            id,
            nominal: Some(nominal),
            previous: Some(backfill.cursor).filter(|at| *at >= backfill.from),
            owner,
            priority: backfill.priority,
            // Counted from the nominal time, it would be over.
            expires_from: self.now.wall,
        };
        let payload = entry.template.definition.payload.len();
        match self.create_scheduled(index, tick, deciding.ids) {
            Ok(task) => {
                deciding.bytes += payload;
                self.change_backfill(index, |backfill| {
                    backfill.cursor = nominal;
                    backfill.created += 1;
                    backfill.last_task = Some(task);
                    backfill.next_at = now + backfill.interval;
                });
                Backfilled::Task
            }
            Err(RefusedReason::QueueFull | RefusedReason::StoreFull) => Backfilled::QueueFull,
            Err(_) => {
                self.change_backfill(index, |backfill| {
                    backfill.cursor = nominal;
                    backfill.refused += 1;
                });
                Backfilled::None
            }
        }
    }

    fn change_backfill(&mut self, index: ScheduleIndex, change: impl FnOnce(&mut Backfill)) {
        if let Some(backfill) = &mut self.schedules.at_mut(index).state.rare_mut().backfill {
            change(backfill);
            self.schedules.touch(index);
        }
    }
}

/// What came of a tick of a backfill.
enum Backfilled {
    /// It has a task.
    Task,
    /// It gets none.
    None,
    /// The owners of its ids must be read from the store first.
    WantsOwners,
    QueueFull,
}
