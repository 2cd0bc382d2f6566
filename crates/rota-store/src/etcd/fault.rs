//! Classifies errors of etcd and of the connection: above all, whether the request may have had an effect.
//!
//! Errors that are not known here count as an unknown effect.

use std::{error::Error, time::Duration};

use tonic::{Code, Status};

use crate::{
    model::{Epoch, Member},
    store::{CommitError, StoreError},
};

/// Why a request to etcd failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// No effect, for a temporary reason: etcd is unreachable, or has no leader now.
    Refused(String),
    /// No effect: the authentication must be renewed.
    Stranger(String),
    /// No effect: permission denied. An operator can change this.
    Forbidden(String),
    /// The effect is unknown.
    Unknown(String),
    /// The effect is unknown: the member did not answer at all within this time.
    Silent(Duration),
    /// The effect is unknown: the member is alive, but did not answer within this time.
    Slow(Duration),
    /// The answer is too large.
    Large(String),
    /// No effect: etcd is full.
    Full(String),
    /// No effect, and a retry cannot help.
    Invalid(String),
    /// No effect, and a retry cannot help: the request has more operations or bytes than this member accepts.
    TooMuch(String),
    /// The requested revision has been compacted. The value is the oldest readable revision for a watch, and
    /// 0 for a read, which does not get it.
    Compacted(i64),
    /// etcd reports damaged data.
    Corrupt(String),
    /// No effect: another live node has the same name.
    Namesake(Member),
}

impl Fault {
    /// Whether a retry can succeed, at once and possibly at another member.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Refused(_)
            | Self::Stranger(_)
            | Self::Unknown(_)
            | Self::Silent(_)
            | Self::Slow(_) => true,
            Self::Forbidden(_)
            | Self::Large(_)
            | Self::Full(_)
            | Self::Invalid(_)
            | Self::TooMuch(_)
            | Self::Compacted(_)
            | Self::Corrupt(_)
            | Self::Namesake(_) => false,
        }
    }

    /// Whether the request may have been carried out, or may still be.
    pub(super) fn may_have_had_effect(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Silent(_) | Self::Slow(_) | Self::Large(_))
    }

    /// The reason, for people.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Refused(why)
            | Self::Stranger(why)
            | Self::Forbidden(why)
            | Self::Unknown(why)
            | Self::Invalid(why)
            | Self::Full(why)
            | Self::TooMuch(why)
            | Self::Large(why)
            | Self::Corrupt(why) => why.clone(),
            Self::Silent(waited) | Self::Slow(waited) => {
                format!("etcd did not answer within {waited:?}")
            }
            Self::Compacted(_) => "the revision has been compacted".to_owned(),
            Self::Namesake(_) => StoreError::from(self.clone()).to_string(),
        }
    }

    /// The error of a commit in this epoch.
    pub(super) fn of_commit(self, ours: Epoch) -> CommitError {
        let reason = self.reason();
        match self {
            Self::Unknown(_) | Self::Silent(_) | Self::Slow(_) | Self::Large(_) => {
                CommitError::Ambiguous(reason)
            }
            Self::Full(_) => CommitError::Full(reason),
            Self::Corrupt(_) => CommitError::Corrupt(reason),
            Self::Invalid(_) | Self::TooMuch(_) => {
                CommitError::Invalid(format!("epoch {ours}: {reason}"))
            }
            Self::Refused(_)
            | Self::Stranger(_)
            | Self::Forbidden(_)
            | Self::Compacted(_)
            | Self::Namesake(_) => CommitError::Unavailable(reason),
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Compacted(_) => Self::Compacted,
            Fault::Silent(waited) | Fault::Slow(waited) => Self::Timeout(waited),
            Fault::Corrupt(why) => Self::Corrupt(why),
            Fault::Invalid(why) | Fault::TooMuch(why) => Self::Invalid(why),
            Fault::Namesake(Member { name, address, .. }) => Self::NameTaken { name, address },
            other => Self::Unavailable(other.reason()),
        }
    }
}

/// The message of etcd about too many operations.
const TOO_MANY: &str = "too many operations";

