//! Writes the records of a transfer, in batches as large as the store takes.
//!
//! Each batch also moves the mark ([`unfinished`](super::unfinished)) to its last record, so a later transfer continues
//! after exactly what is there. At most one batch is in flight, as the contract of the store demands; the records of the
//! next one are read meanwhile.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use rota_store::{Batch, BatchLimits, BatchSeq, CommitError, Mutation, StoreError};
use tokio::time::{Instant, sleep};

use super::{
    error::TransferError,
    kinds::{KINDS, record_name},
    seat::Held,
    side::OnProgress,
    unfinished::{MARK_BYTES, MARK_MUTATIONS, Position, Unfinished},
};
use crate::fail_point::FailPoint;

/// Time for which a failing commit is retried.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

/// A record to write, or with `None` to delete.
struct Pending {
    kind: usize,
    key: Bytes,
    value: Option<Bytes>,
}

impl Pending {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }

    fn mutation(self) -> Mutation {
        let (space, key) = (KINDS[self.kind].space, self.key);
        match self.value {
            Some(value) => Mutation::Put { space, key, value },
            None => Mutation::Delete { space, key },
        }
    }
}

/// See the module.
pub(super) struct Writer<'a> {
    held: Held,
    mark: Unfinished,
    limits: BatchLimits,
    next: BatchSeq,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// Records that earlier runs wrote.
    before: u64,
    progress: OnProgress<'a>,
}

/// The outcome of a commit.
enum Landed {
    Yes,
    /// The store takes less than it said. The batch must be cut again.
    TooLarge,
}

