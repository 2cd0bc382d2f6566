//! The table of all spaces, for everything that goes over whole stores.

use bytes::Bytes;
use rota_core::TaskId;
use rota_store::Space;
use serde_json::{Value, json};

use super::{readable, schedules};
use crate::{
    codec::CodecError,
    layout,
    records::{
        Attempt, Calendar, Cursor, Done, Kind, Live, Owner, Queue, Retain, Schedule, Spec, Tick,
        Total,
    },
};

/// A space, and what its records mean to a transfer.
pub(super) struct SpaceKind {
    pub(super) space: Space,
    /// Whether the record with this key belongs to the state. Others are about running nodes or about a transfer, and
    /// stay where they are.
    pub(super) belongs: fn(&[u8]) -> bool,
    /// Whether a node writes the record with this key although nobody has used the store.
    pub(super) by_itself: fn(&[u8]) -> bool,
    pub(super) read: fn(&Bytes, &Bytes) -> Readable,
}

/// A record as people read it.
#[derive(Debug, Clone, PartialEq)]
pub enum Readable {
    Record(Value),
    /// Its bytes are not such a record.
    Damaged(String),
    /// It has a value that this version does not know.
    Newer(String),
    /// No record of its space has such a key.
    Foreign(&'static str),
}

const fn kind(space: Space, read: fn(&Bytes, &Bytes) -> Readable) -> SpaceKind {
    SpaceKind { space, belongs: |_| true, by_itself: |_| false, read }
}

/// All spaces, in the order in which transfers go over them.
pub(super) const KINDS: &[SpaceKind] = &[
    kind(layout::LIVE, |key, value| read::<Live>(key, value, readable::live)),
    kind(layout::DONE, |key, value| read::<Done>(key, value, readable::done)),
    kind(layout::DEAD, |key, value| read::<Done>(key, value, readable::done)),
    kind(layout::SPEC, |key, value| read::<Spec>(key, value, |spec| readable::spec(&spec))),
    kind(layout::RESULT, result),
    kind(layout::ATTEMPT, |key, value| read::<Attempt>(key, value, readable::attempt)),
    kind(layout::CLIENT_KEY, |key, value| read::<Owner>(key, value, readable::owner)),
    kind(layout::QUEUE, |key, value| read::<Queue>(key, value, readable::queue)),
    kind(layout::RETAIN, |key, value| match layout::parse_retain(key) {
        Some(_) => read::<Retain>(key, value, |tasks| readable::retain(&tasks)),
        None => Readable::Foreign("a date and the number of a batch"),
    }),
    kind(layout::TOTAL, |key, value| match layout::parse_total(key) {
        Some(_) => read::<Total>(key, value, |(counts, _)| readable::total(&counts)),
        None => Readable::Foreign("a queue and a kind"),
    }),
    SpaceKind {
        belongs: |key| key != layout::UNFINISHED,
        by_itself: |key| key == layout::FEATURE_LEVEL,
        ..kind(layout::CLUSTER, cluster)
    },
    SpaceKind {
        belongs: |key| key != layout::SUCCESSOR,
        by_itself: |key| key == layout::marks() || key == layout::SUCCESSOR,
        ..kind(layout::MARK, mark)
    },
    kind(layout::SCHEDULE, |key, value| read::<Schedule>(key, value, schedules::schedule)),
    kind(layout::CURSOR, |key, value| read::<Cursor>(key, value, schedules::state)),
    kind(layout::TICK, |key, value| read::<Tick>(key, value, schedules::tick)),
    kind(layout::CALENDAR, |key, value| read::<Calendar>(key, value, schedules::calendar)),
];

// A space without a row would be lost by every copy and every export.
const _: () = assert!(
    covers(layout::SPACES, KINDS),
    "transfer/kinds.rs needs one row for each space in layout::SPACES"
);

/// Whether each space has exactly one row.
const fn covers(spaces: &[Space], kinds: &[SpaceKind]) -> bool {
    let mut at = 0;
    while at < spaces.len() {
        let mut rows = 0;
        let mut row = 0;
        while row < kinds.len() {
            if is_same(spaces[at].name.as_bytes(), kinds[row].space.name.as_bytes()) {
                rows += 1;
            }
            row += 1;
        }
        if rows != 1 {
            return false;
        }
        at += 1;
    }
    spaces.len() == kinds.len()
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// The names of all spaces, in the order of a transfer.
pub fn space_names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.space.name)
}

/// The row of the space with that name.
pub(super) fn position_of(name: &str) -> Option<usize> {
    KINDS.iter().position(|kind| kind.space.name == name)
}

/// Whether this is the record of the cluster's feature level.
pub(super) fn is_level(kind: usize, key: &[u8]) -> bool {
    KINDS.get(kind).is_some_and(|kind| kind.space == layout::CLUSTER)
        && key == layout::FEATURE_LEVEL
}

/// The name of a record in messages.
pub(super) fn record_name(kind: usize, key: &[u8]) -> String {
    let space = KINDS.get(kind).map_or("", |kind| kind.space.name);
    format!("{space}/{}", readable::text(key))
}

fn read<K: Kind>(key: &Bytes, value: &Bytes, show: fn(K::Record) -> Value) -> Readable {
    let Some(typed) = K::decode_key(key) else {
        return Readable::Foreign(match K::NAME {
            "name" => "`id/` or `key/` and a client's key",
            "queue" => "the name of a queue",
            "schedule" | "cursor" => "the name of a schedule",
            "tick" => "a schedule and a nominal time",
            "calendar" => "the name of a calendar",
            "attempt" => "a task id and the number of an attempt",
            _ => "a task id",
        });
    };
    match K::decode(&typed, value) {
        Ok(record) => Readable::Record(show(record)),
        Err(CodecError::Damaged(why)) => Readable::Damaged(why),
        Err(CodecError::Unknown(why)) => Readable::Newer(why),
    }
}

fn result(key: &Bytes, value: &Bytes) -> Readable {
    match layout::parse_task(key) {
        Some(_) => Readable::Record(json!({ "result": readable::content(value) })),
        None => Readable::Foreign("a task id"),
    }
}

fn cluster(key: &Bytes, value: &Bytes) -> Readable {
    if *key == layout::UNFINISHED {
        return match serde_json::from_slice(value) {
            Ok(mark) => Readable::Record(mark),
            Err(error) => Readable::Damaged(error.to_string()),
        };
    }
    if *key != layout::FEATURE_LEVEL {
        return Readable::Foreign("`level`");
    }
    match std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok()) {
        Some(level) => Readable::Record(json!({ "feature_level": level })),
        None => Readable::Damaged("it is not a number".to_owned()),
    }
}

fn mark(key: &Bytes, value: &Bytes) -> Readable {
    if *key == layout::SUCCESSOR {
        return Readable::Record(json!({ "node": readable::text(value) }));
    }
    if *key != layout::marks() {
        return Readable::Foreign("`marks` or `successor`");
    }
    match crate::marks::Marks::decode(value.clone()) {
        Ok(marks) => Readable::Record(json!({
            "newest_task": marks.newest.as_ref().map(TaskId::to_string),
            "last_trusted_date": marks.written.map(readable::date),
        })),
        Err(error) => Readable::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_that_has_no_row_or_two_is_noticed() {
        assert!(covers(layout::SPACES, KINDS));
        assert!(!covers(layout::SPACES, &KINDS[1..]));
        assert!(!covers(&layout::SPACES[1..], KINDS));
        let other = Space { name: "other", ..layout::LIVE };
        assert!(!covers(&[&layout::SPACES[1..], &[other]].concat(), KINDS));
    }
}
