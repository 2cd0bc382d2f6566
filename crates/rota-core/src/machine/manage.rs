//! Commands on one existing task, and the pause of a queue.

use std::sync::Arc;

use super::{
    Admission, CANCEL_GRACE, Effect, Flags, Happened, Machine, Mutation, Refusal, Reply,
    StopReason, Stored, TaskIndex,
};
use crate::{
    DoneRecord, Failure, FailureReason, Name, Pause, Policy, Priority, QueueRecord, Status, TaskId,
    TaskSpec, UnknownFields, WallTime,
    lifecycle::{Action, IllegalTransition, transition},
};

/// A command on one existing task.
#[derive(Debug, Clone)]
pub enum TaskCommand {
    /// Cancels it.
    Cancel,
    /// Runs it again after its end.
    Retry {
        /// The stored definition, which has the policy. `None` if there is none.
        spec: Option<Arc<TaskSpec>>,
    },
    /// Changes when it is due.
    Reschedule { run_at: WallTime },
    /// Changes its priority.
    SetPriority(Priority),
    /// Changes its definition while it waits.
    Edit(Box<Edit>),
    /// Deletes it.
    Delete,
    /// Retention: removes it if it has ended and its retention time is over.
    Purge,
}

/// A change of a waiting task.
#[derive(Debug, Clone)]
pub struct Edit {
    /// The complete new definition. Id, names, queue and kind do not change.
    pub spec: Arc<TaskSpec>,
    /// The number of earlier changes on which the new definition is based. Another number is a conflict.
    pub edits: u32,
    /// New priority. `None` keeps the old one.
    pub priority: Option<Priority>,
    /// New due time. `None` keeps the old one, and a backoff.
    pub run_at: Option<WallTime>,
}

impl Machine {
    pub(super) fn on_task(
        &mut self,
        task: TaskId,
        command: TaskCommand,
        stored: Stored,
    ) -> Result<Reply, Refusal> {
        match command {
            TaskCommand::Cancel => self.cancel(task, stored),
            TaskCommand::Retry { spec } => self.retry(task, stored, spec.as_deref()),
            TaskCommand::Reschedule { run_at } => self.reschedule(task, run_at, stored),
            TaskCommand::SetPriority(priority) => self.set_priority(task, priority, stored),
            TaskCommand::Edit(edit) => self.edit(task, *edit, stored),
            TaskCommand::Delete => self.delete(task, stored),
            TaskCommand::Purge => Ok(self.purge(task, stored)),
        }
    }

    pub(super) fn cancel(&mut self, task: TaskId, stored: Stored) -> Result<Reply, Refusal> {
        let Some(index) = self.live.find(task) else {
            let done = self.ended(task, stored)?;
            if done.status == Status::Cancelled {
                return Ok(Reply::Unchanged { task, status: done.status });
            }
            return Err(IllegalTransition { from: done.status, action: Action::Cancel }.into());
        };
        let status = self.live.at(index).status;
        if !status.is_leased() {
            let failure = Failure::new(FailureReason::Cancelled, "cancelled before it started");
            self.finish(index, Action::Cancel, Some(failure), None);
            return Ok(Reply::Task { task, status: Status::Cancelled });
        }
        if self.live.at(index).flags.has(Flags::CANCEL_REQUESTED) {
            return Ok(Reply::Unchanged { task, status });
        }
        self.live.at_mut(index).flags.set(Flags::CANCEL_REQUESTED);
        self.touch(index);
        let deadline = self.now.mono + CANCEL_GRACE;
        let lease = self.leases.get_mut(&index).expect("a leased task has a lease");
        lease.deadline = lease.deadline.min(deadline);
        self.deadlines.insert(lease.deadline.0, index);
        let stop = Effect::Stop {
            session: self.sessions.at(lease.session).id,
            task,
            token: lease.token,
            reason: StopReason::Cancelled,
        };
        self.step.effects.push(stop);
        Ok(Reply::Task { task, status })
    }

