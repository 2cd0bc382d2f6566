//! A recurrence as a user writes it, and its checks.

use std::{sync::Arc, time::Duration};

use super::{ExcludedTimes, Exclusions, Extras, Fold, Gap, OnHoliday, Recurrence};
use crate::{
    civil::{LocalDate, Timestamp},
    dates::{Moment, parse_moment, parse_range},
    expression::{Expression, ExpressionError, Rule, parse},
    interval::{Interval, IntervalError},
    zone::{Place, UnknownZone, Zone},
};

/// The most expressions of a recurrence, and of its exclusions.
pub const MAX_EXPRESSIONS: usize = 16;
/// The most intervals of a recurrence.
pub const MAX_INTERVALS: usize = 16;
/// The most single dates of a recurrence, and of its exclusions.
pub const MAX_DATES: usize = 366;
/// The most calendars of a recurrence.
pub const MAX_CALENDARS: usize = 16;

/// A recurrence as a user writes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecurrenceSpec {
    /// Cron expressions, `@every` among them. At most 16.
    pub expressions: Vec<String>,
    /// Intervals. At most 16.
    pub intervals: Vec<IntervalSpec>,
    /// Single dates with a time: `2026-12-24T18:00` in the time zone, or with an offset. At most 366.
    pub dates: Vec<String>,
    /// What is taken away.
    pub exclude: ExclusionSpec,
    /// The first moment that counts, like a single date.
    pub start: Option<String>,
    /// The last moment that counts, like a single date.
    pub end: Option<String>,
    /// The IANA name of the time zone. Default: that of an expression (`CRON_TZ=`), else UTC.
    pub time_zone: Option<String>,
    /// When fixed times run that a clock set forward jumps over.
    pub gap: Gap,
    /// When fixed times run that a clock set back shows twice.
    pub fold: Fold,
}

/// An interval as a user writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IntervalSpec {
    /// The distance, in whole seconds.
    pub every: Duration,
    /// The time from the epoch to the first instant, less than `every`.
    pub phase: Duration,
}

/// What is taken away from a recurrence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExclusionSpec {
    /// Expressions: what they match does not run. With five fields they cover whole minutes. At most 16.
    pub expressions: Vec<String>,
    /// Days (`2026-12-25`), ranges with their last day (`2026-12-24..2026-12-26`) and single moments
    /// (`2026-12-24T18:00`). At most 366.
    pub dates: Vec<String>,
    /// Calendars. At most 16. If two move a run, the first decides; one that skips it wins.
    pub calendars: Vec<CalendarRule>,
}

/// A calendar, and what happens on its days.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CalendarRule {
    /// The name.
    pub name: String,
    /// What happens to a run on a day of the calendar.
    pub on_holiday: OnHoliday,
}

/// A recurrence that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecurrenceError {
    /// Neither an expression nor an interval nor a date.
    #[error("a schedule needs at least one expression, interval or date")]
    Empty,
    /// A list is too long.
    #[error("{field} has {count} items; at most {limit} are allowed")]
    TooMany {
        /// The field.
        field: &'static str,
        /// The number of items.
        count: usize,
        /// The most that are allowed.
        limit: usize,
    },
    /// An expression cannot be read or never matches.
    #[error("{field}[{index}]: {error}")]
    Expression {
        /// The field.
        field: &'static str,
        /// The place in the list, from 0.
        index: usize,
        /// The fault.
        error: ExpressionError,
    },
    /// An expression among the exclusions is an interval.
    #[error("exclude.expressions[{index}]: an interval cannot be excluded; use a cron expression")]
    ExcludedInterval {
        /// The place in the list, from 0.
        index: usize,
    },
    /// An interval is out of its limits.
    #[error("intervals[{index}]: {error}")]
    Interval {
        /// The place in the list, from 0.
        index: usize,
        /// The fault.
        error: IntervalError,
    },
    /// A date cannot be read.
    #[error("{field}: {text:?} is not a date with a time in whole seconds; use 2026-12-24T18:00 or 2026-12-24T17:00:00Z{}", or_day(.field))]
    Date {
        /// The field, with the place in the list.
        field: String,
        /// The text, at most 64 characters of it.
        text: String,
    },
    /// The zone is not in the database.
    #[error("time_zone: {0}")]
    Zone(#[from] UnknownZone),
    /// Two time zones in one recurrence.
    #[error(
        "expressions[{index}] names the time zone {other:?} beside {zone:?}; a schedule has one time zone"
    )]
    TwoZones {
        /// The place of the expression in the list, from 0.
        index: usize,
        /// The zone of the expression.
        other: String,
        /// The zone that holds.
        zone: String,
    },
    /// The end is not after the start.
    #[error("end must be after start")]
    EndBeforeStart,
    /// A calendar's name is missing or given twice.
    #[error("exclude.calendars[{index}]: {reason}")]
    Calendar {
        /// The place in the list, from 0.
        index: usize,
        /// The fault.
        reason: &'static str,
    },
}

