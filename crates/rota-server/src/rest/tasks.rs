//! REST handlers for tasks.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use rota_proto::{
    Date, FieldMask, TimeSpan,
    json::{BulkResult, Content, NewTaskBatchResult},
    v1::{
        BulkTasksRequest, CreateTaskRequest, CreateTaskResponse, CreateTasksRequest,
        GetTaskRequest, ListAttemptsResponse, ListTasksRequest, ListTasksResponse, NewTask,
        RescheduleTaskRequest, SetTaskPriorityRequest, Task, TaskChange, TaskRequest, TaskStatus,
        UpdateTaskRequest,
    },
};
use utoipa::ToSchema;

use super::{
    extract::{Body, Part},
    fields::{in_body, in_query},
    handlers::handlers,
    merge_patch::MergePatch,
    problem::Problem,
    query::Pairs,
    versions::Expected,
};
use crate::{
    failure::{Failure, Reason},
    operations::Caller,
    services::Services,
};

handlers! {
    CreateTask => create,
    CreateTasks => create_batch,
    GetTask => get,
    ListTasks => list,
    CancelTask => cancel,
    RetryTask => retry,
    RescheduleTask => reschedule,
    SetTaskPriority => set_priority,
    UpdateTask => update,
    DeleteTask => delete,
    BulkTasks => bulk,
    ListAttempts => attempts,
    GetResult => result,
}

/// The header that can replace the field `idempotency_key`.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The task with the key from the header, if there is one.
fn keyed(mut task: NewTask, headers: &HeaderMap) -> Result<NewTask, Failure> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = given.next() else { return Ok(task) };
    let wrong = |message: &str| Err(Failure::field(IDEMPOTENCY_KEY, message));
    if given.next().is_some() {
        return wrong("occurs more than once");
    }
    let Ok(key) = value.to_str() else { return wrong("must be ASCII") };
    // Some clients write it in quotes, as a string of structured fields (RFC 9651).
    let quoted = key.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let key = quoted.unwrap_or(key);
    match task.idempotency_key.as_deref() {
        _ if key.is_empty() => wrong("must not be empty"),
        Some(other) if other != key => wrong("differs from the field idempotency_key"),
        _ => {
            task.idempotency_key = Some(key.to_owned());
            Ok(task)
        }
    }
}

/// Creates a task. Answers when it is durable.
#[utoipa::path(post, path = "/v1/tasks", operation_id = "create_task", tag = "tasks", request_body = NewTask, params(
    ("idempotency-key" = Option<String>, Header, description = "Alternative to the field idempotency_key", min_length = 1, max_length = 256, pattern = "^[ -~]+$"),
), responses(
    (status = 201, description = "Created", body = Task, headers(("location" = String))),
    (status = 200, description = "Already existed: a repeat by id or idempotency key", body = Task),
    (status = 409, description = "Already exists with different content", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn create(
    State(services): State<Services>,
    caller: Caller,
    headers: HeaderMap,
    Body(task): Body<NewTask>,
) -> Result<Response, Failure> {
    let request = CreateTaskRequest { task: Some(keyed(task, &headers)?) };
    let CreateTaskResponse { task, created } = services.create_task(caller, request).await?;
    let task = task.ok_or_else(|| Failure::new(Reason::Internal, "no answer for the task"))?;
    if !created {
        return Ok(Json(task).into_response());
    }
    let location = format!("/v1/tasks/{}", task.id.replace('/', "%2F"));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(task)).into_response())
}

/// Creates up to 1,000 tasks independently. The answer has a result for each, in order.
#[utoipa::path(post, path = "/v1/tasks/batch", operation_id = "create_tasks", tag = "tasks", request_body = CreateTasksRequest, responses(
    (status = 200, description = "A result for each task, in the order of the request", body = NewTaskBatchResult),
))]
pub(crate) async fn create_batch(
    State(services): State<Services>,
    caller: Caller,
    headers: HeaderMap,
    Body(request): Body<CreateTasksRequest>,
) -> Result<Json<NewTaskBatchResult>, Failure> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        let wrong =
            "identifies a single task; in a batch, set the field idempotency_key of each task";
        return Err(Failure::field(IDEMPOTENCY_KEY, wrong));
    }
    Ok(Json(services.create_tasks(caller, request).await?.into()))
}

