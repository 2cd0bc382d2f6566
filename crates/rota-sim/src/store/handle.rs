//! A process's handle to the store: calls become messages, with deadlines.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use rota_store::{
    Batch, BatchLimits, ChangeStream, CommitError, Epoch, Fence, Head, Leadership, Member,
    Revision, Seat, Snapshot, Space, Store, StoreError, StoreStatus, watch,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{central::Subscription, leadership, reads};
use crate::{
    seed::per_mille,
    world::{Action, Endpoint, Inner, STORE, World},
};

/// A read gets so long.
pub(super) const READ_WAIT: Duration = Duration::from_secs(3);
/// A commit gets so long; then its outcome is not known.
const COMMIT_WAIT: Duration = Duration::from_secs(5);
/// The status is told within so long.
const STATUS_WAIT: Duration = Duration::from_millis(900);

/// What an engine is given.
pub(crate) struct SimStore {
    pub(super) link: Link,
    leader: watch::Receiver<Option<Seat>>,
}

/// The way to the store from one process.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) world: World,
    pub(super) endpoint: Endpoint,
    pub(super) incarnation: u32,
    pub(super) closed: CancellationToken,
}

/// Why a call came to nothing.
pub(super) enum Lost {
    Closed,
    NoAnswer,
}

impl From<Lost> for StoreError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Closed => Self::Unavailable("the store is closed".to_owned()),
            Lost::NoAnswer => Self::Unavailable("no answer (simulated)".to_owned()),
        }
    }
}

impl Link {
    /// Has `work` done by the central state, and brings back what it says.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        wait: Duration,
        work: impl FnOnce(&mut Inner) -> T + Send + 'static,
    ) -> Result<T, Lost> {
        if self.closed.is_cancelled() {
            return Err(Lost::Closed);
        }
        let (answer, answered) = oneshot::channel();
        let endpoint = self.endpoint;
        self.tell(move |inner| {
            let said = work(inner);
            let loses = inner.store.mood.loses_answers;
            if per_mille(&mut inner.store.rng, loses) {
                inner.note(format_args!("store answer to {} lost", endpoint.0));
                return;
            }
            let bring = move |_: &mut Inner| {
                // One who no longer waits needs no answer.
                let _ = answer.send(said);
            };
            inner.send(STORE, endpoint, Box::new(bring));
        });
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(Lost::Closed),
            answered = tokio::time::timeout(wait, answered) => match answered {
                Ok(Ok(said)) => Ok(said),
                Ok(Err(_)) | Err(_) => Err(Lost::NoAnswer),
            },
        }
    }

    /// Sends word to the central state.
    pub(super) fn tell(&self, work: impl FnOnce(&mut Inner) + Send + 'static) {
        let endpoint = self.endpoint;
        let arrive = move |inner: &mut Inner| {
            let loses = inner.store.mood.loses_requests;
            if per_mille(&mut inner.store.rng, loses) {
                inner.note(format_args!("store request of {} lost", endpoint.0));
                return;
            }
            let slow_us = inner.store.mood.slow_us;
            let begins_us = (inner.now_us + slow_us).max(inner.store.busy_until_us);
            inner.store.busy_until_us = begins_us;
            if begins_us > inner.now_us {
                inner.at(begins_us, Box::new(|inner| do_in_turn(inner, Box::new(work))));
            } else {
                do_in_turn(inner, Box::new(work));
            }
        };
        self.world.lock().send(endpoint, STORE, Box::new(arrive));
    }
}

/// Does it now, or when the store goes on.
fn do_in_turn(inner: &mut Inner, work: Action) {
    if inner.store.waiting.is_empty() && inner.store.mood.stalled_until_us <= inner.now_us {
        work(inner);
        return;
    }
    inner.store.waiting.push_back(work);
    if inner.store.waiting.len() == 1 {
        let until_us = inner.store.mood.stalled_until_us;
        inner.at(until_us, Box::new(go_on));
    }
}

fn go_on(inner: &mut Inner) {
    let until_us = inner.store.mood.stalled_until_us;
    if until_us > inner.now_us {
        inner.at(until_us, Box::new(go_on));
        return;
    }
    // Work that it does may not add to what waits: messages take time.
    for work in std::mem::take(&mut inner.store.waiting) {
        inner.happened += 1;
        work(inner);
    }
}

