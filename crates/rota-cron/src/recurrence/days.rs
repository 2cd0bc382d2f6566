//! Free days and holidays: which days are skipped, and to which days their runs move.

use super::{ExcludedBy, Exclusions, OnHoliday};
use crate::{
    calendar::CalendarLookup,
    civil::{LocalDate, LocalTime},
    dates::Moment,
    zone::Zone,
};

/// How far a run moves at most, in days. Beyond that it is skipped.
const FARTHEST: i32 = 31;

/// The exclusions of a recurrence together with the calendars of the moment.
pub(super) struct Days<'a, C> {
    pub(super) exclude: Option<&'a Exclusions>,
    pub(super) calendars: &'a C,
    /// Leave out days on which nothing runs, instead of telling why.
    pub(super) only_fires: bool,
}

/// An exclusion by its place in the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Date(LocalDate),
    Expression(usize),
    Calendar(usize),
}

enum Status {
    Free,
    Skipped(By),
    Moved(OnHoliday, usize),
}

/// A day on which a source has runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) date: LocalDate,
    pub(super) excluded: Option<By>,
    pub(super) moved_from: Option<LocalDate>,
}

impl<C: CalendarLookup> Days<'_, C> {
    pub(super) fn name(&self, by: By) -> ExcludedBy {
        let exclude = self.exclude;
        match by {
            By::Date(date) => ExcludedBy::Date(date),
            By::Expression(index) => {
                let found = exclude.and_then(|exclude| exclude.expressions.get(index));
                ExcludedBy::Expression(found.map_or_else(|| "".into(), |found| found.text.clone()))
            }
            By::Calendar(index) => {
                let found = exclude.and_then(|exclude| exclude.calendars.get(index));
                ExcludedBy::Calendar(found.map_or_else(|| "".into(), |found| found.0.clone()))
            }
        }
    }

    fn status(&self, exclude: &Exclusions, date: LocalDate) -> Status {
        let begun = exclude.ranges.partition_point(|(first, _)| *first <= date);
        if begun > 0 && exclude.ranges[begun - 1].1 >= date {
            return Status::Skipped(By::Date(date));
        }
        let whole_day = exclude.expressions.iter().position(|excluded| {
            excluded.expression.covers_whole_days() && excluded.expression.matches_date(date)
        });
        if let Some(index) = whole_day {
            return Status::Skipped(By::Expression(index));
        }
        let mut moved = Status::Free;
        for (index, (name, on_holiday)) in exclude.calendars.iter().enumerate() {
            let known = self.calendars.calendar(name);
            if !known.is_some_and(|calendar| calendar.contains(date)) {
                continue;
            }
            match on_holiday {
                OnHoliday::Skip => return Status::Skipped(By::Calendar(index)),
                _ if matches!(moved, Status::Free) => moved = Status::Moved(*on_holiday, index),
                _ => {}
            }
        }
        moved
    }

    /// The exclusion that takes a run away whose day cannot change.
    pub(super) fn excluded(&self, date: LocalDate) -> Option<By> {
        match self.status(self.exclude?, date) {
            Status::Free => None,
            Status::Skipped(by) => Some(by),
            Status::Moved(_, index) => Some(By::Calendar(index)),
        }
    }

    /// The exclusion that takes this one run away, by its time.
    pub(super) fn excluded_time(&self, zone: &Zone, local: LocalTime, at: i64) -> Option<By> {
        let exclude = self.exclude?;
        let moments = &exclude.moments;
        if moments.binary_search(&Moment::Local(local)).is_ok()
            || moments.binary_search(&Moment::Instant(at)).is_ok()
        {
            return Some(By::Date(local.date()));
        }
        debug_assert_eq!(zone.local(crate::Timestamp::from_seconds(at)), local);
        let matching = |excluded: &super::ExcludedTimes| excluded.expression.matches(local);
        exclude.expressions.iter().position(matching).map(By::Expression)
    }

    /// The day on which a run of this day takes place.
    pub(super) fn target(&self, date: LocalDate) -> Target {
        let here = |excluded| Target { date, excluded, moved_from: None };
        let Some(exclude) = self.exclude else { return here(None) };
        let (direction, index) = match self.status(exclude, date) {
            Status::Free => return here(None),
            Status::Skipped(by) => return here(Some(by)),
            Status::Moved(OnHoliday::Before, index) => (-1, index),
            Status::Moved(_, index) => (1, index),
        };
        for days in 1..=FARTHEST {
            let other = date.plus(direction * days);
            if matches!(self.status(exclude, other), Status::Free) {
                return Target { date: other, excluded: None, moved_from: Some(date) };
            }
        }
        here(Some(By::Calendar(index)))
    }

    /// The first day from `from` on with runs of a source, whose own days `next` gives in order.
    pub(super) fn next_target(
        &self,
        from: LocalDate,
        next: impl Fn(LocalDate) -> Option<LocalDate>,
    ) -> Option<Target> {
        let moves = |wanted: OnHoliday| {
            self.exclude
                .is_some_and(|exclude| exclude.calendars.iter().any(|rule| rule.1 == wanted))
        };
        let behind = if moves(OnHoliday::After) { FARTHEST } else { 0 };
        let ahead = if moves(OnHoliday::Before) { FARTHEST } else { 0 };
        let mut best: Option<Target> = None;
        let mut day = next(from.plus(-behind));
        while let Some(date) = day {
            if best.is_some_and(|best| best.date.plus(ahead) < date) {
                break;
            }
            let target = self.target(date);
            let wanted = target.date >= from && !(self.only_fires && target.excluded.is_some());
            if wanted && best.is_none_or(|best| before(&target, &best)) {
                best = Some(target);
            }
            day = next(date.plus(1));
        }
        best
    }
}

/// An earlier day goes first, and on one day a run that takes place where it belongs.
fn before(one: &Target, other: &Target) -> bool {
    let rank =
        |target: &Target| (target.date, target.excluded.is_some(), target.moved_from.is_some());
    rank(one) < rank(other)
}
