//! What each file of handlers tells of them: which operations they answer, and their part of the contract.

use axum::routing::{MethodFilter, MethodRouter};
use rota_proto::operations::Operation;
use utoipa::openapi::OpenApi;

use crate::services::Services;

/// The handlers of one file.
#[derive(Clone, Copy)]
pub(super) struct Handlers {
    /// The handler of an operation. `None` if it is not in this file.
    pub(super) find: fn(Operation, MethodFilter) -> Option<MethodRouter<Services>>,
    /// The paths of the contract that they answer.
    pub(super) contract: fn() -> OpenApi,
}

/// Declares the handlers of a file as `HANDLERS`: the operation, and the function that answers it.
macro_rules! handlers {
    ($($operation:ident => $handler:ident),+ $(,)?) => {
        pub(super) const HANDLERS: $crate::rest::handlers::Handlers = {
            #[derive(utoipa::OpenApi)]
            #[openapi(paths($($handler),+))]
            struct Contract;

            $crate::rest::handlers::Handlers {
                find: |operation, at| match operation {
                    $(rota_proto::operations::Operation::$operation => {
                        Some(axum::routing::on(at, $handler))
                    })+
                    _ => None,
                },
                contract: <Contract as utoipa::OpenApi>::openapi,
            }
        };
    };
}
pub(super) use handlers;
