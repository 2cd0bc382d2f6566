//! New tasks.

use super::{
    Binding, Flags, Happened, LiveTask, Machine, Mutation, Refusal, Reply, Submit, TaskIndex, clock,
};
use crate::{Name, Priority, Status, TaskSpec, WallTime};

impl Machine {
    pub(super) fn submit(&mut self, submit: &Submit) -> Result<Reply, Refusal> {
        let spec = &submit.spec;
        if let Some(known) = self.repeated(submit)? {
            return Ok(Reply::Submitted { task: known.task, created: false });
        }
        // A date that is over means now: nobody has waited since then.
        let run_at = submit.run_at.max(self.now.wall);
        if let Some(expires_at) = spec.expires_at.filter(|expires_at| *expires_at <= run_at) {
            return Err(Refusal::ExpiresBeforeDue { expires_at });
        }
        self.check_room(&spec.queue, &spec.kind)?;
        let index = self.add_live(spec, submit.priority, run_at);
        if !spec.binds.is_empty() {
            let binding = Binding { task: spec.id, fingerprint: spec.fingerprint };
            self.settling.bound(&spec.binds, binding);
        }
        self.note(index, Happened::Submitted);
        self.touch(index);
        self.step.mutations.push(Mutation::PutSpec(submit.spec.clone()));
        Ok(Reply::Submitted { task: submit.spec.id, created: true })
    }

    /// Whether its names belong to a task already, so that submitting it creates none.
    #[must_use]
    pub fn is_repeat(&self, submit: &Submit) -> bool {
        !matches!(self.repeated(submit), Ok(None))
    }

    /// The task that this one repeats, if any.
    fn repeated(&self, submit: &Submit) -> Result<Option<Binding>, Refusal> {
        let binds = &submit.spec.binds;
        let by_id = binds.id.as_ref().and_then(|id| self.settling.by_id(id, submit.bindings.id));
        let by_key =
            binds.key.as_ref().and_then(|key| self.settling.by_key(key, submit.bindings.key));
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

    /// Whether one more task may live there.
    pub(super) fn check_room(&mut self, queue: &Name, kind: &Name) -> Result<(), Refusal> {
        match self.roster.find_queue(queue) {
            Some(index) => {
                let limit = self.limits.queue_length_max;
                if self.roster.queues[index as usize].live() >= limit {
                    return Err(Refusal::QueueFull { queue: queue.clone(), limit });
                }
            }
            None => self.check_new_queue()?,
        }
        if self.roster.has_kind(kind) { Ok(()) } else { self.check_new_kind() }
    }

    /// Whether there may be one more queue.
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

    /// Makes the task live: scheduled if its time is to come, else pending.
    fn add_live(&mut self, spec: &TaskSpec, priority: Priority, run_at: WallTime) -> TaskIndex {
        let queue = self.roster.queue(&spec.queue);
        let kind = self.roster.kind(&spec.kind);
        let lane = self.roster.lane(queue, kind);
        self.roster.add_task(lane);
        let index = self.live.insert(LiveTask {
            id: spec.id,
            run_at,
            order: 0,
            lane,
            policy: self.policies.take(spec.policy),
            attempt: 0,
            lost: 0,
            failures: 0,
            status: Status::Scheduled,
            priority,
            flags: Flags::default(),
        });
        self.roster.queues[queue as usize].scheduled += 1;
        if !spec.binds.is_empty() {
            self.live.at_mut(index).flags.set(Flags::NAMED);
            self.binds.insert(index, spec.binds.clone());
        }
        if let Some(expires_at) = spec.expires_at {
            self.set_expiry(index, expires_at);
        }
        self.wait_until(index, run_at);
        index
    }

    /// Has a scheduled task wait for a date; if that is over, it is due at once.
    pub(super) fn wait_until(&mut self, index: TaskIndex, run_at: WallTime) {
        self.live.at_mut(index).run_at = run_at;
        if run_at <= self.now.wall {
            self.make_due(index);
        } else {
            self.dates.insert(clock::date(run_at), index);
        }
    }

    pub(super) fn set_expiry(&mut self, index: TaskIndex, expires_at: WallTime) {
        self.live.at_mut(index).flags.set(Flags::EXPIRES);
        self.expiries.insert(index, expires_at);
        self.dates.insert(clock::date(expires_at), index);
    }
}
