//! The policy of a task: retries, timeout, retention.

use crate::{lifecycle::Status, time::Millis};

/// The retry policy of a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Maximum number of failed attempts, 1 to 1000. Lost attempts do not count.
    pub max_attempts: u32,
    /// Delay after the first failure.
    pub initial: Millis,
    /// Factor by which the delay grows with each failure, 1.0 to 100.0.
    pub multiplier: f64,
    /// Maximum delay.
    pub max: Millis,
    /// Randomness of the delay.
    pub jitter: Jitter,
    /// Number of lost workers before the task fails, 0 to 1000.
    pub max_lost: u32,
    /// Number of times the handler may snooze the task without spending an attempt, 0 to 10,000. A further
    /// snooze is a failure.
    pub max_snoozes: u32,
}

/// The randomness of a delay, so that tasks that failed together are not retried together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Jitter {
    /// A random time between zero and the computed delay ("full jitter", M. Brooker, *Exponential Backoff And
    /// Jitter*, AWS 2015).
    Full,
    /// The computed delay.
    None,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 25,
            initial: Millis::from_secs(1),
            multiplier: 2.0,
            max: Millis::from_secs(3600),
            jitter: Jitter::Full,
            max_lost: 3,
            max_snoozes: 1000,
        }
    }
}

impl RetryPolicy {
    /// The delay before the attempt that follows failure number `failures` (1 for the first).
    ///
    /// `random` is a uniformly random number from the caller.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the value is between 0 and max, which is far below 2^53 ms; sub-millisecond loss is meant"
    )]
    pub fn backoff(&self, failures: u32, random: u64) -> Millis {
        if self.initial.0 == 0 {
            // Zero times infinity would be NaN.
            return Millis(0);
        }
        let exponent = failures.saturating_sub(1).min(1000);
        let grown = self.initial.0 as f64 * self.multiplier.powi(exponent.cast_signed());
        let ceiling = grown.min(self.max.0 as f64) as u64;
        match self.jitter {
            Jitter::None => Millis(ceiling),
            // The high half of the product maps `random` uniformly to 0..=ceiling.
            Jitter::Full => Millis(((u128::from(random) * (u128::from(ceiling) + 1)) >> 64) as u64),
        }
    }
}

/// Default retention of ended tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Completed tasks.
    pub completed: Millis,
    /// Failed, cancelled and expired tasks.
    pub other: Millis,
}

impl Default for Retention {
    fn default() -> Self {
        Self { completed: Millis::from_secs(24 * 3600), other: Millis::from_secs(7 * 24 * 3600) }
    }
}

impl Retention {
    /// The retention of a task with this status.
    #[must_use]
    pub fn of(&self, status: Status) -> Millis {
        if status == Status::Completed { self.completed } else { self.other }
    }
}

/// The policy of a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    pub retry: RetryPolicy,
    /// Maximum duration of one attempt.
    pub timeout: Millis,
    /// Time to keep the ended task. `None` means the default [`Retention`].
    pub retention: Option<Millis>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { retry: RetryPolicy::default(), timeout: Millis::from_secs(30 * 60), retention: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn grows_by_the_multiplier_up_to_the_maximum() {
        let policy = RetryPolicy { jitter: Jitter::None, ..RetryPolicy::default() };
        let delays: Vec<u64> = (1..=14).map(|n| policy.backoff(n, 0).0 / 1000).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]);
        assert_eq!(policy.backoff(u32::MAX, 0), policy.max);
        let at_once = RetryPolicy { initial: Millis(0), multiplier: 100.0, ..policy };
        assert_eq!(at_once.backoff(1000, 0), Millis(0));
    }

    #[test]
    fn full_jitter_spreads_evenly_over_the_computed_delay() {
        let policy = RetryPolicy { initial: Millis(1000), ..RetryPolicy::default() };
        for (random, first, second) in [
            (0, 0, 0),
            (1 << 62, 250, 500),
            (1 << 63, 500, 1000),
            (3 << 62, 750, 1500),
            (u64::MAX, 1000, 2000),
        ] {
            let delays = [1, 2].map(|failures| policy.backoff(failures, random));
            assert_eq!(delays, [Millis(first), Millis(second)], "{random}");
        }
    }

    proptest! {
        #[test]
        fn full_jitter_stays_within_the_computed_delay(n in 1u32..2000, random: u64) {
            let full = RetryPolicy::default();
            let none = RetryPolicy { jitter: Jitter::None, ..full };
            prop_assert!(full.backoff(n, random) <= none.backoff(n, 0));
            prop_assert_eq!(full.backoff(n, u64::MAX), none.backoff(n, 0));
            prop_assert_eq!(full.backoff(n, 0), Millis(0));
        }
    }
}
