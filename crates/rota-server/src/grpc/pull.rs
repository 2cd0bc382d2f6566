//! Workers without a stream: what they ask call by call, for both protocols.

use rota_core::{HeldLease, LeaseToken, Refusal};
use rota_proto::v1::{self, report::Outcome};

use crate::services::Services;
use crate::{
    definition,
    failure::{Failure, Reason},
    trace, validate, wire,
};

impl Services {
    /// Leases tasks, waiting for the first as long as the worker says or the server runs.
    pub(crate) async fn lease_tasks(
        &self,
        request: &v1::LeaseRequest,
    ) -> Result<v1::LeaseResponse, Failure> {
        let asked = validate::lease_request(request, &self.limits)?;
        let leased = tokio::select! {
            biased;
            leased = self.engine.lease(asked) => leased?,
            () = self.stop.cancelled() => {
                return Err(Failure::new(Reason::Unavailable, "the server stops"));
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

    /// A worker lives.
    pub(crate) async fn session_lives(
        &self,
        session: &str,
    ) -> Result<v1::HeartbeatResponse, Failure> {
        let session = validate::session("session", session)?;
        let instructions = self.engine.pull_heartbeat(session).await?;
        Ok(v1::HeartbeatResponse {
            session: session.to_string(),
            stop: instructions.stop.into_iter().map(wire::stop).collect(),
            draining: instructions.draining,
        })
    }

    /// A worker goes.
    pub(crate) async fn close_session(&self, session: &str) -> Result<(), Failure> {
        Ok(self.engine.close_session(validate::session("session", session)?, None).await?)
    }

    /// The attempt succeeded.
    pub(crate) async fn complete(&self, request: v1::CompleteRequest) -> Result<(), Failure> {
        let report = v1::Report {
            outcome: Some(Outcome::Completed(v1::Completed { result: request.result })),
            output_tail: request.output_tail,
            ..v1::Report::default()
        };
        self.report_one(&request.id, request.lease_token, report).await
    }

    /// The attempt failed.
    pub(crate) async fn fail(&self, request: v1::FailRequest) -> Result<(), Failure> {
        let failed = request.failed.ok_or_else(|| Failure::field("failed", "is missing"))?;
        let report = v1::Report {
            outcome: Some(Outcome::Failed(failed)),
            output_tail: request.output_tail,
            ..v1::Report::default()
        };
        self.report_one(&request.id, request.lease_token, report).await
    }

    /// The attempt was stopped.
    pub(crate) async fn cancelled(
        &self,
        request: v1::ReportCancelledRequest,
    ) -> Result<(), Failure> {
        let report = v1::Report {
            outcome: Some(Outcome::Cancelled(v1::Cancelled {})),
            output_tail: request.output_tail,
            ..v1::Report::default()
        };
        self.report_one(&request.id, request.lease_token, report).await
    }

    /// The task is given back.
    pub(crate) async fn release(&self, request: v1::ReleaseRequest) -> Result<(), Failure> {
        let outcome = Some(Outcome::Released(v1::Released {}));
        let report = v1::Report { outcome, ..v1::Report::default() };
        self.report_one(&request.id, request.lease_token, report).await
    }

    /// The handler says how far it is.
    pub(crate) async fn progress(&self, request: v1::ReportProgressRequest) -> Result<(), Failure> {
        let outcome = Some(Outcome::Progress(v1::Progress { message: request.message }));
        let report = v1::Report { outcome, ..v1::Report::default() };
        self.report_one(&request.id, request.lease_token, report).await
    }

    /// One report on a task that is named by either of its ids. Returns when it is durable.
    async fn report_one(&self, id: &str, token: u64, said: v1::Report) -> Result<(), Failure> {
        let task = validate::task_ref("id", id)?;
        let report = validate::report(said, &self.limits)?;
        let task = self.engine.find(&task).await?.ok_or(Refusal::UnknownTask)?;
        let lease = HeldLease { task, token: LeaseToken(token) };
        for result in self.engine.report(vec![(lease, report)]).await? {
            result?;
        }
        Ok(())
    }
}
