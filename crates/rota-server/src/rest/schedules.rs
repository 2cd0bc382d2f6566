//! REST handlers for schedules. `schedule_runs` has those for their ticks, backfills and previews.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use rota_proto::v1::{
    BulkSchedulesResponse, DeleteScheduleRequest, ListSchedulesRequest, ListSchedulesResponse,
    PauseScheduleRequest, PauseSchedulesRequest, PutScheduleRequest, PutScheduleResponse,
    ResumeSchedulesRequest, Schedule, ScheduleDefinition, ScheduleRequest, ScheduleState, Task,
};

use super::{
    extract::{Body, OptionalBody, Part},
    fields::in_query,
    handlers::handlers,
    problem::Problem,
    query::Pairs,
    versions::{Expected, etag},
};
use crate::{
    failure::{Failure, Reason},
    operations::Caller,
    services::Services,
};

handlers! {
    PutSchedule => put,
    GetSchedule => get,
    ListSchedules => list,
    DeleteSchedule => delete,
    PauseSchedule => pause,
    ResumeSchedule => resume,
    PauseSchedules => pause_many,
    ResumeSchedules => resume_many,
    TriggerSchedule => trigger,
}

/// Parts of a task that a template cannot have, and what to do instead.
const OF_ONE_TASK: [(&str, &str); 5] = [
    ("id", "the id of each task is made of the name of the schedule and the nominal time"),
    ("idempotency_key", "each tick creates its task exactly once"),
    ("run_at", "the expressions, intervals and dates of the schedule say when its tasks are due"),
    ("delay", "use jitter to spread load"),
    ("expires_at", "use expires_after, which counts from the nominal time"),
];

/// A failure that says what to do instead of a part that only a single task can have.
pub(super) fn of_template(failure: Failure) -> Failure {
    let [wrong] = failure.violations.as_slice() else { return failure };
    let part = wrong.field.rsplit_once("template.").map(|(_, part)| part);
    let instead = OF_ONE_TASK.iter().find(|(known, _)| Some(*known) == part);
    match instead {
        Some((_, instead)) if wrong.message.starts_with("unknown field") => {
            Failure::field(&wrong.field, format!("is not part of a template; {instead}"))
        }
        _ => failure,
    }
}

/// Creates a schedule, or replaces its definition.
///
/// The same definition changes nothing. Other nominal times begin at the time of the change.
#[utoipa::path(put, path = "/v1/schedules/{name}", operation_id = "put_schedule", tag = "schedules", request_body = ScheduleDefinition, params(
    ("name" = String, Path, description = "Name of the schedule", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]*[A-Za-z0-9_:/-][A-Za-z0-9._:/-]*$"),
    ("if-match" = Option<String>, Header, description = "Version that the schedule must have, with or without quotes; * for any", pattern = r#"^(\*|"[0-9]{1,19}"|[0-9]{1,19})$"#),
    ("if-none-match" = Option<String>, Header, description = "* if the schedule must not exist", pattern = r"^\*$"),
), responses(
    (status = 201, description = "Created", body = Schedule, headers(("location" = String), ("etag" = String))),
    (status = 200, description = "Replaced, or already the same", body = Schedule, headers(("etag" = String))),
    (status = 412, description = "The schedule has another version, or exists already", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn put(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
    headers: HeaderMap,
    body: Result<Body<ScheduleDefinition>, Failure>,
) -> Result<Response, Failure> {
    let Body(mut given) = body.map_err(of_template)?;
    match &given.name {
        Some(other) if *other != name => {
            return Err(Failure::field("name", "differs from the name in the path"));
        }
        _ => given.name = Some(name.clone()),
    }
    let expected_version = match Expected::of_headers(&headers)? {
        Expected::Any => None,
        Expected::None => Some(0),
        Expected::Version(version) => Some(version),
        Expected::Some => {
            let request = ScheduleRequest { name: name.clone() };
            let found = services.get_schedule(Caller::of_same(&caller), request).await;
            Some(found.map_err(|failure| missing(failure, Reason::UnknownSchedule))?.version)
        }
    };
    let request = PutScheduleRequest { expected_version, ..given.into() };
    let PutScheduleResponse { schedule, created, .. } =
        services.put_schedule(caller, request).await?;
    let schedule = schedule.ok_or_else(|| Failure::new(Reason::Internal, "no answer"))?;
    let etag = etag(schedule.version);
    if !created {
        return Ok((etag, Json(schedule)).into_response());
    }
    let location = format!("/v1/schedules/{}", name.replace('/', "%2F"));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], etag, Json(schedule)).into_response())
}

/// The failure of a request that expects that something exists.
pub(super) fn missing(failure: Failure, unknown: Reason) -> Failure {
    if failure.reason == unknown {
        return Failure::new(Reason::VersionConflict, "it does not exist");
    }
    failure
}

