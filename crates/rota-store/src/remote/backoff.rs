//! Pauses between retries.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(500);

/// Pauses that double, up to half a second, because a recovery should be noticed soon and a retry is cheap.
/// They are not random, because there are only a few nodes.
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

    /// Resets the pauses after a success.
    pub(crate) fn reset(&mut self) {
        self.0 = FIRST;
    }
}
