//! A cron expression as sets of bits, and the search for the next date and time that it matches.
//!
//! An expression knows nothing of time zones, clocks that change and holidays: it matches local times. The module
//! `parse` reads the text, `normal` writes it back.

mod describe;
mod field;
mod hash;
mod normal;
mod parse;

use std::fmt;

pub use self::parse::{ExpressionError, Parsed, Rule, parse};
use crate::civil::{LAST_YEAR, LocalDate, LocalTime, days_in_month};

/// The first year that the field of years can name.
pub(crate) const FIRST_NAMED_YEAR: i32 = 1970;

/// Bits of a weekday in [`Expression::weekdays`]: the first to the fifth of the month, then the last.
const BITS_OF_A_WEEKDAY: u32 = 6;
const EVERY_ONE: u64 = 0b01_1111;
const LAST_ONE: u64 = 0b10_0000;
const EVERY_WEEKDAY: u64 = {
    let mut all = 0;
    let mut weekday = 0;
    while weekday < 7 {
        all |= EVERY_ONE << (weekday * BITS_OF_A_WEEKDAY);
        weekday += 1;
    }
    all
};
/// Bits 1 to 31.
const EVERY_DAY: u32 = u32::MAX - 1;

/// A cron expression: the local dates and times that it matches.
///
/// Two expressions are equal if they mean the same, however they were written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Expression {
    seconds: u64,
    minutes: u64,
    /// The weekdays, six bits each: see [`BITS_OF_A_WEEKDAY`].
    weekdays: u64,
    /// A bit for each year from [`FIRST_NAMED_YEAR`]. Nothing means every year.
    years: Option<Box<[u64; 4]>>,
    hours: u32,
    /// Bits 1 to 31.
    days: u32,
    /// Bit n: n days before the last day of the month (`L-n`).
    from_last: u32,
    /// Bits 1 to 31: the weekday nearest to that day (`15W`). Bit 0: the last weekday (`LW`).
    near: u32,
    /// Bits 1 to 12.
    months: u16,
    /// Both the day of the month and the weekday must match. Otherwise one of them is enough.
    both: bool,
    /// Minute and hour are both given without `*` and without a step.
    fixed: bool,
}

impl Expression {
    /// Whether these are fixed times of the day. Minute and hour are then both without `*` and without a step.
    ///
    /// Fixed times run once a day even if the clock jumps over them or shows them twice. Others follow real time.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// Whether this local time matches.
    #[must_use]
    pub fn matches(&self, local: LocalTime) -> bool {
        self.matches_clock(local) && self.matches_date(local.date())
    }

    fn matches_clock(&self, local: LocalTime) -> bool {
        let (hour, minute, second) = local.clock();
        self.hours >> hour & 1 == 1
            && self.minutes >> minute & 1 == 1
            && self.seconds >> second & 1 == 1
    }

    /// Whether some time of this date matches.
    pub(crate) fn matches_date(&self, date: LocalDate) -> bool {
        let (year, month, day) = date.parts();
        self.has_year(year)
            && self.months >> month & 1 == 1
            && self.days_of(year, month) >> day & 1 == 1
    }

    /// Whether all times of a day match.
    pub(crate) fn covers_whole_days(&self) -> bool {
        self.hours == (1 << 24) - 1
            && self.minutes == (1 << 60) - 1
            && self.seconds == (1 << 60) - 1
    }

    /// The same expression for every second of the minutes that it matches.
    pub(crate) fn at_any_second(mut self) -> Self {
        self.seconds = (1 << 60) - 1;
        self
    }

    /// The first date from `from` on that matches.
    pub(crate) fn next_date(&self, from: LocalDate) -> Option<LocalDate> {
        let (mut year, mut month, day) = from.parts();
        let mut not_before = u32::MAX << day;
        while year <= LAST_YEAR {
            if !self.has_year(year) {
                (year, month, not_before) = (self.year_after(year)?, 1, u32::MAX);
                continue;
            }
            let later_months = u32::from(self.months) & (u32::MAX << month);
            if later_months == 0 {
                (year, month, not_before) = (year + 1, 1, u32::MAX);
                continue;
            }
            if later_months.trailing_zeros() != month {
                (month, not_before) = (later_months.trailing_zeros(), u32::MAX);
            }
            let days = self.days_of(year, month) & not_before;
            if days != 0 {
                return Some(LocalDate::valid(year, month, days.trailing_zeros()));
            }
            (month, not_before) = (month + 1, u32::MAX);
        }
        None
    }

