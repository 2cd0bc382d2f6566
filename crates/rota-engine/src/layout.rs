//! Where each record lives in the store: spaces and keys.
//!
//! | space | key | value |
//! |---|---|---|
//! | `live` | task id | state of a task that has not ended; read whole at start-up |
//! | `done` | task id | state of a completed task |
//! | `dead` | task id | state of a failed, cancelled or expired task |
//! | `spec` | task id | definition, written once |
//! | `result` | task id | what the handler returned |
//! | `attempt` | task id `/` number | one attempt of the history |
//! | `name` | `id/` client's id, `key/` idempotency key | the task, and a hash of its body |
//! | `queue` | queue | its settings |
//! | `total` | queue, space, kind | how often what happened to tasks, since the beginning |
//! | `cluster` | `level` | the [feature level](crate::level) that the cluster may use, as text |
//! | `mark` | `marks` | the newest id ever given, the last date that was believed |
//! | `mark` | `successor` | the node that a leader last asked to get ready to take over |
//! | `retain` | date `/` batch | tasks that may be removed from then on |
//!
//! Keys are text, so that they can be read with the store's own tools; ids sort by creation.

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

/// Every space that the engine uses: what a store must be opened with.
pub const SPACES: &[Space] =
    &[LIVE, DONE, DEAD, SPEC, RESULT, ATTEMPT, CLIENT_KEY, QUEUE, RETAIN, TOTAL, CLUSTER, MARK];

/// The only key of `cluster`.
pub(crate) const FEATURE_LEVEL: Bytes = Bytes::from_static(b"level");

/// Entries of `retain` are made for spans of this length, so that a batch makes few.
const RETAIN_SPAN_MS: i64 = 10_000;

/// Where the state of a task that ended so is kept.
pub(crate) fn ended(status: Status) -> Space {
    if status == Status::Completed { DONE } else { DEAD }
}

pub(crate) fn task(id: TaskId) -> Bytes {
    id.to_string().into()
}

/// The task that a key of a space with task ids names.
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

/// What all keys of a task's attempts begin with.
pub(crate) fn attempts(id: TaskId) -> Bytes {
    format!("{id}/").into()
}

const ID_PREFIX: &str = "id/";
const KEY_PREFIX: &str = "key/";

pub(crate) fn client_id(id: &Name) -> Bytes {
    format!("{ID_PREFIX}{id}").into()
}

/// The longest idempotency key, in bytes: with what stands before it, a store takes no more.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = KEY_BYTES_MAX - KEY_PREFIX.len();

pub(crate) fn idempotency_key(key: &str) -> Bytes {
    format!("{KEY_PREFIX}{key}").into()
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

/// Names hold no spaces.
pub(crate) fn total(queue: &str, kind: &str) -> Bytes {
    format!("{queue} {kind}").into()
}

/// The queue and the kind that a key of totals names.
pub(crate) fn parse_total(key: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(key).ok()?.split_once(' ')
}

/// The end of the span that holds that date.
pub(crate) fn retain_span(date: WallTime) -> i64 {
    date.0.div_euclid(RETAIN_SPAN_MS).saturating_add(1).saturating_mul(RETAIN_SPAN_MS)
}

pub(crate) fn retain(span: i64, batch: BatchSeq) -> Bytes {
    format!("{span:016}/{:020}", batch.0).into()
}

/// The span that a key of `retain` is of.
pub(crate) fn parse_retain_span(key: &[u8]) -> Option<i64> {
    std::str::from_utf8(key).ok()?.split_once('/')?.0.parse().ok()
}

/// The key of [`crate::marks`].
pub(crate) fn marks() -> Bytes {
    Bytes::from_static(b"marks")
}

/// Who is asked to get ready to take over. It counts only while its batch comes by, so it is never removed.
pub(crate) const SUCCESSOR: Bytes = Bytes::from_static(b"successor");

/// The first key of `retain` that is not over at that date.
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
    fn retain_keys_sort_by_date_and_end_where_now_is() {
        let span = retain_span(WallTime(1_700_000_000_000));
        assert_eq!(span, 1_700_000_010_000);
        let key = retain(span, BatchSeq(7));
        assert!(key > retain_from(WallTime(span - 1)));
        assert!(key < retain_from(WallTime(span)));
    }
}
