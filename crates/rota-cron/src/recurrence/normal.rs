//! The normal form of a recurrence.

use super::{Fold, Gap, OnHoliday, Recurrence};
use crate::dates::{Moment, range_text};

impl Recurrence {
    /// One text for each meaning: recurrences are equal if and only if their normal forms are.
    #[must_use]
    pub fn normal_form(&self) -> String {
        let mut parts: Vec<String> = self.expressions.iter().map(ToString::to_string).collect();
        let extras = self.extras.as_deref();
        if let Some(extras) = extras {
            parts.extend(extras.intervals.iter().map(ToString::to_string));
            parts.extend(extras.dates.iter().map(moment));
        }
        parts.push(format!("zone {}", self.zone));
        parts.push(match self.gap {
            Gap::End => "gap end".to_owned(),
            Gap::Skip => "gap skip".to_owned(),
            Gap::Shift => "gap shift".to_owned(),
        });
        parts.push(match self.fold {
            Fold::First => "fold first".to_owned(),
            Fold::Second => "fold second".to_owned(),
            Fold::Both => "fold both".to_owned(),
        });
        if let Some(extras) = extras {
            parts.extend(extras.start.map(|start| format!("start {start}")));
            parts.extend(extras.end.map(|end| format!("end {end}")));
            let exclude = &extras.exclude;
            let excluded =
                exclude.expressions.iter().map(|excluded| excluded.expression.to_string());
            parts.extend(excluded.map(|text| format!("exclude {text}")));
            parts.extend(
                exclude.ranges.iter().map(|range| format!("exclude {}", range_text(*range))),
            );
            parts.extend(exclude.moments.iter().map(|at| format!("exclude {}", moment(at))));
            parts.extend(exclude.calendars.iter().map(|(name, on_holiday)| {
                let rule = match on_holiday {
                    OnHoliday::Skip => "skip",
                    OnHoliday::Before => "before",
                    OnHoliday::After => "after",
                };
                format!("calendar {name} {rule}")
            }));
        }
        parts.join("; ")
    }
}

fn moment(moment: &Moment) -> String {
    match moment {
        Moment::Instant(at) => crate::Timestamp::from_seconds(*at).to_string(),
        Moment::Local(local) => local.to_string(),
    }
}
