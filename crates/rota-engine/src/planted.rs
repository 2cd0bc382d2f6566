//! Mistakes that can be planted in the engine, so that it is seen whether the simulator finds them.
//!
//! Only builds with the feature `planted-faults` have them, and there one is made only after
//! `Planted::plant` was called on the same thread. In any other build `Planted::is_made` is false,
//! and what hangs on it is not compiled in.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Answers and dispatches leave before their batch is durable.
    ReleasesEarly,
    /// Heartbeats are answered and not noted.
    IgnoresHeartbeats,
    /// Now and then a task is assigned and never sent.
    DropsDispatches,
    /// The copy of the backlog keeps what ended.
    KeepsEndedInCopy,
    /// The copy of the backlog is used though it does not hold the last batch.
    TrustsOldCopy,
    /// A new leader forgets some of the tasks that it reads.
    ForgetsTasks,
    /// A commit whose outcome is not known counts as landed.
    TakesUnknownForLanded,
    /// A commit whose outcome is not known counts as not landed.
    TakesUnknownForLost,
    /// A commit that the fence refused counts as landed.
    IgnoresFences,
    /// A worker that comes back is answered on its former channel.
    KeepsFormerChannel,
    /// Nobody is known by the names that tasks give themselves.
    ForgetsNames,
    /// A call without an answer in time says that it changed nothing.
    LiesAboutTimeouts,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::ReleasesEarly,
        Self::IgnoresHeartbeats,
        Self::DropsDispatches,
        Self::KeepsEndedInCopy,
        Self::TrustsOldCopy,
        Self::ForgetsTasks,
        Self::TakesUnknownForLanded,
        Self::TakesUnknownForLost,
        Self::IgnoresFences,
        Self::KeepsFormerChannel,
        Self::ForgetsNames,
        Self::LiesAboutTimeouts,
    ];

    /// Whether engines on this thread make this mistake.
    #[cfg(not(feature = "planted-faults"))]
    pub(crate) const fn is_made(self) -> bool {
        let _ = self;
        false
    }

    /// Whether engines on this thread make this mistake.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn is_made(self) -> bool {
        MADE.get() == Some(self)
    }

    /// Whether they make it this time: once in so many times.
    pub(crate) fn is_made_once_in(self, times: u32) -> bool {
        #[cfg(feature = "planted-faults")]
        if self.is_made() {
            COUNT.set(COUNT.get() + 1);
            return COUNT.get().is_multiple_of(times);
        }
        let _ = (self, times);
        false
    }

    /// Engines on this thread make this mistake from now on, or none.
    #[cfg(feature = "planted-faults")]
    pub fn plant(planted: Option<Self>) {
        MADE.set(planted);
        COUNT.set(0);
    }
}

#[cfg(feature = "planted-faults")]
thread_local! {
    static MADE: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
    static COUNT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}
