//! The life of a task: every state, every action, and the table of which leads where.
//!
//! [`TRANSITIONS`] is the whole truth. What is not in it is an [`IllegalTransition`].
//!
//! | state | who moves a task out of it | what a crash leaves behind |
//! |---|---|---|
//! | `scheduled` | the clock; a client | the record with its `run_at`: the next leader sets the timer again |
//! | `pending` | the machine, when a session has room; the clock; a client | the record: the next leader queues it again |
//! | `assigned` | its worker; the session's end; the clock; a client | the record with its lease: the next leader gives the session one TTL to come back |
//! | `running` | as `assigned` | nothing: that an assigned task runs is known from its worker alone, which says so again |
//! | terminal | retention; a client (`retry`, `delete`) | the done record |

use std::fmt;

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Status {
    /// Waits for its time.
    Scheduled,
    /// Ready; waits for a worker.
    Pending,
    /// Given to a worker.
    Assigned,
    /// Given to a worker, which said that it began.
    Running,
    /// Ended well.
    Completed,
    /// Ended badly and is not tried again. Kept for inspection and retry (a dead letter).
    Failed,
    /// Stopped because a client asked.
    Cancelled,
    /// Was not started in time.
    Expired,
}

impl Status {
    /// All states, in the order of a task's life.
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

    /// Whether a worker has it.
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

    /// The state of that name.
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

/// What can happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Its time has come.
    Due,
    /// A session takes it.
    Assign,
    /// Its worker says that it began.
    Start,
    /// Its worker says that it is done.
    Complete,
    /// The attempt failed and another is allowed, later.
    BackOff,
    /// Its worker says that it is not to run yet.
    Snooze,
    /// The attempt failed and no other is allowed.
    Fail,
    /// Its worker went away and it may go to another.
    Requeue,
    /// Its worker gives it back unharmed.
    Release,
    /// A client or its worker ends it.
    Cancel,
    /// It was not started in time.
    Expire,
    /// A client makes an ended task pending again.
    Retry,
    /// A client sets another time, in the future.
    Postpone,
    /// A client changes its priority.
    Reprioritize,
    /// A client changes its definition.
    Edit,
    /// A client removes it.
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

/// Every legal transition. `Delete` leads nowhere: the task is gone.
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

/// What was asked for is not possible in the task's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {from} cannot be {}", action.verb())]
pub struct IllegalTransition {
    /// The state it is in.
    pub from: Status,
    /// What was asked for.
    pub action: Action,
}

const STATUSES: usize = Status::ALL.len();
const ACTIONS: usize = Action::Delete as usize + 1;

/// [`TRANSITIONS`] as an array, so that looking one up costs an index.
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

/// Where `action` leads from `from`; `None` where the task ceases to be.
///
/// # Errors
/// When the table has no such row.
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
