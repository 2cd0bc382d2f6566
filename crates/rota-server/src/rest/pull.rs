//! REST handlers for workers without a stream. A shell script with `curl` is enough to be one.

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

/// Leases up to `max` tasks, and waits for the first. The first call opens a session.
///
/// Leased tasks count as running. A newer call of the same session makes a waiting one return without tasks.
/// A call whose connection is closed leases no tasks.
#[utoipa::path(post, path = "/v1/leases", operation_id = "lease_tasks", tag = "Worker API", request_body = LeaseRequest, responses(
    (status = 200, description = "Leased tasks; empty when the wait is over", body = LeaseResponse),
    (status = 404, description = "The session has ended", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The session belongs to another worker", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn lease(
    State(services): State<Services>,
    caller: Caller,
    Body(request): Body<LeaseRequest>,
) -> Result<Json<LeaseResponse>, Failure> {
    Ok(Json(services.lease_tasks(caller, request).await?))
}

/// Keeps a session and its leases alive. Returns the attempts that the worker must stop.
#[utoipa::path(post, path = "/v1/sessions/{session}/heartbeat", operation_id = "heartbeat", tag = "Worker API",
    params(("session" = String, Path, description = "Session id", pattern = "^s_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")), responses(
    (status = 200, description = "The session is alive", body = HeartbeatResponse),
    (status = 404, description = "The session has ended", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn heartbeat(
    State(services): State<Services>,
    caller: Caller,
    Part(session): Part,
) -> Result<Json<HeartbeatResponse>, Failure> {
    Ok(Json(services.heartbeat(caller, HeartbeatRequest { session }).await?))
}

/// Ends a session. Other workers get the tasks that it held.
#[utoipa::path(delete, path = "/v1/sessions/{session}", operation_id = "close_session", tag = "Worker API",
    params(("session" = String, Path, description = "Session id", pattern = "^s_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")), responses(
    (status = 204, description = "Ended"),
    (status = 404, description = "The session has already ended", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn close(
    State(services): State<Services>,
    caller: Caller,
    Part(session): Part,
) -> Result<StatusCode, Failure> {
    services.close_session(caller, CloseSessionRequest { session }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reports that the attempt succeeded.
#[utoipa::path(post, path = "/v1/tasks/{id}/complete", operation_id = "complete_task", tag = "Worker API", request_body = CompleteRequest,
    params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "The report is durable"),
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

/// Reports that the attempt failed. The task backs off, or fails if it has no attempts left.
#[utoipa::path(post, path = "/v1/tasks/{id}/fail", operation_id = "fail_task", tag = "Worker API", request_body = FailRequest,
    params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "The report is durable"),
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

/// Reports that the attempt was stopped, as the server asked. Otherwise it counts as failed.
#[utoipa::path(post, path = "/v1/tasks/{id}/cancelled", operation_id = "report_cancelled", tag = "Worker API", request_body = ReportCancelledRequest,
    params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "The report is durable"),
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

/// Puts the task off until a time. This spends no attempt of `retry.max_attempts`.
#[utoipa::path(post, path = "/v1/tasks/{id}/snooze", operation_id = "snooze_task", tag = "Worker API", request_body = SnoozeRequest,
    params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "The report is durable"),
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

/// Returns the task unprocessed. This spends no attempt of `retry.max_attempts`.
#[utoipa::path(post, path = "/v1/tasks/{id}/release", operation_id = "release_task", tag = "Worker API", request_body = ReleaseRequest,
    params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "The report is durable"),
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

/// Reports the progress of the handler, which also keeps the session alive.
#[utoipa::path(post, path = "/v1/tasks/{id}/progress", operation_id = "report_progress", tag = "Worker API", request_body = ReportProgressRequest,
    params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
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
