//! A node of Rota as the tests see it: a store, and what a leader does with it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rota_store::{
    Batch, BatchSeq, CommitError, Fence, Leadership, Member, Revision, Space, SpaceShape, Store,
    StoreError,
};

use crate::{Backend, Options};

pub(crate) const HOT: Space = Space { name: "hot", shape: SpaceShape::Hot };
pub(crate) const LARGE: Space = Space { name: "large", shape: SpaceShape::Large };

/// How long something is awaited that must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// One node.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) me: Member,
    pub(crate) store: Arc<Backend>,
}

impl Node {
    pub(crate) fn new(name: &str, options: Options) -> Self {
        let address = Some(format!("http://{name}:7420"));
        let store = Backend::open(options, &[HOT, LARGE]).expect("the options work");
        Self { me: Member { address, ..Member::alone(name) }, store: Arc::new(store) }
    }

    /// Leads, as soon as nobody else does.
    pub(crate) async fn lead(&self) -> Box<dyn Leadership> {
        within(self.store.campaign(&self.me)).await.unwrap()
    }

    /// Campaigns in the background, and is seen among the members by the time this returns.
    pub(crate) async fn stand(&self) -> tokio::task::JoinHandle<Box<dyn Leadership>> {
        let node = self.clone();
        let campaign = tokio::spawn(async move { node.lead().await });
        within(async {
            while !self.store.members().await.unwrap().contains(&self.me) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        campaign
    }

    /// The number of the batch that comes next.
    pub(crate) async fn next(&self) -> BatchSeq {
        within(self.store.head()).await.unwrap().seq.next()
    }

    /// Commits that value as batch `seq`.
    pub(crate) async fn put(
        &self,
        fence: Fence,
        seq: BatchSeq,
        value: &str,
    ) -> Result<Revision, CommitError> {
        let mut batch = Batch::new(seq);
        batch.put(HOT, "a", value.to_owned());
        within(self.store.commit(fence, batch)).await
    }

    /// Commits it as the next batch, again and again until it landed, as a leader does.
    pub(crate) async fn put_until_landed(&self, fence: Fence, value: &str) -> Revision {
        within(async {
            let seq = self.next_when_reached().await.next();
            loop {
                match self.put(fence, seq, value).await {
                    Ok(revision) => return revision,
                    Err(CommitError::Ambiguous(_)) => {
                        if self.next_when_reached().await == seq {
                            return self.store.status().await.revision;
                        }
                    }
                    Err(CommitError::Unavailable(_) | CommitError::Full(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await
    }

    /// The number of the last batch, once the store can be reached.
    pub(crate) async fn next_when_reached(&self) -> BatchSeq {
        within(async {
            loop {
                match self.store.head().await {
                    Ok(head) => return head.seq,
                    Err(StoreError::Unavailable(_) | StoreError::Timeout(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await
    }

    /// The value that [`put`](Self::put) put.
    pub(crate) async fn value(&self) -> Option<Bytes> {
        within(self.store.get(&[(HOT, "a".into())])).await.unwrap().remove(0)
    }
}

/// Awaits what must come.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    let came = tokio::time::timeout(PATIENCE, what).await;
    came.unwrap_or_else(|_| panic!("nothing came within {PATIENCE:?}"))
}
