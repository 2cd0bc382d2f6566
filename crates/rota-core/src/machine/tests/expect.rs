//! What the machine must answer to a command, worked out from the world's own books.

use super::{
    say::is_end,
    world::{Accepted, World},
};
use crate::{
    Action, Command, Edit, LeaseToken, Name, Refusal, Reply, Report, Status, Submit, TaskCommand,
    TaskId, WallTime, lifecycle::transition,
};

/// What must be answered.
#[derive(Debug)]
pub(super) enum Expected {
    Anything,
    Done,
    DoneOrKept,
    NewTask,
    Repeat(TaskId),
    Conflict(TaskId),
    Task(Status),
    Unknown,
    Illegal(Status, Action),
    Refused,
}

impl Expected {
    pub(super) fn check(&self, command: &Command, reply: &Result<Reply, Refusal>) {
        let as_expected = match (self, reply) {
            (Self::Anything, _)
            | (Self::Done | Self::DoneOrKept, Ok(Reply::Done))
            | (Self::DoneOrKept, Ok(Reply::Kept { .. }))
            | (Self::NewTask, Ok(Reply::Submitted { created: true, .. }))
            | (Self::NewTask, Err(Refusal::TooManyNames { .. }))
            | (Self::Unknown, Err(Refusal::UnknownTask)) => true,
            (Self::Repeat(known), Ok(Reply::Submitted { task, created: false }))
            | (Self::Conflict(known), Err(Refusal::Conflict { task, .. })) => known == task,
            (
                Self::Task(expected),
                Ok(Reply::Task { status, .. } | Reply::Unchanged { status, .. }),
            ) => expected == status,
            (Self::Illegal(from, action), Err(Refusal::Illegal(illegal))) => {
                (*from, *action) == (illegal.from, illegal.action)
            }
            (Self::Refused, Err(refusal)) => !matches!(
                refusal,
                Refusal::UnknownTask | Refusal::Illegal(_) | Refusal::Conflict { .. }
            ),
            _ => false,
        };
        assert!(as_expected, "{command:?}: expected {self:?}, got {reply:?}");
    }
}

impl World {
    /// What the machine must answer, by the world's own books.
    pub(super) fn expected(&self, command: &Command) -> Expected {
        match command {
            Command::Submit(submit) => self.expected_of_submit(submit),
            Command::Task { task, command, .. } => self.expected_of_task(*task, command),
            Command::Report { task, token, report, .. } => {
                self.expected_of_report(*task, *token, report)
            }
            Command::Heartbeat { session, .. }
            | Command::SetCredit { session, .. }
            | Command::Detach { session, .. }
            | Command::Drain { session }
            | Command::CloseSession { session, .. } => {
                if self.machine.session(*session).is_some() {
                    Expected::Done
                } else {
                    Expected::Refused
                }
            }
            // The tests of schedules judge what becomes of these.
            Command::PutSchedule(_)
            | Command::DeleteSchedule { .. }
            | Command::PauseSchedule { .. }
            | Command::SkipTick { .. }
            | Command::Backfill { .. }
            | Command::PurgeTick { .. }
            | Command::PutCalendar { .. }
            | Command::DeleteCalendar { .. }
            | Command::PauseQueue { .. }
            | Command::OpenSession(_) => Expected::Anything,
        }
    }

    fn expected_of_submit(&self, submit: &Submit) -> Expected {
        let known = self.newest.key_owners(&submit.spec.client_keys);
        match known.id.or(known.key) {
            Some(known) if known.fingerprint == submit.spec.fingerprint => {
                Expected::Repeat(known.task)
            }
            Some(known) => Expected::Conflict(known.task),
            None if self.is_dead_by(
                submit.run_at.max(self.now.wall),
                submit.spec.definition.expires_at,
            ) =>
            {
                Expected::Refused
            }
            None if self.is_full(&submit.spec.definition.queue) => Expected::Refused,
            None => Expected::NewTask,
        }
    }

