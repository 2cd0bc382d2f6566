//! The types in the interface of [`crate::Engine`].

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::Duration};

use rota_core::{
    ClientKeys, Definition, ErrorFingerprint, Failure, LeaseId, LeaseToken, Name, NameError,
    Priority, QueueCounts, Refusal, RunAt, SessionId, SessionView, Status, StopReason, TaskId,
    TaskSpec, Waiting, WallTime, schedule_of,
};
use rota_store::{Member, Seat, StoreError, StoreStatus};

use crate::search::Search;

/// A task to create, validated by the API.
#[derive(Debug, Clone)]
pub struct NewTask {
    pub client_keys: ClientKeys,
    pub definition: Definition,
    pub priority: Priority,
    pub run_at: RunAt,
}

/// The fields that a client omitted from a new task, so that defaults were filled in. The fingerprint covers
/// only what the client sent, so a repeat stays a repeat when a default changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    pub queue: bool,
    pub priority: bool,
    pub timeout: bool,
    pub retry: LeftOutOfRetry,
}

/// The fields that a client omitted from a retry policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for one field of a retry policy")]
pub struct LeftOutOfRetry {
    pub max_attempts: bool,
    pub initial: bool,
    pub multiplier: bool,
    pub max: bool,
    pub jitter: bool,
    pub max_lost: bool,
    pub max_snoozes: bool,
}

/// A change of a waiting task.
#[derive(Debug, Clone)]
pub struct TaskEdit {
    /// The task on which the change is based, with its new definition.
    pub spec: TaskSpec,
    /// Number of changes before this one.
    pub edits: u32,
    /// New priority. `None` keeps the old one.
    pub priority: Option<Priority>,
    /// New due time. `None` keeps the old one.
    pub run_at: Option<RunAt>,
}

/// The result of a submission.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// The new task, or the one that it repeats.
    pub task: TaskId,
    /// The id that clients see.
    pub shown_id: String,
    pub created: bool,
    /// Its state after it was accepted. Set for a new task that was submitted alone, unless it ended at once.
    pub view: Option<Box<TaskView>>,
}

/// A reference to a task: by the id that Rota gave it, or by the id that its client chose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TaskRef {
    /// The id that Rota gave it.
    Id(TaskId),
    /// The id that its client chose.
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

/// A task without its result and the history of its attempts.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskView {
    /// The definition. Lists omit the payload.
    pub spec: Arc<TaskSpec>,
    /// Whether its definition can be read. If not, `spec` has what the other records tell.
    pub is_readable: bool,
    pub status: Status,
    pub priority: Priority,
    /// Time at which it is or was last due.
    pub run_at: WallTime,
    /// Number of attempts so far, including lost ones.
    pub attempt: u32,
    /// Number of attempts that lost their worker.
    pub lost: u32,
    /// Failures that count against `max_attempts`.
    pub failures: u32,
    /// Number of attempts that their handler snoozed.
    pub snoozes: u32,
    /// Number of changes of its definition by clients.
    pub edits: u32,
    /// Worker of the current or last attempt.
    pub worker: Option<Name>,
    /// The lease of the current or last attempt.
    pub lease_token: Option<LeaseToken>,
    /// Start of the current or last attempt's handler.
    pub started_at: Option<WallTime>,
    pub finished_at: Option<WallTime>,
    /// Why the last attempt or the task failed.
    pub failure: Option<Failure>,
    /// Why it does not run. Set while it waits.
    pub waiting: Option<Waiting>,
    /// Whether a client asked to cancel it.
    pub cancel_requested: bool,
    /// The last progress message.
    pub progress: Option<Arc<str>>,
    /// Whether it has a result.
    pub has_result: bool,
}

/// A filter of tasks. All set fields must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    pub queue: Option<Name>,
    /// Statuses. Empty means any.
    pub statuses: Vec<Status>,
    pub kind: Option<Name>,
    /// Labels. All must match.
    pub labels: Vec<(Name, Box<str>)>,
    pub created: TimeRange,
    pub run_at: TimeRange,
    /// The schedule that created the tasks.
    pub schedule: Option<Name>,
    /// The fingerprint of the last error, as [`TaskView::failure`] has it.
    pub error: Option<ErrorFingerprint>,
    /// Text in an id, the last error, the payload, the description or the value of a label.
    pub search: Option<Search>,
    /// The worker of the current or last attempt.
    pub worker: Option<Name>,
    /// Priorities. Empty means any.
    pub priorities: Vec<Priority>,
}

impl TaskFilter {
    /// Whether the definition of a task can decide. Then few of the tasks that match so far may match in the
    /// end.
    pub(crate) fn depends_on_definition(&self) -> bool {
        self.search.is_some()
            || self.error.is_some()
            || self.worker.is_some()
            || self.schedule.is_some()
            || !self.labels.is_empty()
    }

    /// Whether it matches a task, except for the text to search for.
    pub(crate) fn selects(&self, view: &TaskView) -> bool {
        let definition = &view.spec.definition;
        (self.statuses.is_empty() || self.statuses.contains(&view.status))
            && self.queue.as_ref().is_none_or(|queue| *queue == definition.queue)
            && self.kind.as_ref().is_none_or(|kind| *kind == definition.kind)
            && self.run_at.contains(view.run_at)
            && (self.priorities.is_empty() || self.priorities.contains(&view.priority))
            && self.selects_view(view)
    }

