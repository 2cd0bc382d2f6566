//! Hashes of what was asked for and what was said, the same in every version of Rota: they are kept,
//! to tell a repeat from what only looks like one.

use rota_core::{Outcome, Report, WallTime};
use xxhash_rust::xxh3::Xxh3;

use crate::api::{NewTask, RunAt};

fn add(hash: &mut Xxh3, field: &[u8]) {
    hash.update(&(field.len() as u64).to_le_bytes());
    hash.update(field);
}

fn date(date: Option<WallTime>) -> [u8; 8] {
    date.map_or(i64::MIN, |date| date.0).to_le_bytes()
}

/// A hash of all that a worker says at the end of an attempt. It is kept with the lease that ended,
/// to tell a repeated report from another. Others are never compared.
pub(crate) fn of_report(report: &Report) -> u64 {
    let Report::Ended { started_at, output_tail, outcome } = report else { return 0 };
    let mut hash = Xxh3::new();
    let mut field = |bytes: &[u8]| add(&mut hash, bytes);
    field(&date(*started_at));
    field(output_tail);
    match outcome {
        Outcome::Completed { result } => {
            field(b"completed");
            field(result);
        }
        Outcome::Failed { failure, retry_at } => {
            field(b"failed");
            field(failure.reason.as_str().as_bytes());
            field(failure.message.as_bytes());
            field(&date(*retry_at));
        }
        Outcome::Cancelled => field(b"cancelled"),
    }
    hash.digest()
}

/// A hash of all that the client asked for. It is kept with the task, to tell a repeat from a conflict. Tasks without names are never compared.
pub(crate) fn of_task(task: &NewTask) -> u64 {
    if task.binds.is_empty() {
        return 0;
    }
    let mut hash = Xxh3::new();
    let mut field = |bytes: &[u8]| add(&mut hash, bytes);
    field(task.binds.id.as_deref().unwrap_or_default().as_bytes());
    field(task.binds.key.as_deref().unwrap_or_default().as_bytes());
    field(task.queue.as_bytes());
    field(task.kind.as_bytes());
    field(&task.payload);
    for (name, value) in &task.labels {
        field(name.as_bytes());
        field(value.as_bytes());
    }
    let (run_at, delay) = match task.run_at {
        RunAt::Now => (None, u64::MAX),
        RunAt::At(at) => (Some(at), u64::MAX),
        RunAt::After(delay) => (None, delay.0),
    };
    let retry = &task.policy.retry;
    field(&[task.priority.level()]);
    field(&date(run_at));
    field(&delay.to_le_bytes());
    field(&date(task.expires_at));
    field(&retry.max_attempts.to_le_bytes());
    field(&retry.max_lost.to_le_bytes());
    field(&retry.initial.0.to_le_bytes());
    field(&retry.max.0.to_le_bytes());
    field(&retry.multiplier.to_le_bytes());
    field(&[u8::from(retry.jitter == rota_core::Jitter::None)]);
    field(&task.policy.timeout.0.to_le_bytes());
    field(&task.policy.retention.map_or(u64::MAX, |retention| retention.0).to_le_bytes());
    hash.digest()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rota_core::{Failure, FailureReason};

    use super::*;

    fn ended(started_at: i64, output: &'static str, outcome: Outcome) -> Report {
        let output_tail = Bytes::from_static(output.as_bytes());
        Report::Ended { started_at: Some(WallTime(started_at)), output_tail, outcome }
    }

    fn completed(result: &'static str) -> Outcome {
        Outcome::Completed { result: Bytes::from_static(result.as_bytes()) }
    }

    fn failed(reason: FailureReason, message: &str, retry_at: Option<WallTime>) -> Outcome {
        Outcome::Failed { failure: Failure::new(reason, message), retry_at }
    }

    #[test]
    fn all_that_a_report_says_counts() {
        let said = [
            ended(1, "", completed("")),
            ended(2, "", completed("")),
            ended(1, "out", completed("")),
            ended(1, "", completed("1")),
            ended(1, "", completed("2")),
            ended(1, "", failed(FailureReason::Error, "no", None)),
            ended(1, "", failed(FailureReason::Permanent, "no", None)),
            ended(1, "", failed(FailureReason::Error, "no, and why", None)),
            ended(1, "", failed(FailureReason::Error, "no", Some(WallTime(5)))),
            ended(1, "", Outcome::Cancelled),
        ];
        for (at, report) in said.iter().enumerate() {
            for (other_at, other) in said.iter().enumerate() {
                let same = of_report(report) == of_report(&other.clone());
                assert_eq!(same, at == other_at, "{report:?} {other:?}");
            }
        }
    }

    #[test]
    fn it_is_kept_so_it_never_changes() {
        let report = ended(1, "out", completed("42"));
        assert_eq!(of_report(&report), 14_849_851_649_460_963_706);
    }
}
