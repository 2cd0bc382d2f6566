//! The engine: a loop that stamps the time, asks the core, commits, and then releases effects.
//!
//! This crate owns leadership, the order in which commands reach the core, group commit, the layout of
//! records in the store, the channels of sessions, and reads. It knows neither HTTP nor gRPC, and does not
//! know which store it uses.
//!
//! The path of a command: a method of [`Engine`] (`tasks`, `workers`, `list`, `pull`) puts it as a `request`
//! into the inbox. The `coordinator` reads what the core must know (`lookup`), lets the core decide, turns
//! the mutations into a `batch`, and writes it to the store (`commit`). Then it releases the answers, and
//! sends tasks and orders to workers through `dispatch`. While another node is the leader, `standby` keeps a
//! copy of the backlog.

mod api;
mod batch;
mod cache;
mod cluster;
mod codec;
mod commit;
mod coordinator;
mod dispatch;
mod down;
mod engine;
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
mod lookout;
mod lookup;
mod marks;
mod observe;
mod options;
#[cfg_attr(
    not(feature = "planted-faults"),
    expect(
        unreachable_pub,
        dead_code,
        reason = "only builds that plant mistakes name them outside"
    )
)]
mod planted;
mod prepared;
mod pull;
mod request;
mod retention;
mod rounds;
mod shared;
mod signs;
mod specs;
mod standby;
mod take;
mod tasks;
mod timekeeper;
mod troubles;
mod unreadable;
mod view;
mod workers;

pub use api::{
    BulkAction, BulkOutcome, Check, ClusterView, Cursor, Dispatched, EngineError, Health, Info,
    Instructions, LeaseRequest, LeasedTasks, LeftOut, LeftOutOfRetry, NewTask, QueueList, Role,
    SessionEvent, SessionRequest, SessionStream, StopOrder, Submitted, TaskEdit, TaskFilter,
    TaskPage, TaskRef, TaskView, TimeRange, WorkerList, WorkerRef,
};
pub use cluster::RoleChanges;
pub use down::SessionEvents;
pub use engine::Engine;
pub use host::{Clock, Host, Parallel, Random};
pub use layout::{IDEMPOTENCY_KEY_BYTES_MAX, SPACES};
pub use options::EngineOptions;
#[cfg(feature = "planted-faults")]
pub use planted::Planted;
pub use rota_core::RunAt;
pub use rota_store::{Member, Seat};
