//! JSON shapes that differ from their messages.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
#[cfg(feature = "server")]
use utoipa::ToSchema;

#[cfg(feature = "server")]
use super::schema;
use super::whole;
use crate::{Date, Reason, TimeSpan, v1};

/// Results of a batch, in the order of the request.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "server", derive(ToSchema))]
pub struct NewTaskBatchResult {
    /// One result for each task.
    pub results: Vec<BatchResult>,
}

/// The result of one item of a batch.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "server", derive(ToSchema))]
#[serde(untagged)]
pub enum BatchResult {
    /// The task was created or already existed.
    Created(v1::create_tasks_response::Created),
    /// The task was refused.
    Refused {
        /// Reason of the refusal.
        error: ItemError,
    },
}

/// The error of one item of a batch.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "server", derive(ToSchema))]
pub struct ItemError {
    /// HTTP status that a request for this item alone would get.
    pub status: u16,
    /// Stable reason, as in a problem document.
    pub reason: String,
    /// Field at fault.
    #[cfg_attr(feature = "server", schema(value_type = String, required = false))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Error message for people.
    pub message: String,
    /// Limit that was exceeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<ExceededLimit>,
    /// Time to wait before a retry in seconds, if a retry can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// A limit on requests. `GET /v1/info` shows all limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(ToSchema))]
pub struct ExceededLimit {
    /// Name of the limit, as in the configuration. Limits on times have the suffix `_ms` here.
    #[cfg_attr(feature = "server", schema(example = "payload_bytes"))]
    pub name: Cow<'static, str>,
    /// Value of the limit.
    #[cfg_attr(feature = "server", schema(example = 1_048_576))]
    pub max: u64,
}

impl From<v1::CreateTasksResponse> for NewTaskBatchResult {
    fn from(response: v1::CreateTasksResponse) -> Self {
        use v1::create_tasks_response::result::Result as Wire;
        let results = response.results.into_iter().filter_map(|item| match item.result? {
            Wire::Task(created) => Some(BatchResult::Created(created)),
            Wire::Error(error) => Some(BatchResult::Refused { error: error.into() }),
        });
        Self { results: results.collect() }
    }
}

impl From<v1::ItemError> for ItemError {
    fn from(error: v1::ItemError) -> Self {
        let v1::ItemError { code: _, message, field, reason, limit, limit_max, retry_after } =
            error;
        Self {
            status: Reason::parse(&reason).unwrap_or(Reason::Internal).status(),
            reason,
            field: (!field.is_empty()).then_some(field),
            message,
            limit: (!limit.is_empty())
                .then(|| ExceededLimit { name: limit.into(), max: limit_max }),
            retry_after: retry_after.map(whole_seconds),
        }
    }
}

/// Seconds to wait before a retry: at least one.
fn whole_seconds(span: TimeSpan) -> u64 {
    let seconds = span.duration().as_millis().div_ceil(1000);
    u64::try_from(seconds.max(1)).unwrap_or(u64::MAX)
}

/// The outcome of a bulk request.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "server", derive(ToSchema))]
pub struct BulkResult {
    /// Number of tasks that were changed.
    pub changed: u32,
    /// Number of matching tasks whose status did not allow the action, or that it had changed before.
    pub skipped: u32,
    /// Number of tasks left unchanged for another reason, such as a full queue.
    pub refused: u32,
    /// Reason of the first refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<BulkRefusal>,
    /// Cursor to continue from. Absent when no more tasks match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Number of tasks that this call compared with the filter.
    pub examined: u32,
}

/// The reason why a task was left unchanged.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "server", derive(ToSchema))]
pub struct BulkRefusal {
    /// Stable reason, as in a problem document.
    pub reason: String,
    /// Error message for people.
    pub message: String,
}

impl From<v1::BulkTasksResponse> for BulkResult {
    fn from(result: v1::BulkTasksResponse) -> Self {
        let refusal = result.refusal_reason.map(|reason| BulkRefusal {
            reason,
            message: result.refusal_message.unwrap_or_default(),
        });
        Self {
            changed: result.changed,
            skipped: result.skipped,
            refused: result.refused,
            refusal,
            next_cursor: result.next_page_token,
            examined: result.examined,
        }
    }
}

/// A report that an attempt failed.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "server", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FailRequest {
    /// Fencing token from the lease, a 64-bit integer.
    #[cfg_attr(feature = "server", schema(schema_with = schema::lease_token))]
    #[serde(deserialize_with = "whole::number")]
    pub lease_token: u64,
    /// Error message for people.
    pub error: String,
    /// True when a retry cannot fix the error. Default: false.
    #[serde(default)]
    pub permanent: bool,
    /// Time of the next attempt, instead of the backoff.
    #[serde(default)]
    pub retry_at: Option<Date>,
    /// End of the attempt's output.
    #[serde(default)]
    pub output_tail: Option<String>,
}

impl From<FailRequest> for v1::FailRequest {
    /// The message, without the task id, which is part of the path.
    fn from(request: FailRequest) -> Self {
        let reason =
            if request.permanent { v1::FailureReason::Permanent } else { v1::FailureReason::Error };
        let failed = v1::Failed {
            reason: reason.into(),
            message: request.error,
            retry_at: request.retry_at,
        };
        Self {
            id: String::new(),
            lease_token: request.lease_token,
            failed: Some(failed),
            output_tail: request.output_tail.unwrap_or_default().into(),
        }
    }
}

impl From<v1::ScheduleDefinition> for v1::PutScheduleRequest {
    /// The message, without the version, which is in a header.
    fn from(definition: v1::ScheduleDefinition) -> Self {
        Self { definition: Some(definition), expected_version: None }
    }
}
