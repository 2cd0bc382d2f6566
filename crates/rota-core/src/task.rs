//! What a task is: the part that is written once.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Name, Policy, TaskId, WallTime};

/// A task's definition. Never changes once written; what changes is a
/// [`LiveRecord`](crate::LiveRecord) or a [`DoneRecord`](crate::DoneRecord).
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSpec {
    /// The task.
    pub id: TaskId,
    /// Where it waits.
    pub queue: Name,
    /// Which handler runs it.
    pub kind: Name,
    /// Its parameters.
    pub payload: Bytes,
    /// For people and filters; sorted by name.
    pub labels: Vec<(Name, Box<str>)>,
    /// When it was accepted.
    pub created_at: WallTime,
    /// When it loses its sense, if not started by then.
    pub expires_at: Option<WallTime>,
    /// What it asks for.
    pub policy: Policy,
    /// Names by which a repeat of it is known.
    pub binds: Binds,
    /// A hash of what the client asked for, to tell a repeat from a conflict.
    pub fingerprint: u64,
    /// Where it belongs in a trace of its client's.
    pub trace: Option<Box<Trace>>,
    /// Fields of the policy that a newer version wrote, kept unread for when the task is retried.
    pub unknown_policy: Bytes,
}

/// A place in a trace, as W3C trace context writes it. Carried from the client to the workers and
/// never looked at on the way; a repeat of a task may name another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`, 55 bytes.
    pub parent: Box<str>,
    /// `tracestate`, up to 512 bytes; empty for none.
    pub state: Box<str>,
}

/// Names of the client's own by which a task can be found again and a repeat of it recognised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Binds {
    /// The id that the client chose.
    pub id: Option<Name>,
    /// The idempotency key, 1 to 256 bytes.
    pub key: Option<Arc<str>>,
}

impl Binds {
    /// Whether the client named nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.id.is_none() && self.key.is_none()
    }
}

impl TaskSpec {
    /// The id that people and clients see: their own where they chose one.
    #[must_use]
    pub fn shown_id(&self) -> String {
        match &self.binds.id {
            Some(name) => name.to_string(),
            None => self.id.to_string(),
        }
    }
}

/// Who goes first within a queue: 0 to 9, higher first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// The highest.
    pub const MAX: Self = Self(9);

    /// A priority, if in range.
    #[must_use]
    pub fn new(level: u32) -> Option<Self> {
        u8::try_from(level).ok().filter(|level| *level <= Self::MAX.0).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn level(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(5)
    }
}
