//! The nominal times of schedules: the next one, when it is due, and those around it.

use rota_cron::{CalendarLookup, Kind, Skip, Timestamp};

use super::{Entry, Schedules, judge::Lateness, ticks::LATE};
use crate::{CatchUp, Millis, Outcome, SkipReason, WallTime, machine::index::ScheduleIndex};

/// Maximum number of occurrences to look at for the next one that is not skipped.
const LOOKED_AT: usize = 1000;
/// Maximum number of late ticks that are caught up on, whatever `catch_up_max` is, so that looking for the first
/// of them is bounded.
const CAUGHT_UP_MAX: u32 = 10_000;

/// An occurrence, as far as a decision needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) nominal: WallTime,
    /// The nominal time and the jitter.
    pub(super) due_at: WallTime,
    /// Set if the recurrence itself takes it away.
    pub(super) skip: Option<SkipReason>,
}

impl CalendarLookup for Schedules {
    fn calendar(&self, name: &str) -> Option<&rota_cron::Calendar> {
        self.calendars.get(name).map(|record| record.calendar.as_ref())
    }
}

impl Schedules {
    /// The first occurrence after a date.
    pub(super) fn occurrence_after(&self, index: ScheduleIndex, after: WallTime) -> Option<Next> {
        let entry = self.at(index);
        let (nominal, skip) = self.find_after(entry, after)?;
        let most = entry.plan.rules.jitter;
        let due_at = if most == Millis(0) || skip.is_some() {
            nominal
        } else {
            // Ticks never overtake each other.
            let following = self.find_after(entry, nominal);
            let room = following.map_or(most, |(next, _)| next.since(nominal));
            let most = most.min(Millis(room.0.saturating_sub(1)));
            let delay = rota_cron::jitter(&entry.name, Timestamp(nominal.0), most.as_duration());
            nominal + Millis::from_duration(delay)
        };
        Some(Next { nominal, due_at, skip })
    }

    fn find_after(&self, entry: &Entry, after: WallTime) -> Option<(WallTime, Option<SkipReason>)> {
        // The search does not take dates without bound.
        if after >= WallTime::MAX {
            return None;
        }
        let found = entry.plan.recurrence.next_after(Timestamp(after.0), self)?;
        let skip = match found.kind {
            Kind::Fires => None,
            Kind::Skipped(Skip::Gap { .. }) => Some(SkipReason::Gap),
            Kind::Skipped(Skip::Excluded { .. }) => Some(SkipReason::Excluded),
        };
        Some((WallTime(found.at.0), skip))
    }

    /// The occurrence after the cursor.
    pub(super) fn next(&mut self, index: ScheduleIndex) -> Option<Next> {
        let entry = self.at(index);
        if let Some(known) = entry.next {
            return known;
        }
        let next = self.occurrence_after(index, entry.state.cursor);
        self.at_mut(index).next = Some(next);
        self.count(index);
        next
    }

    /// What the time of the occurrence after the cursor means.
    pub(super) fn lateness(
        &mut self,
        index: ScheduleIndex,
        next: &Next,
        now: WallTime,
    ) -> Lateness {
        let late = now.since(next.due_at);
        let entry = self.at(index);
        let rules = entry.plan.rules;
        let progress = self.progress.get(&index).copied().unwrap_or_default();
        let coalesces = progress.coalesces
            || entry.state.rare().open_run.is_some_and(|run| run.outcome == Outcome::Coalesced);
        if late <= LATE && !coalesces {
            return Lateness::InTime;
        }
        if late > LATE.max(rules.catch_up_window) {
            return Lateness::TooLate;
        }
        match rules.catch_up {
            CatchUp::None if late > LATE => Lateness::TooLate,
            // A tick whose task only waits for a read of the store is not put off again for a newer one.
            CatchUp::Last if progress.wants == Some(next.nominal) => Lateness::InTime,
            CatchUp::Last if self.is_followed(index, next.nominal, now) => {
                self.progress.entry(index).or_default().coalesces = true;
                Lateness::Followed
            }
            CatchUp::All if late > LATE && next.nominal < self.catch_up_from(index, now) => {
                Lateness::TooLate
            }
            CatchUp::None | CatchUp::Last | CatchUp::All => Lateness::InTime,
        }
    }

    /// Whether a later tick is due that can stand for this one. Looks at a bounded number.
    fn is_followed(&self, index: ScheduleIndex, nominal: WallTime, now: WallTime) -> bool {
        let to_skip = &self.at(index).state.rare().to_skip;
        let mut after = nominal;
        for _ in 0..LOOKED_AT {
            match self.occurrence_after(index, after) {
                Some(next) if next.nominal > now => return false,
                Some(next)
                    if next.skip.is_none() && to_skip.binary_search(&next.nominal).is_err() =>
                {
                    return next.due_at <= now;
                }
                Some(next) => after = next.nominal,
                None => return false,
            }
        }
        false
    }

    /// The first late tick to catch up on. It stays the same until the schedule has caught up.
    fn catch_up_from(&mut self, index: ScheduleIndex, now: WallTime) -> WallTime {
        if let Some(known) = self.progress.get(&index).and_then(|progress| progress.from) {
            return known;
        }
        let rules = &self.at(index).plan.rules;
        let most = rules.catch_up_max.min(CAUGHT_UP_MAX) as usize;
        let oldest = WallTime(now.0.saturating_sub_unsigned(rules.catch_up_window.0));
        let from = self.last_of(index, most, oldest.max(self.at(index).state.cursor), now);
        self.progress.entry(index).or_default().from = Some(from);
        from
    }

    /// The first of the last `count` occurrences up to `now` that are not skipped, no earlier than `from`.
    fn last_of(
        &self,
        index: ScheduleIndex,
        count: usize,
        from: WallTime,
        now: WallTime,
    ) -> WallTime {
        let mut span = 60_000;
        loop {
            let begin = from.max(WallTime(now.0.saturating_sub(span)));
            let mut found = Vec::new();
            let mut after = begin;
            while let Some(next) = self.occurrence_after(index, after) {
                if next.nominal > now {
                    break;
                }
                after = next.nominal;
                if next.skip.is_none() {
                    found.push(next.nominal);
                }
            }
            if found.len() >= count {
                return if count == 0 { WallTime::MAX } else { found[found.len() - count] };
            }
            if begin == from {
                return from;
            }
            span = span.saturating_mul(4);
        }
    }

    /// The next tick that is not due yet and that nothing takes away so far.
    pub(super) fn coming(&self, index: ScheduleIndex, now: WallTime) -> Option<WallTime> {
        let entry = self.at(index);
        let to_skip = &entry.state.rare().to_skip;
        let mut after = entry.state.cursor;
        if self.occurrence_after(index, after).is_some_and(|first| now.since(first.due_at) > LATE) {
            after = now;
        }
        for _ in 0..LOOKED_AT {
            let next = self.occurrence_after(index, after)?;
            after = next.nominal;
            let is_coming = next.due_at > now && next.skip.is_none();
            if is_coming && to_skip.binary_search(&next.nominal).is_err() {
                return Some(next.nominal);
            }
        }
        None
    }
}
