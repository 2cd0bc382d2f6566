//! Tasks.

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

use super::{
    extract::{Body, Part},
    fields::{in_body, in_query},
    merge_patch::MergePatch,
    problem::Problem,
    query::Pairs,
};
use crate::{
    failure::{Failure, Reason},
    operations::Caller,
    services::Services,
};

/// The header that can be given instead of the field `idempotency_key`.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The task with the key from the header, if one is there.
fn keyed(mut task: NewTask, headers: &HeaderMap) -> Result<NewTask, Failure> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = given.next() else { return Ok(task) };
    let wrong = |message: &str| Err(Failure::field(IDEMPOTENCY_KEY, message));
    if given.next().is_some() {
        return wrong("is given more than once");
    }
    let Ok(key) = value.to_str() else { return wrong("has characters other than those of ASCII") };
    // Some clients write it as a string of structured fields, in quotes.
    let quoted = key.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let key = quoted.unwrap_or(key);
    match task.idempotency_key.as_deref() {
        _ if key.is_empty() => wrong("must not be empty"),
        Some(other) if other != key => wrong("is not the same as the field idempotency_key"),
        _ => {
            task.idempotency_key = Some(key.to_owned());
            Ok(task)
        }
    }
}

/// Creates one task. Answers when it is durable.
#[utoipa::path(post, path = "/v1/tasks", operation_id = "create_task", tag = "tasks", request_body = NewTask, params(
    ("idempotency-key" = Option<String>, Header, description = "The same as the field idempotency_key", min_length = 1, max_length = 256, pattern = "^[ -~]+$"),
), responses(
    (status = 201, description = "Created", body = Task, headers(("location" = String))),
    (status = 200, description = "It existed: a repeat by id or idempotency key", body = Task),
    (status = 409, description = "It already exists with different content", body = Problem, content_type = "application/problem+json"),
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

/// Creates up to 1,000 tasks, each for itself: the answer has a result for each, in order.
#[utoipa::path(post, path = "/v1/tasks/batch", operation_id = "create_tasks", tag = "tasks", request_body = CreateTasksRequest, responses(
    (status = 200, description = "A result for each", body = NewTaskBatchResult),
))]
pub(crate) async fn create_batch(
    State(services): State<Services>,
    caller: Caller,
    headers: HeaderMap,
    Body(request): Body<CreateTasksRequest>,
) -> Result<Json<NewTaskBatchResult>, Failure> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        let wrong = "names one task; in a batch, give each task the field idempotency_key";
        return Err(Failure::field(IDEMPOTENCY_KEY, wrong));
    }
    Ok(Json(services.create_tasks(caller, request).await?.into()))
}

/// One task. With `wait`, answers when it has ended or the wait is over.
#[utoipa::path(get, path = "/v1/tasks/{id}", operation_id = "get_task", tag = "tasks", params(
    ("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("wait" = Option<TimeSpan>, Query, description = "Up to 60s"),
), responses(
    (status = 200, description = "The task", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "This node cannot read the task's record", body = Problem, content_type = "application/problem+json"),
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

/// Tasks, newest first, without payloads.
#[utoipa::path(get, path = "/v1/tasks", operation_id = "list_tasks", tag = "tasks", params(
    ("queue" = Option<String>, Query, description = "In this queue", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("status" = Option<Vec<TaskStatus>>, Query, description = "In one of these states; may be repeated or separated by commas"),
    ("kind" = Option<String>, Query, description = "Of this kind", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("label" = Option<Vec<String>>, Query, description = "name=value; may be repeated, and all must match", pattern = "^[A-Za-z0-9._:/-]{1,128}=[^\\u0000]*$"),
    ("created_from" = Option<Date>, Query, description = "Created at or after"),
    ("created_to" = Option<Date>, Query, description = "Created before"),
    ("run_at_from" = Option<Date>, Query, description = "Due at or after"),
    ("run_at_to" = Option<Date>, Query, description = "Due before"),
    ("limit" = Option<u32>, Query, description = "1 to 1000; default 50", minimum = 1, maximum = 1000),
    ("cursor" = Option<String>, Query, description = "next_cursor of the page before", pattern = "^t_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$"),
), responses((status = 200, description = "A page", body = ListTasksResponse)))]
pub(crate) async fn list(
    State(services): State<Services>,
    caller: Caller,
    pairs: Pairs,
) -> Result<Json<ListTasksResponse>, Failure> {
    let (filter, page) = pairs.list()?;
    let request = ListTasksRequest {
        filter: Some(filter.into()),
        page_size: page.size(&services.limits)?,
        page_token: page.token(),
    };
    Ok(Json(services.list_tasks(caller, request).await.map_err(in_query)?))
}

