//! REST handlers for one node.

use axum::{Json, extract::State};
use rota_proto::node_v1::{GetLogFilterRequest, LogFilter, SetLogFilterRequest};

use super::{extract::Body, handlers::handlers, problem::Problem};
use crate::{failure::Failure, operations::Caller, services::Services};

handlers! {
    GetLogFilter => log_filter,
    SetLogFilter => set_log_filter,
}

/// Gets the log filter of the node that answers. Never forwarded to another node.
#[utoipa::path(get, path = "/node/log-filter", operation_id = "get_log_filter", tag = "node", responses(
    (status = 200, description = "The log filter in force", body = LogFilter),
    (status = 404, description = "This node's log filter cannot be changed here", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn log_filter(
    State(services): State<Services>,
    caller: Caller,
) -> Result<Json<LogFilter>, Failure> {
    Ok(Json(services.get_log_filter(caller, GetLogFilterRequest {}).await?))
}

/// Sets the log filter of the node that answers, until the next change or a restart of the node.
#[utoipa::path(put, path = "/node/log-filter", operation_id = "set_log_filter", tag = "node",
    request_body = SetLogFilterRequest, responses(
    (status = 200, description = "The log filter in force", body = LogFilter),
    (status = 404, description = "This node's log filter cannot be changed here", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn set_log_filter(
    State(services): State<Services>,
    caller: Caller,
    Body(request): Body<SetLogFilterRequest>,
) -> Result<Json<LogFilter>, Failure> {
    Ok(Json(services.set_log_filter(caller, request).await?))
}
