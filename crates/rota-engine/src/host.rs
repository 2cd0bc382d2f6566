//! The host of an engine: its clocks, random numbers and threads.
//!
//! The caller that starts an engine passes them in, so that the shipped engine can run in a simulator in
//! which every step follows from one seed. Timers are not included: the engine uses `tokio::time`, which the
//! simulator pauses.

use std::{
    fmt::Debug,
    panic::resume_unwind,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rota_core::{MonoTime, Now, SessionId, WallTime};
use tokio::time::Instant;

/// The two clocks of a host.
pub trait Clock: Debug + Send + Sync {
    /// The time of both clocks. The monotonic clock has an arbitrary origin and never goes back. The wall
    /// clock can jump in both directions.
    fn now(&self) -> Now;
}

/// A source of random numbers. They need not be secret, but two nodes must not get the same ones.
pub trait Random: Debug + Send + Sync {
    /// A uniformly random 64-bit number.
    fn next(&self) -> u64;
}

/// Where long work runs that would block the engine's loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parallel {
    /// On separate threads.
    #[default]
    Threads,
    /// At once on the caller's thread, so always in the same order.
    Inline,
}

/// The host of an engine.
#[derive(Debug, Clone)]
pub struct Host {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    parallel: Parallel,
}

impl Host {
    /// Makes a host of these parts.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>, parallel: Parallel) -> Self {
        Self { clock, random, parallel }
    }

    /// The machine on which this process runs.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock::start()), Arc::new(SystemRandom), Parallel::Threads)
    }

    /// The time of both clocks.
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// A random number.
    pub(crate) fn random(&self) -> u64 {
        self.random.next()
    }

    /// A unique id for a new session, not 0.
    pub(crate) fn session_id(&self) -> SessionId {
        SessionId(self.random().max(1))
    }

    pub(crate) fn parallel(&self) -> Parallel {
        self.parallel
    }

    /// Runs blocking work on a thread, if the host has threads. Cancel safe: the work is done even if nobody
    /// waits for its result.
    ///
    /// # Panics
    /// When the work does.
    #[expect(clippy::disallowed_methods, reason = "the one place that gives work to a thread")]
    pub(crate) async fn block_on<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match self.parallel {
            Parallel::Inline => work(),
            Parallel::Threads => {
                // Blocking tasks are never aborted here, so it can only have panicked.
                let done = tokio::task::spawn_blocking(work).await;
                done.unwrap_or_else(|error| resume_unwind(error.into_panic()))
            }
        }
    }
}

impl Host {
    /// Drops a large value on a thread, if the host has threads.
    #[expect(clippy::disallowed_methods, reason = "gives work to a thread, as above")]
    pub(crate) fn discard<T: Send + 'static>(&self, value: T) {
        match self.parallel {
            Parallel::Inline => drop(value),
            Parallel::Threads => drop(tokio::task::spawn_blocking(move || drop(value))),
        }
    }
}

/// The clocks of the operating system.
#[derive(Debug)]
struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    fn start() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Now {
        // A clock before 1970 counts as 1970, because nothing can be due earlier.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            wall: WallTime(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
            mono: MonoTime(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

#[derive(Debug)]
struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "the one place that draws random numbers")]
    fn next(&self) -> u64 {
        fastrand::u64(..)
    }
}
