//! Commits, one after another, by one task: so a commit whose caller went away is still carried to
//! its end, and a question for the head waits until it is there.
//!
//! A batch is one piece of the log, and its transaction has three operations, however many changes it has. It
//! demands that the leader's key is still the one of this leadership, changes the head if it is still as it is
//! known here, and sets the piece. A piece that is too large is staged first: its parts are set where nothing
//! refers to them, and the transaction sets a small piece that names them.
//!
//! Where no answer came, the batch may still be on its way and land at any later time. Before
//! anything else is done, the head is *sealed*: written again with another number of seals, under the same
//! two conditions. (Consul does not change the index of a key that is set to the value that it has.) Either
//! that succeeds, and the late batch will find that the head has changed; or it fails, because the batch has
//! landed or another node leads. In each case what the head says is final.
//!
//! The writer also moves what is live out of the log's oldest pieces (`cleaner.rs`), so that nothing else
//! writes the log.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared, cleaner,
    fault::Fault,
    layout::{self, Tip},
    link::{Effect, Link},
    piece::{PIECE_BYTES, Parts, Piece, RECORD_BYTES},
    replica::{self, Fetched},
    state::weight,
    txn::{self, Operation, Outcome},
};
use crate::{
    model::{Batch, BatchLimits, Epoch, Fence, Head, KEY_BYTES_MAX, Mutation, Revision},
    store::{CommitError, StoreError},
};

/// The bytes of a piece that fits into a transaction, whose body Consul limits to 512 KiB. There it is in
/// base64, beside the head and the names of pieces to delete.
pub(super) const WHOLE_BYTES_MAX: usize = 360 * 1024;

/// What one batch may hold: staged in a dozen parts.
const BATCH_BYTES_MAX: usize = 4 << 20;
const MUTATIONS_MAX: usize = 16 * 1024;

/// Parts that are on their way together.
const TOGETHER: usize = 3;

/// How often one commit is tried on a head that turns out to be another than was known.
const ATTEMPTS: usize = 4;

/// Requests that wait for the writer, at most.
const QUEUE: usize = 64;

/// What a batch may hold.
pub(super) const LIMITS: BatchLimits = BatchLimits {
    mutations_max: MUTATIONS_MAX,
    bytes_max: BATCH_BYTES_MAX,
    mutation_bytes: RECORD_BYTES,
};

enum Request {
    Commit { fence: Fence, batch: Batch, reply: oneshot::Sender<Result<Revision, CommitError>> },
    Head { reply: oneshot::Sender<Result<Head, StoreError>> },
}

/// How to reach the writer.
#[derive(Clone)]
pub(super) struct Requests(mpsc::Sender<Request>);

impl Requests {
    pub(super) async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError> {
        let closed = || CommitError::Unavailable("the store is closed".to_owned());
        let (reply, answer) = oneshot::channel();
        self.0.send(Request::Commit { fence, batch, reply }).await.map_err(|_| closed())?;
        // The writer finishes what it has taken up, unless it is dropped with its runtime.
        let dropped = || CommitError::Ambiguous("the store was closed meanwhile".to_owned());
        answer.await.map_err(|_| dropped())?
    }

