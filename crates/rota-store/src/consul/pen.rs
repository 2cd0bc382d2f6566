//! Writes pieces of the log, one transaction after another, and makes certain what became of each.
//!
//! Where no answer came, a transaction may still be on its way and land at any later time. Before
//! anything else is done, the head is *sealed*: written again with another number of seals, under the same
//! two conditions. (Consul does not change the index of a key that is set to the value that it has.) Either
//! that succeeds, and the late transaction will find that the head has changed; or it fails, because the
//! transaction has landed or another node leads. In each case what the head says is final.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    Shared,
    fault::Fault,
    layout::{self, Tip},
    link::{Effect, Link},
    piece::{PIECE_BYTES, Parts, Piece},
    replica::{self, Fetched},
    state::weight,
    txn::{self, Operation, Outcome},
};
use crate::model::Epoch;

/// The bytes of a piece that fits into a transaction, whose body Consul limits to 512 KiB. There it is in
/// base64, beside the head and the names of pieces to delete.
pub(super) const WHOLE_BYTES_MAX: usize = 360 * 1024;

/// Parts that are on their way together.
const TOGETHER: usize = 3;

/// See the module.
pub(super) struct Pen {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Link,
    /// What is known of the leader and the head from what was read or written last.
    pub(super) known: Option<Known>,
    /// The transaction that got no answer, until it is settled.
    unsettled: Option<Unsettled>,
    /// Numbers the parts of this process.
    staged: u64,
}

/// The leader, and the head with the index that made it say so: 0 where it was never written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// The epoch of the leader, and the index that its key has for as long as it leads.
    pub(super) leader: Option<(Epoch, u64)>,
    pub(super) tip: Tip,
    pub(super) index: u64,
}

/// A transaction that may have landed where this was known, and may yet.
struct Unsettled {
    before: Known,
    parts: Option<Parts>,
}

/// What became of a piece.
pub(super) enum Written {
    Landed(Tip),
    /// The leader or the head is not what was known.
    Refused,
}

