//! Creates the tasks of ticks, and those that clients trigger.

use std::sync::Arc;

use super::{Machine, deciding::Deciding};
use crate::{
    ClientKeys, Definition, KeyOwner, Name, Outcome, Priority, Refusal, RefusedReason, TaskId,
    TaskIdSequence, TaskSpec, TickContext, WallTime,
    machine::{Reply, index::ScheduleIndex},
    manual_id,
    schedule::write_tick_id,
};

/// Number of ids that are tried for a triggered task, if other tasks own some.
const MANUAL_IDS: u32 = 8;

/// What came of creating the task of a tick.
pub(super) enum Fired {
    Task(TaskId),
    Refused(RefusedReason),
    /// The owner of its id must be read from the store first.
    WantsOwner,
}

/// The task of a tick, as far as it differs from the template.
pub(super) struct NewTick {
    pub(super) id: Name,
    /// `None` for a task that a client triggered.
    pub(super) nominal: Option<WallTime>,
    /// The nominal time of the tick before.
    pub(super) previous: Option<WallTime>,
    /// The owner of the id in the store.
    pub(super) owner: Option<KeyOwner>,
    /// `None`: that of the template.
    pub(super) priority: Option<Priority>,
    /// The time from which `expires_after` counts.
    pub(super) expires_from: WallTime,
}

impl Machine {
    /// Creates the task of the tick after the cursor.
    pub(super) fn fire(
        &mut self,
        index: ScheduleIndex,
        nominal: WallTime,
        deciding: &mut Deciding<'_>,
    ) -> Fired {
        let entry = self.schedules.at(index);
        write_tick_id(&mut deciding.text, &entry.name, nominal);
        let Some((id, owner)) = deciding.owners.get(&deciding.text) else {
            self.schedules.progress.entry(index).or_default().wants = Some(nominal);
            return Fired::WantsOwner;
        };
        let tick = NewTick {
            id,
            nominal: Some(nominal),
            previous: entry.state.last_fired(),
            owner,
            priority: None,
            expires_from: nominal,
        };
        match self.create_scheduled(index, tick, deciding.ids) {
            Ok(task) => {
                let entry = self.schedules.at_mut(index);
                entry.state.fired(nominal, task);
                deciding.bytes += entry.template.definition.payload.len();
                Fired::Task(task)
            }
            Err(reason) => Fired::Refused(reason),
        }
    }

    /// Creates the task of the oldest tick that waits for its turn. Returns false if it must wait for the next
    /// step.
    pub(super) fn fire_queued(
        &mut self,
        index: ScheduleIndex,
        deciding: &mut Deciding<'_>,
    ) -> bool {
        let nominal = self.schedules.at(index).state.rare().queued[0];
        let outcome = match self.fire(index, nominal, deciding) {
            Fired::Task(task) => Outcome::Fired(task),
            Fired::Refused(reason) => Outcome::Refused(reason),
            Fired::WantsOwner => return false,
        };
        self.end_queued(index, outcome);
        true
    }

    /// Creates a task from the template of the schedule.
    pub(super) fn create_scheduled(
        &mut self,
        index: ScheduleIndex,
        tick: NewTick,
        ids: &mut TaskIdSequence,
    ) -> Result<TaskId, RefusedReason> {
        if self.settling.by_id(&tick.id, tick.owner).is_some() {
            return Err(RefusedReason::Conflict);
        }
        if self.schedules.store_is_full {
            return Err(RefusedReason::StoreFull);
        }
        let now = self.now.wall;
        let entry = self.schedules.at(index);
        let template = entry.template.clone();
        let expires_at = template.expires_after.map(|after| tick.expires_from + after);
        if expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(RefusedReason::Expired);
        }
        // A task of a past tick is not told of what came after it.
        let is_past = |at: &WallTime| tick.nominal.is_none_or(|nominal| *at < nominal);
        let context = TickContext {
            schedule: entry.name.clone(),
            nominal: tick.nominal,
            previous: tick.previous,
            last_success: entry.state.last_success().filter(is_past),
        };
        let (queue, kind) = (&template.definition.queue, &template.definition.kind);
        self.check_room(queue, kind).map_err(|refusal| match refusal {
            Refusal::QueueFull { .. } => RefusedReason::QueueFull,
            _ => RefusedReason::TooManyNames,
        })?;
        let task = ids.next(now);
        let definition = Definition { expires_at, ..template.definition.clone() };
        let spec = TaskSpec {
            client_keys: ClientKeys { id: Some(tick.id), key: None },
            tick: Some(Box::new(context)),
            ..TaskSpec::new(task, definition, now)
        };
        self.create(Arc::new(spec), tick.priority.unwrap_or(template.priority), now);
        self.schedules.links.push((index, task));
        self.schedules.touch(index);
        Ok(task)
    }

    /// The ids that the next triggered task of a schedule may get. The caller reads their owners.
    #[must_use]
    pub fn manual_ids(&self, schedule: &Name) -> Vec<Name> {
        let Some(index) = self.schedules.find(schedule) else { return Vec::new() };
        let next = self.schedules.at(index).state.rare().manual.saturating_add(1);
        (next..next.saturating_add(MANUAL_IDS)).map(|number| manual_id(schedule, number)).collect()
    }

    /// Creates a task now, beside the ticks. `owner_of` tells the owner of an id, if there is one, or `None` if it was
    /// not looked up. The answer is `None` if an owner must be looked up first: call it again with that of
    /// [`Machine::manual_ids`].
    ///
    /// # Errors
    /// When there is no such schedule, or its task cannot be created.
    pub fn trigger(
        &mut self,
        schedule: &Name,
        ids: &mut TaskIdSequence,
        owner_of: impl Fn(&Name) -> Option<Option<KeyOwner>>,
    ) -> Result<Option<Reply>, Refusal> {
        let index = self.find_schedule(schedule, None)?;
        let entry = self.schedules.at(index);
        let previous = entry.state.last_fired();
        let next = entry.state.rare().manual.saturating_add(1);
        for number in next..next.saturating_add(MANUAL_IDS) {
            let id = manual_id(schedule, number);
            let Some(owner) = owner_of(&id) else { return Ok(None) };
            let tick = NewTick {
                owner,
                id,
                nominal: None,
                previous,
                priority: None,
                expires_from: self.now.wall,
            };
            let created = self.create_scheduled(index, tick, ids);
            if let Ok(_) | Err(RefusedReason::Conflict) = created {
                // The ids of tasks of a deleted schedule with this name are passed over for good.
                self.schedules.at_mut(index).state.rare_mut().manual = number;
                self.schedules.touch(index);
            }
            match created {
                Ok(task) => return Ok(Some(Reply::Submitted { task, created: true })),
                Err(RefusedReason::Conflict) => {}
                Err(reason) => return Err(Refusal::CannotTrigger { reason }),
            }
        }
        Err(Refusal::CannotTrigger { reason: RefusedReason::Conflict })
    }
}
