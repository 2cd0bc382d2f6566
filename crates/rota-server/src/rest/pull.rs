//! Being a worker without a stream: `curl` and a shell script are enough.

use axum::{Json, extract::State, http::StatusCode};
use rota_proto::{
    json::FailRequest,
    v1::{
        self, CloseSessionRequest, CompleteRequest, HeartbeatRequest, HeartbeatResponse,
        LeaseRequest, LeaseResponse, ReleaseRequest, ReportCancelledRequest, ReportProgressRequest,
        SnoozeRequest,
    },
};

use super::{
    extract::{Body, Part},
    problem::Problem,
};
use crate::{failure::Failure, operations::Caller, services::Services};

/// Leases up to `max` tasks, waiting for the first. The first call opens a session.
///
/// Tasks that are handed over count as running. A newer call of the same session makes one that still
/// waits return without tasks; one that is given up (its connection is closed) takes none.
#[utoipa::path(post, path = "/v1/leases", operation_id = "lease_tasks", tag = "Worker API", request_body = LeaseRequest, responses(
    (status = 200, description = "The tasks; none when the wait was over", body = LeaseResponse),
    (status = 404, description = "The session has ended", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The session is another worker's", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn lease(
    State(services): State<Services>,
    caller: Caller,
    Body(request): Body<LeaseRequest>,
) -> Result<Json<LeaseResponse>, Failure> {
    Ok(Json(services.lease_tasks(caller, request).await?))
}

/// The worker lives, and so does all it runs. The answer says what it is to stop.
#[utoipa::path(post, path = "/v1/sessions/{session}/heartbeat", operation_id = "heartbeat", tag = "Worker API",
    params(("session" = String, Path, description = "The session", pattern = "^s_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")), responses(
    (status = 200, description = "It lives on", body = HeartbeatResponse),
    (status = 404, description = "It has ended", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn heartbeat(
    State(services): State<Services>,
    caller: Caller,
    Part(session): Part,
) -> Result<Json<HeartbeatResponse>, Failure> {
    Ok(Json(services.heartbeat(caller, HeartbeatRequest { session }).await?))
}

/// Ends a session; what it held goes to others.
#[utoipa::path(delete, path = "/v1/sessions/{session}", operation_id = "close_session", tag = "Worker API",
    params(("session" = String, Path, description = "The session", pattern = "^s_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")), responses(
    (status = 204, description = "Ended"),
    (status = 404, description = "It had ended", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn close(
    State(services): State<Services>,
    caller: Caller,
    Part(session): Part,
) -> Result<StatusCode, Failure> {
    services.close_session(caller, CloseSessionRequest { session }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The attempt succeeded.
#[utoipa::path(post, path = "/v1/tasks/{id}/complete", operation_id = "complete_task", tag = "Worker API", request_body = CompleteRequest,
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "It is durable"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn complete(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
    Body(request): Body<CompleteRequest>,
) -> Result<StatusCode, Failure> {
    services.complete_task(caller, CompleteRequest { id, ..request }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The attempt failed: the task backs off or, when it has no attempts left, fails.
#[utoipa::path(post, path = "/v1/tasks/{id}/fail", operation_id = "fail_task", tag = "Worker API", request_body = FailRequest,
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "It is durable"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn fail(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
    Body(request): Body<FailRequest>,
) -> Result<StatusCode, Failure> {
    services.fail_task(caller, v1::FailRequest { id, ..request.into() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The attempt was stopped, as the server asked. Unasked, it counts as failed.
#[utoipa::path(post, path = "/v1/tasks/{id}/cancelled", operation_id = "report_cancelled", tag = "Worker API", request_body = ReportCancelledRequest,
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "It is durable"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn cancelled(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
    Body(request): Body<ReportCancelledRequest>,
) -> Result<StatusCode, Failure> {
    services.report_cancelled(caller, ReportCancelledRequest { id, ..request }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts the task off until a time that the handler names. No attempt of `retry.max_attempts` is spent.
#[utoipa::path(post, path = "/v1/tasks/{id}/snooze", operation_id = "snooze_task", tag = "Worker API", request_body = SnoozeRequest,
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "It is durable"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn snooze(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
    Body(request): Body<SnoozeRequest>,
) -> Result<StatusCode, Failure> {
    services.snooze_task(caller, SnoozeRequest { id, ..request }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives the task back unharmed: no attempt is spent.
#[utoipa::path(post, path = "/v1/tasks/{id}/release", operation_id = "release_task", tag = "Worker API", request_body = ReleaseRequest,
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "It is durable"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn release(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
    Body(request): Body<ReleaseRequest>,
) -> Result<StatusCode, Failure> {
    services.release_task(caller, ReleaseRequest { id, ..request }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says how far the handler is, and that it lives.
#[utoipa::path(post, path = "/v1/tasks/{id}/progress", operation_id = "report_progress", tag = "Worker API", request_body = ReportProgressRequest,
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "Noted"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn progress(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
    Body(request): Body<ReportProgressRequest>,
) -> Result<StatusCode, Failure> {
    services.report_progress(caller, ReportProgressRequest { id, ..request }).await?;
    Ok(StatusCode::NO_CONTENT)
}
