//! Reads of tasks' definitions, bounded in memory. A payload can be large, so no call reads more than
//! a portion of definitions at a time, and what is large is dropped before the next portion.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join_all};
use rota_core::{AttemptOutcome, Failure, FailureReason, Report, TaskId, TaskSpec};
use rota_metrics::NodeMetrics;
use rota_store::{Store, StoreError};
use tokio::sync::Semaphore;
use tracing::error;

use crate::{
    codec::{self, CodecError},
    layout,
};

/// Definitions read in one call of the store.
pub(crate) const PORTION: usize = 16;
/// Portions that questions read at once on this node; others wait for their turn.
const PORTIONS_AT_ONCE: usize = 4;

/// What the store has of a task's definition.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Spec(Arc<TaskSpec>),
    /// There is none: the task was deleted, or its record is lost.
    Missing,
    /// There is one that cannot be read, for this reason.
    Damaged(String),
    /// There is one with a value that this version does not know: a newer version wrote it, and can read it.
    Newer(String),
}

impl Found {
    /// The definition, if it can be read.
    pub(crate) fn spec(self) -> Option<Arc<TaskSpec>> {
        if let Self::Spec(spec) = self { Some(spec) } else { None }
    }

    /// The definition of a leased task, or why no worker can run it and what is to be reported of it.
    pub(crate) fn into_runnable(self) -> Result<Arc<TaskSpec>, (String, Report)> {
        let reason = match self {
            Self::Spec(spec) => return Ok(spec),
            Self::Missing => "there is none".to_owned(),
            Self::Damaged(reason) => reason,
            Self::Newer(reason) => return Err((reason, Report::SetAside)),
        };
        let message = format!("the stored definition of this task cannot be read: {reason}");
        let failure = Failure::new(FailureReason::Permanent, &message);
        let outcome = AttemptOutcome::Failed { failure, retry_at: None };
        Err((reason, Report::Ended { started_at: None, output_tail: Bytes::new(), outcome }))
    }

    fn without_payload(self) -> Self {
        let Self::Spec(spec) = self else { return self };
        let mut spec = Arc::unwrap_or_clone(spec);
        spec.definition.payload = Bytes::new();
        Self::Spec(Arc::new(spec))
    }
}

/// Reads definitions in one call, in the order asked for. At most [`PORTION`] of them.
pub(crate) async fn read(store: &dyn Store, tasks: &[TaskId]) -> Result<Vec<Found>, StoreError> {
    let keys: Vec<_> = tasks.iter().map(|task| (layout::SPEC, layout::task(*task))).collect();
    let found = store.get(&keys).await?;
    let found =
        found.into_iter().map(|bytes| match bytes.map(|bytes| codec::decode_spec(&bytes)) {
            Some(Ok(spec)) => Found::Spec(Arc::new(spec)),
            Some(Err(error @ CodecError::Damaged(_))) => Found::Damaged(error.to_string()),
            Some(Err(error @ CodecError::Unknown(_))) => Found::Newer(error.to_string()),
            None => Found::Missing,
        });
    Ok(found.collect())
}

/// Reads one definition. What the store cannot read is damaged.
async fn read_alone(store: &dyn Store, task: TaskId) -> Result<Vec<Found>, StoreError> {
    match read(store, &[task]).await {
        Err(StoreError::Corrupt(reason)) => Ok(vec![Found::Damaged(reason)]),
        found => found,
    }
}

/// The reads of a node that answer questions.
#[derive(Debug)]
pub(crate) struct SpecReads {
    turns: Semaphore,
    metrics: NodeMetrics,
}

impl SpecReads {
    pub(crate) fn new(metrics: NodeMetrics) -> Self {
        Self { turns: Semaphore::new(PORTIONS_AT_ONCE), metrics }
    }

    /// A record cannot be read: an operator has to know.
    pub(crate) fn damaged(&self, space: &'static str, task: TaskId, reason: &str) {
        error!(space, %task, reason, "a record cannot be read");
        self.metrics.damaged_record(space);
    }

    async fn portion(&self, store: &dyn Store, tasks: &[TaskId]) -> Result<Vec<Found>, StoreError> {
        let found = match read(store, tasks).await {
            // One record that the store itself cannot read must not hide the others.
            Err(StoreError::Corrupt(_)) => {
                let mut found = Vec::with_capacity(tasks.len());
                for task in tasks {
                    found.extend(read_alone(store, *task).await?);
                }
                found
            }
            found => found?,
        };
        for (task, found) in tasks.iter().zip(&found) {
            if let Found::Damaged(reason) | Found::Newer(reason) = found {
                self.damaged("spec", *task, reason);
            }
        }
        Ok(found)
    }

    /// One definition with its payload. Cancel safe.
    pub(crate) async fn one(&self, store: &dyn Store, task: TaskId) -> Result<Found, StoreError> {
        let found = self.portion(store, &[task]).await?;
        Ok(found.into_iter().next().unwrap_or(Found::Missing))
    }

    /// Definitions without payloads, in the order asked for. Cancel safe.
    pub(crate) async fn without_payloads(
        &self,
        store: &dyn Store,
        tasks: &[TaskId],
    ) -> Result<Vec<Found>, StoreError> {
        let mut portions: Vec<BoxFuture<'_, Result<Vec<Found>, StoreError>>> = Vec::new();
        for tasks in tasks.chunks(PORTION) {
            portions.push(Box::pin(self.portion_without_payloads(store, tasks)));
        }
        Ok(try_join_all(portions).await?.into_iter().flatten().collect())
    }

    async fn portion_without_payloads(
        &self,
        store: &dyn Store,
        tasks: &[TaskId],
    ) -> Result<Vec<Found>, StoreError> {
        // It is never closed.
        let _turn = self.turns.acquire().await;
        let found = self.portion(store, tasks).await?;
        Ok(found.into_iter().map(Found::without_payload).collect())
    }

    /// Hands over one definition after the other, with its payload, until `take` breaks. Cancel safe.
    pub(crate) async fn each(
        &self,
        store: &dyn Store,
        tasks: &[TaskId],
        mut take: impl FnMut(TaskId, Found) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        for tasks in tasks.chunks(PORTION) {
            // It is never closed.
            let _turn = self.turns.acquire().await;
            let found = self.portion(store, tasks).await?;
            for (task, found) in tasks.iter().zip(found) {
                if take(*task, found).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
