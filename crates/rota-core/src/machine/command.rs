//! Commands: what clients, workers and retention ask of the machine. `manage` has those on one existing task.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    manage::TaskCommand,
    reply::{LeaseId, Stored},
};
use crate::{
    Backfill, CalendarRecord, Failure, LeaseToken, Millis, MonoTime, Name, Pause, Priority, RunAt,
    ScheduleRecord, SessionId, TaskId, TaskSpec, WallTime,
};

/// A command of a client, a worker or retention.
#[derive(Debug, Clone)]
pub enum Command {
    /// Creates a task.
    Submit(Box<Submit>),
    /// A command on one existing task.
    Task {
        task: TaskId,
        command: TaskCommand,
        /// The stored record, if the task is not live.
        stored: Stored,
    },
    /// Pauses a queue, or resumes it without a pause.
    PauseQueue { queue: Name, pause: Option<Box<Pause>> },
    /// Removes the record of a tick, if its retention is over.
    PurgeTick {
        schedule: Name,
        /// The nominal time in the key of the record.
        first: WallTime,
        /// The end of its retention, as stored. `None` while the tick waits for its turn.
        retain_until: Option<WallTime>,
    },
    /// Creates a schedule, or replaces its definition.
    PutSchedule(Box<PutSchedule>),
    /// Deletes a schedule. Its tasks and the records of its ticks stay.
    DeleteSchedule {
        schedule: Name,
        /// The version that the client saw last. Another one is a conflict.
        if_version: Option<u32>,
    },
    /// Pauses a schedule, or resumes it (`None`).
    PauseSchedule { schedule: Name, pause: Option<Pause> },
    /// Skips a coming tick, or takes that back.
    SkipTick { schedule: Name, nominal: WallTime, skip: bool },
    /// Begins a backfill, or cancels the one that is under way (`None`).
    Backfill { schedule: Name, backfill: Option<Box<Backfill>> },
    /// Creates a calendar, or replaces it.
    PutCalendar {
        /// The new record. The machine sets its version and its times.
        record: Box<CalendarRecord>,
        /// The version that the client saw last. Another one is a conflict. 0 means that there must be none.
        if_version: Option<u32>,
    },
    /// Deletes a calendar that no schedule uses.
    DeleteCalendar {
        calendar: Name,
        /// The version that the client saw last. Another one is a conflict.
        if_version: Option<u32>,
    },
    /// Opens the session of a worker, or resumes it.
    OpenSession(Box<OpenSession>),
    /// A heartbeat of a worker.
    Heartbeat {
        session: SessionId,
        /// The connection of the heartbeat, `None` for any. Ignored if the worker has reconnected since.
        connection: Option<u64>,
        /// When it was received, which may be some time ago.
        at: MonoTime,
    },
    /// The number of tasks that a worker is ready for.
    SetCredit {
        session: SessionId,
        /// See `Heartbeat`.
        connection: Option<u64>,
        credit: Credit,
    },
    /// The connection of a worker broke. The session gets no tasks until the worker reconnects, and keeps its
    /// leases until its TTL is over.
    Detach {
        session: SessionId,
        /// The broken connection. Ignored if the worker has reconnected since.
        connection: u64,
    },
    /// Drains a session: it gets no more tasks.
    Drain { session: SessionId },
    /// Closes a session.
    CloseSession {
        session: SessionId,
        /// See `Heartbeat`.
        connection: Option<u64>,
    },
    /// A report of a worker on a task.
    Report {
        task: TaskId,
        token: LeaseToken,
        report: Report,
        /// A hash of the report from the caller, to distinguish a repeat from another report.
        fingerprint: u64,
        /// A random number from the caller, for the jitter of a backoff.
        random: u64,
        /// The stored record, if the task is not live, to acknowledge a repeated report again.
        stored: Stored,
    },
}

/// A new task.
#[derive(Debug, Clone)]
pub struct Submit {
    /// The definition, with id, client id and idempotency key.
    pub spec: Arc<TaskSpec>,
    pub priority: Priority,
    /// Earliest start time. A time in the past means now.
    pub run_at: WallTime,
    /// Owners of its client keys in the store.
    pub key_owners: KeyOwners,
}

/// Who owns the client keys of a new task, as the store has it.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyOwners {
    pub id: Option<KeyOwner>,
    pub key: Option<KeyOwner>,
}

/// The task that owns a client key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyOwner {
    pub task: TaskId,
    /// The fingerprint of its submission.
    pub fingerprint: u64,
}

/// A schedule to create or replace.
#[derive(Debug, Clone)]
pub struct PutSchedule {
    /// The new record. The machine sets its version and its times.
    pub record: ScheduleRecord,
    /// The version that the client saw last. Another one is a conflict. 0 means that there must be none.
    pub if_version: Option<u32>,
}

/// A worker that opens or resumes a session.
#[derive(Debug, Clone)]
pub struct OpenSession {
    /// A new random id, or that of the session to resume.
    pub session: SessionId,
    pub worker: Name,
    /// Queues to serve. Empty means all.
    pub queues: Vec<Name>,
    /// Kinds to serve. Empty means all.
    pub kinds: Vec<Name>,
    /// Maximum number of tasks that it holds.
    pub slots: u32,
    /// The number of tasks that it is ready for.
    pub credit: Credit,
    /// Time without a heartbeat after which the session ends.
    pub ttl: Millis,
    /// The connection of the worker.
    pub connection: u64,
    /// The leases that the worker still holds. Other leases of the session are sent again. `None` if the
    /// worker cannot say, so nothing is sent again.
    pub held: Option<Vec<LeaseId>>,
}

/// The number of tasks that a worker is ready for, limited by its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    /// A number to hold, including those that it holds. Ended tasks are replaced.
    Hold(u32),
    /// A number of additional tasks. Ended tasks are not replaced.
    Take(u32),
}

/// A report of a worker on a task that it holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The handler started. Soft state: only this leader knows it.
    Started { at: WallTime },
    /// Progress of the handler. Soft state.
    Progress { message: Arc<str> },
    /// The attempt ended.
    Ended {
        /// Start of the handler, by the worker's clock.
        started_at: Option<WallTime>,
        /// The end of its output.
        output_tail: Bytes,
        outcome: AttemptOutcome,
    },
    /// The worker returns the task unprocessed.
    Released,
    /// This version cannot read the definition, because a newer one wrote it. The task waits for a leader
    /// that can. Sent by the engine, not by workers.
    SetAside,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptOutcome {
    /// The handler succeeded.
    Completed {
        /// The result of the handler. Empty for none.
        result: Bytes,
    },
    /// The handler failed.
    Failed {
        /// The failure. [`FailureReason::Permanent`](crate::FailureReason::Permanent) is not retried.
        failure: Failure,
        /// Time of the next attempt, instead of the backoff.
        retry_at: Option<WallTime>,
    },
    /// The handler put the task off. This spends no attempt.
    Snoozed {
        /// Time until which it waits.
        until: RunAt,
    },
    /// The attempt was stopped, as the server asked.
    Cancelled,
}

impl TaskCommand {
    /// The command on this task, without the stored record.
    #[must_use]
    pub fn on(self, task: TaskId) -> Command {
        Command::Task { task, command: self, stored: None }
    }
}
