//! Reading ranges, page by page, at one revision: it is taken when the snapshot is, and each request
//! names it. So a snapshot costs etcd nothing, and lasts until the revision is compacted.
//!
//! etcd 3.4 walks its index over the whole rest of a range for each request, however few entries are
//! asked for. So whoever reads page after page gets them out of ever larger parts that were read
//! ahead. And it sorts downwards by fetching the whole range; [`descend`] says how
//! that is avoided.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Shared, descend,
    fault::Fault,
    layout,
    link::{Client, Effect},
    read,
    wire::{KeyValue, RangeRequest, RangeResponse, SortOrder},
};
use crate::{
    model::{Direction, KeyRange, Page, Revision, Space, SpaceShape},
    store::{Snapshot, StoreError},
};

/// A page ends when it holds this many bytes of keys and values, whatever its limit.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What one request aims at.
const PART_BYTES: usize = 4 * 1024 * 1024;

/// Entries that one request asks for, at most.
const PART_MAX: usize = 50_000;

/// The store at one revision.
pub(super) struct EtcdSnapshot {
    shared: Arc<Shared>,
    /// The revision of the last commit.
    revision: Revision,
    /// The revision to read at: the newest when this was taken, for the one of the last commit may
    /// long be compacted.
    pinned: i64,
    /// Bytes of the average entry of the last part, to ask for about as many as fit the next.
    entry_bytes: AtomicUsize,
    ahead: Mutex<Ahead>,
}

/// Entries behind the last page upwards, in case the next one is asked for.
#[derive(Default)]
struct Ahead {
    /// Where the next page begins and its range ends.
    range: (Bytes, Bytes),
    entries: std::vec::IntoIter<KeyValue>,
    /// Whether the range holds more than these.
    more: bool,
    /// How many entries to ask for next.
    grown: usize,
}

impl EtcdSnapshot {
    /// The store as it is now.
    pub(super) async fn take(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        shared.check_open()?;
        let (head, pinned) = read::head(&shared.reads, &shared.layout, 0).await?;
        let changed = head.map_or(0, |head| head.mod_revision);
        let revision = Revision(layout::unsigned(changed));
        shared.saw_revision(revision);
        Ok(Self {
            shared: Arc::clone(shared),
            revision,
            pinned,
            entry_bytes: AtomicUsize::new(0),
            ahead: Mutex::default(),
        })
    }

    /// How many entries of that space fit one answer.
    fn part(&self, space: Space) -> usize {
        match (self.entry_bytes.load(Ordering::Relaxed), space.shape) {
            (0, SpaceShape::Hot) => 256,
            (0, SpaceShape::Large) => 16,
            (bytes, _) => (PART_BYTES / bytes).clamp(1, PART_MAX),
        }
    }

    /// Up to `limit` entries of a range of etcd's keys.
    pub(super) async fn range(
        &self,
        (start, end): (&Bytes, &Bytes),
        direction: Direction,
        limit: usize,
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
        };
        let request = |client: Client| {
            let range = range.clone();
            async move { client.kv().range(range).await }
        };
        let part = self.shared.reads.call(Effect::Harmless, request).await?;
        let size: usize = part.kvs.iter().map(size).sum();
        if let Some(average) = size.checked_div(part.kvs.len()) {
            self.entry_bytes.store(average + 1, Ordering::Relaxed);
        }
        Ok(part)
    }

    /// A page upwards.
    async fn ascend(
        &self,
        space: Space,
        (mut start, end): (Bytes, Bytes),
        limit: usize,
    ) -> Result<(Vec<KeyValue>, bool), Fault> {
        // Taken out, so that pages of other ranges asked for meanwhile find nothing of it.
        let mut ahead = std::mem::take(&mut *self.ahead());
        if ahead.range != (start.clone(), end.clone()) {
            ahead = Ahead { more: true, ..Ahead::default() };
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        while entries.len() < limit && bytes < PAGE_BYTES_MAX {
            if let Some(entry) = ahead.entries.next() {
                bytes += size(&entry);
                start = behind(&entry.key);
                entries.push(entry);
            } else if ahead.more {
                let missing = limit - entries.len();
                let wanted = missing.max(ahead.grown).min(self.part(space));
                let part = self.range((&start, &end), Direction::Ascending, wanted).await?;
                ahead.grown = wanted.saturating_mul(4);
                ahead.more = part.more;
                ahead.entries = part.kvs.into_iter();
            } else {
                break;
            }
        }
        let more = ahead.more || !ahead.entries.as_slice().is_empty();
        ahead.range = (start, end);
        *self.ahead() = ahead;
        Ok((entries, more))
    }

    /// A page downwards.
    async fn descend(
        &self,
        space: Space,
        (start, mut end): (Bytes, Bytes),
        limit: usize,
    ) -> Result<(Vec<KeyValue>, bool), Fault> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        loop {
            let wanted = self.part(space).min(limit - entries.len());
            let (near, count) = descend::narrow(self, (start.clone(), end.clone()), wanted).await?;
            let part = self.range((&near, &end), Direction::Descending, wanted).await?;
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

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(entry: &KeyValue) -> usize {
    entry.key.len() + entry.value.len()
}

/// The key that comes next after this one.
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
                let first = self.range((&start, &end), Direction::Ascending, 1).await?;
                (Vec::new(), !first.kvs.is_empty())
            }
            Direction::Ascending => self.ascend(range.space, (start, end), limit).await?,
            Direction::Descending => self.descend(range.space, (start, end), limit).await?,
        };
        let entry = |entry: KeyValue| (entry.key.slice(space.len()..), entry.value);
        Ok(Page { entries: entries.into_iter().map(entry).collect(), more })
    }
}
