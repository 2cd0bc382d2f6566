//! Operations of workers: calls of workers without a stream, and reports of all workers.

use rota_core::{LeaseId, LeaseToken};
use rota_engine::Engine;
use rota_proto::v1::{self, report::Outcome};

use super::{Caller, Results, known};
use crate::{
    definition,
    failure::{Failure, Reason},
    limits::Limits,
    services::Services,
    trace, validate, wire,
};

impl Services {
    /// Leases tasks. Waits for the first as long as the worker requests, or until the server stops.
    pub(crate) async fn lease_tasks(
        &self,
        _: Caller,
        request: v1::LeaseRequest,
    ) -> Result<v1::LeaseResponse, Failure> {
        let asked = validate::lease_request(&request, &self.limits)?;
        // The call can wait for long, and does not need the memory of its body.
        drop(request);
        let leased = tokio::select! {
            biased;
            leased = self.engine.lease(asked) => leased?,
            () = self.stop.cancelled() => {
                return Err(Failure::new(Reason::Unavailable, "the server is stopping"));
            }
        };
        leased.tasks.iter().for_each(|task| trace::waited(&self.tracer, task));
        Ok(v1::LeaseResponse {
            session: leased.session.to_string(),
            ttl: Some(leased.ttl.into()),
            draining: leased.instructions.draining,
            tasks: leased.tasks.into_iter().map(definition::dispatch).collect(),
            stop: leased.instructions.stop.into_iter().map(wire::stop).collect(),
        })
    }

    /// Keeps a session alive.
    pub(crate) async fn heartbeat(
        &self,
        _: Caller,
        request: v1::HeartbeatRequest,
    ) -> Result<v1::HeartbeatResponse, Failure> {
        let session = validate::session(&request.session)?;
        let instructions = self.engine.pull_heartbeat(session).await?;
        Ok(v1::HeartbeatResponse {
            session: session.to_string(),
            stop: instructions.stop.into_iter().map(wire::stop).collect(),
            draining: instructions.draining,
        })
    }

    /// Ends a session.
    pub(crate) async fn close_session(
        &self,
        _: Caller,
        request: v1::CloseSessionRequest,
    ) -> Result<v1::CloseSessionResponse, Failure> {
        self.engine.close_session(validate::session(&request.session)?, None).await?;
        Ok(v1::CloseSessionResponse {})
    }

    /// Reports that the attempt succeeded.
    pub(crate) async fn complete_task(
        &self,
        caller: Caller,
        request: v1::CompleteRequest,
    ) -> Result<v1::CompleteResponse, Failure> {
        if caller.results == Results::Json {
            validate::json("result", &request.result, &self.limits)?;
        }
        let report = v1::Report {
            outcome: Some(Outcome::Completed(v1::Completed { result: request.result })),
            output_tail: request.output_tail,
            ..v1::Report::default()
        };
        self.report_one(&request.id, request.lease_token, report).await?;
        Ok(v1::CompleteResponse {})
    }

    /// Reports that the attempt failed.
    pub(crate) async fn fail_task(
        &self,
        _: Caller,
        request: v1::FailRequest,
    ) -> Result<v1::FailResponse, Failure> {
        let failed = request.failed.ok_or_else(|| Failure::field("failed", "is missing"))?;
        let report = v1::Report {
            outcome: Some(Outcome::Failed(failed)),
            output_tail: request.output_tail,
            ..v1::Report::default()
        };
        self.report_one(&request.id, request.lease_token, report).await?;
        Ok(v1::FailResponse {})
    }

    /// Reports that the attempt was stopped.
    pub(crate) async fn report_cancelled(
        &self,
        _: Caller,
        request: v1::ReportCancelledRequest,
    ) -> Result<v1::ReportCancelledResponse, Failure> {
        let report = v1::Report {
            outcome: Some(Outcome::Cancelled(v1::Cancelled {})),
            output_tail: request.output_tail,
            ..v1::Report::default()
        };
        self.report_one(&request.id, request.lease_token, report).await?;
        Ok(v1::ReportCancelledResponse {})
    }

