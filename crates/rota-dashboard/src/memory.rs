//! What a node remembers from one page to the next: numbers that nobody should ask the leader for at every refresh.

use rota_proto::v1::FailureGroup;

use crate::{counts::Counts, kept::Kept, pulse::Pulse};

/// The memory of the pages of a node.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) counts: Counts,
    /// The groups of recent failures of the first page.
    pub(crate) failures: Kept<Vec<FailureGroup>>,
    pub(crate) pulse: Pulse,
}
