//! Types for time: the wall clock for dates, the monotonic clock for durations.

use std::{fmt, ops::Add, time::Duration};

/// A date: milliseconds since 1970-01-01T00:00:00Z. It can jump when somebody sets the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(pub i64);

/// A time of the monotonic clock: milliseconds since an origin that the caller chose. It has no meaning
/// outside the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoTime(pub u64);

/// A duration in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Wall clock, for dates.
    pub wall: WallTime,
    /// Monotonic clock, for durations.
    pub mono: MonoTime,
}

impl WallTime {
    /// The latest date that Rota accepts: 2500-01-01T00:00:00Z.
    pub const MAX: Self = Self(16_725_225_600_000);

    /// The time since `earlier`. Zero if this is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Millis {
        Millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl MonoTime {
    /// The time since `earlier`. Zero if this is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Millis {
    /// A number of seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    /// Rounds up, so that a positive duration never becomes zero. Saturates.
    #[must_use]
    pub fn from_duration(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }

    /// The same as a standard duration.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl Add<Millis> for WallTime {
    type Output = Self;

    fn add(self, rhs: Millis) -> Self {
        Self(self.0.saturating_add(i64::try_from(rhs.0).unwrap_or(i64::MAX)))
    }
}

impl Add<Millis> for MonoTime {
    type Output = Self;

    fn add(self, rhs: Millis) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_duration())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_rounded_up_to_milliseconds() {
        for (nanos, millis) in
            [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2), (2_500_000_000, 2500)]
        {
            assert_eq!(
                Millis::from_duration(Duration::from_nanos(nanos)),
                Millis(millis),
                "{nanos}"
            );
        }
        assert_eq!(Millis::from_duration(Duration::MAX), Millis(u64::MAX));
        assert_eq!(Millis::from_secs(2).as_duration(), Duration::from_millis(2000));
        assert_eq!(
            (Millis(1500).to_string(), Millis(7).to_string()),
            ("1.5s".into(), "7ms".into())
        );
    }

    #[test]
    fn time_between_two_moments_is_never_negative() {
        for (from, to, between) in [(5, 12, 7), (5, 5, 0), (12, 5, 0)] {
            let wall = WallTime(to).since(WallTime(from));
            let mono = MonoTime(to.cast_unsigned()).since(MonoTime(from.cast_unsigned()));
            assert_eq!((wall, mono), (Millis(between), Millis(between)), "{from} to {to}");
        }
        assert_eq!(WallTime(i64::MAX).since(WallTime(i64::MIN)), Millis(i64::MAX.cast_unsigned()));
        assert_eq!(WallTime(5) + Millis(7), WallTime(12));
        assert_eq!(WallTime(5) + Millis(u64::MAX), WallTime(i64::MAX));
        assert_eq!(MonoTime(5) + Millis(u64::MAX), MonoTime(u64::MAX));
    }
}
