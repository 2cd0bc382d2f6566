//! How long to wait before what failed is tried again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(500);

/// Pauses that double, up to half a second: who comes back is to be noticed soon, and to ask costs
/// little. Not random: each node of the few has its own moments.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// Waits. Cancel safe.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST);
    }

    /// Begins with short pauses again: it went well.
    pub(crate) fn reset(&mut self) {
        self.0 = FIRST;
    }
}
