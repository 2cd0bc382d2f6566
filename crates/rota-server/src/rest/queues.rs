//! Queues.

use axum::{Json, extract::State};
use rota_proto::json::{Queue, QueueList};

use super::{extract::Part, problem::Problem};
use crate::{failure::Failure, services::Services};

/// All queues, by name.
#[utoipa::path(get, path = "/v1/queues", operation_id = "list_queues", tag = "queues", responses(
    (status = 200, description = "The queues", body = QueueList),
))]
pub(crate) async fn list(State(services): State<Services>) -> Result<Json<QueueList>, Failure> {
    Ok(Json(services.all_queues().await?.into()))
}

/// One queue.
#[utoipa::path(get, path = "/v1/queues/{queue}", operation_id = "get_queue", tag = "queues",
    params(("queue" = String, Path, description = "The queue", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]*[A-Za-z0-9_:/-][A-Za-z0-9._:/-]*$")), responses(
    (status = 200, description = "The queue", body = Queue),
    (status = 404, description = "Nothing has named it", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(services): State<Services>,
    Part(queue): Part,
) -> Result<Json<Queue>, Failure> {
    Ok(Json(services.one_queue(&queue).await?.into()))
}

/// No task of a paused queue starts; those running go on.
#[utoipa::path(post, path = "/v1/queues/{queue}/pause", operation_id = "pause_queue", tag = "queues",
    params(("queue" = String, Path, description = "The queue", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]*[A-Za-z0-9_:/-][A-Za-z0-9._:/-]*$")), responses(
    (status = 200, description = "The queue as it is now", body = Queue),
))]
pub(crate) async fn pause(
    State(services): State<Services>,
    Part(queue): Part,
) -> Result<Json<Queue>, Failure> {
    Ok(Json(services.set_paused(&queue, true).await?.into()))
}

/// Tasks of the queue start again.
#[utoipa::path(post, path = "/v1/queues/{queue}/resume", operation_id = "resume_queue", tag = "queues",
    params(("queue" = String, Path, description = "The queue", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]*[A-Za-z0-9_:/-][A-Za-z0-9._:/-]*$")), responses(
    (status = 200, description = "The queue as it is now", body = Queue),
))]
pub(crate) async fn resume(
    State(services): State<Services>,
    Part(queue): Part,
) -> Result<Json<Queue>, Failure> {
    Ok(Json(services.set_paused(&queue, false).await?.into()))
}