/// Gets a task. With `wait`, answers when it has ended or the wait is over.
#[utoipa::path(get, path = "/v1/tasks/{id}", operation_id = "get_task", tag = "tasks", params(
    ("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("wait" = Option<TimeSpan>, Query, description = "Maximum time to wait for the end of the task, up to 60s."),
), responses(
    (status = 200, description = "The task", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "This node cannot read the record of the task", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
    pairs: Pairs,
) -> Result<Json<Task>, Failure> {
    let request = GetTaskRequest { id, wait: pairs.wait()? };
    Ok(Json(services.get_task(caller, request).await?))
}

/// A priority in a query.
#[derive(ToSchema)]
#[schema(value_type = u32, minimum = 0, maximum = 9)]
#[expect(dead_code, reason = "it only describes the parameter")]
pub(super) struct Level(u32);

/// Lists tasks, newest first, without payloads.
///
/// A call examines a bounded number of tasks for a bounded time, and `examined` is their number. If few tasks match, a
/// page is short or empty and has a cursor: ask for the next page to look further.
#[utoipa::path(get, path = "/v1/tasks", operation_id = "list_tasks", tag = "tasks", params(
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
    ("search" = Option<String>, Query, description = "Only tasks with this text in an id, the last error, the payload, the description or the value of a label. Ignores the case of ASCII letters. If the text is the whole id of a task, the first page has only that task.", min_length = 1, max_length = 256, pattern = "^[^\\u0000]+$"),
    ("worker" = Option<String>, Query, description = "Only tasks whose current or last attempt this worker runs or ran", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("priority" = inline(Option<Vec<Level>>), Query, description = "Only tasks with one of these priorities. Can be repeated or separated by commas."),
    ("time_limit" = Option<TimeSpan>, Query, description = "Time after which the server answers with the tasks that it has found, 10ms to 2s. Default: 2s."),
    ("limit" = Option<u32>, Query, description = "Maximum number of tasks, 1 to 1000. Default: 50.", minimum = 1, maximum = 1000),
    ("cursor" = Option<String>, Query, description = "next_cursor of the previous page", pattern = "^t_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$"),
), responses((status = 200, description = "A page of tasks", body = ListTasksResponse)))]
pub(crate) async fn list(
    State(services): State<Services>,
    caller: Caller,
    pairs: Pairs,
) -> Result<Json<ListTasksResponse>, Failure> {
    let (filter, page, time_limit) = pairs.list()?;
    let request = ListTasksRequest {
        time_limit,
        filter: Some(filter.into()),
        page_size: page.size(&services.limits)?,
        page_token: page.token(),
    };
    Ok(Json(services.list_tasks(caller, request).await.map_err(in_query)?))
}

/// Cancels a task.
///
/// If an attempt is running, its worker is asked to stop it, and then the task becomes `cancelled`.
#[utoipa::path(post, path = "/v1/tasks/{id}/cancel", operation_id = "cancel_task", tag = "tasks",
    params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The task after the change", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The task has ended with another status", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn cancel(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
) -> Result<Json<Task>, Failure> {
    Ok(Json(services.cancel_task(caller, TaskRequest { id }).await?))
}

/// Runs a failed, cancelled or expired task again, with a new budget of attempts.
#[utoipa::path(post, path = "/v1/tasks/{id}/retry", operation_id = "retry_task", tag = "tasks",
    params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The task after the change", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The task has not ended, or it completed", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn retry(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
) -> Result<Json<Task>, Failure> {
    Ok(Json(services.retry_task(caller, TaskRequest { id }).await?))
}

/// Changes the earliest start time of a waiting task.
#[utoipa::path(post, path = "/v1/tasks/{id}/reschedule", operation_id = "reschedule_task", tag = "tasks", request_body = RescheduleTaskRequest,
    params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The task after the change", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The task is not waiting", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn reschedule(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
    Body(request): Body<RescheduleTaskRequest>,
) -> Result<Json<Task>, Failure> {
    let request = RescheduleTaskRequest { id, ..request };
    Ok(Json(services.reschedule_task(caller, request).await?))
}

