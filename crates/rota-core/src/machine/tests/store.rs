//! A store as the engine's batches would leave it, which refuses what no batch may say.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::super::{KeyOwner, KeyOwners, Mutation};
use crate::{
    AttemptRecord, CalendarRecord, ClientKeys, DoneRecord, LiveRecord, Name, Outcome, QueueRecord,
    ScheduleRecord, ScheduleState, TaskId, TaskSpec, TickRecord, WallTime,
};

/// What is kept, by key.
#[derive(Debug, Clone, Default)]
pub(super) struct ModelStore {
    pub(super) specs: BTreeMap<TaskId, Arc<TaskSpec>>,
    pub(super) live: BTreeMap<TaskId, LiveRecord>,
    pub(super) done: BTreeMap<TaskId, Arc<DoneRecord>>,
    pub(super) attempts: BTreeMap<(TaskId, u32), AttemptRecord>,
    pub(super) results: BTreeMap<TaskId, Bytes>,
    pub(super) ids: BTreeMap<Name, KeyOwner>,
    pub(super) keys: BTreeMap<Arc<str>, KeyOwner>,
    pub(super) queues: BTreeMap<Name, QueueRecord>,
    pub(super) schedules: BTreeMap<Name, Arc<ScheduleRecord>>,
    pub(super) states: BTreeMap<Name, ScheduleState>,
    pub(super) ticks: BTreeMap<(Name, WallTime), TickRecord>,
    pub(super) calendars: BTreeMap<Name, Arc<CalendarRecord>>,
}

impl ModelStore {
    /// Carries out one mutation.
    pub(super) fn apply(&mut self, mutation: &Mutation) {
        match mutation {
            Mutation::PutSpec(spec) => self.put_spec(spec),
            Mutation::PutLive(record) => self.put_live(record),
            Mutation::DeleteLive(task) => {
                self.live.remove(task);
            }
            Mutation::PutDone(done) => {
                assert!(!self.live.contains_key(&done.id), "{} is live and done", done.id);
                assert!(self.specs.contains_key(&done.id), "{} ended without a spec", done.id);
                assert!(
                    self.done.insert(done.id, done.clone()).is_none(),
                    "{} ended twice",
                    done.id
                );
            }
            Mutation::DeleteDone(done) => {
                let known = self.done.remove(&done.id);
                assert_eq!(known.as_ref(), Some(done), "another record than the one that is kept");
            }
            Mutation::PutAttempt(task, record) => {
                self.attempts.insert((*task, record.attempt), (**record).clone());
            }
            Mutation::PutResult(task, result) => {
                self.results.insert(*task, result.clone());
            }
            Mutation::DeleteTask(done) => self.delete_task(done),
            Mutation::DeleteQueue(name) => {
                self.queues.remove(name);
            }
            Mutation::PutQueue(name, record) => {
                self.queues.insert(name.clone(), record.clone());
            }
            Mutation::PutSchedule(record) => {
                self.schedules.insert(record.name.clone(), record.clone());
            }
            Mutation::PutScheduleState { schedule, state, .. } => {
                assert!(self.schedules.contains_key(schedule), "a state without a definition");
                let former = self.states.insert(schedule.clone(), (**state).clone());
                let former = former.map(|former| former.cursor);
                assert!(former <= Some(state.cursor), "the cursor of {schedule} went back");
            }
            Mutation::DeleteSchedule(name) => {
                self.schedules.remove(name);
                self.states.remove(name);
            }
            Mutation::PutTick(record) => self.put_tick(record),
            Mutation::DeleteTick { schedule, first } => {
                self.ticks.remove(&(schedule.clone(), *first));
            }
            Mutation::PutCalendar(record) => {
                self.calendars.insert(record.name.clone(), record.clone());
            }
            Mutation::DeleteCalendar(name) => {
                self.calendars.remove(name);
            }
        }
    }

