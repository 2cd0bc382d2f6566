//! Recurrences: the union of expressions, intervals and single dates in a time zone, minus exclusions.
//!
//! [`spec`] builds and checks one, [`search`] walks over the sources, [`walk`] maps local times to instants, and
//! [`days`] knows holidays.

mod days;
mod normal;
mod preview;
mod search;
mod spec;
mod walk;
mod warnings;

use std::{fmt, sync::Arc};

pub use self::preview::{MAX_UPCOMING, Upcoming};
pub use self::spec::{
    CalendarRule, ExclusionSpec, IntervalSpec, MAX_CALENDARS, MAX_DATES, MAX_EXPRESSIONS,
    MAX_INTERVALS, RecurrenceError, RecurrenceSpec,
};
pub use self::warnings::Warning;
use crate::{
    civil::{LocalDate, LocalTime, Timestamp},
    dates::Moment,
    expression::Expression,
    interval::Interval,
    zone::Zone,
};

/// A change of the clock by this many seconds or more is no daylight saving time: what it jumps over is skipped.
pub(crate) const LONG_CHANGE: i64 = 3 * 3600;

/// When fixed times run that a clock set forward jumps over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Gap {
    /// Once, at the first instant behind the gap.
    #[default]
    End,
    /// Not at all.
    Skip,
    /// Later by the length of the gap: 02:30 becomes 03:30.
    Shift,
}

/// When fixed times run that a clock set back shows twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Fold {
    /// The first time.
    #[default]
    First,
    /// The second time.
    Second,
    /// Both times.
    Both,
}

/// What happens to a run on a day of a calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum OnHoliday {
    /// It is skipped.
    #[default]
    Skip,
    /// It moves to the same time of the nearest free day before.
    Before,
    /// It moves to the same time of the nearest free day after.
    After,
}

/// When something recurs.
///
/// Two recurrences are equal if they mean the same, however they were written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recurrence {
    zone: Zone,
    gap: Gap,
    fold: Fold,
    expressions: Box<[Expression]>,
    /// Apart, because most recurrences are one expression.
    extras: Option<Box<Extras>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Extras {
    intervals: Box<[Interval]>,
    dates: Box<[Moment]>,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    exclude: Exclusions,
}

/// What is taken away. All lists are sorted and without doubles, calendars in their order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Exclusions {
    ranges: Box<[(LocalDate, LocalDate)]>,
    moments: Box<[Moment]>,
    expressions: Box<[ExcludedTimes]>,
    calendars: Box<[(Arc<str>, OnHoliday)]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ExcludedTimes {
    expression: Expression,
    text: Arc<str>,
}

/// An instant of a recurrence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Occurrence {
    /// The instant, in whole seconds. No two occurrences of a recurrence have the same.
    pub at: Timestamp,
    /// Whether it runs.
    pub kind: Kind,
    /// The holiday from which it was moved here.
    pub moved_from: Option<LocalDate>,
}

/// Whether an occurrence runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It runs.
    Fires,
    /// It does not run.
    Skipped(Skip),
}

/// Why an occurrence does not run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Skip {
    /// The local time does not exist: the clock jumps over it. The occurrence stands at the instant of the jump, once
    /// for all times in the gap.
    Gap {
        /// The first of the times that do not exist.
        local: LocalTime,
    },
    /// An exclusion takes it away.
    Excluded {
        /// The exclusion.
        by: ExcludedBy,
    },
}

/// The exclusion that takes an occurrence away.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ExcludedBy {
    /// A date or a range of dates.
    Date(LocalDate),
    /// An expression, as it was written.
    Expression(Arc<str>),
    /// The calendar with this name.
    Calendar(Arc<str>),
}

impl fmt::Display for ExcludedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(date) => write!(f, "date {date}"),
            Self::Expression(text) => write!(f, "expression `{text}`"),
            Self::Calendar(name) => write!(f, "calendar {name}"),
        }
    }
}

impl Recurrence {
    /// The time zone.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The first instant that counts.
    #[must_use]
    pub fn start(&self) -> Option<Timestamp> {
        self.extras.as_ref()?.start
    }

    /// The last instant that counts.
    #[must_use]
    pub fn end(&self) -> Option<Timestamp> {
        self.extras.as_ref()?.end
    }

    /// The names of the calendars that it refers to.
    pub fn calendars(&self) -> impl Iterator<Item = &str> {
        let rules = self.extras.as_ref().map_or(&[][..], |extras| &extras.exclude.calendars);
        rules.iter().map(|(name, _)| name.as_ref())
    }
}
