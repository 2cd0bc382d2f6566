//! Being a worker without a stream: `curl` and a shell script are enough.

use axum::{Json, extract::State, http::StatusCode};
use bytes::Bytes;
use rota_proto::{
    json::{
        CancelledRequest, CompleteRequest, FailRequest, HeartbeatResponse, HeldLease, LeaseRequest,
        LeaseResponse, LeaseTokenRequest, ProgressRequest,
    },
    v1,
};

use super::{
    extract::{Body, Part},
    problem::Problem,
};
use crate::{
    failure::Failure,
    services::Services,
    validate::{self, Place},
};

/// Leases up to `max` tasks, waiting for the first. The first call opens a session.
///
/// Tasks that are handed over count as running. A newer call of the same session makes one that still
/// waits return without tasks; one that is given up (its connection is closed) takes none.
#[utoipa::path(post, path = "/v1/leases", operation_id = "lease_tasks", tag = "being a worker", request_body = LeaseRequest, responses(
    (status = 200, description = "The tasks; none when the wait was over", body = LeaseResponse),
    (status = 404, description = "The session has ended", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The session is another worker's", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn lease(
    State(services): State<Services>,
    Body(request): Body<LeaseRequest>,
) -> Result<Json<LeaseResponse>, Failure> {
    if let Some(session) = &request.session {
        validate::session("session", session)?;
    }
    let asked = v1::LeaseRequest {
        worker: request.worker,
        session: request.session.unwrap_or_default(),
        queues: request.queues,
        kinds: request.kinds,
        max: request.max,
        wait: request.wait.map(Into::into),
        ttl: request.ttl.map(Into::into),
        held: request.held.map(|held| {
            let lease =
                |held: HeldLease| v1::Lease { task_id: held.id, lease_token: held.lease_token };
            v1::HeldLeases { leases: held.into_iter().map(lease).collect() }
        }),
    };
    let leased = services.lease_tasks(&asked).await?;
    Ok(Json(LeaseResponse {
        session: leased.session,
        ttl: leased.ttl.map(Into::into).unwrap_or_default(),
        draining: leased.draining,
        tasks: leased.tasks.into_iter().map(Into::into).collect(),
        stop: leased.stop.into_iter().map(Into::into).collect(),
    }))
}

/// The worker lives, and so does all it runs. The answer says what it is to stop.
#[utoipa::path(post, path = "/v1/sessions/{session}/heartbeat", operation_id = "heartbeat", tag = "being a worker",
    params(("session" = String, Path, description = "The session", pattern = "^s_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")), responses(
    (status = 200, description = "It lives on", body = HeartbeatResponse),
    (status = 404, description = "It has ended", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn heartbeat(
    State(services): State<Services>,
    Part(session): Part,
) -> Result<Json<HeartbeatResponse>, Failure> {
    let v1::HeartbeatResponse { stop, draining } = services.session_lives(&session).await?;
    let stop = stop.into_iter().map(Into::into).collect();
    Ok(Json(HeartbeatResponse { session, draining, stop }))
}

/// Ends a session; what it held goes to others.
#[utoipa::path(delete, path = "/v1/sessions/{session}", operation_id = "close_session", tag = "being a worker",
    params(("session" = String, Path, description = "The session", pattern = "^s_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")), responses(
    (status = 204, description = "Ended"),
    (status = 404, description = "It had ended", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn close(
    State(services): State<Services>,
    Part(session): Part,
) -> Result<StatusCode, Failure> {
    services.close_session(&session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The attempt succeeded.
#[utoipa::path(post, path = "/v1/tasks/{id}/complete", operation_id = "complete_task", tag = "being a worker", request_body = CompleteRequest,
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "It is durable"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn complete(
    State(services): State<Services>,
    Part(id): Part,
    Body(request): Body<CompleteRequest>,
) -> Result<StatusCode, Failure> {
    validate::json(Place::Top, "result", request.result.as_deref(), &services.limits)?;
    let result = request.result.map(|json| Bytes::from(Box::<str>::from(json).into_string()));
    let complete = v1::CompleteRequest {
        id,
        lease_token: request.lease_token,
        result: result.unwrap_or_default(),
        output_tail: request.output_tail.map(Bytes::from).unwrap_or_default(),
    };
    services.complete(complete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The attempt failed: the task backs off or, when it has no attempts left, fails.
#[utoipa::path(post, path = "/v1/tasks/{id}/fail", operation_id = "fail_task", tag = "being a worker", request_body = FailRequest,
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
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
    let failed = v1::Failed {
        reason: reason.into(),
        message: request.error,
        retry_at: request.retry_at.map(Into::into),
    };
    let fail = v1::FailRequest {
        id,
        lease_token: request.lease_token,
        failed: Some(failed),
        output_tail: request.output_tail.map(Bytes::from).unwrap_or_default(),
    };
    services.fail(fail).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The attempt was stopped, as the server asked. Unasked, it counts as failed.
#[utoipa::path(post, path = "/v1/tasks/{id}/cancelled", operation_id = "report_cancelled", tag = "being a worker", request_body = CancelledRequest,
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "It is durable"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn cancelled(
    State(services): State<Services>,
    Part(id): Part,
    Body(request): Body<CancelledRequest>,
) -> Result<StatusCode, Failure> {
    let cancelled = v1::ReportCancelledRequest {
        id,
        lease_token: request.lease_token,
        output_tail: request.output_tail.map(Bytes::from).unwrap_or_default(),
    };
    services.cancelled(cancelled).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives the task back unharmed: no attempt is spent.
#[utoipa::path(post, path = "/v1/tasks/{id}/release", operation_id = "release_task", tag = "being a worker", request_body = LeaseTokenRequest,
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "It is durable"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn release(
    State(services): State<Services>,
    Part(id): Part,
    Body(request): Body<LeaseTokenRequest>,
) -> Result<StatusCode, Failure> {
    services.release(v1::ReleaseRequest { id, lease_token: request.lease_token }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says how far the handler is, and that it lives.
#[utoipa::path(post, path = "/v1/tasks/{id}/progress", operation_id = "report_progress", tag = "being a worker", request_body = ProgressRequest,
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "Noted"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn progress(
    State(services): State<Services>,
    Part(id): Part,
    Body(request): Body<ProgressRequest>,
) -> Result<StatusCode, Failure> {
    let ProgressRequest { lease_token, message } = request;
    services.progress(v1::ReportProgressRequest { id, lease_token, message }).await?;
    Ok(StatusCode::NO_CONTENT)
}