fn or_day(field: &str) -> &'static str {
    if field.starts_with("exclude") {
        ", a day such as 2026-12-25, or 2026-12-24..2026-12-26"
    } else {
        ""
    }
}

impl Recurrence {
    /// Checks and builds a recurrence. `hash_seed` is the name of the schedule: `H` depends on it.
    ///
    /// # Errors
    ///
    /// [`RecurrenceError`] names the field, the offending text and the limit.
    pub fn new(spec: &RecurrenceSpec, hash_seed: &str) -> Result<Self, RecurrenceError> {
        check_sizes(spec)?;
        let mut builder = Builder { hash_seed, zone: None };
        if let Some(name) = &spec.time_zone {
            builder.zone = Some(Zone::find(name)?);
        }
        let (mut expressions, mut intervals) = builder.rules(&spec.expressions)?;
        for (index, interval) in spec.intervals.iter().enumerate() {
            let interval = Interval::new(interval.every, interval.phase)
                .map_err(|error| RecurrenceError::Interval { index, error })?;
            intervals.push(interval);
        }
        expressions.sort_by_cached_key(ToString::to_string);
        expressions.dedup();
        let zone = builder.zone.clone().unwrap_or_else(Zone::utc);
        let extras = Extras {
            intervals: sorted(intervals),
            dates: sorted(moments("dates", &spec.dates)?),
            start: bound("start", spec.start.as_deref(), &zone)?,
            end: bound("end", spec.end.as_deref(), &zone)?,
            exclude: builder.exclusions(&spec.exclude)?,
        };
        if extras.start.zip(extras.end).is_some_and(|(start, end)| end <= start) {
            return Err(RecurrenceError::EndBeforeStart);
        }
        Ok(Self {
            zone,
            gap: spec.gap,
            fold: spec.fold,
            expressions: expressions.into(),
            extras: (extras != Extras::default()).then(|| Box::new(extras)),
        })
    }
}

fn check_sizes(spec: &RecurrenceSpec) -> Result<(), RecurrenceError> {
    let exclude = &spec.exclude;
    for (field, count, limit) in [
        ("expressions", spec.expressions.len(), MAX_EXPRESSIONS),
        ("intervals", spec.intervals.len(), MAX_INTERVALS),
        ("dates", spec.dates.len(), MAX_DATES),
        ("exclude.expressions", exclude.expressions.len(), MAX_EXPRESSIONS),
        ("exclude.dates", exclude.dates.len(), MAX_DATES),
        ("exclude.calendars", exclude.calendars.len(), MAX_CALENDARS),
    ] {
        if count > limit {
            return Err(RecurrenceError::TooMany { field, count, limit });
        }
    }
    if spec.expressions.is_empty() && spec.intervals.is_empty() && spec.dates.is_empty() {
        return Err(RecurrenceError::Empty);
    }
    Ok(())
}

struct Builder<'a> {
    hash_seed: &'a str,
    /// The zone of the recurrence, as far as it is known.
    zone: Option<Zone>,
}

