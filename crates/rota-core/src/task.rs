//! The definition of a task.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Millis, Name, Policy, TaskId, WallTime};

/// What a client says about a task, except its id, idempotency key, due time and priority.
///
/// This type travels as a whole from the request to the machine, the store, workers and back to clients. Code
/// that must handle every field destructures it without `..`: the fingerprint of a submission, the codec, and
/// the mapping to and from the wire. So a new field does not compile until that code handles it.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Queue in which the task waits.
    pub queue: Name,
    /// Kind of task: selects the handler.
    pub kind: Name,
    /// Parameters of the handler.
    pub payload: Bytes,
    /// Labels for people and filters, sorted by name.
    pub labels: Vec<(Name, Box<str>)>,
    /// Description for people, up to [`Definition::DESCRIPTION_CHARS_MAX`] characters.
    pub description: Option<Box<str>>,
    /// Start deadline: a task that has not started by then expires.
    pub expires_at: Option<WallTime>,
    /// Retries, timeout and retention.
    pub policy: Policy,
    /// Trace context of the client.
    pub trace: Option<Box<Trace>>,
}

impl Definition {
    /// Maximum length of a description in characters.
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

/// The stored definition of a task, with the additions of the server. It is written once, and again only when
/// a client changes it. The state of the task is in a [`LiveRecord`](crate::LiveRecord) or a
/// [`DoneRecord`](crate::DoneRecord).
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSpec {
    /// Id that Rota gave the task.
    pub id: TaskId,
    /// The client's definition.
    pub definition: Definition,
    /// Time at which the task was accepted.
    pub created_at: WallTime,
    /// Keys by which a repeat of it is known.
    pub client_keys: ClientKeys,
    /// A hash of the first submission, to distinguish a repeat from a conflict. 0 without names.
    pub fingerprint: u64,
    /// The tick that created it, or the schedule that a client triggered.
    pub tick: Option<Box<TickContext>>,
    /// Unknown fields that a newer version wrote, kept for when the definition is written again.
    pub unknown: Bytes,
    /// Unknown fields of the policy that a newer version wrote, kept for when the definition is written again
    /// or the task is retried.
    pub unknown_policy: Bytes,
}

/// The tick of a task: what its handler is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TickContext {
    pub schedule: Name,
    /// The nominal time. `None` for a task that a client triggered.
    pub nominal: Option<WallTime>,
    /// The nominal time of the tick before that created a task.
    pub previous: Option<WallTime>,
    /// The nominal time of the last tick whose task completed.
    pub last_success: Option<WallTime>,
}

/// A time in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunAt {
    /// Now.
    #[default]
    Now,
    /// At this date.
    At(WallTime),
    /// This long after the server accepted the request.
    After(Millis),
}

impl RunAt {
    /// The date, for a request at `now`.
    #[must_use]
    pub fn resolve(self, now: WallTime) -> WallTime {
        match self {
            Self::Now => now,
            Self::At(date) => date,
            Self::After(delay) => now + delay,
        }
    }
}

/// A W3C trace context. It is passed from the client to workers unread. A repeat of a submission can have
/// another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`, 55 bytes.
    pub parent: Box<str>,
    /// `tracestate`, up to 512 bytes. Empty for none.
    pub state: Box<str>,
}

impl Trace {
    /// The id of the trace: the second part of `traceparent`. `None` if there is none.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.parent.split('-').nth(1)
    }
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
            tick: None,
            unknown: Bytes::new(),
            unknown_policy: Bytes::new(),
        }
    }

    /// The id that clients see: their own, if they chose one.
    #[must_use]
    pub fn shown_id(&self) -> String {
        match &self.client_keys.id {
            Some(name) => name.to_string(),
            None => self.id.to_string(),
        }
    }
}

/// The priority of a task within its queue, 0 to 9. A higher priority runs first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// The highest priority.
    pub const MAX: Self = Self(9);

    /// The priority with this number, if it is in range.
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
