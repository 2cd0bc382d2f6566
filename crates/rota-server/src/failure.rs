//! Why a request is not answered as asked: one type for both protocols, and how each dresses it.
//!
//! | reason | HTTP | gRPC |
//! |---|---|---|
//! | `invalid` | 400 | `INVALID_ARGUMENT` |
//! | `unauthenticated` | 401 | `UNAUTHENTICATED` |
//! | `forbidden` | 403 | `PERMISSION_DENIED` |
//! | `not_found`, `unknown_task`, `unknown_session`, `unknown_queue`, `unknown_worker` | 404 | `NOT_FOUND` |
//! | `method_not_allowed` | 405 | `UNIMPLEMENTED` |
//! | `request_timeout` | 408 | `DEADLINE_EXCEEDED` |
//! | `conflict` | 409 | `ALREADY_EXISTS` |
//! | `illegal_state`, `stale_lease`, `foreign_session` | 409 | `FAILED_PRECONDITION` |
//! | `too_large` | 413 | `INVALID_ARGUMENT` |
//! | `unsupported_media_type` | 415 | `INVALID_ARGUMENT` |
//! | `queue_full`, `too_many`, `overloaded` | 429 | `RESOURCE_EXHAUSTED` |
//! | `internal` | 500 | `INTERNAL` |
//! | `unavailable` | 503 | `UNAVAILABLE` |
//! | `store_full` | 507 | `RESOURCE_EXHAUSTED` |

use std::time::Duration;

use rota_core::Refusal;
use rota_engine::EngineError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Something wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The field's path, such as `tasks[3].retry.initial`.
    pub(crate) field: String,
    /// What is wrong, naming the limit where there is one.
    pub(crate) message: String,
}

/// The stable word for a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Invalid,
    Unauthenticated,
    Forbidden,
    NotFound,
    UnknownTask,
    UnknownSession,
    UnknownQueue,
    UnknownWorker,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    IllegalState,
    StaleLease,
    ForeignSession,
    TooLarge,
    UnsupportedMediaType,
    QueueFull,
    TooMany,
    Overloaded,
    Internal,
    Unavailable,
    StoreFull,
}

impl Reason {
    /// The word, the HTTP status, its title, the gRPC code.
    pub(crate) fn dress(self) -> (&'static str, u16, &'static str, Code) {
        match self {
            Self::Invalid => ("invalid", 400, "The request is not valid", Code::InvalidArgument),
            Self::Unauthenticated => {
                ("unauthenticated", 401, "Authentication is needed", Code::Unauthenticated)
            }
            Self::Forbidden => ("forbidden", 403, "Not allowed", Code::PermissionDenied),
            Self::NotFound => ("not_found", 404, "Not found", Code::NotFound),
            Self::UnknownTask => ("unknown_task", 404, "No such task", Code::NotFound),
            Self::UnknownSession => ("unknown_session", 404, "No such session", Code::NotFound),
            Self::UnknownQueue => ("unknown_queue", 404, "No such queue", Code::NotFound),
            Self::UnknownWorker => ("unknown_worker", 404, "No such worker", Code::NotFound),
            Self::MethodNotAllowed => {
                ("method_not_allowed", 405, "Method not allowed", Code::Unimplemented)
            }
            Self::RequestTimeout => {
                ("request_timeout", 408, "The request took too long", Code::DeadlineExceeded)
            }
            Self::Conflict => ("conflict", 409, "It exists with another body", Code::AlreadyExists),
            Self::IllegalState => (
                "illegal_state",
                409,
                "The task's state does not allow it",
                Code::FailedPrecondition,
            ),
            Self::StaleLease => {
                ("stale_lease", 409, "The lease is no longer valid", Code::FailedPrecondition)
            }
            Self::ForeignSession => (
                "foreign_session",
                409,
                "The session is another worker's",
                Code::FailedPrecondition,
            ),
            Self::TooLarge => ("too_large", 413, "The request is too large", Code::InvalidArgument),
            Self::UnsupportedMediaType => {
                ("unsupported_media_type", 415, "The body must be JSON", Code::InvalidArgument)
            }
            Self::QueueFull => ("queue_full", 429, "The queue is full", Code::ResourceExhausted),
            Self::TooMany => ("too_many", 429, "Too many of these", Code::ResourceExhausted),
            Self::Overloaded => ("overloaded", 429, "Too much at once", Code::ResourceExhausted),
            Self::Internal => ("internal", 500, "Internal error", Code::Internal),
            Self::Unavailable => ("unavailable", 503, "Not available now", Code::Unavailable),
            Self::StoreFull => ("store_full", 507, "The store is full", Code::ResourceExhausted),
        }
    }
}

