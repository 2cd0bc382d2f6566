//! Reads of definitions, with bounded memory. Payloads can be large, so a call reads only a portion of
//! definitions at a time, and drops the payloads before the next portion.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join_all};
use rota_core::{AttemptOutcome, Failure, FailureReason, Report, TaskId, TaskSpec};
use rota_store::{Store, StoreError};
use tokio::sync::Semaphore;

use crate::records::{Found, RecordReads, Spec};

/// Number of definitions to read in one call of the store.
pub(crate) const PORTION: usize = 16;
/// Maximum number of portions that are read at once on this node. Others wait.
const PORTIONS_AT_ONCE: usize = 4;

/// The definition of a task in the store. It is missing if the task was deleted, or its record is lost.
pub(crate) type FoundSpec = Found<Arc<TaskSpec>>;

/// A definition without its payload, and what a look at all of it told.
pub(crate) struct LookedAt {
    pub(crate) found: FoundSpec,
    /// Bytes of the payload.
    pub(crate) bytes: usize,
    /// What the look told. False if it cannot be read.
    pub(crate) matches: bool,
}

/// A look at a definition with its payload.
pub(crate) type Look<'a> = &'a (dyn Fn(&TaskSpec) -> bool + Sync);

impl FoundSpec {
    /// The definition of a leased task, or the report that ends the lease because no worker can run the task.
    pub(crate) fn into_runnable(self) -> Result<Arc<TaskSpec>, (String, Report)> {
        let reason = match self {
            Self::Record(spec) => return Ok(spec),
            Self::Missing => "it is missing".to_owned(),
            Self::Damaged(reason) => reason,
            Self::Newer(reason) => return Err((reason, Report::SetAside)),
        };
        let message = format!("cannot read the stored definition of this task: {reason}");
        let failure = Failure::new(FailureReason::Permanent, &message);
        let outcome = AttemptOutcome::Failed { failure, retry_at: None };
        Err((reason, Report::Ended { started_at: None, output_tail: Bytes::new(), outcome }))
    }

    fn without_payload(self) -> Self {
        self.map(|spec| {
            let mut spec = Arc::unwrap_or_clone(spec);
            spec.definition.payload = Bytes::new();
            Arc::new(spec)
        })
    }
}

/// The reads of definitions for calls of a node.
#[derive(Debug)]
pub(crate) struct SpecReads {
    turns: Semaphore,
    reads: RecordReads,
}

impl SpecReads {
    pub(crate) fn new(reads: RecordReads) -> Self {
        Self { turns: Semaphore::new(PORTIONS_AT_ONCE), reads }
    }

    /// Reads a definition with its payload. Cancel safe.
    pub(crate) async fn one(
        &self,
        store: &dyn Store,
        task: TaskId,
    ) -> Result<FoundSpec, StoreError> {
        let found = self.reads.many::<Spec>(store, &[task]).await?;
        Ok(found.into_iter().next().unwrap_or(Found::Missing))
    }

    /// Reads definitions without payloads, in the given order. Cancel safe.
    pub(crate) async fn without_payloads(
        &self,
        store: &dyn Store,
        tasks: &[TaskId],
    ) -> Result<Vec<FoundSpec>, StoreError> {
        let looked_at = self.looked_at(store, tasks, &|_| true).await?;
        Ok(looked_at.into_iter().map(|looked_at| looked_at.found).collect())
    }

    /// Looks at definitions with their payloads, and keeps them without. In the given order. Cancel safe.
    pub(crate) async fn looked_at(
        &self,
        store: &dyn Store,
        tasks: &[TaskId],
        look: Look<'_>,
    ) -> Result<Vec<LookedAt>, StoreError> {
        let mut portions: Vec<BoxFuture<'_, Result<Vec<LookedAt>, StoreError>>> = Vec::new();
        for tasks in tasks.chunks(PORTION) {
            portions.push(Box::pin(self.portion_looked_at(store, tasks, look)));
        }
        Ok(try_join_all(portions).await?.into_iter().flatten().collect())
    }

    async fn portion_looked_at(
        &self,
        store: &dyn Store,
        tasks: &[TaskId],
        look: Look<'_>,
    ) -> Result<Vec<LookedAt>, StoreError> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let found = self.reads.many::<Spec>(store, tasks).await?;
        let looked_at = |found: FoundSpec| {
            let (bytes, matches) = match &found {
                Found::Record(spec) => (spec.definition.payload.len(), look(spec)),
                Found::Missing | Found::Damaged(_) | Found::Newer(_) => (0, false),
            };
            LookedAt { found: found.without_payload(), bytes, matches }
        };
        Ok(found.into_iter().map(looked_at).collect())
    }

    /// Passes one definition after the other, with payload, to `take`, until it breaks. Cancel safe.
    pub(crate) async fn each(
        &self,
        store: &dyn Store,
        tasks: &[TaskId],
        mut take: impl FnMut(TaskId, FoundSpec) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        for tasks in tasks.chunks(PORTION) {
            // The semaphore is never closed.
            let _turn = self.turns.acquire().await;
            let found = self.reads.many::<Spec>(store, tasks).await?;
            for (task, found) in tasks.iter().zip(found) {
                if take(*task, found).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The recent average size of payloads, to estimate how many fit.
#[derive(Debug, Default)]
pub(crate) struct PayloadSizes(std::sync::atomic::AtomicUsize);

impl PayloadSizes {
    pub(crate) fn note(&self, bytes: usize) {
        use std::sync::atomic::Ordering::Relaxed;
        // The dispatcher alone writes it.
        let mean = self.0.load(Relaxed);
        self.0.store(mean - mean / 16 + bytes / 16, Relaxed);
    }

    pub(crate) fn mean(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The number of tasks that have about this many bytes, at least one.
    pub(crate) fn count_within(&self, bytes: usize) -> u32 {
        u32::try_from(bytes / self.mean().max(1)).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_size_of_payloads_follows_them_and_says_how_many_fit() {
        let sizes = PayloadSizes::default();
        assert_eq!(sizes.count_within(0), 1, "one in any case");
        for _ in 0..200 {
            sizes.note(1600);
        }
        assert!((1500..=1600).contains(&sizes.mean()), "{}", sizes.mean());
        assert!((10..=11).contains(&sizes.count_within(16_800)));
        for _ in 0..200 {
            sizes.note(160);
        }
        assert!((150..=180).contains(&sizes.mean()), "{}", sizes.mean());
    }
}
