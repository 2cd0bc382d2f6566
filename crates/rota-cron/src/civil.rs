//! Instants, and dates and times as a wall clock shows them, without a time zone.
//!
//! Days are counted from 1970-01-01 and seconds from its midnight, so that a search is arithmetic on integers.
//! The module [`crate::zone`] turns one kind into the other.

use std::fmt;

pub(crate) const DAY: i64 = 86_400;

/// The last year in which a search looks for a run.
pub(crate) const LAST_YEAR: i32 = 2499;

/// The names of months, January first.
pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The names of days, Sunday first.
pub(crate) const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The earliest instant from which a search starts. Earlier ones count as this one.
    pub const MIN: Self = Self(0);

    /// The instant `seconds` after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds * 1000)
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = LocalTime(self.seconds());
        match self.0.rem_euclid(1000) {
            // Ids of tasks have it, tens of thousands a second.
            0 => match local.digits() {
                Some(digits) => f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?),
                None => write!(f, "{local}Z"),
            },
            millis => write!(f, "{local}.{millis:03}Z"),
        }
    }
}

/// A date without a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalDate(pub(crate) i32);

impl LocalDate {
    /// The date with this year, month (1 to 12) and day of the month, or nothing if it does not exist.
    #[must_use]
    pub fn new(year: i32, month: u32, day: u32) -> Option<Self> {
        let exists = (1..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day);
        exists.then(|| Self::valid(year, month, day))
    }

    /// The date with these parts, which the caller knows to exist.
    pub(crate) fn valid(year: i32, month: u32, day: u32) -> Self {
        // Howard Hinnant's days_from_civil: years begin in March, so that the leap day is the last one.
        let shifted_year = year - i32::from(month <= 2);
        let era = shifted_year.div_euclid(400);
        let year_of_era = shifted_year.rem_euclid(400);
        let month = month.cast_signed();
        let shifted_month = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * shifted_month + 2) / 5 + day.cast_signed() - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Self(era * 146_097 + day_of_era - 719_468)
    }

    /// Year, month (1 to 12) and day of the month.
    #[must_use]
    pub fn parts(self) -> (i32, u32, u32) {
        let days = self.0 + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i32::from(month <= 2);
        (year, month.cast_unsigned(), day.cast_unsigned())
    }

    /// The day of the week. Sunday is 0.
    #[must_use]
    pub fn weekday(self) -> u32 {
        (self.0 + 4).rem_euclid(7).cast_unsigned()
    }

    pub(crate) fn plus(self, days: i32) -> Self {
        Self(self.0 + days)
    }

    pub(crate) fn midnight(self) -> LocalTime {
        LocalTime(i64::from(self.0) * DAY)
    }

    /// Midnight plus `second` seconds on a wall clock.
    pub(crate) fn at(self, second: u32) -> LocalTime {
        LocalTime(i64::from(self.0) * DAY + i64::from(second))
    }
}

impl fmt::Display for LocalDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.parts();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// A date and time as a wall clock shows it, without a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalTime(pub(crate) i64);

impl LocalTime {
    /// The date.
    #[must_use]
    pub fn date(self) -> LocalDate {
        // Years beyond 9999 do not occur: the search ends before.
        LocalDate(i32::try_from(self.0.div_euclid(DAY)).unwrap_or(i32::MAX))
    }

    /// The second of the day, from midnight.
    #[must_use]
    pub fn second_of_day(self) -> u32 {
        u32::try_from(self.0.rem_euclid(DAY)).unwrap_or(0)
    }

    /// The text with a `Z` behind it, if the year has four digits.
    fn digits(self) -> Option<[u8; 20]> {
        let (year, month, day) = self.date().parts();
        let year = u32::try_from(year).ok().filter(|year| *year < 10_000)?;
        let (hour, minute, second) = self.clock();
        let mut text = *b"0000-00-00T00:00:00Z";
        for (at, number) in [
            (0, year / 100),
            (2, year % 100),
            (5, month),
            (8, day),
            (11, hour),
            (14, minute),
            (17, second),
        ] {
            text[at] += u8::try_from(number / 10).ok()?;
            text[at + 1] += u8::try_from(number % 10).ok()?;
        }
        Some(text)
    }

    /// Hour, minute and second.
    #[must_use]
    pub fn clock(self) -> (u32, u32, u32) {
        let second = self.second_of_day();
        (second / 3600, second / 60 % 60, second % 60)
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute, second) = self.clock();
        write!(f, "{}T{hour:02}:{minute:02}:{second:02}", self.date())
    }
}

pub(crate) fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(crate) fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_agree_over_all_years() {
        let mut number = LocalDate::valid(1600, 1, 1).0;
        for year in 1600..=2500 {
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month) {
                    let date = LocalDate::valid(year, month, day);
                    assert_eq!(date.0, number);
                    assert_eq!(date.parts(), (year, month, day));
                    number += 1;
                }
            }
        }
    }

    #[test]
    fn dates_are_printed_and_have_their_weekday() {
        assert_eq!(LocalDate(0).to_string(), "1970-01-01");
        assert_eq!(LocalDate(0).weekday(), 4);
        let friday = LocalDate::new(2026, 11, 27).expect("a date");
        assert_eq!((friday.to_string().as_str(), friday.weekday()), ("2026-11-27", 5));
        assert_eq!(LocalDate::new(2026, 2, 29), None);
        assert_eq!(friday.at(9_005).to_string(), "2026-11-27T02:30:05");
        assert_eq!(Timestamp(1_500).to_string(), "1970-01-01T00:00:01.500Z");
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_770_059_000, "2026-11-27T09:00:59Z"),
            (253_402_300_799_000, "9999-12-31T23:59:59Z"),
            (253_402_300_800_000, "10000-01-01T00:00:00Z"),
            (-62_135_596_800_000, "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp(millis).to_string(), text);
        }
    }
}
