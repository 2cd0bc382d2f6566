//! Probes: liveness and readiness.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::handlers::handlers;
use crate::services::Services;

handlers! {
    IsAlive => alive,
    IsReady => ready,
}

/// The readiness of a node.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// True when the node can serve: all checks pass except possibly `records` and `version`.
    ready: bool,
    /// All checks.
    checks: Vec<ReadinessCheck>,
}

/// A check of the node.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadinessCheck {
    /// Name of the check: `store`, `leader`, `backlog`, `engine`, `forwarding` (in a cluster), `records` or
    /// `version`. The last two do not make a node unready: the leader skips records that it cannot read and
    /// serves all others, and a node that does not support the feature level of the cluster only forwards.
    name: &'static str,
    /// True when the check passes.
    ok: bool,
    /// Problem that the check found.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Checks whether the process is alive: it answers, and its engine is not stuck.
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "server", responses(
    (status = 200, description = "Alive", body = String, content_type = "text/plain"),
    (status = 503, description = "The engine is stuck; restart the node", body = String,
        content_type = "text/plain"),
))]
pub(crate) async fn alive(State(services): State<Services>) -> (StatusCode, String) {
    match services.engine.health().stuck {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// Checks whether the node can serve: store reachable, leader known, backlog loaded, engine running.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "server", responses(
    (status = 200, description = "Ready", body = Readiness),
    (status = 503, description = "Not ready; the body names the failed check", body = Readiness),
))]
pub(crate) async fn ready(State(services): State<Services>) -> (StatusCode, Json<Readiness>) {
    let health = services.health();
    let ready = health.is_ready();
    let checks = health.checks.into_iter().map(|check| ReadinessCheck {
        name: check.name,
        ok: check.problem.is_none(),
        problem: check.problem,
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, checks: checks.collect() }))
}
