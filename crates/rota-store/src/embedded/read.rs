//! Reads of values and pages from a view of the engine.
//!
//! A read takes microseconds if its blocks are in memory, and otherwise waits for the disk. This is not known
//! beforehand, so all reads run on tokio's blocking threads.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use fjall::{Guard, Readable};
use tokio::sync::Semaphore;

use super::{Shared, engine::Engine, fault::Fault};
use crate::{
    model::{Direction, KeyRange, Page, Revision, Space},
    store::{Snapshot, StoreError},
};

/// Maximum bytes of keys and values of a page.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Maximum number of concurrent reads, because a hanging disk must not occupy a thread for each, and each can
/// hold a page. Others wait.
pub(super) const READS_MAX: usize = 64;

/// A view of one opening of the engine.
pub(super) struct EmbeddedSnapshot {
    shared: Arc<Shared>,
    generation: u64,
    revision: Revision,
    view: fjall::Snapshot,
}

impl EmbeddedSnapshot {
    /// A view of the current state.
    pub(super) fn take(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        let engine = shared.engine()?;
        let view = engine.view();
        let head = engine.head(&view)?;
        Ok(Self {
            shared: Arc::clone(shared),
            generation: engine.generation(),
            revision: Revision(head.seq.0),
            view,
        })
    }

    /// The engine, if it is still the same opening. After a reopening (for example after a full disk),
    /// earlier views are invalid.
    fn engine(&self) -> Result<Arc<Engine>, StoreError> {
        let engine = self.shared.engine()?;
        if engine.generation() == self.generation { Ok(engine) } else { Err(StoreError::Compacted) }
    }
}

#[async_trait]
impl Snapshot for EmbeddedSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let (engine, view, keys) = (self.engine()?, self.view.clone(), keys.to_vec());
        blocking(&self.shared.reads, move || values(&engine, &view, &keys)).await
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let (engine, view) = (self.engine()?, self.view.clone());
        let read = move || page(&engine, &view, &range, direction, limit);
        blocking(&self.shared.reads, read).await
    }
}

/// Runs a read on a blocking thread. The engine can panic if a file is damaged.
pub(super) async fn blocking<T: Send + 'static>(
    reads: &Arc<Semaphore>,
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let turn = Arc::clone(reads).acquire_owned().await;
    let guarded = move || {
        // Held until the read ends, even if nobody waits for the answer any more.
        let _turn = turn;
        catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|panic| Err(Fault::from_panic(&*panic).into()))
    };
    tokio::task::spawn_blocking(guarded)
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("the process is ending".to_owned())))
}

/// The values of these keys in a view.
pub(super) fn values(
    engine: &Engine,
    view: &fjall::Snapshot,
    keys: &[(Space, Bytes)],
) -> Result<Vec<Option<Bytes>>, StoreError> {
    // In the order of the keys, because a search that goes the same way as the one before finds its way in the cache
    // of the processor.
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_unstable_by_key(|index| {
        let (space, key) = &keys[*index];
        (space.name, key)
    });
    let mut found = vec![None; keys.len()];
    for index in order {
        let (space, key) = &keys[index];
        let (tree, prefix) = engine.find(*space).ok_or_else(|| undeclared(*space))?;
        let value =
            view.get(tree, prefixed(prefix, key)).map_err(|error| failed(engine, *space, error))?;
        found[index] = value.map(|value| Bytes::copy_from_slice(&value));
    }
    Ok(found)
}

fn page(
    engine: &Engine,
    view: &fjall::Snapshot,
    range: &KeyRange,
    direction: Direction,
    limit: usize,
) -> Result<Page, StoreError> {
    let space = range.space;
    let (tree, prefix) = engine.find(space).ok_or_else(|| undeclared(space))?;
    if range.end.as_ref().is_some_and(|end| *end <= range.start) {
        return Ok(Page::default());
    }
    let start = prefixed(prefix, &range.start);
    let end = match &range.end {
        Some(end) => prefixed(prefix, end),
        None => vec![prefix + 1],
    };
    let mut found = view.range(tree, start..end);
    let mut next = || match direction {
        Direction::Ascending => found.next(),
        Direction::Descending => found.next_back(),
    };
    let mut page = Page::default();
    let mut bytes = 0;
    while let Some(entry) = next() {
        if page.entries.len() == limit || bytes >= PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        let (key, value) =
            Guard::into_inner(entry).map_err(|error| failed(engine, space, error))?;
        bytes += key.len() + value.len();
        page.entries.push((Bytes::copy_from_slice(&key[1..]), Bytes::copy_from_slice(&value)));
    }
    Ok(page)
}

fn prefixed(prefix: u8, key: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(key.len() + 1);
    whole.push(prefix);
    whole.extend_from_slice(key);
    whole
}

fn undeclared(space: Space) -> StoreError {
    StoreError::Invalid(format!("the store was not opened with the space `{}`", space.name))
}

fn failed(engine: &Engine, space: Space, error: fjall::Error) -> StoreError {
    Fault::from(error).at(&engine.place_of(space)).into()
}
