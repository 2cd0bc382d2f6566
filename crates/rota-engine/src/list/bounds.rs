//! What one call may still examine and read.

use std::time::Duration;

use tokio::time::Instant;

/// Maximum number of ended tasks to examine in one call.
pub(super) const ENDED_MAX: usize = 20_000;
/// Maximum bytes of payloads to read in one call. The last round of reads can exceed it.
const BYTES_MAX: usize = 64 << 20;
/// Time after which a call ends with the tasks that it has found.
pub(super) const TIME_MAX: Duration = Duration::from_secs(2);

/// The bounds of one call.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Number of ended tasks that may still be examined.
    pub(super) ended: usize,
    bytes: usize,
    until: Instant,
}

impl Bounds {
    pub(super) fn new(time_limit: Duration) -> Self {
        let until = Instant::now() + time_limit.min(TIME_MAX);
        Self { ended: ENDED_MAX, bytes: BYTES_MAX, until }
    }

    /// Counts bytes of payloads that were read.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Whether no more definitions may be read.
    pub(super) fn is_read_out(&self) -> bool {
        self.bytes == 0 || self.is_late()
    }

    /// Whether the call must end.
    pub(super) fn is_over(&self) -> bool {
        self.ended == 0 || self.is_read_out()
    }
}
