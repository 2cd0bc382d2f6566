//! What the engine takes from its callers and gives back: the vocabulary of [`crate::Engine`].

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::Duration};

use rota_core::{
    ClientKeys, Definition, Failure, LeaseId, LeaseToken, Name, NameError, Priority, QueueCounts,
    Refusal, RunAt, SessionId, SessionView, Status, StopReason, TaskId, TaskSpec, Waiting,
    WallTime,
};
use rota_store::{Member, Seat, StoreError, StoreStatus};

/// A task that a client wants done, checked against the limits of the API.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Names that the client chose for it.
    pub client_keys: ClientKeys,
    /// What is to be done.
    pub definition: Definition,
    /// Order within its queue.
    pub priority: Priority,
    /// Earliest start.
    pub run_at: RunAt,
}

/// What a client left out of a new task, so that a default was filled in. A repeat is told from a
/// conflict by what the client said, so a default may change without making conflicts of repeats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The queue.
    pub queue: bool,
    /// The priority.
    pub priority: bool,
    /// The timeout of an attempt.
    pub timeout: bool,
    /// What is said of retries.
    pub retry: LeftOutOfRetry,
}

/// What a client left out of what it said of retries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for one field of a retry policy")]
pub struct LeftOutOfRetry {
    /// The number of attempts.
    pub max_attempts: bool,
    /// The first delay.
    pub initial: bool,
    /// The growth of the delay.
    pub multiplier: bool,
    /// The longest delay.
    pub max: bool,
    /// The spread of the delay.
    pub jitter: bool,
    /// The number of lost workers.
    pub max_lost: bool,
    /// The number of snoozes.
    pub max_snoozes: bool,
}

/// A change of a waiting task.
#[derive(Debug, Clone)]
pub struct TaskEdit {
    /// The task as it was when the change was made up, with its definition as it is to be.
    pub spec: TaskSpec,
    /// How often it had been changed by then.
    pub edits: u32,
    /// Another priority; `None` leaves it.
    pub priority: Option<Priority>,
    /// Another time; `None` leaves it.
    pub run_at: Option<RunAt>,
}

/// What became of a submitted task.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// It, or the one that it repeats.
    pub task: TaskId,
    /// Its id as clients see it.
    pub shown_id: String,
    /// Whether it is new.
    pub created: bool,
    /// How it stood when it had been accepted. Told of a new task that was submitted alone, unless
    /// it ended at once.
    pub view: Option<Box<TaskView>>,
}

/// How a client names a task: by the id that Rota gave it or by the one that the client chose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TaskRef {
    /// Rota's.
    Id(TaskId),
    /// The client's.
    Named(Name),
}

impl FromStr for TaskRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => Name::new(text).map(Self::Named),
        }
    }
}

impl fmt::Display for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Named(name) => name.fmt(f),
        }
    }
}

/// All there is to know of a task but its result and the history of its attempts.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskView {
    /// What it is. In lists the payload is left out (empty).
    pub spec: Arc<TaskSpec>,
    /// Whether its definition can be read. Where it cannot, `spec` holds what else is known of the task.
    pub is_readable: bool,
    /// State of the task.
    pub status: Status,
    /// Who goes first.
    pub priority: Priority,
    /// When it is, or was last, due.
    pub run_at: WallTime,
    /// Attempts begun, lost ones included.
    pub attempt: u32,
    /// How many of them lost their worker.
    pub lost: u32,
    /// Failures that count against `max_attempts`.
    pub failures: u32,
    /// How many attempts were put off by their handler.
    pub snoozes: u32,
    /// How often clients changed its definition.
    pub edits: u32,
    /// Who has it, or had it last.
    pub worker: Option<Name>,
    /// The lease of the current or last attempt.
    pub lease_token: Option<LeaseToken>,
    /// When the current or last attempt's handler began.
    pub started_at: Option<WallTime>,
    /// When the task ended.
    pub finished_at: Option<WallTime>,
    /// Why the last attempt failed or the task did.
    pub failure: Option<Failure>,
    /// Why it does not run; set while it waits.
    pub waiting: Option<Waiting>,
    /// Whether a client asked for it to be stopped.
    pub cancel_requested: bool,
    /// What the handler last said.
    pub progress: Option<Arc<str>>,
    /// Whether there is a result to be read.
    pub has_result: bool,
}

