//! The metrics of this node, for Prometheus.

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use rota_metrics::{Format, catalogue::READY};

use super::handlers::handlers;
use crate::services::Services;

handlers! {
    Metrics => show,
}

/// Gets the metrics of the node: OpenMetrics text, or protobuf if the Accept header prefers it.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "server", responses(
    (status = 200, description = "The metrics", body = String,
        content_type = "application/openmetrics-text"),
    (status = 401, description = "Authentication is required"),
    (status = 403, description = "Forbidden"),
))]
pub(crate) async fn show(State(services): State<Services>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let mut snapshot = services.engine.collect_metrics().await;
    // The checks of the engine are already included.
    if let Some(check) = services.forwarding() {
        let holds = if check.problem.is_none() { 1.0 } else { 0.0 };
        snapshot.set(&READY, [check.name], holds);
    }
    let shown = services.engine.metrics().show(snapshot, Format::accepted(accept));
    ([(header::CONTENT_TYPE, shown.content_type)], shown.body).into_response()
}
