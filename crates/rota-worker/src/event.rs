//! Messages of an attempt to its session.

use rota_proto::v1;

/// A message of an attempt to its session.
#[derive(Debug)]
pub(crate) enum Event {
    /// A handler reported progress. Its context has the message.
    Progress { task_id: String, token: u64 },
    /// There is new output, which the server has asked for. The context has it.
    Output { task_id: String, token: u64 },
    /// An attempt ended. Without an outcome, nothing is reported.
    Ended(v1::Report),
}
