//! Elections. One process holds the directory, so an election is among callers within the process. The seat
//! of the leader is free or taken, and each one who takes it gets the next epoch.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::writer::Requests;
use crate::{
    model::{Epoch, Fence, Member, Seat},
    store::{CommitError, Leadership, StoreError},
    watch,
};

/// Time that other candidates wait for a named successor.
const DEFERENCE: Duration = Duration::from_secs(1);

/// The seat of the leader.
pub(super) struct Election {
    seat: Arc<Semaphore>,
    current: Mutex<Current>,
    leader: watch::Sender<Option<Seat>>,
    /// Members that campaign or lead, each with the number of its campaigns.
    members: Mutex<BTreeMap<String, (Member, usize)>>,
    /// The named successor, if any.
    successor: watch::Sender<Option<String>>,
    /// Set once, when the store closes or its writer ends.
    over: watch::Sender<bool>,
}

#[derive(Clone, Copy)]
struct Current {
    /// The newest epoch.
    epoch: Epoch,
    /// Whether its holder still leads.
    held: bool,
}

impl Election {
    /// The seat of a store with this newest epoch.
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            seat: Arc::new(Semaphore::new(1)),
            current: Mutex::new(Current { epoch, held: false }),
            leader: watch::Sender::new(None),
            members: Mutex::default(),
            successor: watch::Sender::new(None),
            over: watch::Sender::new(false),
        }
    }

    /// Waits for the seat. Cancel safe.
    pub(super) async fn wait(&self, name: &str) -> Result<OwnedSemaphorePermit, StoreError> {
        loop {
            let seat = Arc::clone(&self.seat)
                .acquire_owned()
                .await
                .map_err(|_| StoreError::Unavailable("the store is closed".to_owned()))?;
            let mut successor = self.successor.subscribe();
            if successor.borrow_and_update().as_deref().is_none_or(|named| named == name) {
                self.successor.send_replace(None);
                return Ok(seat);
            }
            drop(seat);
            // The successor clears this when it has the seat.
            if tokio::time::timeout(DEFERENCE, successor.changed()).await.is_err() {
                self.successor.send_replace(None);
            }
        }
    }

    /// Makes `me` a member while the returned value exists.
    pub(super) fn join(self: &Arc<Self>, me: &Member) -> Joined {
        let mut members = self.members();
        members.entry(me.name.clone()).or_insert_with(|| (me.clone(), 0)).1 += 1;
        Joined { election: Arc::clone(self), member: me.clone() }
    }

    /// Members that campaign or lead, by name.
    pub(super) fn joined(&self) -> Vec<Member> {
        self.members().values().map(|(member, _)| member.clone()).collect()
    }

    /// Announces that this member is ready.
    pub(super) fn announce_ready(&self, name: &str, leadership: Epoch) {
        if let Some((member, _)) = self.members().get_mut(name) {
            member.ready_for = leadership;
        }
    }

    /// The leader.
    pub(super) fn leader(&self) -> watch::Receiver<Option<Seat>> {
        self.leader.subscribe()
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<String, (Member, usize)>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest epoch.
    pub(super) fn epoch(&self) -> Epoch {
        self.current().epoch
    }

    /// Gives the seat to the holder of the permit, with an epoch that is already durable.
    pub(super) fn install(self: &Arc<Self>, seat: OwnedSemaphorePermit, epoch: Epoch) -> Held {
        *self.current() = Current { epoch, held: true };
        Held { election: Arc::clone(self), epoch, _seat: seat }
    }

    /// Whether a batch with this fence can be applied now.
    pub(super) fn admit(&self, fence: Fence) -> Result<(), CommitError> {
        let current = *self.current();
        if current.held && current.epoch == fence.epoch {
            Ok(())
        } else {
            Err(CommitError::Fenced { ours: fence.epoch })
        }
    }

    /// Ends the current leadership and all campaigns.
    pub(super) fn close(&self) {
        self.current().held = false;
        self.leader.send_replace(None);
        self.seat.close();
        self.over.send_replace(true);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The taken seat. Dropping it frees the seat.
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
            self.election.leader.send_replace(None);
        }
    }
}

/// A membership. Dropping it ends it.
pub(super) struct Joined {
    election: Arc<Election>,
    member: Member,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut members = self.election.members();
        if let Some((_, count)) = members.get_mut(&self.member.name) {
            *count -= 1;
            if *count == 0 {
                members.remove(&self.member.name);
            }
        }
    }
}

/// The leadership of the winner.
pub(super) struct EmbeddedLeadership {
    held: Held,
    joined: Joined,
    over: watch::Receiver<bool>,
    requests: Requests,
}

impl EmbeddedLeadership {
    pub(super) fn new(held: Held, joined: Joined, requests: Requests) -> Self {
        let over = held.election.over.subscribe();
        let seat = Seat { member: joined.member.clone(), epoch: held.epoch };
        held.election.leader.send_replace(Some(seat));
        Self { held, joined, over, requests }
    }
}

#[async_trait]
impl Leadership for EmbeddedLeadership {
    fn fence(&self) -> Fence {
        Fence { epoch: self.held.epoch }
    }

    fn is_held(&self) -> bool {
        !*self.over.borrow()
    }

    async fn lost(&self) {
        // An error means that the store is gone, and with it the leadership.
        let _ = self.over.clone().wait_for(|over| *over).await;
    }

    async fn resign(self: Box<Self>, successor: Option<&str>) {
        let Self { held, joined, requests, .. } = *self;
        joined.election.successor.send_replace(successor.map(str::to_owned));
        drop(joined);
        drop(held);
        // The writer may still apply a batch that it already has. Wait until none is left.
        let _ = requests.head().await;
    }
}
