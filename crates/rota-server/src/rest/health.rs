//! For probes: whether the process lives, and whether it can serve.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::services::Services;

/// Whether the node can serve.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// Whether all checks hold that the node needs to serve: all but `records` and `version`.
    ready: bool,
    /// Each check.
    checks: Vec<ReadinessCheck>,
}

/// One thing that must hold, or should.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadinessCheck {
    /// `store`, `leader`, `backlog`, `engine`, `forwarding` where there may be other nodes, `records` or
    /// `version`. The last two do not make a node unready: the leader leaves records alone that it cannot read
    /// and serves all others; a node that does not know the cluster's feature level only forwards.
    name: &'static str,
    /// Whether it holds.
    ok: bool,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// The process lives: it answers, and its engine is not stuck for good.
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "server", responses(
    (status = 200, description = "It lives", body = String, content_type = "text/plain"),
    (status = 503, description = "Its engine is stuck: only a restart can help", body = String,
        content_type = "text/plain"),
))]
pub(crate) async fn alive(State(services): State<Services>) -> (StatusCode, String) {
    match services.engine.health().stuck {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// The node can serve: store reachable, leader known, backlog loaded, engine moving.
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "server", responses(
    (status = 200, description = "It can", body = Readiness),
    (status = 503, description = "It cannot; says which check fails", body = Readiness),
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
