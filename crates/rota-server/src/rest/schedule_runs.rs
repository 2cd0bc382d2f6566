//! REST handlers for the runs of schedules: ticks, backfills and previews.

use axum::{Json, extract::State};
use rota_proto::{
    Date,
    v1::{
        BackfillScheduleRequest, BackfillScheduleResponse, ListTicksRequest, ListTicksResponse,
        PreviewDefinitionRequest, PreviewScheduleRequest, Schedule, SchedulePreview,
        ScheduleRequest, SkipTickRequest,
    },
};

use super::{
    extract::{Body, Part},
    fields::in_query,
    handlers::handlers,
    problem::Problem,
    query::Pairs,
    schedules::of_template,
};
use crate::{failure::Failure, operations::Caller, services::Services};

handlers! {
    SkipTick => skip,
    BackfillSchedule => backfill,
    CancelBackfill => cancel_backfill,
    ListTicks => ticks,
    PreviewDefinition => preview_definition,
    PreviewSchedule => preview,
}

/// Skips a coming tick, or takes that back.
#[utoipa::path(post, path = "/v1/schedules/{name}/skip", operation_id = "skip_tick", tag = "schedules", request_body = SkipTickRequest,
    params(("name" = String, Path, description = "Name of the schedule", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The schedule after the change", body = Schedule),
    (status = 404, description = "No such schedule", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The schedule has no coming tick at this time", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn skip(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
    Body(request): Body<SkipTickRequest>,
) -> Result<Json<Schedule>, Failure> {
    let request = SkipTickRequest { name, ..request };
    Ok(Json(services.skip_tick(caller, request).await?))
}

/// Creates the tasks of past ticks. With `dry_run`, only counts them.
#[utoipa::path(post, path = "/v1/schedules/{name}/backfill", operation_id = "backfill_schedule", tag = "schedules", request_body = BackfillScheduleRequest,
    params(("name" = String, Path, description = "Name of the schedule", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "Number of ticks, and the schedule with its backfill", body = BackfillScheduleResponse),
    (status = 404, description = "No such schedule", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "A backfill is under way", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn backfill(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
    Body(request): Body<BackfillScheduleRequest>,
) -> Result<Json<BackfillScheduleResponse>, Failure> {
    let request = BackfillScheduleRequest { name, ..request };
    Ok(Json(services.backfill_schedule(caller, request).await?))
}

/// Cancels the backfill that is under way. Its tasks stay.
#[utoipa::path(delete, path = "/v1/schedules/{name}/backfill", operation_id = "cancel_backfill", tag = "schedules",
    params(("name" = String, Path, description = "Name of the schedule", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The schedule after the change", body = Schedule),
    (status = 404, description = "No such schedule", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "No backfill is under way", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn cancel_backfill(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
) -> Result<Json<Schedule>, Failure> {
    Ok(Json(services.cancel_backfill(caller, ScheduleRequest { name }).await?))
}

/// Lists decided ticks of a schedule, newest first.
#[utoipa::path(get, path = "/v1/schedules/{name}/ticks", operation_id = "list_ticks", tag = "schedules", params(
    ("name" = String, Path, description = "Name of the schedule", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("from" = Option<Date>, Query, description = "Only ticks at this nominal time or later"),
    ("to" = Option<Date>, Query, description = "Only ticks before this nominal time"),
    ("limit" = Option<u32>, Query, description = "Maximum number of entries, 1 to 1000. Default: 50.", minimum = 1, maximum = 1000),
    ("cursor" = Option<String>, Query, description = "next_cursor of the previous page", pattern = "^[0-9]{1,15}$"),
), responses(
    (status = 200, description = "A page of ticks", body = ListTicksResponse),
    (status = 404, description = "No such schedule", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn ticks(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
    pairs: Pairs,
) -> Result<Json<ListTicksResponse>, Failure> {
    let (range, page) = pairs.ticks()?;
    let request = ListTicksRequest {
        name,
        range: Some(range),
        page_size: page.size(&services.limits)?,
        page_token: page.token(),
    };
    Ok(Json(services.list_ticks(caller, request).await.map_err(in_query)?))
}

/// Lists the next runs of a definition, without creating a schedule.
#[utoipa::path(post, path = "/v1/schedules/preview", operation_id = "preview_definition", tag = "schedules", request_body = PreviewDefinitionRequest, responses(
    (status = 200, description = "The next runs", body = SchedulePreview),
))]
pub(crate) async fn preview_definition(
    State(services): State<Services>,
    caller: Caller,
    request: Result<Body<PreviewDefinitionRequest>, Failure>,
) -> Result<Json<SchedulePreview>, Failure> {
    let Body(request) = request.map_err(of_template)?;
    Ok(Json(services.preview_definition(caller, request).await?))
}

/// Lists the next runs of a schedule.
#[utoipa::path(get, path = "/v1/schedules/{name}/preview", operation_id = "preview_schedule", tag = "schedules", params(
    ("name" = String, Path, description = "Name of the schedule", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("count" = Option<u32>, Query, description = "Maximum number of runs, 1 to 100. Default: 10.", minimum = 1, maximum = 100),
    ("from" = Option<Date>, Query, description = "Time after which the first run is. Default: now."),
), responses(
    (status = 200, description = "The next runs", body = SchedulePreview),
    (status = 404, description = "No such schedule", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn preview(
    State(services): State<Services>,
    caller: Caller,
    Part(name): Part,
    pairs: Pairs,
) -> Result<Json<SchedulePreview>, Failure> {
    let (count, from) = pairs.preview()?;
    let request = PreviewScheduleRequest { name, count, from };
    Ok(Json(services.preview_schedule(caller, request).await?))
}
