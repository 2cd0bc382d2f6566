//! Traces: the context that links them ([`TraceContext`]) and the spans that nodes and workers write
//! ([`Tracer`]).
//!
//! Clients hand a context in, it is kept with the task, and workers hand it on, whether or not
//! anybody here writes spans. Where spans go is the choice of whoever makes the [`Tracer`]: this
//! crate knows the API of OpenTelemetry and no exporter.

mod context;
mod span;

pub use context::TraceContext;
pub use span::{Role, Span, Tracer};
