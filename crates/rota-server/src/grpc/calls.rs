//! The unary gRPC methods: each calls the operation with its name.
//!
//! `work` has `WorkerService`, because of its stream, and `events` has `EventService`. The stream of a task's output is
//! here, because it belongs to `TaskService`.

use std::pin::Pin;

use futures_core::Stream;
use futures_util::StreamExt;

use rota_proto::{
    calls_of,
    node_v1::node_service_server::NodeService,
    v1::{
        self, calendar_service_server::CalendarService, queue_service_server::QueueService,
        schedule_service_server::ScheduleService, server_service_server::ServerService,
        task_service_server::TaskService,
    },
};
use tonic::{Request, Response, Status};

use crate::{
    operations::{Caller, Results},
    services::Services,
};

/// The caller of a request.
pub(super) fn caller<T>(request: &Request<T>) -> Caller {
    Caller::of_headers(request.metadata().as_ref(), Results::Bytes)
}

/// Implements a service: `method(request) -> response`, with the operation if it has another name, and the other items
/// of its trait.
macro_rules! calls {
    (
        $service:ident {
            $($method:ident($request:ty) -> $response:ty $(= $operation:ident)?;)*
        }
        $(and { $($more:tt)* })?
    ) => {
        #[tonic::async_trait]
        impl $service for Services {
            $(
                async fn $method(
                    &self,
                    request: Request<$request>,
                ) -> Result<Response<$response>, Status> {
                    let caller = caller(&request);
                    let operation = $crate::grpc::calls::operation!($method $($operation)?);
                    Ok(Response::new(operation(self, caller, request.into_inner()).await?))
                }
            )*

            $($($more)*)?
        }
    };
}
pub(super) use calls;

/// The operation of a method: the one with its name, or another one.
macro_rules! operation {
    ($method:ident) => {
        Services::$method
    };
    ($method:ident $operation:ident) => {
        Services::$operation
    };
}
pub(super) use operation;

calls_of! {
    TaskService, calls
    and {
        type WatchOutputStream = Pin<Box<dyn Stream<Item = Result<v1::TaskOutput, Status>> + Send>>;

        async fn watch_output(
            &self,
            request: Request<v1::WatchOutputRequest>,
        ) -> Result<Response<Self::WatchOutputStream>, Status> {
            let caller = caller(&request);
            let output = self.watch_output(caller, request.into_inner()).await?;
            Ok(Response::new(Box::pin(output.map(Ok))))
        }
    }
}

calls_of!(QueueService, calls);
calls_of!(ScheduleService, calls);
calls_of!(CalendarService, calls);
calls_of!(ServerService, calls);
calls_of!(NodeService, calls);
