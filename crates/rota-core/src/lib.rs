//! The domain of Rota: its types, and the pure state machine that decides what runs when and where.
//!
//! The machine takes `(command, now)` and returns mutations to persist, and effects to release once they are
//! durable. It has no clock, I/O, async, randomness, serialisation format or logging; its caller provides
//! them. Start reading with the table of transitions in [`lifecycle`], then [`Machine`].

mod error_fingerprint;
mod fifo;
mod id;
pub mod lifecycle;
mod machine;
mod name;
mod policy;
mod record;
mod schedule;
mod sharded;
mod task;
mod time;
mod wheel;

pub use error_fingerprint::{
    ErrorFingerprint, FOLDED_CHARS_MAX, ParseFingerprintError, fold_error,
};
pub use id::{LeaseToken, ParseIdError, SessionId, TaskId, TaskIdSequence};
pub use lifecycle::{Action, IllegalTransition, Status};
pub use machine::{
    Assignment, AttemptOutcome, Change, Command, CountPart, Credit, Edit, Effect, EndReason, Event,
    Happened, KeyOwner, KeyOwners, LaneName, LeaseId, LeaseView, LiveCounts, LiveFilter, LivePage,
    LiveView, Machine, MachineLimits, MachineStats, Mutation, OpenSession, Orders, PauseEvent,
    PutSchedule, QueueCounts, QueueStats, Refusal, Reply, Report, ScheduleStats, ScheduleView,
    SessionEnd, SessionState, SessionStats, SessionView, Step, StopReason, Stored, Submit,
    TaskCommand, TickEvent, TickOwners, Waiting,
};
pub use name::{Name, NameError};
pub use policy::{Jitter, Policy, Retention, RetryPolicy};
pub use record::{
    AttemptRecord, DoneRecord, EndKind, Failure, FailureReason, LeaseEnd, LeaseRecord, LiveRecord,
    QueueRecord, UnknownFields,
};
pub use schedule::{
    Backfill, BackfillOrder, BackfillScope, CalendarRecord, CatchUp, MissedTick, Outcome, Overlap,
    Pause, RefusedReason, Run, SCHEDULE_NAME_LEN_MAX, ScheduleDefinition, ScheduleFingerprints,
    ScheduleRecord, ScheduleState, SkipReason, Template, TickRecord, TickRules, backfill_id,
    is_backfill_id, manual_id, nominal_text, schedule_of, tick_id,
};
pub use task::{ClientKeys, Definition, Priority, RunAt, TaskSpec, TickContext, Trace};
pub use time::{Millis, MonoTime, Now, WallTime};
