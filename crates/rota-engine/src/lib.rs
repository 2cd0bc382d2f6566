//! The coordinator: one loop that stamps the time, asks the core, commits, then performs effects.
//!
//! This crate owns leadership, the order in which commands reach the core, group commit, the
//! layout of records in the store, sessions' channels and the reads that answer queries. It speaks
//! neither HTTP nor gRPC and does not know which store it writes to.

mod api;
mod engine;

pub use api::{
    BulkAction, BulkOutcome, Check, Cursor, Dispatched, EngineError, Health, Info, LeaseRequest,
    LeasedTasks, NewTask, RunAt, SessionEvent, SessionRequest, SessionStream, Submitted,
    TaskFilter, TaskPage, TaskRef, TaskView, TimeRange, WorkerRef,
};
pub use engine::{Engine, EngineOptions};
