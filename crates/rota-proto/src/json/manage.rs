//! What can be done to tasks that exist: one by one, and many by a filter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    scalar::{Date, Span},
    schema, strict,
    task::{TaskStatus, text},
    whole,
};
use crate::v1;

/// Which tasks are meant.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskFilter {
    /// In this queue.
    #[schema(schema_with = schema::some_name)]
    #[serde(default)]
    pub queue: Option<String>,
    /// In one of these states.
    #[schema(min_items = 1)]
    #[serde(
        default,
        rename = "status",
        deserialize_with = "strict::some",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub statuses: Vec<TaskStatus>,
    /// Of this kind.
    #[schema(schema_with = schema::some_name)]
    #[serde(default)]
    pub kind: Option<String>,
    /// With all of these labels.
    #[schema(schema_with = schema::labels)]
    #[serde(default, deserialize_with = "strict::labels")]
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
    #[serde(deserialize_with = "strict::object")]
    pub filter: TaskFilter,
    /// All tasks are meant: a filter that selects every task needs it, and no other takes it.
    #[serde(default)]
    pub all: bool,
    /// To how many at most. Default: 1000.
    #[schema(minimum = 1, maximum = 1000)]
    #[serde(default, deserialize_with = "whole::optional")]
    pub limit: Option<u32>,
    /// Where to go on, from the last answer.
    #[schema(schema_with = schema::cursor)]
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
    /// Tasks left unchanged for another reason, such as a full queue.
    #[serde(default)]
    pub refused: u32,
    /// Why the first of these was refused; absent when none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<BulkRefusal>,
    /// Where to go on; absent when the filter selects no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Why a task was left unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkRefusal {
    /// A stable word, as in `reason` of an error.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
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
    #[serde(deserialize_with = "whole::number")]
    pub priority: u32,
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
            refused: result.refused,
            refusal: text(result.refusal_reason)
                .map(|reason| BulkRefusal { reason, message: result.refusal_message }),
            next_cursor: text(result.next_page_token),
        }
    }
}