    fn retry(
        &mut self,
        task: TaskId,
        stored: Stored,
        spec: Option<&TaskSpec>,
    ) -> Result<Reply, Refusal> {
        if let Some(index) = self.live.find(task) {
            let from = self.live.at(index).status;
            return Err(IllegalTransition { from, action: Action::Retry }.into());
        }
        let done = self.ended(task, stored)?;
        transition(done.status, Action::Retry)?;
        let policy = self.settling.policy(task).or_else(|| spec.map(|spec| spec.definition.policy));
        let policy = policy.ok_or(Refusal::UnknownTask)?;
        self.check_room(&done.queue, &done.kind)?;
        self.revive(&done, policy, spec);
        Ok(Reply::Task { task, status: Status::Pending })
    }

    /// Runs an ended task again, with new budgets and without a start deadline.
    fn revive(&mut self, done: &Arc<DoneRecord>, policy: Policy, spec: Option<&TaskSpec>) {
        let index = self.admit(Admission {
            id: done.id,
            queue: &done.queue,
            kind: &done.kind,
            policy,
            priority: done.priority,
            run_at: self.now.wall,
            attempt: done.attempt,
            lost: 0,
            failures: 0,
            snoozes: 0,
            edits: done.edits,
            client_keys: &done.client_keys,
            expires_at: None,
            last_end: done.last_end,
            unknown: unknown_fields(done, spec),
            nominal: done.nominal,
        });
        self.make_due(index);
        self.note(index, Happened::Revived);
        self.touch(index);
        if let Some(last) = done.last.as_ref().filter(|_| !done.has_output) {
            let attempt = Mutation::PutAttempt(done.id, Box::new(last.clone()));
            self.step.mutations.push(attempt);
        }
        self.step.mutations.push(Mutation::DeleteDone(done.clone()));
    }

    fn reschedule(
        &mut self,
        task: TaskId,
        run_at: WallTime,
        stored: Stored,
    ) -> Result<Reply, Refusal> {
        let index = self.find_live(task, Action::Postpone, stored)?;
        transition(self.live.at(index).status, Action::Postpone)?;
        let expires_at = self.expiries.get(index).copied();
        // A task that expires at this moment can still be rescheduled to now.
        if let Some(expires_at) = expires_at.filter(|at| *at <= run_at && run_at > self.now.wall) {
            return Err(Refusal::DueAfterExpiry { field: "run_at", expires_at });
        }
        self.advance(index, Action::Postpone)?;
        self.backoffs.remove(index);
        let flags = &mut self.live.at_mut(index).flags;
        flags.clear(Flags::BACKING_OFF);
        flags.clear(Flags::SNOOZED);
        self.touch(index);
        self.wait_until(index, run_at.max(self.now.wall));
        Ok(Reply::Task { task, status: self.live.at(index).status })
    }

    fn set_priority(
        &mut self,
        task: TaskId,
        priority: Priority,
        stored: Stored,
    ) -> Result<Reply, Refusal> {
        let index = self.find_live(task, Action::Reprioritize, stored)?;
        transition(self.live.at(index).status, Action::Reprioritize)?;
        if self.live.at(index).priority != priority {
            self.live.at_mut(index).priority = priority;
            self.touch(index);
            self.advance(index, Action::Reprioritize)?;
        }
        Ok(Reply::Task { task, status: self.live.at(index).status })
    }

    /// Changes the definition of a waiting task. It keeps its place in its queue unless its priority or due
    /// time changes.
    fn edit(&mut self, task: TaskId, edit: Edit, stored: Stored) -> Result<Reply, Refusal> {
        let Edit { spec, edits, priority, run_at } = edit;
        debug_assert_eq!(task, spec.id, "the definition is of another task");
        let index = self.find_live(task, Action::Edit, stored)?;
        transition(self.live.at(index).status, Action::Edit)?;
        let known = self.edits.get(index).copied().unwrap_or(0);
        if known != edits {
            return Err(Refusal::VersionConflict { version: known + 1 });
        }
        let expires_at = spec.definition.expires_at;
        let is_same = run_at.is_none() && self.expiries.get(index).copied() == expires_at;
        let due = run_at.unwrap_or(self.live.at(index).run_at).max(self.now.wall);
        if let Some(expires_at) = expires_at.filter(|at| *at <= due && !is_same) {
            return Err(Refusal::ExpiresBeforeDue { expires_at });
        }
        self.edits.insert(index, known + 1);
        let policy = self.policies.take(spec.definition.policy);
        let former = std::mem::replace(&mut self.live.at_mut(index).policy, policy);
        self.policies.release(former);
        if self.expiries.get(index).copied() != expires_at {
            self.expiries.remove(index);
            self.live.at_mut(index).flags.clear(Flags::EXPIRES);
            if let Some(expires_at) = expires_at {
                self.set_expiry(index, expires_at);
            }
        }
        self.touch(index);
        self.step.mutations.push(Mutation::PutSpec(spec));
        if let Some(priority) = priority {
            self.set_priority(task, priority, None)?;
        }
        match run_at {
            Some(run_at) => self.reschedule(task, run_at, None),
            None => Ok(Reply::Task { task, status: self.live.at(index).status }),
        }
    }

