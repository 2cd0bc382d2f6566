//! Tasks.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use rota_core::Refusal;
use rota_engine::TaskRef;
use rota_proto::{
    json::{
        AttemptList, BatchResult, BulkRequest, BulkResult, Created, Date, FieldError, ItemError,
        NewTask, NewTaskBatch, NewTaskBatchResult, PriorityRequest, RescheduleRequest, Span, Task,
        TaskFilter, TaskList, TaskStatus,
    },
    v1,
};
use serde::Deserialize;
use serde::de::IntoDeserializer;

use super::{
    extract::{Body, Pairs, Part},
    problem::Problem,
};
use crate::{
    failure::{Failure, Violation},
    grpc::Services,
    validate, wire,
};

fn wired(task: NewTask) -> Result<v1::NewTask, Failure> {
    task.try_into().map_err(|error: FieldError| Failure::field(error.field, error.message))
}

/// Creates one task. Answers when it is durable.
#[utoipa::path(post, path = "/v1/tasks", tag = "tasks", request_body = NewTask, responses(
    (status = 201, description = "Created", body = Task, headers(("location" = String))),
    (status = 200, description = "It existed: a repeat by id or idempotency key", body = Task),
    (status = 409, description = "It exists with another body", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn create(
    State(services): State<Services>,
    Body(task): Body<NewTask>,
) -> Result<Response, Failure> {
    let (task, created) = services.create_one(wired(task)?).await?;
    let task = Task::from(task);
    if !created {
        return Ok(Json(task).into_response());
    }
    let location = format!("/v1/tasks/{}", task.id.replace('/', "%2F"));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(task)).into_response())
}

/// Creates up to 1,000 tasks, each for itself: the answer has a result for each, in order.
#[utoipa::path(post, path = "/v1/tasks/batch", tag = "tasks", request_body = NewTaskBatch, responses(
    (status = 200, description = "A result for each", body = NewTaskBatchResult),
))]
pub(crate) async fn create_batch(
    State(services): State<Services>,
    Body(batch): Body<NewTaskBatch>,
) -> Result<Json<NewTaskBatchResult>, Failure> {
    let place = |at: usize, failure: Failure| {
        let within = |violation: Violation| Violation {
            field: format!("tasks[{at}].{}", violation.field),
            ..violation
        };
        Failure::invalid(failure.violations.into_iter().map(within).collect())
    };
    let tasks = batch.tasks.into_iter().enumerate();
    let tasks = tasks.map(|(at, task)| wired(task).map_err(|failure| place(at, failure)));
    let made = services.create_many(tasks.collect()).await?;
    let results = made.into_iter().map(|result| match result {
        Ok(done) => BatchResult::Created(Created { id: done.shown_id, created: done.created }),
        Err(failure) => BatchResult::Refused { error: item_error(failure) },
    });
    Ok(Json(NewTaskBatchResult { results: results.collect() }))
}

fn item_error(failure: Failure) -> ItemError {
    let (reason, status, ..) = failure.reason.dress();
    let field = failure.violations.into_iter().next().map(|violation| violation.field);
    ItemError {
        status,
        reason: reason.to_owned(),
        field: field.unwrap_or_default(),
        message: failure.detail,
    }
}

