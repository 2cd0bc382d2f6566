//! Calendars from `.ics` files (RFC 5545): all-day events, once or every year.

use super::{Calendar, CalendarEntry, CalendarError, MAX_ENTRIES, MAX_NOTE};
use crate::{civil::LocalDate, dates::range_text, expression::Expression};

/// The longest file, in bytes.
pub const MAX_ICS: usize = 1 << 20;
/// How many years a rule with BYDAY reaches, because its dates are written out.
const YEARS: i32 = 50;

/// A file that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IcsError {
    /// The file is too long.
    #[error("the calendar file has {0} bytes; at most {MAX_ICS} are allowed")]
    TooLong(usize),
    /// The file has no event.
    #[error("the calendar file has no VEVENT; is it an iCalendar file?")]
    NoEvents,
    /// An event that cannot be carried over.
    #[error("line {line} of the calendar file, event {event:?}: {reason}")]
    Event {
        /// The line on which the event begins, from 1.
        line: usize,
        /// The `SUMMARY` line of the event.
        event: String,
        /// The fault.
        reason: String,
    },
    /// The calendar is refused.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
}

#[derive(Default)]
struct Event<'a> {
    line: usize,
    summary: String,
    start: Option<&'a str>,
    end: Option<&'a str>,
    duration: Option<&'a str>,
    rule: Option<&'a str>,
    other_dates: bool,
    cancelled: bool,
}

impl Calendar {
    /// Reads a calendar from an iCalendar file: all-day events that happen once or every year.
    ///
    /// # Errors
    ///
    /// [`IcsError`] names the line and the event.
    pub fn from_ics(text: &str) -> Result<Self, IcsError> {
        if text.len() > MAX_ICS {
            return Err(IcsError::TooLong(text.len()));
        }
        let lines = unfolded(text);
        let (mut entries, mut events) = (Vec::new(), 0);
        let mut open: Option<Event<'_>> = None;
        let mut inner = 0_usize;
        for (line, content) in &lines {
            let Some((name, value)) = content.split_once(':') else { continue };
            let name = name.split(';').next().unwrap_or(name);
            let name = name.to_ascii_uppercase();
            match (name.as_str(), open.as_mut()) {
                ("BEGIN", None) if value.eq_ignore_ascii_case("VEVENT") => {
                    open = Some(Event { line: *line, ..Event::default() });
                    inner = 0;
                }
                ("BEGIN", Some(_)) => inner += 1,
                ("END", Some(_)) if inner > 0 => inner -= 1,
                ("END", Some(event)) => {
                    events += 1;
                    if !event.cancelled {
                        let event = &*event;
                        let reason = |reason| IcsError::Event {
                            line: event.line,
                            event: event.summary.clone(),
                            reason,
                        };
                        entries.extend(event.entries(entries.len()).map_err(reason)?);
                    }
                    open = None;
                }
                (_, Some(event)) if inner == 0 => event.take(&name, value),
                _ => {}
            }
        }
        if events == 0 {
            return Err(IcsError::NoEvents);
        }
        Ok(Self::new(&entries)?)
    }
}

/// Logical lines with their numbers. A line that begins with a space or tab goes on with the one before.
fn unfolded(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(rest), Some((_, last))) => last.push_str(rest),
            _ => lines.push((number, line.to_owned())),
        }
    }
    lines
}

impl<'a> Event<'a> {
    fn take(&mut self, name: &str, value: &'a str) {
        match name {
            "SUMMARY" => {
                let text = value.replace("\\,", ",").replace("\\;", ";").replace("\\n", " ");
                self.summary = text.chars().take(MAX_NOTE).collect();
            }
            "DTSTART" => self.start = Some(value),
            "DTEND" => self.end = Some(value),
            "DURATION" => self.duration = Some(value),
            "RRULE" => self.rule = Some(value),
            "RDATE" | "EXDATE" => self.other_dates = true,
            "STATUS" => self.cancelled = value.eq_ignore_ascii_case("CANCELLED"),
            _ => {}
        }
    }

