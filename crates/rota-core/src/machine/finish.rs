//! The ends of attempts and of tasks.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Effect, Flags, Happened, Lease, Machine, Mutation, TaskIndex,
    clock::{self, Wakes},
    live::AttemptEnd,
    schedules::TickEnd,
};
use crate::{
    AttemptRecord, DoneRecord, Failure, FailureReason, LeaseEnd, RunAt, Status, WallTime,
    lifecycle::Action,
};

impl Machine {
    /// Ends the task for good. `attempt` is the end of its attempt, if it was leased.
    pub(super) fn finish(
        &mut self,
        index: TaskIndex,
        action: Action,
        failure: Option<Failure>,
        attempt: Option<AttemptEnd>,
    ) {
        let mut last_end = self.last_ends.remove(index);
        let mut has_result = false;
        let mut has_output = false;
        let mut last = None;
        let ran = self.ran(index);
        if let Some(end) = attempt {
            let lease = self.take_lease(index);
            last_end = end.reported.or(last_end);
            let id = self.live.at(index).id;
            let mut record = self.attempt_record(index, &lease, &end, failure.clone());
            if !record.output_tail.is_empty() {
                has_output = true;
                let whole = Mutation::PutAttempt(id, Box::new(record.clone()));
                self.step.mutations.push(whole);
                record.output_tail = Bytes::new();
            }
            if !end.result.is_empty() {
                has_result = true;
                self.step.mutations.push(Mutation::PutResult(id, end.result));
            }
            last = Some(record);
        }
        let status = self.advance(index, action).expect("the caller checked the transition");
        assert!(status.is_terminal(), "{action:?} does not end a task");
        self.note_end(index, status, failure.as_ref().map(|failure| failure.reason), ran);
        self.backoffs.remove(index);
        self.expiries.remove(index);
        self.last_failures.remove(index);
        let client_keys = self.client_keys.remove(index).unwrap_or_default();
        let edits = self.edits.remove(index).unwrap_or(0);
        let unknown = self.unknown.remove(index);
        let nominal = self.nominals.remove(index);
        let task = self.live.remove(index);
        let policy = *self.policies.at(task.policy);
        let retention = policy.retention.unwrap_or_else(|| self.retention.of(status));
        self.policies.release(task.policy);
        let lane = &self.roster.lanes[task.lane];
        let done = Arc::new(DoneRecord {
            id: task.id,
            queue: self.roster.queues[lane.queue].name.clone(),
            kind: self.roster.kinds[lane.kind].clone(),
            status,
            priority: task.priority,
            run_at: task.run_at,
            attempt: task.attempt,
            lost: task.lost.into(),
            failures: task.failures.into(),
            snoozes: task.snoozes.into(),
            edits,
            finished_at: self.now.wall,
            retain_until: self.now.wall + retention,
            last,
            failure,
            last_end,
            has_result,
            has_output,
            client_keys,
            unknown,
            nominal,
        });
        self.roster.drop_task(task.lane);
        if let Some(nominal) = nominal {
            // The counts of a retried task begin anew, but its attempts go on.
            let counted = done.lost + done.failures + done.snoozes;
            self.tick_ended(&TickEnd {
                task: task.id,
                id: done.client_keys.id.as_ref(),
                nominal,
                status,
                was_retried: status == Status::Failed && done.attempt > counted,
            });
        }
        self.settling.ended(done.clone(), policy);
        self.step.mutations.push(Mutation::DeleteLive(task.id));
        self.step.mutations.push(Mutation::PutDone(done));
        self.step.effects.push(Effect::Finished { task: task.id, status });
    }

    /// Fails the attempt. The task backs off, or ends if it has no attempts left.
    pub(super) fn fail_attempt(
        &mut self,
        index: TaskIndex,
        failure: Failure,
        retry_at: Option<WallTime>,
        end: AttemptEnd,
        random: u64,
    ) {
        let task = self.live.at_mut(index);
        if task.flags.has(Flags::CANCEL_REQUESTED) {
            self.finish(index, Action::Cancel, Some(failure), Some(end));
            return;
        }
        task.failures = task.failures.saturating_add(1);
        let failures = u32::from(task.failures);
        let retry = self.policies.at(task.policy).retry;
        if failure.reason == FailureReason::Permanent || failures >= retry.max_attempts {
            self.finish(index, Action::Fail, Some(failure), Some(end));
            return;
        }
        let ran = self.ran(index).unwrap_or_default();
        self.note(index, Happened::Retried { ran });
        self.end_attempt(index, &end, Some(failure));
        self.advance(index, Action::BackOff).expect("the lease was checked");
        self.live.at_mut(index).flags.set(Flags::BACKING_OFF);
        if let Some(retry_at) = retry_at {
            self.wait_until(index, retry_at.max(self.now.wall));
        } else {
            let delay = retry.backoff(failures, random);
            let due = self.now.mono + delay;
            self.live.at_mut(index).run_at = self.now.wall + delay;
            self.backoffs.insert(index, due);
            self.delays.insert(due.0, index);
        }
        self.wait_again(index);
    }

