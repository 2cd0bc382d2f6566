//! REST handlers for workers, and for the server itself.

use axum::{Json, extract::State};
use rota_proto::v1::{
    DrainWorkerRequest, GetServerInfoRequest, ListWorkersRequest, ListWorkersResponse, ServerInfo,
};

use super::{extract::Part, fields::in_query, handlers::handlers, problem::Problem, query::Pairs};
use crate::{failure::Failure, operations::Caller, services::Services};

handlers! {
    ListWorkers => list,
    DrainWorker => drain,
    GetServerInfo => info,
}

/// Lists sessions of workers, by name.
#[utoipa::path(get, path = "/v1/workers", operation_id = "list_workers", tag = "workers", params(
    ("limit" = Option<u32>, Query, description = "Maximum number of entries, 1 to 1000. Default: 1000.", minimum = 1, maximum = 1000),
    ("cursor" = Option<String>, Query, description = "next_cursor of the previous page", pattern = "^s_[0-9a-f][0-9a-hjkmnp-tv-z]{12}[.][A-Za-z0-9._:/-]{1,128}$"),
), responses(
    (status = 200, description = "A page of workers", body = ListWorkersResponse),
))]
pub(crate) async fn list(
    State(services): State<Services>,
    caller: Caller,
    pairs: Pairs,
) -> Result<Json<ListWorkersResponse>, Failure> {
    let page = pairs.page()?;
    let request =
        ListWorkersRequest { page_size: page.size(&services.limits)?, page_token: page.token() };
    Ok(Json(services.list_workers(caller, request).await.map_err(in_query)?))
}

/// Drains a worker: it takes no more tasks, finishes those that it runs, and ends its session.
#[utoipa::path(post, path = "/v1/workers/{worker}/drain", operation_id = "drain_worker", tag = "workers",
    params(("worker" = String, Path, description = "Session id, or the name of a worker for all its sessions", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The drained sessions", body = ListWorkersResponse),
    (status = 404, description = "No such worker", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn drain(
    State(services): State<Services>,
    caller: Caller,
    Part(worker): Part,
) -> Result<Json<ListWorkersResponse>, Failure> {
    Ok(Json(services.drain_worker(caller, DrainWorkerRequest { worker }).await?))
}

/// Gets the version, leader, store and limits of the server.
#[utoipa::path(get, path = "/v1/info", operation_id = "get_server_info", tag = "server", responses(
    (status = 200, description = "The server", body = ServerInfo),
))]
pub(crate) async fn info(
    State(services): State<Services>,
    caller: Caller,
) -> Result<Json<ServerInfo>, Failure> {
    Ok(Json(services.get_server_info(caller, GetServerInfoRequest {}).await?))
}
