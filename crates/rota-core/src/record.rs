//! What is kept of a task in the store, as values. How they become bytes is the engine's business.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    ClientKeys, LeaseToken, Millis, Name, Policy, Priority, SessionId, Status, TaskId, WallTime,
};

/// The changing state of a task that has not ended. Small: it is rewritten at each transition, and
/// it alone is read at start-up.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveRecord {
    /// The task.
    pub id: TaskId,
    /// Where it waits.
    pub queue: Name,
    /// Which handler runs it.
    pub kind: Name,
    /// `Scheduled`, `Pending` or `Assigned`. That an assigned task runs is soft state.
    pub status: Status,
    /// Who goes first.
    pub priority: Priority,
    /// Not before; after a failure, the end of the backoff.
    pub run_at: WallTime,
    /// Not started by then: it expires.
    pub expires_at: Option<WallTime>,
    /// Attempts begun, lost ones included.
    pub attempt: u32,
    /// How many of them lost their worker.
    pub lost: u32,
    /// Failures that count against `max_attempts` since submission or the last manual retry.
    pub failures: u32,
    /// How many attempts were put off by their handler since submission or the last manual retry.
    pub snoozes: u32,
    /// How often clients changed its definition.
    pub edits: u32,
    /// Whether `run_at` is the end of a backoff.
    pub backing_off: bool,
    /// Whether `run_at` is the time to which a handler put the task off.
    pub snoozed: bool,
    /// Who has it, while assigned.
    pub lease: Option<LeaseRecord>,
    /// Whether the client asked for it to be stopped.
    pub cancel_requested: bool,
    /// The last end that a worker reported, to know a repeated report. Kept while the next attempt
    /// goes on.
    pub last_end: Option<LeaseEnd>,
    /// What it asks for.
    pub policy: Policy,
    /// The client's names for it.
    pub client_keys: ClientKeys,
    /// What a newer version wrote beside all this.
    pub unknown: Option<Box<UnknownFields>>,
}

/// Fields of a task's record that this version does not know, because a newer one wrote them. Nothing
/// here reads them: they go along with the task, so that the newer version finds them again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnknownFields {
    /// Fields of the task itself.
    pub task: Bytes,
    /// Fields of its policy.
    pub policy: Bytes,
    /// Fields of this lease; void once the task has another one or none.
    pub lease: Option<(LeaseToken, Bytes)>,
    /// Fields of the reported end of this lease; void once another end is the last.
    pub last_end: Option<(LeaseToken, Bytes)>,
}

/// Who has a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The session that has it.
    pub session: SessionId,
    /// What its reports must carry.
    pub token: LeaseToken,
    /// The worker's name, for people.
    pub worker: Name,
    /// When it was given.
    pub assigned_at: WallTime,
    /// How long the session may be silent: another leader waits as long for it to come back.
    pub session_ttl: Millis,
}

/// How a lease ended, as its worker reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseEnd {
    /// The lease token.
    pub token: LeaseToken,
    /// The kind of end.
    pub kind: EndKind,
    /// The hash of what the worker said, to tell a repeat from another report; 0 where the task was
    /// given back, which says nothing more.
    pub fingerprint: u64,
}

impl LeaseEnd {
    /// The task was given back.
    #[must_use]
    pub fn released(token: LeaseToken) -> Self {
        Self { token, kind: EndKind::Released, fingerprint: 0 }
    }
}

/// What a worker can report at the end of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndKind {
    /// The handler succeeded.
    Completed,
    /// It did not.
    Failed,
    /// It was stopped, as asked.
    Cancelled,
    /// The task was given back.
    Released,
}

