//! What a recurrence will do, for people who are about to create it.

use std::fmt;

use super::{Kind, Occurrence, Recurrence};
use crate::{
    calendar::CalendarLookup,
    civil::{LocalTime, Timestamp},
};

/// The most runs that a preview lists.
pub const MAX_UPCOMING: usize = 1_000;

/// An occurrence with its local time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcoming {
    /// The occurrence.
    pub occurrence: Occurrence,
    /// The local time at that instant.
    pub local: LocalTime,
    /// Seconds that the local time is ahead of UTC.
    pub offset: i32,
}

impl fmt::Display for Upcoming {
    /// The local time with its offset from UTC, as RFC 3339 has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, minutes) = (if self.offset < 0 { '-' } else { '+' }, self.offset.abs() / 60);
        write!(f, "{}{sign}{:02}:{:02}", self.local, minutes / 60, minutes % 60)
    }
}

impl Recurrence {
    /// The next `runs` runs after `from`, with what is skipped between them. At most 1,000 runs, and ten times as many
    /// occurrences as runs.
    pub fn upcoming(
        &self,
        from: Timestamp,
        runs: usize,
        calendars: &impl CalendarLookup,
    ) -> Vec<Upcoming> {
        let (mut upcoming, mut after, mut left) = (Vec::new(), from, runs.min(MAX_UPCOMING));
        let most = left * 10;
        while left > 0 && upcoming.len() < most {
            let Some(occurrence) = self.next_after(after, calendars) else { break };
            after = occurrence.at;
            left -= usize::from(occurrence.kind == Kind::Fires);
            let (local, offset) = (self.zone.local(after), self.zone.offset(after));
            upcoming.push(Upcoming { occurrence, local, offset });
        }
        upcoming
    }
}
