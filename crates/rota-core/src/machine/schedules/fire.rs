//! Creates the tasks of ticks, and those that clients trigger.

use std::sync::Arc;

use super::{Machine, ticks::Deciding};
use crate::{
    ClientKeys, Definition, KeyOwner, Name, Outcome, Refusal, RefusedReason, TaskId,
    TaskIdSequence, TaskSpec, TickContext, WallTime,
    machine::{Reply, index::ScheduleIndex},
    manual_id, tick_id,
};

/// Number of ids that are tried for a triggered task, if other tasks own some.
const MANUAL_IDS: u32 = 4;

/// What came of creating the task of a tick.
pub(super) enum Fired {
    Task(TaskId),
    Refused(RefusedReason),
    /// The owner of its id must be read from the store first.
    WantsOwner,
}

impl Machine {
    /// Creates the task of the tick after the cursor.
    pub(super) fn fire(
        &mut self,
        index: ScheduleIndex,
        nominal: WallTime,
        deciding: &mut Deciding<'_>,
    ) -> Fired {
        let fired = self.create_for_tick(index, nominal, deciding);
        if let Fired::Task(_) = fired {
            let state = &mut self.schedules.at_mut(index).state;
            state.runs_left = state.runs_left.map(|left| left.saturating_sub(1));
        }
        fired
    }

    /// Creates the task of the oldest tick that waits for its turn. Returns false if it must wait for the next
    /// step.
    pub(super) fn fire_queued(
        &mut self,
        index: ScheduleIndex,
        deciding: &mut Deciding<'_>,
    ) -> bool {
        let nominal = self.schedules.at(index).state.queued[0];
        let outcome = match self.create_for_tick(index, nominal, deciding) {
            Fired::Task(task) => Outcome::Fired(task),
            Fired::Refused(reason) => Outcome::Refused(reason),
            Fired::WantsOwner => return false,
        };
        self.schedules.at_mut(index).state.queued.remove(0);
        self.end_queued(index, nominal, outcome);
        true
    }

    fn create_for_tick(
        &mut self,
        index: ScheduleIndex,
        nominal: WallTime,
        deciding: &mut Deciding<'_>,
    ) -> Fired {
        let id = tick_id(&self.schedules.at(index).name, nominal);
        let Some(owner) = deciding.owners.get(&id) else {
            self.schedules.at_mut(index).wants = Some(nominal);
            return Fired::WantsOwner;
        };
        match self.create_scheduled(index, id, Some(nominal), owner, deciding.ids) {
            Ok(task) => {
                let entry = self.schedules.at_mut(index);
                entry.state.last_task = Some(task);
                entry.state.last_fired = Some(nominal);
                deciding.bytes += entry.template.definition.payload.len();
                Fired::Task(task)
            }
            Err(reason) => Fired::Refused(reason),
        }
    }

    /// Creates a task from the template of the schedule.
    fn create_scheduled(
        &mut self,
        index: ScheduleIndex,
        id: Name,
        nominal: Option<WallTime>,
        owner: Option<KeyOwner>,
        ids: &mut TaskIdSequence,
    ) -> Result<TaskId, RefusedReason> {
        if self.settling.by_id(&id, owner).is_some() {
            return Err(RefusedReason::Conflict);
        }
        let now = self.now.wall;
        let entry = self.schedules.at(index);
        let template = entry.template.clone();
        let counted_from = nominal.unwrap_or(now);
        let expires_at = template.expires_after.map(|after| counted_from + after);
        if expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(RefusedReason::Expired);
        }
        let tick = TickContext {
            schedule: entry.name.clone(),
            nominal,
            previous: entry.state.last_fired,
            last_success: entry.state.last_success,
        };
        let (queue, kind) = (&template.definition.queue, &template.definition.kind);
        self.check_room(queue, kind).map_err(|refusal| match refusal {
            Refusal::QueueFull { .. } => RefusedReason::QueueFull,
            _ => RefusedReason::TooManyNames,
        })?;
        let task = ids.next(now);
        let definition = Definition { expires_at, ..template.definition.clone() };
        let spec = TaskSpec {
            client_keys: ClientKeys { id: Some(id), key: None },
            tick: Some(Box::new(tick)),
            ..TaskSpec::new(task, definition, now)
        };
        self.create(Arc::new(spec), template.priority, now);
        self.schedules.links.push((index, task));
        self.schedules.touch(index);
        Ok(task)
    }

    /// The ids that the next triggered task of a schedule may get. The caller reads their owners.
    #[must_use]
    pub fn manual_ids(&self, schedule: &Name) -> Vec<Name> {
        let Some(index) = self.schedules.find(schedule) else { return Vec::new() };
        let next = self.schedules.at(index).state.manual.saturating_add(1);
        (next..next.saturating_add(MANUAL_IDS)).map(|number| manual_id(schedule, number)).collect()
    }

    /// Creates a task now, beside the ticks.
    ///
    /// # Errors
    /// When there is no such schedule, or its task cannot be created.
    pub fn trigger(
        &mut self,
        schedule: &Name,
        ids: &mut TaskIdSequence,
        owner_of: impl Fn(&Name) -> Option<KeyOwner>,
    ) -> Result<Reply, Refusal> {
        let index = self.schedules.find(schedule).ok_or(Refusal::UnknownSchedule)?;
        let next = self.schedules.at(index).state.manual.saturating_add(1);
        for number in next..next.saturating_add(MANUAL_IDS) {
            let id = manual_id(schedule, number);
            let owner = owner_of(&id);
            match self.create_scheduled(index, id, None, owner, ids) {
                Ok(task) => {
                    self.schedules.at_mut(index).state.manual = number;
                    return Ok(Reply::Submitted { task, created: true });
                }
                Err(RefusedReason::Conflict) => {}
                Err(reason) => return Err(Refusal::CannotTrigger { reason }),
            }
        }
        Err(Refusal::CannotTrigger { reason: RefusedReason::Conflict })
    }
}
