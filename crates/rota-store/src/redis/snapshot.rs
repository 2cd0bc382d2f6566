//! The store at one revision, while it changes.
//!
//! Redis keeps no versions. So a snapshot registers itself at the newest revision, and from then on each commit keeps the
//! value that it replaces, if none was kept since the newest snapshot. The value of a key at revision R is the oldest one that was
//! kept since R, or else the current one. Without an open snapshot nothing is kept, and a commit costs one question more.
//!
//! Each read is one script, so that what it finds kept and what it finds current are of one moment. It returns them apart, and
//! [`merge`] puts them together: Lua orders strings by the server's locale, and Rota by their bytes.
//!
//! A snapshot expires a while after its owner fell silent. A read of one that is gone says [`StoreError::Compacted`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Shared, answer,
    fault::{Fault, unexpected},
    position::Position,
    script::Script,
};
use crate::{
    model::{Direction, KeyRange, Page, Revision, Space},
    store::{Snapshot, StoreError},
};

/// How long a snapshot lasts after its last sign of life.
const TTL: Duration = Duration::from_secs(30);

/// Signs of life in that time.
const RATE: u32 = 5;

/// The bytes of values in one answer, about.
pub(super) const ANSWER_BYTES: usize = 16 << 20;

/// Keys in one request.
pub(super) const KEYS_MAX: usize = 4000;

/// A page ends when it holds this many bytes of keys and values, whatever its limit.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// Entries and bytes that one request asks for, at most.
const PART_MAX: usize = 5000;
const PART_BYTES: usize = 4 << 20;

/// See the module.
pub(super) struct RedisSnapshot {
    shared: Arc<Shared>,
    id: String,
    revision: Revision,
    /// Ends it in Redis when dropped.
    _guard: DropGuard,
}

impl RedisSnapshot {
    /// The store as it is now.
    pub(super) async fn take(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        shared.check_open()?;
        let id = format!("{:032x}", fastrand::u128(..));
        let opened =
            shared.reads.ask(shared.server.options.timeout, Script::SnapshotOpen, |call| {
                call.arg(&id).arg(TTL.as_secs() * 1000);
            });
        let (opened, connected) = opened.await?;
        let [position, format] = answer::exactly(opened)?;
        let position = Position::read(position)?;
        shared.server.check_format(&answer::text(format)?)?;
        shared.server.lineage.saw(connected.term, &position.stretch());
        let ended = CancellationToken::new();
        shared.background.tasks.spawn_on(
            keep(Arc::clone(shared), id.clone(), ended.clone()),
            &shared.background.control,
        );
        let guard = ended.drop_guard();
        Ok(Self {
            shared: Arc::clone(shared),
            id,
            revision: Revision(position.head.seq.0),
            _guard: guard,
        })
    }

    /// What a script finds in this snapshot.
    async fn ask(
        &self,
        script: Script,
        arguments: impl Fn(&mut redis::Cmd),
    ) -> Result<Value, StoreError> {
        self.shared.check_open()?;
        // An answer may be large, and the line slow.
        let patience = self.shared.server.options.timeout * 3;
        let answer = self.shared.reads.call_within(patience, script, |call| {
            call.arg(&self.id).arg(TTL.as_secs() * 1000).arg(self.revision.0);
            arguments(call);
        });
        let mut parts = answer::list(answer.await?)?.into_iter();
        let said = answer::text(parts.next().unwrap_or_default())?;
        match (said.as_str(), parts.next()) {
            ("found", Some(found)) => Ok(found),
            ("gone", _) => Err(StoreError::Compacted),
            (other, _) => Err(unexpected(other).into()),
        }
    }
}

/// Keeps a snapshot open until it is `ended`, then ends it in Redis.
async fn keep(shared: Arc<Shared>, id: String, ended: CancellationToken) {
    let renew = async |ttl: u64| {
        shared
            .control
            .call(Script::SnapshotKeep, |call| {
                call.arg(&id).arg(ttl);
            })
            .await
    };
    loop {
        tokio::select! {
            biased;
            () = ended.cancelled() => break,
            () = shared.background.stop.cancelled() => break,
            () = sleep(TTL / RATE) => {}
        }
        // Whether it is still there is found out by the next read.
        if let Err(fault) = renew(TTL.as_secs() * 1000).await {
            tracing::debug!(reason = fault.reason(), "could not keep a snapshot open");
        }
    }
    // Where that fails, it expires.
    let _ = renew(0).await;
}

