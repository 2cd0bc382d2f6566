//! Commits, one after another, in one task. So a commit whose caller is gone is still completed, and a read
//! of the head waits for it.
//!
//! A batch is one transaction. It compares the revision that created the leader's key with the fence, and the
//! revision that last changed the head with the known one. If both match, it writes the head and the
//! mutations. Otherwise it reads both keys, to tell the reason.
//!
//! If a batch has more mutations than etcd accepts in a transaction, they are divided among nested
//! transactions (`capacity.rs`): etcd applies all of them at once, and checks its limit for each separately.
//!
//! Without an answer, the batch may still be in flight and be applied at any later time. Before anything
//! else, the head is *sealed*: written again with the same value under the same two compares. Either this
//! succeeds, and the late batch will find that the head has changed, or it fails, because the batch was
//! applied or another node leads. In both cases the head is final.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    answer::Patience,
    capacity::{Refused, Takes},
    fault::Fault,
    layout::{self, Write},
    link::{Client, Effect, Link},
    wire::{self, RequestOp, TxnRequest, TxnResponse},
};
use crate::{
    model::{Batch, BatchLimits, BatchSeq, Epoch, Fence, Head, Revision, VALUE_BYTES_MAX},
    store::{CommitError, StoreError},
};

/// Maximum number of tries of a commit when the head differs from the known one.
const ATTEMPTS: usize = 4;

/// Maximum number of requests that wait for the writer.
const QUEUE: usize = 64;

enum Request {
    Commit { fence: Fence, batch: Batch, reply: oneshot::Sender<Result<Revision, CommitError>> },
    Head { reply: oneshot::Sender<Result<Head, StoreError>> },
}

/// A handle to the writer.
#[derive(Clone)]
pub(super) struct Requests(mpsc::Sender<Request>);

impl Requests {
    pub(super) async fn commit(&self, fence: Fence, batch: Batch) -> Result<Revision, CommitError> {
        let closed = || CommitError::Unavailable("the store is closed".to_owned());
        let (reply, answer) = oneshot::channel();
        self.0.send(Request::Commit { fence, batch, reply }).await.map_err(|_| closed())?;
        // The writer completes accepted requests, unless it is dropped with its runtime.
        let dropped =
            || CommitError::Ambiguous("the store was closed during the commit".to_owned());
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
    link: Link,
    /// The known head, from the last read or write.
    known: Option<Position>,
    /// The commit without an answer, until its outcome is determined.
    unsettled: Option<Unsettled>,
}

/// The head, and the revision that wrote it. 0 if it was never written.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    head: Head,
    changed: i64,
}

/// A commit that may have been applied at this position, or may still be.
#[derive(Debug, Clone, Copy)]
struct Unsettled {
    fence: Fence,
    before: Position,
}

/// The result of a failed condition.
struct Found {
    /// The epoch of the leader.
    leader: Option<Epoch>,
    position: Position,
}

/// The result of a transaction.
enum TxnOutcome {
    Landed(Revision),
    Refused(Found),
}