/// Changes the priority of a waiting task.
#[utoipa::path(post, path = "/v1/tasks/{id}/priority", operation_id = "set_task_priority", tag = "tasks", request_body = SetTaskPriorityRequest,
    params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The task after the change", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The task is not waiting", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn set_priority(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
    Body(request): Body<SetTaskPriorityRequest>,
) -> Result<Json<Task>, Failure> {
    let request = SetTaskPriorityRequest { id, ..request };
    Ok(Json(services.set_task_priority(caller, request).await?))
}

/// Changes the definition of a waiting task, by a JSON merge patch (RFC 7396).
///
/// Absent members stay unchanged, and `null` resets a member to its default. Labels and the retry policy are
/// merged; the payload is replaced as a whole. A repeat of the submission is still compared with the first
/// submission.
#[utoipa::path(patch, path = "/v1/tasks/{id}", operation_id = "update_task", tag = "tasks",
    request_body(content((TaskChange = "application/merge-patch+json"), (TaskChange = "application/json"))), params(
    ("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("if-match" = Option<String>, Header, description = "Version that the task must have, with or without quotes", pattern = r#"^(\*|"?[0-9]{1,20}"?)$"#),
), responses(
    (status = 200, description = "The task after the change", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The task is not waiting", body = Problem, content_type = "application/problem+json"),
    (status = 412, description = "The task has another version", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn update(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
    headers: HeaderMap,
    MergePatch { value, parts }: MergePatch<TaskChange>,
) -> Result<Json<Task>, Failure> {
    if parts.is_empty() {
        return Err(Failure::field("body", "must have at least one member to change"));
    }
    let request = UpdateTaskRequest {
        id,
        change: Some(value),
        update_mask: Some(FieldMask { paths: parts }),
        expected_version: Expected::of_existing(&headers)?,
    };
    Ok(Json(services.update_task(caller, request).await?))
}

/// Deletes an ended task with all its records.
#[utoipa::path(delete, path = "/v1/tasks/{id}", operation_id = "delete_task", tag = "tasks",
    params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "Deleted"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The task has not ended", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
) -> Result<StatusCode, Failure> {
    services.delete_task(caller, TaskRequest { id }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Cancels, retries or deletes the tasks that match a filter.
#[utoipa::path(post, path = "/v1/tasks/bulk", operation_id = "bulk_tasks", tag = "tasks", request_body = BulkTasksRequest, responses(
    (status = 200, description = "Number of tasks by result", body = BulkResult),
))]
pub(crate) async fn bulk(
    State(services): State<Services>,
    caller: Caller,
    Body(request): Body<BulkTasksRequest>,
) -> Result<Json<BulkResult>, Failure> {
    Ok(Json(services.bulk_tasks(caller, request).await.map_err(in_body)?.into()))
}

/// Lists the attempts of a task, oldest first.
#[utoipa::path(get, path = "/v1/tasks/{id}/attempts", operation_id = "list_attempts", tag = "tasks",
    params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The attempts of the task", body = ListAttemptsResponse),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "This node cannot read the record of the task", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn attempts(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
) -> Result<Json<ListAttemptsResponse>, Failure> {
    Ok(Json(services.list_attempts(caller, TaskRequest { id }).await?))
}

/// Gets the result that the handler returned, unchanged.
#[utoipa::path(get, path = "/v1/tasks/{id}/result", operation_id = "get_result", tag = "tasks",
    params(("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The result, as JSON if it is valid JSON, otherwise as bytes", content(
        (serde_json::Value = "application/json"), (serde_json::Value = "application/octet-stream"),
    )),
    (status = 204, description = "The handler returned no result, or the task has not ended"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "This node cannot read the record of the task", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn result(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
) -> Result<Response, Failure> {
    let result = services.get_result(caller, TaskRequest { id }).await?.result;
    let kind = match Content::of(&result) {
        None => return Ok(StatusCode::NO_CONTENT.into_response()),
        Some(Content::Json(_)) => "application/json",
        Some(Content::Bytes(_)) => "application/octet-stream",
    };
    Ok(([(header::CONTENT_TYPE, kind)], result).into_response())
}
