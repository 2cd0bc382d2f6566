//! Submission of tasks.

use std::sync::Arc;

use super::{
    Admission, Flags, Happened, KeyOwner, Machine, Mutation, Refusal, Reply, Submit, TaskIndex,
    clock::{self, Wakes},
};
use crate::{Name, Priority, TaskSpec, WallTime};

impl Machine {
    pub(super) fn submit(&mut self, submit: &Submit) -> Result<Reply, Refusal> {
        let spec = &submit.spec;
        if let Some(known) = self.repeated(submit)? {
            return Ok(Reply::Submitted { task: known.task, created: false });
        }
        // A date in the past means now.
        let run_at = submit.run_at.max(self.now.wall);
        let expires_at = spec.definition.expires_at;
        if let Some(expires_at) = expires_at.filter(|expires_at| *expires_at <= run_at) {
            return Err(Refusal::ExpiresBeforeDue { expires_at });
        }
        self.check_room(&spec.definition.queue, &spec.definition.kind)?;
        self.create(spec.clone(), submit.priority, run_at);
        Ok(Reply::Submitted { task: spec.id, created: true })
    }

    /// Creates a task. The caller has checked its names, its dates and the room for it.
    pub(super) fn create(&mut self, spec: Arc<TaskSpec>, priority: Priority, run_at: WallTime) {
        let index = self.admit(Admission {
            id: spec.id,
            queue: &spec.definition.queue,
            kind: &spec.definition.kind,
            policy: spec.definition.policy,
            priority,
            run_at,
            attempt: 0,
            lost: 0,
            failures: 0,
            snoozes: 0,
            edits: 0,
            client_keys: &spec.client_keys,
            expires_at: spec.definition.expires_at,
            last_end: None,
            unknown: None,
            nominal: spec.tick.as_ref().and_then(|tick| tick.nominal),
        });
        let queue = self.roster.lanes[self.live.at(index).lane].queue;
        self.roster.queues[queue].created_total += 1;
        self.wait_until(index, run_at);
        if !spec.client_keys.is_empty() {
            let owner = KeyOwner { task: spec.id, fingerprint: spec.fingerprint };
            self.settling.claimed(&spec.client_keys, owner);
        }
        self.note(index, Happened::Submitted);
        self.touch(index);
        self.step.mutations.push(Mutation::PutSpec(spec));
    }

    /// Whether a task with its names already exists, so that the submission creates none.
    #[must_use]
    pub fn is_repeat(&self, submit: &Submit) -> bool {
        !matches!(self.repeated(submit), Ok(None))
    }

    /// The task that this one repeats, if any.
    fn repeated(&self, submit: &Submit) -> Result<Option<KeyOwner>, Refusal> {
        let client_keys = &submit.spec.client_keys;
        let by_id =
            client_keys.id.as_ref().and_then(|id| self.settling.by_id(id, submit.key_owners.id));
        let by_key = client_keys
            .key
            .as_ref()
            .and_then(|key| self.settling.by_key(key, submit.key_owners.key));
        for (field, known) in [("id", by_id), ("idempotency_key", by_key)] {
            if let Some(known) = known {
                if known.fingerprint != submit.spec.fingerprint {
                    return Err(Refusal::Conflict { field, task: known.task });
                }
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    /// Checks that the queue has room for one more task.
    pub(super) fn check_room(&mut self, queue: &Name, kind: &Name) -> Result<(), Refusal> {
        match self.roster.find_queue(queue) {
            Some(index) => {
                let limit = self.limits.queue_length_max;
                if self.roster.queues[index].live() >= limit {
                    return Err(Refusal::QueueFull { queue: queue.clone(), limit });
                }
            }
            None => self.check_new_queue()?,
        }
        if self.roster.has_kind(kind) { Ok(()) } else { self.check_new_kind() }
    }

    /// Checks that there is room for one more queue.
    pub(super) fn check_new_queue(&mut self) -> Result<(), Refusal> {
        let limit = self.limits.queues_max;
        if self.roster.queue_index.len() >= limit as usize {
            self.roster.make_room(limit, self.now.mono);
        }
        if self.roster.queue_index.len() >= limit as usize {
            return Err(Refusal::TooManyNames { what: "queues", limit: limit.into() });
        }
        Ok(())
    }

    fn check_new_kind(&mut self) -> Result<(), Refusal> {
        let limit = self.limits.kinds_max;
        if self.roster.kind_index.len() >= limit as usize {
            self.roster.make_room(limit, self.now.mono);
        }
        if self.roster.kind_index.len() >= limit as usize {
            return Err(Refusal::TooManyNames { what: "kinds", limit: limit.into() });
        }
        Ok(())
    }

    /// Sets the timer of a scheduled task. If the date is over, the task is due at once.
    pub(super) fn wait_until(&mut self, index: TaskIndex, run_at: WallTime) {
        self.live.at_mut(index).run_at = run_at;
        if run_at <= self.now.wall {
            self.make_due(index);
        } else {
            self.dates.insert(clock::date(run_at), Wakes::Task(index));
        }
    }

    pub(super) fn set_expiry(&mut self, index: TaskIndex, expires_at: WallTime) {
        self.live.at_mut(index).flags.set(Flags::EXPIRES);
        self.expiries.insert(index, expires_at);
        self.dates.insert(clock::date(expires_at), Wakes::Task(index));
    }
}
