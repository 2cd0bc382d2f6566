//! gRPC: the four services of `rota.v1`, and that of `rota.node.v1` about this node alone. Each method validates, asks the engine and dresses the
//! answer; what both protocols share is in `validate`, `wire` and `failure`.

mod cluster;
mod codec;
mod manage;
mod node;
mod pull;
mod tasks;
mod work;

use std::sync::Arc;

use rota_engine::Engine;
use rota_proto::node_v1::node_service_server::NodeServiceServer;
use rota_proto::v1::{
    queue_service_server::QueueServiceServer, server_service_server::ServerServiceServer,
    task_service_server::TaskServiceServer, worker_service_server::WorkerServiceServer,
};
use rota_trace::Tracer;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{forward::Forwarder, limits::Limits, log::LogControl, serve::ServeError};

pub(crate) use codec::answered;

/// What every service needs.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) engine: Engine,
    pub(crate) limits: Arc<Limits>,
    /// The way to other nodes, where there may be some.
    pub(crate) peers: Option<Arc<Forwarder>>,
    /// Ends the streams of workers, so that they go elsewhere.
    pub(crate) stop: CancellationToken,
    pub(crate) log: Option<Arc<dyn LogControl>>,
    pub(crate) tracer: Tracer,
}

/// Whether calls of that path are streams, which last.
pub(crate) fn is_stream(path: &str) -> bool {
    matches!(path, "/rota.v1.WorkerService/Work" | "/grpc.health.v1.Health/Watch")
        || path.starts_with("/grpc.reflection.")
}

/// All services, reflection and health among them.
pub(crate) async fn routes(services: Services) -> Result<Routes, ServeError> {
    let most = services.limits.request_bytes;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<TaskServiceServer<Services>>().await;
    health.set_serving::<WorkerServiceServer<Services>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(rota_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| ServeError::Setup(error.to_string()))?;
    tokio::spawn(follow_health(services.clone(), health));
    let mut routes = Routes::builder();
    routes
        .add_service(TaskServiceServer::new(services.clone()).max_decoding_message_size(most))
        .add_service(QueueServiceServer::new(services.clone()).max_decoding_message_size(most))
        .add_service(WorkerServiceServer::new(services.clone()).max_decoding_message_size(most))
        .add_service(ServerServiceServer::new(services.clone()).max_decoding_message_size(most))
        .add_service(NodeServiceServer::new(services).max_decoding_message_size(most))
        .add_service(health_service)
        .add_service(reflection);
    Ok(routes.routes())
}

/// Keeps what the standard health service says true to the engine, until the server stops.
async fn follow_health(services: Services, health: tonic_health::server::HealthReporter) {
    let mut period = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = period.tick() => {}
            () = services.stop.cancelled() => break,
        }
        let status = if services.engine.health().is_ready() {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        for service in ["", "rota.v1.TaskService", "rota.v1.WorkerService"] {
            health.set_service_status(service, status).await;
        }
    }
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
}
