//! How fast the machine catches up on late ticks and works off backfills, so that neither delays other ticks and tasks.
//!
//! A token bucket. Each look at a schedule that is behind takes a token. A look creates at most one task.

use crate::{Millis, MonoTime};

/// Number of looks in a millisecond. An embedded store takes about three times as many ticks.
const PER_MILLI: u64 = 10;
/// Number of looks at once, so that batches stay small.
const AT_ONCE: u64 = 256;
/// A step is not made for fewer looks than this, unless they are all.
const WORTH_A_STEP: u64 = 100;

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    tokens: u64,
    /// When the tokens were counted.
    counted_at: MonoTime,
}

impl Default for Pace {
    fn default() -> Self {
        Self { tokens: AT_ONCE, counted_at: MonoTime(0) }
    }
}

impl Pace {
    /// The number of looks that this step may take.
    pub(super) fn allowed(&mut self, now: MonoTime) -> usize {
        self.tokens = self.tokens_at(now);
        self.counted_at = now;
        usize::try_from(self.tokens).unwrap_or(usize::MAX)
    }

    /// Takes the tokens of that many looks.
    pub(super) fn take(&mut self, looks: usize) {
        self.tokens = self.tokens.saturating_sub(looks as u64);
    }

    /// The time until the next step for this many schedules is worth it.
    pub(super) fn wait(&self, schedules: usize, now: MonoTime) -> Millis {
        let wanted = WORTH_A_STEP.min(schedules as u64);
        Millis(wanted.saturating_sub(self.tokens_at(now)).div_ceil(PER_MILLI))
    }

    fn tokens_at(&self, now: MonoTime) -> u64 {
        let more = now.since(self.counted_at).0.saturating_mul(PER_MILLI);
        self.tokens.saturating_add(more).min(AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_bounded_at_once_and_over_time() {
        let mut pace = Pace::default();
        let mut looks = 0;
        for now in (0..1000).map(MonoTime) {
            let allowed = pace.allowed(now);
            assert!(allowed <= 256);
            pace.take(allowed);
            looks += allowed;
        }
        assert_eq!(looks, 256 + 999 * 10);
        assert_eq!(pace.allowed(MonoTime(60_000)), 256, "what was not used does not add up");
    }

    #[test]
    fn a_step_waits_until_it_is_worth_it() {
        let mut pace = Pace::default();
        let now = MonoTime(7);
        assert_eq!(pace.wait(1000, now), Millis(0));
        let allowed = pace.allowed(now);
        pace.take(allowed);
        assert_eq!(pace.wait(1000, now), Millis(10));
        assert_eq!(pace.wait(15, now), Millis(2));
        assert_eq!(pace.wait(1000, MonoTime(12)), Millis(5));
        assert_eq!(pace.wait(0, now), Millis(0));
    }
}
