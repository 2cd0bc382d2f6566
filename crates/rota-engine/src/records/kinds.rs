//! The kinds of records that the engine keeps.

use std::sync::Arc;

use bytes::Bytes;
use rota_core::{
    AttemptRecord, CalendarRecord, DoneRecord, KeyOwner, LiveRecord, Name, QueueRecord,
    ScheduleRecord, ScheduleState, TaskId, TaskSpec, TickRecord, WallTime,
};
use rota_metrics::Counts;
use rota_store::Space;

use super::Kind;
use crate::{
    codec::{self, CodecError, Expiring, ForeignCounts},
    layout::{self, ClientKey},
};

/// State of a task that has not ended.
pub(crate) struct Live;

impl Kind for Live {
    type Key = TaskId;
    type Record = LiveRecord;
    const NAME: &'static str = layout::LIVE.name;
    const SPACES: &'static [Space] = &[layout::LIVE];

    fn encode_key(task: &TaskId) -> Bytes {
        layout::task(*task)
    }

    fn decode_key(key: &Bytes) -> Option<TaskId> {
        layout::parse_task(key)
    }

    fn decode(task: &TaskId, value: &Bytes) -> Result<LiveRecord, CodecError> {
        codec::decode_live_of(*task, value)
    }

    fn task(task: &TaskId) -> Option<TaskId> {
        Some(*task)
    }
}

/// State of a task that has ended.
pub(crate) struct Done;

impl Kind for Done {
    type Key = TaskId;
    type Record = DoneRecord;
    const NAME: &'static str = layout::DONE.name;
    const SPACES: &'static [Space] = &[layout::DONE, layout::DEAD];

    fn encode_key(task: &TaskId) -> Bytes {
        layout::task(*task)
    }

    fn decode_key(key: &Bytes) -> Option<TaskId> {
        layout::parse_task(key)
    }

    fn decode(_: &TaskId, value: &Bytes) -> Result<DoneRecord, CodecError> {
        codec::decode_done(value)
    }

    fn task(task: &TaskId) -> Option<TaskId> {
        Some(*task)
    }
}

/// Definition of a task. It holds the payload, which can be large: [`specs`](crate::specs) bounds how many are read.
pub(crate) struct Spec;

impl Kind for Spec {
    type Key = TaskId;
    type Record = Arc<TaskSpec>;
    const NAME: &'static str = layout::SPEC.name;
    const SPACES: &'static [Space] = &[layout::SPEC];

    fn encode_key(task: &TaskId) -> Bytes {
        layout::task(*task)
    }

    fn decode_key(key: &Bytes) -> Option<TaskId> {
        layout::parse_task(key)
    }

    fn decode(_: &TaskId, value: &Bytes) -> Result<Arc<TaskSpec>, CodecError> {
        codec::decode_spec(value).map(Arc::new)
    }

    fn task(task: &TaskId) -> Option<TaskId> {
        Some(*task)
    }
}

/// An attempt of a task's history, by its number.
pub(crate) struct Attempt;

impl Kind for Attempt {
    type Key = (TaskId, u32);
    type Record = AttemptRecord;
    const NAME: &'static str = layout::ATTEMPT.name;
    const SPACES: &'static [Space] = &[layout::ATTEMPT];

    fn encode_key((task, attempt): &(TaskId, u32)) -> Bytes {
        layout::attempt(*task, *attempt)
    }

    fn decode_key(key: &Bytes) -> Option<(TaskId, u32)> {
        layout::parse_attempt(key)
    }

    fn decode(_: &(TaskId, u32), value: &Bytes) -> Result<AttemptRecord, CodecError> {
        codec::decode_attempt(value)
    }

    fn task((task, _): &(TaskId, u32)) -> Option<TaskId> {
        Some(*task)
    }
}

/// The task that owns a client key.
pub(crate) struct Owner;

impl Kind for Owner {
    type Key = ClientKey;
    type Record = KeyOwner;
    const NAME: &'static str = layout::CLIENT_KEY.name;
    const SPACES: &'static [Space] = &[layout::CLIENT_KEY];

    fn encode_key(key: &ClientKey) -> Bytes {
        match key {
            ClientKey::Id(id) => layout::client_id(id),
            ClientKey::Idempotency(key) => layout::idempotency_key(key),
        }
    }

    fn decode_key(key: &Bytes) -> Option<ClientKey> {
        layout::parse_client_key(key)
    }

    fn decode(_: &ClientKey, value: &Bytes) -> Result<KeyOwner, CodecError> {
        codec::decode_key_owner(value)
    }
}

/// Settings of a queue.
pub(crate) struct Queue;

