//! Tasks.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::scalar::{Date, Span};
use crate::v1;

/// A task to be done.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// A name of your own for the task, unique over all tasks; generated when absent.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where it waits. Default: `default`.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Which handler runs it.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = "^[A-Za-z0-9._:/-]+$",
        example = "resize"
    )]
    pub kind: String,
    /// Parameters: any JSON.
    #[schema(value_type = Option<Object>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// Parameters that are not JSON, in base 64. Instead of `payload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// For people and filters: up to 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// 0 to 9, higher first. Default: 5.
    #[schema(minimum = 0, maximum = 9)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Not before. Default: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Date>,
    /// Instead of `run_at`: that long from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// Not started by then: the task expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Date>,
    /// Longest time for one attempt. Default: 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// When to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicyInput>,
    /// A repeat with the same key and body returns the same task.
    #[schema(min_length = 1, max_length = 256)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// How long the finished task is kept. Default: 1d when completed, else 7d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Span>,
}

/// When to try again; what is absent has its default.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicyInput {
    /// Attempts before the task fails for good. Default: 25.
    #[schema(minimum = 1, maximum = 1000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Delay after the first failure. Default: 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Span>,
    /// Growth of the delay. Default: 2.
    #[schema(minimum = 1, maximum = 100)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiplier: Option<f64>,
    /// Longest delay. Default: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Span>,
    /// How the delay is spread. Default: full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Jitter>,
    /// Times the task may lose its worker. Default: 3.
    #[schema(minimum = 0, maximum = 1000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lost: Option<u32>,
}

/// When to try again, as it is in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RetryPolicy {
    /// Attempts before the task fails for good.
    pub max_attempts: u32,
    /// Delay after the first failure.
    pub initial: Span,
    /// Growth of the delay.
    pub multiplier: f64,
    /// Longest delay.
    pub max: Span,
    /// How the delay is spread.
    pub jitter: Jitter,
    /// Times the task may lose its worker.
    pub max_lost: u32,
}

/// How a delay is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Evenly from zero to the computed delay.
    Full,
    /// Not at all.
    None,
}

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// Waits for its time.
    Scheduled,
    /// Ready; waits for a worker.
    Pending,
    /// Given to a worker.
    Assigned,
    /// The worker said that it began.
    Running,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Stopped because a client asked.
    Cancelled,
    /// Not started in time.
    Expired,
}

/// A task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Its id: yours where you chose one.
    pub id: String,
    /// Where it waits.
    pub queue: String,
    /// Which handler runs it.
    pub kind: String,
    /// Its state.
    pub status: TaskStatus,
    /// Parameters. Absent in lists.
    #[schema(value_type = Option<Object>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// Parameters that are not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// For people and filters.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Higher first.
    pub priority: u32,
    /// When it was accepted.
    pub created_at: Date,
    /// When it is, or was last, due.
    pub run_at: Date,
    /// Not started by then: it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Date>,
    /// Longest time for one attempt.
    pub timeout: Span,
    /// When to try again.
    pub retry: RetryPolicy,
    /// The key by which a repeat is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// How long it is kept when finished, where it said so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Span>,
    /// Attempts begun, lost ones included.
    pub attempt: u32,
    /// How many of them lost their worker.
    pub lost: u32,
    /// Who has it, or had it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// When the current or last attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Date>,
    /// When the task ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Date>,
    /// Why the last attempt failed, or the task did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    /// Why it is not running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Fences the current or last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_token: Option<u64>,
    /// Whether a client asked for it to be stopped.
    pub cancel_requested: bool,
    /// What the handler last said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Whether there is a result to be read.
    pub has_result: bool,
}

/// Why something did not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskError {
    /// `error`, `permanent`, `timeout`, `worker_lost`, `cancelled` or `expired`.
    pub reason: String,
    /// In words.
    pub message: String,
}

/// Why a task is not running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// The class of it.
    pub reason: WaitingReason,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
    /// The attempt that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Tasks that go first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u64>,
    /// In one sentence.
    pub message: String,
}

/// The classes of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitingReason {
    /// Due at a time.
    DueLater,
    /// After a failure.
    BackingOff,
    /// Its queue is paused.
    QueuePaused,
    /// No worker serves it.
    NoWorker,
    /// All slots are taken.
    SlotsBusy,
}

