//! The times of a schedule, found by brute force: every second is looked at.

use proptest::prelude::*;
use rota_cron::{ExclusionSpec, IntervalSpec, RecurrenceSpec};

/// Times that are simple enough to check without the crate that computes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Times {
    Every {
        seconds: i64,
        phase: i64,
    },
    /// `*/step` or a list of minutes, in the given hours of UTC.
    Minutes {
        minutes: Vec<u32>,
        hours: Option<(u32, u32)>,
    },
    /// Every so many seconds of a minute, from the first on.
    Seconds {
        step: u32,
    },
}

/// Times, and the minutes of each hour in which they are excluded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nominal {
    pub(super) times: Times,
    pub(super) excluded: Option<(u32, u32)>,
}

impl Nominal {
    pub(super) fn spec(&self) -> RecurrenceSpec {
        let mut spec = RecurrenceSpec::default();
        match &self.times {
            Times::Every { seconds, phase } => spec.intervals.push(IntervalSpec {
                every: std::time::Duration::from_secs(seconds.unsigned_abs()),
                phase: std::time::Duration::from_secs(phase.unsigned_abs()),
            }),
            Times::Minutes { minutes, hours } => {
                let minutes: Vec<_> = minutes.iter().map(ToString::to_string).collect();
                let hours = hours.map_or("*".to_owned(), |(first, last)| format!("{first}-{last}"));
                spec.expressions.push(format!("{} {hours} * * *", minutes.join(",")));
            }
            Times::Seconds { step } => spec.expressions.push(format!("*/{step} * * * * *")),
        }
        if let Some((first, last)) = self.excluded {
            let expressions = vec![format!("{first}-{last} * * * *")];
            spec.exclude = ExclusionSpec { expressions, ..ExclusionSpec::default() };
        }
        spec
    }

    fn has(&self, second: i64) -> bool {
        let of_day = second.rem_euclid(86_400);
        let (hour, minute) = (of_day / 3600, of_day / 60 % 60);
        match &self.times {
            Times::Every { seconds, phase } => (second - phase).rem_euclid(*seconds) == 0,
            Times::Minutes { minutes, hours } => {
                second % 60 == 0
                    && minutes.iter().any(|it| i64::from(*it) == minute)
                    && hours.is_none_or(|(first, last)| {
                        (i64::from(first)..=i64::from(last)).contains(&hour)
                    })
            }
            Times::Seconds { step } => second % 60 % i64::from(*step) == 0,
        }
    }

    pub(super) fn is_excluded(&self, second: i64) -> bool {
        let minute = second.rem_euclid(3600) / 60;
        self.excluded
            .is_some_and(|(first, last)| (i64::from(first)..=i64::from(last)).contains(&minute))
    }

    /// The times after `from` up to `to`, in seconds.
    pub(super) fn between(&self, from: i64, to: i64) -> impl Iterator<Item = i64> {
        (from + 1..=to).filter(|second| self.has(*second))
    }
}

pub(super) fn any_nominal() -> impl Strategy<Value = Nominal> {
    let every = prop_oneof![1i64..90, 90i64..4000, 4000i64..40_000];
    let every = (every, any::<u32>())
        .prop_map(|(seconds, phase)| Times::Every { seconds, phase: i64::from(phase) % seconds });
    let hours = prop::option::of((0u32..24, 0u32..24));
    let minutes =
        (prop::collection::btree_set(0u32..60, 1..6), hours).prop_map(|(minutes, hours)| {
            Times::Minutes {
                minutes: minutes.into_iter().collect(),
                hours: hours.map(|(one, other)| (one.min(other), one.max(other))),
            }
        });
    let seconds = (1u32..40).prop_map(|step| Times::Seconds { step });
    let excluded = prop::option::weighted(0.3, (0u32..60, 0u32..60));
    (prop_oneof![every, minutes, seconds], excluded).prop_map(|(times, excluded)| Nominal {
        times,
        excluded: excluded.map(|(one, other)| (one.min(other), one.max(other))),
    })
}
