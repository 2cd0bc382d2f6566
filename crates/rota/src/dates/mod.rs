//! Dates as people write them on the command line: RFC 3339, local times, days, weekdays, and durations from now.
//!
//! A text without an offset is a local time: in the time zone of the user, or of the schedule that it is about.

mod zone;

use jiff::{
    SpanRelativeTo, Unit,
    civil::{self, Weekday},
};
use rota_client::Date;
use rota_cron::{Recurrence, RecurrenceError, RecurrenceSpec, Timestamp, Zone};

pub(crate) use zone::{local_zone, zone_of_host};

/// The forms of a date, for help and errors.
pub(crate) const FORMS: &str = "use a date such as 2026-12-24T17:00:00Z, 2026-12-24 or \"monday 18:00\", or a duration \
                                such as \"2 days ago\" or \"in 3h\"";

/// What a duration without `ago` and `in` means, and to which side weekdays look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toward {
    Past,
    Future,
    /// A duration must say which it means. Weekdays look back.
    Unsaid,
}

/// A date as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Instant(Timestamp),
    /// A day without a time.
    Day(civil::Date),
}

impl Moment {
    /// The instant, or the begin of the day.
    pub(crate) fn begin(self, zone: &Zone) -> Result<Timestamp, String> {
        match self {
            Self::Instant(at) => Ok(at),
            Self::Day(day) => at(day.at(0, 0, 0, 0), zone),
        }
    }

    /// The instant, or the end of the day, which is the begin of the next one.
    pub(crate) fn end(self, zone: &Zone) -> Result<Timestamp, String> {
        match self {
            Self::Instant(at) => Ok(at),
            Self::Day(day) => {
                let next = day.tomorrow().map_err(|error| error.to_string())?;
                at(next.at(0, 0, 0, 0), zone)
            }
        }
    }
}

/// Reads a date.
///
/// # Errors
/// Says why the text is none, and which forms there are.
pub(crate) fn read(
    text: &str,
    toward: Toward,
    now: Timestamp,
    zone: &Zone,
) -> Result<Moment, String> {
    let text = text.trim();
    if let Ok(date) = text.parse::<Date>() {
        return Ok(Moment::Instant(of_date(date)));
    }
    let lower = text.to_ascii_lowercase();
    if lower == "now" {
        return Ok(Moment::Instant(now));
    }
    let today = civil_of(now, zone).date();
    let (day, time) = match lower.rsplit_once(' ').or_else(|| lower.rsplit_once('t')) {
        Some((day, time)) if is_time(time) => (day, Some(time)),
        _ if is_time(&lower) => ("today", Some(&*lower)),
        _ => (&*lower, None),
    };
    match (day_of(day, today, toward), time) {
        (Some(day), None) => return Ok(Moment::Day(day)),
        (Some(day), Some(time)) => {
            let time: civil::Time =
                time.parse().map_err(|_| format!("{time:?} is not a time of day; {FORMS}"))?;
            return at(day.to_datetime(time), zone).map(Moment::Instant);
        }
        (None, _) => {}
    }
    away(&lower, toward, now, zone).map(Moment::Instant)
}

/// Parses the begin of a range in the past, for clap.
pub(crate) fn since(text: &str) -> Result<Date, String> {
    let zone = local_zone();
    read(text, Toward::Past, now(), zone)?.begin(zone).map(to_date)
}

/// Parses the end of a range in the past, which is not in the range, for clap. A day is in the range.
pub(crate) fn until(text: &str) -> Result<Date, String> {
    let zone = local_zone();
    read(text, Toward::Past, now(), zone)?.end(zone).map(to_date)
}

/// Parses the begin of a range on either side of now, for clap.
pub(crate) fn from_either(text: &str) -> Result<Date, String> {
    let zone = local_zone();
    read(text, Toward::Unsaid, now(), zone)?.begin(zone).map(to_date)
}

/// Parses the end of such a range, for clap.
pub(crate) fn to_either(text: &str) -> Result<Date, String> {
    let zone = local_zone();
    read(text, Toward::Unsaid, now(), zone)?.end(zone).map(to_date)
}

/// Parses a date to come, for clap.
pub(crate) fn coming(text: &str) -> Result<Date, String> {
    let zone = local_zone();
    read(text, Toward::Future, now(), zone)?.begin(zone).map(to_date)
}

/// A date in the local time zone, with its offset.
pub(crate) fn local(date: Date) -> String {
    let (zone, at) = (local_zone(), of_date(date));
    let offset = zone.offset(at);
    let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
    format!("{}{sign}{:02}:{:02}", zone.local(at), minutes / 60, minutes % 60)
}

/// The current time.
pub(crate) fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// The same instant for the API.
pub(crate) fn to_date(at: Timestamp) -> Date {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().into()
}

fn of_date(date: Date) -> Timestamp {
    Timestamp(date.timestamp().as_millisecond())
}

/// The local time at an instant.
fn civil_of(at: Timestamp, zone: &Zone) -> civil::DateTime {
    // Both have the form of RFC 3339 without an offset.
    zone.local(at).to_string().parse().unwrap_or_default()
}

