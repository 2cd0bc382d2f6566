//! The layout of the store: spaces and keys.
//!
//! | space | key | value |
//! |---|---|---|
//! | `live` | task id | state of a live task; all are read at start |
//! | `done` | task id | state of a completed task |
//! | `dead` | task id | state of a failed, cancelled or expired task |
//! | `spec` | task id | definition, written once |
//! | `result` | task id | the result of the task |
//! | `attempt` | task id `/` number | one attempt of the history |
//! | `name` | `id/` client's id, `key/` idempotency key | the task, and a hash of its body |
//! | `queue` | queue | its settings |
//! | `total` | queue, space, kind | counts of events of tasks, since the beginning |
//! | `cluster` | `level` | the [feature level](crate::level) of the cluster, as text |
//! | `cluster` | `unfinished` | the [transfer](crate::transfer) that has written only a part of the store, as JSON |
//! | `mark` | `marks` | the newest task id, the last trusted date |
//! | `mark` | `successor` | the node that a leader last asked to prepare to take over |
//! | `retain` | date `/` batch | tasks and ticks that can be removed from this date on |
//! | `schedule` | name | definition of a schedule |
//! | `cursor` | name of a schedule | its state: the last nominal time that was decided, and more |
//! | `tick` | schedule, nominal time | what became of a tick, or of a run of ticks |
//! | `calendar` | name | days that schedules share |
//!
//! Keys are text, so that the tools of the store can show them. Ids sort by creation.

use std::sync::Arc;

use bytes::Bytes;
use rota_core::{Name, Status, TaskId, WallTime};
use rota_store::{BatchSeq, KEY_BYTES_MAX, Space, SpaceShape};

const fn hot(name: &'static str) -> Space {
    Space { name, shape: SpaceShape::Hot }
}

const fn large(name: &'static str) -> Space {
    Space { name, shape: SpaceShape::Large }
}

pub(crate) const LIVE: Space = hot("live");
pub(crate) const DONE: Space = hot("done");
pub(crate) const DEAD: Space = hot("dead");
pub(crate) const SPEC: Space = large("spec");
pub(crate) const RESULT: Space = large("result");
pub(crate) const ATTEMPT: Space = large("attempt");
pub(crate) const CLIENT_KEY: Space = hot("name");
pub(crate) const QUEUE: Space = hot("queue");
pub(crate) const RETAIN: Space = hot("retain");
pub(crate) const TOTAL: Space = hot("total");
pub(crate) const CLUSTER: Space = hot("cluster");
pub(crate) const MARK: Space = hot("mark");

pub(crate) const SCHEDULE: Space = large("schedule");
pub(crate) const CURSOR: Space = hot("cursor");
pub(crate) const TICK: Space = hot("tick");
pub(crate) const CALENDAR: Space = large("calendar");

/// All spaces of the engine, with which a store must be opened.
pub const SPACES: &[Space] = &[
    LIVE, DONE, DEAD, SPEC, RESULT, ATTEMPT, CLIENT_KEY, QUEUE, RETAIN, TOTAL, CLUSTER, MARK,
    SCHEDULE, CURSOR, TICK, CALENDAR,
];

/// The key of the feature level in `cluster`.
pub(crate) const FEATURE_LEVEL: Bytes = Bytes::from_static(b"level");

/// The mark in `cluster` of a store that holds half of a transfer.
pub(crate) const UNFINISHED: Bytes = Bytes::from_static(b"unfinished");

/// The length of the time spans of `retain` entries, so that a batch writes few entries.
const RETAIN_SPAN_MS: i64 = 10_000;

/// The space for a task that ended with this status.
pub(crate) fn ended(status: Status) -> Space {
    if status == Status::Completed { DONE } else { DEAD }
}

pub(crate) fn task(id: TaskId) -> Bytes {
    id.to_string().into()
}

/// The task of a key, in a space whose keys are task ids.
pub(crate) fn parse_task(key: &[u8]) -> Option<TaskId> {
    std::str::from_utf8(key).ok()?.parse().ok()
}

pub(crate) fn attempt(id: TaskId, attempt: u32) -> Bytes {
    format!("{id}/{attempt:010}").into()
}

/// The task and the number of the attempt that a key of `attempt` names.
pub(crate) fn parse_attempt(key: &[u8]) -> Option<(TaskId, u32)> {
    let (task, attempt) = std::str::from_utf8(key).ok()?.split_once('/')?;
    Some((task.parse().ok()?, attempt.parse().ok()?))
}

/// The prefix of all keys of a task's attempts.
pub(crate) fn attempts(id: TaskId) -> Bytes {
    format!("{id}/").into()
}

const ID_PREFIX: &str = "id/";
const KEY_PREFIX: &str = "key/";

pub(crate) fn client_id(id: &Name) -> Bytes {
    [ID_PREFIX, id].concat().into()
}

/// Maximum bytes of an idempotency key. With the prefix, a store accepts no more.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = KEY_BYTES_MAX - KEY_PREFIX.len();

pub(crate) fn idempotency_key(key: &str) -> Bytes {
    [KEY_PREFIX, key].concat().into()
}

