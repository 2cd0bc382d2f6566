//! Getting one batch into the store, whatever happens on the way.

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

/// Why a batch will never land.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Leadership is lost: drop all memory.
    Deposed,
    /// The store cannot be used any more.
    Broken(String),
}

/// Commits batches one after the other. Tries again while the store is full or away, and resolves
/// what is ambiguous by the head; returns only when all have landed or one never will.
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
    let mut troubled = false;
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
                // The store may have taken it when it said that it is full.
                if landed(store, fence, batch, shared).await {
                    break;
                }
                return Err(Refused::Broken(error.to_string()));
            }
            Err(CommitError::Ambiguous(reason)) => {
                warn!(reason, batch = batch.seq.0, "the outcome of a commit is not known");
                if landed(store, fence, batch, shared).await {
                    break;
                }
                continue;
            }
            Err(CommitError::Full(reason)) => StoreProblem::Full(reason),
            Err(CommitError::Unavailable(reason)) => StoreProblem::Unavailable(reason),
            Err(error @ (CommitError::Invalid(_) | CommitError::Corrupt(_))) => {
                return Err(Refused::Broken(error.to_string()));
            }
        };
        if !troubled {
            warn!(?problem, batch = batch.seq.0, "a commit waits for the store");
            troubled = true;
        }
        shared.set_store_problem(Some(problem));
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    if troubled || shared.store_problem().is_some() {
        info!(batch = batch.seq.0, "the store takes commits again");
        shared.set_store_problem(None);
    }
    Ok(())
}

/// Counts a commit. One whose outcome is not known is counted as such, whether or not it landed.
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

/// Whether the head says that the batch landed. Asks until the store answers.
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