/// Gets a schedule.
#[utoipa::path(get, path = "/v1/schedules/{name}", operation_id = "get_schedule", tag = "schedules",
    params(("name" = String, Path, description = "Name of the schedule", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The schedule", body = Schedule, headers(("etag" = String))),
    (status = 404, description = "No such schedule", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
) -> Result<Response, Failure> {
    let schedule = services.get_schedule(caller, ScheduleRequest { name }).await?;
    Ok((etag(schedule.version), Json(schedule)).into_response())
}

/// Lists schedules, by name, without the payloads of their templates.
#[utoipa::path(get, path = "/v1/schedules", operation_id = "list_schedules", tag = "schedules", params(
    ("prefix" = Option<String>, Query, description = "Only schedules whose names begin so", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("label" = Option<Vec<String>>, Query, description = "Only schedules with this label, as name=value. Can be repeated; all must match.", pattern = "^[A-Za-z0-9._:/-]{1,128}=[^\\u0000]*$"),
    ("state" = Option<ScheduleState>, Query, description = "Only schedules in this state"),
    ("limit" = Option<u32>, Query, description = "Maximum number of schedules, 1 to 1000. Default: 50.", minimum = 1, maximum = 1000),
    ("cursor" = Option<String>, Query, description = "next_cursor of the previous page", pattern = "^[A-Za-z0-9._:/-]{1,128}$"),
), responses((status = 200, description = "A page of schedules", body = ListSchedulesResponse)))]
pub(crate) async fn list(
    State(services): State<Services>,
    caller: Caller,
    pairs: Pairs,
) -> Result<Json<ListSchedulesResponse>, Failure> {
    let (filter, page) = pairs.schedules()?;
    let request = ListSchedulesRequest {
        filter: Some(filter),
        page_size: page.size(&services.limits)?,
        page_token: page.token(),
    };
    Ok(Json(services.list_schedules(caller, request).await.map_err(in_query)?))
}

/// Deletes a schedule. Its tasks stay.
#[utoipa::path(delete, path = "/v1/schedules/{name}", operation_id = "delete_schedule", tag = "schedules", params(
    ("name" = String, Path, description = "Name of the schedule", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("if-match" = Option<String>, Header, description = "Version that the schedule must have, with or without quotes", pattern = r#"^(\*|"[0-9]{1,19}"|[0-9]{1,19})$"#),
), responses(
    (status = 204, description = "Deleted"),
    (status = 404, description = "No such schedule", body = Problem, content_type = "application/problem+json"),
    (status = 412, description = "The schedule has another version", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
    headers: HeaderMap,
) -> Result<StatusCode, Failure> {
    let expected_version = Expected::of_existing(&headers)?;
    let request = DeleteScheduleRequest { name, expected_version };
    services.delete_schedule(caller, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pauses a schedule: its ticks are skipped. Running tasks continue.
#[utoipa::path(post, path = "/v1/schedules/{name}/pause", operation_id = "pause_schedule", tag = "schedules", request_body = Option<PauseScheduleRequest>,
    params(("name" = String, Path, description = "Name of the schedule", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The schedule after the change", body = Schedule),
    (status = 404, description = "No such schedule", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn pause(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
    OptionalBody(request): OptionalBody<PauseScheduleRequest>,
) -> Result<Json<Schedule>, Failure> {
    let request = PauseScheduleRequest { name, ..request };
    Ok(Json(services.pause_schedule(caller, request).await?))
}

/// Resumes a paused schedule. Ticks of the past stay skipped.
#[utoipa::path(post, path = "/v1/schedules/{name}/resume", operation_id = "resume_schedule", tag = "schedules",
    params(("name" = String, Path, description = "Name of the schedule", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The schedule after the change", body = Schedule),
    (status = 404, description = "No such schedule", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn resume(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
) -> Result<Json<Schedule>, Failure> {
    Ok(Json(services.resume_schedule(caller, ScheduleRequest { name }).await?))
}

/// Pauses the schedules that match a filter.
#[utoipa::path(post, path = "/v1/schedules/pause", operation_id = "pause_schedules", tag = "schedules", request_body = PauseSchedulesRequest, responses(
    (status = 200, description = "Number of changed schedules", body = BulkSchedulesResponse),
))]
pub(crate) async fn pause_many(
    State(services): State<Services>,
    caller: Caller,
    Body(request): Body<PauseSchedulesRequest>,
) -> Result<Json<BulkSchedulesResponse>, Failure> {
    Ok(Json(services.pause_schedules(caller, request).await?))
}

/// Resumes the schedules that match a filter.
#[utoipa::path(post, path = "/v1/schedules/resume", operation_id = "resume_schedules", tag = "schedules", request_body = ResumeSchedulesRequest, responses(
    (status = 200, description = "Number of changed schedules", body = BulkSchedulesResponse),
))]
pub(crate) async fn resume_many(
    State(services): State<Services>,
    caller: Caller,
    Body(request): Body<ResumeSchedulesRequest>,
) -> Result<Json<BulkSchedulesResponse>, Failure> {
    Ok(Json(services.resume_schedules(caller, request).await?))
}

/// Creates a task of the schedule now. Its ticks stay as they are.
#[utoipa::path(post, path = "/v1/schedules/{name}/trigger", operation_id = "trigger_schedule", tag = "schedules",
    params(("name" = String, Path, description = "Name of the schedule", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 201, description = "The new task", body = Task, headers(("location" = String))),
    (status = 404, description = "No such schedule", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The task cannot be created", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn trigger(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
) -> Result<Response, Failure> {
    let task = services.trigger_schedule(caller, ScheduleRequest { name }).await?;
    let location = format!("/v1/tasks/{}", task.id.replace('/', "%2F"));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(task)).into_response())
}
