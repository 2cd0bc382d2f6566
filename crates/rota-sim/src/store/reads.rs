//! Snapshots and watches of the simulated store.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use rota_store::{Change, Direction, KeyRange, Page, Revision, Snapshot, Space, StoreError};
use tokio::sync::mpsc;

use super::handle::{Link, READ_WAIT};

/// A revision that is read from.
pub(super) struct SimSnapshot {
    pub(super) link: Link,
    pub(super) revision: Revision,
}

#[async_trait]
impl Snapshot for SimSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let (revision, keys) = (self.revision.0, keys.to_vec());
        self.link.call(READ_WAIT, move |inner| inner.store.get_at(revision, &keys)).await?
    }

    async fn scan(
        &self,
        range: KeyRange,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let revision = self.revision.0;
        let work = move |inner: &mut crate::world::Inner| {
            inner.store.scan_at(revision, &range, direction, limit)
        };
        self.link.call(READ_WAIT, work).await?
    }
}

/// What a watcher reads. Ends with the first error, and when the store is closed.
pub(super) struct Changes {
    pub(super) changes: mpsc::UnboundedReceiver<Result<Change, StoreError>>,
    pub(super) closed: Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>,
    pub(super) over: bool,
}

impl Stream for Changes {
    type Item = Result<Change, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.closed.as_mut().poll(context).is_ready() {
            self.over = true;
            let closed = StoreError::Unavailable("the store is closed".to_owned());
            return Poll::Ready(Some(Err(closed)));
        }
        let next = std::task::ready!(self.changes.poll_recv(context));
        self.over = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }
}