    fn put_tick(&mut self, record: &TickRecord) {
        let run = record.run;
        let waits = run.outcome == Outcome::Queued;
        assert_eq!(record.retain_until.is_none(), waits, "{record:?}");
        let key = (record.schedule.clone(), run.first);
        if let Some(former) = self.ticks.insert(key, record.clone()).map(|former| former.run) {
            let goes_on = run.outcome == former.outcome
                && run.outcome.folds()
                && run.last > former.last
                && run.count > former.count;
            let ends = former.outcome == Outcome::Queued && !waits && run.count == 1;
            assert!(goes_on || ends, "a tick is decided again: {former:?}, then {run:?}");
        }
    }

    fn put_spec(&mut self, spec: &Arc<TaskSpec>) {
        if let Some(known) = self.specs.get_mut(&spec.id) {
            assert_eq!(
                (&known.client_keys, known.fingerprint),
                (&spec.client_keys, spec.fingerprint)
            );
            *known = spec.clone();
            return;
        }
        let owner = KeyOwner { task: spec.id, fingerprint: spec.fingerprint };
        if let Some(id) = &spec.client_keys.id {
            let former = self.ids.insert(id.clone(), owner);
            assert_eq!(former, None, "the id {id} is taken from its owner");
        }
        if let Some(key) = &spec.client_keys.key {
            let former = self.keys.insert(key.clone(), owner);
            assert_eq!(former, None, "the key {key} is taken from its owner");
        }
        assert!(self.specs.insert(spec.id, spec.clone()).is_none(), "{} exists", spec.id);
    }

    fn put_live(&mut self, record: &LiveRecord) {
        let id = record.id;
        assert!(!self.done.contains_key(&id), "{id} is done and live");
        let spec = self.specs.get(&id).expect("a live task has a spec");
        assert_eq!((&record.queue, &record.kind), (&spec.definition.queue, &spec.definition.kind));
        assert_eq!(
            (&record.policy, &record.client_keys),
            (&spec.definition.policy, &spec.client_keys)
        );
        assert_eq!(record.lease.is_some(), record.status.is_leased(), "{record:?}");
        assert!(record.lost + record.failures + record.snoozes <= record.attempt, "{record:?}");
        self.live.insert(id, record.clone());
    }

    fn delete_task(&mut self, done: &Arc<DoneRecord>) {
        let known = self.done.remove(&done.id);
        assert_eq!(known.as_ref(), Some(done), "another record than the one that is kept");
        self.specs.remove(&done.id);
        assert_eq!(self.results.remove(&done.id).is_some(), done.has_result);
        if let Some(id) = &done.client_keys.id {
            assert_eq!(self.ids.remove(id).map(|owner| owner.task), Some(done.id));
        }
        if let Some(key) = &done.client_keys.key {
            assert_eq!(self.keys.remove(key).map(|owner| owner.task), Some(done.id));
        }
        let ends = (done.id, 0)..=(done.id, u32::MAX);
        let kept: Vec<_> = self.attempts.range(ends).map(|((_, attempt), _)| *attempt).collect();
        let named: Vec<_> = (1..=done.attempts_kept()).collect();
        assert_eq!(kept, named, "attempts are left behind or were never written: {done:?}");
        self.attempts.retain(|(task, _), _| *task != done.id);
    }

    /// Whom the store knows by these names.
    pub(super) fn key_owners(&self, client_keys: &ClientKeys) -> KeyOwners {
        KeyOwners {
            id: client_keys.id.as_ref().and_then(|id| self.ids.get(id).copied()),
            key: client_keys.key.as_ref().and_then(|key| self.keys.get(key).copied()),
        }
    }

    /// Every task is live or done and not both; nothing is kept of what is neither.
    pub(super) fn check(&self) {
        for id in self.specs.keys() {
            let (live, done) = (self.live.contains_key(id), self.done.contains_key(id));
            assert!(live != done, "{id}: live {live}, done {done}");
        }
        for id in self.live.keys().chain(self.done.keys()).chain(self.results.keys()) {
            assert!(self.specs.contains_key(id), "{id} has no definition");
        }
        for (id, attempt) in self.attempts.keys() {
            assert!(self.specs.contains_key(id), "attempt {attempt} of {id} was left behind");
        }
        for owner in self.ids.values().chain(self.keys.values()) {
            assert!(self.specs.contains_key(&owner.task), "a name outlived {}", owner.task);
        }
    }
}
