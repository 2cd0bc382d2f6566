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
    #[prost(string, tag = "13")]
    pub(super) description: String,
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