    /// The entries of the event, after `before` entries of others.
    fn entries(&self, before: usize) -> Result<Vec<CalendarEntry>, String> {
        let start = self.start.ok_or("DTSTART is missing")?;
        let first = compact_date(start).ok_or_else(|| {
            format!("{start:?} is not a date; only all-day events (DTSTART;VALUE=DATE:20261225) are days")
        })?;
        let days = self.days(first)?;
        if self.other_dates {
            return Err(
                "RDATE and EXDATE are not supported; write the dates as single events".to_owned()
            );
        }
        let entry = |days: String| CalendarEntry { days, note: self.summary.clone() };
        let range = |first: LocalDate| entry(range_text((first, first.plus(days - 1))));
        let Some(rule) = self.rule else { return Ok(vec![range(first)]) };
        let rule = Rule::read(rule, first)?;
        if let (None, None, None, 1) = (&rule.by_day, rule.until, rule.count, rule.interval) {
            let each = (0..days.min(31)).map(|day| {
                let (_, month, day) = first.plus(day).parts();
                entry(format!("{month:02}-{day:02}"))
            });
            return Ok(each.collect());
        }
        let dates = rule.dates(first)?;
        if before + dates.len() > MAX_ENTRIES {
            return Err(format!("the calendar would have more than {MAX_ENTRIES} entries"));
        }
        Ok(dates.into_iter().map(range).collect())
    }

    fn days(&self, first: LocalDate) -> Result<i32, String> {
        let days = match (self.end, self.duration) {
            (Some(end), _) => {
                // The end of an all-day event is the day behind it.
                let end =
                    compact_date(end).ok_or_else(|| format!("DTEND {end:?} is not a date"))?;
                (end.0 - first.0).max(1)
            }
            (None, Some(text)) => {
                let number = |unit| {
                    let digits = text.strip_prefix('P')?.strip_suffix(unit)?;
                    digits.parse::<u16>().ok().map(i32::from)
                };
                let weeks = number('W').map(|weeks| weeks.saturating_mul(7));
                let days = number('D').or(weeks);
                days.filter(|days| *days > 0)
                    .ok_or_else(|| format!("DURATION {text:?} is not whole days such as P1D"))?
            }
            (None, None) => 1,
        };
        if days > 3_660 { Err("the event is longer than ten years".to_owned()) } else { Ok(days) }
    }
}

/// `RRULE:FREQ=YEARLY` with what holiday calendars use of it.
struct Rule {
    interval: i32,
    count: Option<usize>,
    until: Option<LocalDate>,
    /// Month, weekday and its number as an expression.
    by_day: Option<Expression>,
}

impl Rule {
    fn read(text: &str, first: LocalDate) -> Result<Self, String> {
        let unsupported = || {
            format!(
                "RRULE {:?} is not supported; use FREQ=YEARLY",
                text.chars().take(80).collect::<String>()
            )
        };
        let (_, first_month, first_day) = first.parts();
        let mut rule = Self { interval: 1, count: None, until: None, by_day: None };
        let (mut yearly, mut month, mut weekday) = (false, first_month, None);
        for part in text.split(';') {
            let (name, value) = part.split_once('=').ok_or_else(unsupported)?;
            match name.to_ascii_uppercase().as_str() {
                "FREQ" => yearly = value.eq_ignore_ascii_case("YEARLY"),
                "INTERVAL" => {
                    let interval = value.parse::<u8>().ok().filter(|interval| *interval > 0);
                    rule.interval = i32::from(interval.ok_or_else(unsupported)?);
                }
                "COUNT" => {
                    rule.count = Some(value.parse::<u16>().map_err(|_| unsupported())?.into());
                }
                "UNTIL" => {
                    let date = value.get(..8).and_then(compact_date);
                    rule.until = Some(date.ok_or_else(unsupported)?);
                }
                "BYMONTH" => {
                    let known = value.parse().ok().filter(|month| (1..=12).contains(month));
                    month = known.ok_or_else(unsupported)?;
                }
                "BYMONTHDAY" if value.parse() == Ok(first_day) => {}
                "BYDAY" => weekday = Some(value),
                "WKST" => {}
                _ => return Err(unsupported()),
            }
        }
        if let Some(value) = weekday {
            rule.by_day = Some(by_day(month, value).ok_or_else(unsupported)?);
        }
        if yearly && (weekday.is_some() || month == first_month) {
            Ok(rule)
        } else {
            Err(unsupported())
        }
    }