/// What became of a new task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Created {
    /// Its id.
    pub id: String,
    /// False: it existed before.
    pub created: bool,
}

/// Tasks to be done.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTaskBatch {
    /// Up to 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    pub tasks: Vec<NewTask>,
}

/// A result for each task, in order.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NewTaskBatchResult {
    /// In the order of the request.
    pub results: Vec<BatchResult>,
}

/// What became of one of many.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum BatchResult {
    /// It exists.
    Created(Created),
    /// It was refused.
    Refused {
        /// Why.
        error: ItemError,
    },
}

/// Why one of many was refused.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ItemError {
    /// The HTTP status that it would have had alone.
    pub status: u16,
    /// A stable word.
    pub reason: String,
    /// The field it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// In words.
    pub message: String,
}

/// A page of tasks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskList {
    /// Newest first, without payloads.
    pub tasks: Vec<Task>,
    /// Where to go on. A page may be short although more follow; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Which tasks are meant.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskFilter {
    /// In this queue.
    #[serde(default)]
    pub queue: Option<String>,
    /// In one of these states.
    #[serde(default)]
    pub statuses: Vec<TaskStatus>,
    /// Of this kind.
    #[serde(default)]
    pub kind: Option<String>,
    /// With all of these labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Created at or after.
    #[serde(default)]
    pub created_from: Option<Date>,
    /// Created before.
    #[serde(default)]
    pub created_to: Option<Date>,
    /// Due at or after.
    #[serde(default)]
    pub run_at_from: Option<Date>,
    /// Due before.
    #[serde(default)]
    pub run_at_to: Option<Date>,
}

/// One thing to be done to many tasks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkRequest {
    /// What.
    pub action: BulkAction,
    /// To which.
    pub filter: TaskFilter,
    /// To how many at most. Default: 1000.
    #[schema(minimum = 1, maximum = 1000)]
    #[serde(default)]
    pub limit: Option<u32>,
    /// Where to go on, from the last answer.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// What can be done to many tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BulkAction {
    /// Stop them.
    Cancel,
    /// Try them again.
    Retry,
    /// Remove them.
    Delete,
}

/// What became of them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BulkResult {
    /// Tasks changed.
    pub changed: u32,
    /// Tasks whose state did not allow it.
    pub skipped: u32,
    /// Where to go on; absent when the filter selects no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Another time for a task.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RescheduleRequest {
    /// Not before.
    #[serde(default)]
    pub run_at: Option<Date>,
    /// Instead of `run_at`: that long from now.
    #[serde(default)]
    pub delay: Option<Span>,
}

/// Another priority for a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriorityRequest {
    /// 0 to 9, higher first.
    #[schema(minimum = 0, maximum = 9)]
    pub priority: u32,
}

/// The history of a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AttemptList {
    /// Oldest first.
    pub attempts: Vec<Attempt>,
}

/// One attempt.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// 1 for the first.
    pub attempt: u32,
    /// Who had it.
    pub worker: String,
    /// When it was given.
    pub assigned_at: Date,
    /// When the handler began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Date>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Date>,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    /// The end of what it printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tail: Option<String>,
    /// Its lease.
    pub lease_token: u64,
}

