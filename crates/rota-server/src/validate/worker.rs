//! Checks of messages and calls of workers.

use std::time::Duration;

use bytes::Bytes;
use rota_core::{
    AttemptOutcome, Failure as TaskFailure, FailureReason, LeaseId, LeaseToken, Millis, Name,
    Report, SessionId,
};
use rota_engine::{LeaseRequest, SessionRequest, TaskRef};
use rota_proto::v1;

use super::Check;
use crate::{
    failure::{Failure, Reason},
    limits::{Limits, PROGRESS_BYTES, REPORTS, SERVED_NAMES},
};

/// Checks the queues or kinds that a worker serves.
pub(crate) fn served(field: &str, names: &[String]) -> Result<Vec<Name>, Failure> {
    let mut check = Check::new();
    if !check.at_most(field, "names", names.len(), ("served_names", SERVED_NAMES)) {
        return check.finish(None);
    }
    let names = names
        .iter()
        .enumerate()
        .filter_map(|(at, text)| check.name(format_args!("{field}[{at}]"), text))
        .collect();
    check.finish(Some(names))
}

/// Checks the first message of a worker.
pub(crate) fn hello(hello: &v1::Hello, limits: &Limits) -> Result<SessionRequest, Failure> {
    let mut check = Check::new().naming(limits);
    let slots = ("worker_slots", limits.worker_slots);
    let slots = check.number_within("slots", Some(hello.slots), 1, slots);
    let worker = check.name_in_path("name", &hello.name);
    let known = (!hello.session.is_empty()).then_some(hello.session.as_str());
    let known = known.and_then(|text| check.ok("session", text.parse::<SessionId>()));
    let most = ("worker_slots", limits.worker_slots as usize);
    check.at_most("held", "leases", hello.held.len(), most);
    let worker = check.finish(worker)?;
    Ok(SessionRequest {
        session: known,
        worker,
        queues: served("queues", &hello.queues)?,
        kinds: served("kinds", &hello.kinds)?,
        slots,
        // A text that is not an id cannot name a lease.
        held: hello.held.iter().filter_map(|held| lease(&held.task_id, held.lease_token)).collect(),
        streams_output: hello.streams_output,
    })
}

/// TTL of a session without a stream: minimum, default, maximum.
const PULL_TTL: [Duration; 3] =
    [Duration::from_secs(5), Duration::from_secs(60), Duration::from_secs(3600)];

/// Checks a request for tasks of a worker without a stream.
pub(crate) fn lease_request(
    request: &v1::LeaseRequest,
    limits: &Limits,
) -> Result<LeaseRequest, Failure> {
    let mut check = Check::new().naming(limits);
    let worker = check.name_in_path("worker", &request.worker);
    let session = request.session.as_deref();
    let session = session.and_then(|text| check.ok("session", text.parse::<SessionId>()));
    let most = u32::try_from(limits.page_size).unwrap_or(u32::MAX);
    let max = check.number_within("max", request.max, 1, ("page_size", most));
    let wait = check.span_within("wait", request.wait, ("wait_ms", limits.wait));
    let [least, default, most] = PULL_TTL;
    let ttl = check.span("ttl", request.ttl, (least, most));
    let held = request.held.as_ref().map(|held| named_leases("held", &held.leases));
    let worker = check.finish(worker)?;
    Ok(LeaseRequest {
        session,
        worker,
        queues: served("queues", &request.queues)?,
        kinds: served("kinds", &request.kinds)?,
        max,
        wait: wait.map(Millis::as_duration).unwrap_or_default(),
        ttl: ttl.map_or(default, Millis::as_duration),
        held: held.transpose()?,
    })
}

/// Checks leases by any id of their tasks.
fn named_leases(field: &str, leases: &[v1::Lease]) -> Result<Vec<(TaskRef, LeaseToken)>, Failure> {
    let mut check = Check::new();
    if !check.at_most(field, "leases", leases.len(), ("reports", REPORTS)) {
        return check.finish(None);
    }
    let named = leases.iter().enumerate().filter_map(|(at, lease)| {
        let task = check.ok(&format!("{field}[{at}]"), lease.task_id.parse())?;
        Some((task, LeaseToken(lease.lease_token)))
    });
    let named = named.collect();
    check.finish(Some(named))
}

/// A lease, by the id that Rota gave the task.
pub(crate) fn lease(task: &str, token: u64) -> Option<LeaseId> {
    Some(LeaseId { task: task.parse().ok()?, token: LeaseToken(token) })
}

/// Checks the number of reports in a message.
pub(crate) fn reports_size(count: usize) -> Result<(), Failure> {
    let mut check = Check::new();
    check.at_most("reports", "reports", count, ("reports", REPORTS));
    check.finish(Some(()))
}