impl Pen {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            link: shared.commits.clone(),
            shared: Arc::clone(shared),
            known: None,
            unsettled: None,
            staged: 0,
        }
    }

    /// Forgets what is known, so that the next commit finds out how things are.
    pub(super) fn forget(&mut self) {
        self.known = None;
        self.note_certain();
    }

    /// Writes the head and a piece, and deletes those keys, on the condition that what is known holds.
    pub(super) async fn write(
        &mut self,
        known: Known,
        mut tip: Tip,
        piece: Option<(Piece, Bytes)>,
        deletes: &[Operation],
    ) -> Result<Written, Fault> {
        let Some((_, leader)) = known.leader else { return Ok(Written::Refused) };
        let mut value = piece.as_ref().map(|(_, encoded)| encoded.clone());
        let mut parts = None;
        if let Some(whole) = value.as_mut().filter(|value| value.len() > WHOLE_BYTES_MAX) {
            let Some(staged) = self.stage(leader, known, whole).await? else {
                return Ok(Written::Refused);
            };
            *whole = staged.encode();
            parts = Some(staged);
        }
        let large = parts.as_ref().map_or(0, |parts| parts.bytes);
        let bytes = value.as_ref().map_or(0, |value| weight(value.len()) + large);
        tip.bytes += bytes;
        let layout = &self.shared.layout;
        let mut operations = vec![
            Operation::unchanged(&layout.leader, leader),
            Operation::cas(&layout.head, &tip.encode(), known.index),
        ];
        if let Some(value) = &value {
            operations.push(Operation::set(&layout.piece(tip.last), value));
        }
        operations.extend_from_slice(deletes);
        match txn::perform(&self.link, &operations, Effect::Once).await {
            Ok(Outcome::Done(found)) => {
                let index = found.key(&layout.head).map_or(0, |head| head.modify_index);
                self.known = Some(Known { tip, index, ..known });
                match piece {
                    Some((piece, _)) => {
                        let number = tip.last;
                        let fetched = Fetched { number, piece, bytes, parts: parts.clone() };
                        self.shared.replica.landed(&layout.spaces, &tip, fetched);
                    }
                    None => self.shared.replica.forget_before(tip.first),
                }
                self.unstage(parts);
                Ok(Written::Landed(tip))
            }
            Ok(Outcome::Refused(why)) => {
                tracing::debug!(why, "a transaction was refused");
                self.unstage(parts);
                self.known = None;
                Ok(Written::Refused)
            }
            Err(fault) => {
                if fault.may_have_had_effect() {
                    self.known = None;
                    self.unsettled = Some(Unsettled { before: known, parts });
                } else {
                    self.unstage(parts);
                }
                Err(fault)
            }
        }
    }

    /// Sets the parts of a large piece where nothing refers to them; nothing where another leads.
    async fn stage(
        &mut self,
        leader: u64,
        known: Known,
        whole: &Bytes,
    ) -> Result<Option<Parts>, Fault> {
        self.staged += 1;
        let epoch = known.leader.map_or(0, |(epoch, _)| epoch.0);
        let id = format!("{epoch}-{}-{}", self.shared.name, self.staged);
        let count = whole.len().div_ceil(WHOLE_BYTES_MAX);
        let parts = Parts { id, parts: count, bytes: whole.len() as u64 };
        self.shared.staging().insert(parts.id.clone());
        let layout = &self.shared.layout;
        let set = |number: usize| {
            let start = number * WHOLE_BYTES_MAX;
            let end = whole.len().min(start + WHOLE_BYTES_MAX);
            let operations = [
                Operation::unchanged(&layout.leader, leader),
                Operation::set(&layout.part(&parts.id, number), &whole[start..end]),
            ];
            let link = &self.link;
            async move { txn::perform(link, &operations, Effect::Harmless).await }
        };
        let mut staging = stream::iter((0..count).map(set)).buffer_unordered(TOGETHER);
        loop {
            let (error, refused) = match staging.try_next().await {
                Ok(None) => break,
                Ok(Some(Outcome::Done(_))) => continue,
                Ok(Some(Outcome::Refused(_))) => (None, true),
                Err(fault) => (Some(fault), false),
            };
            drop(staging);
            self.unstage(Some(parts));
            if refused {
                self.known = None;
                return Ok(None);
            }
            // Nothing refers to what was staged, so it had no effect.
            let fault = error.map_or_else(String::new, |fault| fault.reason());
            return Err(Fault::Refused(fault));
        }
        drop(staging);
        Ok(Some(parts))
    }

    /// From here on, these parts are a piece's, or left over.
    fn unstage(&self, parts: Option<Parts>) {
        if let Some(parts) = parts {
            self.shared.staging().remove(&parts.id);
        }
    }

    /// Reads the leader and the head, as they are now.
    pub(super) async fn look(&mut self) -> Result<Known, Fault> {
        let layout = &self.shared.layout;
        let trees = [&layout.leader, &layout.head].map(|key| Operation::get_tree(key));
        let found = txn::read(&self.link, &trees).await?;
        let leader = match found.key(&layout.leader).filter(|leader| leader.session.is_some()) {
            Some(leader) => {
                let seat = layout::decode_seat(&leader.value()?);
                Some((seat.epoch, leader.modify_index))
            }
            None => None,
        };
        let head = found.key(&layout.head);
        let tip = replica::decode_tip(head)?;
        let known = Known { leader, tip, index: head.map_or(0, |head| head.modify_index) };
        // A leader's copy is the newest from its first look on.
        self.shared.replica.catch_up(&self.shared.commits, layout, tip).await?;
        self.known = Some(known);
        Ok(known)
    }

    /// Makes sure that no transaction without an answer can land any more; see the module.
    pub(super) async fn settle(&mut self) -> Result<(), Fault> {
        let Some(Unsettled { before, .. }) = &self.unsettled else { return Ok(()) };
        let before = *before;
        if let Some((_, leader)) = before.leader {
            let layout = &self.shared.layout;
            let tip = Tip { seals: before.tip.seals + 1, ..before.tip };
            let operations = [
                Operation::unchanged(&layout.leader, leader),
                Operation::cas(&layout.head, &tip.encode(), before.index),
            ];
            // If this gets no answer, it is sent again: either of them makes what it is for certain.
            txn::perform(&self.link, &operations, Effect::Harmless).await?;
        }
        self.look().await?;
        let settled = self.unsettled.take();
        self.unstage(settled.and_then(|settled| settled.parts));
        Ok(())
    }

    /// The epoch in which this process writes, if its copy of the state is surely the newest.
    pub(super) fn certain(&self) -> Option<Epoch> {
        let known = self.known.as_ref().filter(|_| self.unsettled.is_none())?;
        let (epoch, _) = known.leader.filter(|(epoch, _)| self.shared.leads(*epoch))?;
        self.shared.replica.with(|state| state.matches(&known.tip))?.then_some(epoch)
    }

    /// Tells readers whether the copy of the state is surely the newest.
    pub(super) fn note_certain(&self) {
        self.shared.certain.set(self.certain());
    }
}

/// The epoch in which the copy of the state is surely the newest, for as long as it is led in.
#[derive(Debug, Default)]
pub(super) struct Certain(AtomicU64);

impl Certain {
    fn set(&self, epoch: Option<Epoch>) {
        self.0.store(epoch.map_or(0, |epoch| epoch.0), Ordering::Release);
    }

    pub(super) fn epoch(&self) -> Option<Epoch> {
        Some(Epoch(self.0.load(Ordering::Acquire))).filter(|epoch| epoch.0 > 0)
    }
}

/// What a batch's piece has beside its records fits into a transaction beside the operations.
const _: () = assert!(PIECE_BYTES < 4096);
