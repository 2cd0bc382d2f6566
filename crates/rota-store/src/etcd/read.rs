//! Reading values and pages, at one revision.
//!
//! What is read first is linearizable and tells the revision; everything after it names that
//! revision. So a snapshot costs etcd nothing, and lasts until the revision is compacted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    Shared,
    fault::Fault,
    layout,
    link::{Client, Effect, Link},
    wire::{self, KeyValue, RangeRequest, RangeResponse, SortOrder, TxnRequest},
};
use crate::{
    model::{Direction, KeyRange, Member, Page, Revision, Space, SpaceShape},
    store::{Snapshot, StoreError},
};
use async_trait::async_trait;
use bytes::Bytes;

/// A page ends when it holds this many bytes of keys and values, whatever its limit.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What one request for a part of a page aims at.
const PART_BYTES: usize = 4 * 1024 * 1024;

/// Keys that are read by one request, at most; less where etcd takes fewer operations.
const KEYS_MAX: usize = 64;

/// The values of these keys at one revision: that one, or the newest.
pub(super) async fn values(
    shared: &Shared,
    keys: &[(Space, Bytes)],
    revision: Option<i64>,
) -> Result<Vec<Option<Bytes>>, StoreError> {
    shared.check_open()?;
    let key = |(space, key): &(Space, Bytes)| shared.layout.key(*space, key);
    let keys = keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let mut values = Vec::with_capacity(keys.len());
    let mut revision = revision.unwrap_or(0);
    for keys in keys.chunks(shared.options.txn_ops_max.min(KEYS_MAX)) {
        let request = |client: Client| {
            let success = keys.iter().map(|key| wire::get(key, revision)).collect();
            let transaction = TxnRequest { success, ..TxnRequest::default() };
            async move { client.kv().txn(transaction).await }
        };
        let answer = shared.reads.call(Effect::Harmless, request).await?;
        if revision == 0 {
            revision = wire::revision(answer.header.as_ref());
        }
        values.extend(wire::found(answer).map(|key| key.map(|key| key.value)));
    }
    Ok(values)
}

/// The head as it is now: its key, and the revision of this moment.
pub(super) async fn head(
    link: &Link,
    layout: &layout::Layout,
) -> Result<(Option<KeyValue>, i64), Fault> {
    let request = |client: Client| {
        let range = RangeRequest { key: layout.head.clone(), ..RangeRequest::default() };
        async move { client.kv().range(range).await }
    };
    let answer = link.call(Effect::Harmless, request).await?;
    let revision = wire::revision(answer.header.as_ref());
    Ok((answer.kvs.into_iter().next(), revision))
}

/// The nodes that campaign or lead now, by name.
pub(super) async fn members(shared: &Shared) -> Result<Vec<Member>, StoreError> {
    shared.check_open()?;
    let request = |client: Client| {
        let key = shared.layout.node("");
        let range =
            RangeRequest { range_end: layout::behind(&key), key, ..RangeRequest::default() };
        async move { client.kv().range(range).await }
    };
    let found = shared.reads.call(Effect::Harmless, request).await?;
    Ok(found.kvs.iter().map(|node| layout::decode_member(&node.value)).collect())
}

/// The store at one revision.
pub(super) struct EtcdSnapshot {
    shared: Arc<Shared>,
    /// The revision of the last commit.
    revision: Revision,
    /// The revision to read at: the newest when this was taken, for the one of the last commit may
    /// long be compacted.
    pinned: i64,
    /// Bytes of the average entry of the last page, to ask for about as many as fit the next.
    entry_bytes: AtomicUsize,
}

impl EtcdSnapshot {
    /// The store as it is now.
    pub(super) async fn take(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        shared.check_open()?;
        let (head, pinned) = head(&shared.reads, &shared.layout).await?;
        let changed = head.map_or(0, |head| head.mod_revision);
        let revision = Revision(layout::unsigned(changed));
        shared.saw_revision(revision);
        Ok(Self { shared: Arc::clone(shared), revision, pinned, entry_bytes: AtomicUsize::new(0) })
    }

    /// How many entries of that space to ask for at once.
    fn part(&self, space: Space) -> usize {
        match (self.entry_bytes.load(Ordering::Relaxed), space.shape) {
            (0, SpaceShape::Hot) => 256,
            (0, SpaceShape::Large) => 16,
            (bytes, _) => (PART_BYTES / bytes).clamp(1, 50_000),
        }
    }

    async fn part_of(
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
        self.shared.reads.call(Effect::Harmless, request).await
    }
}

#[async_trait]
impl Snapshot for EtcdSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        values(&self.shared, keys, Some(self.pinned)).await
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.shared.check_open()?;
        let space = self.shared.layout.space(range.space)?;
        let mut start = Bytes::from([&space[..], &range.start].concat());
        let mut end = match &range.end {
            Some(end) => [&space[..], end].concat().into(),
            None => layout::behind(&space),
        };
        let mut page = Page::default();
        let mut bytes = 0;
        while start < end {
            let wanted = self.part(range.space).min(limit - page.entries.len()).max(1);
            let part = self.part_of((&start, &end), direction, wanted).await?;
            if limit == 0 {
                page.more = !part.kvs.is_empty();
                break;
            }
            page.more = part.more;
            if let Some(last) = part.kvs.last() {
                match direction {
                    Direction::Ascending => start = [&last.key[..], b"\0"].concat().into(),
                    Direction::Descending => end.clone_from(&last.key),
                }
                let size: usize = part.kvs.iter().map(|key| key.key.len() + key.value.len()).sum();
                self.entry_bytes.store(size / part.kvs.len() + 1, Ordering::Relaxed);
                bytes += size;
            }
            let entry = |key: KeyValue| (key.key.slice(space.len()..), key.value);
            page.entries.extend(part.kvs.into_iter().map(entry));
            if !page.more || page.entries.len() >= limit || bytes >= PAGE_BYTES_MAX {
                break;
            }
        }
        Ok(page)
    }
}
