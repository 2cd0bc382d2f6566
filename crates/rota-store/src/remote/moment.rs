//! Moments in time that include suspension of the machine.
//!
//! The monotonic clock of Linux stops while the machine is suspended, and a server's clock does not. With this
//! clock alone, a leader that was suspended for an hour would still rely on its lease when it wakes. So a
//! second clock, which includes suspension, is read too, and a time has passed if it has passed by either
//! clock.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// The clock that includes suspension. On other systems the monotonic clock does.
#[cfg(any(target_os = "linux", target_os = "android"))]
const WITH_SUSPENSION: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const WITH_SUSPENSION: ClockId = ClockId::CLOCK_MONOTONIC;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// By the clock of timers.
    pub(crate) running: Instant,
    /// By the clock that includes suspension, since an arbitrary origin.
    with_suspension: Duration,
}

impl Moment {
    pub(crate) fn now() -> Self {
        // Without this clock it stays zero, so that only the other one counts.
        let with_suspension = clock_gettime(WITH_SUSPENSION).map(Duration::from);
        Self { running: Instant::now(), with_suspension: with_suspension.unwrap_or_default() }
    }

    /// This moment plus a duration.
    pub(crate) fn plus(self, time: Duration) -> Self {
        Self {
            running: self.running + time,
            with_suspension: self.with_suspension.saturating_add(time),
        }
    }

    /// Whether it has passed at the other moment.
    pub(crate) fn has_passed_at(self, now: Self) -> bool {
        now.running >= self.running || now.with_suspension >= self.with_suspension
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_while_the_machine_is_suspended() {
        let (second, now) = (Duration::from_secs(1), Moment::now());
        let until = now.plus(4 * second);
        assert!(!until.has_passed_at(now));
        assert!(!until.has_passed_at(now.plus(3 * second)));
        assert!(until.has_passed_at(now.plus(4 * second)));
        let suspended =
            Moment { with_suspension: now.with_suspension + 3600 * second, ..now.plus(second) };
        assert!(until.has_passed_at(suspended), "the lease outlived the suspension");
    }

    #[test]
    fn the_clock_is_there() {
        assert!(Moment::now().with_suspension > Duration::ZERO);
    }
}
