//! Reads all records of a store in the order of the table of [`kinds`](super::kinds).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use rota_store::{Direction, KeyRange, Snapshot, Store, StoreError};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    digest::Digest,
    error::TransferError,
    kinds::{KINDS, Readable, is_level, position_of},
    readable,
};
use crate::records::behind;

/// Records read at a time, and portions that are read ahead.
const PAGE: usize = 4_000;
const AHEAD: usize = 3;
/// Spaces to sum up at the same time.
const SPACES_AT_ONCE: usize = 4;
/// Time for which a failing read is retried.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(500);

/// Records of one space, in the order of their keys.
pub(super) struct Portion {
    /// The row of the space in the table.
    pub(super) kind: usize,
    pub(super) entries: Vec<(Bytes, Bytes)>,
}

/// A walk over a snapshot.
pub(super) struct Walk {
    snapshot: Arc<dyn Snapshot>,
    /// The store, if nobody can write to it: then another snapshot of it is the same.
    fenced: Option<Arc<dyn Store>>,
    kind: usize,
    start: Bytes,
    /// Where to stop, if not at the end of the last space.
    end: Option<(usize, Option<Bytes>)>,
    /// Whether to include records that do not belong to the state.
    all: bool,
}

impl Walk {
    /// A walk over everything that belongs to the state.
    pub(super) fn new(snapshot: Arc<dyn Snapshot>) -> Self {
        let start = Bytes::new();
        Self { snapshot, fenced: None, kind: 0, start, end: None, all: false }
    }

    /// A store that only the caller can write to, and does not while this walks.
    pub(super) async fn fenced(store: &Arc<dyn Store>) -> Result<Self, StoreError> {
        let snapshot = patiently(|| store.snapshot()).await?;
        Ok(Self { fenced: Some(store.clone()), ..Self::new(snapshot) })
    }

    /// Begins after the record with that key.
    pub(super) fn after(self, kind: usize, key: &Bytes) -> Self {
        Self { kind, start: behind(key), ..self }
    }

    /// Goes over this space alone.
    pub(super) fn within(self, kind: usize) -> Self {
        Self { kind, start: Bytes::new(), end: Some((kind, None)), ..self }
    }

    /// Includes records that do not belong to the state.
    pub(super) fn with_all(self) -> Self {
        Self { all: true, ..self }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Portion>, StoreError> {
        loop {
            let Some(kind) = KINDS.get(self.kind) else { return Ok(None) };
            let mut range = KeyRange { space: kind.space, start: self.start.clone(), end: None };
            if let Some((last, end)) = &self.end {
                if self.kind > *last {
                    return Ok(None);
                }
                range.end = end.clone().filter(|_| self.kind == *last);
            }
            let scan = || self.snapshot.scan(range.clone(), Direction::Ascending, PAGE);
            let page = match (patiently(scan).await, &self.fenced) {
                // History that the snapshot needs was compacted.
                (Err(StoreError::Compacted), Some(store)) => {
                    self.snapshot = patiently(|| store.snapshot()).await?;
                    self.snapshot.scan(range, Direction::Ascending, PAGE).await?
                }
                (page, _) => page?,
            };
            let at = self.kind;
            match page.entries.last() {
                Some((last, _)) if page.more => self.start = behind(last),
                _ => (self.kind, self.start) = (at + 1, Bytes::new()),
            }
            let mut entries = page.entries;
            entries.retain(|(key, _)| self.all || (kind.belongs)(key));
            if !entries.is_empty() {
                return Ok(Some(Portion { kind: at, entries }));
            }
        }
    }

    /// Reads ahead of the caller.
    pub(super) fn ahead(mut self) -> Ahead {
        let (sender, portions) = mpsc::channel(AHEAD);
        let reads = async move {
            loop {
                let next = self.next().await.transpose();
                let Some(next) = next else { return };
                let failed = next.is_err();
                if sender.send(next).await.is_err() || failed {
                    return;
                }
            }
        };
        Ahead { portions, _reads: AbortOnDropHandle::new(tokio::spawn(reads)) }
    }
}

/// A walk that reads ahead. Dropping it ends the reading.
pub(super) struct Ahead {
    portions: mpsc::Receiver<Result<Portion, StoreError>>,
    _reads: AbortOnDropHandle<()>,
}

impl Ahead {
    pub(super) async fn next(&mut self) -> Result<Option<Portion>, StoreError> {
        self.portions.recv().await.transpose()
    }