    pub(super) async fn head(&self) -> Result<Head, StoreError> {
        let closed = || StoreError::Unavailable("the store is closed".to_owned());
        let (reply, answer) = oneshot::channel();
        self.0.send(Request::Head { reply }).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

/// See the module.
pub(super) struct Writer {
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
    leader: Option<(Epoch, u64)>,
    pub(super) tip: Tip,
    index: u64,
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

impl Writer {
    /// Starts the task. It ends when the store closes.
    pub(super) fn start(shared: &Arc<Shared>) -> Requests {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Self {
            link: shared.commits.clone(),
            shared: Arc::clone(shared),
            known: None,
            unsettled: None,
            staged: 0,
        };
        shared.tasks.spawn(writer.run(receiver));
        Requests(sender)
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let shared = Arc::clone(&self.shared);
        let mut is_idle = false;
        loop {
            if let Err(fault) = cleaner::clean(&mut self, is_idle).await {
                tracing::warn!(reason = fault.reason(), "could not move pieces of the log");
                // Until the next commit: that finds out how things are.
                self.known = None;
                self.note_certain();
            }
            let request = tokio::select! {
                biased;
                () = shared.stop.cancelled() => return,
                request = requests.recv() => request,
                () = cleaner::pause(&self) => {
                    is_idle = true;
                    continue;
                }
            };
            is_idle = false;
            // Who went away does not want to know; the outcome is kept for the next one.
            match request {
                Some(Request::Commit { fence, batch, reply }) => {
                    let outcome = self.commit(fence, &batch).await;
                    self.note_certain();
                    self.shared.note_commit(&outcome);
                    let _ = reply.send(outcome);
                }
                Some(Request::Head { reply }) => {
                    let head = self.head().await;
                    self.note_certain();
                    let _ = reply.send(head);
                }
                None => return,
            }
        }
    }

    async fn commit(&mut self, fence: Fence, batch: &Batch) -> Result<Revision, CommitError> {
        let fenced = || CommitError::Fenced { ours: fence.epoch };
        if self.shared.has_ended(fence.epoch) {
            return Err(fenced());
        }
        self.check(batch).map_err(CommitError::Invalid)?;
        self.settle().await.map_err(|fault| unavailable(&fault))?;
        let head = Head { epoch: fence.epoch, seq: batch.seq };
        let piece = Piece::of_batch(head, &batch.mutations);
        let encoded = piece.encode();
        for _ in 0..ATTEMPTS {
            let known = match self.known {
                Some(known) if judge(&known, fence, batch).is_ok() => known,
                _ => {
                    let known = self.look().await.map_err(|fault| unavailable(&fault))?;
                    judge(&known, fence, batch)?;
                    known
                }
            };
            self.make_room(batch, encoded.len()).await?;
            if self.known.map(|now| now.index) != Some(known.index) {
                continue;
            }
            let tip = Tip {
                epoch: fence.epoch.0,
                seq: batch.seq.0,
                revision: known.tip.last + 1,
                last: known.tip.last + 1,
                ..known.tip
            };
            match self.write(known, tip, Some((piece.clone(), encoded.clone())), &[]).await {
                Ok(Written::Landed(tip)) => {
                    let revision = Revision(tip.revision);
                    self.shared.saw_revision(revision);
                    return Ok(revision);
                }
                Ok(Written::Refused) => {}
                Err(fault) => return Err(fault.of_commit(fence.epoch)),
            }
        }
        Err(CommitError::Unavailable("the head changes under every attempt".to_owned()))
    }

    /// Refuses what breaks a limit.
    fn check(&self, batch: &Batch) -> Result<(), String> {
        for mutation in &batch.mutations {
            let key = mutation.key().len();
            self.shared.layout.check_space(mutation.space()).map_err(|error| error.to_string())?;
            if key == 0 || key > KEY_BYTES_MAX {
                return Err(format!("a key has 1 to {KEY_BYTES_MAX} bytes; one has {key}"));
            }
        }
        if LIMITS.take(batch.mutations.len(), batch.bytes()) {
            return Ok(());
        }
        Err(format!(
            "{} changes with {} bytes; a batch holds at most {MUTATIONS_MAX} with {BATCH_BYTES_MAX}",
            batch.mutations.len(),
            batch.bytes()
        ))
    }

    /// Refuses what has no room, after moving pieces as far as that helps.
    async fn make_room(&mut self, batch: &Batch, bytes: usize) -> Result<(), CommitError> {
        let max = self.shared.options.size_bytes_max;
        // What deletes must have room, or a full store could not be emptied.
        let is_put = |mutation: &&Mutation| matches!(mutation, Mutation::Put { .. });
        let puts = batch.mutations.iter().filter(is_put).count();
        let max = if 2 * puts <= batch.mutations.len() { max + max / 16 } else { max };
        let replica = Arc::clone(&self.shared.replica);
        let sizes = || replica.with(|state| (state.bytes(), state.live())).unwrap_or_default();
        loop {
            let (held, live) = sizes();
            if held + weight(bytes) <= max {
                return Ok(());
            }
            let moved = if cleaner::helps(held, live, max) {
                cleaner::step(self).await.map_err(|fault| unavailable(&fault))?
            } else {
                false
            };
            if !moved {
                return Err(CommitError::Full(format!(
                    "the log has {held} bytes, of which {live} are live; Consul may hold {max} \
                     (size_bytes_max)"
                )));
            }
        }
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
    async fn look(&mut self) -> Result<Known, Fault> {
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
    async fn settle(&mut self) -> Result<(), Fault> {
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

    async fn head(&mut self) -> Result<Head, StoreError> {
        self.shared.check_open()?;
        let looked = match self.settle().await {
            Ok(()) => self.look().await,
            Err(fault) => Err(fault),
        };
        let known = looked.map_err(|fault| self.shared.explain(fault))?;
        self.shared.saw_revision(Revision(known.tip.revision));
        Ok(known.tip.head())
    }

    /// The epoch in which this process writes, if its copy of the state is surely the newest.
    pub(super) fn certain(&self) -> Option<Epoch> {
        let known = self.known.as_ref().filter(|_| self.unsettled.is_none())?;
        let (epoch, _) = known.leader.filter(|(epoch, _)| self.shared.leads(*epoch))?;
        self.shared.replica.with(|state| state.matches(&known.tip))?.then_some(epoch)
    }

    fn note_certain(&self) {
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

/// Says why a batch cannot land on what is known, if it can't.
fn judge(known: &Known, fence: Fence, batch: &Batch) -> Result<(), CommitError> {
    let head = known.tip.head();
    if known.leader.map(|(epoch, _)| epoch) != Some(fence.epoch) {
        Err(CommitError::Fenced { ours: fence.epoch })
    } else if !head.admits(fence.epoch, batch.seq) {
        Err(CommitError::OutOfOrder { got: batch.seq, head })
    } else {
        Ok(())
    }
}

/// A fault before the transaction itself was sent: nothing landed, whatever it was.
fn unavailable(fault: &Fault) -> CommitError {
    match fault {
        Fault::Corrupt(why) => CommitError::Corrupt(why.clone()),
        fault => CommitError::Unavailable(fault.reason()),
    }
}

/// What a batch's piece has beside its records fits into a transaction beside the operations.
const _: () = assert!(PIECE_BYTES < 4096);
