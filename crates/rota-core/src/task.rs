//! What a task is: the part that is written once.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Millis, Name, Policy, TaskId, WallTime};

/// What a client says about a task, apart from its names and from when and before whom it runs.
///
/// One type that travels whole: from the request to the machine, into the store, to workers and back
/// to clients. What must treat every field takes it apart without `..`, so that a field added here
/// does not compile until it is treated there: the fingerprint of a submission, the codec, and the
/// mapping to and from the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Queue in which the task waits.
    pub queue: Name,
    /// Kind of task: selects the handler.
    pub kind: Name,
    /// Parameters of the handler.
    pub payload: Bytes,
    /// Texts for people and filters; sorted by name.
    pub labels: Vec<(Name, Box<str>)>,
    /// Text for people, at most [`Definition::DESCRIPTION_CHARS_MAX`] characters.
    pub description: Option<Box<str>>,
    /// Start deadline: a task that has not started by then expires.
    pub expires_at: Option<WallTime>,
    /// Retries, timeout and retention.
    pub policy: Policy,
    /// Place in a trace of the client's.
    pub trace: Option<Box<Trace>>,
}

impl Definition {
    /// The longest description, in characters.
    pub const DESCRIPTION_CHARS_MAX: usize = 256;

    /// A definition with defaults: no payload, no labels, no start deadline, the default policy.
    #[must_use]
    pub fn new(queue: Name, kind: Name) -> Self {
        Self {
            queue,
            kind,
            payload: Bytes::new(),
            labels: Vec::new(),
            description: None,
            expires_at: None,
            policy: Policy::default(),
            trace: None,
        }
    }
}

/// A task's definition as it is kept, with what the server adds to it. Written once, and again only
/// when a client changes it; the task's state is a [`LiveRecord`](crate::LiveRecord) or a
/// [`DoneRecord`](crate::DoneRecord).
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSpec {
    /// Id that Rota gave the task.
    pub id: TaskId,
    /// What the client said.
    pub definition: Definition,
    /// Time at which the task was accepted.
    pub created_at: WallTime,
    /// Keys by which a repeat of it is known.
    pub client_keys: ClientKeys,
    /// A hash of what the client first asked for, to tell a repeat from a conflict; 0 without names.
    pub fingerprint: u64,
    /// Fields that a newer version wrote, kept unread for when the definition is written again.
    pub unknown: Bytes,
    /// Fields of the policy that a newer version wrote, kept unread for when the definition is written
    /// again or the task is retried.
    pub unknown_policy: Bytes,
}

/// A time as a client or a worker says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunAt {
    /// At once.
    #[default]
    Now,
    /// At a date.
    At(WallTime),
    /// That long after the server accepted it.
    After(Millis),
}

impl RunAt {
    /// The date that is meant, said at `now`.
    #[must_use]
    pub fn resolve(self, now: WallTime) -> WallTime {
        match self {
            Self::Now => now,
            Self::At(date) => date,
            Self::After(delay) => now + delay,
        }
    }
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

/// Keys that the client chose: by them it finds the task again, and a repeated submission is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientKeys {
    /// The id that the client chose.
    pub id: Option<Name>,
    /// The idempotency key, 1 to 256 bytes.
    pub key: Option<Arc<str>>,
}

impl ClientKeys {
    /// Whether the client chose none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.id.is_none() && self.key.is_none()
    }
}

impl TaskSpec {
    /// The definition of a task without names.
    #[must_use]
    pub fn new(id: TaskId, definition: Definition, created_at: WallTime) -> Self {
        Self {
            id,
            definition,
            created_at,
            client_keys: ClientKeys::default(),
            fingerprint: 0,
            unknown: Bytes::new(),
            unknown_policy: Bytes::new(),
        }
    }

    /// The id that people and clients see: their own where they chose one.
    #[must_use]
    pub fn shown_id(&self) -> String {
        match &self.client_keys.id {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_task_is_shown_by_the_id_that_its_client_chose() {
        let id = TaskId::from_u64(1).unwrap();
        let mut spec = TaskSpec::new(id, Definition::new(name("q"), name("k")), WallTime(0));
        assert!(spec.client_keys.is_empty());
        assert_eq!(spec.shown_id(), "t_0000000000001");
        spec.client_keys.key = Some("key".into());
        assert!(!spec.client_keys.is_empty());
        assert_eq!(spec.shown_id(), "t_0000000000001", "a key is no id");
        spec.client_keys = ClientKeys { id: Some(name("order-1")), key: None };
        assert!(!spec.client_keys.is_empty());
        assert_eq!(spec.shown_id(), "order-1");
    }

    #[test]
    fn priorities_are_0_to_9() {
        for level in 0..=9 {
            assert_eq!(
                Priority::new(level).map(|priority| u32::from(priority.level())),
                Some(level)
            );
        }
        assert_eq!([10, 256, u32::MAX].map(Priority::new), [None; 3]);
        assert_eq!(Priority::default().level(), 5);
    }
}
