//! Intervals: instants at equal distances, counted from the epoch, so that a restart moves nothing.

use std::{fmt, time::Duration};

use crate::civil::Timestamp;

/// Instants at equal distances: `k * every + phase` seconds after 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interval {
    every: u32,
    phase: u32,
}

/// The longest interval: ten years of 366 days.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// An interval that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntervalError {
    /// A distance of zero, or a part of a second.
    #[error("an interval must be a whole number of seconds, from 1s to 3660d")]
    Every,
    /// A phase that is not shorter than the interval.
    #[error(
        "the phase of an interval must be a whole number of seconds and shorter than the interval"
    )]
    Phase,
}

impl Interval {
    /// An interval of `every`, moved by `phase` from the epoch.
    ///
    /// # Errors
    ///
    /// If they are no whole seconds, `every` is not from one second to 3,660 days, or `phase` is not less.
    pub fn new(every: Duration, phase: Duration) -> Result<Self, IntervalError> {
        if every > LONGEST || every.is_zero() || every.subsec_nanos() != 0 {
            return Err(IntervalError::Every);
        }
        if phase >= every || phase.subsec_nanos() != 0 {
            return Err(IntervalError::Phase);
        }
        let seconds = |duration: Duration| u32::try_from(duration.as_secs());
        match (seconds(every), seconds(phase)) {
            (Ok(every), Ok(phase)) => Ok(Self { every, phase }),
            _ => Err(IntervalError::Every),
        }
    }

    /// The distance of two instants.
    #[must_use]
    pub fn every(self) -> Duration {
        Duration::from_secs(u64::from(self.every))
    }

    /// The time from the epoch to the first instant.
    #[must_use]
    pub fn phase(self) -> Duration {
        Duration::from_secs(u64::from(self.phase))
    }

    /// The first instant after `after`.
    #[must_use]
    pub fn next_after(self, after: Timestamp) -> Timestamp {
        let (every, phase) = (i64::from(self.every), i64::from(self.phase));
        let passed = (after.seconds() - phase).div_euclid(every);
        Timestamp::from_seconds((passed + 1) * every + phase)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@every {}", duration_text(self.every))?;
        if self.phase > 0 {
            write!(f, "/{}", duration_text(self.phase))?;
        }
        Ok(())
    }
}

const UNITS: [(char, u32); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// A duration such as `1h30m`.
pub(crate) fn duration_text(mut seconds: u32) -> String {
    let mut text = String::new();
    for (unit, size) in UNITS {
        if seconds >= size {
            text.push_str(&format!("{}{unit}", seconds / size));
            seconds %= size;
        }
    }
    text
}

/// Reads a sum of numbers with units, largest first: `1w`, `1d12h`, `90m`, `45s`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (0_u64, text);
    let mut last_size = u64::MAX;
    if text.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest.get(..end).filter(|digits| digits.len() <= 10)?.parse().ok()?;
        let unit = rest[end..].chars().next()?;
        let size = match unit {
            'w' => 7 * 86_400,
            _ => u64::from(UNITS.iter().find(|(name, _)| *name == unit)?.1),
        };
        if size >= last_size {
            return None;
        }
        last_size = size;
        total += number * size;
        rest = &rest[end + unit.len_utf8()..];
    }
    Some(Duration::from_secs(total))
}