impl Writer {
    /// Starts the task. It ends when the store closes.
    pub(super) fn start(shared: &Arc<Shared>) -> Requests {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Self {
            link: Link::new("commits", &shared.options, &shared.members),
            shared: Arc::clone(shared),
            known: None,
            unsettled: None,
        };
        shared.background.tasks.spawn(writer.run(receiver));
        Requests(sender)
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let shared = Arc::clone(&self.shared);
        loop {
            let request = tokio::select! {
                biased;
                () = shared.background.stop.cancelled() => return,
                request = requests.recv() => request,
            };
            // The caller may be gone; the outcome is kept for the next one.
            match request {
                Some(Request::Commit { fence, batch, reply }) => {
                    let outcome = self.commit(fence, &batch).await;
                    self.shared.background.note_commit(fence.epoch, &outcome);
                    let _ = reply.send(outcome);
                }
                Some(Request::Head { reply }) => {
                    let _ = reply.send(self.head().await);
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
        let takes = self.shared.capacity.takes();
        let writes = self.check(takes, batch).map_err(CommitError::Invalid)?;
        self.settle().await.map_err(|fault| unavailable(&fault))?;
        for _ in 0..ATTEMPTS {
            let position = match self.known {
                Some(known) if known.head.admits(fence.epoch, batch.seq) => known,
                _ => {
                    let found = self.read_head().await.map_err(|fault| unavailable(&fault))?;
                    judge(&found, fence, batch.seq)?;
                    found.position
                }
            };
            match self.write(fence, batch.seq, takes, &writes, position).await {
                Ok(TxnOutcome::Landed(revision)) => return Ok(revision),
                Ok(TxnOutcome::Refused(found)) => judge(&found, fence, batch.seq)?,
                Err(fault @ Fault::TooMuch(_)) => {
                    return Err(self.lower(fence, takes, batch, &writes, fault).await);
                }
                Err(fault) => return Err(fault.of_commit(fence.epoch)),
            }
        }
        Err(CommitError::Unavailable("the head changed during every attempt".to_owned()))
    }

    /// The changes of a batch, if it is within the limits.
    fn check(&self, takes: Takes, batch: &Batch) -> Result<Vec<Write>, String> {
        let limits = takes.limits(&self.shared.layout);
        let BatchLimits { mutations_max, bytes_max, .. } = limits;
        let writes = self.shared.layout.writes(batch)?;
        let value = |(_, value): &Write| value.as_ref().map_or(0, bytes::Bytes::len);
        if writes.iter().map(value).max() > Some(VALUE_BYTES_MAX)
            || !limits.take(writes.len(), batch.bytes())
        {
            return Err(format!(
                "the batch changes {} keys with {} bytes; the limits of a transaction are {mutations_max} and \
                 {bytes_max}; see what etcd allows (--max-txn-ops, --max-request-bytes)",
                writes.len(),
                batch.bytes()
            ));
        }
        Ok(writes)
    }

    /// Handles a batch within the limits that etcd refused as too large: determines the actual limits, and
    /// ends the leadership, because already split batches may be too large, too. The next leader, probably
    /// this node, splits batches by the new limits.
    async fn lower(
        &self,
        fence: Fence,
        takes: Takes,
        batch: &Batch,
        writes: &[Write],
        fault: Fault,
    ) -> CommitError {
        let Shared { capacity, layout, options, .. } = self.shared.as_ref();
        let refused = if fault.is_too_many() {
            Refused::Mutations
        } else {
            let overhead = takes.limits(layout).mutation_bytes * writes.len();
            Refused::Bytes(batch.bytes() + overhead)
        };
        match capacity.lower(&self.link, layout, options, &refused).await {
            Ok(true) => {
                let BatchLimits { mutations_max, bytes_max, .. } = capacity.takes().limits(layout);
                tracing::warn!(
                    reason = fault.reason(),
                    mutations_max,
                    bytes_max,
                    "etcd accepts less in one transaction than configured; starting a new leadership with lower limits"
                );
                self.shared.abandon(fence.epoch);
                CommitError::Fenced { ours: fence.epoch }
            }
            Ok(false) => fault.of_commit(fence.epoch),
            Err(fault) => unavailable(&fault),
        }
    }

    async fn write(
        &mut self,
        fence: Fence,
        seq: BatchSeq,
        takes: Takes,
        writes: &[Write],
        position: Position,
    ) -> Result<TxnOutcome, Fault> {
        let head = Head { epoch: fence.epoch, seq };
        let Shared { layout, options, .. } = self.shared.as_ref();
        let transaction =
            || takes.arrange(wire::put(&layout.head, layout::encode_head(head), 0), writes);
        let size = |(key, value): &Write| key.len() + value.as_ref().map_or(0, bytes::Bytes::len);
        let bytes = writes.iter().map(size).sum();
        let patience = Patience::for_request(options.timeout, bytes);
        let outcome = self.attempt(fence, position, patience, transaction).await;
        match &outcome {
            Ok(TxnOutcome::Landed(revision)) => {
                self.known = Some(Position { head, changed: layout::signed(revision.0) });
                self.shared.saw_revision(*revision);
            }
            Ok(TxnOutcome::Refused(found)) => self.known = Some(found.position),
            Err(fault) if fault.may_have_had_effect() => {
                self.known = None;
                self.unsettled = Some(Unsettled { fence, before: position });
            }
            Err(_) => {}
        }
        outcome
    }

    /// A transaction under the condition that this fence and this position are current.
    async fn attempt(
        &self,
        fence: Fence,
        position: Position,
        patience: Patience,
        operations: impl Fn() -> Vec<RequestOp> + Send + Sync,
    ) -> Result<TxnOutcome, Fault> {
        let layout = &self.shared.layout;
        let request = |client: Client| {
            let epoch = layout::signed(fence.epoch.0);
            let transaction = TxnRequest {
                compare: vec![
                    wire::created_at(&layout.leader, epoch),
                    wire::changed_at(&layout.head, position.changed),
                ],
                success: operations(),
                failure: self.questions(),
            };
            async move { client.kv().txn(transaction).await }
        };
        let answer = self.link.call_within(patience, Effect::Once, request).await?;
        if answer.succeeded {
            let revision = wire::revision(answer.header.as_ref());
            Ok(TxnOutcome::Landed(Revision(layout::unsigned(revision))))
        } else {
            read_answers(answer).map(TxnOutcome::Refused)
        }
    }

    /// Reads the current leader and head.
    async fn read_head(&mut self) -> Result<Found, Fault> {
        let request = |client: Client| {
            let success = self.questions();
            let transaction = TxnRequest { success, ..TxnRequest::default() };
            async move { client.kv().txn(transaction).await }
        };
        let found = read_answers(self.link.call(Effect::Harmless, request).await?)?;
        self.known = Some(found.position);
        Ok(found)
    }

    fn questions(&self) -> Vec<RequestOp> {
        let layout = &self.shared.layout;
        vec![wire::get(&layout.leader, 0), wire::get(&layout.head, 0)]
    }

    /// Makes sure that no commit without an answer can be applied any more; see the module documentation.
    async fn settle(&mut self) -> Result<(), Fault> {
        let Some(Unsettled { fence, before }) = self.unsettled else { return Ok(()) };
        let head = &self.shared.layout.head;
        let seal = || vec![wire::put(head, layout::encode_sealed_head(before.head), 0)];
        let patience = Patience::brief(self.shared.options.timeout);
        self.known = match self.attempt(fence, before, patience, seal).await? {
            TxnOutcome::Landed(revision) => {
                Some(Position { head: before.head, changed: layout::signed(revision.0) })
            }
            TxnOutcome::Refused(found) => Some(found.position),
        };
        self.unsettled = None;
        Ok(())
    }

    async fn head(&mut self) -> Result<Head, StoreError> {
        self.shared.check_open()?;
        self.settle().await?;
        let found = self.read_head().await?;
        self.shared.saw_revision(Revision(layout::unsigned(found.position.changed)));
        Ok(found.position.head)
    }
}

/// Why a batch cannot be applied to the found state, if it cannot.
fn judge(found: &Found, fence: Fence, seq: BatchSeq) -> Result<(), CommitError> {
    if found.leader != Some(fence.epoch) {
        Err(CommitError::Fenced { ours: fence.epoch })
    } else if !found.position.head.admits(fence.epoch, seq) {
        Err(CommitError::OutOfOrder { got: seq, head: found.position.head })
    } else {
        Ok(())
    }
}

/// The error of a fault before the batch was sent. Nothing was applied.
fn unavailable(fault: &Fault) -> CommitError {
    match fault {
        Fault::Corrupt(why) => CommitError::Corrupt(why.clone()),
        Fault::Full(why) => CommitError::Full(why.clone()),
        fault => CommitError::Unavailable(fault.reason()),
    }
}

/// The answers to [`Writer::questions`].
fn read_answers(answer: TxnResponse) -> Result<Found, Fault> {
    let mut keys = wire::found(answer);
    let leader = keys.next().flatten();
    let position = match keys.next().flatten() {
        Some(key) => {
            let (head, _) = layout::decode_head(&key.value)?;
            Position { head, changed: key.mod_revision }
        }
        None => Position::default(),
    };
    let epoch = |key: wire::KeyValue| Epoch(layout::unsigned(key.create_revision));
    Ok(Found { leader: leader.map(epoch), position })
}
