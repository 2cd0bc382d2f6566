//! Takes the leadership of a store for a transfer, so that no node uses the store meanwhile.

use std::{sync::Arc, time::Duration};

use rota_store::{BatchSeq, Fence, Leadership, Member, Store, StoreError};
use tokio::time::{Instant, interval};

use super::{OnProgress, Progress, Side, Stage, TransferError, walk::patiently};

/// Transfers campaign under names that begin so. They are not nodes.
const NAME: &str = "store-transfer-";
/// Interval of looks at who leads.
const LOOK: Duration = Duration::from_millis(250);
/// How long a transfer waits for the seat of another one, which may have been killed: longer than the leadership of a
/// killed process lasts in any store.
const PATIENCE: Duration = Duration::from_secs(60);

/// The member that a transfer is, under a name of its own.
pub(super) fn member() -> Member {
    Member::alone(format!("{NAME}{:016x}", fastrand::u128(..) >> 64))
}

/// A store that is held.
pub(super) struct Held {
    pub(super) side: Side,
    me: Member,
    /// `None` only while it is taken again.
    leadership: Option<Box<dyn Leadership>>,
    pub(super) fence: Fence,
    /// The least number of the first batch.
    pub(super) seq_floor: BatchSeq,
}

impl Held {
    /// Takes the leadership of a store that no node uses.
    pub(super) async fn take(
        side: &Side,
        me: &Member,
        progress: OnProgress<'_>,
    ) -> Result<Self, TransferError> {
        let store = &side.store;
        let members = patiently(|| store.members()).await;
        let members = members.map_err(TransferError::read(&side.name))?;
        if members.iter().any(|member| member.name == me.name) {
            return Err(TransferError::SameStore { store: side.name.clone() });
        }
        let nodes = members.into_iter().filter(is_node).map(|node| node.name);
        let nodes: Vec<String> = nodes.collect();
        if !nodes.is_empty() {
            return Err(TransferError::InUse { store: side.name.clone(), nodes });
        }
        let leadership = campaign(side, me, progress).await?;
        let (fence, seq_floor) = (leadership.fence(), leadership.seq_floor());
        let (side, me, leadership) = (side.clone(), me.clone(), Some(leadership));
        Ok(Self { side, me, leadership, fence, seq_floor })
    }

    /// Takes the leadership again, after the store has ended it.
    pub(super) async fn take_again(
        &mut self,
        progress: OnProgress<'_>,
    ) -> Result<(), TransferError> {
        self.resign().await;
        let leadership = campaign(&self.side, &self.me, progress).await?;
        (self.fence, self.seq_floor) = (leadership.fence(), leadership.seq_floor());
        self.leadership = Some(leadership);
        Ok(())
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.side.store
    }

    /// Resolves when the leadership may be lost.
    pub(super) async fn until_lost(&self) {
        if let Some(leadership) = &self.leadership {
            leadership.lost().await;
        }
    }

    /// Gives the leadership up.
    pub(super) async fn release(mut self) {
        self.resign().await;
    }

    async fn resign(&mut self) {
        if let Some(leadership) = self.leadership.take() {
            leadership.resign(None).await;
        }
    }

    pub(super) fn lost(&self) -> TransferError {
        TransferError::LeadershipLost { store: self.side.name.clone() }
    }
}

/// Campaigns until it leads, a node turns out to lead, or another transfer takes too long.
async fn campaign(
    side: &Side,
    me: &Member,
    progress: OnProgress<'_>,
) -> Result<Box<dyn Leadership>, TransferError> {
    let mut campaign = side.store.campaign(me);
    let leader = side.store.leader();
    let until = Instant::now() + PATIENCE;
    let mut look = interval(LOOK);
    loop {
        tokio::select! {
            biased;
            won = &mut campaign => return won.map_err(|error| cannot_lead(side, error)),
            _ = look.tick() => {}
        }
        let seat = leader.borrow().clone();
        if let Some(seat) = seat.filter(|seat| is_node(&seat.member)) {
            let nodes = vec![seat.member.name];
            return Err(TransferError::InUse { store: side.name.clone(), nodes });
        }
        if Instant::now() >= until {
            let Some(why) = side.store.status().await.problem else {
                return Err(TransferError::Busy { store: side.name.clone() });
            };
            return Err(cannot_lead(side, StoreError::Unavailable(why)));
        }
        progress(Progress { stage: Stage::Waiting, done: 0, total: None });
    }
}

fn cannot_lead(side: &Side, error: StoreError) -> TransferError {
    TransferError::Read { store: side.name.clone(), error }
}

fn is_node(member: &Member) -> bool {
    !member.name.starts_with(NAME)
}
