//! Who leads. One process holds the directory, so an election is among the callers within it: the
//! seat is free or taken, and each one who takes it gets the next epoch.

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

/// For so long others let a named successor go first.
const DEFERENCE: Duration = Duration::from_secs(1);

/// The seat and who sits on it.
pub(super) struct Election {
    seat: Arc<Semaphore>,
    current: Mutex<Current>,
    leader: watch::Sender<Option<Seat>>,
    /// Those who campaign or lead, each with how often it does.
    members: Mutex<BTreeMap<String, (Member, usize)>>,
    /// Who is to go first, if anybody was named.
    successor: watch::Sender<Option<String>>,
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
            // The one who was named clears this when it has the seat.
            if tokio::time::timeout(DEFERENCE, successor.changed()).await.is_err() {
                self.successor.send_replace(None);
            }
        }
    }

    /// Makes `me` a member for as long as the value lives.
    pub(super) fn join(self: &Arc<Self>, me: &Member) -> Joined {
        let mut members = self.members();
        members.entry(me.name.clone()).or_insert_with(|| (me.clone(), 0)).1 += 1;
        Joined { election: Arc::clone(self), member: me.clone() }
    }

    /// Who campaigns or leads, by name.
    pub(super) fn joined(&self) -> Vec<Member> {
        self.members().values().map(|(member, _)| member.clone()).collect()
    }

    /// Has the others see that this member is ready.
    pub(super) fn announce_ready(&self, name: &str, leadership: Epoch) {
        if let Some((member, _)) = self.members().get_mut(name) {
            member.ready_for = leadership;
        }
    }

    /// Who leads.
    pub(super) fn leader(&self) -> watch::Receiver<Option<Seat>> {
        self.leader.subscribe()
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<String, (Member, usize)>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.leader.send_replace(None);
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

/// A won election, as its winner holds it.
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
        // An error means that the store is gone, and the leadership with it.
        let _ = self.over.clone().wait_for(|over| *over).await;
    }

    async fn resign(self: Box<Self>, successor: Option<&str>) {
        let Self { held, joined, requests, .. } = *self;
        joined.election.successor.send_replace(successor.map(str::to_owned));
        drop(joined);
        drop(held);
        // A batch that was already with the writer may still land; wait until none can.
        let _ = requests.head().await;
    }
}
