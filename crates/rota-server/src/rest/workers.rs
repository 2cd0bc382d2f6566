//! Workers, and the server itself.

use axum::{Json, extract::State};
use rota_proto::v1::{ListWorkersResponse, ServerInfo};

use super::{extract::Part, problem::Problem, query::Pairs};
use crate::{
    failure::Failure,
    services::Services,
    validate::{self, ListPage},
};

/// Workers, by name.
#[utoipa::path(get, path = "/v1/workers", operation_id = "list_workers", tag = "workers", params(
    ("limit" = Option<u32>, Query, description = "1 to 1000; default 1000", minimum = 1, maximum = 1000),
    ("cursor" = Option<String>, Query, description = "next_cursor of the page before", pattern = "^s_[0-9a-f][0-9a-hjkmnp-tv-z]{12}[.][A-Za-z0-9._:/-]{1,128}$"),
), responses(
    (status = 200, description = "A page", body = ListWorkersResponse),
))]
pub(crate) async fn list(
    State(services): State<Services>,
    pairs: Pairs,
) -> Result<Json<ListWorkersResponse>, Failure> {
    let query = pairs.page()?;
    let after = validate::worker_place("cursor", query.cursor.as_deref().unwrap_or_default())?;
    let page = ListPage::new("limit", query.limit, after, &services.limits)?;
    Ok(Json(services.list_workers(page).await?))
}

/// Asks a worker to take no more tasks, finish what it runs and end its session.
#[utoipa::path(post, path = "/v1/workers/{worker}/drain", operation_id = "drain_worker", tag = "workers",
    params(("worker" = String, Path, description = "A session, or a name: then all its sessions", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")), responses(
    (status = 200, description = "The workers meant", body = ListWorkersResponse),
    (status = 404, description = "No such worker", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn drain(
    State(services): State<Services>,
    Part(worker): Part,
) -> Result<Json<ListWorkersResponse>, Failure> {
    let workers = services.drain(&worker).await?;
    Ok(Json(ListWorkersResponse { workers, as_of: None, next_page_token: None }))
}

/// About the server: version, leader, store, limits.
#[utoipa::path(get, path = "/v1/info", operation_id = "get_server_info", tag = "server", responses(
    (status = 200, description = "The server", body = ServerInfo),
))]
pub(crate) async fn info(State(services): State<Services>) -> Json<ServerInfo> {
    Json(services.server_info().await)
}