    fn delete(&mut self, task: TaskId, stored: Stored) -> Result<Reply, Refusal> {
        if let Some(index) = self.live.find(task) {
            let from = self.live.at(index).status;
            return Err(IllegalTransition { from, action: Action::Delete }.into());
        }
        let done = self.ended(task, stored)?;
        self.remove(done);
        Ok(Reply::Done)
    }

    fn purge(&mut self, task: TaskId, stored: Stored) -> Reply {
        if self.live.find(task).is_none()
            && let Some(done) = self.settling.done(task, stored)
        {
            if done.retain_until > self.now.wall {
                return Reply::Kept { until: done.retain_until };
            }
            self.remove(done);
        }
        Reply::Done
    }

    fn remove(&mut self, done: Arc<DoneRecord>) {
        self.settling.removed(done.id);
        self.step.mutations.push(Mutation::DeleteTask(done));
    }

    /// Pauses a queue, or resumes it. If a paused queue is paused by somebody else, or for another reason, the last
    /// one counts. A pause without a name and a reason leaves them as they are.
    pub(super) fn pause_queue(
        &mut self,
        name: &Name,
        pause: Option<Box<Pause>>,
    ) -> Result<Reply, Refusal> {
        if self.roster.find_queue(name).is_none() {
            self.check_new_queue()?;
            // Nothing uses the name unless the queue is paused now.
            self.roster.reclaimable += usize::from(pause.is_none());
        }
        let queue = self.roster.queue(name);
        let entry = &mut self.roster.queues[queue];
        let (was, paused) = (entry.paused, pause.is_some());
        let is_told_anew = pause.as_deref().is_some_and(|new| {
            let is_same = |old: &Pause| (&old.by, &old.note) == (&new.by, &new.note);
            let is_told = !new.by.is_empty() || !new.note.is_empty();
            is_told && !entry.pause.as_deref().is_some_and(is_same)
        });
        if was != paused || is_told_anew {
            (entry.paused, entry.pause) = (paused, pause.clone());
            let unknown = entry.unknown.clone();
            if paused || !unknown.is_empty() {
                let record = QueueRecord { paused, pause, unknown };
                self.step.mutations.push(Mutation::PutQueue(name.clone(), record));
            } else {
                // A record with only defaults would keep the name of the queue forever.
                self.step.mutations.push(Mutation::DeleteQueue(name.clone()));
            }
            if was && !paused {
                self.roster.reclaimable += 1;
                self.roster.wake_queue(queue);
            }
        }
        Ok(Reply::Queue(Box::new(self.counts(queue))))
    }

    fn find_live(
        &self,
        task: TaskId,
        action: Action,
        stored: Stored,
    ) -> Result<TaskIndex, Refusal> {
        match self.live.find(task) {
            Some(index) => Ok(index),
            None => {
                let from = self.ended(task, stored)?.status;
                Err(IllegalTransition { from, action }.into())
            }
        }
    }

    /// The record of a task that is not live.
    pub(super) fn ended(&self, task: TaskId, stored: Stored) -> Result<Arc<DoneRecord>, Refusal> {
        self.settling.done(task, stored).ok_or_else(|| {
            if self.is_set_aside(task) {
                Refusal::unreadable_live(task)
            } else {
                Refusal::UnknownTask
            }
        })
    }
}

/// Unknown fields of an ended task that a newer version wrote. Its record does not have the policy.
fn unknown_fields(done: &DoneRecord, spec: Option<&TaskSpec>) -> Option<Box<UnknownFields>> {
    let of_policy = spec.map(|spec| &spec.unknown_policy).filter(|fields| !fields.is_empty());
    let mut unknown = done.unknown.clone();
    if let Some(fields) = of_policy {
        unknown.get_or_insert_default().policy = fields.clone();
    }
    unknown
}
