//! Tasks as they are, and the history of their attempts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    payload::{base64_unless_text, json_or_base64},
    scalar::{Date, Span},
};
use crate::v1;

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
    /// One of a newer server, which this version does not know. Nothing can be asked for by it.
    #[serde(skip_deserializing)]
    #[schema(ignore)]
    Unknown,
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
    #[schema(value_type = Option<serde_json::Value>)]
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
    /// Its workers have room and have not asked for tasks.
    NotAsked,
    /// One of a newer server, which this version does not know.
    #[serde(skip_deserializing)]
    #[schema(ignore)]
    Unknown,
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
    /// The end of what it printed, as text: bytes that are not UTF-8 are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tail: Option<String>,
    /// The same byte for byte in base64. Only if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tail_base64: Option<String>,
    /// Its lease.
    pub lease_token: u64,
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
            v1::TaskStatus::Unspecified => Self::Unknown,
            v1::TaskStatus::Scheduled => Self::Scheduled,
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
            TaskStatus::Unknown => Self::Unspecified,
        }
    }
}

impl From<v1::TaskError> for TaskError {
    fn from(error: v1::TaskError) -> Self {
        let reason = match error.reason() {
            v1::FailureReason::Unspecified => "unknown",
            v1::FailureReason::Error => "error",
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
            Reason::Unspecified => WaitingReason::Unknown,
            Reason::DueLater => WaitingReason::DueLater,
            Reason::BackingOff => WaitingReason::BackingOff,
            Reason::QueuePaused => WaitingReason::QueuePaused,
            Reason::NoWorker => WaitingReason::NoWorker,
            Reason::SlotsBusy => WaitingReason::SlotsBusy,
            Reason::NotAsked => WaitingReason::NotAsked,
        };
        Self {
            reason,
            until: waiting.until.map(Into::into),
            attempt: (reason == WaitingReason::BackingOff).then_some(waiting.attempt),
            ahead: matches!(reason, WaitingReason::SlotsBusy | WaitingReason::NotAsked)
                .then_some(waiting.ahead),
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
            output_tail_base64: base64_unless_text(&attempt.output_tail),
            lease_token: attempt.lease_token,
        }
    }
}

impl From<v1::ListAttemptsResponse> for AttemptList {
    fn from(list: v1::ListAttemptsResponse) -> Self {
        Self { attempts: list.attempts.into_iter().map(Into::into).collect() }
    }
}

/// A text that is absent when it is empty.
pub(super) fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_server_says_is_shown_as_unknown() {
        let newer = v1::Task {
            status: 99,
            error: Some(v1::TaskError { reason: 99, message: "m".to_owned() }),
            waiting: Some(v1::Waiting { reason: 99, ..v1::Waiting::default() }),
            ..v1::Task::default()
        };
        let shown = serde_json::to_value(Task::from(newer)).expect("JSON");
        assert_eq!(
            (&shown["status"], &shown["error"]["reason"], &shown["waiting"]["reason"]),
            (&"unknown".into(), &"unknown".into(), &"unknown".into())
        );
        let asked = serde_json::from_value::<TaskStatus>("unknown".into());
        let refused = asked.expect_err("nobody can ask for it").to_string();
        assert!(refused.contains("`expired`"), "{refused}");
    }
}