    fn dates(&self, first: LocalDate) -> Result<Vec<LocalDate>, String> {
        let (first_year, month, day) = first.parts();
        let last_year =
            first_year + YEARS.max(i32::try_from(self.count.unwrap_or(0)).unwrap_or(0)).min(200);
        let mut dates = Vec::new();
        for year in (first_year..=last_year).step_by(usize::try_from(self.interval).unwrap_or(1)) {
            let date = match &self.by_day {
                None => LocalDate::new(year, month, day),
                Some(expression) => expression
                    .next_date(LocalDate::valid(year, 1, 1))
                    .filter(|date| date.parts().0 == year),
            };
            let past = date.zip(self.until).is_some_and(|(date, until)| date > until);
            if past || self.count.is_some_and(|count| dates.len() >= count) {
                break;
            }
            dates.extend(date);
        }
        if dates.is_empty() { Err("the RRULE has no dates".to_owned()) } else { Ok(dates) }
    }
}

/// The expression for `4TH` or `-1MO` of a month.
fn by_day(month: u32, text: &str) -> Option<Expression> {
    let (number, weekday) = text.split_at_checked(text.len().checked_sub(2)?)?;
    let weekday =
        ["SU", "MO", "TU", "WE", "TH", "FR", "SA"].iter().position(|name| *name == weekday)?;
    let nth = match number {
        "-1" => "L".to_owned(),
        _ => number
            .trim_start_matches('+')
            .parse::<u8>()
            .ok()
            .filter(|nth| (1..=5).contains(nth))?
            .to_string(),
    };
    Expression::parse(&format!("0 0 * {month} {weekday}#{nth}"), "").ok()
}

/// Reads `20261225`.
fn compact_date(text: &str) -> Option<LocalDate> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u32>().ok();
    LocalDate::new(number(0..4)?.cast_signed(), number(4..6)?, number(6..8)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn days(text: &str) -> Vec<String> {
        let calendar = Calendar::from_ics(text).expect("a calendar");
        calendar
            .entries()
            .into_iter()
            .map(|entry| format!("{} {}", entry.days, entry.note))
            .collect()
    }

    #[test]
    fn all_day_events_become_days() {
        let text = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20261224\r\nDTEND;VALUE=DATE:20261227\r\n\
                    SUMMARY:Christ\r\n mas\\, all of it\r\nBEGIN:VALARM\r\nDTSTART:20260101\r\nEND:VALARM\r\nEND:VEVENT\r\n\
                    BEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20200101\r\nRRULE:FREQ=YEARLY\r\nSUMMARY:New Year\r\nEND:VEVENT\r\n\
                    BEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20261126\r\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH;COUNT=3\r\n\
                    SUMMARY:Thanksgiving\r\nEND:VEVENT\r\n\
                    BEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20260501\r\nSTATUS:CANCELLED\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
        assert_eq!(
            days(text),
            [
                "2026-11-26 Thanksgiving",
                "2026-12-24..2026-12-26 Christmas, all of it",
                "2027-11-25 Thanksgiving",
                "2028-11-23 Thanksgiving",
                "01-01 New Year",
            ]
        );
    }

    #[test]
    fn faults_name_the_line_and_the_event() {
        let event = |body: &str| {
            Calendar::from_ics(&format!("BEGIN:VEVENT\nSUMMARY:X\n{body}\nEND:VEVENT"))
        };
        for (body, part) in [
            ("DTSTART:20261225T090000Z", "only all-day events"),
            ("DTSTART:20261225\nRRULE:FREQ=DAILY", "RRULE"),
            ("DTSTART:20261225\nRDATE:20261226", "RDATE"),
            ("DTSTART:20261225\nDURATION:PT5H", "DURATION"),
            ("", "DTSTART is missing"),
        ] {
            let error = event(body).expect_err(body).to_string();
            assert!(error.starts_with("line 1 of the calendar file, event \"X\": "), "{error}");
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(Calendar::from_ics("hello"), Err(IcsError::NoEvents));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(
            body in "((BEGIN|END|DTSTART|DTEND|RRULE|DURATION)[:;](VEVENT|20261225|FREQ=YEARLY|P9W|[A-Z0-9=;:ü-]{0,12})\n ?){0,8}"
        ) {
            let _ = Calendar::from_ics(&body);
            let _ = Calendar::from_ics(&format!("BEGIN:VEVENT\nDTSTART:20261225\n{body}END:VEVENT"));
        }
    }
}