/// One task. With `wait`, answers when it has ended or the wait is over.
#[utoipa::path(get, path = "/v1/tasks/{id}", tag = "tasks", params(
    ("id" = String, Path, description = "The task"),
    ("wait" = Option<Span>, Query, description = "Up to 60s"),
), responses(
    (status = 200, description = "The task", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(services): State<Services>,
    Part(id): Part,
    Pairs(query): Pairs,
) -> Result<Json<Task>, Failure> {
    let mut wait = None;
    for (name, value) in query {
        match name.as_str() {
            "wait" => wait = Some(scalar::<Span>("wait", &value)?.into()),
            _ => return Err(unknown_parameter(&name)),
        }
    }
    Ok(Json(services.get(&id, wait).await?.into()))
}

fn scalar<T: std::str::FromStr<Err = rota_proto::json::ScalarError>>(
    field: &str,
    text: &str,
) -> Result<T, Failure> {
    text.parse()
        .map_err(|error: rota_proto::json::ScalarError| Failure::field(field, error.to_string()))
}

fn unknown_parameter(name: &str) -> Failure {
    let name: String = name.chars().take(64).collect();
    Failure::field(&name, "is not a parameter of this path; see /docs")
}

fn number(field: &str, text: &str) -> Result<u32, Failure> {
    text.parse().map_err(|_| Failure::field(field, "is not a number from 0 to 4294967295"))
}

fn status(text: &str) -> Result<TaskStatus, Failure> {
    let word: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        text.into_deserializer();
    TaskStatus::deserialize(word).map_err(|error| {
        Failure::field("status", error.to_string().chars().take(200).collect::<String>())
    })
}

/// Tasks, newest first, without payloads.
#[utoipa::path(get, path = "/v1/tasks", tag = "tasks", params(
    ("queue" = Option<String>, Query, description = "In this queue"),
    ("status" = Option<Vec<TaskStatus>>, Query, description = "In one of these states; may be repeated or separated by commas"),
    ("kind" = Option<String>, Query, description = "Of this kind"),
    ("label" = Option<Vec<String>>, Query, description = "name:value; may be repeated, and all must match"),
    ("created_from" = Option<Date>, Query, description = "Created at or after"),
    ("created_to" = Option<Date>, Query, description = "Created before"),
    ("run_at_from" = Option<Date>, Query, description = "Due at or after"),
    ("run_at_to" = Option<Date>, Query, description = "Due before"),
    ("limit" = Option<u32>, Query, description = "1 to 1000; default 50", minimum = 1, maximum = 1000),
    ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
), responses((status = 200, description = "A page", body = TaskList)))]
pub(crate) async fn list(
    State(services): State<Services>,
    Pairs(query): Pairs,
) -> Result<Json<TaskList>, Failure> {
    let mut filter = TaskFilter::default();
    let mut limit = None;
    let mut cursor = String::new();
    for (name, value) in query {
        match name.as_str() {
            "queue" => filter.queue = Some(value),
            "kind" => filter.kind = Some(value),
            "status" => {
                for word in value.split(',') {
                    filter.statuses.push(status(word)?);
                }
            }
            "label" => {
                // A label's name may have a colon; its value begins behind the last one.
                let (name, value) = value
                    .rsplit_once(':')
                    .ok_or_else(|| Failure::field("label", "must be name:value"))?;
                filter.labels.insert(name.to_owned(), value.to_owned());
            }
            "created_from" => filter.created_from = Some(scalar(&name, &value)?),
            "created_to" => filter.created_to = Some(scalar(&name, &value)?),
            "run_at_from" => filter.run_at_from = Some(scalar(&name, &value)?),
            "run_at_to" => filter.run_at_to = Some(scalar(&name, &value)?),
            "limit" => limit = Some(number("limit", &value)?),
            "cursor" => cursor = value,
            _ => return Err(unknown_parameter(&name)),
        }
    }
    named(&filter)?;
    let filter = validate::filter(filter.into(), &services.limits)?;
    let size = validate::page_size("limit", limit, 50, &services.limits)?;
    let after = validate::cursor("cursor", &cursor)?;
    let page = services.engine.list(&filter, size, after).await?;
    Ok(Json(wire::page(&page).into()))
}

/// A name that is given is not empty.
fn named(filter: &TaskFilter) -> Result<(), Failure> {
    for (field, given) in [("queue", &filter.queue), ("kind", &filter.kind)] {
        if given.as_deref() == Some("") {
            return Err(Failure::field(field, "must not be empty"));
        }
    }
    Ok(())
}

