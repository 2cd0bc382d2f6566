//! Traces: the context that links them ([`TraceContext`]) and the spans that nodes and workers write
//! ([`Tracer`]).
//!
//! Clients hand a context in, it is kept with the task, and workers hand it on, whether or not
//! anybody here writes spans. Where spans go is the choice of whoever makes the [`Tracer`]: this
//! crate knows the API of OpenTelemetry and no exporter. Without the feature `spans`, it does not need
//! that API either: contexts are still passed on, and no span is written.

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
