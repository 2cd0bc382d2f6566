//! Exit codes and hints for what a transfer can fail with.

use rota_engine::transfer::TransferError;
use rota_store::StoreError;

use crate::exit::{Exit, Failure};

/// What the failure of a transfer means to the user. `again` says what a repeated command does.
pub(super) fn explain(error: &TransferError, again: &str) -> Failure {
    let (exit, hint) = match error {
        TransferError::InUse { .. } => (
            Exit::Refused,
            "stop these nodes; a node that was killed disappears after leader_ttl (in Consul, twice that)",
        ),
        TransferError::Busy { .. } => (Exit::Refused, "wait until it has ended"),
        TransferError::SameStore { .. } => (Exit::Usage, "name two different stores"),
        TransferError::LeadershipLost { .. } => (Exit::Unavailable, again),
        TransferError::Empty { .. } => (
            Exit::NotFound,
            "check the URL, including its prefix; `rota server` has never run on it",
        ),
        TransferError::Unfinished { .. } => {
            (Exit::Refused, "run the same copy or import into it again")
        }
        TransferError::Newer { .. } => (Exit::Refused, "use the version of Rota that wrote it"),
        TransferError::NotEmpty { .. } => (Exit::Refused, "use a new directory or another prefix"),
        TransferError::OtherTransfer { .. } => {
            (Exit::Refused, "finish it, or add --restart to remove it first")
        }
        TransferError::TooLarge { .. } => (
            Exit::Refused,
            "raise the limit of the store (with etcd, request_bytes_max, and --max-request-bytes of etcd itself)",
        ),
        TransferError::Full { .. } => (Exit::Refused, again),
        TransferError::Read { error: StoreError::Compacted, .. } => (
            Exit::Unavailable,
            "the store forgot the revision that is being read; raise `history` of the store, or stop its nodes",
        ),
        TransferError::Read {
            error: StoreError::Unavailable(_) | StoreError::Timeout(_), ..
        }
        | TransferError::Write { .. } => (Exit::Unavailable, again),
        TransferError::Differs { .. } => (
            Exit::Failure,
            "run the same command again: it begins anew; if this repeats, the store is damaged",
        ),
        TransferError::File { .. } => {
            (Exit::Usage, "nothing was imported; use another copy of the file")
        }
        TransferError::Refused { .. } | TransferError::Read { .. } | TransferError::Io(_) => {
            (Exit::Failure, "")
        }
    };
    let failure = Failure::new(exit, error.to_string());
    if hint.is_empty() { failure } else { failure.hint(hint) }
}
