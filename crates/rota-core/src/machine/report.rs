//! Reports of workers on their tasks.

use super::{
    AttemptOutcome, Flags, Machine, Mutation, Refusal, Reply, Report, Stored, TIMEOUT_GRACE,
    TaskIndex, live::AttemptEnd,
};
use crate::{
    EndKind, Failure, FailureReason, LeaseEnd, LeaseToken, Status, TaskId, lifecycle::Action,
};

impl Machine {
    pub(super) fn report(
        &mut self,
        task: TaskId,
        token: LeaseToken,
        report: Report,
        end: Option<LeaseEnd>,
        random: u64,
        stored: Stored,
    ) -> Result<Reply, Refusal> {
        let Some(index) = self.live.find(task) else {
            let done = self.ended(task, stored)?;
            return accept_repeated(token, end, done.last_end);
        };
        let Some(lease) = self.leases.get(&index).filter(|lease| lease.token == token) else {
            return accept_repeated(token, end, self.last_ends.get(index).copied());
        };
        self.heard_of(lease.session);
        match report {
            Report::Started { at } => self.start(index, at),
            Report::Progress { message } => {
                let lease = self.leases.get_mut(&index).expect("looked up above");
                lease.progress = Some(message);
            }
            Report::Released => self.release_attempt(index),
            Report::SetAside => self.release_and_set_aside(index),
            Report::Ended { started_at, output_tail, outcome } => {
                let end =
                    AttemptEnd { started_at, output_tail, reported: end, ..AttemptEnd::default() };
                self.end(index, outcome, end, random);
            }
        }
        Ok(Reply::Done)
    }

    /// Writes the task as waiting, for a later leader that can read its definition.
    fn release_and_set_aside(&mut self, index: TaskIndex) {
        let task = self.live.at(index).id;
        self.release_attempt(index);
        // A task that was to be cancelled, or has expired, ends here.
        let Some(index) = self.live.find(task) else { return };
        let record = Box::new(self.record_of(index));
        let queue = record.queue.clone();
        self.step.mutations.push(Mutation::PutLive(record));
        self.forget_task(task);
        self.set_aside(task, Some(&queue));
    }

    fn start(&mut self, index: TaskIndex, at: crate::WallTime) {
        if self.live.at(index).status == Status::Assigned {
            self.advance(index, Action::Start).expect("assigned");
        }
        let stopping = self.live.at(index).flags.has(Flags::CANCEL_REQUESTED);
        let timeout = self.policies.at(self.live.at(index).policy).timeout;
        let lease = self.leases.get_mut(&index).expect("the caller looked it up");
        if lease.started_at.is_none() {
            lease.started_at = Some(at);
            if !stopping {
                lease.deadline = self.now.mono + timeout + TIMEOUT_GRACE;
            }
        }
    }

    fn end(&mut self, index: TaskIndex, outcome: AttemptOutcome, end: AttemptEnd, random: u64) {
        match outcome {
            AttemptOutcome::Completed { result } => {
                self.finish(index, Action::Complete, None, Some(AttemptEnd { result, ..end }));
            }
            AttemptOutcome::Failed { failure, retry_at } => {
                self.fail_attempt(index, failure, retry_at, end, random);
            }
            AttemptOutcome::Snoozed { until } => self.snooze_attempt(index, until, end, random),
            AttemptOutcome::Cancelled => {
                if self.live.at(index).flags.has(Flags::CANCEL_REQUESTED) {
                    let failure = Failure::new(FailureReason::Cancelled, "cancelled");
                    self.finish(index, Action::Cancel, Some(failure), Some(end));
                } else {
                    let failure = Failure::new(
                        FailureReason::Error,
                        "the worker stopped the attempt without a request to cancel",
                    );
                    self.fail_attempt(index, failure, None, end, random);
                }
            }
        }
    }
}

impl Report {
    /// The end of the lease by this report. `None` if the report does not end it.
    pub(super) fn end(&self, token: LeaseToken, fingerprint: u64) -> Option<LeaseEnd> {
        match self {
            Self::Ended { outcome, .. } => {
                Some(LeaseEnd { token, kind: outcome.kind(), fingerprint })
            }
            Self::Released | Self::SetAside => Some(LeaseEnd::released(token)),
            Self::Started { .. } | Self::Progress { .. } => None,
        }
    }
}

impl AttemptOutcome {
    fn kind(&self) -> EndKind {
        match self {
            Self::Completed { .. } => EndKind::Completed,
            // The fingerprint distinguishes them. Versions without snoozing know no other kind.
            Self::Failed { .. } | Self::Snoozed { .. } => EndKind::Failed,
            Self::Cancelled => EndKind::Cancelled,
        }
    }
}

/// Accepts a report on an ended lease if it repeats the accepted report.
fn accept_repeated(
    token: LeaseToken,
    said: Option<LeaseEnd>,
    last_end: Option<LeaseEnd>,
) -> Result<Reply, Refusal> {
    if said.is_some() && said == last_end {
        return Ok(Reply::Done);
    }
    Err(Refusal::StaleLease { token })
}
