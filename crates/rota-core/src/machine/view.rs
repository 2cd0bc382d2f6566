//! Views: the state of tasks, queues and sessions for reads.

use super::{Credit, LeaseId};
use crate::{
    ClientKeys, LeaseToken, Millis, Name, Policy, Priority, SessionId, Status, TaskId, WallTime,
};
use std::sync::Arc;

/// The view of a live task.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveView {
    pub id: TaskId,
    pub queue: Name,
    pub kind: Name,
    pub status: Status,
    pub priority: Priority,
    pub run_at: WallTime,
    /// Time after which it may not start. After a manual retry, the one of its definition no longer counts.
    pub expires_at: Option<WallTime>,
    /// Number of attempts so far.
    pub attempt: u32,
    /// Number of attempts that lost their worker.
    pub lost: u32,
    /// Failures that count against `max_attempts`.
    pub failures: u32,
    /// Number of attempts that their handler snoozed.
    pub snoozes: u32,
    /// Number of changes of its definition by clients.
    pub edits: u32,
    /// Whether a client asked to cancel it.
    pub cancel_requested: bool,
    pub policy: Policy,
    /// Client id and idempotency key.
    pub client_keys: ClientKeys,
    /// The current lease.
    pub lease: Option<LeaseView>,
    /// Why it does not run. Set while it waits.
    pub waiting: Option<Waiting>,
}

/// The view of a lease.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseView {
    pub session: SessionId,
    pub worker: Name,
    pub token: LeaseToken,
    pub assigned_at: WallTime,
    /// Start of the handler, if the worker has reported it.
    pub started_at: Option<WallTime>,
    /// The last progress message.
    pub progress: Option<Arc<str>>,
}

/// Why a task does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// It is not due yet.
    DueLater { until: WallTime },
    /// An attempt failed, and the task backs off.
    BackingOff {
        /// Number of the failed attempt.
        attempt: u32,
        until: WallTime,
    },
    /// Its handler snoozed it.
    Snoozed {
        /// Number of the snoozed attempt.
        attempt: u32,
        until: WallTime,
    },
    /// The queue is paused.
    QueuePaused,
    /// No open session serves its queue and kind.
    NoWorker,
    /// All slots of the sessions that serve it are in use.
    SlotsBusy {
        /// Number of tasks of its queue and kind ahead of it.
        ahead: u64,
    },
    /// Sessions without a stream serve it and have free slots, but have not asked for tasks.
    NotAsked {
        /// Number of tasks of its queue and kind ahead of it.
        ahead: u64,
    },
}

/// Orders for a worker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Orders {
    /// Attempts to stop, because a client cancelled their tasks, until the worker reports their end.
    pub stop: Vec<LeaseId>,
    /// Whether the worker must drain.
    pub draining: bool,
}

/// The view of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionView {
    pub id: SessionId,
    pub worker: Name,
    /// Queues to serve. Empty means all.
    pub queues: Vec<Name>,
    /// Kinds to serve. Empty means all.
    pub kinds: Vec<Name>,
    /// Maximum number of tasks that it holds. For a worker without a stream: the number that it last asked
    /// for, or holds.
    pub slots: u32,
    /// Number of tasks that it is ready for.
    pub credit: Credit,
    /// Number of tasks that it holds.
    pub held: u32,
    /// Up to 1,000 of the tasks that it holds.
    pub tasks: Vec<(TaskId, ClientKeys)>,
    pub opened_at: WallTime,
    /// Time since its last heartbeat.
    pub heartbeat_age: Millis,
    /// Whether it drains.
    pub draining: bool,
    /// Whether its worker has not reconnected yet after a change of leader or a restart.
    pub awaited: bool,
}
