//! What goes into the machine and what comes out: commands, replies, mutations, effects.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    AttemptRecord, DoneRecord, Failure, LeaseToken, LiveRecord, Millis, MonoTime, Name, Priority,
    QueueRecord, RunAt, SessionId, TaskId, TaskSpec, WallTime,
    lifecycle::{IllegalTransition, Status},
};

/// Everything that can be asked of the machine. Clients, workers and time all enter here.
#[derive(Debug, Clone)]
pub enum Command {
    /// A client wants a task done.
    Submit(Box<Submit>),
    /// A client wants it stopped.
    Cancel {
        /// The task.
        task: TaskId,
        /// Its record, where it is not live.
        stored: Stored,
    },
    /// A client wants an ended task tried again.
    Retry {
        /// The task.
        task: TaskId,
        /// Its record and definition, where it is not live.
        stored: Stored,
        /// Its definition, which holds the policy; `None` where there is none.
        spec: Option<Arc<TaskSpec>>,
    },
    /// A client wants it at another time.
    Reschedule {
        /// The task.
        task: TaskId,
        /// Not before.
        run_at: WallTime,
        /// Its record, where it is not live.
        stored: Stored,
    },
    /// A client wants it sooner or later than others.
    SetPriority {
        /// The task.
        task: TaskId,
        /// The new one.
        priority: Priority,
        /// Its record, where it is not live.
        stored: Stored,
    },
    /// A client changes the definition of a waiting task.
    Edit {
        /// What is to become of it.
        edit: Box<Edit>,
        /// Its record, where it is not live.
        stored: Stored,
    },
    /// A client wants it gone.
    Delete {
        /// The task.
        task: TaskId,
        /// Its record, where it is not live.
        stored: Stored,
    },
    /// Retention: remove it if it ended and its time is over; otherwise leave it.
    Purge {
        /// The task.
        task: TaskId,
        /// Its record, where it is not live.
        stored: Stored,
    },
    /// A client stops or restarts the flow of a queue.
    PauseQueue {
        /// The queue.
        queue: Name,
        /// Stop or go.
        paused: bool,
    },
    /// A worker comes, or comes back.
    OpenSession(Box<OpenSession>),
    /// A worker lives.
    Heartbeat {
        /// The session.
        session: SessionId,
        /// The connection it came by, `None` for any. Nothing happens if the worker has come back on
        /// another since.
        connection: Option<u64>,
        /// When it was heard, which may be some time ago.
        at: MonoTime,
    },
    /// A worker says how many tasks it is ready for.
    SetCredit {
        /// The session.
        session: SessionId,
        /// As in `Heartbeat`.
        connection: Option<u64>,
        /// From now on.
        credit: Credit,
    },
    /// A worker's connection broke. It is given nothing more until it comes back, and what it holds
    /// stays its own until its TTL is over.
    Detach {
        /// The session.
        session: SessionId,
        /// Which of its connections; nothing happens if it has come back on another since.
        connection: u64,
    },
    /// A worker is to take no more.
    Drain {
        /// The session.
        session: SessionId,
    },
    /// A worker goes.
    CloseSession {
        /// The session.
        session: SessionId,
        /// As in `Heartbeat`.
        connection: Option<u64>,
    },
    /// A worker reports on a task.
    Report {
        /// Which task.
        task: TaskId,
        /// By which lease.
        token: LeaseToken,
        /// What happened.
        report: Report,
        /// The hash of all that the report says, made by the caller: the same for a repeat, another
        /// for another report.
        fingerprint: u64,
        /// Drawn at random by the caller, for the jitter of a backoff.
        random: u64,
        /// Its record, where it is not live: to acknowledge a repeated report again.
        stored: Stored,
    },
}

/// What the store has of a task that a command is about. The caller reads it where the machine
/// [says so](crate::Machine::wants_stored).
pub type Stored = Option<Arc<DoneRecord>>;

/// A new task.
#[derive(Debug, Clone)]
pub struct Submit {
    /// Definition of the task, with its id and names.
    pub spec: Arc<TaskSpec>,
    /// Who goes first.
    pub priority: Priority,
    /// Not before; a time that is over means now.
    pub run_at: WallTime,
    /// Owners of its client keys in the store.
    pub key_owners: KeyOwners,
}

/// A change of a waiting task.
#[derive(Debug, Clone)]
pub struct Edit {
    /// The whole definition as it is to be. Id, names, queue and kind stay what they are.
    pub spec: Arc<TaskSpec>,
    /// How often the task had been changed when the new definition was made from the old one: another
    /// number is a conflict.
    pub edits: u32,
    /// Another priority; `None` leaves it.
    pub priority: Option<Priority>,
    /// Another time; `None` leaves it, and a backoff as well.
    pub run_at: Option<WallTime>,
}

