//! What an error of Consul or of the way to it means: above all, whether the request may have had an
//! effect.
//!
//! Whatever is not known here to have had none counts as unknown.

use std::{error::Error, time::Duration};

use crate::{
    model::{Epoch, Member},
    store::{CommitError, StoreError},
};

/// Why a request to Consul got no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It had no effect, for a passing reason: the agent was not reached, or there is no leader now.
    Refused(String),
    /// It had no effect: the token does not allow it. Passing, as far as an operator changes it.
    Forbidden(String),
    /// It may have had an effect.
    Unknown(String),
    /// It may have had an effect: no answer came in that time.
    Silent(Duration),
    /// It had no effect: this Consul takes no request of that size.
    TooMuch(String),
    /// It had no effect and never will.
    Invalid(String),
    /// A piece of the log is not there: it was moved meanwhile.
    Moved,
    /// What Consul holds is not what was written.
    Corrupt(String),
    /// The data has this format, which is not ours.
    Foreign(String),
    /// The session has expired or was destroyed.
    NoSession,
    /// It had no effect: another node that lives has this node's name.
    Namesake(Member),
}

impl Fault {
    /// Whether another attempt may go better, at once and perhaps elsewhere.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unknown(_) | Self::Silent(_))
    }

    /// Whether the request may have been carried out all the same, or will yet be.
    pub(super) fn may_have_had_effect(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Silent(_))
    }

    /// For people.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Refused(why)
            | Self::Forbidden(why)
            | Self::Unknown(why)
            | Self::TooMuch(why)
            | Self::Invalid(why)
            | Self::Corrupt(why) => why.clone(),
            Self::Silent(waited) => format!("Consul did not answer within {waited:?}"),
            Self::Moved => "a piece of the log was moved while it was read".to_owned(),
            Self::Foreign(found) => format!("the data has format {found}"),
            Self::NoSession => "Consul does not know the session: it expired".to_owned(),
            Self::Namesake(_) => StoreError::from(self.clone()).to_string(),
        }
    }

    /// What this means to a commit of that epoch whose transaction was sent.
    pub(super) fn of_commit(self, ours: Epoch) -> CommitError {
        let reason = self.reason();
        match self {
            Self::Unknown(_) | Self::Silent(_) => CommitError::Ambiguous(reason),
            Self::Corrupt(_) => CommitError::Corrupt(reason),
            Self::Invalid(_) | Self::TooMuch(_) => {
                CommitError::Invalid(format!("epoch {ours}: {reason}"))
            }
            Self::Refused(_)
            | Self::Forbidden(_)
            | Self::Moved
            | Self::Foreign(_)
            | Self::NoSession
            | Self::Namesake(_) => CommitError::Unavailable(reason),
        }
    }

    /// What an answer with that status says, which is no success.
    pub(super) fn of_answer(status: u16, body: &[u8]) -> Self {
        let said = String::from_utf8_lossy(body);
        let why = format!("Consul: {} (HTTP {status})", said.trim());
        let says = |words: &str| said.contains(words);
        match status {
            403 => Self::Forbidden(format!("{why}: the token needs key:write and session:write")),
            413 => Self::TooMuch(format!(
                "{why}; see kv_max_value_size and txn_max_req_len in Consul's limits"
            )),
            400 => Self::Invalid(why),
            429 => Self::Refused(why),
            // These are said before anything is handed to the leader.
            _ if says("No cluster leader") || says("No path to datacenter") => Self::Refused(why),
            _ if says("rate limit") => Self::Refused(why),
            _ if says("Permission denied") || says("ACL not found") => Self::Forbidden(why),
            _ => Self::Unknown(why),
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Silent(waited) => Self::Timeout(waited),
            Fault::Corrupt(why) => Self::Corrupt(why),
            Fault::Invalid(why) | Fault::TooMuch(why) => Self::Invalid(why),
            Fault::Namesake(Member { name, address, .. }) => Self::NameTaken { name, address },
            other => Self::Unavailable(other.reason()),
        }
    }
}

/// An error with all that is behind it: on its own, a transport's says nothing.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts = Vec::<String>::new();
    for error in std::iter::successors(Some(error), |error| <dyn Error>::source(*error)) {
        let text = error.to_string();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a batch landed is concluded from these words, so they are Consul's own to the letter.
    #[test]
    fn an_effect_is_ruled_out_only_where_consul_says_so() {
        for (status, body, uncertain) in [
            (500, "No cluster leader", false),
            (500, "rpc error making call: No cluster leader", false),
            (500, "No path to datacenter", false),
            (429, "Your IP is issuing too many concurrent connections", false),
            (403, "Permission denied", false),
            (413, "Request body(~524289 bytes) too large", false),
            (400, "Bad request", false),
            // Of later versions, as far as their sources tell.
            (429, "rate limit exceeded, try again later or against a different server", false),
            (
                503,
                "rate limit exceeded for operation that can only be performed by the leader, try again later",
                false,
            ),
            (
                403,
                "Permission denied: token with AccessorID 'a' lacks permission 'key:write' on \"r\"",
                false,
            ),
            (400, "Invalid key in transaction: invalid key name, must not begin with '/'", false),
            (413, "Request body(524289 bytes) too large, max size: 524288 bytes", false),
            (500, "leadership lost while committing log", true),
            (500, "rpc error making call: EOF", true),
            (500, "rpc error making call: stream closed", true),
            (502, "", true),
            (504, "a gateway's words", true),
        ] {
            let fault = Fault::of_answer(status, body.as_bytes());
            assert_eq!(fault.may_have_had_effect(), uncertain, "{status} {body}");
            let ambiguous = matches!(fault.of_commit(Epoch(1)), CommitError::Ambiguous(_));
            assert_eq!(ambiguous, uncertain, "{status} {body}");
        }
    }
}
