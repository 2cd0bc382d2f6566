//! Reads of ranges, page by page, at one revision. The snapshot records the revision, and each request uses
//! it. So a snapshot costs etcd nothing, and is valid until the revision is compacted.
//!
//! For each request, etcd 3.4 walks its index over the whole rest of a range, even for a few entries. So
//! consecutive pages come from increasingly large parts that are read ahead, or where values can be large, from
//! short ranges ([`segments`](super::segments)). For descending order etcd would fetch the whole range; [`descend`]
//! avoids this.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Shared,
    answer::Patience,
    descend,
    fault::Fault,
    layout,
    link::{Client, Effect},
    read,
    segments::Segments,
    wire::{KeyValue, RangeRequest, RangeResponse, SortOrder},
};
use crate::{
    model::{Direction, KeyRange, Page, Revision, Space, SpaceShape},
    store::{Snapshot, StoreError},
};

/// Maximum bytes of keys and values of a page.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Target bytes of one request.
pub(super) const PART_BYTES: usize = 4 * 1024 * 1024;

/// Maximum number of entries of one request.
pub(super) const PART_MAX: usize = 50_000;

/// The store at one revision.
pub(super) struct EtcdSnapshot {
    shared: Arc<Shared>,
    /// The revision of the last commit.
    revision: Revision,
    /// The revision to read at: the newest one, because the revision of the last commit may already be
    /// compacted.
    pinned: i64,
    ahead: Mutex<Vec<Ahead>>,
}

/// Number of walks at a time for which entries are kept.
const WALKS_MAX: usize = 16;

/// Entries after the last ascending page of a walk, for the next one.
#[derive(Default)]
struct Ahead {
    /// The start of the next page, and the end of its range.
    range: (Bytes, Bytes),
    entries: std::vec::IntoIter<KeyValue>,
    /// Whether the range has more entries.
    more: bool,
    /// Number of entries to request next.
    grown: usize,
    segments: Segments,
}

/// A part of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    Values,
    KeysAlone,
}

impl EtcdSnapshot {
    /// A snapshot of the current state.
    pub(super) async fn take(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        shared.check_open()?;
        let (head, pinned) = read::head(&shared.reads, &shared.layout, 0).await?;
        let changed = head.map_or(0, |head| head.mod_revision);
        let revision = Revision(layout::unsigned(changed));
        shared.saw_revision(revision);
        Ok(Self { shared: Arc::clone(shared), revision, pinned, ahead: Mutex::default() })
    }