    /// Puts the task off.
    pub(crate) async fn snooze_task(
        &self,
        _: Caller,
        request: v1::SnoozeRequest,
    ) -> Result<v1::SnoozeResponse, Failure> {
        let snoozed = v1::Snoozed { until: request.until, delay: request.delay };
        let report = v1::Report {
            outcome: Some(Outcome::Snoozed(snoozed)),
            output_tail: request.output_tail,
            ..v1::Report::default()
        };
        self.report_one(&request.id, request.lease_token, report).await?;
        Ok(v1::SnoozeResponse {})
    }

    /// Returns the task unprocessed.
    pub(crate) async fn release_task(
        &self,
        _: Caller,
        request: v1::ReleaseRequest,
    ) -> Result<v1::ReleaseResponse, Failure> {
        let outcome = Some(Outcome::Released(v1::Released {}));
        let report = v1::Report { outcome, ..v1::Report::default() };
        self.report_one(&request.id, request.lease_token, report).await?;
        Ok(v1::ReleaseResponse {})
    }

    /// Reports the progress of the handler.
    pub(crate) async fn report_progress(
        &self,
        _: Caller,
        request: v1::ReportProgressRequest,
    ) -> Result<v1::ReportProgressResponse, Failure> {
        let outcome = Some(Outcome::Progress(v1::Progress { message: request.message }));
        let report = v1::Report { outcome, ..v1::Report::default() };
        self.report_one(&request.id, request.lease_token, report).await?;
        Ok(v1::ReportProgressResponse {})
    }

    /// Takes one report, by either id of the task. Returns when it is durable.
    async fn report_one(&self, id: &str, token: u64, said: v1::Report) -> Result<(), Failure> {
        let task = validate::task_ref(id)?;
        let report = validate::report(said.clone(), &self.limits)?;
        let task = known(self.engine.find(&task).await?)?;
        let lease = LeaseId { task, token: LeaseToken(token) };
        note_output(&self.engine, lease, &said);
        for result in self.engine.report(vec![(lease, report)]).await? {
            result?;
        }
        Ok(())
    }
}

/// Takes the reports of one message. When it returns, all reports that were not refused are durable.
pub(crate) async fn report(
    engine: &Engine,
    reports: v1::Reports,
    limits: &Limits,
) -> Result<v1::ReportResults, Failure> {
    validate::reports_size(reports.reports.len())?;
    let mut refused = Vec::new();
    let mut leases = Vec::with_capacity(reports.reports.len());
    let mut accepted = Vec::with_capacity(reports.reports.len());
    for report in reports.reports {
        let lease = match validate::reported_lease(&report) {
            Ok(lease) => lease,
            Err(failure) => {
                refused.push(refusal(report.task_id, report.lease_token, failure));
                continue;
            }
        };
        note_output(engine, lease, &report);
        match validate::report(report, limits) {
            Ok(report) => {
                leases.push(lease);
                accepted.push((lease, report));
            }
            Err(failure) => refused.push(refused_lease(lease, failure)),
        }
    }
    let results = engine.report(accepted).await?;
    for (lease, result) in leases.into_iter().zip(results) {
        if let Err(reason) = result {
            refused.push(refused_lease(lease, reason.into()));
        }
    }
    Ok(v1::ReportResults { seq: reports.seq, refused })
}

/// Passes the end of the output of an attempt to those who listen to it.
fn note_output(engine: &Engine, lease: LeaseId, report: &v1::Report) {
    let goes_on = matches!(report.outcome, Some(Outcome::Started(_) | Outcome::Progress(_)) | None);
    if !goes_on && engine.watches_output(lease.task) {
        let tail = &report.output_tail;
        let written = report.output_bytes.unwrap_or(tail.len() as u64);
        engine.output_ends(lease, written, tail);
    }
}

fn refused_lease(lease: LeaseId, failure: Failure) -> v1::ReportRefusal {
    refusal(lease.task.to_string(), lease.token.0, failure)
}

fn refusal(task_id: String, lease_token: u64, failure: Failure) -> v1::ReportRefusal {
    v1::ReportRefusal {
        task_id,
        lease_token,
        reason: failure.reason.to_string(),
        message: failure.detail,
    }
}