    /// Sums up everything that is left.
    async fn digest(
        mut self,
        level: Level<'_>,
        more: impl Fn(usize),
    ) -> Result<Digest, StoreError> {
        let mut digest = Digest::new();
        while let Some(portion) = self.next().await? {
            for (key, value) in &portion.entries {
                match level {
                    Level::Instead(level) if is_level(portion.kind, key) => {
                        if let Some(level) = level {
                            digest.add(portion.kind, key, level);
                        }
                    }
                    _ => digest.add(portion.kind, key, value),
                }
            }
            more(portion.entries.len());
        }
        Ok(digest)
    }
}

/// Sums up a store that only the caller can write to. Tells how many records were read.
pub(super) async fn digest(
    store: &Arc<dyn Store>,
    level: Level<'_>,
    told: impl Fn(u64),
) -> Result<Digest, StoreError> {
    let done = AtomicU64::new(0);
    let more = |records: usize| {
        let records = records as u64;
        told(done.fetch_add(records, Ordering::Relaxed) + records);
    };
    let space = |kind| {
        let more = &more;
        async move { Walk::fenced(store).await?.within(kind).ahead().digest(level, more).await }
    };
    // Several spaces at a time, because a remote store answers one request while it works on another.
    let mut spaces = stream::iter((0..KINDS.len()).map(space)).buffer_unordered(SPACES_AT_ONCE);
    let mut whole = Digest::new();
    while let Some(digest) = spaces.next().await {
        whole.join(digest?);
    }
    Ok(whole)
}

/// What counts as the feature level of a store.
#[derive(Clone, Copy)]
pub(super) enum Level<'a> {
    /// The record that it has.
    Stored,
    /// This value, or no record, because the store has a mark and the last batch writes its level.
    Instead(Option<&'a Bytes>),
}

/// Retries a read while the store does not answer.
pub(super) async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
    mut read: impl FnMut() -> F,
) -> Result<T, StoreError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match read().await {
            Err(StoreError::Unavailable(_) | StoreError::Timeout(_)) if Instant::now() < until => {
                sleep(PAUSE).await;
            }
            read => return read,
        }
    }
}

/// Reads records for people, including those that do not belong to the state.
pub struct Dump {
    walk: Walk,
    store: String,
}

/// A record for people.
pub struct DumpEntry {
    pub space: &'static str,
    /// The key as text.
    pub key: String,
    /// Bytes of the value.
    pub bytes: usize,
    pub record: Readable,
}

impl Dump {
    /// Reads the records whose `SPACE/KEY` begins with `prefix`. `None`: no space is called so.
    #[must_use]
    pub fn new(store: String, snapshot: Arc<dyn Snapshot>, prefix: &str) -> Option<Self> {
        let mut walk = Walk::new(snapshot).with_all();
        if !prefix.is_empty() {
            let (space, key) = prefix.split_once('/').unwrap_or((prefix, ""));
            walk.kind = position_of(space)?;
            let range = KeyRange::prefix(KINDS[walk.kind].space, key.as_bytes().to_vec());
            walk.start = range.start;
            walk.end = Some((walk.kind, range.end));
        }
        Some(Self { walk, store })
    }

    /// The next records. Empty at the end.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next(&mut self) -> Result<Vec<DumpEntry>, TransferError> {
        let portion = self.walk.next().await.map_err(TransferError::read(&self.store))?;
        let Some(Portion { kind, entries }) = portion else { return Ok(Vec::new()) };
        let kind = &KINDS[kind];
        let entry = |(key, value): (Bytes, Bytes)| DumpEntry {
            space: kind.space.name,
            key: readable::text(&key),
            bytes: value.len(),
            record: (kind.read)(&key, &value),
        };
        Ok(entries.into_iter().map(entry).collect())
    }
}
