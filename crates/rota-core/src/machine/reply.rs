//! What a command comes to: the reply or the refusal, changes to make durable, and effects.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    AttemptRecord, CalendarRecord, DoneRecord, LeaseToken, LiveRecord, Name, QueueRecord,
    RefusedReason, ScheduleRecord, ScheduleState, SessionId, TaskId, TaskSpec, TickRecord,
    WallTime,
    lifecycle::{IllegalTransition, Status},
};

/// The stored record of a command's task. The caller reads it if the machine [needs
/// it](crate::Machine::wants_stored).
pub type Stored = Option<Arc<DoneRecord>>;

/// The result of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Done, without further information.
    Done,
    /// Retention must wait.
    Kept {
        /// Time at which the task can be removed.
        until: WallTime,
    },
    /// The task exists.
    Submitted {
        /// The new task, or the one that it repeats.
        task: TaskId,
        /// Whether it is new.
        created: bool,
    },
    /// The status of the task after the command.
    Task { task: TaskId, status: Status },
    /// The task is as the command asks, and was before: nothing changed.
    Unchanged { task: TaskId, status: Status },
    /// The state of a queue after the command.
    Queue(Box<super::QueueCounts>),
    /// The schedule or the calendar is as the command says.
    Schedule { version: u32, change: Change },
    /// A session is open.
    Session {
        session: SessionId,
        /// The leases in `held` that the session no longer has.
        revoked: Vec<LeaseId>,
    },
}

/// What a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Created,
    Replaced,
    /// The schedule was already so.
    None,
}

/// Why a command was refused. A refused command changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such task.
    #[error("no such task")]
    UnknownTask,
    /// The status of the task does not allow the action.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The client id or idempotency key belongs to a task with different content.
    #[error("this {field} belongs to a task with different content")]
    Conflict {
        /// `id` or `idempotency_key`.
        field: &'static str,
        /// The existing task.
        task: TaskId,
    },
    /// The queue has reached its limit of live tasks.
    #[error("queue {queue} is full: it has {limit} tasks, which is the limit")]
    QueueFull { queue: Name, limit: u64 },
    /// A limit on the number of queues, kinds or sessions is reached.
    #[error("too many {what}: the limit is {limit}")]
    TooManyNames {
        /// `queues`, `kinds`, …
        what: &'static str,
        limit: u64,
    },
    /// The lease has ended, or the task has another lease.
    #[error("the lease {token} on the task is no longer valid")]
    StaleLease {
        /// The token of the report.
        token: LeaseToken,
    },
    /// The task was changed since the client last read it.
    #[error("the task has another version now: {version}")]
    VersionConflict {
        /// The current version. 1 for a task that was never changed.
        version: u32,
    },
    /// The new task would expire before it could run.
    #[error(
        "expires_at must be after the time at which the task is due; otherwise it expires before it can run"
    )]
    ExpiresBeforeDue {
        /// The requested start deadline.
        expires_at: WallTime,
    },
    /// The task would expire before its new time.
    #[error("{field} must be before expires_at; otherwise the task expires before it can run")]
    DueAfterExpiry {
        /// `run_at` or `delay`.
        field: &'static str,
        /// The start deadline of the task.
        expires_at: WallTime,
    },
    /// There is no such schedule.
    #[error("no such schedule")]
    UnknownSchedule,
    /// The schedule or the calendar was changed since the client last read it.
    #[error("it has another version now: {version}, not {wanted}")]
    ScheduleVersion {
        /// The version that the client saw last.
        wanted: u32,
        /// The current version. 0 if there is no such schedule or calendar.
        version: u32,
    },
    /// A schedule uses the calendar.
    #[error("the schedule {schedule} uses this calendar")]
    CalendarInUse {
        /// One of the schedules.
        schedule: Name,
    },
    /// A backfill of the schedule is under way.
    #[error("a backfill of this schedule is under way")]
    BackfillUnderWay,
    /// No backfill of the schedule is under way.
    #[error("no backfill of this schedule is under way")]
    NoBackfill,
    /// A node of an older version could not go on with schedules.
    #[error(
        "schedules need feature level {needed}, and the cluster has {level} so far: it has just started, or a node \
         has an older version"
    )]
    FeatureLevel {
        /// The level that schedules need.
        needed: u32,
        /// The level of the cluster.
        level: u32,
    },
    /// There is no such calendar.
    #[error("no such calendar")]
    NoSuchCalendar,
    /// The recurrence names a calendar that does not exist.
    #[error("there is no calendar {calendar}")]
    UnknownCalendar { calendar: Box<str> },
    /// The schedule has no coming tick at this time.
    #[error("the schedule has no coming tick at this time")]
    NoSuchTick { nominal: WallTime },
    /// The schedule cannot create a task now.
    #[error("the schedule cannot create a task now: {}", .reason.as_str())]
    CannotTrigger { reason: RefusedReason },
    /// The session does not exist, or has ended.
    #[error("no such session, or it has ended")]
    UnknownSession,
    /// The session belongs to a worker with another name.
    #[error("the session belongs to another worker")]
    ForeignSession,
    /// The store does not accept records of this size.
    #[error("{what} of {bytes} bytes is too large: the store currently accepts {limit}")]
    TooLarge {
        /// `a task`, `a result with its output`.
        what: &'static str,
        bytes: u64,
        limit: u64,
    },
    /// A record that the command needs cannot be read. It stays unchanged, and other tasks are not affected.
    #[error(
        "cannot read the stored record {record}: it is damaged, or a newer version wrote it; it stays unchanged"
    )]
    Unreadable {
        /// The key of the record.
        record: String,
    },
}