/// The instant of a local time. If the clock jumps over it, the end of the gap.
fn at(local: civil::DateTime, zone: &Zone) -> Result<Timestamp, String> {
    // The start of a recurrence is the same kind of date, so the same reader serves both.
    let spec = RecurrenceSpec {
        expressions: vec!["* * * * *".to_owned()],
        time_zone: Some(zone.name().to_owned()),
        start: Some(local.strftime("%Y-%m-%dT%H:%M:%S").to_string()),
        ..RecurrenceSpec::default()
    };
    match Recurrence::new(&spec, "") {
        Ok(recurrence) => Ok(recurrence.start().unwrap_or_default()),
        Err(error @ RecurrenceError::Date { .. }) => {
            let text = error.to_string();
            Err(text.strip_prefix("start: ").unwrap_or(&text).to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn is_time(text: &str) -> bool {
    text.contains(':') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':')
}

/// A day by its date or a word.
fn day_of(word: &str, today: civil::Date, toward: Toward) -> Option<civil::Date> {
    match word {
        "today" => return Some(today),
        "yesterday" => return today.yesterday().ok(),
        "tomorrow" => return today.tomorrow().ok(),
        _ => {}
    }
    let is_date =
        word.len() == 10 && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if is_date {
        return word.parse().ok();
    }
    let weekday = weekday(word)?;
    let (is_today, steps) = match toward {
        // The next one after today.
        Toward::Future => (false, 1),
        // The last one, which can be today.
        Toward::Past | Toward::Unsaid => (today.weekday() == weekday, -1),
    };
    if is_today { Some(today) } else { today.nth_weekday(steps, weekday).ok() }
}

fn weekday(word: &str) -> Option<Weekday> {
    const NAMES: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let is_it = |name: &str| name == word || name[..3] == *word;
    NAMES.iter().find(|(name, _)| is_it(name)).map(|(_, weekday)| *weekday)
}

/// An instant some time from now.
fn away(text: &str, toward: Toward, now: Timestamp, zone: &Zone) -> Result<Timestamp, String> {
    let none = || format!("not a date; {FORMS}");
    let (rest, says_future) = match (text.strip_prefix("in "), text.strip_suffix(" from now")) {
        (Some(rest), _) | (_, Some(rest)) => (rest, true),
        _ => (text, text.starts_with('+')),
    };
    let mut span: jiff::Span = rest.parse().map_err(|_| none())?;
    let says_past = span.is_negative();
    if says_past && says_future && span.is_negative() {
        return Err(none());
    }
    if !says_past && !says_future {
        match toward {
            Toward::Past => span = span.negate(),
            Toward::Future => {}
            Toward::Unsaid => {
                return Err(format!(
                    "the direction is missing; use \"{text} ago\" or \"in {text}\""
                ));
            }
        }
    }
    let far = || format!("too far away; {FORMS}");
    let is_calendar = span.get_days() != 0
        || span.get_weeks() != 0
        || span.get_months() != 0
        || span.get_years() != 0;
    if is_calendar {
        // A day is as long as it is in the time zone.
        let local = civil_of(now, zone).checked_add(span).map_err(|_| far())?;
        return at(local, zone);
    }
    let millis =
        span.total((Unit::Millisecond, SpanRelativeTo::days_are_24_hours())).map_err(|_| far())?;
    #[expect(clippy::cast_possible_truncation, reason = "a span is at most 20,000 years")]
    let at = now.0.saturating_add(millis as i64);
    if at < 0 { Err(far()) } else { Ok(Timestamp(at)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Wednesday, 14:30 in Berlin.
    fn noon() -> Timestamp {
        of_date("2026-11-25T13:30:00Z".parse().expect("a date"))
    }

    fn told(text: &str, toward: Toward) -> String {
        let zone = Zone::find("Europe/Berlin").expect("a zone");
        match read(text, toward, noon(), &zone) {
            Ok(moment @ Moment::Day(_)) => {
                let (begin, end) = (moment.begin(&zone), moment.end(&zone));
                format!("{} .. {}", begin.expect("a day"), end.expect("a day"))
            }
            Ok(Moment::Instant(at)) => at.to_string(),
            Err(why) => why,
        }
    }

    #[test]
    fn dates_are_read_as_people_write_them() {
        for (text, expected) in [
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
            ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00Z"),
            ("2026-07-01T12:00", "2026-07-01T10:00:00Z"),
            ("2026-07-01 12:00:30", "2026-07-01T10:00:30Z"),
            ("2026-03-29", "2026-03-28T23:00:00Z .. 2026-03-29T22:00:00Z"),
            ("now", "2026-11-25T13:30:00Z"),
            ("Today", "2026-11-24T23:00:00Z .. 2026-11-25T23:00:00Z"),
            ("yesterday 09:00", "2026-11-24T08:00:00Z"),
            ("09:15", "2026-11-25T08:15:00Z"),
            ("monday", "2026-11-22T23:00:00Z .. 2026-11-23T23:00:00Z"),
            ("wed", "2026-11-24T23:00:00Z .. 2026-11-25T23:00:00Z"),
            ("2 days ago", "2026-11-23T13:30:00Z"),
            ("1h", "2026-11-25T12:30:00Z"),
            ("1h30m ago", "2026-11-25T12:00:00Z"),
            ("in 90 minutes", "2026-11-25T15:00:00Z"),
            ("1 month ago", "2026-10-25T13:30:00Z"),
        ] {
            assert_eq!(told(text, Toward::Past), expected, "{text}");
        }
        assert_eq!(told("1h", Toward::Future), "2026-11-25T14:30:00Z");
        assert_eq!(told("wed 08:00", Toward::Future), "2026-12-02T07:00:00Z");
        assert!(told("1h", Toward::Unsaid).contains("use \"1h ago\" or \"in 1h\""));
    }

    #[test]
    fn what_is_no_date_is_told_the_forms() {
        for text in [
            "",
            "soon",
            "5",
            "2026-13-01",
            "26:00",
            "2026-02-30",
            "in 1h ago",
            "99999999 years ago",
        ] {
            let told = told(text, Toward::Past);
            assert!(told.contains("2026-12-24"), "{text}: {told}");
        }
    }
}
