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

/// The handlers of what a worker reports of a task that it has: each is called with the task and the lease, and answers
/// nothing. The JSON form of a message has its name.
macro_rules! reports {
    ($(
        $(#[doc = $summary:tt])+
        $handler:ident: $path:tt as $id:tt, $message:ident to $operation:ident, $done:tt;
    )+) => {$(
        $(#[doc = $summary])+
        #[utoipa::path(post, path = $path, operation_id = $id, tag = "Worker API", request_body = $message,
            params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
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
    /// The attempt succeeded.
    complete: "/v1/tasks/{id}/complete" as "complete_task",
        CompleteRequest to complete_task, "It is durable";
    /// The attempt failed: the task backs off or, when it has no attempts left, fails.
    fail: "/v1/tasks/{id}/fail" as "fail_task",
        FailRequest to fail_task, "It is durable";
    /// The attempt was stopped, as the server asked. Unasked, it counts as failed.
    cancelled: "/v1/tasks/{id}/cancelled" as "report_cancelled",
        ReportCancelledRequest to report_cancelled, "It is durable";
    /// Puts the task off until a time that the handler names. No attempt of `retry.max_attempts` is spent.
    snooze: "/v1/tasks/{id}/snooze" as "snooze_task",
        SnoozeRequest to snooze_task, "It is durable";
    /// Gives the task back unharmed: no attempt is spent.
    release: "/v1/tasks/{id}/release" as "release_task",
        ReleaseRequest to release_task, "It is durable";
    /// Says how far the handler is, and that it lives.
    progress: "/v1/tasks/{id}/progress" as "report_progress",
        ReportProgressRequest to report_progress, "Noted";
}