    /// The first matching time of a day, in seconds from midnight, at or after `from`.
    pub(crate) fn next_clock(&self, from: u32) -> Option<u32> {
        let (hour, minute, second) = (from / 3600, from / 60 % 60, from % 60);
        let hours = self.hours & u32::MAX.checked_shl(hour).unwrap_or(0);
        let next = hours.trailing_zeros();
        if next != hour {
            return (hours != 0).then(|| self.first_in_hour(next));
        }
        let minutes = self.minutes & (u64::MAX << minute);
        let next = minutes.trailing_zeros();
        if next == minute {
            let seconds = self.seconds & (u64::MAX << second);
            if seconds != 0 {
                return Some(hour * 3600 + minute * 60 + seconds.trailing_zeros());
            }
        }
        let minutes = self.minutes & u64::MAX.checked_shl(minute + 1).unwrap_or(0);
        if minutes != 0 {
            let minute = minutes.trailing_zeros();
            return Some(hour * 3600 + minute * 60 + self.seconds.trailing_zeros());
        }
        let hours = self.hours & u32::MAX.checked_shl(hour + 1).unwrap_or(0);
        (hours != 0).then(|| self.first_in_hour(hours.trailing_zeros()))
    }

    fn first_in_hour(&self, hour: u32) -> u32 {
        hour * 3600 + self.minutes.trailing_zeros() * 60 + self.seconds.trailing_zeros()
    }

    fn has_year(&self, year: i32) -> bool {
        let Some(years) = &self.years else { return true };
        let Ok(index) = usize::try_from(year - FIRST_NAMED_YEAR) else { return false };
        years.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn year_after(&self, year: i32) -> Option<i32> {
        (year.max(FIRST_NAMED_YEAR - 1) + 1..FIRST_NAMED_YEAR + 256)
            .find(|&year| self.has_year(year))
    }

    /// The matching days of a month as bits 1 to 31.
    fn days_of(&self, year: i32, month: u32) -> u32 {
        let length = days_in_month(year, month);
        let existing = EVERY_DAY & (u32::MAX >> (31 - length));
        if self.days == EVERY_DAY && self.weekdays == EVERY_WEEKDAY {
            return existing;
        }
        let first_weekday = LocalDate::valid(year, month, 1).weekday();
        let by_day =
            self.days | self.days_before_last(length) | self.near_days(length, first_weekday);
        let by_weekday = self.weekdays_of(length, first_weekday);
        let matching = if self.both { by_day & by_weekday } else { by_day | by_weekday };
        matching & existing
    }

    fn days_before_last(&self, length: u32) -> u32 {
        // Bit n becomes bit `length - n`.
        if self.from_last == 0 { 0 } else { self.from_last.reverse_bits() >> (31 - length) }
    }

    fn near_days(&self, length: u32, first_weekday: u32) -> u32 {
        let mut left = self.near;
        let mut days = 0;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            let day = if bit == 0 { length } else { bit };
            // A month without the day has no nearest weekday either: 31W is not 30W.
            if day <= length {
                days |= 1 << nearest_weekday(day, length, first_weekday);
            }
        }
        days
    }

    fn weekdays_of(&self, length: u32, first_weekday: u32) -> u32 {
        if self.weekdays == EVERY_WEEKDAY {
            return EVERY_DAY;
        }
        let mut days = 0;
        for weekday in 0..7 {
            let wanted = self.weekdays >> (weekday * BITS_OF_A_WEEKDAY);
            let first = 1 + (weekday + 7 - first_weekday) % 7;
            for nth in 0..5 {
                if wanted >> nth & 1 == 1 && first + 7 * nth <= length {
                    days |= 1 << (first + 7 * nth);
                }
            }
            if wanted & LAST_ONE != 0 {
                days |= 1 << (first + (length - first) / 7 * 7);
            }
        }
        days
    }
}

/// The day from Monday to Friday that is nearest to `day` in the same month.
fn nearest_weekday(day: u32, length: u32, first_weekday: u32) -> u32 {
    match (first_weekday + day - 1) % 7 {
        6 if day == 1 => 3,
        6 => day - 1,
        0 if day == length => day - 2,
        0 => day + 1,
        _ => day,
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({self})")
    }
}
