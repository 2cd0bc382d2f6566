//! Queues.

use axum::{Json, extract::State};
use rota_proto::v1::{ListQueuesRequest, ListQueuesResponse, Queue, QueueRequest};

use super::{extract::Part, fields::in_query, problem::Problem, query::Pairs};
use crate::{failure::Failure, operations::Caller, services::Services};

/// Queues, by name.
#[utoipa::path(get, path = "/v1/queues", operation_id = "list_queues", tag = "queues", params(
    ("limit" = Option<u32>, Query, description = "1 to 1000; default 1000", minimum = 1, maximum = 1000),
    ("cursor" = Option<String>, Query, description = "next_cursor of the page before", pattern = "^[A-Za-z0-9._:/-]{1,128}$"),
), responses(
    (status = 200, description = "A page", body = ListQueuesResponse),
))]
pub(crate) async fn list(
    State(services): State<Services>,
    caller: Caller,
    pairs: Pairs,
) -> Result<Json<ListQueuesResponse>, Failure> {
    let page = pairs.page()?;
    let request =
        ListQueuesRequest { page_size: page.size(&services.limits)?, page_token: page.token() };
    Ok(Json(services.list_queues(caller, request).await.map_err(in_query)?))
}

/// One queue.
#[utoipa::path(get, path = "/v1/queues/{queue}", operation_id = "get_queue", tag = "queues",
    params(("queue" = String, Path, description = "The queue", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]*[A-Za-z0-9_:/-][A-Za-z0-9._:/-]*$")), responses(
    (status = 200, description = "The queue", body = Queue),
    (status = 404, description = "Nothing has named it", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(services): State<Services>,
    caller: Caller,
    Part(queue): Part,
) -> Result<Json<Queue>, Failure> {
    Ok(Json(services.get_queue(caller, QueueRequest { queue }).await?))
}

/// No task of a paused queue starts; those running go on.
#[utoipa::path(post, path = "/v1/queues/{queue}/pause", operation_id = "pause_queue", tag = "queues",
    params(("queue" = String, Path, description = "The queue", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]*[A-Za-z0-9_:/-][A-Za-z0-9._:/-]*$")), responses(
    (status = 200, description = "The queue as it is now", body = Queue),
))]
pub(crate) async fn pause(
    State(services): State<Services>,
    caller: Caller,
    Part(queue): Part,
) -> Result<Json<Queue>, Failure> {
    Ok(Json(services.pause_queue(caller, QueueRequest { queue }).await?))
}

/// Tasks of the queue start again.
#[utoipa::path(post, path = "/v1/queues/{queue}/resume", operation_id = "resume_queue", tag = "queues",
    params(("queue" = String, Path, description = "The queue", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]*[A-Za-z0-9_:/-][A-Za-z0-9._:/-]*$")), responses(
    (status = 200, description = "The queue as it is now", body = Queue),
))]
pub(crate) async fn resume(
    State(services): State<Services>,
    caller: Caller,
    Part(queue): Part,
) -> Result<Json<Queue>, Failure> {
    Ok(Json(services.resume_queue(caller, QueueRequest { queue }).await?))
}
