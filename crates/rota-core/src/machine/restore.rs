//! Loads records into the machine of a new leader or a follower, and writes records.

use super::{
    Admission, CANCEL_GRACE, Flags, Lease, Machine, Mutation, TIMEOUT_GRACE, TaskIndex,
    index::SessionIndex, session::Session,
};
use crate::{LeaseRecord, LiveRecord, Name, QueueRecord, Status, TaskId, lifecycle::Action};

impl Machine {
    /// Loads the settings of a queue. Only before the first step.
    pub fn restore_queue(&mut self, name: &Name, record: QueueRecord) {
        if !record.paused && record.unknown.is_empty() {
            // Older versions wrote records with only defaults.
            self.step.mutations.push(Mutation::DeleteQueue(name.clone()));
            return;
        }
        let queue = self.roster.queue(name);
        let entry = &mut self.roster.queues[queue];
        (entry.paused, entry.pause, entry.unknown) = (record.paused, record.pause, record.unknown);
    }

    /// Loads a live task. Only before the first step. Waiting tasks keep the order in which they are loaded.
    /// A session that holds a task has its TTL from now to reconnect.
    pub fn restore_task(&mut self, record: &LiveRecord) {
        let index = self.admit(Admission {
            id: record.id,
            queue: &record.queue,
            kind: &record.kind,
            policy: record.policy,
            priority: record.priority,
            run_at: record.run_at,
            attempt: record.attempt,
            lost: record.lost,
            failures: record.failures,
            snoozes: record.snoozes,
            edits: record.edits,
            client_keys: &record.client_keys,
            expires_at: record.expires_at,
            last_end: record.last_end,
            unknown: record.unknown.clone(),
            nominal: record.nominal,
        });
        for (flag, set) in
            [(Flags::CANCEL_REQUESTED, record.cancel_requested), (Flags::SNOOZED, record.snoozed)]
        {
            if set {
                self.live.at_mut(index).flags.set(flag);
            }
        }
        match &record.lease {
            Some(lease) => self.restore_lease(index, lease),
            None if record.backing_off => self.restore_backoff(index),
            // The task was already due. A clock that is behind does not change that.
            None if record.status == Status::Pending => self.make_due(index),
            None => self.wait_until(index, record.run_at),
        }
    }

    /// Undoes [`Machine::restore_task`], because the record of the task has changed or is gone. Nothing is
    /// written.
    pub fn forget_task(&mut self, task: TaskId) {
        let Some(index) = self.live.find(task) else { return };
        if let Some(lease) = self.leases.remove(&index) {
            self.advance(index, Action::BackOff).expect("a leased task can back off");
            self.forget_lease(index, lease.session);
        } else {
            self.advance(index, Action::Postpone).expect("a task without a lease can wait");
        }
        self.backoffs.remove(index);
        self.expiries.remove(index);
        self.last_failures.remove(index);
        self.client_keys.remove(index);
        self.last_ends.remove(index);
        self.edits.remove(index);
        self.unknown.remove(index);
        self.nominals.remove(index);
        let task = self.live.remove(index);
        self.policies.release(task.policy);
        let queue = self.roster.lanes[task.lane].queue;
        self.roster.queues[queue].scheduled -= 1;
        self.roster.drop_task(task.lane);
    }

    /// Removes a restored session that has no more leases.
    fn forget_lease(&mut self, index: TaskIndex, session: SessionIndex) {
        let held = self.sessions.at_mut(session);
        held.tasks.remove(&index);
        if held.tasks.is_empty() {
            let session = self.sessions.remove(session);
            self.roster.detach(session.subscription);
        }
    }

    /// Registers a live task whose record cannot be read. Its queue counts it, if the queue is known.
    pub fn set_aside(&mut self, task: TaskId, queue: Option<&Name>) {
        self.unreadable.insert(task);
        if let Some(queue) = queue {
            let queue = self.roster.queue(queue);
            self.roster.queues[queue].unreadable += 1;
        }
    }

