//! Errors of calls.

use std::time::Duration;

use rota_proto::{Reason, v1};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The failure of a call.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// An address is not valid.
    #[error("invalid address {address:?}: {reason}; use an address such as http://127.0.0.1:7420")]
    Address {
        /// The address.
        address: String,
        /// The fault.
        reason: String,
    },
    /// The token has a character that a header cannot carry, such as a line break.
    #[error("the token has a character that is not valid in a header, such as a line break")]
    Token,
    /// A file for TLS cannot be used.
    #[error("cannot use TLS: {reason}")]
    Tls {
        /// The file and its fault.
        reason: String,
    },
    /// A job has no JSON form.
    #[error("the job {kind} has no JSON form: {reason}")]
    Payload {
        /// Kind of the job.
        kind: &'static str,
        /// Message of serde.
        reason: String,
    },
    /// The client did not send this task, because an earlier request of the same batch failed.
    #[error("not sent, because an earlier request of the batch failed: {reason}")]
    NotSent {
        /// Failure of the earlier request.
        reason: String,
    },
    /// No node could be reached in time. Nothing was changed.
    #[error("cannot reach {addresses}: {reason}")]
    Unreachable {
        /// The nodes tried.
        addresses: String,
        /// Failure of the last try.
        reason: String,
    },
    /// Client and node do not agree on TLS: one of them does not speak it, or refuses the other's certificate. Nothing
    /// was changed.
    #[error("cannot talk to {addresses}: {reason}")]
    NoTls {
        /// The nodes tried.
        addresses: String,
        /// What does not fit, and what to do.
        reason: String,
    },
    /// The call reached a node, but the answer was lost, so it may have been carried out. The client did not
    /// retry, because that could carry it out twice, or its retries failed.
    #[error("the outcome is unknown ({addresses}): {reason}")]
    OutcomeUnknown {
        /// The nodes asked.
        addresses: String,
        /// Failure of the last try.
        reason: String,
    },
    /// A node refused the call. Nothing was changed.
    #[error("{message}")]
    Refused {
        /// Kind of the refusal.
        kind: ErrorKind,
        /// Message for people.
        message: String,
        /// Stable reason, such as `queue_full`. See [`ClientError::reason`].
        reason: String,
        /// Fields that are not valid.
        violations: Vec<FieldViolation>,
        /// Time after which a retry can help.
        retry_after: Option<Duration>,
    },
}

/// A fault of one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field.
    pub field: String,
    /// Message for people.
    pub message: String,
}

/// Kind of a [`ClientError`]: coarser than its [`reason`](ClientError::reason), and known for every error, also for one
/// that a proxy or a newer server made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is not valid.
    InvalidRequest,
    /// The request or its answer is larger than the peer takes.
    TooLarge,
    /// The token is missing or wrong.
    Unauthenticated,
    /// The token does not allow it.
    PermissionDenied,
    /// The task, queue, worker or session does not exist.
    NotFound,
    /// The id or idempotency key belongs to something else.
    AlreadyExists,
    /// The state of the task or of the cluster does not allow it.
    FailedPrecondition,
    /// The task was changed by somebody else meanwhile.
    Conflict,
    /// A limit is reached, such as the length of a queue.
    ResourceExhausted,
    /// No node answered, or the one that did cannot carry it out now.
    Unavailable,
    /// It took too long.
    Timeout,
    /// The peer does not know the call.
    Unsupported,
    /// A fault of the server.
    Internal,
    /// None of the others.
    Other,
}

impl From<Code> for ErrorKind {
    fn from(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::InvalidRequest,
            Code::OutOfRange => Self::TooLarge,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::FailedPrecondition => Self::FailedPrecondition,
            Code::Aborted => Self::Conflict,
            Code::ResourceExhausted => Self::ResourceExhausted,
            Code::Unavailable => Self::Unavailable,
            Code::DeadlineExceeded => Self::Timeout,
            Code::Unimplemented => Self::Unsupported,
            Code::Internal | Code::DataLoss => Self::Internal,
            Code::Ok | Code::Cancelled | Code::Unknown => Self::Other,
        }
    }
}

impl ClientError {
    /// The kind of the error. `Unavailable` if no node was reached or its answer was lost.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. } | Self::Token | Self::Tls { .. } | Self::Payload { .. } => {
                ErrorKind::InvalidRequest
            }
            Self::NotSent { .. }
            | Self::Unreachable { .. }
            | Self::NoTls { .. }
            | Self::OutcomeUnknown { .. } => ErrorKind::Unavailable,
            Self::Refused { kind, .. } => *kind,
        }
    }

    /// The reason of a refusal, and [`Reason::OutcomeUnknown`]. `None` for other errors, and for a reason that only
    /// newer servers know.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        Reason::parse(self.reason_word())
    }

    /// The stable word of [`reason`](Self::reason), also of a newer server. Empty if there is none.
    #[must_use]
    pub fn reason_word(&self) -> &str {
        match self {
            Self::Refused { reason, .. } => reason,
            Self::OutcomeUnknown { .. } => Reason::OutcomeUnknown.as_str(),
            Self::Address { .. }
            | Self::Token
            | Self::Tls { .. }
            | Self::Payload { .. }
            | Self::NotSent { .. }
            | Self::NoTls { .. }
            | Self::Unreachable { .. } => "",
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let violations = details.bad_request().map(|bad| {
            let violation = |violation: &tonic_types::FieldViolation| FieldViolation {
                field: violation.field.clone(),
                message: violation.description.clone(),
            };
            bad.field_violations.iter().map(violation).collect()
        });
        Self::Refused {
            kind: status.code().into(),
            message: status.message().to_owned(),
            reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
            violations: violations.unwrap_or_default(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
        }
    }
}

impl From<v1::ItemError> for ClientError {
    fn from(error: v1::ItemError) -> Self {
        let field = Some(error.field).filter(|field| !field.is_empty());
        let violation = |field| FieldViolation { field, message: error.message.clone() };
        Self::Refused {
            kind: Code::from_i32(error.code).into(),
            violations: field.map(violation).into_iter().collect(),
            message: error.message,
            reason: error.reason,
            retry_after: error.retry_after.map(rota_proto::TimeSpan::duration),
        }
    }
}
