//! Queues.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    scalar::{Date, Span},
    task::text,
};
use crate::v1;

/// A queue.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// Which.
    pub name: String,
    /// Whether none of its tasks starts.
    pub paused: bool,
    /// Tasks that wait for their time.
    pub scheduled: u64,
    /// Tasks that wait for a worker.
    pub pending: u64,
    /// Tasks that a worker has.
    pub running: u64,
    /// Completed since this leader took over.
    pub completed_total: u64,
    /// Failed since this leader took over.
    pub failed_total: u64,
    /// How long the oldest pending task has been due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_pending_age: Option<Span>,
    /// Live tasks whose records the leader cannot read: damaged, or written by a newer version. Nothing is done to
    /// them, and they are in none of the other counts.
    #[serde(default)]
    pub unreadable: u64,
}

/// A page of queues.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct QueueList {
    /// By name.
    pub queues: Vec<Queue>,
    /// When they stood so. There while the store takes no commit: they are as of the last one then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Date>,
    /// Where to go on; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl From<v1::Queue> for Queue {
    fn from(queue: v1::Queue) -> Self {
        Self {
            name: queue.name,
            paused: queue.paused,
            scheduled: queue.scheduled,
            pending: queue.pending,
            running: queue.running,
            completed_total: queue.completed_total,
            failed_total: queue.failed_total,
            oldest_pending_age: queue.oldest_pending_age.map(Into::into),
            unreadable: queue.unreadable,
        }
    }
}

impl From<v1::ListQueuesResponse> for QueueList {
    fn from(list: v1::ListQueuesResponse) -> Self {
        let as_of = list.as_of.map(Into::into);
        let next_cursor = text(list.next_page_token);
        Self { queues: list.queues.into_iter().map(Into::into).collect(), as_of, next_cursor }
    }
}