/// Checks a report of a worker.
pub(crate) fn report(report: v1::Report, limits: &Limits) -> Result<Report, Failure> {
    use v1::report::Outcome as Wire;
    let mut check = Check::new();
    let started_at = check.date("started_at", report.started_at);
    let output_tail = output_tail(&report.output_tail, limits);
    let ended = |outcome| Report::Ended { started_at, output_tail, outcome };
    let made = match report.outcome {
        None => {
            check.wrong("outcome", "is missing, or of an unknown kind");
            None
        }
        Some(Wire::Started(_)) => Some(Report::Started { at: started_at.unwrap_or_default() }),
        Some(Wire::Progress(progress)) => {
            let limit = ("progress_bytes", PROGRESS_BYTES);
            check.at_most("message", "bytes", progress.message.len(), limit);
            Some(Report::Progress { message: progress.message.into() })
        }
        Some(Wire::Completed(done)) => {
            let limit = ("result_bytes", limits.result_bytes);
            check.at_most("result", "bytes", done.result.len(), limit);
            Some(ended(AttemptOutcome::Completed { result: done.result }))
        }
        Some(Wire::Failed(failed)) => {
            let reason = match failed.reason() {
                v1::FailureReason::Permanent => FailureReason::Permanent,
                v1::FailureReason::Timeout => FailureReason::Timeout,
                _ => FailureReason::Error,
            };
            let retry_at = check.date("retry_at", failed.retry_at);
            let failure = TaskFailure::new(reason, &failed.message);
            Some(ended(AttemptOutcome::Failed { failure, retry_at }))
        }
        Some(Wire::Snoozed(snoozed)) => {
            if snoozed.until.is_none() && snoozed.delay.is_none() {
                check.wrong("until", "is missing; set until or delay");
            }
            let until = check.time("until", snoozed.until, snoozed.delay);
            Some(ended(AttemptOutcome::Snoozed { until }))
        }
        Some(Wire::Released(_)) => Some(Report::Released),
        Some(Wire::Cancelled(_)) => Some(ended(AttemptOutcome::Cancelled)),
    };
    check.finish(made)
}

/// The lease of a report, or a failure if there is no such task.
pub(crate) fn reported_lease(report: &v1::Report) -> Result<LeaseId, Failure> {
    lease(&report.task_id, report.lease_token)
        .ok_or_else(|| Failure::new(Reason::UnknownTask, "no such task"))
}

/// The end of an output. Cuts the beginning if it is too long.
fn output_tail(output: &Bytes, limits: &Limits) -> Bytes {
    output.slice(output.len().saturating_sub(limits.output_tail_bytes)..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_at_its_front() {
        let limits = Limits { output_tail_bytes: 4, ..Limits::default() };
        for (output, tail) in [("", ""), ("abcd", "abcd"), ("abcdefgh", "efgh")] {
            assert_eq!(output_tail(&Bytes::from(output), &limits), tail);
        }
    }

    #[test]
    fn a_worker_says_who_it_is() {
        let limits = Limits::default();
        let good = v1::Hello { name: "w".to_owned(), slots: 4, ..v1::Hello::default() };
        assert_eq!(hello(&good, &limits).unwrap().slots, 4);
        let fields = |bad: v1::Hello| {
            let failure = hello(&bad, &limits).unwrap_err();
            failure.violations.into_iter().map(|wrong| wrong.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(v1::Hello::default()), ["slots", "name"]);
        assert_eq!(fields(v1::Hello { slots: 100_001, ..good.clone() }), ["slots"]);
        assert_eq!(fields(v1::Hello { name: "a b".to_owned(), ..good.clone() }), ["name"]);
        assert_eq!(fields(v1::Hello { session: "x".to_owned(), ..good.clone() }), ["session"]);
        let kinds = vec!["ok".to_owned(), "not ok".to_owned()];
        assert_eq!(fields(v1::Hello { kinds, ..good.clone() }), ["kinds[1]"]);
        let queues = vec!["q".to_owned(); 1_000_000];
        assert_eq!(fields(v1::Hello { queues, ..good }), ["queues"]);
    }

    #[test]
    fn reports_are_bounded() {
        let limits = Limits { result_bytes: 10, ..Limits::default() };
        let said = |outcome| {
            let report = v1::Report { outcome: Some(outcome), ..v1::Report::default() };
            super::report(report, &limits)
        };
        use v1::report::Outcome as Wire;
        let done = |size| Wire::Completed(v1::Completed { result: vec![b'1'; size].into() });
        assert!(said(done(10)).is_ok());
        assert_eq!(said(done(11)).unwrap_err().violations[0].field, "result");
        let progress = |size| Wire::Progress(v1::Progress { message: "a".repeat(size) });
        assert!(said(progress(PROGRESS_BYTES)).is_ok());
        assert_eq!(said(progress(PROGRESS_BYTES + 1)).unwrap_err().violations[0].field, "message");
        assert!(reports_size(REPORTS).is_ok());
        assert!(reports_size(REPORTS + 1).is_err());
        assert!(report(v1::Report::default(), &limits).is_err());
    }
}