/// The client key that a key of `name` is made of.
pub(crate) fn parse_client_key(key: &[u8]) -> Option<ClientKey> {
    let key = std::str::from_utf8(key).ok()?;
    if let Some(id) = key.strip_prefix(ID_PREFIX) {
        return Some(ClientKey::Id(Name::new(id).ok()?));
    }
    key.strip_prefix(KEY_PREFIX).map(|key| ClientKey::Idempotency(key.into()))
}

/// A key that a client chose for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientKey {
    Id(Name),
    Idempotency(Arc<str>),
}

/// Names contain no spaces.
pub(crate) fn total(queue: &str, kind: &str) -> Bytes {
    format!("{queue} {kind}").into()
}

/// The queue and the kind of a key of totals.
pub(crate) fn parse_total(key: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(key).ok()?.split_once(' ')
}

/// The key of a queue, a schedule, its state, or a calendar.
pub(crate) fn named(name: &Name) -> Bytes {
    name.as_str().to_owned().into()
}

/// The name that a key is.
pub(crate) fn parse_name(key: &[u8]) -> Option<Name> {
    Name::new(std::str::from_utf8(key).ok()?).ok()
}

/// The key of a tick as text. Names contain no spaces. Dates sort.
pub(crate) fn tick_text(schedule: &Name, first: WallTime) -> String {
    [schedule, " ", &rota_core::nominal_text(first)].concat()
}

pub(crate) fn tick(schedule: &Name, first: WallTime) -> Bytes {
    tick_text(schedule, first).into()
}

/// The prefix of all keys of a schedule's ticks.
pub(crate) fn ticks(schedule: &Name) -> Bytes {
    format!("{schedule} ").into()
}

/// The schedule and the first nominal time of a key of `tick`.
pub(crate) fn parse_tick(key: &[u8]) -> Option<(Name, WallTime)> {
    let (schedule, first) = std::str::from_utf8(key).ok()?.split_once(' ')?;
    let first: jiff::Timestamp = first.parse().ok()?;
    Some((Name::new(schedule).ok()?, WallTime(first.as_millisecond())))
}

/// The end of the span that contains the date.
pub(crate) fn retain_span(date: WallTime) -> i64 {
    date.0.div_euclid(RETAIN_SPAN_MS).saturating_add(1).saturating_mul(RETAIN_SPAN_MS)
}

pub(crate) fn retain(span: i64, batch: BatchSeq) -> Bytes {
    format!("{span:016}/{:020}", batch.0).into()
}

/// The span of a key of `retain`.
pub(crate) fn parse_retain_span(key: &[u8]) -> Option<i64> {
    std::str::from_utf8(key).ok()?.split_once('/')?.0.parse().ok()
}

/// The span and the batch of a key of `retain`.
pub(crate) fn parse_retain(key: &[u8]) -> Option<(i64, BatchSeq)> {
    let (span, batch) = std::str::from_utf8(key).ok()?.split_once('/')?;
    Some((span.parse().ok()?, BatchSeq(batch.parse().ok()?)))
}

/// The key of [`crate::marks`].
pub(crate) fn marks() -> Bytes {
    Bytes::from_static(b"marks")
}

/// The node that is asked to prepare to take over. It matters only when its batch is read, so it is never
/// removed.
pub(crate) const SUCCESSOR: Bytes = Bytes::from_static(b"successor");

/// The first key of `retain` after this date.
pub(crate) fn retain_from(now: WallTime) -> Bytes {
    format!("{:016}0", now.0.max(0)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_what_they_were_made_of() {
        let task = TaskId::from_u64(7).unwrap();
        assert_eq!(parse_task(&super::task(task)), Some(task));
        assert_eq!(parse_attempt(&attempt(task, 12)), Some((task, 12)));
        let id = Name::new("mine").unwrap();
        assert_eq!(parse_client_key(&client_id(&id)), Some(ClientKey::Id(id)));
        let key = ClientKey::Idempotency("id/of mine".into());
        assert_eq!(parse_client_key(&idempotency_key("id/of mine")), Some(key));
        for other in ["", "mine", "id/", "other/mine"] {
            assert_eq!(parse_client_key(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn the_keys_of_ticks_sort_by_date_and_schedules_are_kept_apart() {
        let (nightly, below) = (Name::new("a").unwrap(), Name::new("a/b").unwrap());
        let first = WallTime(1_700_000_000_000);
        assert_eq!(parse_tick(&tick(&below, first)), Some((below.clone(), first)));
        assert_eq!(tick(&nightly, first), "a 2023-11-14T22:13:20Z");
        assert!(tick(&nightly, first) < tick(&nightly, WallTime(first.0 + 1000)));
        assert!(!tick(&below, first).starts_with(&ticks(&nightly)));
    }

    #[test]
    fn retain_keys_sort_by_date_and_end_where_now_is() {
        let span = retain_span(WallTime(1_700_000_000_000));
        assert_eq!(span, 1_700_000_010_000);
        let key = retain(span, BatchSeq(7));
        assert!(key > retain_from(WallTime(span - 1)));
        assert!(key < retain_from(WallTime(span)));
    }
}