    /// Puts the task off, which spends no attempt. An attempt beyond the limit of snoozes fails instead.
    pub(super) fn snooze_attempt(
        &mut self,
        index: TaskIndex,
        until: RunAt,
        end: AttemptEnd,
        random: u64,
    ) {
        let task = self.live.at_mut(index);
        if task.flags.has(Flags::CANCEL_REQUESTED) {
            let failure = Failure::new(FailureReason::Cancelled, "cancelled");
            self.finish(index, Action::Cancel, Some(failure), Some(end));
            return;
        }
        let most = self.policies.at(task.policy).retry.max_snoozes;
        if u32::from(task.snoozes) >= most {
            let message = format!("snoozed more than retry.max_snoozes ({most}) times");
            let failure = Failure::new(FailureReason::Error, &message);
            self.fail_attempt(index, failure, None, end, random);
            return;
        }
        task.snoozes = task.snoozes.saturating_add(1);
        let ran = self.ran(index).unwrap_or_default();
        self.note(index, Happened::Snoozed { ran });
        let until = until.resolve(self.now.wall).max(self.now.wall);
        self.end_attempt(index, &AttemptEnd { snoozed_until: Some(until), ..end }, None);
        self.advance(index, Action::Snooze).expect("the lease was checked");
        self.live.at_mut(index).flags.set(Flags::SNOOZED);
        self.wait_until(index, until);
        self.wait_again(index);
    }

    /// Handles a lost worker. The task goes to another worker, unless it has lost too many.
    pub(super) fn lose_attempt(&mut self, index: TaskIndex, message: &str) {
        self.note(index, Happened::Lost);
        let failure = Failure::new(FailureReason::WorkerLost, message);
        let task = self.live.at_mut(index);
        if task.flags.has(Flags::CANCEL_REQUESTED) {
            self.finish(index, Action::Cancel, Some(failure), Some(AttemptEnd::default()));
            return;
        }
        task.lost = task.lost.saturating_add(1);
        let lost = u32::from(task.lost);
        if lost > self.policies.at(task.policy).retry.max_lost {
            self.finish(index, Action::Fail, Some(failure), Some(AttemptEnd::default()));
            return;
        }
        self.end_attempt(index, &AttemptEnd::default(), Some(failure));
        self.advance(index, Action::Requeue).expect("the lease was checked");
        self.live.at_mut(index).flags.set(Flags::CAME_BACK);
        self.wait_again(index);
    }

    /// Takes the task back unprocessed.
    pub(super) fn release_attempt(&mut self, index: TaskIndex) {
        if self.live.at(index).flags.has(Flags::CANCEL_REQUESTED) {
            let failure = Failure::new(FailureReason::Cancelled, "cancelled before it started");
            let released = LeaseEnd::released(self.leases[&index].token);
            let end = AttemptEnd { reported: Some(released), ..AttemptEnd::default() };
            self.finish(index, Action::Cancel, Some(failure), Some(end));
            return;
        }
        let lease = self.take_lease(index);
        self.last_ends.insert(index, LeaseEnd::released(lease.token));
        self.live.at_mut(index).attempt -= 1;
        self.note(index, Happened::Released);
        self.touch(index);
        self.advance(index, Action::Release).expect("the lease was checked");
        self.live.at_mut(index).flags.set(Flags::CAME_BACK);
        self.wait_again(index);
    }

    /// Ends an attempt of a task that stays live.
    fn end_attempt(&mut self, index: TaskIndex, end: &AttemptEnd, failure: Option<Failure>) {
        let lease = self.take_lease(index);
        if let Some(reported) = end.reported {
            self.last_ends.insert(index, reported);
        }
        if let Some(failure) = failure.as_ref().filter(|_| self.expiries.contains(index)) {
            self.last_failures.insert(index, failure.message.clone());
        }
        let record = self.attempt_record(index, &lease, end, failure);
        let id = self.live.at(index).id;
        self.step.mutations.push(Mutation::PutAttempt(id, Box::new(record)));
        self.touch(index);
    }

    fn attempt_record(
        &self,
        index: TaskIndex,
        lease: &Lease,
        end: &AttemptEnd,
        failure: Option<Failure>,
    ) -> AttemptRecord {
        AttemptRecord {
            attempt: self.live.at(index).attempt,
            token: lease.token,
            worker: self.sessions.at(lease.session).worker.clone(),
            assigned_at: lease.assigned_at,
            started_at: end.started_at.or(lease.started_at),
            ended_at: Some(self.now.wall),
            failure,
            snoozed_until: end.snoozed_until,
            output_tail: end.output_tail.clone(),
            unknown: Bytes::new(),
        }
    }

    /// Removes the lease of a task, and frees the slot of its session.
    fn take_lease(&mut self, index: TaskIndex) -> Lease {
        let lease = self.leases.remove(&index).expect("a leased task has a lease");
        self.sessions.at_mut(lease.session).tasks.remove(&index);
        self.note_idle(lease.session);
        lease
    }

    /// Makes a task wait again. The timer of its start deadline may have fired while a worker held it.
    fn wait_again(&mut self, index: TaskIndex) {
        if let Some(date) = self.expiries.get(index) {
            self.dates.insert(clock::date(*date), Wakes::Task(index));
            self.expire_if_over(index);
        }
    }

    /// Expires a waiting task if its start deadline is over. Returns whether it did.
    pub(super) fn expire_if_over(&mut self, index: TaskIndex) -> bool {
        let over = self.expiries.get(index).is_some_and(|date| *date <= self.now.wall);
        let waits = matches!(self.live.at(index).status, Status::Scheduled | Status::Pending);
        if over && waits {
            let message = match self.last_failures.get(index) {
                Some(last) => {
                    format!("not started again by expires_at; the last attempt failed: {last}")
                }
                None => "not started by expires_at".to_owned(),
            };
            let failure = Failure::new(FailureReason::Expired, &message);
            self.finish(index, Action::Expire, Some(failure), None);
        }
        over && waits
    }
}
