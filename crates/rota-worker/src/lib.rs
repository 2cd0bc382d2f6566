//! Workers of the Rota task scheduler: handlers in Rust, and optional executors of commands and HTTP requests.
//!
//! ```no_run
//! use rota_worker::{Job, TaskContext, Worker};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Resize { image: String, width: u32 }
//!
//! impl Job for Resize {
//!     const KIND: &'static str = "resize";
//!     type Output = String;
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = rota_client::Client::connect(["http://127.0.0.1:7420"])?;
//! let worker = Worker::builder(client)
//!     .queues(["images"])
//!     .slots(8)
//!     .job(|job: Resize, ctx: TaskContext| async move {
//!         ctx.progress(format!("resizing {} to {}", job.image, job.width));
//!         Ok(format!("{}-{}.png", job.image, job.width))
//!     })
//!     .build()?;
//! worker.run().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The program that submits the job uses the same type: see [`Client::submit`](rota_client::Client::submit).
//!
//! - [`Builder::job`] adds a handler of a [`Job`]. [`Builder::handler`] adds one for a kind by name.
//! - [`HandlerError`] says whether and when Rota retries the attempt.
//! - [`TaskContext`] has the attempt and the lease token, reports progress and tells a handler to stop.
//! - [`TaskContext::tick`] tells the schedule that created the task, and the nominal time.
//! - [`Builder::wrap`] runs a function around every handler.
//! - [`Worker::drain`] stops a worker without losing attempts.
//! - [`testing`] gives a handler a task without a server.
//!
//! # Features
//!
//! All features are off by default, because a worker with handlers in Rust needs none of them.
//!
//! | feature | adds |
//! |---|---|
//! | `command` | `executor::command`, which runs programs |
//! | `http` | `executor::http`, which makes HTTP requests (with `reqwest` and `rustls`) |
//! | `metrics` | `Builder::metrics_listen` and `Worker::metrics`: Prometheus metrics and probes |
//! | `trace` | `Worker::traced`: an OpenTelemetry span for each attempt |

#![warn(missing_docs)]

// The runtime talks to the API alone, through `rota-client`: never to a store or to the engine. A task's way:
// `session` (stream, reconnects, reports) → `attempt` (timeout, cancellation, panics) → a handler or an `executor`.
// What `session` counts is shown by `scrape`.

mod attempt;
mod breaks;
mod connection;
mod context;
mod ended;
mod event;
mod handler;
mod metrics;
mod outbox;
mod output;
mod pulse;
#[cfg(feature = "metrics")]
mod scrape;
mod session;
mod tick;
mod worker;

#[cfg(any(feature = "command", feature = "http"))]
pub mod executor;
pub mod testing;

pub use context::{StopReason, TaskContext};
pub use handler::{Done, HandlerError, Next};
pub use rota_client::Job;
#[cfg(feature = "metrics")]
pub use rota_metrics::WorkerMetrics;
pub use rota_trace::TraceContext;
#[cfg(feature = "trace")]
pub use rota_trace::Tracer;
pub use tick::Tick;
pub use worker::{Builder, Drain, Worker, WorkerError};

/// The examples of the readme compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
