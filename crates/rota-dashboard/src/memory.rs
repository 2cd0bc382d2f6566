//! What a node knows from one page to the next: answers that nobody should ask the leader for at every refresh, and what its
//! operator told it.

use std::sync::Arc;

use rota_proto::v1::{FailureGroup, ListFailuresResponse, Schedule};

use crate::{
    counts::Counts,
    kept::{Budget, Kept},
    pulse::Pulse,
};

/// Stands for the id of a trace in [`Options::trace_url`](crate::Options::trace_url).
pub const TRACE_ID: &str = "{trace_id}";

/// What was found in the schedules.
#[derive(Debug, Clone, Default)]
pub(crate) struct SchedulesSeen {
    /// Those that need attention.
    pub(crate) found: Vec<Schedule>,
    /// Number of the first schedules by name that were looked at, if these are not all.
    pub(crate) only: Option<usize>,
}

/// The memory of the pages of a node.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) counts: Counts,
    /// The groups of recent failures of the first page.
    pub(crate) recent_failures: Kept<Vec<FailureGroup>>,
    /// The groups of the page of failures.
    pub(crate) failures: Kept<Arc<ListFailuresResponse>>,
    /// The schedules that need attention.
    pub(crate) schedules: Kept<Arc<SchedulesSeen>>,
    pub(crate) pulse: Pulse,
    /// See [`Options::trace_url`](crate::Options::trace_url).
    pub(crate) trace_url: Option<String>,
}

impl Default for Memory {
    fn default() -> Self {
        let budget = Budget::default();
        Self {
            counts: Counts::new(budget.clone()),
            recent_failures: Kept::new(budget.clone(), 64),
            failures: Kept::new(budget.clone(), 8),
            schedules: Kept::new(budget, 64),
            pulse: Pulse::default(),
            trace_url: None,
        }
    }
}

impl Memory {
    /// The address of a trace, where the operator said where traces are.
    pub(crate) fn trace(&self, id: &str) -> Option<String> {
        // Nothing but a true id goes into an address.
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.trace_url.as_ref().filter(|_| is_id).map(|url| url.replace(TRACE_ID, id))
    }

    /// Forgets what a change may have made untrue, so that whoever made it sees it.
    pub(crate) fn forget(&self) {
        self.counts.forget();
        self.recent_failures.forget();
        self.failures.forget();
        self.schedules.forget();
    }
}