/// Bytes as JSON where they are JSON, else in base 64.
pub(super) fn json_or_base64(bytes: &Bytes) -> (Option<Box<RawValue>>, Option<String>) {
    if bytes.is_empty() {
        return (None, None);
    }
    match serde_json::from_slice::<Box<RawValue>>(bytes) {
        Ok(json) => (Some(json), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}

fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A field that cannot be carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Which.
    pub field: &'static str,
    /// Why not.
    pub message: String,
}

impl TryFrom<NewTask> for v1::NewTask {
    type Error = FieldError;

    fn try_from(task: NewTask) -> Result<Self, FieldError> {
        let payload = match (task.payload, task.payload_base64) {
            (Some(_), Some(_)) => {
                let message = "cannot be given together with payload".to_owned();
                return Err(FieldError { field: "payload_base64", message });
            }
            (Some(json), None) => Bytes::from(Box::<str>::from(json).into_string()),
            (None, Some(base64)) => BASE64.decode(base64).map(Bytes::from).map_err(|error| {
                FieldError { field: "payload_base64", message: error.to_string() }
            })?,
            (None, None) => Bytes::new(),
        };
        for (field, given) in
            [("id", &task.id), ("queue", &task.queue), ("idempotency_key", &task.idempotency_key)]
        {
            if given.as_deref() == Some("") {
                return Err(FieldError { field, message: "must not be empty".to_owned() });
            }
        }
        Ok(Self {
            id: task.id.unwrap_or_default(),
            queue: task.queue.unwrap_or_default(),
            kind: task.kind,
            payload,
            labels: task.labels.into_iter().collect(),
            priority: task.priority,
            run_at: task.run_at.map(Into::into),
            delay: task.delay.map(Into::into),
            expires_at: task.expires_at.map(Into::into),
            timeout: task.timeout.map(Into::into),
            retry: task.retry.map(Into::into),
            idempotency_key: task.idempotency_key.unwrap_or_default(),
            retention: task.retention.map(Into::into),
        })
    }
}

impl From<RetryPolicyInput> for v1::RetryPolicy {
    fn from(retry: RetryPolicyInput) -> Self {
        let jitter = match retry.jitter {
            None => v1::Jitter::Unspecified,
            Some(Jitter::Full) => v1::Jitter::Full,
            Some(Jitter::None) => v1::Jitter::None,
        };
        Self {
            max_attempts: retry.max_attempts,
            initial: retry.initial.map(Into::into),
            multiplier: retry.multiplier,
            max: retry.max.map(Into::into),
            jitter: jitter.into(),
            max_lost: retry.max_lost,
        }
    }
}

impl From<v1::RetryPolicy> for RetryPolicy {
    fn from(retry: v1::RetryPolicy) -> Self {
        Self {
            jitter: if retry.jitter() == v1::Jitter::None { Jitter::None } else { Jitter::Full },
            max_attempts: retry.max_attempts.unwrap_or_default(),
            initial: retry.initial.map(Into::into).unwrap_or_default(),
            multiplier: retry.multiplier.unwrap_or_default(),
            max: retry.max.map(Into::into).unwrap_or_default(),
            max_lost: retry.max_lost.unwrap_or_default(),
        }
    }
}

impl From<v1::TaskStatus> for TaskStatus {
    fn from(status: v1::TaskStatus) -> Self {
        match status {
            v1::TaskStatus::Unspecified | v1::TaskStatus::Scheduled => Self::Scheduled,
            v1::TaskStatus::Pending => Self::Pending,
            v1::TaskStatus::Assigned => Self::Assigned,
            v1::TaskStatus::Running => Self::Running,
            v1::TaskStatus::Completed => Self::Completed,
            v1::TaskStatus::Failed => Self::Failed,
            v1::TaskStatus::Cancelled => Self::Cancelled,
            v1::TaskStatus::Expired => Self::Expired,
        }
    }
}

impl From<TaskStatus> for v1::TaskStatus {
    fn from(status: TaskStatus) -> Self {
        match status {
            TaskStatus::Scheduled => Self::Scheduled,
            TaskStatus::Pending => Self::Pending,
            TaskStatus::Assigned => Self::Assigned,
            TaskStatus::Running => Self::Running,
            TaskStatus::Completed => Self::Completed,
            TaskStatus::Failed => Self::Failed,
            TaskStatus::Cancelled => Self::Cancelled,
            TaskStatus::Expired => Self::Expired,
        }
    }
}

impl From<v1::TaskError> for TaskError {
    fn from(error: v1::TaskError) -> Self {
        let reason = match error.reason() {
            v1::FailureReason::Unspecified | v1::FailureReason::Error => "error",
            v1::FailureReason::Permanent => "permanent",
            v1::FailureReason::Timeout => "timeout",
            v1::FailureReason::WorkerLost => "worker_lost",
            v1::FailureReason::Cancelled => "cancelled",
            v1::FailureReason::Expired => "expired",
        };
        Self { reason: reason.to_owned(), message: error.message }
    }
}

impl From<v1::Waiting> for Waiting {
    fn from(waiting: v1::Waiting) -> Self {
        use v1::waiting::Reason;
        let reason = match waiting.reason() {
            Reason::Unspecified | Reason::DueLater => WaitingReason::DueLater,
            Reason::BackingOff => WaitingReason::BackingOff,
            Reason::QueuePaused => WaitingReason::QueuePaused,
            Reason::NoWorker => WaitingReason::NoWorker,
            Reason::SlotsBusy => WaitingReason::SlotsBusy,
        };
        Self {
            reason,
            until: waiting.until.map(Into::into),
            attempt: (reason == WaitingReason::BackingOff).then_some(waiting.attempt),
            ahead: (reason == WaitingReason::SlotsBusy).then_some(waiting.ahead),
            message: waiting.message,
        }
    }
}

fn date(at: Option<prost_types::Timestamp>) -> Date {
    at.unwrap_or_default().into()
}

impl From<v1::Task> for Task {
    fn from(task: v1::Task) -> Self {
        let status = task.status().into();
        let (payload, payload_base64) = json_or_base64(&task.payload);
        Self {
            id: task.id,
            queue: task.queue,
            kind: task.kind,
            status,
            payload,
            payload_base64,
            labels: task.labels.into_iter().collect(),
            priority: task.priority,
            created_at: date(task.created_at),
            run_at: date(task.run_at),
            expires_at: task.expires_at.map(Into::into),
            timeout: task.timeout.map(Into::into).unwrap_or_default(),
            retry: task.retry.unwrap_or_default().into(),
            idempotency_key: text(task.idempotency_key),
            retention: task.retention.map(Into::into),
            attempt: task.attempt,
            lost: task.lost,
            worker: text(task.worker),
            started_at: task.started_at.map(Into::into),
            finished_at: task.finished_at.map(Into::into),
            error: task.error.map(Into::into),
            waiting: task.waiting.map(Into::into),
            lease_token: (task.lease_token > 0).then_some(task.lease_token),
            cancel_requested: task.cancel_requested,
            progress: text(task.progress),
            has_result: task.has_result,
        }
    }
}

impl From<TaskFilter> for v1::TaskFilter {
    fn from(filter: TaskFilter) -> Self {
        let range = |from: Option<Date>, to: Option<Date>| v1::TimeRange {
            from: from.map(Into::into),
            to: to.map(Into::into),
        };
        let status = |status| v1::TaskStatus::from(status).into();
        Self {
            queue: filter.queue.unwrap_or_default(),
            statuses: filter.statuses.into_iter().map(status).collect(),
            kind: filter.kind.unwrap_or_default(),
            labels: filter.labels.into_iter().collect(),
            created: Some(range(filter.created_from, filter.created_to)),
            run_at: Some(range(filter.run_at_from, filter.run_at_to)),
        }
    }
}

impl From<BulkAction> for v1::BulkAction {
    fn from(action: BulkAction) -> Self {
        match action {
            BulkAction::Cancel => Self::Cancel,
            BulkAction::Retry => Self::Retry,
            BulkAction::Delete => Self::Delete,
        }
    }
}

impl From<v1::BulkTasksResponse> for BulkResult {
    fn from(result: v1::BulkTasksResponse) -> Self {
        Self {
            changed: result.changed,
            skipped: result.skipped,
            next_cursor: text(result.next_page_token),
        }
    }
}

impl From<v1::ListTasksResponse> for TaskList {
    fn from(list: v1::ListTasksResponse) -> Self {
        Self {
            tasks: list.tasks.into_iter().map(Into::into).collect(),
            next_cursor: text(list.next_page_token),
        }
    }
}

impl From<v1::Attempt> for Attempt {
    fn from(attempt: v1::Attempt) -> Self {
        let output = String::from_utf8_lossy(&attempt.output_tail).into_owned();
        Self {
            attempt: attempt.attempt,
            worker: attempt.worker,
            assigned_at: date(attempt.assigned_at),
            started_at: attempt.started_at.map(Into::into),
            ended_at: attempt.ended_at.map(Into::into),
            error: attempt.error.map(Into::into),
            output_tail: text(output),
            lease_token: attempt.lease_token,
        }
    }
}

impl From<v1::ListAttemptsResponse> for AttemptList {
    fn from(list: v1::ListAttemptsResponse) -> Self {
        Self { attempts: list.attempts.into_iter().map(Into::into).collect() }
    }
}
