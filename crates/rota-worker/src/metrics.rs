//! The counts of a session. Without the feature `metrics`, nothing is counted.

#[cfg(feature = "metrics")]
pub(crate) use rota_metrics::{AttemptEnd, WorkerMetrics};

#[cfg(not(feature = "metrics"))]
pub(crate) use off::{AttemptEnd, WorkerMetrics};

/// The same functions, without effect.
#[cfg(not(feature = "metrics"))]
mod off {
    use std::time::Duration;

    /// How an attempt ended on a worker.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum AttemptEnd {
        Completed,
        Failed,
        Cancelled,
        Snoozed,
        Released,
        Dropped,
    }

    /// Counts nothing.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct WorkerMetrics;

    #[expect(clippy::unused_self, reason = "the methods are those of the feature `metrics`")]
    impl WorkerMetrics {
        pub(crate) const fn new(_: &'static str) -> Self {
            Self
        }

        pub(crate) const fn set_slots(self, _: u32) {}

        pub(crate) const fn set_connected(self, _: bool) {}

        pub(crate) const fn refused(self) {}

        pub(crate) const fn began(self) {}

        pub(crate) const fn ended(self, _: &str, _: AttemptEnd, _: Duration) {}
    }
}
