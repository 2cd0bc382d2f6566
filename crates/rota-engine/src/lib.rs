//! The engine: a loop that stamps the time, asks the core, commits, and then releases effects.
//!
//! This crate owns leadership, the order in which commands reach the core, group commit, the layout of
//! records in the store, the channels of sessions, and reads. It knows neither HTTP nor gRPC, and does not
//! know which store it uses.
//!
//! A command's way: a method of [`Engine`] (`tasks`, `workers`, `list`, `pull`) makes it a
//! `request` in the inbox; the `coordinator` reads what the core must know (`prefetch`), has the core
//! decide, makes the mutations a `batch`, gets it into the store (`commit`) and then releases the
//! answers, and what flows down to workers through `dispatch`. While another node leads, `standby`
//! keeps a copy of the backlog.

mod api;
mod batch;
mod cache;
mod cluster;
mod codec;
mod coming_ticks;
mod commit;
mod coordinator;
mod dispatch;
mod down;
mod engine;
mod events;
mod fail_point;
mod fingerprint;
mod hand_over;
mod host;
mod inbox;
mod landed;
mod layout;
mod ledger;
mod level;
mod list;
mod load;
mod log;
mod marks;
mod memory;
mod metrics;
mod options;
mod output;
#[cfg_attr(
    not(feature = "planted-faults"),
    expect(
        unreachable_pub,
        dead_code,
        reason = "only builds that plant mistakes name them outside"
    )
)]
mod planted;
mod prefetch;
mod prepared;
mod pull;
mod purge;
mod records;
mod request;
mod retention;
mod rounds;
mod schedule_records;
mod schedules;
mod search;
mod shared;
mod signs;
mod specs;
mod standby;
mod store_monitor;
mod take;
mod tasks;
mod tick_counts;
mod tick_traces;
mod ticks;
mod timekeeper;
pub mod transfer;
mod troubles;
mod unreadable;
mod view;
mod workers;

pub use api::{
    BulkAction, BulkOutcome, Check, ClusterView, Cursor, Dispatched, EngineError, Health, Info,
    Instructions, LeaseRequest, LeaseResponse, LeftOut, LeftOutOfRetry, NewTask, QueueList, Role,
    SessionEvent, SessionRequest, StopOrder, Submitted, TaskEdit, TaskFilter, TaskPage, TaskRef,
    TaskView, TimeRange, WorkerList, WorkerRef,
};
pub use cluster::RoleChanges;
pub use down::{SessionEvents, SessionStream};
pub use engine::Engine;
pub use events::{
    EndedReason, Event, EventFilter, EventId, EventIdError, EventLimits, EventListener, EventType,
    QueueFacts, ResetReason, ScheduleFacts, SpecFacts, Subject, TaskFacts, TickFacts, Told,
    TypePattern, WorkerFacts,
};
pub use host::{Clock, Host, Parallel, Random};
pub use layout::{IDEMPOTENCY_KEY_BYTES_MAX, SPACES};
pub use list::{FailureFilter, FailureGroup, FailureList, FailureState, TaskCount};
pub use memory::MemoryPeaks;
pub use options::EngineOptions;
pub use output::{
    GapReason, OutputEnd, OutputLimits, OutputListener, OutputPlace, OutputPlaceError,
    OutputRequest, OutputTold,
};
#[cfg(feature = "planted-faults")]
pub use planted::Planted;
pub use rota_core::{ErrorFingerprint, RunAt};
pub use rota_store::{LostBatches, Member, Seat, StoreStatus};
pub use schedules::{
    BACKFILL_COUNTED_MAX, BackfillCount, ScheduleFilter, SchedulePage, ScheduleRead,
    ScheduleStatus, TickPage,
};
pub use search::Search;
pub use tick_traces::TickTraces;
