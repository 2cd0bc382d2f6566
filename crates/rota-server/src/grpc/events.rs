//! The stream of events over gRPC.

use std::pin::Pin;

use futures_core::Stream;
use futures_util::StreamExt;
use rota_proto::v1::{self, event_service_server::EventService};
use tonic::{Request, Response, Status};

use super::calls::caller;
use crate::services::Services;

#[tonic::async_trait]
impl EventService for Services {
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let caller = caller(&request);
        let events = self.watch_events(caller, request.into_inner()).await?;
        Ok(Response::new(Box::pin(events.map(Ok))))
    }
}
