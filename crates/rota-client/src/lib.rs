//! Typed client of the Rota API, over gRPC: retries, failover between nodes.
//!
//! A call's way: `client` (what it is, whether it may be repeated) → `nodes` (which node, how often) →
//! `links` (which of its connections) → `fault` (what a failed try says).
//!
//! ```no_run
//! # async fn example() -> Result<(), rota_client::ClientError> {
//! use rota_client::{Client, task};
//!
//! let client = Client::connect(["http://127.0.0.1:7420"])?;
//! let new = task("resize").queue("images").payload_json(&("cat.png", 640));
//! let created = client.create_task(new).await?;
//! let ended = client.wait_task(&created.id).await?;
//! println!("{:?}", ended.status());
//! # Ok(())
//! # }
//! ```

mod builder;
mod client;
mod connect;
mod error;
mod fault;
mod links;
mod new_task;
mod nodes;

pub use builder::Builder;
pub use client::Client;
pub use connect::{ByteStream, Connect, Connecting};
pub use error::{ClientError, FieldViolation};
pub use links::{Answer, Line};
pub use new_task::{NewTask, task};
pub use nodes::{Connection, Head};
pub use rota_proto::{Date, FieldMask, Reason, Retry, Span, node_v1, v1};
