//! Commits batches to the store, with retries.

use std::{sync::Arc, time::Duration};

use rota_metrics::{CommitError as Failed, NodeMetrics};
use rota_store::{Batch, CommitError, Fence, Revision, Store};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::{
    fail_point::{self, FailPoint},
    planted::Planted,
    shared::{Shared, StoreProblem},
};

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Why a batch will never become durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Leadership is lost. Discard the state in memory.
    Deposed,
    /// The store is unusable.
    Broken(String),
}

/// Commits batches one after the other. Retries while the store is full or unavailable, and resolves an
/// unknown outcome by reading the head. Returns when all are durable, or one will never be.
pub(crate) async fn commit_until_known(
    store: Arc<dyn Store>,
    fence: Fence,
    batches: Vec<Batch>,
    shared: Arc<Shared>,
) -> Result<(), Refused> {
    let _commit = shared.commit_begins();
    for batch in batches {
        FailPoint::BeforeCommit.reach();
        commit_one(store.as_ref(), fence, &batch, &shared).await?;
        FailPoint::AfterCommit.reach();
    }
    Ok(())
}

async fn commit_one(
    store: &dyn Store,
    fence: Fence,
    batch: &Batch,
    shared: &Shared,
) -> Result<(), Refused> {
    let mut pause = PAUSE_MIN;
    let (mut troubled, mut was_ambiguous) = (false, false);
    loop {
        let began = Instant::now();
        fail_point::stalled().await;
        let committed = store.commit(fence, batch.clone()).await;
        note(&shared.metrics, &committed, batch, began);
        let problem = match committed {
            Ok(_) => break,
            Err(CommitError::Fenced { .. }) if Planted::IgnoresFences.is_made() => break,
            Err(CommitError::Fenced { .. }) => return Err(Refused::Deposed),
            Err(error @ CommitError::OutOfOrder { .. }) => {
                // The store may have accepted it although it said that it is full.
                if landed(store, fence, batch, shared).await {
                    break;
                }
                return Err(Refused::Broken(error.to_string()));
            }
            Err(CommitError::Ambiguous(reason)) => {
                warn!(reason, batch = batch.seq.0, "outcome of a commit unknown");
                if landed(store, fence, batch, shared).await {
                    break;
                }
                // A store that always answers like this must not be asked without a pause.
                if !std::mem::replace(&mut was_ambiguous, true) {
                    continue;
                }
                StoreProblem::Unavailable(reason)
            }
            Err(CommitError::Full(reason)) => StoreProblem::Full(reason),
            Err(CommitError::Unavailable(reason)) => StoreProblem::Unavailable(reason),
            Err(error @ (CommitError::Invalid(_) | CommitError::Corrupt(_))) => {
                return Err(Refused::Broken(error.to_string()));
            }
        };
        if !troubled {
            warn!(?problem, batch = batch.seq.0, "commit waits for the store");
            troubled = true;
        }
        shared.set_store_problem(Some(problem));
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    if troubled || shared.store_problem().is_some() {
        info!(batch = batch.seq.0, "store accepts commits again");
        shared.set_store_problem(None);
    }
    Ok(())
}

/// Counts a commit. An unknown outcome is counted as such, whether or not the commit became durable.
fn note(
    metrics: &NodeMetrics,
    committed: &Result<Revision, CommitError>,
    batch: &Batch,
    began: Instant,
) {
    let failed = match committed {
        Ok(_) => return metrics.committed(batch.mutations.len(), began.elapsed()),
        Err(CommitError::Full(_)) => Failed::Full,
        Err(CommitError::Unavailable(_)) => Failed::Unavailable,
        Err(CommitError::Ambiguous(_)) => Failed::Ambiguous,
        Err(CommitError::Fenced { .. }) => Failed::Fenced,
        Err(CommitError::OutOfOrder { .. } | CommitError::Invalid(_) | CommitError::Corrupt(_)) => {
            Failed::Broken
        }
    };
    metrics.commit_failed(failed);
}

/// Whether the batch is durable, by the head. Retries until the store answers.
async fn landed(store: &dyn Store, fence: Fence, batch: &Batch, shared: &Shared) -> bool {
    if Planted::TakesUnknownForLanded.is_made() || Planted::TakesUnknownForLost.is_made() {
        return Planted::TakesUnknownForLanded.is_made();
    }
    let mut pause = PAUSE_MIN;
    loop {
        match store.head().await {
            Ok(head) => return head.epoch == fence.epoch && head.seq == batch.seq,
            Err(error) => {
                shared.set_store_problem(Some(StoreProblem::Unavailable(error.to_string())));
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
