//! The metrics of Rota: their declarations, registries and exposition.
//!
//! This crate owns names, meanings and labels ([`catalogue`]), limits on label values ([`Names`]), the
//! registries of a node ([`NodeMetrics`]) and of a worker ([`WorkerMetrics`]), metrics of the process, and
//! the exposition formats. Its users decide when to count, and who can read the metrics.
//!
//! It uses `prometheus-client`, the library of the Prometheus project. All registered metrics are declared in
//! the catalogue. The reference page is generated from the catalogue, too, so the two always agree.

#![warn(missing_docs)]

pub mod catalogue;
mod exposition;
mod names;
mod node;
mod process;
pub mod reference;
mod registrar;
mod schedules;
mod snapshot;
mod tasks;
mod tls;
mod worker;

pub use exposition::{Exposition, Format};
pub use names::{Names, OTHER};
pub use node::{ApiCall, CommitError, ForwardLane, ForwardLoss, InFlight, NodeMetrics, Standing};
pub use prometheus_client::metrics::histogram::Histogram;
pub use schedules::Ticks;
pub use snapshot::Snapshot;
pub use tasks::{COUNTS, Count, Counts, Row};
pub use tls::{Handshake, Tls};
pub use worker::{AttemptEnd, WorkerMetrics};
