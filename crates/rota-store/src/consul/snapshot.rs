//! A view of the state that stays as it is. It holds no locks and asks nobody.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Shared, replica, state::View};
use crate::{
    model::{Direction, KeyRange, Page, Revision, Space},
    store::{Snapshot, StoreError},
};

/// See the module.
pub(super) struct ConsulSnapshot {
    shared: Arc<Shared>,
    view: View,
}

impl ConsulSnapshot {
    /// The store as it is now.
    pub(super) async fn take(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        let view = replica::newest(shared).await?;
        Ok(Self { shared: Arc::clone(shared), view })
    }
}

/// The values of these keys in a view.
pub(super) fn values(
    shared: &Shared,
    view: &View,
    keys: &[(Space, Bytes)],
) -> Result<Vec<Option<Bytes>>, StoreError> {
    keys.iter()
        .map(|(space, key)| {
            shared.layout.check_space(*space)?;
            Ok(view.get(space.name, key))
        })
        .collect()
}

#[async_trait]
impl Snapshot for ConsulSnapshot {
    fn revision(&self) -> Revision {
        self.view.revision
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.shared.check_open()?;
        values(&self.shared, &self.view, keys)
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.shared.check_open()?;
        self.shared.layout.check_space(range.space)?;
        let KeyRange { space, start, end } = range;
        Ok(self.view.scan(space.name, (&start, end.as_ref()), direction, limit))
    }
}
