//! The operations of the API, each written once for both protocols.
//!
//! `Services` has a method for each call in the table of operations (`rota_proto::operations`), with the same
//! name. It takes a message of the contract, checks it with `validate` or `definition`, calls the engine, and
//! answers with a message of the contract. Errors use the field names of the messages. `rest` and `grpc` read
//! requests and write answers. The stream of a worker is not a call; it is in `grpc/work.rs`. `events`
//! and `output` make streams, which both protocols write.

mod calendars;
mod cluster;
pub(crate) mod events;
mod failures;
mod node;
mod output;
mod previews;
pub(crate) mod pull;
mod queues;
mod schedules;
mod tasks;
mod workers;

use http::{HeaderMap, HeaderValue, header};
use rota_core::Refusal;
use rota_trace::TraceContext;

use crate::{failure::Failure, trace};

/// The caller of an operation.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Trace context of the request.
    trace: Option<TraceContext>,
    /// Credentials of the request. Other nodes accept them, too.
    authorization: Option<HeaderValue>,
    results: Results,
}

/// The form in which a caller sends the results of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Results {
    /// Any bytes.
    Bytes,
    /// JSON that every parser accepts.
    Json,
}

impl Caller {
    /// The caller, from the headers of a request.
    pub(crate) fn of_headers(headers: &HeaderMap, results: Results) -> Self {
        Self {
            trace: trace::of_headers(headers),
            authorization: headers.get(header::AUTHORIZATION).cloned(),
            results,
        }
    }

    /// The caller of a further operation that serves the same request.
    pub(crate) fn of_same(other: &Self) -> Self {
        let Self { trace, authorization, results } = other;
        Self { trace: trace.clone(), authorization: authorization.clone(), results: *results }
    }
}

/// The task, or a failure if there is none.
fn known<T>(task: Option<T>) -> Result<T, Failure> {
    task.ok_or_else(|| Refusal::UnknownTask.into())
}
