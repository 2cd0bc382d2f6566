//! Why a request is not answered as asked: one type for both protocols, and the form of the error in each.
//!
//! `rota_proto::Reason` has the reasons with their HTTP statuses and gRPC codes.

use std::{collections::HashMap, time::Duration};

use rota_core::{Action, IllegalTransition, Refusal, Status as TaskStatus};
use rota_engine::EngineError;
pub(crate) use rota_proto::Reason;
use rota_proto::query::QueryError;
use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt};

use crate::limits::millis;

/// Header on the answer of a node that is not the leader, or no longer.
pub(crate) const LEADER_LOST: &str = "rota-leader-lost";
/// Nothing was changed: every request can be retried at another node.
pub(crate) const BEFORE: &str = "before";
/// Something may have been changed: only reads can be retried at another node.
pub(crate) const DURING_CALL: &str = "amidst";

/// An error of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Path of the field, such as `tasks[3].retry.initial`.
    pub(crate) field: String,
    /// Error message.
    pub(crate) message: String,
    /// Limit that the field exceeds, if it exceeds one.
    pub(crate) limit: Option<LimitName>,
}

/// A limit on requests, by its name in `GET /v1/info`. It has the same name in the configuration, without the
/// suffix `_ms` of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitName {
    pub(crate) name: &'static str,
    pub(crate) max: u64,
}

/// The value of [`LEADER_LOST`], if the node is not the leader.
pub(crate) fn leader_lost(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::NotLeader => Some(BEFORE),
        Reason::LeadershipLost => Some(DURING_CALL),
        _ => None,
    }
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
    pub(crate) violations: Vec<Violation>,
    pub(crate) retry_after: Option<Duration>,
}

/// Words with which a message continues the name of its field, as in "priority is 12".
const PREDICATES: [&str; 9] =
    ["is", "has", "must", "cannot", "can", "needs", "names", "does", "contains"];

/// A field and its message as a sentence. A message that is a sentence of its own stands behind a colon.
fn about(field: &str, message: &str) -> String {
    let first = message.split([' ', ',', ';']).next().unwrap_or_default();
    let link = if PREDICATES.contains(&first) { "" } else { ":" };
    format!("{field}{link} {message}")
}

impl Failure {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), violations: Vec::new(), retry_after: None }
    }

    /// A failure of fields, at least one.
    pub(crate) fn invalid(violations: Vec<Violation>) -> Self {
        let shown: Vec<String> =
            violations.iter().take(3).map(|v| about(&v.field, &v.message)).collect();
        let more = violations.len().saturating_sub(shown.len());
        let mut detail = shown.join("; ");
        if more > 0 {
            detail = format!("{detail}; and {more} more");
        }
        Self { violations, ..Self::new(Reason::Invalid, detail) }
    }

    /// A failure of one field.
    pub(crate) fn field(field: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![violation(field, message)])
    }

    /// A failure with its own reason, because a field exceeds a limit.
    fn beyond(reason: Reason, field: &str, message: String, limit: LimitName) -> Self {
        let detail = format!("{} (limit {})", about(field, &message), limit.name);
        let violation = Violation { field: field.to_owned(), message, limit: Some(limit) };
        Self { violations: vec![violation], ..Self::new(reason, detail) }
    }

    /// The body is too large.
    pub(crate) fn too_large(max: usize) -> Self {
        let limit = LimitName { name: "request_bytes", max: max as u64 };
        Self::beyond(Reason::TooLarge, "body", format!("is larger than {max} bytes"), limit)
    }

    /// The body took too long.
    pub(crate) fn body_timeout(within: Duration) -> Self {
        let limit = LimitName { name: "body_timeout_ms", max: millis(within) };
        let message = format!("did not arrive within {within:?}");
        Self::beyond(Reason::RequestTimeout, "body", message, limit)
    }

    /// The headers took too long.
    pub(crate) fn header_timeout(within: Duration) -> Self {
        let limit = LimitName { name: "header_timeout_ms", max: millis(within) };
        let message = format!("did not arrive within {within:?}");
        Self::beyond(Reason::RequestTimeout, "head", message, limit)
    }

    /// The first exceeded limit.
    pub(crate) fn limit(&self) -> Option<LimitName> {
        self.violations.iter().find_map(|violation| violation.limit)
    }
}

impl Failure {
    /// Time to wait before a retry, in whole seconds.
    pub(crate) fn retry_seconds(&self) -> Option<u64> {
        let millis = self.retry_after?.as_millis();
        u64::try_from(millis.div_ceil(1000).max(1)).ok()
    }
}

