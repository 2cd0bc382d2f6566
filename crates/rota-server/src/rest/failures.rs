//! REST handlers for counts of tasks and groups of failed tasks.

use axum::{Json, extract::State};
use rota_proto::{
    Date, TimeSpan,
    v1::{CountTasksRequest, CountTasksResponse, FailureState, ListFailuresResponse, TaskStatus},
};

use super::{fields::in_query, handlers::handlers, query::Pairs};
use crate::{failure::Failure, operations::Caller, services::Services};

handlers! {
    CountTasks => count,
    ListFailures => list,
}

/// Counts the tasks that match a filter, for a bounded time.
#[utoipa::path(get, path = "/v1/task-counts", operation_id = "count_tasks", tag = "tasks", params(
    ("queue" = Option<String>, Query, description = "Only tasks in this queue", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("status" = Option<Vec<TaskStatus>>, Query, description = "Only tasks with one of these statuses. Can be repeated or separated by commas."),
    ("kind" = Option<String>, Query, description = "Only tasks of this kind", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("label" = Option<Vec<String>>, Query, description = "Only tasks with this label, as name=value. Can be repeated; all must match.", pattern = "^[A-Za-z0-9._:/-]{1,128}=[^\\u0000]*$"),
    ("created_from" = Option<Date>, Query, description = "Only tasks created at this time or later"),
    ("created_to" = Option<Date>, Query, description = "Only tasks created before this time"),
    ("run_at_from" = Option<Date>, Query, description = "Only tasks due at this time or later"),
    ("run_at_to" = Option<Date>, Query, description = "Only tasks due before this time"),
    ("schedule" = Option<String>, Query, description = "Only tasks that this schedule created", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("error_fingerprint" = Option<String>, Query, description = "Only tasks whose error has this fingerprint, as in a list of failures", pattern = "^[0-9a-f]{16}$"),
    ("time_limit" = Option<TimeSpan>, Query, description = "Maximum time to count, 10ms to 2s. Default: 2s."),
), responses((status = 200, description = "The number of tasks", body = CountTasksResponse)))]
pub(crate) async fn count(
    State(services): State<Services>,
    caller: Caller,
    pairs: Pairs,
) -> Result<Json<CountTasksResponse>, Failure> {
    let (filter, time_limit) = pairs.count()?;
    let request = CountTasksRequest { filter: Some(filter.into()), time_limit };
    Ok(Json(services.count_tasks(caller, request).await.map_err(in_query)?))
}

/// Lists groups of failed tasks with the same kind and the same error, apart from numbers and ids.
///
/// The group with the most recent failure comes first. A call examines the newest failed tasks, up to a maximum.
#[utoipa::path(get, path = "/v1/failures", operation_id = "list_failures", tag = "tasks", params(
    ("queue" = Option<String>, Query, description = "Only tasks in this queue", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("kind" = Option<String>, Query, description = "Only tasks of this kind", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("failed_from" = Option<Date>, Query, description = "Only failures at this time or later"),
    ("failed_to" = Option<Date>, Query, description = "Only failures before this time"),
    ("state" = Option<FailureState>, Query, description = "Tasks that have failed, or that wait for another attempt. Default: failed."),
    ("limit" = Option<u32>, Query, description = "Maximum number of groups, 1 to 1000. Default: 50.", minimum = 1, maximum = 1000),
    ("time_limit" = Option<TimeSpan>, Query, description = "Time after which the server answers with the groups of the tasks that it has examined, 10ms to 2s. Default: 2s."),
), responses((status = 200, description = "Groups of failed tasks", body = ListFailuresResponse)))]
pub(crate) async fn list(
    State(services): State<Services>,
    caller: Caller,
    pairs: Pairs,
) -> Result<Json<ListFailuresResponse>, Failure> {
    let request = pairs.failures()?;
    Ok(Json(services.list_failures(caller, request).await.map_err(in_query)?))
}