    /// Whether it matches a task by what its state alone does not tell, except for the text.
    pub(crate) fn selects_view(&self, view: &TaskView) -> bool {
        let of_schedule = |schedule: &Name| {
            view.spec.tick.as_ref().is_some_and(|tick| tick.schedule == *schedule)
        };
        self.created.contains(view.spec.created_at)
            && self.schedule.as_ref().is_none_or(of_schedule)
            && self.worker.as_ref().is_none_or(|worker| view.worker.as_ref() == Some(worker))
            && has_error(self.error, &view.spec.definition.kind, view.failure.as_ref())
            && self.labels.iter().all(|label| view.spec.definition.labels.contains(label))
    }

    /// Whether the schedule of the filter can have created a task with this client id.
    pub(crate) fn can_be_of_schedule(&self, id: Option<&Name>) -> bool {
        self.schedule.as_ref().is_none_or(|schedule| {
            id.and_then(schedule_of).is_some_and(|name| name == schedule.as_str())
        })
    }
}

/// Whether the error of a task of this kind has the fingerprint.
pub(crate) fn has_error(
    wanted: Option<ErrorFingerprint>,
    kind: &Name,
    failure: Option<&Failure>,
) -> bool {
    wanted.is_none_or(|wanted| {
        failure.is_some_and(|failure| ErrorFingerprint::of(kind, &failure.message) == wanted)
    })
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
    /// Whether the range contains the date.
    #[must_use]
    pub fn contains(&self, time: WallTime) -> bool {
        self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time < to)
    }
}

/// The cursor of a list: continue with tasks older than this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The last examined task.
    pub before: TaskId,
}

impl Cursor {
    /// Continues with the newest task.
    pub(crate) const NEWEST: Self = Self { before: TaskId::MAX };

    /// The approximate creation time of the last examined task. `None` if the newest task is next.
    #[must_use]
    pub fn reached(&self) -> Option<WallTime> {
        (*self != Self::NEWEST).then(|| self.before.created_at())
    }
}

/// A page of a list, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskPage {
    /// The tasks, without payloads. Can be fewer than requested even if more follow.
    pub tasks: Vec<TaskView>,
    /// Number of tasks that were compared with the filter.
    pub examined: usize,
    /// Where to continue. `None` at the end.
    pub next: Option<Cursor>,
}

/// An action on many tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkAction {
    /// Cancels the tasks.
    Cancel,
    /// Runs the tasks again.
    Retry,
    /// Deletes the tasks.
    Delete,
}

/// The result of an action on many tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BulkOutcome {
    /// Number of changed tasks.
    pub changed: u32,
    /// Number of tasks whose status did not allow the action.
    pub skipped: u32,
    /// Number of tasks left unchanged for another reason, such as a full queue.
    pub refused: u32,
    /// The reason for the first of these.
    pub refusal: Option<Refusal>,
    /// Number of tasks that were compared with the filter.
    pub examined: usize,
    /// Where to continue. `None` when no more tasks match.
    pub next: Option<Cursor>,
}

/// All queues.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueList {
    /// By name.
    pub queues: Vec<QueueCounts>,
    /// Time of the last commit. Set only while a commit hangs: the counts are from that time.
    pub as_of: Option<WallTime>,
}

/// Sessions of workers.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerList {
    /// By the worker's name.
    pub workers: Vec<SessionView>,
    /// Time of an earlier commit. Set only while a commit hangs: the list is from that time.
    pub as_of: Option<WallTime>,
}

/// A reference to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerRef {
    /// A session.
    Session(SessionId),
    /// All sessions with this name.
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

/// A worker that opens or resumes a session over a stream.
#[derive(Debug, Clone)]
pub struct SessionRequest {
    /// The session to resume.
    pub session: Option<SessionId>,
    pub worker: Name,
    /// Queues to serve. Empty means all.
    pub queues: Vec<Name>,
    /// Kinds to serve. Empty means all.
    pub kinds: Vec<Name>,
    /// Maximum number of tasks that it holds.
    pub slots: u32,
    /// The leases it still holds.
    pub held: Vec<LeaseId>,
    /// Whether it sends the output of running attempts when it is asked.
    pub streams_output: bool,
}

/// A message to a worker.
#[derive(Debug, Clone)]
pub enum SessionEvent {
    /// New tasks.
    Dispatches(Vec<Dispatched>),
    /// An attempt to stop.
    Stop { task: TaskId, token: LeaseToken, reason: StopReason },
    /// Send the output of this attempt from now on, or no longer. Sent only to workers that can.
    WatchOutput { lease: LeaseId, on: bool },
    /// Drain: take no more tasks.
    Drain,
    /// The session has ended.
    Ended,
}

/// A task for a worker.
#[derive(Debug, Clone)]
pub struct Dispatched {
    /// The token for its reports.
    pub token: LeaseToken,
    pub attempt: u32,
    /// When it became due.
    pub run_at: WallTime,
    pub spec: Arc<TaskSpec>,
}

