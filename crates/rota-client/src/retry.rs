//! The retry policy of a task.

use std::time::Duration;

use rota_proto::v1;

/// The retry policy of a task. The defaults of the server apply to everything that is not set.
///
/// ```
/// use std::time::Duration;
/// use rota_client::Retry;
///
/// // 5 attempts, with delays of 2 s, 6 s, 18 s and 30 s between them.
/// let retry = Retry::new()
///     .max_attempts(5)
///     .initial(Duration::from_secs(2))
///     .multiplier(3.0)
///     .max(Duration::from_secs(30))
///     .jitter(false);
/// # let _ = retry;
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use]
pub struct Retry(v1::RetryPolicy);

impl Retry {
    /// A policy with the server's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// A policy without retries: the first failure is final.
    pub fn never() -> Self {
        Self::new().max_attempts(1)
    }

    /// Maximum number of attempts, 1 to 1000. Default: 25.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.0.max_attempts = Some(attempts);
        self
    }

    /// Delay after the first failure. Default: 1 s.
    pub fn initial(mut self, delay: Duration) -> Self {
        self.0.initial = Some(delay.into());
        self
    }

    /// Factor by which the delay grows with each failure, 1 to 100. Default: 2.
    pub fn multiplier(mut self, multiplier: f64) -> Self {
        self.0.multiplier = Some(multiplier);
        self
    }

    /// Maximum delay. Default: 1 h.
    pub fn max(mut self, delay: Duration) -> Self {
        self.0.max = Some(delay.into());
        self
    }

    /// Random delays: each is a random time between zero and the computed backoff. Default: true.
    pub fn jitter(mut self, jitter: bool) -> Self {
        let jitter = if jitter { v1::Jitter::Full } else { v1::Jitter::None };
        self.0.jitter = Some(jitter.into());
        self
    }

    /// Number of lost workers after which the task fails, 0 to 1000. Default: 3.
    pub fn max_lost(mut self, lost: u32) -> Self {
        self.0.max_lost = Some(lost);
        self
    }

    /// Number of times the handler may snooze the task without spending an attempt, 0 to 10,000. A further
    /// snooze counts as a failure. Default: 1000.
    pub fn max_snoozes(mut self, snoozes: u32) -> Self {
        self.0.max_snoozes = Some(snoozes);
        self
    }
}

impl From<Retry> for v1::RetryPolicy {
    fn from(retry: Retry) -> Self {
        retry.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_policy_can_be_set() {
        let second = Duration::from_secs(1);
        let policy: v1::RetryPolicy = Retry::new()
            .max_attempts(5)
            .initial(second)
            .multiplier(3.0)
            .max(second * 9)
            .jitter(false)
            .max_lost(2)
            .max_snoozes(6)
            .into();
        // All fields by name: a new one of the contract does not compile before it has a setter.
        let expected = v1::RetryPolicy {
            max_attempts: Some(5),
            initial: Some(second.into()),
            multiplier: Some(3.0),
            max: Some((second * 9).into()),
            jitter: Some(v1::Jitter::None.into()),
            max_lost: Some(2),
            max_snoozes: Some(6),
        };
        assert_eq!(policy, expected);
        assert_eq!(v1::RetryPolicy::from(Retry::new()), v1::RetryPolicy::default());
    }
}
