//! The records in the store, as far as the auditor reads them: messages of its own, written from the
//! documented layout and not from the engine's code.

use bytes::Bytes;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Spec {
    #[prost(fixed64, tag = "1")]
    pub(super) id: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) payload: Bytes,
    #[prost(message, repeated, tag = "5")]
    pub(super) labels: Vec<Label>,
    #[prost(int64, optional, tag = "7")]
    pub(super) expires_at_ms: Option<i64>,
    #[prost(message, optional, tag = "8")]
    pub(super) policy: Option<Policy>,
    #[prost(string, tag = "9")]
    pub(super) client_id: String,
    #[prost(string, tag = "13")]
    pub(super) description: String,
    #[prost(message, optional, tag = "14")]
    pub(super) tick: Option<TickOfTask>,
}

/// The tick that a task was created for.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TickOfTask {
    #[prost(string, tag = "1")]
    pub(super) schedule: String,
    #[prost(int64, optional, tag = "2")]
    pub(super) nominal_ms: Option<i64>,
    #[prost(int64, optional, tag = "3")]
    pub(super) previous_ms: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Policy {
    #[prost(uint32, tag = "1")]
    pub(super) max_attempts: u32,
    #[prost(uint64, tag = "2")]
    pub(super) initial_ms: u64,
    #[prost(uint64, tag = "4")]
    pub(super) max_ms: u64,
    #[prost(bool, tag = "5")]
    pub(super) no_jitter: bool,
    #[prost(uint32, optional, tag = "9")]
    pub(super) max_snoozes: Option<u32>,
}

/// `max_snoozes` of a policy that does not say it.
pub(super) const SNOOZES_UNSAID: u32 = 1000;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Lease {
    #[prost(fixed64, tag = "1")]
    pub(super) session: u64,
    #[prost(uint64, tag = "2")]
    pub(super) token: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct LastEnd {
    #[prost(uint64, tag = "1")]
    pub(super) token: u64,
    #[prost(uint32, tag = "2")]
    pub(super) kind: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Live {
    #[prost(fixed64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, tag = "2")]
    pub(super) queue: String,
    #[prost(uint32, tag = "4")]
    pub(super) status: u32,
    #[prost(uint32, tag = "5")]
    pub(super) priority: u32,
    #[prost(int64, tag = "6")]
    pub(super) run_at_ms: i64,
    #[prost(int64, optional, tag = "7")]
    pub(super) expires_at_ms: Option<i64>,
    #[prost(uint32, tag = "8")]
    pub(super) attempt: u32,
    #[prost(uint32, tag = "9")]
    pub(super) lost: u32,
    #[prost(uint32, tag = "10")]
    pub(super) failures: u32,
    #[prost(message, optional, tag = "12")]
    pub(super) lease: Option<Lease>,
    #[prost(bool, tag = "13")]
    pub(super) cancel_requested: bool,
    #[prost(message, optional, tag = "17")]
    pub(super) last_end: Option<LastEnd>,
    #[prost(uint32, tag = "18")]
    pub(super) snoozes: u32,
    #[prost(uint32, tag = "21")]
    pub(super) edits: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Attempt {
    #[prost(uint32, tag = "1")]
    pub(super) attempt: u32,
    #[prost(uint64, tag = "2")]
    pub(super) token: u64,
    #[prost(int64, optional, tag = "9")]
    pub(super) snoozed_until_ms: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Done {
    #[prost(fixed64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint32, tag = "4")]
    pub(super) status: u32,
    #[prost(uint32, tag = "8")]
    pub(super) lost: u32,
    #[prost(int64, tag = "10")]
    pub(super) retain_until_ms: i64,
    #[prost(message, optional, tag = "11")]
    pub(super) last: Option<Attempt>,
    #[prost(message, optional, tag = "12")]
    pub(super) failure: Option<Failure>,
    #[prost(bool, tag = "13")]
    pub(super) has_result: bool,
    #[prost(message, optional, tag = "16")]
    pub(super) last_end: Option<LastEnd>,
    #[prost(uint32, tag = "21")]
    pub(super) edits: u32,
}

/// Why an attempt did not complete, as far as it says whether another is due.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Failure {
    #[prost(uint32, tag = "1")]
    pub(super) reason: u32,
}

/// The handler failed, or took too long.
pub(super) const ERROR: u32 = 1;
pub(super) const TIMEOUT: u32 = 3;

/// The task was given back.
pub(super) const RELEASED: u32 = 4;

/// Whom a name stands for.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct KeyOwner {
    #[prost(fixed64, tag = "1")]
    pub(super) task: u64,
}

/// Numbers of states in the store.
pub(super) const PENDING: u32 = 2;
pub(super) const COMPLETED: u32 = 4;
pub(super) const FAILED: u32 = 5;
pub(super) const CANCELLED: u32 = 6;

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Queue {
    #[prost(bool, tag = "1")]
    pub(super) paused: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Schedule {
    #[prost(string, tag = "13")]
    pub(super) description: String,
    #[prost(int64, tag = "15")]
    pub(super) created_at_ms: i64,
    #[prost(int64, tag = "16")]
    pub(super) updated_at_ms: i64,
    #[prost(uint32, tag = "17")]
    pub(super) version: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Pause {
    #[prost(string, tag = "3")]
    pub(super) note: String,
}

/// The state of a schedule.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Cursor {
    #[prost(int64, tag = "1")]
    pub(super) cursor_ms: i64,
    #[prost(bool, tag = "2")]
    pub(super) completed: bool,
    #[prost(message, optional, tag = "3")]
    pub(super) pause: Option<Pause>,
    #[prost(int64, optional, tag = "4")]
    pub(super) paused_until_ms: Option<i64>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) runs_left: Option<u64>,
    #[prost(int64, repeated, tag = "11")]
    pub(super) queued_ms: Vec<i64>,
}

/// What became of ticks in a row.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Run {
    #[prost(uint32, tag = "1")]
    pub(super) outcome: u32,
    #[prost(uint32, tag = "2")]
    pub(super) reason: u32,
    #[prost(fixed64, optional, tag = "3")]
    pub(super) task: Option<u64>,
    #[prost(int64, tag = "4")]
    pub(super) first_ms: i64,
    #[prost(int64, tag = "5")]
    pub(super) last_ms: i64,
    #[prost(uint64, tag = "6")]
    pub(super) count: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct TickRecord {
    #[prost(message, optional, tag = "1")]
    pub(super) run: Option<Run>,
    #[prost(int64, optional, tag = "3")]
    pub(super) retain_until_ms: Option<i64>,
}

/// Numbers of outcomes in the store, and of reasons.
pub(super) const FIRED: u32 = 1;
pub(super) const QUEUED: u32 = 2;
pub(super) const SKIPPED: u32 = 3;
pub(super) const COALESCED: u32 = 4;
pub(super) const MISSED: u32 = 5;
pub(super) const REFUSED: u32 = 6;
pub(super) const OVERLAP: u32 = 1;
pub(super) const PAUSED: u32 = 2;
pub(super) const EXCLUDED: u32 = 3;
pub(super) const GAP: u32 = 4;
pub(super) const BY_REQUEST: u32 = 5;
pub(super) const CONFLICT: u32 = 1;
pub(super) const EXPIRED: u32 = 4;