/// Asks for a task to be stopped. A running attempt is told; its end shows as `cancelled`.
#[utoipa::path(post, path = "/v1/tasks/{id}/cancel", operation_id = "cancel_task", tag = "tasks",
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The task as it is now", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It has ended otherwise", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn cancel(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
) -> Result<Json<Task>, Failure> {
    Ok(Json(services.cancel_task(caller, TaskRequest { id }).await?))
}

/// Makes a failed, cancelled or expired task pending again, with a fresh budget of attempts.
#[utoipa::path(post, path = "/v1/tasks/{id}/retry", operation_id = "retry_task", tag = "tasks",
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The task as it is now", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It has not ended, or it completed", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn retry(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
) -> Result<Json<Task>, Failure> {
    Ok(Json(services.retry_task(caller, TaskRequest { id }).await?))
}

/// Changes when a waiting task is due.
#[utoipa::path(post, path = "/v1/tasks/{id}/reschedule", operation_id = "reschedule_task", tag = "tasks", request_body = RescheduleTaskRequest,
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The task as it is now", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It does not wait", body = Problem, content_type = "application/problem+json"),
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

/// Changes a waiting task's priority.
#[utoipa::path(post, path = "/v1/tasks/{id}/priority", operation_id = "set_task_priority", tag = "tasks", request_body = SetTaskPriorityRequest,
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The task as it is now", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It does not wait", body = Problem, content_type = "application/problem+json"),
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

/// Changes the definition of a waiting task: a JSON merge patch (RFC 7396).
///
/// Members that are left out stay as they are, and `null` resets one to its default. Labels and the retry
/// policy are merged, the payload is replaced whole. A repeat of the submission is still compared with what was
/// first submitted.
#[utoipa::path(patch, path = "/v1/tasks/{id}", operation_id = "update_task", tag = "tasks",
    request_body(content((TaskChange = "application/merge-patch+json"), (TaskChange = "application/json"))), params(
    ("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("if-match" = Option<String>, Header, description = "Version that the change is meant for, in quotes or not", pattern = r#"^(\*|"?[0-9]{1,20}"?)$"#),
), responses(
    (status = 200, description = "The task as it is now", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It does not wait", body = Problem, content_type = "application/problem+json"),
    (status = 412, description = "It has another version", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn update(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
    headers: HeaderMap,
    MergePatch { value, parts }: MergePatch<TaskChange>,
) -> Result<Json<Task>, Failure> {
    if parts.is_empty() {
        return Err(Failure::field("body", "changes nothing: name at least one member"));
    }
    let request = UpdateTaskRequest {
        id,
        change: Some(value),
        update_mask: Some(FieldMask { paths: parts }),
        expected_version: expected_version(&headers)?,
    };
    Ok(Json(services.update_task(caller, request).await?))
}

/// The version that `If-Match` names, if any.
fn expected_version(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.trim_matches('"').parse();
    version.map(Some).map_err(|_| Failure::field("if-match", "is not the version of a task"))
}

/// Removes a finished task with all that is kept of it.
#[utoipa::path(delete, path = "/v1/tasks/{id}", operation_id = "delete_task", tag = "tasks",
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 204, description = "Removed"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It has not ended", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
) -> Result<StatusCode, Failure> {
    services.delete_task(caller, TaskRequest { id }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Cancels, retries or deletes the tasks that a filter selects.
#[utoipa::path(post, path = "/v1/tasks/bulk", operation_id = "bulk_tasks", tag = "tasks", request_body = BulkTasksRequest, responses(
    (status = 200, description = "What became of them", body = BulkResult),
))]
pub(crate) async fn bulk(
    State(services): State<Services>,
    caller: Caller,
    Body(request): Body<BulkTasksRequest>,
) -> Result<Json<BulkResult>, Failure> {
    Ok(Json(services.bulk_tasks(caller, request).await.map_err(in_body)?.into()))
}

/// The history of a task's attempts, oldest first.
#[utoipa::path(get, path = "/v1/tasks/{id}/attempts", operation_id = "list_attempts", tag = "tasks",
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "Its attempts", body = ListAttemptsResponse),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "This node cannot read the task's record", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn attempts(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
) -> Result<Json<ListAttemptsResponse>, Failure> {
    Ok(Json(services.list_attempts(caller, TaskRequest { id }).await?))
}

/// What the task's handler returned, as it returned it.
#[utoipa::path(get, path = "/v1/tasks/{id}/result", operation_id = "get_result", tag = "tasks",
    params(("id" = String, Path, description = "The task", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "JSON where it is JSON, else bytes", content(
        (serde_json::Value = "application/json"), (serde_json::Value = "application/octet-stream"),
    )),
    (status = 204, description = "It returned nothing, or has not ended"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "This node cannot read the task's record", body = Problem, content_type = "application/problem+json"),
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
