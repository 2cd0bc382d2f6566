//! What the obligations have in common: spaces, a store that leads, pages joined together.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::StoreFactory;
use crate::{
    model::{Batch, Direction, KeyRange, Member, Revision, Space, SpaceShape},
    store::{CommitError, Leadership, Snapshot, Store},
};

/// A space of small values.
pub(super) const HOT: Space = Space { name: "hot", shape: SpaceShape::Hot };
/// Another one.
pub(super) const WARM: Space = Space { name: "warm", shape: SpaceShape::Hot };
/// A space of large values.
pub(super) const LARGE: Space = Space { name: "large", shape: SpaceShape::Large };
/// A space that the store is not opened with.
pub(super) const UNDECLARED: Space = Space { name: "undeclared", shape: SpaceShape::Hot };

/// The spaces that a [`StoreFactory`] opens its stores with.
pub const SPACES: &[Space] = &[HOT, WARM, LARGE];

/// How long something is awaited that must come. A backend that takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store, led.
pub(super) struct Rig {
    pub(super) store: Arc<dyn Store>,
    pub(super) leadership: Box<dyn Leadership>,
}

impl Rig {
    pub(super) async fn new(factory: &dyn StoreFactory) -> Self {
        Self::lead(factory.open().await).await
    }

    pub(super) async fn lead(store: Arc<dyn Store>) -> Self {
        let leadership = within(store.campaign(&Member::alone("obligation"))).await.unwrap();
        Self { store, leadership }
    }

    /// Gives up everything and opens the data anew.
    pub(super) async fn reopen(self, factory: &dyn StoreFactory) -> Self {
        self.leadership.resign(None).await;
        self.store.close().await;
        Self::new(factory).await
    }

    /// The batch that comes next, empty.
    pub(super) async fn next(&self) -> Batch {
        Batch::new(self.store.head().await.unwrap().seq.next())
    }

    pub(super) async fn commit(&self, batch: Batch) -> Result<Revision, CommitError> {
        within(self.store.commit(self.leadership.fence(), batch)).await
    }

    /// Commits puts and deletes (`None`) to one space as the next batch.
    pub(super) async fn write(&self, space: Space, changes: &[(&str, Option<&str>)]) -> Revision {
        let mut batch = self.next().await;
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(space, key.to_string(), value.to_string()),
                None => batch.delete(space, key.to_string()),
            }
        }
        self.commit(batch).await.unwrap()
    }

    /// Puts all of that, in as many batches as the store's limits ask for.
    pub(super) async fn fill(&self, entries: Vec<(Space, Bytes, Bytes)>) {
        let mut batch = self.next().await;
        for (space, key, value) in entries {
            if batch.mutations.len() == self.store.limits().mutations_max {
                self.commit(std::mem::take(&mut batch)).await.unwrap();
                batch = self.next().await;
            }
            batch.put(space, key, value);
        }
        self.commit(batch).await.unwrap();
    }

    pub(super) async fn read(&self, space: Space, key: &str) -> Option<Bytes> {
        self.store.get(&[(space, key.to_owned().into())]).await.unwrap().remove(0)
    }
}

/// Awaits what must come.
pub(super) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .unwrap_or_else(|_| panic!("nothing came within {PATIENCE:?}"))
}

/// A scan of the whole range, page by page.
pub(super) async fn scan(
    snapshot: &dyn Snapshot,
    mut range: KeyRange,
    direction: Direction,
    limit: usize,
) -> Vec<(Bytes, Bytes)> {
    let mut all = Vec::new();
    loop {
        let page = snapshot.scan(range.clone(), direction, limit).await.unwrap();
        assert!(page.entries.len() <= limit, "a page is longer than asked for");
        let last = page.entries.last().map(|(key, _)| key.clone());
        all.extend(page.entries);
        if !page.more {
            return all;
        }
        let last = last.expect("a page says that there is more, but is empty");
        match direction {
            Direction::Ascending => range.start = [&last[..], b"\0"].concat().into(),
            Direction::Descending => range.end = Some(last),
        }
    }
}
