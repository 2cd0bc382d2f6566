//! Times of schedules as people read them.

use rota_client::{Date, v1::Backfill};

use crate::output;

/// A nominal time, which has no fraction of a second.
pub(super) fn time(date: Date) -> String {
    output::time(date)
}

/// A time, and how far away it is.
pub(super) fn coming(date: Date) -> String {
    output::time_and_distance(date)
}

/// The state of a backfill.
pub(super) fn progress(backfill: &Backfill) -> String {
    let Backfill { from, to, decided_until, created, present, refused, .. } = backfill;
    let at = |date: &Option<Date>| time(date.unwrap_or_default());
    format!(
        "{} to {}, done until {}: {created} created, {present} present, {refused} refused",
        at(from),
        at(to),
        at(decided_until)
    )
}
