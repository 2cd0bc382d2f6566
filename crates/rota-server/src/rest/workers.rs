//! Workers, and the server itself.

use axum::{Json, extract::State};
use rota_proto::json::{ServerInfo, WorkerList};

use super::{extract::Part, problem::Problem};
use crate::{failure::Failure, services::Services};

/// All workers, by name.
#[utoipa::path(get, path = "/v1/workers", operation_id = "list_workers", tag = "workers", responses(
    (status = 200, description = "The workers", body = WorkerList),
))]
pub(crate) async fn list(State(services): State<Services>) -> Result<Json<WorkerList>, Failure> {
    Ok(Json(services.all_workers().await?.into()))
}

/// Asks a worker to take no more tasks, finish what it runs and end its session.
#[utoipa::path(post, path = "/v1/workers/{worker}/drain", operation_id = "drain_worker", tag = "workers",
    params(("worker" = String, Path, description = "A session, or a name: then all its sessions", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The workers meant", body = WorkerList),
    (status = 404, description = "No such worker", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn drain(
    State(services): State<Services>,
    Part(worker): Part,
) -> Result<Json<WorkerList>, Failure> {
    let workers = services.drain(&worker).await?;
    Ok(Json(WorkerList { workers: workers.into_iter().map(Into::into).collect() }))
}

/// About the server: version, leader, store, limits.
#[utoipa::path(get, path = "/v1/info", operation_id = "get_server_info", tag = "server", responses(
    (status = 200, description = "The server", body = ServerInfo),
))]
pub(crate) async fn info(State(services): State<Services>) -> Json<ServerInfo> {
    Json(services.server_info().await.into())
}
