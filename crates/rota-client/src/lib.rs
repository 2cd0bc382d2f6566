//! Client of the Rota task scheduler, over gRPC. It retries safely and fails over between nodes.
//!
//! # Typed jobs
//!
//! Implement [`Job`] for a type: it names the kind of the task, and binds the parameters to the result. Submit a
//! value, and wait for its result:
//!
//! ```no_run
//! use std::time::Duration;
//! use rota_client::{Client, Job, Retry};
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
//! let client = Client::connect(["http://127.0.0.1:7420"])?;
//! let job = Resize { image: "cat.png".to_owned(), width: 640 };
//! let sent = client.submit(&job).queue("images").retry(Retry::new().max_attempts(5)).await?;
//! let path: String = sent.result_within(Duration::from_secs(60)).await?;
//! println!("task {}: {path}", sent.id());
//! # Ok(())
//! # }
//! ```
//!
//! - [`Client::submit_all`] submits many jobs in few requests, with one result each.
//! - [`TaskHandle`] waits for the result, shows the task and cancels it. [`ResultError`] says why there is no result.
//! - [`ClientError::reason`] says why a call was refused, and whether a retry helps.
//! - [`Client::schedule`] defines a schedule, which submits a job again and again: by cron expressions, intervals and
//!   dates.
//! - [`Client::output`] streams the output of a task while it runs.
//! - [`Client::events`] streams changes of tasks, queues, workers and schedules as they become durable.
//! - The crate `rota-worker` runs jobs.
//!
//! # TLS
//!
//! Addresses that begin with `https://` use TLS. The client trusts the authorities of the system, or those of
//! [`Builder::ca_file`]. [`Builder::client_certificate`] is for servers that demand one.
//!
//! ```no_run
//! # fn example() -> Result<(), rota_client::ClientError> {
//! let client = rota_client::Client::builder(["https://rota.example.org:7420"])
//!     .ca_file("/etc/rota/ca.pem")
//!     .token("a token of the server")
//!     .build()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Tasks of any kind
//!
//! [`task`] describes a task whose kind is not a Rust type, such as `command` or `http`:
//!
//! ```no_run
//! # async fn example() -> Result<(), rota_client::ClientError> {
//! use rota_client::{Client, TaskStatus, task};
//!
//! let client = Client::connect(["http://127.0.0.1:7420"])?;
//! let new = task("command").payload_json(&serde_json::json!({ "argv": ["uname", "-a"] }));
//! let created = client.create_task(new).await?;
//! let ended = client.wait_task(&created.id).await?;
//! assert_eq!(ended.status(), TaskStatus::Completed);
//! # Ok(())
//! # }
//! ```
//!
//! [`Task`], [`Attempt`] and the other types that calls return are plain data: the messages of the API, which are
//! generated. Releases add fields to them. [`v1`] has all messages, for calls such as [`Client::list_tasks`].

#![warn(missing_docs)]

// A call's way: `client` (what it is, whether it may be repeated) → `nodes` (which node, how often) → `links` (which
// of its connections) → `fault` (what a failed try says). `submit` and `handle` bind calls to the type of a job,
// `schedule_draft` and `schedule_handle` those for schedules.
mod builder;
mod client;
mod connect;
mod create;
mod error;
mod events;
mod fault;
mod follow;
mod handle;
mod job;
mod links;
mod new_task;
mod nodes;
mod output;
mod retry;
mod schedule_draft;
mod schedule_handle;
mod schedules;
mod submit;

pub use builder::Builder;
pub use client::Client;
pub use connect::{ByteStream, Connect, Connecting};
pub use error::{ClientError, ErrorKind, FieldViolation};
pub use events::{EventFilter, Events};
pub use fault::reason_of;
pub use handle::{ResultError, TaskHandle};
pub use job::Job;
pub use links::{NodeChannel, ResponseBody};
pub use new_task::{NewTask, task};
pub use nodes::{CallInterceptor, Connection};
pub use output::TaskOutputs;
pub use retry::Retry;
pub use rota_proto::v1::{
    Attempt, CatchUp, Event, FailureReason, Fold, Gap, OnHoliday, Overlap, Schedule, Task,
    TaskError, TaskOutput, TaskStatus, Tick, TickOutcome, Waiting, create_tasks_response::Created,
};
pub use rota_proto::{Date, FieldMask, Reason, RetryHint, TimeSpan, node_v1, v1};
pub use schedule_draft::{PutSchedule, ScheduleDraft};
pub use schedule_handle::{Backfill, ScheduleHandle};
pub use submit::{Batch, Submission};

/// The examples of the readme compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
