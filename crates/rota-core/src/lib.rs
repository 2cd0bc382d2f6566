//! The domain of Rota: its types, and the pure state machine that decides what runs when and where.
//!
//! The machine takes `(command, now)` and returns mutations to persist, and effects to release once they are
//! durable. It has no clock, I/O, async, randomness, serialisation format or logging; its caller provides
//! them. Start reading with the table of transitions in [`lifecycle`], then [`Machine`].

mod fifo;
mod id;
pub mod lifecycle;
mod machine;
mod name;
mod policy;
mod record;
mod sharded;
mod task;
mod time;
mod wheel;

pub use id::{LeaseToken, ParseIdError, SessionId, TaskId, TaskIdSequence};
pub use lifecycle::{Action, IllegalTransition, Status};
pub use machine::{
    Binding, Bindings, Command, Credit, Edit, Effect, EndReason, Event, Happened, HeldLease,
    LaneName, LeaseView, Leased, LiveFilter, LivePage, LiveView, Machine, MachineLimits, Mutation,
    OpenSession, Orders, Outcome, QueueCounts, QueueSurvey, Refusal, Reply, Report, SessionEnd,
    SessionState, SessionSurvey, SessionView, Step, StopReason, Stored, Submit, Survey, Waiting,
};
pub use name::{Name, NameError};
pub use policy::{Jitter, Policy, Retention, RetryPolicy};
pub use record::{
    AttemptRecord, DoneRecord, EndKind, Failure, FailureReason, LeaseEnd, LeaseRecord, LiveRecord,
    QueueRecord, UnknownFields,
};
pub use task::{Binds, Definition, Priority, RunAt, TaskSpec, Trace};
pub use time::{Millis, MonoTime, Now, WallTime};