/// What is kept of a task that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct DoneRecord {
    /// The task.
    pub id: TaskId,
    /// Where it waited.
    pub queue: Name,
    /// Which handler ran it.
    pub kind: Name,
    /// `Completed`, `Failed`, `Cancelled` or `Expired`.
    pub status: Status,
    /// Who went first.
    pub priority: Priority,
    /// When it was last due.
    pub run_at: WallTime,
    /// Attempts begun.
    pub attempt: u32,
    /// How many of them lost their worker.
    pub lost: u32,
    /// Failures that counted against `max_attempts`.
    pub failures: u32,
    /// How many attempts were put off by their handler.
    pub snoozes: u32,
    /// How often clients changed its definition.
    pub edits: u32,
    /// When it ended.
    pub finished_at: WallTime,
    /// When it may be removed.
    pub retain_until: WallTime,
    /// Its last attempt, where it had one. Output is kept apart, with the attempt's own record.
    pub last: Option<AttemptRecord>,
    /// Why it did not complete.
    pub failure: Option<Failure>,
    /// The last end that a worker reported, to know a repeated report.
    pub last_end: Option<LeaseEnd>,
    /// Whether there is a result to be read.
    pub has_result: bool,
    /// Whether the last attempt has a record of its own beside this one, for its output.
    pub has_output: bool,
    /// The client's names for it.
    pub client_keys: ClientKeys,
    /// What a newer version wrote beside all this.
    pub unknown: Option<Box<UnknownFields>>,
}

impl DoneRecord {
    /// How many attempts have a record of their own: those from the first to this one. The last
    /// attempt of a task that it ended has one only where it printed something; any other has one.
    #[must_use]
    pub fn attempts_kept(&self) -> u32 {
        let in_here = self.last.is_some() && !self.has_output;
        self.attempt.saturating_sub(u32::from(in_here))
    }
}

/// One attempt, for the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Its number: 1 for the first.
    pub attempt: u32,
    /// Token of the lease that the attempt ran under.
    pub token: LeaseToken,
    /// Who had it.
    pub worker: Name,
    /// When it was given.
    pub assigned_at: WallTime,
    /// When the handler began, where the worker said so.
    pub started_at: Option<WallTime>,
    /// When it ended; `None` while it goes on.
    pub ended_at: Option<WallTime>,
    /// Why it did not complete.
    pub failure: Option<Failure>,
    /// Time to which its handler put the task off, where that is how it ended.
    pub snoozed_until: Option<WallTime>,
    /// The end of what it printed.
    pub output_tail: Bytes,
    /// Fields that a newer version wrote beside these, kept unread.
    pub unknown: Bytes,
}

/// Why an attempt or a task did not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The class of it.
    pub reason: FailureReason,
    /// In words, at most [`Failure::MESSAGE_BYTES_MAX`] bytes.
    pub message: Arc<str>,
}

impl Failure {
    /// The longest message that is kept.
    pub const MESSAGE_BYTES_MAX: usize = 4096;

    /// A failure; a message that is too long is cut at a character's boundary.
    #[must_use]
    pub fn new(reason: FailureReason, message: &str) -> Self {
        let mut end = message.len().min(Self::MESSAGE_BYTES_MAX);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        Self { reason, message: message[..end].into() }
    }
}

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// The handler said so.
    Error,
    /// The handler said that trying again is useless.
    Permanent,
    /// The attempt took longer than its timeout.
    Timeout,
    /// The worker went away.
    WorkerLost,
    /// A client asked.
    Cancelled,
    /// It was not started in time.
    Expired,
}

impl FailureReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Error,
        Self::Permanent,
        Self::Timeout,
        Self::WorkerLost,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The word used on the wire and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Permanent => "permanent",
            Self::Timeout => "timeout",
            Self::WorkerLost => "worker_lost",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// What is kept of a queue beyond its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueRecord {
    /// No task of it starts.
    pub paused: bool,
    /// Fields that a newer version wrote beside these, kept unread.
    pub unknown: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_too_long_is_cut_before_a_character() {
        const MAX: usize = Failure::MESSAGE_BYTES_MAX;
        for (message, kept) in [
            (String::new(), 0),
            ("a".repeat(MAX), MAX),
            ("a".repeat(MAX + 1), MAX),
            ("a".repeat(MAX - 2) + "ü" + "b", MAX),
            ("a".repeat(MAX - 1) + "ü", MAX - 1),
            ("a".repeat(MAX - 2) + "\u{1F600}", MAX - 2),
        ] {
            let failure = Failure::new(FailureReason::Error, &message);
            assert_eq!(&*failure.message, &message[..kept]);
        }
    }

    #[test]
    fn reasons_have_words_that_never_change() {
        let words = ["error", "permanent", "timeout", "worker_lost", "cancelled", "expired"];
        assert_eq!(FailureReason::ALL.map(FailureReason::as_str), words);
    }
}
