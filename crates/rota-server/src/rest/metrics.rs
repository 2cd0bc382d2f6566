//! For Prometheus: what this node counts.

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use rota_metrics::{Format, catalogue::READY};

use crate::services::Services;

/// What this node counts and sees, for Prometheus: OpenMetrics text, or protobuf where it is asked
/// for first.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "server", responses(
    (status = 200, description = "The metrics", body = String,
        content_type = "application/openmetrics-text"),
    (status = 401, description = "Authentication is needed"),
    (status = 403, description = "Not allowed"),
))]
pub(crate) async fn show(State(services): State<Services>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let mut snapshot = services.engine.collect_metrics().await;
    // The engine's own checks are there already.
    if let Some(check) = services.forwarding() {
        let holds = if check.problem.is_none() { 1.0 } else { 0.0 };
        snapshot.set(&READY, [check.name], holds);
    }
    let shown = services.engine.metrics().show(snapshot, Format::accepted(accept));
    ([(header::CONTENT_TYPE, shown.content_type)], shown.body).into_response()
}
