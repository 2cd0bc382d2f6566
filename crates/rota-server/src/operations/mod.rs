//! The operations of the API, each written once, whatever protocol asks.
//!
//! `Services` has a method for each call in the table of operations (`rota_proto::operations`), by its name there. It
//! takes a message of the contract, checks it with `validate` or `definition`, asks the engine, and answers with a
//! message of the contract. Errors name fields as the messages do. `rest` and `grpc` read requests and write answers.
//! The stream of a worker is not a call: `grpc/work.rs` has it.

mod cluster;
mod node;
pub(crate) mod pull;
mod queues;
mod tasks;
mod workers;

use http::{HeaderMap, HeaderValue, header};
use rota_core::Refusal;
use rota_trace::TraceContext;

use crate::{failure::Failure, trace};

/// Who calls an operation.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Place of the request in a trace.
    trace: Option<TraceContext>,
    /// Credentials of the request. Other nodes accept them as well.
    authorization: Option<HeaderValue>,
    results: Results,
}

/// The form in which a caller sends the results of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Results {
    /// Any bytes.
    Bytes,
    /// JSON, which other readers of JSON must accept.
    Json,
}

impl Caller {
    /// The caller whose request has these headers.
    pub(crate) fn of_headers(headers: &HeaderMap, results: Results) -> Self {
        Self {
            trace: trace::of_headers(headers),
            authorization: headers.get(header::AUTHORIZATION).cloned(),
            results,
        }
    }
}

/// The task, or that there is none.
fn known<T>(task: Option<T>) -> Result<T, Failure> {
    task.ok_or_else(|| Refusal::UnknownTask.into())
}