/// Why a request is not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
    pub(crate) violations: Vec<Violation>,
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), violations: Vec::new(), retry_after: None }
    }

    /// Fields that are wrong; at least one.
    pub(crate) fn invalid(violations: Vec<Violation>) -> Self {
        let shown: Vec<String> =
            violations.iter().take(3).map(|v| format!("{} {}", v.field, v.message)).collect();
        let more = violations.len().saturating_sub(shown.len());
        let mut detail = shown.join("; ");
        if more > 0 {
            detail = format!("{detail}; and {more} more");
        }
        Self { violations, ..Self::new(Reason::Invalid, detail) }
    }

    /// One field that is wrong.
    pub(crate) fn field(field: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![Violation { field: field.to_owned(), message: message.into() }])
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        let hint = Some(Duration::from_secs(1));
        match refusal {
            Refusal::UnknownTask => Self::new(Reason::UnknownTask, detail),
            Refusal::Illegal(_) => Self::new(Reason::IllegalState, detail),
            Refusal::Conflict { field, .. } => Self {
                violations: vec![Violation { field: field.to_owned(), message: detail.clone() }],
                ..Self::new(Reason::Conflict, detail)
            },
            Refusal::QueueFull { .. } => Self {
                violations: vec![Violation { field: "queue".to_owned(), message: detail.clone() }],
                retry_after: hint,
                ..Self::new(Reason::QueueFull, detail)
            },
            Refusal::TooManyNames { .. } => {
                Self { retry_after: hint, ..Self::new(Reason::TooMany, detail) }
            }
            Refusal::StaleLease { .. } => Self {
                violations: vec![Violation {
                    field: "lease_token".to_owned(),
                    message: detail.clone(),
                }],
                ..Self::new(Reason::StaleLease, detail)
            },
            Refusal::UnknownSession => Self::new(Reason::UnknownSession, detail),
            Refusal::ForeignSession => Self::new(Reason::ForeignSession, detail),
            _ => Self::new(Reason::Internal, detail),
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
            EngineError::Overloaded { reason, retry_after } => {
                Self { retry_after: Some(retry_after), ..Self::new(Reason::Overloaded, reason) }
            }
            EngineError::StoreFull(reason) => Self {
                retry_after: Some(Duration::from_secs(30)),
                ..Self::new(Reason::StoreFull, reason)
            },
            EngineError::Store(error) => {
                tracing::warn!(%error, "reading the store failed");
                Self {
                    retry_after: Some(Duration::from_secs(1)),
                    ..Self::new(Reason::Unavailable, "the store did not answer")
                }
            }
            _ => Self::new(Reason::Internal, error.to_string()),
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let (word, _, _, code) = failure.reason.dress();
        let mut details = ErrorDetails::new();
        details.set_error_info(word, "rota", std::collections::HashMap::new());
        for violation in &failure.violations {
            details.add_bad_request_violation(&violation.field, &violation.message);
        }
        if let Some(after) = failure.retry_after {
            details.set_retry_info(Some(after));
        }
        Self::with_error_details(code, failure.detail, details)
    }
}