    /// The rest of a backoff at the time of the record is measured with the monotonic clock from here on. A rest that
    /// is longer than any backoff is a date: the handler chose the time, or the wall clock is behind and will be set.
    fn restore_backoff(&mut self, index: TaskIndex) {
        let task = self.live.at(index);
        let (run_at, longest) = (task.run_at, self.policies.at(task.policy).retry.max);
        let left = run_at.since(self.now.wall);
        self.live.at_mut(index).flags.set(Flags::BACKING_OFF);
        if left > longest {
            self.wait_until(index, run_at);
            return;
        }
        let due = self.now.mono + left;
        self.backoffs.insert(index, due);
        self.delays.insert(due.0, index);
    }

    fn restore_lease(&mut self, index: TaskIndex, record: &LeaseRecord) {
        let session = self.await_session(record);
        self.make_due(index);
        self.advance(index, Action::Assign).expect("just made pending");
        let timeout = self.policies.at(self.live.at(index).policy).timeout;
        let mut deadline = self.now.mono + timeout + TIMEOUT_GRACE;
        if self.live.at(index).flags.has(Flags::CANCEL_REQUESTED) {
            deadline = deadline.min(self.now.mono + record.session_ttl + CANCEL_GRACE);
        }
        self.deadlines.insert(deadline.0, index);
        let lease = Lease {
            session,
            token: record.token,
            assigned_at: record.assigned_at,
            session_ttl: record.session_ttl,
            started_at: None,
            deadline,
            progress: None,
        };
        self.leases.insert(index, lease);
        self.sessions.at_mut(session).tasks.insert(index);
    }

    /// The session that holds a restored lease.
    fn await_session(&mut self, record: &LeaseRecord) -> SessionIndex {
        if let Some(index) = self.sessions.find(record.session) {
            // The worker may have reconnected with another TTL between two of its tasks.
            let session = self.sessions.at_mut(index);
            session.ttl = session.ttl.max(record.session_ttl);
            return index;
        }
        let subscription = self.roster.subscription(&[], &[]);
        self.roster.attach(subscription);
        let session = Session::new(record.session, record.worker.clone(), subscription, self.now);
        let index = self.sessions.insert(Session { ttl: record.session_ttl, ..session });
        self.heard_of(index);
        index
    }

    /// The record of the task.
    pub(super) fn record_of(&self, index: TaskIndex) -> LiveRecord {
        let task = self.live.at(index);
        let lane = &self.roster.lanes[task.lane];
        let lease = self.leases.get(&index).map(|lease| {
            let session = self.sessions.at(lease.session);
            LeaseRecord {
                session: session.id,
                token: lease.token,
                worker: session.worker.clone(),
                assigned_at: lease.assigned_at,
                session_ttl: lease.session_ttl,
            }
        });
        LiveRecord {
            id: task.id,
            queue: self.roster.queues[lane.queue].name.clone(),
            kind: self.roster.kinds[lane.kind].clone(),
            status: match task.status {
                Status::Running => Status::Assigned,
                status => status,
            },
            priority: task.priority,
            run_at: task.run_at,
            expires_at: self.expiries.get(index).copied(),
            attempt: task.attempt,
            lost: task.lost.into(),
            failures: task.failures.into(),
            snoozes: task.snoozes.into(),
            edits: self.edits.get(index).copied().unwrap_or(0),
            backing_off: task.flags.has(Flags::BACKING_OFF),
            snoozed: task.flags.has(Flags::SNOOZED),
            lease,
            cancel_requested: task.flags.has(Flags::CANCEL_REQUESTED),
            last_end: self.last_ends.get(index).copied(),
            policy: *self.policies.at(task.policy),
            client_keys: self.client_keys.get(index).cloned().unwrap_or_default(),
            unknown: self.unknown.get(index).cloned(),
            nominal: self.nominals.get(index).copied(),
        }
    }
}
