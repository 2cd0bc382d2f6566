//! Dates, ranges of dates, and moments as people write them.

use crate::civil::{LocalDate, LocalTime};

/// A moment: an instant, or a local time that needs a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Moment {
    /// Seconds since the epoch (`2026-03-08T07:00:00Z`).
    Instant(i64),
    /// A local time (`2026-03-08T02:30`).
    Local(LocalTime),
}

/// Reads `2026-12-25`.
pub(crate) fn parse_date(text: &str) -> Option<LocalDate> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let well_formed =
        parts.next().is_none() && year.len() == 4 && month.len() == 2 && day.len() == 2;
    let number = |text: &str| {
        if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
    };
    let year: u32 = number(year)?;
    let date = LocalDate::new(year.cast_signed(), number(month)?, number(day)?)?;
    well_formed.then_some(date)
}

/// Reads `2026-12-25` or `2026-12-24..2026-12-26`, whose last day belongs to it.
pub(crate) fn parse_range(text: &str) -> Option<(LocalDate, LocalDate)> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let (first, last) = (parse_date(first)?, parse_date(last)?);
    (first <= last).then_some((first, last))
}

pub(crate) fn range_text((first, last): (LocalDate, LocalDate)) -> String {
    if first == last { first.to_string() } else { format!("{first}..{last}") }
}

/// Reads a date and time of day, with an offset from UTC (then it is an instant) or without. Whole seconds only.
pub(crate) fn parse_moment(text: &str) -> Option<Moment> {
    if text.len() > 40 || text.contains('[') || !text.contains(['T', 't', ' ']) {
        return None;
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        let whole = instant.subsec_nanosecond() == 0;
        return whole.then(|| Moment::Instant(instant.as_second()));
    }
    let local: jiff::civil::DateTime = text.parse().ok()?;
    let date = LocalDate::new(
        i32::from(local.year()),
        u32::from(local.month().unsigned_abs()),
        u32::from(local.day().unsigned_abs()),
    )?;
    let clock = [local.hour(), local.minute(), local.second()]
        .iter()
        .fold(0, |seconds, part| seconds * 60 + u32::from(part.unsigned_abs()));
    (local.subsec_nanosecond() == 0).then(|| Moment::Local(date.at(clock)))
}
