//! Typed client of the Rota API, over gRPC: retries, failover between nodes.
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

mod client;
mod error;
mod new_task;

pub use client::{Builder, Client, Connection};
pub use error::{ClientError, FieldViolation};
pub use new_task::{NewTask, task};
pub use rota_proto::v1;
