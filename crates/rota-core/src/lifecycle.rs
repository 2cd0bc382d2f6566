//! The life of a task: all statuses, all actions, and the table of transitions.
//!
//! Every transition that is not in [`TRANSITIONS`] is an [`IllegalTransition`].
//!
//! | status | what moves a task out of it | after a crash |
//! |---|---|---|
//! | `scheduled` | the clock; a client | the record has its `run_at`, and the next leader sets the timer
//! again |
//! | `pending` | the machine, when a session has a free slot; the clock; a client | the next leader queues it
//! again |
//! | `assigned` | its worker; the end of the session; the clock; a client | the record has the lease, and the
//! next leader gives the session one TTL to reconnect |
//! | `running` | as `assigned` | the record still says `assigned`; only the worker knows that it runs, and
//! reports it again |
//! | terminal | retention; a client (`retry`, `delete`) | the record of the ended task |

use std::fmt;

/// The status of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Status {
    /// Waits for its due time.
    Scheduled,
    /// Due, and waits for a worker.
    Pending,
    /// Leased to a worker.
    Assigned,
    /// Leased to a worker, which has reported the start.
    Running,
    /// The handler succeeded.
    Completed,
    /// Failed for good. Kept for inspection and manual retry (a dead letter).
    Failed,
    /// Cancelled by a client.
    Cancelled,
    /// Not started by its start deadline.
    Expired,
}

impl Status {
    /// All statuses, in the order of a task's life.
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Pending,
        Self::Assigned,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Whether the task has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Expired)
    }

    /// Whether a worker holds the task.
    #[must_use]
    pub fn is_leased(self) -> bool {
        matches!(self, Self::Assigned | Self::Running)
    }

    /// The word used on the wire, in the store and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The status of this name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An action on a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The task becomes due.
    Due,
    /// The task is leased to a session.
    Assign,
    /// Its worker reports the start.
    Start,
    /// Its worker reports success.
    Complete,
    /// The attempt failed, and another one follows after a backoff.
    BackOff,
    /// Its handler puts it off.
    Snooze,
    /// The attempt failed, and no further one is allowed.
    Fail,
    /// Its worker was lost, and it can go to another.
    Requeue,
    /// Its worker returns it unprocessed.
    Release,
    /// A client, or its worker after a request to cancel, ends it.
    Cancel,
    /// It was not started in time.
    Expire,
    /// A client runs an ended task again.
    Retry,
    /// A client sets another due time, in the future.
    Postpone,
    /// A client changes its priority.
    Reprioritize,
    /// A client changes its definition.
    Edit,
    /// A client deletes it.
    Delete,
}

impl Action {
    /// The verb used in errors.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Due => "made due",
            Self::Assign => "assigned",
            Self::Start => "started",
            Self::Complete => "completed",
            Self::BackOff | Self::Fail => "failed",
            Self::Snooze => "snoozed",
            Self::Requeue => "requeued",
            Self::Release => "released",
            Self::Cancel => "cancelled",
            Self::Expire => "expired",
            Self::Retry => "retried",
            Self::Postpone => "rescheduled",
            Self::Reprioritize => "given another priority",
            Self::Edit => "changed",
            Self::Delete => "deleted",
        }
    }
}

/// All legal transitions. After `Delete`, the task no longer exists.
pub const TRANSITIONS: &[(Status, Action, Option<Status>)] = {
    use Action as A;
    use Status as S;
    &[
        (S::Scheduled, A::Due, Some(S::Pending)),
        (S::Scheduled, A::Cancel, Some(S::Cancelled)),
        (S::Scheduled, A::Expire, Some(S::Expired)),
        (S::Scheduled, A::Postpone, Some(S::Scheduled)),
        (S::Scheduled, A::Reprioritize, Some(S::Scheduled)),
        (S::Scheduled, A::Edit, Some(S::Scheduled)),
        (S::Pending, A::Edit, Some(S::Pending)),
        (S::Pending, A::Assign, Some(S::Assigned)),
        (S::Pending, A::Cancel, Some(S::Cancelled)),
        (S::Pending, A::Expire, Some(S::Expired)),
        (S::Pending, A::Postpone, Some(S::Scheduled)),
        (S::Pending, A::Reprioritize, Some(S::Pending)),
        (S::Assigned, A::Start, Some(S::Running)),
        (S::Assigned, A::Complete, Some(S::Completed)),
        (S::Assigned, A::BackOff, Some(S::Scheduled)),
        (S::Assigned, A::Snooze, Some(S::Scheduled)),
        (S::Assigned, A::Fail, Some(S::Failed)),
        (S::Assigned, A::Requeue, Some(S::Pending)),
        (S::Assigned, A::Release, Some(S::Pending)),
        (S::Assigned, A::Cancel, Some(S::Cancelled)),
        (S::Running, A::Complete, Some(S::Completed)),
        (S::Running, A::BackOff, Some(S::Scheduled)),
        (S::Running, A::Snooze, Some(S::Scheduled)),
        (S::Running, A::Fail, Some(S::Failed)),
        (S::Running, A::Requeue, Some(S::Pending)),
        (S::Running, A::Release, Some(S::Pending)),
        (S::Running, A::Cancel, Some(S::Cancelled)),
        (S::Completed, A::Delete, None),
        (S::Failed, A::Retry, Some(S::Pending)),
        (S::Failed, A::Delete, None),
        (S::Cancelled, A::Retry, Some(S::Pending)),
        (S::Cancelled, A::Delete, None),
        (S::Expired, A::Retry, Some(S::Pending)),
        (S::Expired, A::Delete, None),
    ]
};

/// The status of the task does not allow the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {from} cannot be {}", action.verb())]
pub struct IllegalTransition {
    /// The current status.
    pub from: Status,
    /// The refused action.
    pub action: Action,
}

const STATUSES: usize = Status::ALL.len();
const ACTIONS: usize = Action::Delete as usize + 1;

/// [`TRANSITIONS`] as an array, for fast lookup.
const LOOKUP: [[Option<Option<Status>>; ACTIONS]; STATUSES] = {
    let mut lookup = [[None; ACTIONS]; STATUSES];
    let mut row = 0;
    while row < TRANSITIONS.len() {
        let (from, action, to) = TRANSITIONS[row];
        lookup[from as usize][action as usize] = Some(to);
        row += 1;
    }
    lookup
};

/// The status after `action` from `from`. `None` if the task is deleted.
///
/// # Errors
/// When the table has no such transition.
pub fn transition(from: Status, action: Action) -> Result<Option<Status>, IllegalTransition> {
    LOOKUP[from as usize][action as usize].ok_or(IllegalTransition { from, action })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_says_what_the_table_says() {
        let mut legal = 0;
        for from in Status::ALL {
            for row in TRANSITIONS.iter().filter(|row| row.0 == from) {
                assert_eq!(transition(from, row.1), Ok(row.2));
                legal += 1;
            }
        }
        assert_eq!(legal, TRANSITIONS.len());
        assert_eq!(
            transition(Status::Completed, Action::Retry).unwrap_err().to_string(),
            "a task that is completed cannot be retried"
        );
        assert!(transition(Status::Running, Action::Delete).is_err());
    }

    #[test]
    fn every_state_can_be_left_and_only_a_lease_completes() {
        for status in Status::ALL {
            assert!(TRANSITIONS.iter().any(|row| row.0 == status), "{status} is a trap");
            assert_eq!(transition(status, Action::Complete).is_ok(), status.is_leased());
            assert_eq!(transition(status, Action::Delete).is_ok(), status.is_terminal());
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
    }
}
