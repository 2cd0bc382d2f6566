//! REST handlers for the cluster: its nodes, and transfer of leadership.

use axum::{Json, extract::State};
use rota_proto::v1;

use super::{extract::Body, handlers::handlers, problem::Problem};
use crate::{failure::Failure, operations::Caller, services::Services};

handlers! {
    GetCluster => get,
    GetNode => node,
    TransferLeadership => transfer,
}

/// Gets the nodes, the leader and the store. Any node answers, even without a leader.
#[utoipa::path(get, path = "/v1/cluster", operation_id = "get_cluster", tag = "server", responses(
    (status = 200, description = "The cluster", body = v1::Cluster),
))]
pub(crate) async fn get(
    State(services): State<Services>,
    caller: Caller,
) -> Result<Json<v1::Cluster>, Failure> {
    Ok(Json(services.get_cluster(caller, v1::GetClusterRequest {}).await?))
}

/// Gets the state of the node that answers.
#[utoipa::path(get, path = "/v1/node", operation_id = "get_node", tag = "server", responses(
    (status = 200, description = "The node", body = v1::Node),
))]
pub(crate) async fn node(
    State(services): State<Services>,
    caller: Caller,
) -> Result<Json<v1::Node>, Failure> {
    Ok(Json(services.get_node(caller, v1::GetNodeRequest {}).await?))
}

/// Transfers leadership to another node. The leader completes earlier requests first.
#[utoipa::path(post, path = "/v1/cluster/transfer", operation_id = "transfer_leadership", tag = "server",
    request_body = v1::TransferLeadershipRequest, responses(
    (status = 200, description = "The transfer has begun", body = v1::TransferLeadershipResponse),
    (status = 400, description = "No such node can take over", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn transfer(
    State(services): State<Services>,
    caller: Caller,
    Body(request): Body<v1::TransferLeadershipRequest>,
) -> Result<Json<v1::TransferLeadershipResponse>, Failure> {
    Ok(Json(services.transfer_leadership(caller, request).await?))
}
