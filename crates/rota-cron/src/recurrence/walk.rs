//! From the local times of one source to instants: changes of the clock, and what they do to fixed times.

use super::{Fold, Gap, LONG_CHANGE, days::By};
use crate::{
    civil::{LocalDate, LocalTime, Timestamp},
    zone::{Change, Place, Zone},
};

/// A local time of a source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) local: LocalTime,
    pub(super) excluded: Option<By>,
    pub(super) moved_from: Option<LocalDate>,
}

/// An instant of a source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// Seconds since the epoch.
    pub(super) at: i64,
    pub(super) fate: Fate,
    pub(super) moved_from: Option<LocalDate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Fires,
    InGap(LocalTime),
    Excluded(By),
}

impl Candidate {
    /// The one that comes first. At one instant a run counts more than what is skipped.
    pub(super) fn first(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let rank = |candidate: &Self| (candidate.at, candidate.fate != Fate::Fires);
        match (one, other) {
            (Some(one), Some(other)) if rank(&other) < rank(&one) => Some(other),
            (None, other) => other,
            (one, _) => one,
        }
    }
}

/// The walk over the local times of a source, which `next` gives: the first at or after its argument.
pub(super) struct Walk<'a, N> {
    pub(super) zone: &'a Zone,
    pub(super) gap: Gap,
    pub(super) fold: Fold,
    /// Fixed times of the day. Others follow real time.
    pub(super) fixed: bool,
    pub(super) next: N,
}

impl<N: Fn(LocalTime) -> Option<Found>> Walk<'_, N> {
    /// The first instant after `after`, in seconds.
    pub(super) fn next_after(&self, after: i64) -> Option<Candidate> {
        let usual = self.usual(after);
        if self.fixed && self.gap == Gap::Shift {
            return Candidate::first(usual, self.shifted(after));
        }
        usual
    }

    fn usual(&self, after: i64) -> Option<Candidate> {
        let local = self.zone.local(Timestamp::from_seconds(after));
        let mut from = LocalTime(local.0 + 1);
        if let Place::Fold(change) = self.zone.resolve(local) {
            if let Some(found) = self.in_fold(change, after, from) {
                return Some(found);
            }
            from = change.jump().0;
        }
        loop {
            let found = (self.next)(from)?;
            match self.zone.resolve(found.local) {
                Place::Once(at) => return Some(candidate(found, at)),
                Place::Fold(change) if self.runs_first() => {
                    return Some(candidate(found, found.local.0 - change.before));
                }
                Place::Fold(change) => return Some(candidate(found, found.local.0 - change.after)),
                Place::Gap(change) => {
                    if self.fixed {
                        return Some(self.in_gap(change, found));
                    }
                    from = change.jump().1;
                }
            }
        }
    }

    fn runs_first(&self) -> bool {
        !self.fixed || self.fold != Fold::Second
    }

    fn runs_second(&self) -> bool {
        !self.fixed || self.fold != Fold::First
    }

    /// The next instant within the fold in which `after` lies. `from` is the local time behind it.
    fn in_fold(&self, change: Change, after: i64, from: LocalTime) -> Option<Candidate> {
        let (end, start) = change.jump();
        let within = |from: LocalTime| (self.next)(from).filter(|found| found.local < end);
        let first_pass = after < change.at;
        if first_pass
            && self.runs_first()
            && let Some(found) = within(from)
        {
            return Some(candidate(found, found.local.0 - change.before));
        }
        if !self.runs_second() {
            return None;
        }
        let found = within(if first_pass { start } else { from })?;
        Some(candidate(found, found.local.0 - change.after))
    }

    /// What becomes of the fixed times in a gap, of which `found` is the first.
    fn in_gap(&self, change: Change, found: Found) -> Candidate {
        let (_, end) = change.jump();
        let long = change.after - change.before >= LONG_CHANGE;
        let behind = (self.next)(end);
        if self.gap == Gap::Shift && !long {
            let shifted = candidate(found, found.local.0 - change.before);
            let behind = behind.and_then(|found| self.at_once(found));
            return Candidate::first(behind, Some(shifted)).unwrap_or(shifted);
        }
        // The end of the gap is one instant, and so one run, whatever falls on it.
        let mut free = Some(found);
        while let Some(excluded) = free.filter(|free| free.excluded.is_some()) {
            let next_day = excluded.local.date().plus(1).midnight();
            free = (self.next)(next_day).filter(|found| found.local < end);
        }
        let at_end = behind.filter(|behind| behind.local == end && behind.excluded.is_none());
        let fate = match (at_end, free) {
            (Some(_), _) => Fate::Fires,
            (None, Some(_)) if self.gap != Gap::Skip && !long => Fate::Fires,
            (None, Some(free)) => Fate::InGap(free.local),
            (None, None) => return candidate(found, change.at),
        };
        let moved_from = at_end.or(free).and_then(|found| found.moved_from);
        Candidate { at: change.at, fate, moved_from }
    }

    fn at_once(&self, found: Found) -> Option<Candidate> {
        match self.zone.resolve(found.local) {
            Place::Once(at) => Some(candidate(found, at)),
            // Another change that near does not happen.
            Place::Gap(_) | Place::Fold(_) => None,
        }
    }

    /// The next of the times that were moved behind the gap in whose shadow `after` lies.
    fn shifted(&self, after: i64) -> Option<Candidate> {
        let change = self.zone.next_change(after - LONG_CHANGE)?;
        let length = change.after - change.before;
        if change.at > after || length <= 0 || length >= LONG_CHANGE || after >= change.at + length
        {
            return None;
        }
        let found = (self.next)(LocalTime(after + change.before + 1))?;
        let in_gap = found.local < change.jump().1;
        in_gap.then(|| candidate(found, found.local.0 - change.before))
    }
}

fn candidate(found: Found, at: i64) -> Candidate {
    let fate = found.excluded.map_or(Fate::Fires, Fate::Excluded);
    Candidate { at, fate, moved_from: found.moved_from }
}