/// Which tasks a list is to show. All that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// In this queue.
    pub queue: Option<Name>,
    /// In one of these states; empty means any.
    pub statuses: Vec<Status>,
    /// Of this kind.
    pub kind: Option<Name>,
    /// With all of these labels.
    pub labels: Vec<(Name, Box<str>)>,
    /// Created within.
    pub created: TimeRange,
    /// Due within.
    pub run_at: TimeRange,
}

/// A range of dates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// Inclusive.
    pub from: Option<WallTime>,
    /// Exclusive.
    pub to: Option<WallTime>,
}

impl TimeRange {
    /// Whether the range holds that date.
    #[must_use]
    pub fn contains(&self, time: WallTime) -> bool {
        self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time < to)
    }
}

/// Where a list goes on: behind (older than) this task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The last task that was looked at.
    pub before: TaskId,
}

/// One page of a list, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskPage {
    /// The tasks, without payloads. May be fewer than asked for although more follow.
    pub tasks: Vec<TaskView>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// What to do with many tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkAction {
    /// Stop them.
    Cancel,
    /// Try them again.
    Retry,
    /// Remove them.
    Delete,
}

/// What became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BulkOutcome {
    /// Tasks changed.
    pub changed: u32,
    /// Tasks whose state did not allow it.
    pub skipped: u32,
    /// Tasks that were left alone for another reason, such as a queue that is full.
    pub refused: u32,
    /// Why the first of these was.
    pub refusal: Option<Refusal>,
    /// Where to go on; `None` when no more are selected.
    pub next: Option<Cursor>,
}

/// All queues.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueList {
    /// By name.
    pub queues: Vec<QueueCounts>,
    /// When they stood so, where that is not now: a commit hangs, and these are as of the last one.
    pub as_of: Option<WallTime>,
}

/// Sessions of workers.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerList {
    /// By the worker's name.
    pub workers: Vec<SessionView>,
    /// The time of this state. Set only while a commit hangs: the list then shows the state of an earlier commit.
    pub as_of: Option<WallTime>,
}

/// Which worker is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerRef {
    /// One session.
    Session(SessionId),
    /// All sessions of that name.
    Named(Name),
}

impl FromStr for WorkerRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse() {
            Ok(session) => Ok(Self::Session(session)),
            Err(_) => Name::new(text).map(Self::Named),
        }
    }
}

/// A worker that wants a session over a stream.
#[derive(Debug, Clone)]
pub struct SessionRequest {
    /// The one it had, when it comes back.
    pub session: Option<SessionId>,
    /// For people.
    pub worker: Name,
    /// Served queues; empty means all.
    pub queues: Vec<Name>,
    /// Served kinds; empty means all.
    pub kinds: Vec<Name>,
    /// The most tasks it holds at once.
    pub slots: u32,
    /// The leases it still holds.
    pub held: Vec<LeaseId>,
}

/// Something that a worker is to know.
#[derive(Debug, Clone)]
pub enum SessionEvent {
    /// Do these.
    Dispatches(Vec<Dispatched>),
    /// Stop this one.
    Stop {
        /// Which task.
        task: TaskId,
        /// Which lease.
        token: LeaseToken,
        /// The reason.
        reason: StopReason,
    },
    /// Take no more.
    Drain,
    /// The session is over.
    Ended,
}

/// A task on its way to a worker.
#[derive(Debug, Clone)]
pub struct Dispatched {
    /// What its reports must carry.
    pub token: LeaseToken,
    /// The attempt's number.
    pub attempt: u32,
    /// When it became due.
    pub run_at: WallTime,
    /// What to do.
    pub spec: Arc<TaskSpec>,
}

/// A worker without a stream asks for tasks.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// Its session, from its last call; `None` on the first.
    pub session: Option<SessionId>,
    /// For people.
    pub worker: Name,
    /// Served queues; empty means all.
    pub queues: Vec<Name>,
    /// Served kinds; empty means all.
    pub kinds: Vec<Name>,
    /// The most tasks wanted now.
    pub max: u32,
    /// How long to wait for the first one.
    pub wait: Duration,
    /// Without a call for so long, the session ends and its tasks go to others.
    pub ttl: Duration,
    /// What the worker has. What else the session holds is handed over again, and what it does not hold
    /// is to be stopped. `None`: nothing is.
    pub held: Option<Vec<(TaskRef, LeaseToken)>>,
}

