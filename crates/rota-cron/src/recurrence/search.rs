//! The next occurrence over all sources of a recurrence.

use super::{
    Extras, Kind, Occurrence, Recurrence, Skip,
    days::{By, Days},
    walk::{Candidate, Fate, Found, Walk},
};
use crate::{
    calendar::CalendarLookup,
    civil::{LAST_YEAR, LocalDate, LocalTime, Timestamp},
    dates::Moment,
    expression::Expression,
    interval::Interval,
};

/// The most occurrences that a search for one that runs looks at.
const MAX_SKIPPED: usize = 20_000;

impl Recurrence {
    /// The first occurrence after `after`, whether it runs or is skipped. Nothing if there is none before the year 2500.
    pub fn next_after(
        &self,
        after: Timestamp,
        calendars: &impl CalendarLookup,
    ) -> Option<Occurrence> {
        self.search(after, calendars, false)
    }

    /// The first occurrence after `after` that runs. Nothing if there is none, or if 20,000 in a row are skipped.
    pub fn next_fire_after(
        &self,
        after: Timestamp,
        calendars: &impl CalendarLookup,
    ) -> Option<Occurrence> {
        let mut after = after;
        for _ in 0..MAX_SKIPPED {
            let found = self.search(after, calendars, true)?;
            if found.kind == Kind::Fires {
                return Some(found);
            }
            after = found.at;
        }
        None
    }

    fn search(
        &self,
        after: Timestamp,
        calendars: &impl CalendarLookup,
        only_fires: bool,
    ) -> Option<Occurrence> {
        let extras = self.extras.as_deref();
        let exclude = extras.map(|extras| &extras.exclude);
        let days = Days { exclude, calendars, only_fires };
        let mut after = after.max(Timestamp::MIN).seconds();
        if let Some(start) = extras.and_then(|extras| extras.start) {
            after = after.max(start.seconds() - 1);
        }
        let mut first = None;
        for expression in &self.expressions {
            first = Candidate::first(first, self.in_expression(expression, after, &days));
        }
        if let Some(extras) = extras {
            first = Candidate::first(first, self.in_dates(extras, after, &days));
            for interval in &extras.intervals {
                first = Candidate::first(first, self.in_interval(*interval, after, &days));
            }
        }
        let found = first.filter(|found| found.at < last_second())?;
        let at = Timestamp::from_seconds(found.at);
        if extras.and_then(|extras| extras.end).is_some_and(|end| at > end) {
            return None;
        }
        let kind = match found.fate {
            Fate::Fires => Kind::Fires,
            Fate::InGap(local) => Kind::Skipped(Skip::Gap { local }),
            Fate::Excluded(by) => Kind::Skipped(Skip::Excluded { by: days.name(by) }),
        };
        Some(Occurrence { at, kind, moved_from: found.moved_from })
    }

    fn in_expression<C: CalendarLookup>(
        &self,
        expression: &Expression,
        after: i64,
        days: &Days<'_, C>,
    ) -> Option<Candidate> {
        let on_day = |from: LocalDate| days.next_target(from, |day| expression.next_date(day));
        let next = |from: LocalTime| {
            let mut target = on_day(from.date())?;
            let second = if target.date == from.date() { from.second_of_day() } else { 0 };
            let clock = match expression.next_clock(second) {
                Some(clock) => clock,
                None => {
                    target = on_day(from.date().plus(1))?;
                    expression.next_clock(0)?
                }
            };
            let (excluded, moved_from) = (target.excluded, target.moved_from);
            Some(Found { local: target.date.at(clock), excluded, moved_from })
        };
        let walk = Walk {
            zone: &self.zone,
            gap: self.gap,
            fold: self.fold,
            fixed: expression.is_fixed(),
            next,
        };
        self.less_excluded_times(walk.next_after(after)?, days)
    }

    /// The next of the single dates. Those with an offset from UTC are instants, and move only with a holiday.
    fn in_dates<C: CalendarLookup>(
        &self,
        extras: &Extras,
        after: i64,
        days: &Days<'_, C>,
    ) -> Option<Candidate> {
        let next = |from: LocalTime| {
            let mut first: Option<Found> = None;
            for moment in &extras.dates {
                let Moment::Local(local) = moment else { continue };
                let target = days.target(local.date());
                let local = target.date.at(local.second_of_day());
                let (excluded, moved_from) = (target.excluded, target.moved_from);
                let sooner = first.is_none_or(|first| {
                    (local, excluded.is_some()) < (first.local, first.excluded.is_some())
                });
                if local >= from && sooner && !(days.only_fires && excluded.is_some()) {
                    first = Some(Found { local, excluded, moved_from });
                }
            }
            first
        };
        let walk = Walk { zone: &self.zone, gap: self.gap, fold: self.fold, fixed: true, next };
        let mut first = walk.next_after(after);
        for moment in &extras.dates {
            let Moment::Instant(at) = *moment else { continue };
            let local = self.zone.local(Timestamp::from_seconds(at));
            let target = days.target(local.date());
            let found = Found {
                local: target.date.at(local.second_of_day()),
                excluded: target.excluded,
                moved_from: target.moved_from,
            };
            let moved = target.moved_from.is_some();
            let candidate = if moved {
                let next = |from: LocalTime| (found.local >= from).then_some(found);
                Walk { zone: &self.zone, gap: self.gap, fold: self.fold, fixed: true, next }
                    .next_after(after)
            } else {
                let fate = target.excluded.map_or(Fate::Fires, Fate::Excluded);
                (at > after).then_some(Candidate { at, fate, moved_from: None })
            };
            first = Candidate::first(first, candidate);
        }
        self.less_excluded_times(first?, days)
    }

    fn in_interval<C: CalendarLookup>(
        &self,
        interval: Interval,
        after: i64,
        days: &Days<'_, C>,
    ) -> Option<Candidate> {
        let at = interval.next_after(Timestamp::from_seconds(after));
        let excluded = days.excluded(self.zone.local(at).date());
        let fate = excluded.map_or(Fate::Fires, Fate::Excluded);
        self.less_excluded_times(Candidate { at: at.seconds(), fate, moved_from: None }, days)
    }

    fn less_excluded_times<C: CalendarLookup>(
        &self,
        mut candidate: Candidate,
        days: &Days<'_, C>,
    ) -> Option<Candidate> {
        if candidate.fate == Fate::Fires {
            let local = self.zone.local(Timestamp::from_seconds(candidate.at));
            let by: Option<By> = days.excluded_time(&self.zone, local, candidate.at);
            candidate.fate = by.map_or(Fate::Fires, Fate::Excluded);
        }
        Some(candidate)
    }
}

/// The first second behind the years in which a search looks.
fn last_second() -> i64 {
    LocalDate::valid(LAST_YEAR + 1, 1, 1).midnight().0
}
