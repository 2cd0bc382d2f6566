//! What an attempt tells the session that runs it.

use rota_proto::v1;

/// What attempts say to the session.
#[derive(Debug)]
pub(crate) enum Event {
    /// A handler said how far it is; its context has the words.
    Progress { task_id: String, token: u64 },
    /// An attempt ended; without an outcome nothing is to be reported.
    Ended(v1::Report),
}