/// Who owns the client keys of a new task, as the store has it.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyOwners {
    /// By its id.
    pub id: Option<KeyOwner>,
    /// By its idempotency key.
    pub key: Option<KeyOwner>,
}

/// The task that owns a client key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyOwner {
    /// The task.
    pub task: TaskId,
    /// The hash of what its client asked for.
    pub fingerprint: u64,
}

/// A worker that comes or comes back.
#[derive(Debug, Clone)]
pub struct OpenSession {
    /// New and drawn at random, or the one it had.
    pub session: SessionId,
    /// For people.
    pub worker: Name,
    /// Served queues; empty means all.
    pub queues: Vec<Name>,
    /// Served kinds; empty means all.
    pub kinds: Vec<Name>,
    /// The most tasks it holds at once.
    pub slots: u32,
    /// The tasks it is ready for from now on.
    pub credit: Credit,
    /// Without a heartbeat for so long, it is gone.
    pub ttl: Millis,
    /// Tells this connection from its others.
    pub connection: u64,
    /// The leases that it says it still holds; those it should hold and does not name are sent
    /// again. `None`: it cannot say, so nothing is sent again.
    pub held: Option<Vec<LeaseId>>,
}

/// How many tasks a worker is ready for. Its slots bound it in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    /// To hold so many at once, those it holds included: what it ends makes room for more.
    Hold(u32),
    /// To be given so many more, whatever it ends meanwhile.
    Take(u32),
}

/// Names one lease of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId {
    /// The task.
    pub task: TaskId,
    /// The lease.
    pub token: LeaseToken,
}

/// What a worker says of a task it has.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The handler begins. Soft: known to this leader alone.
    Started {
        /// By the worker's clock.
        at: WallTime,
    },
    /// How far the handler is. Soft.
    Progress {
        /// In the handler's words.
        message: Arc<str>,
    },
    /// The attempt ended.
    Ended {
        /// When the handler began, by the worker's clock.
        started_at: Option<WallTime>,
        /// The end of what it printed.
        output_tail: Bytes,
        /// The outcome.
        outcome: AttemptOutcome,
    },
    /// The worker gives it back unharmed.
    Released,
    /// This version cannot read its definition, because a newer one wrote it: the task waits, and nothing is done to
    /// it, until a leader takes it up that can. Said by the engine, never by a worker.
    SetAside,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptOutcome {
    /// Well.
    Completed {
        /// What the handler returns; empty for nothing.
        result: Bytes,
    },
    /// Badly.
    Failed {
        /// Why. [`FailureReason::Permanent`](crate::FailureReason::Permanent) is not tried again.
        failure: Failure,
        /// When to try again, instead of the backoff.
        retry_at: Option<WallTime>,
    },
    /// Put off: the task is to wait, and no attempt of its budget is spent.
    Snoozed {
        /// Time until which it waits.
        until: RunAt,
    },
    /// Stopped, as the server asked.
    Cancelled,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Done; nothing to tell.
    Done,
    /// Retention has to wait: the task is kept until then.
    Kept {
        /// When it may be removed.
        until: WallTime,
    },
    /// The task exists.
    Submitted {
        /// It, or the one it repeats.
        task: TaskId,
        /// Whether it is new.
        created: bool,
    },
    /// Its state after the command.
    Task {
        /// The task.
        task: TaskId,
        /// The state.
        status: Status,
    },
    /// The state of a queue after the command.
    Queue(Box<super::QueueCounts>),
    /// A session is open.
    Session {
        /// The session.
        session: SessionId,
        /// Of the leases that the worker named, those that are not its any more.
        revoked: Vec<LeaseId>,
    },
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such task.
    #[error("no such task")]
    UnknownTask,
    /// The task's state does not allow it.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The name belongs to another task with another body.
    #[error("this {field} belongs to a task with different content")]
    Conflict {
        /// `id` or `idempotency_key`.
        field: &'static str,
        /// The task it belongs to.
        task: TaskId,
    },
    /// The queue holds as many live tasks as it may.
    #[error("queue {queue} is full: it holds {limit} tasks, the limit")]
    QueueFull {
        /// The queue.
        queue: Name,
        /// The limit.
        limit: u64,
    },
    /// There are as many queues and kinds as there may be.
    #[error("too many different {what}: the limit is {limit}")]
    TooManyNames {
        /// `queues`, `kinds`, …
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The lease ended, or the task went to another, or it was cancelled.
    #[error("the lease {token} on the task is no longer valid")]
    StaleLease {
        /// What the report carried.
        token: LeaseToken,
    },
    /// The task was changed since the client last read it.
    #[error("the task was changed meanwhile: its version is {version}")]
    VersionConflict {
        /// Its version: 1 for a task that was never changed.
        version: u32,
    },
    /// The new task would expire before it could run.
    #[error(
        "expires_at is not after the time the task is due: it would expire before it could run"
    )]
    ExpiresBeforeDue {
        /// When the task would expire.
        expires_at: WallTime,
    },
    /// The task would expire before its new time.
    #[error("{field} is not before expires_at: the task would expire before it could run")]
    DueAfterExpiry {
        /// `run_at` or `delay`, as the client calls it.
        field: &'static str,
        /// When the task expires.
        expires_at: WallTime,
    },
    /// There is no such session, or it ended.
    #[error("no such session, or it has ended")]
    UnknownSession,
    /// The session exists and belongs to a worker of another name.
    #[error("the session belongs to another worker")]
    ForeignSession,
    /// The store does not take so much of one task at once.
    #[error("{what} of {bytes} bytes is too large: the store takes {limit} at present")]
    TooLarge {
        /// `a task`, `a result with its output`.
        what: &'static str,
        /// Size in bytes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A record that the command needs cannot be read. It is left alone, and other tasks are not concerned.
    #[error(
        "the stored record {record} cannot be read: it is damaged, or a newer version wrote it; it is left as it is"
    )]
    Unreadable {
        /// Its place in the store.
        record: String,
    },
}

