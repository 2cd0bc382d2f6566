//! What the machine tells of itself to those who only look.

use super::{Credit, LeaseId};
use crate::{
    ClientKeys, LeaseToken, Millis, Name, Policy, Priority, SessionId, Status, TaskId, WallTime,
};
use std::sync::Arc;

/// A live task as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveView {
    /// The id.
    pub id: TaskId,
    /// Where it waits.
    pub queue: Name,
    /// Which handler runs it.
    pub kind: Name,
    /// State of the task.
    pub status: Status,
    /// Who goes first.
    pub priority: Priority,
    /// Not before.
    pub run_at: WallTime,
    /// Attempts begun.
    pub attempt: u32,
    /// How many of them lost their worker.
    pub lost: u32,
    /// Failures that count against `max_attempts`.
    pub failures: u32,
    /// How many attempts were put off by their handler.
    pub snoozes: u32,
    /// How often clients changed its definition.
    pub edits: u32,
    /// Whether a client asked for it to be stopped.
    pub cancel_requested: bool,
    /// What it asks for.
    pub policy: Policy,
    /// The client's names for it.
    pub client_keys: ClientKeys,
    /// The lease it is under.
    pub lease: Option<LeaseView>,
    /// Why it does not run; set while it waits.
    pub waiting: Option<Waiting>,
}

/// A lease as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseView {
    /// The session.
    pub session: SessionId,
    /// The worker's name.
    pub worker: Name,
    /// The lease token.
    pub token: LeaseToken,
    /// Time of the assignment.
    pub assigned_at: WallTime,
    /// When the handler began, where the worker said so.
    pub started_at: Option<WallTime>,
    /// What the handler last said.
    pub progress: Option<Arc<str>>,
}

/// Why a task does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// It is due at a time.
    DueLater {
        /// Time at which it ends.
        until: WallTime,
    },
    /// It failed and waits before it is tried again.
    BackingOff {
        /// The attempt that failed.
        attempt: u32,
        /// When it is due again.
        until: WallTime,
    },
    /// Its handler put it off.
    Snoozed {
        /// Number of the attempt that did.
        attempt: u32,
        /// Time at which it is due again.
        until: WallTime,
    },
    /// Its queue is paused.
    QueuePaused,
    /// No open session serves its queue and kind.
    NoWorker,
    /// Sessions serve it and all their slots are taken.
    SlotsBusy {
        /// Tasks of its queue and kind that go before it.
        ahead: u64,
    },
    /// Sessions serve it, and some have room and have not asked for tasks: their workers ask call by
    /// call.
    NotAsked {
        /// Tasks of its queue and kind that go before it.
        ahead: u64,
    },
}

/// What a worker is to do beside its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Orders {
    /// Attempts that a client asked to be stopped, and whose end was not reported yet.
    pub stop: Vec<LeaseId>,
    /// Whether it is to take no more.
    pub draining: bool,
}

/// A session as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionView {
    /// The id.
    pub id: SessionId,
    /// The worker's name.
    pub worker: Name,
    /// Served queues; empty means all.
    pub queues: Vec<Name>,
    /// Served kinds; empty means all.
    pub kinds: Vec<Name>,
    /// The most tasks it holds; of a worker that asks call by call, as many as it last asked for, or
    /// holds.
    pub slots: u32,
    /// Tasks it is ready for.
    pub credit: Credit,
    /// Tasks it holds.
    pub held: u32,
    /// Up to 1,000 of them.
    pub tasks: Vec<(TaskId, ClientKeys)>,
    /// When it was opened.
    pub opened_at: WallTime,
    /// How long ago it was last heard of.
    pub heartbeat_age: Millis,
    /// Whether it takes no more.
    pub draining: bool,
    /// Whether its worker has not come back yet after a change of leader or a restart.
    pub awaited: bool,
}