impl Refusal {
    /// The refusal for an unreadable record of a live task.
    #[must_use]
    pub fn unreadable_live(task: TaskId) -> Self {
        Self::Unreadable { record: format!("live/{task}") }
    }
}

/// A change to make durable. The mutations of a step form one batch, or several.
#[derive(Debug, Clone, PartialEq)]
pub enum Mutation {
    /// Writes a definition, and its client id and idempotency key.
    PutSpec(Arc<TaskSpec>),
    /// Writes the record of a live task.
    PutLive(Box<LiveRecord>),
    /// Removes the record of a live task, because it ended.
    DeleteLive(TaskId),
    /// Writes the record of an ended task.
    PutDone(Arc<DoneRecord>),
    /// Removes the record of an ended task, because it runs again.
    DeleteDone(Arc<DoneRecord>),
    /// Writes an attempt of the history.
    PutAttempt(TaskId, Box<AttemptRecord>),
    /// Writes a result.
    PutResult(TaskId, Bytes),
    /// Removes an ended task with all its records: definition, names, attempts, result.
    DeleteTask(Arc<DoneRecord>),
    /// Writes the settings of a queue.
    PutQueue(Name, QueueRecord),
    /// Removes the settings of a queue, because they are the default.
    DeleteQueue(Name),
    /// Writes the definition of a schedule.
    PutSchedule(Arc<ScheduleRecord>),
    /// Writes the state of a schedule.
    PutScheduleState {
        schedule: Name,
        state: Box<ScheduleState>,
        /// Tasks whose changes in this step must become durable together with it.
        with: Vec<TaskId>,
    },
    /// Removes the definition and the state of a schedule.
    DeleteSchedule(Name),
    /// Writes the outcome of a tick, together with the state of its schedule.
    PutTick(Box<TickRecord>),
    /// Removes the records of ticks whose retention is over.
    DeleteTick { schedule: Name, first: WallTime },
    /// Writes a calendar.
    PutCalendar(Arc<CalendarRecord>),
    /// Removes a calendar.
    DeleteCalendar(Name),
}

/// An effect to release only after the mutations of the same step are durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a task to a worker.
    Dispatch(Assignment),
    /// Tell a worker to stop an attempt.
    Stop { session: SessionId, task: TaskId, token: LeaseToken, reason: StopReason },
    /// A task ended: wake clients that wait for it.
    Finished { task: TaskId, status: Status },
    /// Tell a worker to drain.
    Drain { session: SessionId },
    /// A session is open on this connection. Later effects for the session go to this connection; earlier
    /// effects, of this step or an earlier one, go to its former connection.
    SessionOpened { session: SessionId, connection: u64 },
    /// A session ended.
    SessionEnded(SessionEnd),
}

/// A task that a session has been given to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    pub session: SessionId,
    pub task: TaskId,
    /// The token for its reports.
    pub token: LeaseToken,
    /// The number of the attempt.
    pub attempt: u32,
    /// When it became due.
    pub run_at: WallTime,
}

impl Assignment {
    /// The lease that it began.
    #[must_use]
    pub fn lease_id(&self) -> LeaseId {
        LeaseId { task: self.task, token: self.token }
    }
}

/// Names one lease of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId {
    pub task: TaskId,
    pub token: LeaseToken,
}

/// Why a worker must stop an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A client cancelled the task. The worker must report the end.
    Cancelled,
    /// The lease ended. No report will be accepted.
    LeaseLost,
    /// The attempt exceeded its timeout, and the worker did not end it. No report will be accepted.
    Timeout,
}

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEnd {
    pub session: SessionId,
    pub worker: Name,
    pub reason: EndReason,
    /// Number of tasks that it held.
    pub tasks: u32,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The worker closed it.
    Closed,
    /// The worker was silent for its TTL.
    Expired,
}
