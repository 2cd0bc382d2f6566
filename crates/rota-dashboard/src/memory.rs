//! What a node remembers from one page to the next: numbers that nobody should ask the leader for at every refresh.

use crate::{counts::Counts, pulse::Pulse};

/// The memory of the pages of a node.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) counts: Counts,
    pub(crate) pulse: Pulse,
}