impl<'a> Writer<'a> {
    /// A writer whose first batch has a number of at least `least`.
    pub(super) async fn start(
        held: Held,
        mark: Unfinished,
        least: BatchSeq,
        progress: OnProgress<'a>,
    ) -> Result<Self, TransferError> {
        let head = held.store().head().await.map_err(TransferError::read(&held.side.name))?;
        let next = head.seq.next().max(held.seq_floor).max(least);
        let limits = held.store().limits();
        let (pending, before) = (VecDeque::new(), mark.records);
        Ok(Self { held, mark, limits, next, pending, pending_bytes: 0, before, progress })
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn mark(&self) -> &Unfinished {
        &self.mark
    }

    /// The number of the last batch.
    pub(super) fn last(&self) -> BatchSeq {
        BatchSeq(self.next.0.saturating_sub(1))
    }

    /// Records that this run has made durable.
    pub(super) fn written(&self) -> u64 {
        self.mark.records - self.before
    }

    /// Writes the mark, with these changes. Forgets records that are not durable yet.
    pub(super) async fn begin(
        &mut self,
        mark: Unfinished,
        changes: Vec<Mutation>,
    ) -> Result<(), TransferError> {
        (self.mark, self.before) = (mark, 0);
        self.pending.clear();
        self.pending_bytes = 0;
        let mutations = self.mark.puts().into_iter().chain(changes).collect();
        match self.commit(mutations).await? {
            Landed::Yes => Ok(()),
            Landed::TooLarge => Err(self.refused("it takes too little in one batch")),
        }
    }

    /// Writes a record, or deletes it. It is durable after [`flush`](Self::flush).
    pub(super) async fn write(
        &mut self,
        kind: usize,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), TransferError> {
        let record = Pending { kind, key, value };
        self.pending_bytes += record.bytes();
        self.pending.push_back(record);
        while self.is_full() {
            self.send().await?;
        }
        Ok(())
    }

    /// Makes everything durable.
    pub(super) async fn flush(&mut self) -> Result<(), TransferError> {
        while !self.pending.is_empty() {
            self.send().await?;
        }
        Ok(())
    }

    /// Removes the mark with the last batch, and sets the feature level. Returns what was held.
    pub(super) async fn finish(mut self, level: Option<Bytes>) -> Result<Held, TransferError> {
        self.flush().await?;
        match self.commit(Unfinished::removal(level)).await? {
            Landed::Yes => Ok(self.held),
            Landed::TooLarge => Err(self.refused("it takes too little in one batch")),
        }
    }

    /// Gives up, and leaves the mark where it is.
    pub(super) async fn abandon(self) {
        self.held.release().await;
    }

    fn is_full(&self) -> bool {
        !self.takes(self.pending.len() + 1, self.pending_bytes)
    }

    fn takes(&self, records: usize, bytes: usize) -> bool {
        self.limits.take(records + MARK_MUTATIONS, bytes + MARK_BYTES)
    }

    /// Commits the first pending records, as many as fit.
    async fn send(&mut self) -> Result<(), TransferError> {
        loop {
            let (mut records, mut bytes) = (0, 0);
            for record in &self.pending {
                if !self.takes(records + 1, bytes + record.bytes()) {
                    break;
                }
                (records, bytes) = (records + 1, bytes + record.bytes());
            }
            let Some(last) = records.checked_sub(1).and_then(|last| self.pending.get(last)) else {
                return self.pending.front().map_or(Ok(()), |record| Err(self.too_large(record)));
            };
            let mut mark = self.mark.clone();
            if last.value.is_some() {
                mark.after = Some(Position::of(last.kind, &last.key));
                mark.records += records as u64;
            }
            let taken: Vec<Pending> = self.pending.drain(..records).collect();
            let copy = |record: &Pending| {
                let (key, value) = (record.key.clone(), record.value.clone());
                Pending { kind: record.kind, key, value }.mutation()
            };
            let mutations = taken.iter().map(copy).chain(mark.puts()).collect();
            match self.commit(mutations).await? {
                Landed::Yes => {
                    self.mark = mark;
                    self.pending_bytes -= bytes;
                    return Ok(());
                }
                Landed::TooLarge => {
                    for record in taken.into_iter().rev() {
                        self.pending.push_front(record);
                    }
                }
            }
        }
    }

    /// Commits until the outcome is known.
    async fn commit(&mut self, mutations: Vec<Mutation>) -> Result<Landed, TransferError> {
        let batch = Batch { seq: self.next, mutations: Arc::new(mutations) };
        let until = Instant::now() + PATIENCE;
        FailPoint::BeforeCommit.reach();
        loop {
            let fence = self.held.fence;
            let store = self.held.store();
            match store.commit(fence, batch.clone()).await {
                Ok(_) => break,
                Err(CommitError::Fenced { .. }) if store.limits() != self.limits => {
                    self.lead_again().await?;
                    return Ok(Landed::TooLarge);
                }
                Err(CommitError::Fenced { .. }) => return Err(self.held.lost()),
                Err(CommitError::OutOfOrder { .. }) => {
                    // A store may have accepted a batch although it said that it is full.
                    if self.landed(&batch).await? {
                        break;
                    }
                    return Err(self.held.lost());
                }
                Err(CommitError::Ambiguous(_)) => {
                    if self.landed(&batch).await? {
                        break;
                    }
                }
                Err(CommitError::Full(why)) if Instant::now() >= until => {
                    return Err(TransferError::Full { store: self.held.side.name.clone(), why });
                }
                Err(CommitError::Unavailable(why)) if Instant::now() >= until => {
                    return Err(TransferError::Write { store: self.held.side.name.clone(), why });
                }
                Err(CommitError::Full(_) | CommitError::Unavailable(_)) => sleep(PAUSE).await,
                Err(error @ (CommitError::Invalid(_) | CommitError::Corrupt(_))) => {
                    return Err(self.refused(&error.to_string()));
                }
            }
        }
        FailPoint::AfterCommit.reach();
        self.next = self.next.next();
        Ok(Landed::Yes)
    }

    /// Whether the batch is durable, by the head.
    async fn landed(&self, batch: &Batch) -> Result<bool, TransferError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.held.store().head().await {
                Ok(head) => {
                    let epoch = self.held.fence.epoch;
                    return Ok(head.epoch == epoch && head.seq == batch.seq);
                }
                Err(StoreError::Unavailable(_) | StoreError::Timeout(_))
                    if Instant::now() < until =>
                {
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(TransferError::read(&self.held.side.name)(error)),
            }
        }
    }

    /// Takes the leadership again, after the store ended it because it takes less than it said.
    async fn lead_again(&mut self) -> Result<(), TransferError> {
        self.held.take_again(self.progress).await?;
        self.limits = self.held.store().limits();
        self.next = self.next.max(self.held.seq_floor);
        Ok(())
    }

    fn too_large(&self, record: &Pending) -> TransferError {
        too_large(self.held(), record.kind, &record.key, record.bytes())
    }

    fn refused(&self, why: &str) -> TransferError {
        TransferError::Refused { store: self.held.side.name.clone(), why: why.to_owned() }
    }
}

/// Whether a batch of the store can have a record with this many bytes.
pub(super) fn fits(held: &Held, bytes: usize) -> bool {
    held.store().limits().take(1 + MARK_MUTATIONS, bytes + MARK_BYTES)
}

pub(super) fn too_large(held: &Held, kind: usize, key: &Bytes, bytes: usize) -> TransferError {
    let limits = held.store().limits();
    let rest = MARK_BYTES + (1 + MARK_MUTATIONS) * limits.mutation_bytes;
    TransferError::TooLarge {
        store: held.side.name.clone(),
        record: record_name(kind, key),
        bytes,
        max: limits.bytes_max.saturating_sub(rest),
    }
}