impl Refusal {
    /// The record of a task that has not ended cannot be read.
    #[must_use]
    pub fn unreadable_live(task: TaskId) -> Self {
        Self::Unreadable { record: format!("live/{task}") }
    }
}

/// A change to be made durable. One step's mutations form (part of) one batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Mutation {
    /// Writes a definition, and its names.
    PutSpec(Arc<TaskSpec>),
    /// Writes a live task's state.
    PutLive(Box<LiveRecord>),
    /// Removes a live task's state: it ended.
    DeleteLive(TaskId),
    /// Writes an ended task's state.
    PutDone(Arc<DoneRecord>),
    /// Removes an ended task's state: it lives again.
    DeleteDone(Arc<DoneRecord>),
    /// Writes one attempt of the history.
    PutAttempt(TaskId, Box<AttemptRecord>),
    /// Writes a result.
    PutResult(TaskId, Bytes),
    /// Removes an ended task with all that is kept of it: definition, names, attempts, result.
    DeleteTask(Arc<DoneRecord>),
    /// Writes a queue's settings.
    PutQueue(Name, QueueRecord),
    /// Removes a queue's settings: they are the default again.
    DeleteQueue(Name),
}

/// Something to do once the mutations of the same step are durable, and not before.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a task to a worker.
    Dispatch(Assignment),
    /// Tell a worker to stop an attempt.
    Stop {
        /// The session.
        session: SessionId,
        /// Which task.
        task: TaskId,
        /// Which lease.
        token: LeaseToken,
        /// The reason.
        reason: StopReason,
    },
    /// A task ended: wake those who wait for it.
    Finished {
        /// The task.
        task: TaskId,
        /// The status.
        status: Status,
    },
    /// Tell a worker to drain.
    Drain {
        /// The session.
        session: SessionId,
    },
    /// A session is open on this connection. What goes down to it by later effects goes there; what
    /// goes down by earlier ones, of this step or one before, belongs to its former connection.
    SessionOpened {
        /// The session.
        session: SessionId,
        /// The connection.
        connection: u64,
    },
    /// A session is over.
    SessionEnded(SessionEnd),
}

/// A task that a session has been given to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The session.
    pub session: SessionId,
    /// Which task.
    pub task: TaskId,
    /// What its reports must carry.
    pub token: LeaseToken,
    /// The attempt's number.
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

/// Why an attempt is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A client asked; the worker is to report the end.
    Cancelled,
    /// The lease is over; no report will be accepted.
    LeaseLost,
    /// The attempt took longer than allowed and the worker did not end it; no report will be
    /// accepted.
    Timeout,
}

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEnd {
    /// The session.
    pub session: SessionId,
    /// The worker.
    pub worker: Name,
    /// The reason.
    pub reason: EndReason,
    /// Tasks that were taken from it.
    pub tasks: u32,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The worker said goodbye.
    Closed,
    /// It was not heard of for its TTL.
    Expired,
}
