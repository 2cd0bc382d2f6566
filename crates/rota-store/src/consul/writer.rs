//! Commits, one after another, by one task: so a commit whose caller went away is still carried to
//! its end, and a question for the head waits until it is there.
//!
//! A batch is one piece of the log, and its transaction has three operations, however many changes it has. It
//! demands that the leader's key is still the one of this leadership, changes the head if it is still as it is
//! known here, and sets the piece. A piece that is too large is staged first: its parts are set where nothing
//! refers to them, and the transaction sets a small piece that names them.
//!
//! Where no answer came, the outcome is settled before anything else is done (`pen.rs`).
//!
//! The writer also moves what is live out of the log's oldest pieces (`cleaner.rs`), so that nothing else
//! writes the log.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{
    Shared, cleaner,
    fault::Fault,
    layout::Tip,
    pen::{Known, Pen, Written},
    piece::{Piece, RECORD_BYTES},
    state::weight,
};
use crate::{
    model::{Batch, BatchLimits, Fence, Head, KEY_BYTES_MAX, Mutation, Revision},
    store::{CommitError, StoreError},
};

/// What one batch may hold: staged in a dozen parts.
const BATCH_BYTES_MAX: usize = 4 << 20;
const MUTATIONS_MAX: usize = 16 * 1024;

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
    shared: Arc<Shared>,
    pen: Pen,
}

impl Writer {
    /// Starts the task. It ends when the store closes.
    pub(super) fn start(shared: &Arc<Shared>) -> Requests {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Self { pen: Pen::new(shared), shared: Arc::clone(shared) };
        shared.background.tasks.spawn(writer.run(receiver));
        Requests(sender)
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let shared = Arc::clone(&self.shared);
        let mut is_idle = false;
        loop {
            if let Err(fault) = cleaner::clean(&mut self.pen, is_idle).await {
                tracing::warn!(reason = fault.reason(), "could not move pieces of the log");
                // Until the next commit: that finds out how things are.
                self.pen.forget();
            }
            let request = tokio::select! {
                biased;
                () = shared.background.stop.cancelled() => return,
                request = requests.recv() => request,
                () = cleaner::pause(&self.pen) => {
                    is_idle = true;
                    continue;
                }
            };
            is_idle = false;
            // Who went away does not want to know; the outcome is kept for the next one.
            match request {
                Some(Request::Commit { fence, batch, reply }) => {
                    let outcome = self.commit(fence, &batch).await;
                    self.pen.note_certain();
                    self.shared.background.note_commit(fence.epoch, &outcome);
                    let _ = reply.send(outcome);
                }
                Some(Request::Head { reply }) => {
                    let head = self.head().await;
                    self.pen.note_certain();
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
        self.pen.settle().await.map_err(|fault| unavailable(&fault))?;
        let head = Head { epoch: fence.epoch, seq: batch.seq };
        let piece = Piece::of_batch(head, &batch.mutations);
        let encoded = piece.encode();
        for _ in 0..ATTEMPTS {
            let known = match self.pen.known {
                Some(known) if judge(&known, fence, batch).is_ok() => known,
                _ => {
                    let known = self.pen.look().await.map_err(|fault| unavailable(&fault))?;
                    judge(&known, fence, batch)?;
                    known
                }
            };
            self.make_room(batch, encoded.len()).await?;
            if self.pen.known.map(|now| now.index) != Some(known.index) {
                continue;
            }
            let tip = Tip {
                epoch: fence.epoch.0,
                seq: batch.seq.0,
                revision: known.tip.last + 1,
                last: known.tip.last + 1,
                ..known.tip
            };
            match self.pen.write(known, tip, Some((piece.clone(), encoded.clone())), &[]).await {
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
        for mutation in batch.mutations.iter() {
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
                cleaner::step(&mut self.pen).await.map_err(|fault| unavailable(&fault))?
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

    async fn head(&mut self) -> Result<Head, StoreError> {
        self.shared.check_open()?;
        let looked = match self.pen.settle().await {
            Ok(()) => self.pen.look().await,
            Err(fault) => Err(fault),
        };
        let known = looked.map_err(|fault| self.shared.explain(fault))?;
        self.shared.saw_revision(Revision(known.tip.revision));
        Ok(known.tip.head())
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
