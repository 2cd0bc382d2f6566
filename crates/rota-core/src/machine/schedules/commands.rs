//! The commands of clients on schedules.

use std::sync::Arc;

use super::{
    Change, Machine, Mutation, PutSchedule, Refusal, Reply, ScheduleIndex, deciding::WALKED_MAX,
};
use crate::{
    Name, Outcome, Pause, PauseEvent, ScheduleRecord, ScheduleState, SkipReason, WallTime,
};

/// Whether a put of the version `wanted` may have made `version`: a client that got no answer sends the same again.
/// Something that must not exist yet, version 0, is never a repeat.
pub(super) fn may_be_repeat(wanted: u32, version: u32) -> bool {
    wanted > 0 && wanted.checked_add(1) == Some(version)
}

impl Machine {
    pub(in crate::machine) fn put_schedule(&mut self, put: PutSchedule) -> Result<Reply, Refusal> {
        let PutSchedule { mut record, if_version } = put;
        let found = self.schedules.find(&record.name);
        let version = found.map_or(0, |index| self.schedules.at(index).version);
        if let Some(wanted) = if_version.filter(|wanted| *wanted != version) {
            let said = found.map(|index| self.schedules.at(index).fingerprints);
            if said == Some(record.fingerprints) && may_be_repeat(wanted, version) {
                return Ok(Reply::Schedule { version, change: Change::None });
            }
            return Err(Refusal::ScheduleVersion { wanted, version });
        }
        let mut calendars = record.definition.recurrence.calendars();
        if let Some(unknown) = calendars.find(|name| !self.schedules.calendars.contains_key(*name))
        {
            return Err(Refusal::UnknownCalendar { calendar: unknown.into() });
        }
        drop(calendars);
        (record.updated_at, record.version) = (self.now.wall, version + 1);
        let Some(index) = found else {
            let limit = self.limits.schedules_max;
            if self.schedules.len() >= limit as usize {
                return Err(Refusal::TooManyNames { what: "schedules", limit: limit.into() });
            }
            record.created_at = self.now.wall;
            let state = ScheduleState::new(self.trusted_date(), record.definition.max_runs);
            let index = self.schedules.insert(&record, state);
            self.schedules.touch(index);
            self.schedules.wake(index);
            self.step.mutations.push(Mutation::PutSchedule(Arc::new(record)));
            return Ok(Reply::Schedule { version: 1, change: Change::Created });
        };
        let entry = self.schedules.at(index);
        if entry.fingerprints == record.fingerprints {
            return Ok(Reply::Schedule { version, change: Change::None });
        }
        record.created_at = entry.created_at;
        self.replace_schedule(index, &record);
        self.step.mutations.push(Mutation::PutSchedule(Arc::new(record)));
        Ok(Reply::Schedule { version: version + 1, change: Change::Replaced })
    }

    fn replace_schedule(&mut self, index: ScheduleIndex, record: &ScheduleRecord) {
        let now = self.trusted_date();
        let entry = self.schedules.at(index);
        let has_other_times = entry.fingerprints.times != record.fingerprints.times;
        let has_other_limit = entry.plan.max_runs != record.definition.max_runs;
        if has_other_times && !entry.state.completed {
            self.settle_until(index, now);
        }
        let state = &mut self.schedules.at_mut(index).state;
        // What came before the change, or while the schedule was completed, is not made up for.
        if has_other_times || (has_other_limit && state.completed) {
            state.cursor = state.cursor.max(now);
            state.completed = false;
        }
        if has_other_times {
            let rare = state.rare_mut();
            rare.to_skip.clear();
            rare.open_run = None;
        }
        if has_other_limit {
            state.rare_mut().runs_left = record.definition.max_runs;
        }
        self.schedules.redefine(index, record);
        self.schedules.touch(index);
        self.schedules.wake(index);
    }

    /// Decides the ticks up to `now` that could not be decided before the recurrence changes. They create no task.
    fn settle_until(&mut self, index: ScheduleIndex, now: WallTime) {
        for _ in 0..WALKED_MAX {
            let Some(next) = self.schedules.next(index).filter(|next| next.nominal <= now) else {
                return;
            };
            let is_paused = self.is_paused_at(index, next.nominal);
            let at_request = if is_paused { SkipReason::Paused } else { SkipReason::ByRequest };
            let reason = next.skip.unwrap_or(at_request);
            self.settle(index, &next, Outcome::Skipped(reason), now);
        }
    }

    pub(in crate::machine) fn delete_schedule(
        &mut self,
        name: &Name,
        if_version: Option<u32>,
    ) -> Result<Reply, Refusal> {
        let index = self.find_schedule(name, if_version)?;
        // Their records would say forever that they wait.
        while !self.schedules.at(index).state.rare().queued.is_empty() {
            self.end_queued(index, Outcome::Skipped(SkipReason::ByRequest));
        }
        self.schedules.remove(index);
        self.step.mutations.push(Mutation::DeleteSchedule(name.clone()));
        Ok(Reply::Done)
    }

    pub(in crate::machine) fn pause_schedule(
        &mut self,
        name: &Name,
        pause: Option<Pause>,
    ) -> Result<Reply, Refusal> {
        let index = self.find_schedule(name, None)?;
        let now = self.trusted_date();
        let entry = self.schedules.at_mut(index);
        let version = entry.version;
        let (was, paused) = (entry.state.rare().pause.is_some(), pause.is_some());
        match (was, pause) {
            (false, None) => return Ok(Reply::Schedule { version, change: Change::None }),
            (_, Some(pause)) => entry.state.rare_mut().pause = Some(Box::new(pause)),
            (true, None) => {
                entry.state.failures = 0;
                let rare = entry.state.rare_mut();
                rare.pause = None;
                rare.paused_until = now;
            }
        }
        if was != paused {
            self.step.pauses.push(PauseEvent { schedule: name.clone(), paused });
        }
        self.schedules.touch(index);
        self.schedules.wake(index);
        Ok(Reply::Schedule { version, change: Change::Replaced })
    }

    /// Skips a coming tick, or takes that back.
    pub(in crate::machine) fn skip_tick(
        &mut self,
        name: &Name,
        nominal: WallTime,
        skip: bool,
    ) -> Result<Reply, Refusal> {
        let index = self.find_schedule(name, None)?;
        let before = WallTime(nominal.0.saturating_sub(1));
        let coming = self.schedules.occurrence_after(index, before);
        let is_coming = coming.is_some_and(|next| next.nominal == nominal && next.skip.is_none());
        let entry = self.schedules.at_mut(index);
        if !is_coming || entry.state.completed || nominal <= entry.state.cursor {
            return Err(Refusal::NoSuchTick { nominal });
        }
        let version = entry.version;
        let to_skip = &mut entry.state.rare_mut().to_skip;
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

    pub(super) fn find_schedule(
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
}
