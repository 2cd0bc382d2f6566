//! The faults of Redis and of the way to it: above all, whether a request may have had an effect.
//!
//! A request counts as perhaps carried out unless Redis says that it was not.

use std::time::Duration;

use redis::{ErrorKind, RedisError};

use crate::{
    model::Member,
    store::{CommitError, StoreError},
};

/// Why a request got no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It had no effect, for a passing reason.
    Refused(String),
    /// It had no effect, and another connection may do better: the server is a replica now, for example.
    Elsewhere(String),
    /// It had no effect: the user may not. Passing, as far as an operator changes it.
    Forbidden(String),
    /// It had no effect: the server is set up in a way that is not accepted.
    Unfit(String),
    /// It had no effect: the server does not know the script (any more).
    Unscripted,
    /// It may have had an effect.
    Unknown(String),
    /// It may have had an effect: nothing was answered in that time.
    Silent(Duration),
    /// It had no effect: there is no room.
    Full(String),
    /// The data is not as this backend writes it.
    Corrupt(String),
    /// The data has that format, which this build does not read.
    Format(String),
    /// The revision is no longer kept.
    Gone,
    /// It had no effect: another node that lives has this node's name.
    Namesake(Member),
}

impl Fault {
    /// Whether another attempt over a new connection may go better at once.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Elsewhere(_) | Self::Unknown(_) | Self::Unscripted)
    }

    /// Whether the connection is of no more use.
    pub(super) fn ends_connection(&self) -> bool {
        self.is_passing() || matches!(self, Self::Silent(_) | Self::Forbidden(_))
    }

    /// Whether the request may have been carried out all the same, or will yet be.
    pub(super) fn may_have_had_effect(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Silent(_) | Self::Corrupt(_))
    }

    /// For people.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Refused(why)
            | Self::Elsewhere(why)
            | Self::Forbidden(why)
            | Self::Unfit(why)
            | Self::Unknown(why)
            | Self::Full(why)
            | Self::Corrupt(why) => why.clone(),
            Self::Unscripted => "Redis does not know the script".to_owned(),
            Self::Silent(waited) => format!("Redis did not answer within {waited:?}"),
            Self::Format(found) => format!("the data has format {found}"),
            Self::Gone => "the snapshot is no longer kept".to_owned(),
            Self::Namesake(_) => StoreError::from(self.clone()).to_string(),
        }
    }

    /// The fault of a commit of that epoch that was sent.
    pub(super) fn of_commit(self) -> CommitError {
        let reason = self.reason();
        match self {
            Self::Unknown(_) | Self::Silent(_) => CommitError::Ambiguous(reason),
            Self::Corrupt(_) => CommitError::Corrupt(reason),
            fault => fault.before_commit(),
        }
    }

    /// The fault of something that was done before a commit was sent: it did not land, whatever it was.
    pub(super) fn before_commit(self) -> CommitError {
        match self {
            Self::Full(why) => CommitError::Full(why),
            Self::Corrupt(why) => CommitError::Corrupt(why),
            fault => CommitError::Unavailable(fault.reason()),
        }
    }
}

/// An answer of another kind than was asked for.
pub(super) fn unexpected(answer: impl std::fmt::Debug) -> Fault {
    let mut shown = format!("{answer:?}");
    if let Some((cut, _)) = shown.char_indices().nth(200) {
        shown.truncate(cut);
    }
    Fault::Corrupt(format!("Redis answered unexpectedly: {shown}"))
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Gone => Self::Compacted,
            Fault::Unfit(why) => Self::Open(why),
            Fault::Silent(waited) => Self::Timeout(waited),
            Fault::Corrupt(why) => Self::Corrupt(why),
            Fault::Namesake(Member { name, address, .. }) => Self::NameTaken { name, address },
            other => Self::Unavailable(other.reason()),
        }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        let Some(code) = error.code() else {
            return match error.kind() {
                ErrorKind::AuthenticationFailed => {
                    Self::Forbidden("Redis refuses the user name or the password".to_owned())
                }
                ErrorKind::InvalidClientConfig => Self::Forbidden(error.to_string()),
                ErrorKind::Parse | ErrorKind::UnexpectedReturnType => unexpected(error),
                _ => Self::Unknown(format!("Redis: {error}")),
            };
        };
        answered(code, error.detail().unwrap_or_default())
    }
}

/// What Redis says with that code. Any answer that is not known to mean otherwise leaves the effect unknown: a
/// script that stops in its middle is not rolled back.
fn answered(code: &str, detail: &str) -> Fault {
    let why = format!("Redis: {code} {detail}");
    match code {
        "NOSCRIPT" => Fault::Unscripted,
        "OOM" => Fault::Full(why),
        // Redis refuses writes because those before could not be written to disk.
        "MISCONF" => Fault::Full(why),
        "LOADING" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "NOREPLICAS" => Fault::Refused(why),
        "READONLY" | "MASTERDOWN" | "MOVED" | "ASK" => Fault::Elsewhere(why),
        "NOAUTH" | "WRONGPASS" | "NOPERM" => Fault::Forbidden(why),
        "WRONGTYPE" => Fault::Corrupt(why),
        "ERR" if detail.starts_with("max number of clients") => Fault::Refused(why),
        _ => Fault::Unknown(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a batch landed is concluded from these words.
    #[test]
    fn an_effect_is_ruled_out_only_where_redis_says_so() {
        for (code, may_have_had) in [
            ("NOSCRIPT", false),
            ("OOM", false),
            ("MISCONF", false),
            ("LOADING", false),
            ("BUSY", false),
            ("NOREPLICAS", false),
            ("READONLY", false),
            ("NOAUTH", false),
            ("NOPERM", false),
            ("ERR", true),
            ("EXECABORT", true),
            ("UNKILLABLE", true),
            ("WRONGTYPE", true),
        ] {
            assert_eq!(answered(code, "words").may_have_had_effect(), may_have_had, "{code}");
        }
    }
}
