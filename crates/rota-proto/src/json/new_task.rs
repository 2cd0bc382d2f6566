//! Tasks to be created, and what becomes of them.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    scalar::{Date, Span},
    schema, strict,
    task::Jitter,
    whole,
};
use crate::v1;

/// A task to be done.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// A name of your own for the task, unique over all tasks; generated when absent.
    #[schema(schema_with = schema::task_id)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where it waits. Default: `default`.
    #[schema(schema_with = schema::queue)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Which handler runs it.
    #[schema(schema_with = schema::kind)]
    pub kind: String,
    /// Parameters: any JSON.
    #[schema(value_type = Option<serde_json::Value>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// Parameters that are not JSON, in base 64. Instead of `payload`.
    #[schema(schema_with = schema::base64)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// For people and filters: up to 32.
    #[schema(schema_with = schema::labels)]
    #[serde(
        default,
        deserialize_with = "strict::labels",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// 0 to 9, higher first. Default: 5.
    #[schema(minimum = 0, maximum = 9)]
    #[serde(
        default,
        deserialize_with = "whole::optional",
        skip_serializing_if = "Option::is_none"
    )]
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
    #[serde(
        default,
        deserialize_with = "strict::optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub retry: Option<RetryPolicyInput>,
    /// A repeat with the same key and body returns the same task. In a payload, neither white space
    /// nor the order of an object's members makes it another body.
    #[schema(schema_with = schema::idempotency_key)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// How long the finished task is kept. Default: 1d when completed, else 7d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Span>,
}

/// When to try again; what is absent has its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicyInput {
    /// Attempts before the task fails for good. Default: 25.
    #[schema(minimum = 1, maximum = 1000)]
    #[serde(
        default,
        deserialize_with = "whole::optional",
        skip_serializing_if = "Option::is_none"
    )]
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
    #[serde(
        default,
        deserialize_with = "whole::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_lost: Option<u32>,
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
    #[serde(deserialize_with = "strict::objects")]
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
    /// The limit that it exceeds, where that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<ExceededLimit>,
    /// When to try again, in seconds, where that helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// A limit on what clients send; `GET /v1/info` shows them all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExceededLimit {
    /// Its name, in the configuration too; there, times are without the `_ms`.
    #[schema(example = "payload_bytes")]
    pub name: Cow<'static, str>,
    /// Its value.
    #[schema(example = 1_048_576)]
    pub max: u64,
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