impl SimStore {
    /// A handle for the process that runs at `endpoint` now.
    pub(crate) fn connect(world: &World, endpoint: Endpoint) -> Arc<Self> {
        let (sender, leader) = watch::channel(None);
        let incarnation = {
            let mut inner = world.lock();
            let incarnation = inner.sites[endpoint.0].incarnation;
            inner.store.election.observe(endpoint, incarnation, sender);
            incarnation
        };
        let closed = CancellationToken::new();
        Arc::new(Self {
            link: Link { world: world.clone(), endpoint, incarnation, closed },
            leader,
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.link.call(READ_WAIT, work).await?
    }
}

/// Sends what a watcher has not been sent yet, as far as it can be reached.
pub(crate) fn tell_watchers(inner: &mut Inner) {
    if inner.store.mood.holds_news {
        return;
    }
    let mut subscriptions = std::mem::take(&mut inner.store.subscriptions);
    subscriptions.retain_mut(|subscription| {
        let endpoint = subscription.endpoint;
        let site = &inner.sites[endpoint.0];
        let gone = !site.up || site.incarnation != subscription.incarnation;
        if gone || subscription.sender.is_closed() {
            return false;
        }
        if !inner.net.carries(STORE, endpoint) || subscription.next > inner.store.revision {
            return true;
        }
        let changes: Option<Vec<_>> =
            inner.store.since(subscription.next).map(|changes| changes.cloned().collect());
        let goes_on = changes.is_some();
        let news = changes.map_or_else(
            || vec![Err(StoreError::Compacted)],
            |changes| changes.into_iter().map(Ok).collect(),
        );
        subscription.next = inner.store.revision + 1;
        let sender = subscription.sender.clone();
        let bring = move |_: &mut Inner| {
            for change in news {
                // One who no longer watches needs no news.
                let _ = sender.send(change);
            }
        };
        inner.send(STORE, endpoint, Box::new(bring));
        goes_on
    });
    inner.store.subscriptions = subscriptions;
}

#[async_trait]
impl Store for SimStore {
    async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError> {
        let endpoint = self.link.endpoint;
        {
            let mut inner = self.link.world.lock();
            let listened_us = inner.sites[endpoint.0].listened_us;
            let at = (inner.now_us, listened_us);
            inner.audit.sent(endpoint, batch.seq.0, fence.epoch.0, at);
        }
        let work = move |inner: &mut Inner| {
            let (seq, count) = (batch.seq.0, batch.mutations.len());
            let landed = inner.store.commit(fence, batch);
            match &landed {
                Ok(change) => {
                    inner.note(format_args!("store batch {seq} of {} lands: {count}", endpoint.0));
                    let now_us = inner.now_us;
                    inner.audit.landed(now_us, endpoint, change);
                    tell_watchers(inner);
                }
                Err(error) => {
                    inner.note(format_args!("store batch {seq} of {}: {error}", endpoint.0));
                }
            }
            landed.map(|change| change.revision)
        };
        match self.link.call(COMMIT_WAIT, work).await {
            Ok(said) => said,
            Err(Lost::Closed) => Err(CommitError::Unavailable("the store is closed".to_owned())),
            Err(Lost::NoAnswer) => Err(CommitError::Ambiguous("no answer (simulated)".to_owned())),
        }
    }

    async fn get(&self, keys: &[(Space, Bytes)]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let keys = keys.to_vec();
        self.read(move |inner| inner.store.get_at(inner.store.newest(), &keys)).await
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.read(|inner| inner.store.readable(u64::MAX).map(|()| inner.store.head)).await
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StoreError> {
        let take = |inner: &mut Inner| {
            inner.store.readable(u64::MAX).map(|()| Revision(inner.store.revision))
        };
        let revision = self.read(take).await?;
        Ok(Arc::new(reads::SimSnapshot { link: self.link.clone(), revision }))
    }

    async fn watch(&self, after: Revision) -> Result<ChangeStream, StoreError> {
        let (sender, changes) = mpsc::unbounded_channel();
        let (endpoint, incarnation) = (self.link.endpoint, self.link.incarnation);
        let next = after.0 + 1;
        let subscribe = move |inner: &mut Inner| {
            inner.store.readable(u64::MAX)?;
            let subscription = Subscription { endpoint, incarnation, next, sender };
            inner.store.subscriptions.push(subscription);
            tell_watchers(inner);
            Ok(())
        };
        self.read(subscribe).await?;
        Ok(Box::pin(reads::Changes {
            changes,
            closed: Box::pin(self.link.closed.clone().cancelled_owned()),
            over: false,
        }))
    }

    async fn campaign(&self, me: &Member) -> Result<Box<dyn Leadership>, StoreError> {
        leadership::campaign(&self.link, me).await
    }

    fn leader(&self) -> watch::Receiver<Option<Seat>> {
        self.leader.clone()
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.read(|inner| inner.store.readable(u64::MAX).map(|()| inner.store.election.members()))
            .await
    }

    fn announce_ready(&self, name: &str, leadership: Epoch) {
        let (endpoint, name) = (self.link.endpoint, name.to_owned());
        self.link
            .tell(move |inner| inner.store.election.announce_ready(endpoint, &name, leadership));
    }

    async fn status(&self) -> StoreStatus {
        let status = self.link.call(STATUS_WAIT, |inner| inner.store.status()).await;
        status.unwrap_or_else(|lost| StoreStatus {
            backend: "simulated",
            location: "memory".to_owned(),
            problem: Some(StoreError::from(lost).to_string()),
            ..StoreStatus::default()
        })
    }

    fn limits(&self) -> BatchLimits {
        self.link.world.lock().store.limits.batch
    }

    async fn close(&self) {
        self.link.closed.cancel();
    }
}
