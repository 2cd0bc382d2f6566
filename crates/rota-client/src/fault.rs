//! Classifies failed tries: whether the call may have been carried out, and which node to try next.

use std::{error::Error, io, time::Duration};

use rota_proto::{Reason, RetryHint};
use rota_tls::Fault as TlsFault;
use tonic::{Code, ConnectError, Status};

use crate::error::ClientError;

/// Words for a client without TLS whose node speaks it, and ends the connection for that.
const USE_HTTPS: &str = "the server speaks TLS at this port; use https:// instead of http://";

/// How a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never reached a node, so nothing was done.
    NotSent,
    /// The same, because client and node do not agree on TLS. A retry does not help until somebody changes a setting or
    /// a certificate.
    NoTls,
    /// A node refused it for now, because there is no leader, or it is overloaded. Nothing was done.
    NotNow {
        /// Whether another node may succeed.
        elsewhere: bool,
        /// Time to wait before a retry, if the node sent one.
        after: Option<Duration>,
    },
    /// The connection broke or the timeout passed before an answer, or the node does not know the outcome. It
    /// may have been done.
    Unknown,
    /// A final answer. Another node would give the same.
    Refused,
}

impl Fault {
    pub(crate) fn of(status: &Status) -> Self {
        let error = ClientError::from(status.clone());
        let after =
            if let ClientError::Refused { retry_after, .. } = &error { *retry_after } else { None };
        match error.reason().map(Reason::retry) {
            Some(RetryHint::Elsewhere) => Self::NotNow { elsewhere: true, after },
            Some(RetryHint::Soon) => Self::NotNow { elsewhere: false, after },
            Some(RetryHint::IfRepeatable) => Self::Unknown,
            Some(RetryHint::AfterRoom | RetryHint::Never) => Self::Refused,
            None if error.reason_word().is_empty() => Self::without_reason(status),
            // A reason of a newer server.
            None => Self::Refused,
        }
    }

    /// Classifies a status without a reason. It comes from the transport on this side, or from a proxy.
    fn without_reason(status: &Status) -> Self {
        if status.source().is_some() {
            if tls_fault(status).is_some() {
                return Self::NoTls;
            }
            return if causes(status).any(never_sent) { Self::NotSent } else { Self::Unknown };
        }
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Unknown,
            _ => Self::Refused,
        }
    }

    /// Whether to fail over to the next node.
    pub(crate) fn leaves_node(self) -> bool {
        match self {
            Self::NotSent | Self::NoTls | Self::Unknown => true,
            Self::NotNow { elsewhere, .. } => elsewhere,
            Self::Refused => false,
        }
    }
}

/// Whether this refusal also tells the outcome of earlier tries of the same call.
pub(crate) fn refuses_every_try(status: &Status) -> bool {
    ClientError::from(status.clone()).reason().is_some_and(Reason::refuses_every_try)
}

/// Why a call failed on its way, in words for people: the disagreement on TLS if there is one, or else the last cause.
#[must_use]
pub fn reason_of(status: &Status) -> String {
    if let Some(words) = tls_fault(status) {
        return words;
    }
    let last = causes(status).last().map(ToString::to_string);
    last.filter(|_| status.source().is_some()).unwrap_or_else(|| status.message().to_owned())
}

/// Why the two ends do not agree on TLS, if that is why the call failed. The node has certainly not started it.
fn tls_fault(status: &Status) -> Option<String> {
    causes(status).find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            if let Some(fault) = TlsFault::of(error) {
                return Some(fault.to_string());
            }
            // The transport passes on the text of some errors alone.
            return Some(error.to_string()).filter(|words| rota_tls::is_refusal(words));
        }
        let error = cause.downcast_ref::<h2::Error>()?;
        if error.is_remote() && error.reason() == Some(h2::Reason::INADEQUATE_SECURITY) {
            return Some(USE_HTTPS.to_owned());
        }
        let words = error.get_io()?.to_string();
        rota_tls::is_refusal(&words).then_some(words)
    })
}

/// An error with its causes.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Whether this cause proves that no node has started the call.
fn never_sent(cause: &(dyn Error + 'static)) -> bool {
    if cause.is::<ConnectError>() {
        return true;
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return error.kind() == io::ErrorKind::ConnectionRefused;
    }
    // A node that shuts down names the last stream that it accepts. It has not started later ones.
    cause.downcast_ref::<h2::Error>().is_some_and(|error| {
        error.is_remote()
            && match error.reason() {
                Some(h2::Reason::REFUSED_STREAM) => true,
                Some(h2::Reason::NO_ERROR) => error.is_go_away(),
                _ => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    fn said(code: Code, reason: &str, after: Option<Duration>) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, "rota", HashMap::new());
        details.set_retry_info(after);
        Status::with_error_details(code, "words", details)
    }

    #[test]
    fn what_a_node_says_of_a_call_is_believed() {
        let second = Some(Duration::from_secs(1));
        let not_now = |elsewhere, after| Fault::NotNow { elsewhere, after };
        for (code, reason, after, fault) in [
            (Code::Unavailable, "unavailable", second, not_now(true, second)),
            (Code::Unavailable, "unavailable", None, not_now(true, None)),
            (Code::ResourceExhausted, "overloaded", second, not_now(false, second)),
            (Code::ResourceExhausted, "queue_full", second, Fault::Refused),
            (Code::Unavailable, "not_leader", None, not_now(true, None)),
            (Code::Unavailable, "outcome_unknown", None, Fault::Unknown),
            (Code::Unavailable, "leadership_lost", second, Fault::Unknown),
            (Code::DeadlineExceeded, "request_timeout", None, Fault::Unknown),
            (Code::NotFound, "unknown_task", None, Fault::Refused),
            (Code::Internal, "internal", None, Fault::Refused),
            (Code::Unavailable, "of_a_newer_server", None, Fault::Refused),
        ] {
            assert_eq!(Fault::of(&said(code, reason, after)), fault, "{reason}");
        }
    }

    #[test]
    fn without_our_word_only_a_connection_that_never_was_is_certain() {
        let io = |kind| io::Error::from(kind);
        let refused = Status::from_error(io(io::ErrorKind::ConnectionRefused).into());
        assert_eq!(Fault::of(&refused), Fault::NotSent);
        let reset = Status::from_error(io(io::ErrorKind::ConnectionReset).into());
        assert_eq!(Fault::of(&reset), Fault::Unknown);
        let unconnected = ConnectError("timed out".into());
        assert_eq!(Fault::of(&Status::from_error(unconnected.into())), Fault::NotSent);
        assert_eq!(Fault::of(&Status::unavailable("a proxy's 503")), Fault::Unknown);
        assert_eq!(Fault::of(&Status::unimplemented("an older node")), Fault::Refused);
    }
}
