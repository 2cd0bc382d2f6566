//! REST: routes under `/v1`, those about this node alone under `/node`, health, and the contract at `/openapi.json` and `/docs`.
//!
//! A handler reads JSON as a message of the contract, calls the same code as gRPC, and shows its answer as
//! JSON; so both protocols check and say the same.

mod cluster;
mod extract;
mod health;
mod metrics;
mod node;
mod openapi;
mod problem;
mod pull;
mod query;
mod queues;
mod tasks;
mod workers;

use axum::{
    Router, middleware,
    routing::{delete, get, post},
};

use crate::services::Services;

pub use openapi::openapi_json;
pub(crate) use openapi::route_templates;
pub(crate) use problem::{too_many_connections, whole_answer};

/// All routes.
pub(crate) fn routes(services: Services) -> Router {
    let tasks = Router::new()
        .route("/v1/tasks", get(tasks::list).post(tasks::create))
        .route("/v1/tasks/batch", post(tasks::create_batch))
        .route("/v1/tasks/bulk", post(tasks::bulk))
        .route("/v1/tasks/{id}", get(tasks::get).delete(tasks::delete))
        .route("/v1/tasks/{id}/cancel", post(tasks::cancel))
        .route("/v1/tasks/{id}/retry", post(tasks::retry))
        .route("/v1/tasks/{id}/reschedule", post(tasks::reschedule))
        .route("/v1/tasks/{id}/priority", post(tasks::set_priority))
        .route("/v1/tasks/{id}/attempts", get(tasks::attempts))
        .route("/v1/tasks/{id}/result", get(tasks::result));
    let pull = Router::new()
        .route("/v1/leases", post(pull::lease))
        .route("/v1/sessions/{session}/heartbeat", post(pull::heartbeat))
        .route("/v1/sessions/{session}", delete(pull::close))
        .route("/v1/tasks/{id}/complete", post(pull::complete))
        .route("/v1/tasks/{id}/fail", post(pull::fail))
        .route("/v1/tasks/{id}/cancelled", post(pull::cancelled))
        .route("/v1/tasks/{id}/release", post(pull::release))
        .route("/v1/tasks/{id}/progress", post(pull::progress));
    let manage = Router::new()
        .route("/v1/queues", get(queues::list))
        .route("/v1/queues/{queue}", get(queues::get))
        .route("/v1/queues/{queue}/pause", post(queues::pause))
        .route("/v1/queues/{queue}/resume", post(queues::resume))
        .route("/v1/workers", get(workers::list))
        .route("/v1/workers/{worker}/drain", post(workers::drain))
        .route("/v1/info", get(workers::info))
        .route("/v1/node", get(cluster::node))
        .route("/v1/cluster", get(cluster::get))
        .route("/v1/cluster/transfer", post(cluster::transfer))
        .route("/node/log-filter", get(node::log_filter).put(node::set_log_filter));
    let around = Router::new()
        .route("/", get(openapi::index))
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(openapi::docs))
        .route("/docs/docs.js", get(openapi::script))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::show));
    tasks
        .merge(pull)
        .merge(manage)
        .route_layer(middleware::from_fn(query::strict))
        .merge(around)
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .with_state(services)
}
