//! Classifies why a stream ended, as far as this concerns the messages sent over it.

use rota_proto::Reason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The server's name of the limit on the size of a message.
const LIMIT: &str = "request_bytes";

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Break {
    /// The network or the node failed. This says nothing about the messages, unless it happens repeatedly.
    Lost,
    /// A message was larger than the server accepts, with the limit in bytes if the server sent it.
    TooLarge(Option<usize>),
    /// The server or a proxy refused it, with this message.
    Refused(String),
}

impl Break {
    pub(crate) fn of(status: &Status) -> Self {
        let info = status.get_details_error_info();
        let said = |key: &str| info.as_ref()?.metadata.get(key).map(String::as_str);
        let max =
            said("limit").filter(|limit| *limit == LIMIT).and_then(|_| said("max")?.parse().ok());
        let reason = info.as_ref().and_then(|info| Reason::parse(&info.reason));
        match status.code() {
            _ if reason == Some(Reason::TooLarge) => Self::TooLarge(max),
            // gRPC libraries use a code of their own for this, proxies an HTTP status.
            Code::OutOfRange => Self::TooLarge(None),
            Code::ResourceExhausted if status.message().contains("larger") => Self::TooLarge(None),
            Code::Unknown if status.message().contains("413") => Self::TooLarge(None),
            // A reset stream has no further meaning: a follower resets it when leadership changes or the
            // leader is gone, and so does a proxy. An internal error of the server has a reason.
            Code::Internal if info.is_none() => Self::Lost,
            // The server has no memory now (`overloaded`). It may accept the report later.
            Code::ResourceExhausted => Self::Lost,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::Aborted
            | Code::Unavailable => Self::Lost,
            _ => Self::Refused(status.message().to_owned()),
        }
    }
}

/// Whether the server refuses the worker itself, because of its token or name. An answer of a proxy has no
/// reason of Rota.
pub(crate) fn refuses_worker(status: &Status) -> bool {
    let by_rota = status.get_details_error_info().is_some_and(|info| !info.reason.is_empty());
    let code = matches!(
        status.code(),
        Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied
    );
    by_rota && code
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        let info = |reason: &str, metadata: &[(&str, &str)]| {
            let metadata = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            ErrorDetails::with_error_info(
                reason,
                "rota",
                metadata.collect::<std::collections::HashMap<_, _>>(),
            )
        };
        let rota = |code, reason: &str, metadata: &[(&str, &str)]| {
            Status::with_error_details(code, "no", info(reason, metadata))
        };
        let limit = [("limit", "request_bytes"), ("max", "2048")];
        for (status, expected) in [
            (rota(Code::InvalidArgument, "too_large", &limit), Break::TooLarge(Some(2048))),
            (Status::out_of_range("found 7 bytes, the limit is: 5 bytes"), Break::TooLarge(None)),
            (Status::resource_exhausted("message larger than max"), Break::TooLarge(None)),
            (Status::unavailable("gone"), Break::Lost),
            (Status::internal("h2 protocol error: stream reset"), Break::Lost),
            (rota(Code::ResourceExhausted, "overloaded", &[]), Break::Lost),
            (Status::not_found("the session has ended"), Break::Lost),
            (Status::unauthenticated("no"), Break::Refused("no".to_owned())),
            (Status::unimplemented("no"), Break::Refused("no".to_owned())),
            (Status::invalid_argument("no"), Break::Refused("no".to_owned())),
        ] {
            assert_eq!(Break::of(&status), expected, "{status:?}");
        }
        assert!(refuses_worker(&rota(Code::Unauthenticated, "unauthenticated", &[])));
        assert!(!refuses_worker(&Status::unauthenticated("")), "a proxy may have said so");
        assert!(!refuses_worker(&rota(Code::Unavailable, "unavailable", &[])));
    }
}