/// Tasks leased by a worker without a stream.
#[derive(Debug, Clone)]
pub struct LeaseResponse {
    /// To be named in later calls.
    pub session: SessionId,
    /// Without a call for so long, it ends.
    pub ttl: Duration,
    /// The tasks; empty when the wait was over, there was something else to tell, or a newer call of
    /// the session came.
    pub tasks: Vec<Dispatched>,
    /// What it is to do beside them.
    pub instructions: Instructions,
}

/// What a worker without a stream is to do beside its tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instructions {
    /// Attempts to be stopped.
    pub stop: Vec<StopOrder>,
    /// Whether it is to take no more.
    pub draining: bool,
}

/// An attempt that a worker is to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopOrder {
    /// Which task. One whose lease is lost is called what its worker called it.
    pub task: TaskRef,
    /// The task's id as clients see it, or as its worker called it.
    pub shown_id: String,
    /// Which lease.
    pub token: LeaseToken,
    /// The reason.
    pub reason: StopReason,
}

/// How the engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What must hold, or should, each by name.
    pub checks: Vec<Check>,
    /// Why only a restart could help: the engine ended by itself, or its loop has given no sign of life
    /// for so long that it will not go on, though the store is well. `None` while there is hope.
    pub stuck: Option<String>,
}

/// One thing that must hold for the node to serve, or should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `store`, `leader`, `backlog`, `engine`, `records`, `version`.
    pub name: &'static str,
    /// What is wrong; `None` when it holds.
    pub problem: Option<String>,
    /// Whether the node is not ready while it does not hold.
    pub needed: bool,
}

impl Check {
    /// One without which the node is not ready.
    #[must_use]
    pub fn needed(name: &'static str, problem: Option<String>) -> Self {
        Self { name, problem, needed: true }
    }
}

impl Health {
    /// Whether all holds that is needed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.problem.is_none() || !check.needed)
    }
}

/// About the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// This node's name.
    pub node: String,
    /// The leader's name, where known.
    pub leader: Option<String>,
    /// What this node does.
    pub role: Role,
    /// The leadership's number.
    pub epoch: u64,
    /// When this process began.
    pub started_at: WallTime,
    /// The engine's wall clock.
    pub now: WallTime,
    /// The revision of the store up to which this node follows; 0 while it leads alone.
    pub revision: u64,
    /// Tasks that have not ended.
    pub live_tasks: u64,
    /// The feature level that this node knows.
    pub feature_level: u32,
    /// The feature level that the cluster may use, when this node last looked.
    pub cluster_feature_level: u32,
    /// Limits in force, by name.
    pub limits: BTreeMap<&'static str, u64>,
}

/// What a node does for the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It decides, or will as soon as the backlog is loaded: ask it.
    Leader,
    /// Another one does.
    Follower(Seat),
    /// Nobody does, as far as it knows.
    Unknown,
}

/// The nodes of a cluster, as one of them sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// Who leads.
    pub leader: Option<Seat>,
    /// All nodes that are there, by name.
    pub members: Vec<Member>,
    /// The store that they share.
    pub store: StoreStatus,
}

/// Why the engine did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// It changed nothing, because of what was asked.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no leader yet, or its backlog is being loaded, or the store can't be reached.
    /// Nothing was changed.
    #[error("not available: {reason}")]
    Unavailable {
        /// What is wrong.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// Leadership was lost on the way. What was asked for may have been done.
    #[error("leadership was lost; the outcome is not known")]
    LeadershipLost,
    /// Another node leads. Nothing was changed.
    #[error("this node does not lead")]
    NotLeader,
    /// Leadership cannot be handed to a node that is not there. Nothing was changed.
    #[error("{}", named.as_ref().map_or_else(
        || "there is no other node".to_owned(),
        |name| format!("there is no other node of the name {name}")
    ))]
    NoSuccessor {
        /// Which was asked for.
        named: Option<String>,
    },
    /// The command was taken, and what became of it was lost on the way: it may be carried out, or
    /// have been, or never be.
    #[error("{0}; the outcome is not known")]
    OutcomeUnknown(&'static str),
    /// More is asked than can be done now. Nothing was changed.
    #[error("too much at once: {reason}")]
    Overloaded {
        /// Which bound was met.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The store has no room. Nothing was changed.
    #[error("the store is full: {0}")]
    StoreFull(String),
    /// Reading failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
