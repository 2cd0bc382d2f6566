//! Traces: the context ([`TraceContext`]) and the spans that nodes and workers write ([`Tracer`]).
//!
//! Clients send a context, Rota stores it with the task, and workers pass it on, whether or not spans are
//! written. The program that makes the [`Tracer`] chooses the exporter: this crate uses only the API of
//! OpenTelemetry. Without the feature `spans` it does not even need that API: contexts are still passed on,
//! but no spans are written.

#![warn(missing_docs)]

mod context;
#[cfg(not(feature = "spans"))]
mod off;
mod role;
#[cfg(feature = "spans")]
mod span;

pub use context::TraceContext;
#[cfg(not(feature = "spans"))]
pub use off::{Span, Tracer};
pub use role::Role;
#[cfg(feature = "spans")]
pub use span::{Span, Tracer};
