//! The stable reasons for refusals, with the status, code and retry hint of each.
//!
//! One row for each reason. The server makes its errors from it, the client decides from it whether to try
//! again, the command line its exit code and the worker what becomes of a report.

use std::fmt;

/// gRPC status codes, by number: this module needs no gRPC library.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const ALREADY_EXISTS: i32 = 6;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const UNIMPLEMENTED: i32 = 12;
    pub(super) const INTERNAL: i32 = 13;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// Whether a retry of the same request can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryHint {
    /// Nothing was changed. A retry can succeed at another node now, or at this one soon.
    Elsewhere,
    /// Nothing was changed. A retry at the same node can succeed soon.
    Soon,
    /// Nothing was changed. A retry succeeds only after somebody makes room, so clients leave it to their
    /// caller.
    AfterRoom,
    /// The request may have been carried out. Clients retry it only if a repeat is safe.
    IfRepeatable,
    /// A retry gets the same answer.
    Never,
}

struct Row {
    word: &'static str,
    status: u16,
    code: i32,
    retry: RetryHint,
    title: &'static str,
}

macro_rules! reasons {
    ($($name:ident $word:literal $status:literal $code:ident $retry:ident $title:literal;)*) => {
        /// A reason for a refusal. Newer servers can send reasons that are not listed here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $(#[doc = concat!("`", $word, "`: ", $title, ".")] $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        word: $word,
                        status: $status,
                        code: code::$code,
                        retry: RetryHint::$retry,
                        title: $title,
                    },)*
                }
            }

            /// The reason of this word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

// Name, word, HTTP status, gRPC code, whether a retry helps, title.
reasons! {
    Invalid              "invalid"                400 INVALID_ARGUMENT    Never        "The request is not valid";
    Unauthenticated      "unauthenticated"        401 UNAUTHENTICATED     Never        "Authentication is required";
    Forbidden            "forbidden"              403 PERMISSION_DENIED   Never        "Forbidden";
    NotFound             "not_found"              404 NOT_FOUND           Never        "Not found";
    UnknownTask          "unknown_task"           404 NOT_FOUND           Never        "No such task";
    UnknownSession       "unknown_session"        404 NOT_FOUND           Never        "No such session";
    UnknownQueue         "unknown_queue"          404 NOT_FOUND           Never        "No such queue";
    UnknownSchedule      "unknown_schedule"       404 NOT_FOUND           Never        "No such schedule";
    UnknownCalendar      "unknown_calendar"       404 NOT_FOUND           Never        "No such calendar";
    UnknownWorker        "unknown_worker"         404 NOT_FOUND           Never        "No such worker";
    MethodNotAllowed     "method_not_allowed"     405 UNIMPLEMENTED       Never        "Method not allowed";
    RequestTimeout       "request_timeout"        408 DEADLINE_EXCEEDED   IfRepeatable "The request took too long";
    Conflict             "conflict"               409 ALREADY_EXISTS      Never        "Already exists with different content";
    IllegalState         "illegal_state"          409 FAILED_PRECONDITION Never        "The status of the task does not allow this";
    StaleLease           "stale_lease"            409 FAILED_PRECONDITION Never        "The lease is no longer valid";
    CalendarInUse        "calendar_in_use"        409 FAILED_PRECONDITION Never        "A schedule uses the calendar";
    BackfillUnderWay     "backfill_under_way"     409 FAILED_PRECONDITION Never        "A backfill of the schedule is under way";
    NoBackfill           "no_backfill"            409 FAILED_PRECONDITION Never        "No backfill of the schedule is under way";
    NoSuchTick           "no_such_tick"           409 FAILED_PRECONDITION Never        "The schedule has no coming tick at this time";
    CannotTrigger        "cannot_trigger"         409 FAILED_PRECONDITION Never        "The schedule cannot create a task now";
    ForeignSession       "foreign_session"        409 FAILED_PRECONDITION Never        "The session belongs to another worker";
    Unreadable           "unreadable"             409 FAILED_PRECONDITION Never        "The record of the task cannot be read";
    VersionConflict      "version_conflict"       412 FAILED_PRECONDITION Never        "It has been changed in the meantime";
    TooLarge             "too_large"              413 INVALID_ARGUMENT    Never        "The request is too large";
    UriTooLong           "uri_too_long"           414 INVALID_ARGUMENT    Never        "The URL is too long";
    UnsupportedMediaType "unsupported_media_type" 415 INVALID_ARGUMENT    Never        "The body must be JSON";
    QueueFull            "queue_full"             429 RESOURCE_EXHAUSTED  AfterRoom    "The queue is full";
    TooMany              "too_many"               429 RESOURCE_EXHAUSTED  AfterRoom    "A limit on a number was reached";
    Overloaded           "overloaded"             429 RESOURCE_EXHAUSTED  Soon         "Too many requests";
    HeadTooLarge         "head_too_large"         431 INVALID_ARGUMENT    Never        "The request headers are too large";
    Internal             "internal"               500 INTERNAL            Never        "Internal error";
    LeadershipLost       "leadership_lost"        503 UNAVAILABLE         IfRepeatable "The outcome is unknown";
    NotLeader            "not_leader"             503 UNAVAILABLE         Elsewhere    "Another node is the leader";
    Unavailable          "unavailable"            503 UNAVAILABLE         Elsewhere    "Temporarily unavailable";
    OutcomeUnknown       "outcome_unknown"        503 UNAVAILABLE         IfRepeatable "The outcome is unknown";
    StoreFull            "store_full"             507 RESOURCE_EXHAUSTED  AfterRoom    "The store is full";
}