impl Kind for Queue {
    type Key = Name;
    type Record = QueueRecord;
    const NAME: &'static str = layout::QUEUE.name;
    const SPACES: &'static [Space] = &[layout::QUEUE];

    fn encode_key(name: &Name) -> Bytes {
        layout::named(name)
    }

    fn decode_key(key: &Bytes) -> Option<Name> {
        layout::parse_name(key)
    }

    fn decode(_: &Name, value: &Bytes) -> Result<QueueRecord, CodecError> {
        codec::decode_queue(value)
    }
}

/// Totals of the tasks of a queue and a kind.
pub(crate) struct Total;

impl Kind for Total {
    type Key = (Arc<str>, Arc<str>);
    type Record = (Counts, ForeignCounts);
    const NAME: &'static str = layout::TOTAL.name;
    const SPACES: &'static [Space] = &[layout::TOTAL];

    fn encode_key((queue, kind): &(Arc<str>, Arc<str>)) -> Bytes {
        layout::total(queue, kind)
    }

    fn decode_key(key: &Bytes) -> Option<(Arc<str>, Arc<str>)> {
        layout::parse_total(key).map(|(queue, kind)| (queue.into(), kind.into()))
    }

    fn decode(
        _: &(Arc<str>, Arc<str>),
        value: &Bytes,
    ) -> Result<(Counts, ForeignCounts), CodecError> {
        codec::decode_total(value)
    }
}

/// Tasks and ticks that can be removed from a date on. Its key is used unchanged.
pub(crate) struct Retain;

impl Kind for Retain {
    type Key = Bytes;
    type Record = Expiring;
    const NAME: &'static str = layout::RETAIN.name;
    const SPACES: &'static [Space] = &[layout::RETAIN];

    fn encode_key(key: &Bytes) -> Bytes {
        key.clone()
    }

    fn decode_key(key: &Bytes) -> Option<Bytes> {
        Some(key.clone())
    }

    fn decode(_: &Bytes, value: &Bytes) -> Result<Expiring, CodecError> {
        codec::decode_retain(value)
    }
}

/// Definition of a schedule.
pub(crate) struct Schedule;

impl Kind for Schedule {
    type Key = Name;
    type Record = ScheduleRecord;
    const NAME: &'static str = layout::SCHEDULE.name;
    const SPACES: &'static [Space] = &[layout::SCHEDULE];

    fn encode_key(name: &Name) -> Bytes {
        layout::named(name)
    }

    fn decode_key(key: &Bytes) -> Option<Name> {
        layout::parse_name(key)
    }

    fn decode(name: &Name, value: &Bytes) -> Result<ScheduleRecord, CodecError> {
        codec::decode_schedule_of(name, value)
    }
}

/// State of a schedule.
pub(crate) struct Cursor;

impl Kind for Cursor {
    type Key = Name;
    type Record = ScheduleState;
    const NAME: &'static str = layout::CURSOR.name;
    const SPACES: &'static [Space] = &[layout::CURSOR];

    fn encode_key(name: &Name) -> Bytes {
        layout::named(name)
    }

    fn decode_key(key: &Bytes) -> Option<Name> {
        layout::parse_name(key)
    }

    fn decode(_: &Name, value: &Bytes) -> Result<ScheduleState, CodecError> {
        codec::decode_schedule_state(value)
    }
}

/// Days that schedules share.
pub(crate) struct Calendar;

impl Kind for Calendar {
    type Key = Name;
    type Record = CalendarRecord;
    const NAME: &'static str = layout::CALENDAR.name;
    const SPACES: &'static [Space] = &[layout::CALENDAR];

    fn encode_key(name: &Name) -> Bytes {
        layout::named(name)
    }

    fn decode_key(key: &Bytes) -> Option<Name> {
        layout::parse_name(key)
    }

    fn decode(name: &Name, value: &Bytes) -> Result<CalendarRecord, CodecError> {
        codec::decode_calendar_of(name, value)
    }
}

/// What became of a tick, or of a run of ticks that begins with it.
pub(crate) struct Tick;

impl Kind for Tick {
    type Key = (Name, WallTime);
    type Record = TickRecord;
    const NAME: &'static str = layout::TICK.name;
    const SPACES: &'static [Space] = &[layout::TICK];

    fn encode_key((schedule, first): &(Name, WallTime)) -> Bytes {
        layout::tick(schedule, *first)
    }

    fn decode_key(key: &Bytes) -> Option<(Name, WallTime)> {
        layout::parse_tick(key)
    }

    fn decode((schedule, _): &(Name, WallTime), value: &Bytes) -> Result<TickRecord, CodecError> {
        codec::decode_tick(schedule, value)
    }
}
