//! The contract in JSON: what REST takes and gives, and what the CLI prints with `-o json`.
//!
//! Each shape is converted from or to its protobuf sibling in [`crate::v1`], so both say the same.
//! Dates are RFC 3339, durations are texts such as `1m30s`, states are lower-case words.

mod cluster;
mod manage;
mod new_task;
mod node;
mod payload;
mod queue;
mod scalar;
mod schema;
mod strict;
mod surrogate;
mod task;
mod whole;
mod worker;

pub use cluster::{Cluster, Node, NodeRole, StoreState, TransferRequest, TransferResponse};
pub use manage::{
    BulkAction, BulkRefusal, BulkRequest, BulkResult, PriorityRequest, RescheduleRequest,
    TaskFilter,
};
pub use new_task::{
    BatchResult, Created, ExceededLimit, FieldError, ItemError, NewTask, NewTaskBatch,
    NewTaskBatchResult, RetryPolicyInput,
};
pub use node::{LogFilter, LogFilterRequest};
pub use queue::{Queue, QueueList};
pub use scalar::{Date, ScalarError, Span};
pub use strict::Object;
pub use surrogate::has_lone_surrogate;
pub use task::{
    Attempt, AttemptList, Jitter, RetryPolicy, Task, TaskError, TaskList, TaskStatus, Waiting,
    WaitingReason,
};
pub use worker::{
    CancelledRequest, CompleteRequest, DispatchedTask, FailRequest, HeartbeatResponse, HeldLease,
    LeaseRequest, LeaseResponse, LeaseTokenRequest, ProgressRequest, ServerInfo, Stop, StopReason,
    Worker, WorkerList,
};
