//! Who leads. One process holds the directory, so an election is among the callers within it: the
//! seat is free or taken, and each one who takes it gets the next epoch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::writer::Requests;
use crate::{
    model::{Epoch, Fence},
    store::{CommitError, Leadership, StoreError},
};

/// The seat and who sits on it.
pub(super) struct Election {
    seat: Arc<Semaphore>,
    current: Mutex<Current>,
    /// Set once, when the store closes or its writer dies.
    over: watch::Sender<bool>,
}

#[derive(Clone, Copy)]
struct Current {
    /// The newest epoch ever given out.
    epoch: Epoch,
    /// Whether its holder still has it.
    held: bool,
}

impl Election {
    /// Of a store whose newest epoch is that.
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            seat: Arc::new(Semaphore::new(1)),
            current: Mutex::new(Current { epoch, held: false }),
            over: watch::Sender::new(false),
        }
    }

    /// Waits for the seat. Cancel safe.
    pub(super) async fn wait(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        Arc::clone(&self.seat)
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Unavailable("the store is closed".to_owned()))
    }

    /// The newest epoch ever given out.
    pub(super) fn epoch(&self) -> Epoch {
        self.current().epoch
    }

    /// Puts the holder of the permit on the seat, with an epoch that is already durable.
    pub(super) fn install(self: &Arc<Self>, seat: OwnedSemaphorePermit, epoch: Epoch) -> Held {
        *self.current() = Current { epoch, held: true };
        Held { election: Arc::clone(self), epoch, _seat: seat }
    }

    /// Whether a batch with this fence may land now.
    pub(super) fn admit(&self, fence: Fence) -> Result<(), CommitError> {
        let current = *self.current();
        if current.held && current.epoch == fence.epoch {
            Ok(())
        } else {
            Err(CommitError::Fenced { ours: fence.epoch })
        }
    }

    /// Ends the present leadership and every campaign.
    pub(super) fn close(&self) {
        self.current().held = false;
        self.seat.close();
        self.over.send_replace(true);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The seat, taken. Dropping it, wherever it has got to, frees the seat.
pub(super) struct Held {
    election: Arc<Election>,
    epoch: Epoch,
    _seat: OwnedSemaphorePermit,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut current = self.election.current();
        if current.epoch == self.epoch {
            current.held = false;
        }
    }
}

/// A won election, as its winner holds it.
pub(super) struct EmbeddedLeadership {
    held: Held,
    over: watch::Receiver<bool>,
    requests: Requests,
}

impl EmbeddedLeadership {
    pub(super) fn new(held: Held, requests: Requests) -> Self {
        let over = held.election.over.subscribe();
        Self { held, over, requests }
    }
}

#[async_trait]
impl Leadership for EmbeddedLeadership {
    fn fence(&self) -> Fence {
        Fence { epoch: self.held.epoch }
    }

    async fn lost(&self) {
        // An error means that the store is gone, and the leadership with it.
        let _ = self.over.clone().wait_for(|over| *over).await;
    }

    async fn resign(self: Box<Self>) {
        let Self { held, requests, .. } = *self;
        drop(held);
        // A batch that was already with the writer may still land; wait until none can.
        let _ = requests.head().await;
    }
}
