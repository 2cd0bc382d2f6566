//! REST handlers for queues.

use axum::{Json, extract::State};
use rota_proto::v1::{
    ListQueuesRequest, ListQueuesResponse, PauseQueueRequest, Queue, QueueRequest,
};

use super::{
    extract::{OptionalBody, Part},
    fields::in_query,
    handlers::handlers,
    problem::Problem,
    query::Pairs,
};
use crate::{failure::Failure, operations::Caller, services::Services};

handlers! {
    ListQueues => list,
    GetQueue => get,
    PauseQueue => pause,
    ResumeQueue => resume,
}

/// Lists queues, by name.
#[utoipa::path(get, path = "/v1/queues", operation_id = "list_queues", tag = "queues", params(
    ("limit" = Option<u32>, Query, description = "Maximum number of entries, 1 to 1000. Default: 1000.", minimum = 1, maximum = 1000),
    ("cursor" = Option<String>, Query, description = "next_cursor of the previous page", pattern = "^[A-Za-z0-9._:/-]{1,128}$"),
), responses(
    (status = 200, description = "A page of queues", body = ListQueuesResponse),
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

/// Gets a queue.
#[utoipa::path(get, path = "/v1/queues/{queue}", operation_id = "get_queue", tag = "queues",
    params(("queue" = String, Path, description = "Queue name", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]*[A-Za-z0-9_:/-][A-Za-z0-9._:/-]*$")), responses(
    (status = 200, description = "The queue", body = Queue),
    (status = 404, description = "No such queue", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(services): State<Services>,
    caller: Caller,
    Part(queue): Part,
) -> Result<Json<Queue>, Failure> {
    Ok(Json(services.get_queue(caller, QueueRequest { queue }).await?))
}

/// Pauses a queue: none of its tasks starts. Running tasks continue.
#[utoipa::path(post, path = "/v1/queues/{queue}/pause", operation_id = "pause_queue", tag = "queues", request_body = Option<PauseQueueRequest>,
    params(("queue" = String, Path, description = "Queue name", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]*[A-Za-z0-9_:/-][A-Za-z0-9._:/-]*$")), responses(
    (status = 200, description = "The queue after the change", body = Queue),
))]
pub(crate) async fn pause(
    State(services): State<Services>,
    caller: Caller,
    Part(queue): Part,
    OptionalBody(request): OptionalBody<PauseQueueRequest>,
) -> Result<Json<Queue>, Failure> {
    let request = PauseQueueRequest { queue, ..request };
    Ok(Json(services.pause_queue(caller, request).await?))
}

/// Resumes a paused queue.
#[utoipa::path(post, path = "/v1/queues/{queue}/resume", operation_id = "resume_queue", tag = "queues",
    params(("queue" = String, Path, description = "Queue name", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]*[A-Za-z0-9_:/-][A-Za-z0-9._:/-]*$")), responses(
    (status = 200, description = "The queue after the change", body = Queue),
))]
pub(crate) async fn resume(
    State(services): State<Services>,
    caller: Caller,
    Part(queue): Part,
) -> Result<Json<Queue>, Failure> {
    Ok(Json(services.resume_queue(caller, QueueRequest { queue }).await?))
}
