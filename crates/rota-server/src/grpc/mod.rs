//! gRPC: the services of `rota.v1`, and the service of `rota.node.v1` for one node.
//!
//! `calls` maps each method to its operation; `work` serves the streams of workers.

mod answers;
mod calls;
mod codec;
mod events;
mod work;

use rota_proto::node_v1::node_service_server::NodeServiceServer;
use rota_proto::v1::{
    calendar_service_server::CalendarServiceServer, event_service_server::EventServiceServer,
    queue_service_server::QueueServiceServer, schedule_service_server::ScheduleServiceServer,
    server_service_server::ServerServiceServer, task_service_server::TaskServiceServer,
    worker_service_server::WorkerServiceServer,
};
use tonic::service::Routes;
use tonic_reflection::server::Error as ReflectionError;

use crate::services::Services;

pub(crate) use codec::answered;

/// All services, including reflection and health.
///
/// # Errors
/// When the descriptors for reflection are inconsistent.
pub(crate) async fn routes(services: Services) -> Result<Routes, ReflectionError> {
    let most = services.limits.request_bytes;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<TaskServiceServer<Services>>().await;
    health.set_serving::<WorkerServiceServer<Services>>().await;
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(rota_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Older clients know only the second name.
    let (reflection, alpha) = (described().build_v1()?, described().build_v1alpha()?);
    tokio::spawn(follow_health(services.clone(), health));
    let mut routes = Routes::builder();
    routes
        .add_service(TaskServiceServer::new(services.clone()).max_decoding_message_size(most))
        .add_service(QueueServiceServer::new(services.clone()).max_decoding_message_size(most))
        .add_service(ScheduleServiceServer::new(services.clone()).max_decoding_message_size(most))
        .add_service(CalendarServiceServer::new(services.clone()).max_decoding_message_size(most))
        .add_service(WorkerServiceServer::new(services.clone()).max_decoding_message_size(most))
        .add_service(EventServiceServer::new(services.clone()).max_decoding_message_size(most))
        .add_service(ServerServiceServer::new(services.clone()).max_decoding_message_size(most))
        .add_service(NodeServiceServer::new(services).max_decoding_message_size(most))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(alpha);
    Ok(routes.routes())
}

/// Updates the standard health service from the engine, until the server stops.
async fn follow_health(services: Services, health: tonic_health::server::HealthReporter) {
    let mut period = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tokio::select! {
            biased;
            () = services.stop.cancelled() => break,
            _ = period.tick() => {}
        }
        let status = if services.health().is_ready() {
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