fn violation(field: &str, message: impl Into<String>) -> Violation {
    Violation { field: field.to_owned(), message: message.into(), limit: None }
}

/// What to do instead of an action that the status does not allow.
fn instead(illegal: IllegalTransition) -> &'static str {
    use TaskStatus::{Cancelled, Completed, Expired, Failed};
    match (illegal.action, illegal.from) {
        (Action::Cancel, Failed | Cancelled | Expired) => "retry or delete it",
        (Action::Cancel, _) => "read its result or delete it",
        (_, Completed) => "create a new task",
        (_, Failed | Cancelled | Expired) => "retry it first",
        (Action::Retry, _) => "wait until it has ended, or cancel it first",
        (Action::Delete, _) => "cancel it first",
        _ => "cancel it first, and then retry it",
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::field(&error.parameter, error.message)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let hint = Some(Duration::from_secs(1));
        match refusal {
            Refusal::UnknownTask => Self::new(Reason::UnknownTask, detail),
            Refusal::Illegal(illegal) => {
                Self::new(Reason::IllegalState, format!("{detail}; {}", instead(illegal)))
            }
            Refusal::Conflict { field, .. } => Self {
                violations: vec![violation(field, &detail)],
                ..Self::new(Reason::Conflict, detail)
            },
            Refusal::QueueFull { limit, .. } => Self {
                violations: vec![Violation {
                    limit: Some(LimitName { name: "queue_length", max: limit }),
                    ..violation("queue", &detail)
                }],
                retry_after: hint,
                ..Self::new(Reason::QueueFull, detail)
            },
            Refusal::TooManyNames { what, limit } => Self {
                violations: vec![Violation {
                    limit: Some(LimitName { name: what, max: limit }),
                    ..violation(what.trim_end_matches('s'), &detail)
                }],
                retry_after: hint,
                ..Self::new(Reason::TooMany, detail)
            },
            Refusal::StaleLease { .. } => Self {
                violations: vec![violation("lease_token", &detail)],
                ..Self::new(Reason::StaleLease, detail)
            },
            Refusal::VersionConflict { .. } => Self::new(Reason::VersionConflict, detail),
            Refusal::ExpiresBeforeDue { .. } => Self::field(
                "expires_at",
                "must be after the time at which the task is due; otherwise it expires before it can run",
            ),
            Refusal::DueAfterExpiry { field, .. } => Self::field(
                field,
                "must be before expires_at; otherwise the task expires before it can run",
            ),
            Refusal::UnknownSchedule => Self::new(Reason::UnknownSchedule, detail),
            Refusal::NoSuchCalendar => Self::new(Reason::UnknownCalendar, detail),
            Refusal::ScheduleVersion { wanted, version } => {
                let detail = match (wanted, version) {
                    (_, 0) => "it does not exist".to_owned(),
                    (0, _) => format!("it exists already; its version is {version}"),
                    _ => detail,
                };
                Self::new(Reason::VersionConflict, detail)
            }
            Refusal::UnknownCalendar { calendar } => Self::field(
                "exclude.calendars",
                format!("names the calendar {calendar}, which does not exist; create it first"),
            ),
            Refusal::CalendarInUse { .. } => Self::new(Reason::CalendarInUse, detail),
            Refusal::BackfillUnderWay => Self::new(Reason::BackfillUnderWay, detail),
            Refusal::NoBackfill => Self::new(Reason::NoBackfill, detail),
            Refusal::NoSuchTick { .. } => Self {
                violations: vec![violation("nominal_time", &detail)],
                ..Self::new(Reason::NoSuchTick, detail)
            },
            Refusal::CannotTrigger { .. } => Self::new(Reason::CannotTrigger, detail),
            Refusal::FeatureLevel { .. } => Self {
                // The leader raises the level a moment after all nodes have this version.
                retry_after: Some(Duration::from_secs(2)),
                ..Self::new(Reason::Unavailable, detail)
            },
            Refusal::UnknownSession => Self::new(Reason::UnknownSession, detail),
            Refusal::ForeignSession => Self::new(Reason::ForeignSession, detail),
            Refusal::TooLarge { .. } => Self::new(Reason::TooLarge, detail),
            Refusal::Unreadable { .. } => Self::new(Reason::Unreadable, detail),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Refused(refusal) => refusal.into(),
            EngineError::Unavailable { reason, retry_after } => {
                Self { retry_after: Some(retry_after), ..Self::new(Reason::Unavailable, reason) }
            }
            EngineError::OutcomeUnknown(_) => Self::new(Reason::OutcomeUnknown, error.to_string()),
            EngineError::Overloaded { reason, retry_after } => {
                Self { retry_after: Some(retry_after), ..Self::new(Reason::Overloaded, reason) }
            }
            EngineError::StoreFull(reason) => Self {
                retry_after: Some(Duration::from_secs(30)),
                ..Self::new(Reason::StoreFull, reason)
            },
            EngineError::Store(error) => {
                tracing::warn!(%error, "cannot read from the store");
                Self {
                    retry_after: Some(Duration::from_secs(1)),
                    ..Self::new(Reason::Unavailable, "the store did not answer")
                }
            }
            EngineError::LeadershipLost => Self {
                retry_after: Some(Duration::from_secs(1)),
                ..Self::new(Reason::LeadershipLost, error.to_string())
            },
            EngineError::NotLeader => Self {
                retry_after: Some(Duration::from_secs(1)),
                ..Self::new(Reason::NotLeader, error.to_string())
            },
            EngineError::NoSuccessor { .. } => Self::field("to", error.to_string()),
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let reason = failure.reason;
        let mut details = ErrorDetails::new();
        let limit = failure.limit().map(|LimitName { name, max }| {
            [("limit".to_owned(), name.to_owned()), ("max".to_owned(), max.to_string())]
        });
        details.set_error_info(
            reason.as_str(),
            "rota",
            limit.into_iter().flatten().collect::<HashMap<_, _>>(),
        );
        for Violation { field, message, limit } in &failure.violations {
            let named = limit.map(|limit| format!(" (limit {})", limit.name)).unwrap_or_default();
            details.add_bad_request_violation(field, format!("{message}{named}"));
        }
        if let Some(after) = failure.retry_after {
            details.set_retry_info(Some(after));
        }
        let mut status =
            Self::with_error_details(Code::from(reason.code()), failure.detail, details);
        if let Some(lost) = leader_lost(reason) {
            status.metadata_mut().insert(LEADER_LOST, MetadataValue::from_static(lost));
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use rota_core::{LeaseToken, Name, TaskId};
    use rota_store::StoreError;

    use super::*;

    const HINT: Option<u64> = Some(1);

    #[test]
    fn a_field_and_its_message_are_a_sentence() {
        for (field, message, expected) in [
            ("priority", "is 12; it must be from 0 to 9", "priority is 12; it must be from 0 to 9"),
            ("time_zone", "unknown time zone \"B\"", "time_zone: unknown time zone \"B\""),
            ("end", "\"x\" is not a date", "end: \"x\" is not a date"),
        ] {
            assert_eq!(about(field, message), expected);
            assert_eq!(Failure::field(field, message).detail, expected);
        }
    }

    /// What is wrong; its reason, HTTP status, gRPC code, hint and field.
    type Row<T> = (T, &'static str, u16, Code, Option<u64>, Option<&'static str>);

    fn refusals() -> Vec<Row<Refusal>> {
        let illegal = IllegalTransition { from: TaskStatus::Running, action: Action::Retry };
        let task = TaskId::from_u64(1).unwrap();
        let queue = Name::new("q").unwrap();
        vec![
            (Refusal::UnknownTask, "unknown_task", 404, Code::NotFound, None, None),
            (
                Refusal::unreadable_live(task),
                "unreadable",
                409,
                Code::FailedPrecondition,
                None,
                None,
            ),
            (illegal.into(), "illegal_state", 409, Code::FailedPrecondition, None, None),
            (
                Refusal::Conflict { field: "idempotency_key", task },
                "conflict",
                409,
                Code::AlreadyExists,
                None,
                Some("idempotency_key"),
            ),
            (
                Refusal::QueueFull { queue, limit: 7 },
                "queue_full",
                429,
                Code::ResourceExhausted,
                HINT,
                Some("queue"),
            ),
            (
                Refusal::TooManyNames { what: "kinds", limit: 7 },
                "too_many",
                429,
                Code::ResourceExhausted,
                HINT,
                Some("kind"),
            ),
            (
                Refusal::StaleLease { token: LeaseToken(3) },
                "stale_lease",
                409,
                Code::FailedPrecondition,
                None,
                Some("lease_token"),
            ),
            (
                Refusal::DueAfterExpiry { field: "delay", expires_at: rota_core::WallTime(1) },
                "invalid",
                400,
                Code::InvalidArgument,
                None,
                Some("delay"),
            ),
            (
                Refusal::ExpiresBeforeDue { expires_at: rota_core::WallTime(1) },
                "invalid",
                400,
                Code::InvalidArgument,
                None,
                Some("expires_at"),
            ),
            (
                Refusal::TooLarge { what: "a task", bytes: 8, limit: 7 },
                "too_large",
                413,
                Code::InvalidArgument,
                None,
                None,
            ),
            (Refusal::UnknownSchedule, "unknown_schedule", 404, Code::NotFound, None, None),
            (Refusal::NoSuchCalendar, "unknown_calendar", 404, Code::NotFound, None, None),
            (
                Refusal::ScheduleVersion { wanted: 2, version: 3 },
                "version_conflict",
                412,
                Code::FailedPrecondition,
                None,
                None,
            ),
            (
                Refusal::UnknownCalendar { calendar: "c".into() },
                "invalid",
                400,
                Code::InvalidArgument,
                None,
                Some("exclude.calendars"),
            ),
            (
                Refusal::CalendarInUse { schedule: Name::new("s").unwrap() },
                "calendar_in_use",
                409,
                Code::FailedPrecondition,
                None,
                None,
            ),
            (
                Refusal::BackfillUnderWay,
                "backfill_under_way",
                409,
                Code::FailedPrecondition,
                None,
                None,
            ),
            (Refusal::NoBackfill, "no_backfill", 409, Code::FailedPrecondition, None, None),
            (
                Refusal::NoSuchTick { nominal: rota_core::WallTime(1) },
                "no_such_tick",
                409,
                Code::FailedPrecondition,
                None,
                Some("nominal_time"),
            ),
            (
                Refusal::CannotTrigger { reason: rota_core::RefusedReason::Conflict },
                "cannot_trigger",
                409,
                Code::FailedPrecondition,
                None,
                None,
            ),
            (
                Refusal::FeatureLevel { needed: 2, level: 1 },
                "unavailable",
                503,
                Code::Unavailable,
                Some(2),
                None,
            ),
            (Refusal::UnknownSession, "unknown_session", 404, Code::NotFound, None, None),
            (Refusal::ForeignSession, "foreign_session", 409, Code::FailedPrecondition, None, None),
        ]
    }

    fn rows() -> Vec<Row<EngineError>> {
        let after = Duration::from_millis(2500);
        let reason = "why".to_owned();
        let refused = refusals().into_iter();
        let refused = refused.map(|row| (row.0.into(), row.1, row.2, row.3, row.4, row.5));
        refused
            .chain([
                (
                    EngineError::Unavailable { reason: reason.clone(), retry_after: after },
                    "unavailable",
                    503,
                    Code::Unavailable,
                    Some(3),
                    None,
                ),
                (
                    EngineError::OutcomeUnknown("why"),
                    "outcome_unknown",
                    503,
                    Code::Unavailable,
                    None,
                    None,
                ),
                (
                    EngineError::Overloaded { reason: reason.clone(), retry_after: after },
                    "overloaded",
                    429,
                    Code::ResourceExhausted,
                    Some(3),
                    None,
                ),
                (
                    EngineError::StoreFull(reason),
                    "store_full",
                    507,
                    Code::ResourceExhausted,
                    Some(30),
                    None,
                ),
                (
                    StoreError::Corrupt("secret path".to_owned()).into(),
                    "unavailable",
                    503,
                    Code::Unavailable,
                    HINT,
                    None,
                ),
            ])
            .collect()
    }

    #[test]
    fn every_error_of_the_engine_has_a_form_in_both_protocols() {
        for (error, reason, http, code, hint, field) in rows() {
            let failure = Failure::from(error);
            let found = failure.reason;
            assert_eq!((found.as_str(), found.status()), (reason, http), "{failure:?}");
            assert!(!failure.detail.contains("secret"), "{failure:?}");
            let named = failure.violations.first().map(|wrong| wrong.field.as_str());
            assert_eq!(named, field, "{reason}");
            assert_eq!(failure.retry_seconds(), hint, "{reason}");

            let status = Status::from(failure);
            let details = status.get_error_details();
            assert_eq!(status.code(), code, "{reason}");
            assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(reason));
            assert_eq!(details.error_info().map(|info| info.domain.as_str()), Some("rota"));
            assert_eq!(details.retry_info().is_some(), hint.is_some(), "{reason}");
            let named = details.bad_request().map(|bad| bad.field_violations[0].field.as_str());
            assert_eq!(named, field, "{reason}");
        }
    }
}
