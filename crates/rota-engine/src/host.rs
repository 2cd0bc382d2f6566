//! What the engine takes from the machine that it runs on: the time, random numbers and threads.
//!
//! All three are handed in by whoever starts an engine, so that the shipped engine can run in a
//! simulator whose every step follows from one seed. Timers are not among them: the engine sleeps by
//! `tokio::time`, which the simulator pauses.

use std::{
    fmt::Debug,
    panic::resume_unwind,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rota_core::{MonoTime, Now, SessionId, WallTime};
use tokio::time::Instant;

/// The two clocks of a machine.
pub trait Clock: Debug + Send + Sync {
    /// The time by both clocks. The monotonic one counts from a moment of the clock's own choice and
    /// never goes back; the wall clock may jump either way.
    fn now(&self) -> Now;
}

/// A source of random numbers. They need not be secret, but two nodes must not draw the same ones.
pub trait Random: Debug + Send + Sync {
    /// A number drawn evenly from all 64-bit numbers.
    fn next(&self) -> u64;
}

/// Where work runs that would hold up the engine's loop for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parallel {
    /// On threads beside the loop.
    #[default]
    Threads,
    /// At once, on the caller's thread: always in the same order.
    Inline,
}

/// The machine that an engine runs on.
#[derive(Debug, Clone)]
pub struct Host {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    parallel: Parallel,
}

impl Host {
    /// A host made of these parts.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>, parallel: Parallel) -> Self {
        Self { clock, random, parallel }
    }

    /// The machine that this process runs on.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock::start()), Arc::new(SystemRandom), Parallel::Threads)
    }

    /// The time by both clocks.
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// A random number.
    pub(crate) fn random(&self) -> u64 {
        self.random.next()
    }

    /// An id for a new session: nobody else's, and not 0.
    pub(crate) fn session_id(&self) -> SessionId {
        SessionId(self.random().max(1))
    }

    pub(crate) fn parallel(&self) -> Parallel {
        self.parallel
    }

    /// Does work that blocks, without holding up other tasks where there are threads. Cancel safe:
    /// work whose result nobody waits for is still done.
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
    /// Gives the memory of something large back, without holding up the caller where there are threads.
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
        // A clock before 1970 is as good as one at 1970: nothing can be due earlier.
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
