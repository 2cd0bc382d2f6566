//! Times and durations as people read them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rota_proto::{Date, TimeSpan};

use super::{format::Times, screen::screen};
use crate::dates;

/// A time for a cell of a table, by `--time`: such as "5s ago", in UTC or in the local time zone.
pub(crate) fn when(date: Date) -> String {
    match screen().times {
        Times::Relative => relative(date),
        Times::Utc | Times::Local => time(date),
    }
}

/// A whole time, in UTC or in the local time zone.
pub(crate) fn time(date: Date) -> String {
    match screen().times {
        Times::Local => dates::local(date),
        // A nominal time of a schedule has no fraction of a second.
        Times::Relative | Times::Utc => date.timestamp().to_string(),
    }
}

/// A whole time, and how far away it is.
pub(crate) fn time_and_distance(date: Date) -> String {
    format!("{} ({})", time(date), relative(date))
}

/// A time relative to now, such as "5s ago".
pub(crate) fn relative(date: Date) -> String {
    let away = date.timestamp().duration_since(Timestamp::now());
    let short = |duration: SignedDuration| coarse(duration.unsigned_abs());
    if away.is_negative() { format!("{} ago", short(away)) } else { format!("in {}", short(away)) }
}

/// A duration in its two largest units.
pub(crate) fn coarse(duration: Duration) -> String {
    let secs = duration.as_secs();
    let rounded = match secs {
        0 => Duration::from_millis(duration.subsec_millis().into()),
        1..3600 => Duration::from_secs(secs),
        3600..86_400 => Duration::from_secs(secs / 60 * 60),
        _ => Duration::from_secs(secs / 3600 * 3600),
    };
    TimeSpan::from(rounded).to_string()
}