impl Builder<'_> {
    fn rules(
        &mut self,
        texts: &[String],
    ) -> Result<(Vec<Expression>, Vec<Interval>), RecurrenceError> {
        let (mut expressions, mut intervals) = (Vec::new(), Vec::new());
        for (index, text) in texts.iter().enumerate() {
            let field = "expressions";
            let parsed = parse(text, self.hash_seed)
                .map_err(|error| RecurrenceError::Expression { field, index, error })?;
            if let Some(name) = parsed.zone {
                self.take_zone(index, &name)?;
            }
            match parsed.rule {
                Rule::Expression(expression) => expressions.push(expression),
                Rule::Interval(interval) => intervals.push(interval),
            }
        }
        Ok((expressions, intervals))
    }

    fn take_zone(&mut self, index: usize, name: &str) -> Result<(), RecurrenceError> {
        let other = Zone::find(name)?;
        match &self.zone {
            Some(zone) if *zone != other => Err(RecurrenceError::TwoZones {
                index,
                other: other.name().to_owned(),
                zone: zone.name().to_owned(),
            }),
            _ => {
                self.zone = Some(other);
                Ok(())
            }
        }
    }

    fn exclusions(&self, spec: &ExclusionSpec) -> Result<Exclusions, RecurrenceError> {
        let mut expressions = Vec::new();
        for (index, text) in spec.expressions.iter().enumerate() {
            let field = "exclude.expressions";
            let parsed = parse(text, self.hash_seed)
                .map_err(|error| RecurrenceError::Expression { field, index, error })?;
            if let Some(name) = &parsed.zone {
                let zone = self.zone.clone().unwrap_or_else(Zone::utc);
                let mut same = Builder { hash_seed: self.hash_seed, zone: Some(zone) };
                same.take_zone(index, name)?;
            }
            let Rule::Expression(expression) = parsed.rule else {
                return Err(RecurrenceError::ExcludedInterval { index });
            };
            let expression =
                if parsed.has_seconds { expression } else { expression.at_any_second() };
            expressions.push(ExcludedTimes { expression, text: text.trim().into() });
        }
        expressions.sort_by_cached_key(|excluded| excluded.expression.to_string());
        expressions.dedup_by(|one, other| one.expression == other.expression);
        let (mut ranges, mut single) = (Vec::new(), Vec::new());
        for (index, text) in spec.dates.iter().enumerate() {
            match (parse_range(text), parse_moment(text)) {
                (Some(range), _) => ranges.push(range),
                (None, Some(moment)) => single.push(moment),
                (None, None) => return Err(not_a_date(format!("exclude.dates[{index}]"), text)),
            }
        }
        Ok(Exclusions {
            ranges: merged(ranges),
            moments: sorted(single),
            expressions: expressions.into(),
            calendars: calendar_rules(&spec.calendars)?,
        })
    }
}

type CalendarRules = Box<[(Arc<str>, OnHoliday)]>;

fn calendar_rules(rules: &[CalendarRule]) -> Result<CalendarRules, RecurrenceError> {
    let mut calendars: Vec<(Arc<str>, OnHoliday)> = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        if rule.name.is_empty() {
            return Err(RecurrenceError::Calendar { index, reason: "the name is missing" });
        }
        if calendars.iter().any(|(name, _)| **name == *rule.name) {
            return Err(RecurrenceError::Calendar { index, reason: "the calendar is named twice" });
        }
        calendars.push((rule.name.as_str().into(), rule.on_holiday));
    }
    Ok(calendars.into())
}

fn moments(field: &str, texts: &[String]) -> Result<Vec<Moment>, RecurrenceError> {
    let read = |(index, text): (usize, &String)| {
        parse_moment(text).ok_or_else(|| not_a_date(format!("{field}[{index}]"), text))
    };
    texts.iter().enumerate().map(read).collect()
}

fn bound(
    field: &str,
    text: Option<&str>,
    zone: &Zone,
) -> Result<Option<Timestamp>, RecurrenceError> {
    let Some(text) = text else { return Ok(None) };
    let moment = parse_moment(text).ok_or_else(|| not_a_date(field.to_owned(), text))?;
    let seconds = match moment {
        Moment::Instant(seconds) => seconds,
        Moment::Local(local) => match zone.resolve(local) {
            Place::Once(at) => at,
            Place::Gap(change) => change.at,
            Place::Fold(change) => local.0 - change.before,
        },
    };
    Ok(Some(Timestamp::from_seconds(seconds)))
}

fn not_a_date(field: String, text: &str) -> RecurrenceError {
    RecurrenceError::Date { field, text: text.chars().take(64).collect() }
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Box<[T]> {
    items.sort();
    items.dedup();
    items.into()
}

/// Sorted ranges, those that touch each other joined.
fn merged(mut ranges: Vec<(LocalDate, LocalDate)>) -> Box<[(LocalDate, LocalDate)]> {
    ranges.sort();
    let mut joined: Vec<(LocalDate, LocalDate)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(previous) if first <= previous.1.plus(1) => previous.1 = previous.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined.into()
}
