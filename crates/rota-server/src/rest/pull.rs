//! Being a worker without a stream: `curl` and a shell script are enough.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use bytes::Bytes;
use rota_core::{HeldLease, LeaseToken, Refusal};
use rota_engine::LeaseRequest as EngineLease;
use rota_proto::{
    json::{
        CompleteRequest, FailRequest, LeaseRequest, LeaseResponse, LeaseTokenRequest,
        ProgressRequest, Session,
    },
    v1::{self, report::Outcome},
};

use super::{
    extract::{Body, Part},
    problem::Problem,
};
use crate::{
    failure::{Failure, Reason},
    grpc::Services,
    validate::{self, Place},
    wire,
};

/// How long a session without a stream may be silent.
const TTL: (Duration, Duration, Duration) =
    (Duration::from_secs(5), Duration::from_secs(60), Duration::from_secs(3600));

/// Leases up to `max` tasks, waiting for the first. The first call opens a session.
#[utoipa::path(post, path = "/v1/leases", operation_id = "lease_tasks", tag = "being a worker", request_body = LeaseRequest, responses(
    (status = 200, description = "The tasks; none when the wait was over", body = LeaseResponse),
    (status = 404, description = "The session has ended", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The session is another worker's", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn lease(
    State(services): State<Services>,
    Body(request): Body<LeaseRequest>,
) -> Result<Json<LeaseResponse>, Failure> {
    let limits = &services.limits;
    let session = request.session.as_deref();
    let wait = validate::wait("wait", request.wait.map(Into::into), limits)?;
    let (least, default, most) = TTL;
    let ttl = request.ttl.map_or(default, |ttl| ttl.0);
    if ttl < least || ttl > most {
        return Err(Failure::field("ttl", "must be from 5s to 1h"));
    }
    let asked = EngineLease {
        session: session.map(|text| validate::session("session", text)).transpose()?,
        worker: validate::name_in_path("worker", &request.worker)?,
        queues: validate::served("queues", &request.queues)?,
        kinds: validate::served("kinds", &request.kinds)?,
        max: u32::try_from(validate::page_size("max", request.max, 1, limits)?).unwrap_or(1),
        wait: wait.unwrap_or_default(),
        ttl,
    };
    let leased = tokio::select! {
        leased = services.engine.lease(asked) => leased?,
        () = services.stop.cancelled() => {
            return Err(Failure::new(Reason::Unavailable, "the server stops"));
        }
    };
    Ok(Json(LeaseResponse {
        session: leased.session.to_string(),
        ttl: rota_proto::json::Span(leased.ttl),
        draining: leased.draining,
        tasks: leased.tasks.into_iter().map(|task| wire::dispatch(task).into()).collect(),
    }))
}

/// The worker lives, and so does all it runs.
#[utoipa::path(post, path = "/v1/sessions/{session}/heartbeat", operation_id = "heartbeat", tag = "being a worker",
    params(("session" = String, Path, description = "The session")), responses(
    (status = 200, description = "It lives on", body = Session),
    (status = 404, description = "It has ended", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn heartbeat(
    State(services): State<Services>,
    Part(session): Part,
) -> Result<Json<Session>, Failure> {
    services.engine.heartbeat(validate::session("session", &session)?).await?;
    Ok(Json(Session { session }))
}

/// Ends a session; what it held goes to others.
#[utoipa::path(delete, path = "/v1/sessions/{session}", operation_id = "close_session", tag = "being a worker",
    params(("session" = String, Path, description = "The session")), responses(
    (status = 204, description = "Ended"),
    (status = 404, description = "It had ended", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn close(
    State(services): State<Services>,
    Part(session): Part,
) -> Result<StatusCode, Failure> {
    services.engine.close_session(validate::session("session", &session)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The attempt succeeded.
#[utoipa::path(post, path = "/v1/tasks/{id}/complete", operation_id = "complete_task", tag = "being a worker", request_body = CompleteRequest,
    params(("id" = String, Path, description = "The task")), responses(
    (status = 204, description = "It is durable"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn complete(
    State(services): State<Services>,
    Part(id): Part,
    Body(request): Body<CompleteRequest>,
) -> Result<StatusCode, Failure> {
    validate::depth(Place::Top, "result", request.result.as_deref(), &services.limits)?;
    let result = request.result.map(|json| Bytes::from(Box::<str>::from(json).into_string()));
    let outcome = Outcome::Completed(v1::Completed { result: result.unwrap_or_default() });
    report(&services, &id, request.lease_token, outcome, request.output_tail).await
}

/// The attempt failed: the task backs off or, when it has no attempts left, fails.
#[utoipa::path(post, path = "/v1/tasks/{id}/fail", operation_id = "fail_task", tag = "being a worker", request_body = FailRequest,
    params(("id" = String, Path, description = "The task")), responses(
    (status = 204, description = "It is durable"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn fail(
    State(services): State<Services>,
    Part(id): Part,
    Body(request): Body<FailRequest>,
) -> Result<StatusCode, Failure> {
    let reason =
        if request.permanent { v1::FailureReason::Permanent } else { v1::FailureReason::Error };
    let outcome = Outcome::Failed(v1::Failed {
        reason: reason.into(),
        message: request.error,
        retry_at: request.retry_at.map(Into::into),
    });
    report(&services, &id, request.lease_token, outcome, request.output_tail).await
}

/// Gives the task back unharmed: no attempt is spent.
#[utoipa::path(post, path = "/v1/tasks/{id}/release", operation_id = "release_task", tag = "being a worker", request_body = LeaseTokenRequest,
    params(("id" = String, Path, description = "The task")), responses(
    (status = 204, description = "It is durable"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn release(
    State(services): State<Services>,
    Part(id): Part,
    Body(request): Body<LeaseTokenRequest>,
) -> Result<StatusCode, Failure> {
    let outcome = Outcome::Released(v1::Released {});
    report(&services, &id, request.lease_token, outcome, None).await
}

/// Says how far the handler is, and that it lives.
#[utoipa::path(post, path = "/v1/tasks/{id}/progress", operation_id = "report_progress", tag = "being a worker", request_body = ProgressRequest,
    params(("id" = String, Path, description = "The task")), responses(
    (status = 204, description = "Noted"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn progress(
    State(services): State<Services>,
    Part(id): Part,
    Body(request): Body<ProgressRequest>,
) -> Result<StatusCode, Failure> {
    let outcome = Outcome::Progress(v1::Progress { message: request.message });
    report(&services, &id, request.lease_token, outcome, None).await
}

async fn report(
    services: &Services,
    id: &str,
    token: u64,
    outcome: Outcome,
    output_tail: Option<String>,
) -> Result<StatusCode, Failure> {
    let task = validate::task_ref("id", id)?;
    let said = v1::Report {
        outcome: Some(outcome),
        output_tail: output_tail.map(Bytes::from).unwrap_or_default(),
        ..v1::Report::default()
    };
    let report = validate::report(said, &services.limits)?;
    let task = services.engine.find(&task).await?.ok_or(Refusal::UnknownTask)?;
    let lease = HeldLease { task, token: LeaseToken(token) };
    for result in services.engine.report(vec![(lease, report)]).await? {
        result?;
    }
    Ok(StatusCode::NO_CONTENT)
}