impl Fault {
    /// Whether the request had too many operations, not too many bytes.
    pub(super) fn is_too_many(&self) -> bool {
        matches!(self, Self::TooMuch(why) if why.contains(TOO_MANY))
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        let message = status.message();
        let said = message.strip_prefix("etcdserver: ");
        let why = format!("etcd: {}", said.unwrap_or(message));
        let says = |words: &str| message.contains(words);
        match status.code() {
            Code::Unauthenticated => Self::Stranger(why),
            _ if says("invalid auth token") || says("auth store is old") => Self::Stranger(why),
            Code::PermissionDenied => Self::Forbidden(format!(
                "{why}: the user needs permission to read and write the prefix"
            )),
            // The user name or password is wrong or missing.
            Code::InvalidArgument if says("authentication failed") => Self::Forbidden(why),
            Code::InvalidArgument if says("user name is empty") => Self::Forbidden(
                "etcd requires a user and a password; set store_user and store_password".to_owned(),
            ),
            Code::ResourceExhausted if says("database space exceeded") => Self::Full(why),
            Code::ResourceExhausted if says("too many requests") => Self::Refused(why),
            Code::OutOfRange if says("decoded message length too large") => Self::Large(why),
            // etcd itself sends no more than 2 GiB.
            Code::ResourceExhausted if says("trying to send message larger") => Self::Large(why),
            Code::ResourceExhausted if says("larger than max") => Self::TooMuch(why),
            Code::InvalidArgument if says("request is too large") => Self::TooMuch(why),
            Code::InvalidArgument if says(TOO_MANY) => Self::TooMuch(why),
            Code::OutOfRange if says("compacted") => Self::Compacted(0),
            Code::DataLoss => Self::Corrupt(why),
            Code::Unavailable if said == Some("no leader") => Self::Refused(why),
            Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::OutOfRange
                if said.is_some() =>
            {
                Self::Invalid(why)
            }
            _ if never_sent(&status) => Self::Refused(chain(&status)),
            _ => Self::Unknown(why),
        }
    }
}

/// Whether the transport failed before there was a connection for the request.
fn never_sent(status: &Status) -> bool {
    status.message().starts_with("Service was not ready")
        || causes(status).any(<dyn Error>::is::<tonic::ConnectError>)
}

/// An error with its causes, because the message of the transport alone says nothing.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts = Vec::<String>::new();
    for error in causes(error) {
        let text = error.to_string();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

/// An error and its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| <dyn Error>::source(*error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a batch landed is concluded from these words, so they are etcd's own to the letter.
    #[test]
    fn an_effect_is_ruled_out_only_where_etcd_says_so() {
        use Code::{
            Cancelled, DataLoss, DeadlineExceeded, InvalidArgument, OutOfRange, PermissionDenied,
            ResourceExhausted, Unauthenticated, Unavailable, Unknown,
        };
        for (code, message, expected) in [
            (Unavailable, "etcdserver: request timed out", "unknown"),
            (
                Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
                "unknown",
            ),
            (Unavailable, "etcdserver: server stopped", "unknown"),
            (Unavailable, "etcdserver: leader changed", "unknown"),
            (Unavailable, "transport error", "unknown"),
            (Unknown, "transport error", "unknown"),
            (Unknown, "context canceled", "unknown"),
            (Cancelled, "operation was canceled", "unknown"),
            (DeadlineExceeded, "context deadline exceeded", "unknown"),
            (InvalidArgument, "words of another's", "unknown"),
            (ResourceExhausted, "words of another's", "unknown"),
            (Unavailable, "etcdserver: no leader", "refused"),
            (ResourceExhausted, "etcdserver: too many requests", "refused"),
            (Unknown, "Service was not ready: closed", "refused"),
            (Unauthenticated, "etcdserver: invalid auth token", "stranger"),
            (InvalidArgument, "etcdserver: revision of auth store is old", "stranger"),
            (PermissionDenied, "etcdserver: permission denied", "forbidden"),
            (
                InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                "forbidden",
            ),
            (InvalidArgument, "etcdserver: user name is empty", "forbidden"),
            (ResourceExhausted, "etcdserver: mvcc: database space exceeded", "full"),
            (InvalidArgument, "etcdserver: request is too large", "too much"),
            (InvalidArgument, "etcdserver: too many operations in txn request", "too much"),
            (
                ResourceExhausted,
                "grpc: received message larger than max (4000000 vs. 2097152)",
                "too much",
            ),
            (
                ResourceExhausted,
                "grpc: trying to send message larger than max (4000000000 vs. 2147483647)",
                "large",
            ),
            (
                OutOfRange,
                "Error, decoded message length too large: found 90000000 bytes, the limit is: \
                 67108864 bytes",
                "large",
            ),
            (OutOfRange, "etcdserver: mvcc: required revision has been compacted", "compacted"),
            (DataLoss, "etcdserver: corrupt cluster", "corrupt"),
        ] {
            let fault = Fault::from(Status::new(code, message));
            let name = match &fault {
                Fault::Refused(_) => "refused",
                Fault::Stranger(_) => "stranger",
                Fault::Forbidden(_) => "forbidden",
                Fault::Unknown(_) | Fault::Silent(_) | Fault::Slow(_) => "unknown",
                Fault::Large(_) => "large",
                Fault::Full(_) => "full",
                Fault::Invalid(_) => "invalid",
                Fault::TooMuch(_) => "too much",
                Fault::Compacted(_) => "compacted",
                Fault::Corrupt(_) => "corrupt",
                Fault::Namesake(_) => "namesake",
            };
            assert_eq!(name, expected, "{code:?} {message}");
            let ambiguous = matches!(fault.of_commit(Epoch(1)), CommitError::Ambiguous(_));
            let uncertain = ["unknown", "large"].contains(&expected);
            assert_eq!(ambiguous, uncertain, "{code:?} {message}");
        }
    }
}
