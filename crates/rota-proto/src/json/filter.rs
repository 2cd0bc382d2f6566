//! Filters of tasks. In JSON, a time range is two members.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
#[cfg(feature = "server")]
use utoipa::ToSchema;

#[cfg(feature = "server")]
use super::schema;
use super::strict;
use crate::{Date, v1};

/// A filter that selects tasks.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "server", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TaskFilter {
    /// Queue of the tasks.
    #[cfg_attr(feature = "server", schema(schema_with = schema::some_name))]
    #[serde(default)]
    pub queue: Option<String>,
    /// Statuses of the tasks. At least one, if present.
    #[cfg_attr(feature = "server", schema(min_items = 1))]
    #[serde(default, rename = "status", deserialize_with = "strict::some")]
    pub statuses: Vec<v1::TaskStatus>,
    /// Kind of the tasks.
    #[cfg_attr(feature = "server", schema(schema_with = schema::some_name))]
    #[serde(default)]
    pub kind: Option<String>,
    /// Labels of the tasks. All must match.
    #[cfg_attr(feature = "server", schema(schema_with = schema::labels))]
    #[serde(default, deserialize_with = "strict::labels")]
    pub labels: BTreeMap<String, String>,
    /// Earliest time of creation, inclusive.
    #[serde(default)]
    pub created_from: Option<Date>,
    /// Latest time of creation, exclusive.
    #[serde(default)]
    pub created_to: Option<Date>,
    /// Earliest due time, inclusive.
    #[serde(default)]
    pub run_at_from: Option<Date>,
    /// Latest due time, exclusive.
    #[serde(default)]
    pub run_at_to: Option<Date>,
    /// Name of the schedule that created the tasks.
    #[cfg_attr(feature = "server", schema(schema_with = schema::some_name))]
    #[serde(default)]
    pub schedule: Option<String>,
    /// Fingerprint of the error of the tasks, as in a list of failures.
    #[cfg_attr(
        feature = "server",
        schema(pattern = "^[0-9a-f]{16}$", min_length = 16, max_length = 16)
    )]
    #[serde(default)]
    pub error_fingerprint: Option<String>,
    /// Text in an id, the last error, the payload, the description or the value of a label. Ignores the case of
    /// ASCII letters. If the text is the whole id of a task, the first page has only that task.
    #[cfg_attr(
        feature = "server",
        schema(min_length = 1, max_length = 256, pattern = r"^[^\u0000]+$")
    )]
    #[serde(default)]
    pub search: Option<String>,
    /// Name of the worker of the current or last attempt.
    #[cfg_attr(feature = "server", schema(schema_with = schema::some_name))]
    #[serde(default)]
    pub worker: Option<String>,
    /// Priorities of the tasks. At least one, if present.
    #[cfg_attr(feature = "server", schema(schema_with = schema::priorities))]
    #[serde(default, rename = "priority", deserialize_with = "strict::some")]
    pub priorities: Vec<u32>,
}

impl From<TaskFilter> for v1::TaskFilter {
    fn from(filter: TaskFilter) -> Self {
        Self {
            queue: filter.queue,
            statuses: filter.statuses.into_iter().map(Into::into).collect(),
            kind: filter.kind,
            labels: filter.labels,
            created: Some(v1::TimeRange { from: filter.created_from, to: filter.created_to }),
            run_at: Some(v1::TimeRange { from: filter.run_at_from, to: filter.run_at_to }),
            schedule: filter.schedule,
            error_fingerprint: filter.error_fingerprint,
            search: filter.search,
            worker: filter.worker,
            priorities: filter.priorities,
        }
    }
}

pub(crate) fn read<'de, D: Deserializer<'de>>(de: D) -> Result<Option<v1::TaskFilter>, D::Error> {
    strict::object::<TaskFilter, D>(de).map(|filter| Some(filter.into()))
}
