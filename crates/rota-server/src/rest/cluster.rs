//! The nodes of the cluster, and the hand-over of leadership.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
};
use rota_proto::json::{Cluster, Node, TransferRequest, TransferResponse};

use super::{extract::Body, problem::Problem};
use crate::{failure::Failure, services::Services};

/// The nodes, who leads them, and the store that they share. Any node answers, without a leader too.
#[utoipa::path(get, path = "/v1/cluster", operation_id = "get_cluster", tag = "server", responses(
    (status = 200, description = "The cluster", body = Cluster),
))]
pub(crate) async fn get(State(services): State<Services>, headers: HeaderMap) -> Json<Cluster> {
    Json(services.cluster(headers.get(header::AUTHORIZATION)).await.into())
}

/// What the asked node says of itself.
#[utoipa::path(get, path = "/v1/node", operation_id = "get_node", tag = "server", responses(
    (status = 200, description = "The node", body = Node),
))]
pub(crate) async fn node(State(services): State<Services>) -> Json<Node> {
    Json(services.this_node().into())
}

/// Hands leadership to another node. What the leader was asked before is done before.
#[utoipa::path(post, path = "/v1/cluster/transfer", operation_id = "transfer_leadership", tag = "server",
    request_body = TransferRequest, responses(
    (status = 200, description = "Leadership is being handed over", body = TransferResponse),
    (status = 400, description = "No such node is there", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn transfer(
    State(services): State<Services>,
    Body(request): Body<TransferRequest>,
) -> Result<Json<TransferResponse>, Failure> {
    Ok(Json(services.transfer(&request.to.unwrap_or_default()).await?.into()))
}
