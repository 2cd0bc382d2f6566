//! What interests the judge in the records of tasks.

use prost::Message;

use crate::history::{Lease, Revision, ScheduleWrite, TaskWrite, Ticks};

/// Takes note of one change to a key below `s/`: a put, or a delete without a value.
pub(super) fn note(revision: &mut Revision, space: &str, key: &str, value: Option<&[u8]>) {
    revision.data = true;
    let task = key.to_owned();
    if let ("live" | "done" | "dead", Some(value)) = (space, value) {
        revision.ids.extend(client_id(space, value));
    }
    match (space, value) {
        ("spec", Some(value)) => {
            revision.created.push(task);
            revision.schedules.extend(task_of_tick(value));
        }
        ("cursor", Some(value)) => {
            let until_ms = CursorMessage::decode(value).expect("a record of `cursor`").cursor_ms;
            revision.schedules.push(ScheduleWrite::Cursor { schedule: task, until_ms });
        }
        ("tick", Some(value)) => revision.schedules.push(outcome(&task, value)),
        ("tick", None) => revision.schedules.push(ScheduleWrite::Removed(task)),
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

/// What interests here of a record in `spec`.
#[derive(Clone, PartialEq, Message)]
struct SpecMessage {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(string, optional, tag = "9")]
    client_id: Option<String>,
    #[prost(message, optional, tag = "14")]
    tick: Option<TickOfTaskMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct TickOfTaskMessage {
    #[prost(string, tag = "1")]
    schedule: String,
    #[prost(int64, optional, tag = "2")]
    nominal_ms: Option<i64>,
}

/// What interests here of a record in `cursor`.
#[derive(Clone, Copy, PartialEq, Message)]
struct CursorMessage {
    #[prost(int64, tag = "1")]
    cursor_ms: i64,
}

/// A record in `tick`.
#[derive(Clone, Copy, PartialEq, Message)]
struct TickMessage {
    #[prost(message, optional, tag = "1")]
    run: Option<RunMessage>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct RunMessage {
    #[prost(uint32, tag = "1")]
    outcome: u32,
    #[prost(fixed64, optional, tag = "3")]
    task: Option<u64>,
    #[prost(int64, tag = "4")]
    first_ms: i64,
    #[prost(int64, tag = "5")]
    last_ms: i64,
    #[prost(uint64, tag = "6")]
    count: u64,
}

fn task_of_tick(value: &[u8]) -> Option<ScheduleWrite> {
    // Tests write records that are none.
    let SpecMessage { id, client_id, tick } = SpecMessage::decode(value).ok()?;
    let TickOfTaskMessage { schedule, nominal_ms } = tick?;
    let id_text = client_id.unwrap_or_default();
    Some(ScheduleWrite::Task { schedule, task: id, id: id_text, nominal_ms: nominal_ms? })
}

fn outcome(key: &str, value: &[u8]) -> ScheduleWrite {
    let run = TickMessage::decode(value).expect("a record of `tick`").run.expect("an outcome");
    let RunMessage { outcome, task, first_ms, last_ms, count } = run;
    let schedule = key.split(' ').next().unwrap_or_default().to_owned();
    ScheduleWrite::Outcome(schedule, Ticks { outcome, task, first_ms, last_ms, count })
}
