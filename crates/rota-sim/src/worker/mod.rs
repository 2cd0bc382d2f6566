//! Simulated workers: they hold sessions, run tasks and report, by a stream or by pulling.

mod hands;
mod pull;
mod stream;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::{
    AttemptOutcome, Failure, FailureReason, LeaseId, Millis, Name, Report, RunAt, WallTime,
};
use rota_engine::{Dispatched, EngineError};

use self::hands::Hands;
pub(crate) use self::{pull::PullWorker, stream::StreamWorker};
use crate::{
    audit::{Op, Snooze, stamp_of},
    call::Served,
    machine::WALL_AT_START,
    world::Inner,
};

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
    served.with(|inner, now_us| {
        for (lease, report) in &reports {
            if let Some(snooze) = snooze(lease, report, now_us) {
                inner.audit.snoozes(lease.task.as_u64(), snooze);
            }
        }
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

/// On the node: tasks go to a worker in the name of a session, each with the definition that it has.
fn hand_out(inner: &mut Inner, now_us: u64, session: u64, tasks: &[Dispatched]) {
    for Dispatched { spec, token, .. } in tasks {
        let (id, token) = (spec.id.as_u64(), token.0);
        inner.audit.dispatched(now_us, id, token, Some(session));
        let stamp = stamp_of(spec.definition.description.as_deref().unwrap_or_default());
        inner.audit.given_definition(now_us, id, token, stamp);
    }
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

/// What a report asks for, if it snoozes the task.
fn snooze(lease: &LeaseId, report: &Report, now_us: u64) -> Option<Snooze> {
    let Report::Ended { outcome: AttemptOutcome::Snoozed { until }, .. } = report else {
        return None;
    };
    let now = WallTime(WALL_AT_START + (now_us / 1000).cast_signed());
    let by_delay = matches!(until, RunAt::After(_));
    Some(Snooze { token: lease.token.0, until_ms: until.resolve(now).0, by_delay })
}

/// How an attempt ends. Of a thousand, `snoozes` are snoozed. It was due at that date.
fn outcome(rng: &mut fastrand::Rng, tag: u64, snoozes: u32, due: WallTime) -> Report {
    if rng.u32(..1000) < snoozes {
        let delay = if rng.bool() { rng.u64(0..100) } else { rng.u64(0..4000) };
        let until = if rng.u32(..4) == 0 {
            RunAt::At(due + Millis(delay))
        } else {
            RunAt::After(Millis(delay))
        };
        return ended(AttemptOutcome::Snoozed { until });
    }
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