impl Reason {
    /// The stable word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().word
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().status
    }

    /// The gRPC status code.
    #[must_use]
    pub const fn code(self) -> i32 {
        self.row().code
    }

    /// The title of a problem document.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().title
    }

    /// Whether a retry of the same request can succeed.
    #[must_use]
    pub const fn retry(self) -> RetryHint {
        self.row().retry
    }

    /// Whether a call that is refused for this reason was not carried out by an earlier try either, whose answer was lost.
    ///
    /// That is so if the reason follows from the call itself, or if the server would have recognized the repeat. Other
    /// refusals can be a consequence of the first try, such as a conflict of versions, or depend on the node.
    #[must_use]
    pub const fn refuses_every_try(self) -> bool {
        match self {
            Self::Invalid
            | Self::UnknownTask
            | Self::UnknownSession
            | Self::UnknownQueue
            | Self::UnknownSchedule
            | Self::UnknownCalendar
            | Self::UnknownWorker
            | Self::MethodNotAllowed
            | Self::Conflict
            | Self::StaleLease
            | Self::ForeignSession
            | Self::TooLarge
            | Self::UriTooLong
            | Self::UnsupportedMediaType
            | Self::QueueFull
            | Self::HeadTooLarge => true,
            Self::Unauthenticated
            | Self::Forbidden
            | Self::NotFound
            | Self::RequestTimeout
            | Self::IllegalState
            | Self::CalendarInUse
            | Self::BackfillUnderWay
            | Self::NoBackfill
            | Self::NoSuchTick
            | Self::CannotTrigger
            | Self::Unreadable
            | Self::VersionConflict
            | Self::TooMany
            | Self::Overloaded
            | Self::Internal
            | Self::LeadershipLost
            | Self::NotLeader
            | Self::Unavailable
            | Self::OutcomeUnknown
            | Self::StoreFull => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_read_back_from_its_word() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
            assert_eq!(reason.to_string(), reason.as_str());
        }
        assert_eq!(Reason::parse("of_a_newer_server"), None);
        assert_eq!(Reason::parse(""), None);
    }

    #[test]
    fn the_rows_are_in_order_and_a_retry_helps_where_the_status_says_so() {
        for (one, other) in Reason::ALL.iter().zip(&Reason::ALL[1..]) {
            assert!(one.status() <= other.status(), "{one}, {other}: the rows are in order");
        }
        for reason in Reason::ALL {
            let refused_again = reason.retry() == RetryHint::Never;
            let client_error = reason.status() < 500 && !matches!(reason.status(), 408 | 429);
            assert_eq!(refused_again, client_error || *reason == Reason::Internal, "{reason}");
        }
    }
}