#[async_trait]
impl Snapshot for RedisSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        for (space, _) in keys {
            self.shared.server.layout.check_space(*space)?;
        }
        self.shared.check_open()?;
        let mut values = Vec::with_capacity(keys.len());
        while values.len() < keys.len() {
            let rest = &keys[values.len()..];
            let rest = &rest[..rest.len().min(KEYS_MAX)];
            let found = self.ask(Script::SnapshotGet, |call| {
                call.arg(ANSWER_BYTES);
                for (space, key) in rest {
                    call.arg(space.name).arg(&key[..]);
                }
            });
            let found = answer::list(found.await?)?;
            if found.is_empty() || found.len() > rest.len() {
                return Err(unexpected(found.len()).into());
            }
            for value in found {
                values.push(answer::bytes(value)?);
            }
        }
        Ok(values)
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let KeyRange { space, mut start, mut end } = range;
        self.shared.server.layout.check_space(space)?;
        let mut page = Page { entries: Vec::new(), more: true };
        let mut bytes = 0;
        // One more than is wanted shows whether there is more. It is not handed out.
        while page.more && page.entries.len() <= limit && bytes < PAGE_BYTES_MAX {
            let wanted = (limit - page.entries.len()).saturating_add(1).min(PART_MAX);
            let found = self.ask(Script::SnapshotScan, |call| {
                let low =
                    if start.is_empty() { b"-".to_vec() } else { [b"[", &start[..]].concat() };
                let high = end.as_ref().map_or(b"+".to_vec(), |end| [b"(", &end[..]].concat());
                let upwards = direction == Direction::Ascending;
                call.arg(space.name).arg(if upwards { "+" } else { "-" }).arg(low).arg(high);
                call.arg(wanted).arg(PART_BYTES);
            });
            let parts = answer::list(found.await?)?.into_iter().map(Part::read);
            let (entries, reached) = merge(parts.collect::<Result<_, _>>()?, direction);
            bytes += entries.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            page.entries.extend(entries);
            match (reached, direction) {
                (None, _) => page.more = false,
                (Some(last), Direction::Ascending) => start = [&last[..], b"\0"].concat().into(),
                (Some(last), Direction::Descending) => end = Some(last),
            }
        }
        if page.entries.len() > limit {
            page.entries.truncate(limit);
            page.more = true;
        }
        Ok(page)
    }
}

/// What one source holds of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    entries: Vec<(Bytes, Bytes)>,
    /// Whether it holds more behind these.
    more: bool,
}

impl Part {
    fn read(value: Value) -> Result<Self, Fault> {
        let [keys, values, more] = answer::exactly(value)?;
        let (keys, values) = (answer::list(keys)?, answer::list(values)?);
        let read = |(key, value)| Some((answer::bytes(key).ok()??, answer::bytes(value).ok()??));
        let pairs = keys.into_iter().zip(values);
        let missing = || {
            Fault::Corrupt("a key has no value; the data in Redis was changed by hand".to_owned())
        };
        let entries = pairs.map(|pair| read(pair).ok_or_else(missing)).collect::<Result<_, _>>()?;
        Ok(Self { entries, more: answer::number(more)? == 1 })
    }
}

/// Puts the sources together, of which the last one is the current data and the others are what was kept, the oldest first.
/// Returns the entries, and the key up to which they are complete unless they are all.
fn merge(parts: Vec<Part>, direction: Direction) -> (Vec<(Bytes, Bytes)>, Option<Bytes>) {
    let lasts = parts.iter().filter(|part| part.more);
    let lasts = lasts.filter_map(|part| part.entries.last().map(|(key, _)| key.clone()));
    let reached = match direction {
        Direction::Ascending => lasts.min(),
        Direction::Descending => lasts.max(),
    };
    let is_complete = |key: &Bytes| match (&reached, direction) {
        (None, _) => true,
        (Some(reached), Direction::Ascending) => key <= reached,
        (Some(reached), Direction::Descending) => key >= reached,
    };
    let current = parts.len() - 1;
    let mut merged = BTreeMap::new();
    for (source, part) in parts.into_iter().enumerate() {
        for (key, value) in part.entries {
            if is_complete(&key) {
                // Of what was kept, a first byte says whether there was a value.
                let value = match value.first() {
                    _ if source == current => Some(value),
                    Some(b'1') => Some(value.slice(1..)),
                    _ => None,
                };
                merged.entry(key).or_insert(value);
            }
        }
    }
    let entries = merged.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let mut entries: Vec<_> = entries.collect();
    if direction == Direction::Descending {
        entries.reverse();
    }
    (entries, reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(entries: &[(&'static str, &'static str)], more: bool) -> Part {
        let entries = entries.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Part { entries, more }
    }

    fn shown(merged: (Vec<(Bytes, Bytes)>, Option<Bytes>)) -> (String, Option<Bytes>) {
        let text = |(key, value): (Bytes, Bytes)| {
            format!("{}={}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value))
        };
        (merged.0.into_iter().map(text).collect::<Vec<_>>().join(" "), merged.1)
    }

    #[test]
    fn the_oldest_value_kept_counts_before_the_current_one() {
        let parts = || {
            vec![
                part(&[("a", "11"), ("b", "0")], false),
                part(&[("b", "12"), ("c", "13"), ("d", "0")], false),
                part(&[("b", "now"), ("d", "now"), ("e", "now")], false),
            ]
        };
        let upwards = merge(parts(), Direction::Ascending);
        assert_eq!(shown(upwards), ("a=1 c=3 e=now".to_owned(), None));
        let downwards = merge(parts(), Direction::Descending);
        assert_eq!(shown(downwards), ("e=now c=3 a=1".to_owned(), None));
    }

    #[test]
    fn nothing_behind_the_end_of_a_source_that_has_more_counts() {
        let parts =
            vec![part(&[("a", "11"), ("c", "13")], true), part(&[("b", "2"), ("d", "4")], true)];
        let upwards = merge(parts, Direction::Ascending);
        assert_eq!(shown(upwards), ("a=1 b=2 c=3".to_owned(), Some("c".into())));
        let parts =
            vec![part(&[("c", "13"), ("a", "11")], true), part(&[("d", "4"), ("b", "2")], true)];
        let downwards = merge(parts, Direction::Descending);
        assert_eq!(shown(downwards), ("d=4 c=3 b=2".to_owned(), Some("b".into())));
        let deleted = vec![part(&[("a", "0")], true), part(&[("a", "x")], false)];
        let deleted = merge(deleted, Direction::Ascending);
        assert_eq!(shown(deleted), (String::new(), Some("a".into())));
    }
}