    fn expiry(&self, task: TaskId) -> Option<WallTime> {
        let index = self.machine.live.find(task)?;
        self.machine.expiries.get(index).copied()
    }

    /// Whether a task that is due at that date would have expired by then.
    fn is_dead_by(&self, run_at: WallTime, expires_at: Option<WallTime>) -> bool {
        expires_at.is_some_and(|expires_at| expires_at <= run_at)
    }

    fn is_full(&self, queue: &Name) -> bool {
        let live = self.snapshot.live_in(queue);
        live >= self.limits.queue_length_max
    }

    fn expected_of_task(&self, task: TaskId, command: &TaskCommand) -> Expected {
        let illegal = |from, action| Expected::Illegal(from, action);
        let status = self.status(task);
        match command {
            TaskCommand::Cancel => match status {
                None => Expected::Unknown,
                Some(from) if from.is_leased() => Expected::Task(from),
                Some(Status::Cancelled) => Expected::Task(Status::Cancelled),
                Some(from) if from.is_terminal() => illegal(from, Action::Cancel),
                Some(_) => Expected::Task(Status::Cancelled),
            },
            TaskCommand::Retry { .. } => match status {
                None => Expected::Unknown,
                Some(from) if transition(from, Action::Retry).is_err() => {
                    illegal(from, Action::Retry)
                }
                Some(_) if self.is_full(&self.newest.specs[&task].definition.queue) => {
                    Expected::Refused
                }
                Some(_) => Expected::Task(Status::Pending),
            },
            TaskCommand::Reschedule { run_at } => match status {
                None => Expected::Unknown,
                Some(from) if transition(from, Action::Postpone).is_err() => {
                    illegal(from, Action::Postpone)
                }
                Some(_) if *run_at <= self.now.wall => Expected::Task(Status::Pending),
                Some(_)
                    if *run_at > self.now.wall && self.is_dead_by(*run_at, self.expiry(task)) =>
                {
                    Expected::Refused
                }
                Some(_) => Expected::Task(Status::Scheduled),
            },
            TaskCommand::SetPriority(_) => match status {
                None => Expected::Unknown,
                Some(from) if transition(from, Action::Reprioritize).is_err() => {
                    illegal(from, Action::Reprioritize)
                }
                Some(from) => Expected::Task(from),
            },
            TaskCommand::Edit(edit) => self.expected_of_edit(edit, status),
            TaskCommand::Delete => match status {
                None => Expected::Unknown,
                Some(from) if !from.is_terminal() => illegal(from, Action::Delete),
                Some(_) => Expected::Done,
            },
            TaskCommand::Purge => Expected::DoneOrKept,
        }
    }

    fn expected_of_edit(&self, edit: &Edit, status: Option<Status>) -> Expected {
        let Some(from) = status else { return Expected::Unknown };
        if transition(from, Action::Edit).is_err() {
            return Expected::Illegal(from, Action::Edit);
        }
        let view = self.machine.task(edit.spec.id).expect("what can be changed is live");
        let due = edit.run_at.unwrap_or(view.run_at).max(self.now.wall);
        let expires_at = edit.spec.definition.expires_at;
        let is_same = edit.run_at.is_none() && self.expiry(edit.spec.id) == expires_at;
        if view.edits != edit.edits || !is_same && self.is_dead_by(due, expires_at) {
            return Expected::Refused;
        }
        Expected::Task(match edit.run_at {
            None => from,
            Some(run_at) if run_at <= self.now.wall => Status::Pending,
            Some(_) => Status::Scheduled,
        })
    }

    fn expected_of_report(&self, task: TaskId, token: LeaseToken, report: &Report) -> Expected {
        if self.status(task).is_none() {
            return Expected::Unknown;
        }
        let current = self.machine.task(task).and_then(|view| view.lease);
        if current.is_some_and(|lease| lease.token == token) {
            return Expected::Done;
        }
        let repeated = self.accepted.get(&task) == Some(&Accepted::of(token, report));
        if is_end(report) && repeated { Expected::Done } else { Expected::Refused }
    }
}
