//! The records of a task in the store, as values. The engine encodes them.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    ClientKeys, LeaseToken, Millis, Name, Pause, Policy, Priority, SessionId, Status, TaskId,
    WallTime,
};

/// The state of a live task. It is small, because it is rewritten at each transition, and all live records
/// are read at start.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveRecord {
    pub id: TaskId,
    pub queue: Name,
    pub kind: Name,
    /// `Scheduled`, `Pending` or `Assigned`. `Running` is soft state.
    pub status: Status,
    pub priority: Priority,
    /// Earliest start time. After a failure, the end of the backoff.
    pub run_at: WallTime,
    /// Start deadline.
    pub expires_at: Option<WallTime>,
    /// Number of attempts so far, including lost ones.
    pub attempt: u32,
    /// Number of attempts that lost their worker.
    pub lost: u32,
    /// Failures that count against `max_attempts` since submission or the last manual retry.
    pub failures: u32,
    /// Number of attempts that their handler snoozed since submission or the last manual retry.
    pub snoozes: u32,
    /// Number of changes of its definition by clients.
    pub edits: u32,
    /// Whether `run_at` is the end of a backoff.
    pub backing_off: bool,
    /// Whether `run_at` is the end of a snooze.
    pub snoozed: bool,
    /// The lease, while assigned.
    pub lease: Option<LeaseRecord>,
    /// Whether a client asked to cancel it.
    pub cancel_requested: bool,
    /// The last reported end of a lease, to recognise a repeated report. Kept during the next attempt.
    pub last_end: Option<LeaseEnd>,
    pub policy: Policy,
    /// Client id and idempotency key.
    pub client_keys: ClientKeys,
    /// Unknown fields that a newer version wrote.
    pub unknown: Option<Box<UnknownFields>>,
    /// The nominal time, if a tick of a schedule created the task.
    pub nominal: Option<WallTime>,
}

/// Fields of a task's record that this version does not know, because a newer one wrote them. They are kept
/// unread, so that the newer version finds them again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnknownFields {
    /// Fields of the task itself.
    pub task: Bytes,
    /// Fields of the policy.
    pub policy: Bytes,
    /// Fields of this lease. Void when the task has another lease, or none.
    pub lease: Option<(LeaseToken, Bytes)>,
    /// Fields of the reported end of this lease. Void when another end is the last.
    pub last_end: Option<(LeaseToken, Bytes)>,
}

/// The lease of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The session that holds it.
    pub session: SessionId,
    /// The token for its reports.
    pub token: LeaseToken,
    pub worker: Name,
    /// When it was given.
    pub assigned_at: WallTime,
    /// TTL of the session. A later leader waits as long for it to reconnect.
    pub session_ttl: Millis,
}

/// The reported end of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseEnd {
    pub token: LeaseToken,
    pub kind: EndKind,
    /// The hash of the report, to distinguish a repeat from another report. 0 for a returned task, whose
    /// report has no content.
    pub fingerprint: u64,
}

impl LeaseEnd {
    /// The task was returned unprocessed.
    #[must_use]
    pub fn released(token: LeaseToken) -> Self {
        Self { token, kind: EndKind::Released, fingerprint: 0 }
    }
}

/// The kinds of a reported end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndKind {
    /// The handler succeeded.
    Completed,
    /// The handler failed.
    Failed,
    /// The attempt was stopped, as the server asked.
    Cancelled,
    /// The task was returned unprocessed.
    Released,
}

/// The record of an ended task.
#[derive(Debug, Clone, PartialEq)]
pub struct DoneRecord {
    pub id: TaskId,
    pub queue: Name,
    pub kind: Name,
    /// `Completed`, `Failed`, `Cancelled` or `Expired`.
    pub status: Status,
    pub priority: Priority,
    /// Last due time.
    pub run_at: WallTime,
    /// Number of attempts.
    pub attempt: u32,
    /// Number of attempts that lost their worker.
    pub lost: u32,
    /// Failures that counted against `max_attempts`.
    pub failures: u32,
    /// Number of attempts that their handler snoozed.
    pub snoozes: u32,
    /// Number of changes of its definition by clients.
    pub edits: u32,
    /// When it ended.
    pub finished_at: WallTime,
    /// Time at which retention can remove it.
    pub retain_until: WallTime,
    /// The last attempt, if there was one, without output, which is in the record of the attempt.
    pub last: Option<AttemptRecord>,
    /// Why it did not complete.
    pub failure: Option<Failure>,
    /// The last reported end of a lease, to recognise a repeated report.
    pub last_end: Option<LeaseEnd>,
    /// Whether the task has a result.
    pub has_result: bool,
    /// Whether the last attempt has its own record, for its output.
    pub has_output: bool,
    /// Client id and idempotency key.
    pub client_keys: ClientKeys,
    /// Unknown fields that a newer version wrote.
    pub unknown: Option<Box<UnknownFields>>,
    /// The nominal time, if a tick of a schedule created the task.
    pub nominal: Option<WallTime>,
}

impl DoneRecord {
    /// The number of attempts with their own records, counted from the first. Every attempt has one, except a
    /// last attempt that ended the task without output.
    #[must_use]
    pub fn attempts_kept(&self) -> u32 {
        let in_here = self.last.is_some() && !self.has_output;
        self.attempt.saturating_sub(u32::from(in_here))
    }
}

/// An attempt, for the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Token of the attempt's lease.
    pub token: LeaseToken,
    pub worker: Name,
    /// When it was given.
    pub assigned_at: WallTime,
    /// Start of the handler, if the worker reported it.
    pub started_at: Option<WallTime>,
    /// End of the attempt. `None` while it runs.
    pub ended_at: Option<WallTime>,
    /// Why it did not complete.
    pub failure: Option<Failure>,
    /// Time until which the handler snoozed the task, if it did.
    pub snoozed_until: Option<WallTime>,
    /// The end of its output.
    pub output_tail: Bytes,
    /// Unknown fields that a newer version wrote.
    pub unknown: Bytes,
}

/// Why an attempt or a task did not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub reason: FailureReason,
    /// The message, up to [`Failure::MESSAGE_BYTES_MAX`] bytes.
    pub message: Arc<str>,
}

impl Failure {
    /// Maximum length of a message in bytes.
    pub const MESSAGE_BYTES_MAX: usize = 4096;

    /// Makes a failure. Cuts a message that is too long, at a character boundary.
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
    /// The handler reported an error.
    Error,
    /// The handler reported an error that a retry cannot fix.
    Permanent,
    /// The attempt exceeded its timeout.
    Timeout,
    /// The worker was lost.
    WorkerLost,
    /// A client cancelled the task.
    Cancelled,
    /// The task had not started by its start deadline.
    Expired,
}

impl FailureReason {
    /// All reasons.
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

/// The settings of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueRecord {
    /// Whether the queue is paused.
    pub paused: bool,
    /// Who paused it, and why. `None` if it is not paused, or if an older version paused it.
    pub pause: Option<Box<Pause>>,
    /// Unknown fields that a newer version wrote.
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
