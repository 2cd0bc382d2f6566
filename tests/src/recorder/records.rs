//! What interests the judge in the records of tasks.

use prost::Message;

use crate::history::{Lease, Revision, TaskWrite};

/// Takes note of one change to a key below `s/`: a put, or a delete without a value.
pub(super) fn note(revision: &mut Revision, space: &str, key: &str, value: Option<&[u8]>) {
    revision.data = true;
    let task = key.to_owned();
    if let ("live" | "done" | "dead", Some(value)) = (space, value) {
        revision.ids.extend(client_id(space, value));
    }
    match (space, value) {
        ("spec", Some(_)) => revision.created.push(task),
        ("live", Some(value)) => revision.tasks.push(live(task, value)),
        ("live", None) => revision.tasks.push(TaskWrite::NoLonger { task }),
        ("done", Some(value)) => revision.tasks.push(ended(task, value, true)),
        ("dead", Some(value)) => revision.tasks.push(ended(task, value, false)),
        ("done" | "dead", None) => revision.tasks.push(TaskWrite::EndUndone { task }),
        _ => {}
    }
}

/// What interests here of a record in `live`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LiveMessage {
    #[prost(uint32, tag = "8")]
    pub(super) attempt: u32,
    #[prost(message, optional, tag = "12")]
    pub(super) lease: Option<LeaseMessage>,
    #[prost(string, optional, tag = "15")]
    pub(super) client_id: Option<String>,
    #[prost(message, optional, tag = "17")]
    pub(super) last_end: Option<LeaseEndMessage>,
}

/// How a lease ended, as its worker reported it.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct LeaseEndMessage {
    #[prost(uint64, tag = "1")]
    pub(super) token: u64,
    #[prost(uint32, tag = "2")]
    pub(super) kind: u32,
}

/// The kind of an end by which a worker gives a task back unprocessed.
const RELEASED: u32 = 4;

#[derive(Clone, PartialEq, Message)]
pub(super) struct LeaseMessage {
    #[prost(fixed64, tag = "1")]
    pub(super) session: u64,
    #[prost(uint64, tag = "2")]
    pub(super) token: u64,
}

/// What interests here of a record in `done` or `dead`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndedMessage {
    #[prost(message, optional, tag = "11")]
    pub(super) last: Option<AttemptMessage>,
    #[prost(string, optional, tag = "14")]
    pub(super) client_id: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AttemptMessage {
    #[prost(uint32, tag = "1")]
    pub(super) attempt: u32,
    #[prost(uint64, tag = "2")]
    pub(super) token: u64,
}

fn client_id(space: &str, value: &[u8]) -> Option<String> {
    if space == "live" {
        LiveMessage::decode(value).expect("a record of `live`").client_id
    } else {
        EndedMessage::decode(value).expect("a record of `done` or `dead`").client_id
    }
}

fn live(task: String, value: &[u8]) -> TaskWrite {
    let message = LiveMessage::decode(value).expect("a record of `live`");
    let attempt = message.attempt;
    let lease = |LeaseMessage { session, token }| Lease { attempt, token, session };
    let released = message.last_end.filter(|end| end.kind == RELEASED).map(|end| end.token);
    TaskWrite::Live { task, lease: message.lease.map(lease), released }
}

fn ended(task: String, value: &[u8], completed: bool) -> TaskWrite {
    let message = EndedMessage::decode(value).expect("a record of `done` or `dead`");
    let under = message.last.map(|last| (last.attempt, last.token));
    TaskWrite::Ended { task, completed, under }
}
