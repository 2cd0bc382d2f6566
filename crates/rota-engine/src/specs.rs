//! Reads of definitions, with bounded memory. Payloads can be large, so a call reads only a portion of
//! definitions at a time, and drops the payloads before the next portion.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join_all};
use rota_core::{Failure, FailureReason, Outcome, Report, TaskId, TaskSpec};
use rota_metrics::NodeMetrics;
use rota_store::{Store, StoreError};
use tokio::sync::Semaphore;
use tracing::error;

use crate::{
    codec::{self, CodecError},
    layout,
};

/// Number of definitions to read in one call of the store.
pub(crate) const PORTION: usize = 16;
/// Maximum number of portions that are read at once on this node. Others wait.
const PORTIONS_AT_ONCE: usize = 4;

/// The definition of a task in the store.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Spec(Arc<TaskSpec>),
    /// Missing: the task was deleted, or its record is lost.
    Missing,
    /// It cannot be read, for this reason.
    Damaged(String),
    /// It has a value that this version does not know. The newer version that wrote it can read it.
    Newer(String),
}

impl Found {
    /// The definition, if it can be read.
    pub(crate) fn spec(self) -> Option<Arc<TaskSpec>> {
        if let Self::Spec(spec) = self { Some(spec) } else { None }
    }

    /// The definition of a leased task, or the report that ends the lease because no worker can run the task.
    pub(crate) fn into_runnable(self) -> Result<Arc<TaskSpec>, (String, Report)> {
        let reason = match self {
            Self::Spec(spec) => return Ok(spec),
            Self::Missing => "it is missing".to_owned(),
            Self::Damaged(reason) => reason,
            Self::Newer(reason) => return Err((reason, Report::SetAside)),
        };
        let message = format!("cannot read the stored definition of this task: {reason}");
        let failure = Failure::new(FailureReason::Permanent, &message);
        let outcome = Outcome::Failed { failure, retry_at: None };
        Err((reason, Report::Ended { started_at: None, output_tail: Bytes::new(), outcome }))
    }

    fn without_payload(self) -> Self {
        let Self::Spec(spec) = self else { return self };
        let mut spec = Arc::unwrap_or_clone(spec);
        spec.definition.payload = Bytes::new();
        Self::Spec(Arc::new(spec))
    }
}

/// Reads definitions in one call, in the given order, up to [`PORTION`].
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

/// Reads one definition. A definition that the store cannot read is damaged.
async fn read_alone(store: &dyn Store, task: TaskId) -> Result<Vec<Found>, StoreError> {
    match read(store, &[task]).await {
        Err(StoreError::Corrupt(reason)) => Ok(vec![Found::Damaged(reason)]),
        found => found,
    }
}

/// The reads of definitions for calls of a node.
#[derive(Debug)]
pub(crate) struct SpecReads {
    turns: Semaphore,
    metrics: NodeMetrics,
}

impl SpecReads {
    pub(crate) fn new(metrics: NodeMetrics) -> Self {
        Self { turns: Semaphore::new(PORTIONS_AT_ONCE), metrics }
    }

    /// Reports an unreadable record to the operator.
    pub(crate) fn damaged(&self, space: &'static str, task: TaskId, reason: &str) {
        error!(space, %task, reason, "cannot read a record");
        self.metrics.damaged_record(space);
    }

    async fn portion(&self, store: &dyn Store, tasks: &[TaskId]) -> Result<Vec<Found>, StoreError> {
        let found = match read(store, tasks).await {
            // A record that the store cannot read must not hide the others.
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

    /// Reads a definition with its payload. Cancel safe.
    pub(crate) async fn one(&self, store: &dyn Store, task: TaskId) -> Result<Found, StoreError> {
        let found = self.portion(store, &[task]).await?;
        Ok(found.into_iter().next().unwrap_or(Found::Missing))
    }

    /// Reads definitions without payloads, in the given order. Cancel safe.
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
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let found = self.portion(store, tasks).await?;
        Ok(found.into_iter().map(Found::without_payload).collect())
    }

    /// Passes one definition after the other, with payload, to `take`, until it breaks. Cancel safe.
    pub(crate) async fn each(
        &self,
        store: &dyn Store,
        tasks: &[TaskId],
        mut take: impl FnMut(TaskId, Found) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        for tasks in tasks.chunks(PORTION) {
            // The semaphore is never closed.
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
