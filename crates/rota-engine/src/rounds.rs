//! Periodic work, until the engine stops.

use std::{future::Future, time::Duration};

use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Rounds with a pause in between. The first begins at once.
pub(crate) struct Rounds {
    period: Interval,
    stop: CancellationToken,
}

impl Rounds {
    pub(crate) fn every(period: Duration, stop: CancellationToken) -> Self {
        let mut period = interval(period);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { period, stop }
    }

    /// Waits for the next round. `None` if the engine stops. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<()> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            _ = self.period.tick() => Some(()),
        }
    }

    /// Awaits a future within a round. `None` if the engine stops.
    pub(crate) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            value = work => Some(value),
        }
    }
}