/// Asks for a task to be stopped. A running attempt is told; its end shows as `cancelled`.
#[utoipa::path(post, path = "/v1/tasks/{id}/cancel", tag = "tasks",
    params(("id" = String, Path, description = "The task")), responses(
    (status = 200, description = "The task as it is now", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It has ended otherwise", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn cancel(
    State(services): State<Services>,
    Part(id): Part,
) -> Result<Json<Task>, Failure> {
    let view = services.engine.cancel(&validate::task_ref("id", &id)?).await?;
    Ok(Json(wire::task(&view).into()))
}

/// Makes a failed, cancelled or expired task pending again, with a fresh budget of attempts.
#[utoipa::path(post, path = "/v1/tasks/{id}/retry", tag = "tasks",
    params(("id" = String, Path, description = "The task")), responses(
    (status = 200, description = "The task as it is now", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It has not ended, or it completed", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn retry(
    State(services): State<Services>,
    Part(id): Part,
) -> Result<Json<Task>, Failure> {
    let view = services.engine.retry(&validate::task_ref("id", &id)?).await?;
    Ok(Json(wire::task(&view).into()))
}

/// Changes when a waiting task is due.
#[utoipa::path(post, path = "/v1/tasks/{id}/reschedule", tag = "tasks", request_body = RescheduleRequest,
    params(("id" = String, Path, description = "The task")), responses(
    (status = 200, description = "The task as it is now", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It does not wait", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn reschedule(
    State(services): State<Services>,
    Part(id): Part,
    Body(request): Body<RescheduleRequest>,
) -> Result<Json<Task>, Failure> {
    let task = validate::task_ref("id", &id)?;
    let run_at =
        validate::reschedule(request.run_at.map(Into::into), request.delay.map(Into::into))?;
    let view = services.engine.reschedule(&task, run_at).await?;
    Ok(Json(wire::task(&view).into()))
}

/// Changes a waiting task's priority.
#[utoipa::path(post, path = "/v1/tasks/{id}/priority", tag = "tasks", request_body = PriorityRequest,
    params(("id" = String, Path, description = "The task")), responses(
    (status = 200, description = "The task as it is now", body = Task),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It does not wait", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn set_priority(
    State(services): State<Services>,
    Part(id): Part,
    Body(request): Body<PriorityRequest>,
) -> Result<Json<Task>, Failure> {
    let task = validate::task_ref("id", &id)?;
    let priority = validate::priority(request.priority)?;
    let view = services.engine.set_priority(&task, priority).await?;
    Ok(Json(wire::task(&view).into()))
}

/// Removes a finished task with all that is kept of it.
#[utoipa::path(delete, path = "/v1/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "The task")), responses(
    (status = 204, description = "Removed"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It has not ended", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete(
    State(services): State<Services>,
    Part(id): Part,
) -> Result<StatusCode, Failure> {
    services.engine.delete(&validate::task_ref("id", &id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Cancels, retries or deletes the tasks that a filter selects.
#[utoipa::path(post, path = "/v1/tasks/bulk", tag = "tasks", request_body = BulkRequest, responses(
    (status = 200, description = "What became of them", body = BulkResult),
))]
pub(crate) async fn bulk(
    State(services): State<Services>,
    Body(request): Body<BulkRequest>,
) -> Result<Json<BulkResult>, Failure> {
    use rota_engine::BulkAction as Act;
    use rota_proto::json::BulkAction;
    let action = match request.action {
        BulkAction::Cancel => Act::Cancel,
        BulkAction::Retry => Act::Retry,
        BulkAction::Delete => Act::Delete,
    };
    named(&request.filter)?;
    let filter = validate::filter(request.filter.into(), &services.limits)?;
    let limit = validate::page_size("limit", request.limit, 1000, &services.limits)?;
    let after = validate::cursor("cursor", request.cursor.as_deref().unwrap_or_default())?;
    let outcome = services.engine.bulk(action, &filter, limit, after).await?;
    Ok(Json(BulkResult {
        changed: outcome.changed,
        skipped: outcome.skipped,
        next_cursor: outcome.next.map(|next| next.before.to_string()),
    }))
}

/// The history of a task's attempts, oldest first.
#[utoipa::path(get, path = "/v1/tasks/{id}/attempts", tag = "tasks",
    params(("id" = String, Path, description = "The task")), responses(
    (status = 200, description = "Its attempts", body = AttemptList),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn attempts(
    State(services): State<Services>,
    Part(id): Part,
) -> Result<Json<AttemptList>, Failure> {
    let attempts = services.engine.attempts(&validate::task_ref("id", &id)?).await?;
    let attempts = attempts.ok_or(Refusal::UnknownTask)?;
    let attempts = attempts.into_iter().map(|record| wire::attempt(record).into()).collect();
    Ok(Json(AttemptList { attempts }))
}

/// What the task's handler returned, as it returned it.
#[utoipa::path(get, path = "/v1/tasks/{id}/result", tag = "tasks",
    params(("id" = String, Path, description = "The task")), responses(
    (status = 200, description = "JSON where it is JSON, else bytes", body = Object),
    (status = 204, description = "It returned nothing, or has not ended"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn result(
    State(services): State<Services>,
    Part(id): Part,
) -> Result<Response, Failure> {
    let task: TaskRef = validate::task_ref("id", &id)?;
    let result = services.engine.result(&task).await?.ok_or(Refusal::UnknownTask)?;
    if result.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let json = serde_json::from_slice::<serde::de::IgnoredAny>(&result).is_ok();
    let kind = if json { "application/json" } else { "application/octet-stream" };
    Ok(([(header::CONTENT_TYPE, kind)], result).into_response())
}
