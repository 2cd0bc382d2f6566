//! The contract in JSON: what REST takes and gives, and what the CLI prints with `-o json`.
//!
//! Each shape is converted from or to its protobuf sibling in [`crate::v1`], so both say the same.
//! Dates are RFC 3339, durations are texts such as `1m30s`, states are lower-case words.

mod queue;
mod scalar;
mod task;
mod worker;

pub use queue::{Queue, QueueList};
pub use scalar::{Date, ScalarError, Span};
pub use task::{
    Attempt, AttemptList, BatchResult, BulkAction, BulkRequest, BulkResult, Created, FieldError,
    ItemError, Jitter, NewTask, NewTaskBatch, NewTaskBatchResult, PriorityRequest,
    RescheduleRequest, RetryPolicy, RetryPolicyInput, Task, TaskError, TaskFilter, TaskList,
    TaskStatus, Waiting, WaitingReason,
};
pub use worker::{
    CompleteRequest, DispatchedTask, FailRequest, LeaseRequest, LeaseResponse, LeaseTokenRequest,
    ProgressRequest, ServerInfo, Session, Worker, WorkerList,
};
