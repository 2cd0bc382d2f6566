//! Calendars: sets of days such as public holidays, which schedules share.

mod ics;

use std::collections::BTreeMap;

pub use self::ics::{IcsError, MAX_ICS};

use crate::{
    civil::{LocalDate, days_in_month},
    dates::{parse_range, range_text},
};

/// The most entries of a calendar.
pub const MAX_ENTRIES: usize = 2_000;
/// The longest note of an entry, in characters.
pub const MAX_NOTE: usize = 200;

/// A set of days.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Calendar {
    /// Sorted by the first day.
    ranges: Vec<Entry<(LocalDate, LocalDate)>>,
    /// The last day of this range and of all ranges before it.
    reaches: Vec<LocalDate>,
    yearly: Vec<Entry<(u32, u32)>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry<T> {
    days: T,
    note: Box<str>,
}

/// An entry of a calendar as text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CalendarEntry {
    /// A date (`2026-12-25`), a range with its last day (`2026-12-24..2026-12-26`), or a day of every year (`12-25`).
    pub days: String,
    /// A note for people, such as the name of the holiday.
    pub note: String,
}

/// A calendar that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// Too many entries.
    #[error("the calendar has {0} entries; at most {MAX_ENTRIES} are allowed")]
    TooMany(usize),
    /// An entry that is no date and no range.
    #[error(
        "entry {index} of the calendar: {days:?} is not a date; use 2026-12-25, \
         2026-12-24..2026-12-26, or 12-25 for every year"
    )]
    Days {
        /// The place in the list, from 0.
        index: usize,
        /// The text, at most 64 characters of it.
        days: String,
    },
    /// A note that is too long.
    #[error("entry {index} of the calendar: the note has more than {MAX_NOTE} characters")]
    Note {
        /// The place in the list, from 0.
        index: usize,
    },
}

impl Calendar {
    /// A calendar with these entries.
    ///
    /// # Errors
    ///
    /// [`CalendarError`] names the entry and the limit.
    pub fn new(entries: &[CalendarEntry]) -> Result<Self, CalendarError> {
        if entries.len() > MAX_ENTRIES {
            return Err(CalendarError::TooMany(entries.len()));
        }
        let (mut ranges, mut yearly) = (Vec::new(), Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            if entry.note.chars().count() > MAX_NOTE {
                return Err(CalendarError::Note { index });
            }
            let note = entry.note.as_str().into();
            if let Some(days) = parse_range(&entry.days) {
                ranges.push(Entry { days, note });
            } else if let Some(days) = parse_yearly(&entry.days) {
                yearly.push(Entry { days, note });
            } else {
                let days = entry.days.chars().take(64).collect();
                return Err(CalendarError::Days { index, days });
            }
        }
        Ok(Self::settled(ranges, yearly))
    }

    fn settled(
        mut ranges: Vec<Entry<(LocalDate, LocalDate)>>,
        mut yearly: Vec<Entry<(u32, u32)>>,
    ) -> Self {
        ranges.sort();
        ranges.dedup();
        yearly.sort();
        yearly.dedup();
        let reaches = ranges
            .iter()
            .scan(None, |reach, entry| {
                *reach = (*reach).max(Some(entry.days.1));
                *reach
            })
            .collect();
        Self { ranges, reaches, yearly }
    }

    /// The entries as text, in order.
    #[must_use]
    pub fn entries(&self) -> Vec<CalendarEntry> {
        let ranges = self.ranges.iter().map(|entry| (range_text(entry.days), &entry.note));
        let yearly = self.yearly.iter().map(|entry| {
            let (month, day) = entry.days;
            (format!("{month:02}-{day:02}"), &entry.note)
        });
        ranges
            .chain(yearly)
            .map(|(days, note)| CalendarEntry { days, note: note.to_string() })
            .collect()
    }

    /// Whether the calendar has this day.
    #[must_use]
    pub fn contains(&self, date: LocalDate) -> bool {
        let begun = self.ranges.partition_point(|entry| entry.days.0 <= date);
        let (_, month, day) = date.parts();
        begun.checked_sub(1).is_some_and(|last| self.reaches[last] >= date)
            || self.yearly.iter().any(|entry| entry.days == (month, day))
    }

    /// The note of the first entry with this day.
    #[must_use]
    pub fn note(&self, date: LocalDate) -> Option<&str> {
        let (_, month, day) = date.parts();
        let within =
            |entry: &&Entry<(LocalDate, LocalDate)>| entry.days.0 <= date && date <= entry.days.1;
        let note = self.ranges.iter().find(within).map(|entry| &entry.note);
        note.or_else(|| {
            self.yearly.iter().find(|entry| entry.days == (month, day)).map(|entry| &entry.note)
        })
        .map(AsRef::as_ref)
    }
}

/// Reads `12-25`.
fn parse_yearly(text: &str) -> Option<(u32, u32)> {
    let (month, day) = text.split_once('-')?;
    let number = |text: &str| {
        let two = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        if two { text.parse::<u32>().ok() } else { None }
    };
    let (month, day) = (number(month)?, number(day)?);
    let exists = (1..=12).contains(&month) && (1..=days_in_month(2000, month)).contains(&day);
    exists.then_some((month, day))
}

/// Where a recurrence finds calendars by name. A calendar that is not found has no days.
pub trait CalendarLookup {
    /// The calendar with this name.
    fn calendar(&self, name: &str) -> Option<&Calendar>;
}

/// No calendars.
impl CalendarLookup for () {
    fn calendar(&self, _: &str) -> Option<&Calendar> {
        None
    }
}

impl CalendarLookup for BTreeMap<String, Calendar> {
    fn calendar(&self, name: &str) -> Option<&Calendar> {
        self.get(name)
    }
}
