//! Worker runtime of Rota: a session with the cluster, handlers in Rust, and two executors.
//!
//! ```no_run
//! use rota_worker::{HandlerError, TaskContext, Worker};
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Resize { image: String, width: u32 }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = rota_client::Client::connect(["http://127.0.0.1:7420"])?;
//! let worker = Worker::builder(client)
//!     .queues(["images"])
//!     .slots(8)
//!     .handler("resize", |ctx: TaskContext, task: Resize| async move {
//!         ctx.progress(format!("resizing {} to {}", task.image, task.width));
//!         Ok::<_, HandlerError>(format!("{}-{}.png", task.image, task.width))
//!     })
//!     .build()?;
//! worker.run().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The runtime talks to the API alone, through `rota-client`: never to a store or to the engine. A
//! task's way: `session` (stream, reconnects, reports) → `attempt` (timeout, cancellation, panics) →
//! a handler or an `executor`. What `session` counts is shown by `scrape`.

mod attempt;
mod breaks;
mod connection;
mod context;
mod ended;
mod handler;
mod outbox;
mod pulse;
mod scrape;
mod session;
mod worker;

pub mod executor;
pub mod testing;

pub use context::{StopReason, TaskContext};
pub use handler::{Done, HandlerError};
pub use rota_metrics::WorkerMetrics;
pub use rota_trace::{TraceContext, Tracer};
pub use worker::{Builder, Drain, Worker, WorkerError};
