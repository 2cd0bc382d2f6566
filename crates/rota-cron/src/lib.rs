//! When schedules run: cron expressions, intervals, dates, time zones and holidays, and the instants that they name.
//!
//! The crate is pure. It has no clock, no I/O and no randomness, and its rules of time zones are compiled in, so that
//! every node of one version gives the same answer. A caller passes the last instant that it has decided, and gets the
//! next one.
//!
//! Start with [`RecurrenceSpec`], [`Recurrence::new`] and [`Recurrence::next_after`].

#![warn(missing_docs)]

pub mod calendar;
mod civil;
pub mod crontab;
mod dates;
mod expression;
mod interval;
mod jitter;
mod recurrence;
mod zone;

pub use calendar::{Calendar, CalendarEntry, CalendarError, CalendarLookup, IcsError};
pub use civil::{LocalDate, LocalTime, Timestamp};
pub use expression::{Expression, ExpressionError, Parsed, Rule, parse};
pub use interval::{Interval, IntervalError};
pub use jitter::jitter;
pub use recurrence::{
    CalendarRule, ExcludedBy, ExclusionSpec, Fold, Gap, IntervalSpec, Kind, MAX_CALENDARS,
    MAX_DATES, MAX_EXPRESSIONS, MAX_INTERVALS, MAX_UPCOMING, Occurrence, OnHoliday, Recurrence,
    RecurrenceError, RecurrenceSpec, Skip, Upcoming, Warning,
};
pub use zone::{UnknownZone, Zone, rules_version};
