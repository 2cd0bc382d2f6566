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
    handlers::handlers,
    problem::Problem,
};
use crate::{failure::Failure, operations::Caller, services::Services};

handlers! {
    LeaseTasks => lease,
    Heartbeat => heartbeat,
    CloseSession => close,
    CompleteTask => complete,
    FailTask => fail,
    ReportCancelled => cancelled,
    SnoozeTask => snooze,
    ReleaseTask => release,
    ReportProgress => progress,
}

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

/// Handlers for the reports of a worker about a task that it holds. Each takes a task id and a message with the lease,
/// and answers without content. The JSON form of a message has the same name.
macro_rules! reports {
    ($(
        $(#[doc = $summary:tt])+
        $handler:ident: $path:tt as $id:tt, $message:ident to $operation:ident, $done:tt;
    )+) => {$(
        $(#[doc = $summary])+
        #[utoipa::path(post, path = $path, operation_id = $id, tag = "Worker API", request_body = $message,
            params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
            (status = 204, description = $done),
            (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
            (status = 409, description = "The lease is no longer valid", body = Problem, content_type = "application/problem+json"),
        ))]
        pub(crate) async fn $handler(
            State(services): State<Services>,
            caller: Caller,
            Part(id): Part,
            Body(request): Body<$message>,
        ) -> Result<StatusCode, Failure> {
            services.$operation(caller, v1::$message { id, ..request.into() }).await?;
            Ok(StatusCode::NO_CONTENT)
        }
    )+};
}

reports! {
    /// Reports that the attempt succeeded.
    complete: "/v1/tasks/{id}/complete" as "complete_task",
        CompleteRequest to complete_task, "The report is durable";
    /// Reports that the attempt failed. The task backs off, or fails if it has no attempts left.
    fail: "/v1/tasks/{id}/fail" as "fail_task",
        FailRequest to fail_task, "The report is durable";
    /// Reports that the attempt was stopped, as the server asked. Otherwise it counts as failed.
    cancelled: "/v1/tasks/{id}/cancelled" as "report_cancelled",
        ReportCancelledRequest to report_cancelled, "The report is durable";
    /// Puts the task off until a time. This spends no attempt of `retry.max_attempts`.
    snooze: "/v1/tasks/{id}/snooze" as "snooze_task",
        SnoozeRequest to snooze_task, "The report is durable";
    /// Returns the task unprocessed. This spends no attempt of `retry.max_attempts`.
    release: "/v1/tasks/{id}/release" as "release_task",
        ReleaseRequest to release_task, "The report is durable";
    /// Reports the progress of the handler, which also keeps the session alive.
    progress: "/v1/tasks/{id}/progress" as "report_progress",
        ReportProgressRequest to report_progress, "Noted";
}