/// A request of a worker without a stream for tasks.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// The session from the last call. `None` in the first call.
    pub session: Option<SessionId>,
    pub worker: Name,
    /// Queues to serve. Empty means all.
    pub queues: Vec<Name>,
    /// Kinds to serve. Empty means all.
    pub kinds: Vec<Name>,
    /// Maximum number of tasks to lease.
    pub max: u32,
    /// Maximum time to wait for the first task.
    pub wait: Duration,
    /// Time without a call after which the session ends and other workers get its tasks.
    pub ttl: Duration,
    /// The leases that the worker runs. Other tasks of the session are leased again, and leases that the
    /// session does not hold are returned as attempts to stop. With `None`, neither happens.
    pub held: Option<Vec<(TaskRef, LeaseToken)>>,
}

/// Tasks leased by a worker without a stream.
#[derive(Debug, Clone)]
pub struct LeaseResponse {
    /// The session for later calls.
    pub session: SessionId,
    /// Time without a call after which the session ends.
    pub ttl: Duration,
    /// The tasks. Empty when the wait is over, when `orders` has news, or when a newer call of the session
    /// came.
    pub tasks: Vec<Dispatched>,
    pub instructions: Instructions,
}

/// Orders for a worker without a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instructions {
    /// Attempts to stop.
    pub stop: Vec<StopOrder>,
    /// Whether the worker must drain.
    pub draining: bool,
}

/// An attempt that a worker must stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopOrder {
    /// The task. For a lost lease, in the form that the worker used.
    pub task: TaskRef,
    /// The task id that clients see, or the one that the worker used.
    pub shown_id: String,
    pub token: LeaseToken,
    pub reason: StopReason,
}

/// The health of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// All checks.
    pub checks: Vec<Check>,
    /// Why only a restart can help: the engine ended unexpectedly, or its loop has been stuck for so long
    /// that it will not recover although the store works. `None` otherwise.
    pub stuck: Option<String>,
}

/// A check of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `store`, `leader`, `backlog`, `engine`, `records`, `version`.
    pub name: &'static str,
    /// The problem. `None` if the check passes.
    pub problem: Option<String>,
    /// Whether the node is unready while the check fails.
    pub needed: bool,
}

impl Check {
    /// A check without which the node is not ready.
    #[must_use]
    pub fn needed(name: &'static str, problem: Option<String>) -> Self {
        Self { name, problem, needed: true }
    }
}

impl Health {
    /// Whether all needed checks pass.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.problem.is_none() || !check.needed)
    }
}

/// Information about the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    pub node: String,
    /// The leader, if known.
    pub leader: Option<String>,
    /// The role of this node.
    pub role: Role,
    /// The number of the leadership.
    pub epoch: u64,
    /// Start of this process.
    pub started_at: WallTime,
    /// The wall clock of this node.
    pub now: WallTime,
    /// The revision of the store that this node's copy has reached. 0 while it leads alone.
    pub revision: u64,
    /// Number of tasks that have not ended.
    pub live_tasks: u64,
    /// Highest feature level that this node supports.
    pub feature_level: u32,
    /// Feature level of the cluster at the last look.
    pub cluster_feature_level: u32,
    pub limits: BTreeMap<&'static str, u64>,
}

/// The role of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It is the leader, or will be as soon as the backlog is loaded.
    Leader,
    /// Another node is the leader.
    Follower(Seat),
    /// It knows no leader.
    Unknown,
}

/// The view that one node has of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// The leader.
    pub leader: Option<Seat>,
    /// All present nodes, by name.
    pub members: Vec<Member>,
    /// The store.
    pub store: StoreStatus,
}

/// Why a call of the engine failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The request was refused. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no leader yet, or it still loads the backlog, or the store is unreachable. Nothing was
    /// changed.
    #[error("unavailable: {reason}")]
    Unavailable {
        reason: String,
        /// Time to wait before a retry.
        retry_after: Duration,
    },
    /// Leadership was lost during the call. The request may have been carried out.
    #[error("leadership was lost; the outcome is unknown")]
    LeadershipLost,
    /// Another node is the leader. Nothing was changed.
    #[error("this node is not the leader")]
    NotLeader,
    /// Leadership cannot be transferred, because there is no such node. Nothing was changed.
    #[error("{}", named.as_ref().map_or_else(
        || "there is no other node".to_owned(),
        |name| format!("there is no other node with the name {name}")
    ))]
    NoSuccessor {
        /// The requested node.
        named: Option<String>,
    },
    /// The command was accepted, but its outcome was lost. It may or may not be carried out.
    #[error("{0}; the outcome is unknown")]
    OutcomeUnknown(&'static str),
    /// Too many requests. Nothing was changed.
    #[error("overloaded: {reason}")]
    Overloaded {
        /// The limit that was reached.
        reason: String,
        /// Time to wait before a retry.
        retry_after: Duration,
    },
    /// The store is full. Nothing was changed.
    #[error("the store is full: {0}")]
    StoreFull(String),
    /// Reading from the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