    /// Up to `limit` entries of a range of etcd's keys, or fewer if they take too long.
    async fn part(
        &self,
        space: Space,
        bounds: (&Bytes, &Bytes),
        direction: Direction,
        limit: usize,
    ) -> Result<RangeResponse, Fault> {
        let mut limit = limit;
        loop {
            match self.range(bounds, direction, limit, Show::Values).await {
                Ok(part) => {
                    let bytes = part.kvs.iter().map(size).sum();
                    self.shared.scans.came(space, part.kvs.len(), bytes);
                    return Ok(part);
                }
                Err(fault @ (Fault::Slow(_) | Fault::Large(_))) if limit > 1 => {
                    tracing::debug!(
                        limit,
                        reason = fault.reason(),
                        "reading fewer entries at once"
                    );
                    self.shared.scans.was_too_much(space, limit);
                    limit /= 2;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// One request for up to `limit` entries of a range of etcd's keys.
    pub(super) async fn range(
        &self,
        (start, end): (&Bytes, &Bytes),
        direction: Direction,
        limit: usize,
        show: Show,
    ) -> Result<RangeResponse, Fault> {
        let order = match direction {
            Direction::Ascending => SortOrder::None,
            Direction::Descending => SortOrder::Descend,
        };
        let range = RangeRequest {
            key: start.clone(),
            range_end: end.clone(),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            revision: self.pinned,
            sort_order: order.into(),
            keys_only: show == Show::KeysAlone,
        };
        let request = |client: Client| {
            let range = range.clone();
            async move { client.kv().range(range).await }
        };
        let effect = if limit > 1 { Effect::Portion } else { Effect::Harmless };
        let patience = Patience::for_range(self.shared.options.timeout);
        self.shared.reads.call_within(patience, effect, request).await
    }

    /// An ascending page.
    async fn ascend(
        &self,
        space: Space,
        (mut start, end): (Bytes, Bytes),
        limit: usize,
    ) -> Result<(Vec<KeyValue>, bool), Fault> {
        let mut ahead = self.ahead_of((&start, &end));
        let mut entries = Vec::new();
        let mut bytes = 0;
        while entries.len() < limit && bytes < PAGE_BYTES_MAX {
            if let Some(entry) = ahead.entries.next() {
                bytes += size(&entry);
                start = behind(&entry.key);
                entries.push(entry);
            } else if ahead.more {
                let missing = limit - entries.len();
                let wanted = missing.max(ahead.grown).min(self.shared.scans.of(space));
                // The first part is the last one of most walks.
                let is_long = ahead.grown > 0 && space.shape == SpaceShape::Large;
                ahead.grown = wanted.saturating_mul(4);
                if !is_long {
                    let all = (&start, &end);
                    let part = self.part(space, all, Direction::Ascending, wanted).await?;
                    ahead.more = part.more;
                    ahead.entries = part.kvs.into_iter();
                    continue;
                }
                let wanted = self.shared.scans.of_walk(space);
                let Some((from, until)) = ahead.segments.next(self, &start, &end).await? else {
                    ahead.more = false;
                    break;
                };
                let part = self.part(space, (&from, &until), Direction::Ascending, wanted).await?;
                if let Some(done) = ahead.segments.read(part.more)
                    && part.kvs.is_empty()
                {
                    start = done;
                }
                ahead.entries = part.kvs.into_iter();
            } else {
                break;
            }
        }
        let is_rest_unknown = ahead.more && ahead.grown > 0 && space.shape == SpaceShape::Large;
        if is_rest_unknown && ahead.entries.as_slice().is_empty() && !ahead.segments.is_open() {
            ahead.more = ahead.segments.next(self, &start, &end).await?.is_some();
        }
        let more = ahead.more || !ahead.entries.as_slice().is_empty();
        if more {
            ahead.range = (start, end);
            let mut others = self.ahead();
            if others.len() >= WALKS_MAX {
                others.remove(0);
            }
            others.push(ahead);
        }
        Ok((entries, more))
    }

    /// A descending page.
    async fn descend(
        &self,
        space: Space,
        (start, mut end): (Bytes, Bytes),
        limit: usize,
    ) -> Result<(Vec<KeyValue>, bool), Fault> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        loop {
            let wanted = self.shared.scans.of(space).min(limit - entries.len());
            let (near, count) = descend::narrow(self, (start.clone(), end.clone()), wanted).await?;
            let part = self.part(space, (&near, &end), Direction::Descending, wanted).await?;
            if let Some(last) = part.kvs.last() {
                end.clone_from(&last.key);
            }
            let more = count > part.kvs.len();
            bytes += part.kvs.iter().map(size).sum::<usize>();
            entries.extend(part.kvs);
            if !more || entries.len() >= limit || bytes >= PAGE_BYTES_MAX {
                return Ok((entries, more));
            }
        }
    }

    /// Takes what was read ahead of this range. Concurrent pages of other ranges have their own.
    fn ahead_of(&self, range: (&Bytes, &Bytes)) -> Ahead {
        let mut all = self.ahead();
        let found = all.iter().position(|ahead| (&ahead.range.0, &ahead.range.1) == range);
        let new = || Ahead { more: true, ..Ahead::default() };
        found.map_or_else(new, |found| all.remove(found))
    }

    fn ahead(&self) -> MutexGuard<'_, Vec<Ahead>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(entry: &KeyValue) -> usize {
    entry.key.len() + entry.value.len()
}

/// The next possible key after this one.
fn behind(key: &[u8]) -> Bytes {
    [key, b"\0"].concat().into()
}

#[async_trait]
impl Snapshot for EtcdSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        read::values(&self.shared, keys, Some(self.pinned)).await
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.shared.check_open()?;
        let space = self.shared.layout.space(range.space)?;
        let start = Bytes::from([&space[..], &range.start].concat());
        let end = match &range.end {
            Some(end) => [&space[..], end].concat().into(),
            None => layout::behind(&space),
        };
        if start >= end {
            return Ok(Page::default());
        }
        let (entries, more) = match direction {
            _ if limit == 0 => {
                let bounds = (&start, &end);
                let first = self.range(bounds, Direction::Ascending, 1, Show::KeysAlone).await?;
                (Vec::new(), !first.kvs.is_empty())
            }
            Direction::Ascending => self.ascend(range.space, (start, end), limit).await?,
            Direction::Descending => self.descend(range.space, (start, end), limit).await?,
        };
        let entry = |entry: KeyValue| (entry.key.slice(space.len()..), entry.value);
        Ok(Page { entries: entries.into_iter().map(entry).collect(), more })
    }
}
