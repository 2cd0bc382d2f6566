//! What a user should know before a recurrence is created: the sentence, and the warnings.

use std::fmt;

use super::{Fold, Gap, Kind, LONG_CHANGE, Recurrence};
use crate::{
    calendar::CalendarLookup,
    civil::{LocalTime, Timestamp},
    dates::Moment,
    expression::Expression,
    zone::Change,
};

const DAY: i64 = 86_400;
/// More runs a day than this are worth a warning.
const MANY_A_DAY: u64 = 288;
/// The most runs that are looked at around one change of the clock.
const MAX_AROUND: usize = 500;

/// A warning for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The day of the month and the weekday are both restricted, and one of them is enough.
    EitherDay {
        /// The expression in normal form.
        expression: String,
    },
    /// It runs very often.
    ManyRuns {
        /// Runs on the busiest days, without exclusions.
        a_day: u64,
    },
    /// Nothing runs after the moment from which it was asked.
    NeverRuns,
    /// The clock changes in the coming year, at a time that touches a run.
    ClockChange {
        /// The sentence.
        text: String,
    },
    /// A calendar does not exist.
    UnknownCalendar {
        /// The calendar that the recurrence names.
        name: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EitherDay { expression } => write!(
                f,
                "`{expression}` runs on either the day of month or the weekday; put + before the \
                 weekday if both must match"
            ),
            Self::ManyRuns { a_day } => write!(f, "{} runs a day", grouped(*a_day)),
            Self::NeverRuns => f.write_str("it never runs"),
            Self::ClockChange { text } => f.write_str(text),
            Self::UnknownCalendar { name } => write!(f, "the calendar {name} does not exist"),
        }
    }
}

impl Recurrence {
    /// The sentence for people, such as `At 02:30 every day, in America/New_York`.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut parts: Vec<String> = self.expressions.iter().map(Expression::describe).collect();
        let extras = self.extras.as_deref();
        if let Some(extras) = extras {
            for interval in &extras.intervals {
                let text = interval.to_string();
                parts.push(match text.trim_start_matches("@every ").split_once('/') {
                    None => format!("Every {}", &text["@every ".len()..]),
                    Some((every, phase)) => {
                        format!("Every {every}, {phase} after the full interval")
                    }
                });
            }
            let first = extras.dates.iter().take(3).map(|moment| match moment {
                Moment::Instant(at) => Timestamp::from_seconds(*at).to_string(),
                Moment::Local(local) => local.to_string(),
            });
            let first: Vec<String> = first.collect();
            if !first.is_empty() {
                let more = extras.dates.len() - first.len();
                let more = if more > 0 { format!(" and {more} more dates") } else { String::new() };
                parts.push(format!("At {}{more}", first.join(", ")));
            }
        }
        let mut text = format!("{}, in {}", parts.join("; "), self.zone);
        if let Some(extras) = extras {
            if extras.exclude != super::Exclusions::default() {
                text.push_str(", with exclusions");
            }
            text.extend(extras.start.map(|start| format!(", from {start}")));
            text.extend(extras.end.map(|end| format!(", until {end}")));
        }
        text
    }

    /// What a user should know about the year after `from`.
    pub fn warnings(&self, from: Timestamp, calendars: &impl CalendarLookup) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if self.next_fire_after(from, calendars).is_none() {
            warnings.push(Warning::NeverRuns);
        }
        for name in self.calendars().filter(|name| calendars.calendar(name).is_none()) {
            warnings.push(Warning::UnknownCalendar { name: name.to_owned() });
        }
        for expression in self.expressions.iter().filter(|one| one.is_either_day()) {
            warnings.push(Warning::EitherDay { expression: expression.to_string() });
        }
        let intervals = self.extras.as_ref().map_or(&[][..], |extras| &extras.intervals);
        let by_interval = intervals.iter().map(|one| 86_400 / one.every().as_secs().max(1));
        let by_clock = self.expressions.iter().map(|one| u64::from(one.times_a_day()));
        let a_day = by_interval.chain(by_clock).sum();
        if a_day > MANY_A_DAY {
            warnings.push(Warning::ManyRuns { a_day });
        }
        warnings.extend(self.clock_changes(from, calendars));
        warnings
    }

    fn clock_changes(&self, from: Timestamp, calendars: &impl CalendarLookup) -> Vec<Warning> {
        let (mut found, mut at) = (Vec::new(), from.seconds());
        // Morocco has two pairs of changes a year.
        for _ in 0..8 {
            let Some(change) = self.zone.next_change(at) else { break };
            at = change.at;
            if change.at > from.seconds() + 366 * DAY {
                break;
            }
            found.extend(self.clock_change(change, from, calendars));
        }
        found
    }

    fn clock_change(
        &self,
        change: Change,
        from: Timestamp,
        calendars: &impl CalendarLookup,
    ) -> Option<Warning> {
        let (left, reached) = change.jump();
        let (first, last) = (left.min(reached), left.max(reached));
        let forward = reached > left;
        let mut times: Vec<LocalTime> = Vec::new();
        for expression in self.expressions.iter().filter(|one| one.is_fixed()) {
            let mut date = expression.next_date(first.date());
            while let Some(day) =
                date.filter(|day| day.midnight() < last && times.len() < MAX_AROUND)
            {
                let mut second = 0;
                while let Some(clock) = expression.next_clock(second) {
                    times.extend(Some(day.at(clock)).filter(|time| *time >= first && *time < last));
                    second = clock + 1;
                    if times.len() >= MAX_AROUND {
                        break;
                    }
                }
                date = expression.next_date(day.plus(1));
            }
        }
        times.sort();
        times.dedup();
        let time = *times.first()?;
        let more = if times.len() > 1 {
            format!(" and {} more times", times.len() - 1)
        } else {
            String::new()
        };
        let name = format!("{}{more} on {}", clock_text(time), time.date());
        let text = if forward {
            let verb = if times.len() > 1 { "do not exist" } else { "does not exist" };
            let runs = self.forward_text(change, time, times.len(), from, calendars)?;
            format!("{name} {verb}: {runs}")
        } else {
            let comes = if times.len() > 1 { "come twice" } else { "comes twice" };
            let runs = match self.fold {
                Fold::First => "runs the first time",
                Fold::Second => "runs the second time",
                Fold::Both => "runs both times",
            };
            format!("{name} {comes}: {runs}")
        };
        Some(Warning::ClockChange { text })
    }

    fn forward_text(
        &self,
        change: Change,
        time: LocalTime,
        times: usize,
        from: Timestamp,
        calendars: &impl CalendarLookup,
    ) -> Option<String> {
        let before = Timestamp::from_seconds(change.at - 1).max(from);
        let next = self.next_after(before, calendars)?;
        let length = change.after - change.before;
        let end = change.jump().1;
        if length >= LONG_CHANGE || self.gap == Gap::Skip {
            return Some("skipped".to_owned());
        }
        if self.gap == Gap::Shift {
            return Some(format!("runs at {}", clock_text(LocalTime(time.0 + length))));
        }
        let once = if times > 1 { "once " } else { "" };
        match next.kind {
            Kind::Fires => Some(format!("runs {once}at {}", clock_text(end))),
            Kind::Skipped(_) => None,
        }
    }
}

fn clock_text(local: LocalTime) -> String {
    let (hour, minute, second) = local.clock();
    let seconds = if second == 0 { String::new() } else { format!(":{second:02}") };
    format!("{hour:02}:{minute:02}{seconds}")
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
