//! A simulated machine: one process with a runtime and clocks of its own.
//!
//! Each has a current-thread runtime whose clock is paused, and all of them run on the driver's thread,
//! one after the other, a tick at a time. A *paused* process does not run while its monotonic clock
//! goes on; a *suspended* machine stands still with its monotonic clock. A *crash* drops the runtime
//! with all that runs in it.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use rota_core::{MonoTime, Now, WallTime};
use rota_engine::Clock;
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

use crate::rest::Rest;

/// The wall clock at the beginning of every run, in milliseconds since 1970.
pub(crate) const WALL_AT_START: i64 = 1_800_000_000_000;

/// The clocks of a machine, as its process sees them.
#[derive(Debug)]
pub(crate) struct SimClock {
    /// When the process began, by its own monotonic clock.
    origin: Mutex<Option<Instant>>,
    /// What the wall clock says more than the monotonic one.
    wall_ahead: AtomicI64,
    rest: Arc<Rest>,
}

impl Clock for SimClock {
    fn now(&self) -> Now {
        self.rest.asked();
        let origin = *self.origin.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked from within the machine's runtime alone; its clock is paused and moved by ticks.
        let mono = origin.map_or(Duration::ZERO, |origin| origin.elapsed());
        let mono = u64::try_from(mono.as_millis()).unwrap_or(u64::MAX);
        let wall = self.wall_ahead.load(Ordering::Relaxed);
        Now { wall: WallTime(wall + mono.cast_signed()), mono: MonoTime(mono) }
    }
}

/// Whether a machine's process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Running {
    Yes,
    /// Stopped, while its monotonic clock goes on.
    Paused,
    /// Stopped with its monotonic clock.
    Suspended,
}

pub(crate) struct Machine {
    runtime: Option<Runtime>,
    pub(crate) clock: Arc<SimClock>,
    running: Running,
    missed: Duration,
    /// How far its wall clock is off, in milliseconds.
    skew_ms: i64,
}

impl Machine {
    pub(crate) fn new(rest: Arc<Rest>) -> Self {
        Self {
            runtime: None,
            clock: Arc::new(SimClock {
                origin: Mutex::new(None),
                wall_ahead: AtomicI64::new(WALL_AT_START),
                rest,
            }),
            running: Running::Yes,
            missed: Duration::ZERO,
            skew_ms: 0,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.runtime.is_some()
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.running == Running::Suspended
    }

    pub(crate) fn runs(&self) -> bool {
        self.is_up() && self.running == Running::Yes
    }

    /// Starts the process: `now_us` is the simulated time.
    pub(crate) fn boot(&mut self, now_us: u64, seed: u64) -> std::io::Result<&Runtime> {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true);
        // Whom a watch wakes first, tokio draws. Without its unstable interface that cannot be seeded.
        #[cfg(tokio_unstable)]
        builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
        let _ = seed;
        let runtime = builder.build()?;
        self.running = Running::Yes;
        self.missed = Duration::ZERO;
        {
            let _inside = runtime.enter();
            *self.clock.origin.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Instant::now());
        }
        let wall = WALL_AT_START + (now_us / 1000).cast_signed() + self.skew_ms;
        self.clock.wall_ahead.store(wall, Ordering::Relaxed);
        Ok(self.runtime.insert(runtime))
    }

    /// Ends the process: the runtime that is returned is to be dropped.
    pub(crate) fn crash(&mut self) -> Option<Runtime> {
        self.runtime.take()
    }

    /// Lets the process run for a tick, or stand still for one. False: it did not come to rest.
    pub(crate) fn tick(&mut self, tick: Duration) -> bool {
        let Some(runtime) = &self.runtime else { return true };
        if self.running != Running::Yes {
            self.missed += tick;
            return true;
        }
        let rest = &self.clock.rest;
        runtime.block_on(async {
            let mut over = pin!(tokio::time::sleep(tick));
            poll_fn(|context| {
                if rest.is_missed() {
                    return Poll::Ready(false);
                }
                rest.begin(context.waker());
                over.as_mut().poll(context).map(|()| true)
            })
            .await
        })
    }

    pub(crate) fn stop(&mut self, how: Running) {
        if self.is_up() && self.running == Running::Yes {
            self.running = how;
        }
    }

    /// Lets a stopped process go on.
    pub(crate) fn resume(&mut self) {
        let Some(runtime) = &self.runtime else { return };
        let missed = std::mem::take(&mut self.missed);
        match std::mem::replace(&mut self.running, Running::Yes) {
            Running::Yes => {}
            Running::Paused => runtime.block_on(async { tokio::time::advance(missed).await }),
            Running::Suspended => {
                let missed_ms = i64::try_from(missed.as_millis()).unwrap_or(i64::MAX);
                self.clock.wall_ahead.fetch_add(missed_ms, Ordering::Relaxed);
            }
        }
    }

    /// How far its wall clock is off.
    pub(crate) fn skew_ms(&self) -> i64 {
        self.skew_ms
    }

    /// Moves the wall clock by so much.
    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.skew_ms += by_ms;
        self.clock.wall_ahead.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Sets the wall clock right.
    pub(crate) fn set_right(&mut self) {
        let skew = std::mem::take(&mut self.skew_ms);
        self.clock.wall_ahead.fetch_sub(skew, Ordering::Relaxed);
    }
}

/// Makes the numbers of the tasks to come a multiple of what tokio shares them out by: a runtime that
/// is dropped ends its tasks in an order that depends on their numbers, which count on from run to run
/// within a process.
pub(crate) fn align_task_numbers() -> std::io::Result<()> {
    const MULTIPLE: u64 = 64;
    let runtime = Builder::new_current_thread().build()?;
    loop {
        let id = runtime.spawn(async {}).id().to_string();
        if id.parse::<u64>().is_ok_and(|number| (number + 1).is_multiple_of(MULTIPLE)) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn booted() -> Machine {
        let mut machine = Machine::new(Arc::default());
        machine.boot(0, 1).unwrap();
        machine
    }

    #[test]
    fn a_machine_that_waits_comes_to_rest() {
        let mut machine = booted();
        let clock = machine.clock.clone();
        machine.runtime.as_ref().unwrap().spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(1));
            loop {
                clock.now();
                beat.tick().await;
            }
        });
        for _ in 0..1000 {
            assert!(machine.tick(Duration::from_millis(1)));
        }
    }

    #[test]
    fn a_loop_that_never_waits_is_noticed() {
        let mut machine = booted();
        let clock = machine.clock.clone();
        machine.runtime.as_ref().unwrap().spawn(async move {
            loop {
                clock.now();
                tokio::task::yield_now().await;
            }
        });
        assert!(!machine.tick(Duration::from_millis(1)));
    }
}
