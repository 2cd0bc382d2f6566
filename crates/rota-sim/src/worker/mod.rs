//! Simulated workers: they hold sessions, run tasks and report, by a stream or by pulling.

mod hands;
mod pull;
mod stream;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::{AttemptOutcome, Failure, FailureReason, LeaseId, Name, Report};
use rota_engine::EngineError;

use self::hands::Hands;
pub(crate) use self::{pull::PullWorker, stream::StreamWorker};
use crate::{audit::Op, call::Served};

/// On the node: hands reports to the engine, and tells the auditor what was acknowledged. Says of each
/// whether it was accepted.
async fn give_report(
    served: Served,
    session: u64,
    ttl: Duration,
    reports: Vec<(LeaseId, Report)>,
) -> Result<Vec<bool>, EngineError> {
    served.heard(session, ttl);
    let ends: Vec<_> = reports
        .iter()
        .map(|(lease, report)| (*lease, matches!(report, Report::Ended { .. } | Report::Released)))
        .collect();
    served.with(|inner, _| {
        let back = reports.iter().filter(|(_, report)| *report == Report::Released);
        for (lease, _) in back {
            inner.audit.gives_back(lease.task.as_u64(), lease.token.0);
        }
    });
    let results = served.engine.report(reports).await?;
    served.with(|inner, now_us| {
        // The call itself is counted as one.
        inner.count(results.len().saturating_sub(1));
        for ((lease, ends), result) in ends.into_iter().zip(&results) {
            if ends && result.is_ok() {
                inner.audit.reported(now_us, lease.task.as_u64(), lease.token.0);
            }
        }
    });
    Ok(results.iter().map(Result::is_ok).collect())
}

/// The operation that a report is, for the check of histories.
fn operation(report: &Report) -> Option<Op> {
    let completes =
        matches!(report, Report::Ended { outcome: AttemptOutcome::Completed { .. }, .. });
    completes.then_some(Op::Complete)
}

fn ended(outcome: AttemptOutcome) -> Report {
    Report::Ended { started_at: None, output_tail: Bytes::new(), outcome }
}

/// How an attempt ends.
fn outcome(rng: &mut fastrand::Rng, tag: u64) -> Report {
    match rng.u32(..1000) {
        0..50 => ended(AttemptOutcome::Failed {
            failure: Failure::new(FailureReason::Error, "simulated"),
            retry_at: None,
        }),
        50..60 => ended(AttemptOutcome::Failed {
            failure: Failure::new(FailureReason::Permanent, "simulated"),
            retry_at: None,
        }),
        60..80 => Report::Released,
        80..500 => ended(AttemptOutcome::Completed { result: Bytes::new() }),
        _ => ended(AttemptOutcome::Completed { result: Bytes::from(format!("{tag:016x}")) }),
    }
}

/// Names for queues.
pub(crate) fn queue_names(count: usize) -> Arc<[Name]> {
    (0..count).filter_map(|number| Name::new(&format!("q{number}")).ok()).collect()
}
