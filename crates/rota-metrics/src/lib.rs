//! What Rota counts: the declaration of every metric, their registry, and how they are shown.
//!
//! This crate owns names, meanings and labels ([`catalogue`]), bounds on labels ([`Names`]), the
//! registries of a node ([`NodeMetrics`]) and of a worker ([`WorkerMetrics`]), what the operating
//! system says of the process, and the exposition formats. When something is counted is the
//! business of whoever counts; who may read it and over what, of whoever serves it.
//!
//! The library below is `prometheus-client`, that of the Prometheus project. Everything that is
//! registered is declared in the catalogue, from which the reference page is made as well, so that
//! neither can say what the other does not.

#![warn(missing_docs)]

pub mod catalogue;
mod exposition;
mod names;
mod node;
mod process;
pub mod reference;
mod registrar;
mod snapshot;
mod tasks;
mod worker;

pub use exposition::{Exposition, Format};
pub use names::{Names, OTHER};
pub use node::{ApiCall, CommitError, ForwardLane, ForwardLoss, InFlight, NodeMetrics, Standing};
pub use prometheus_client::metrics::histogram::Histogram;
pub use snapshot::Snapshot;
pub use tasks::{COUNTS, Count, Counts, Row};
pub use worker::{AttemptEnd, WorkerMetrics};
