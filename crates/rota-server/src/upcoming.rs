//! The next runs of a schedule for people: local time, UTC, what skips a run, and warnings.

use std::{collections::BTreeMap, sync::Arc};

use rota_core::{CalendarRecord, Millis, WallTime};
use rota_cron::{
    Calendar, CalendarLookup, ExcludedBy, Kind, Recurrence, RecurrenceSpec, Skip, Timestamp,
    Upcoming, rules_version,
};
use rota_proto::v1;

use crate::wire::date;

/// The calendars that a recurrence names, as far as they exist.
#[derive(Debug, Default)]
pub(crate) struct Calendars(pub(crate) BTreeMap<String, Arc<CalendarRecord>>);

impl CalendarLookup for Calendars {
    fn calendar(&self, name: &str) -> Option<&Calendar> {
        self.0.get(name).map(|record| record.calendar.as_ref())
    }
}

/// What a preview needs to know.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The name on which `H` and jitter depend.
    pub(crate) name: String,
    /// Whether the client chose the name.
    pub(crate) is_named: bool,
    pub(crate) times: Arc<RecurrenceSpec>,
    pub(crate) recurrence: Arc<Recurrence>,
    pub(crate) calendars: Calendars,
    pub(crate) jitter: Millis,
    /// Coming ticks that a client asked to skip, in order.
    pub(crate) to_skip: Vec<WallTime>,
}

impl Plan {
    /// The next `count` runs after `from`, with what is skipped between them.
    pub(crate) fn preview(&self, from: WallTime, count: usize) -> v1::SchedulePreview {
        let recurrence = &self.recurrence;
        let upcoming = recurrence.upcoming(Timestamp(from.0), count, &self.calendars);
        let runs = upcoming.iter().filter(|one| one.occurrence.kind == Kind::Fires).count();
        let mut warnings = self.warnings(from);
        if runs < count && upcoming.len() >= count * 10 {
            warnings.push("the list ends early because nearly all times are skipped".to_owned());
        }
        v1::SchedulePreview {
            sentence: recurrence.describe(),
            normal_form: recurrence.normal_form(),
            time_zone: recurrence.zone().to_string(),
            time_zone_rules: rules_version().to_owned(),
            from: Some(date(from)),
            upcoming: upcoming.iter().map(|one| self.run(one)).collect(),
            warnings,
        }
    }

    /// What a user should know about the year after `from`.
    pub(crate) fn warnings(&self, from: WallTime) -> Vec<String> {
        let warnings = self.recurrence.warnings(Timestamp(from.0), &self.calendars);
        let mut warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        if !self.is_named && self.depends_on_name() {
            warnings.push(format!(
                "H depends on the name of the schedule; without a name, this preview is for the name {:?}",
                self.name
            ));
        }
        warnings
    }

    /// Whether an expression has `H`. No name of a month or a day begins with it.
    fn depends_on_name(&self) -> bool {
        let texts = self.times.expressions.iter().chain(&self.times.exclude.expressions);
        texts.flat_map(|text| text.split([' ', '\t', ','])).any(|item| item.starts_with(['H', 'h']))
    }

    fn run(&self, upcoming: &Upcoming) -> v1::UpcomingRun {
        let occurrence = &upcoming.occurrence;
        let nominal = WallTime(occurrence.at.0);
        let skipped = match &occurrence.kind {
            Kind::Fires if self.to_skip.binary_search(&nominal).is_ok() => {
                Some((v1::SkippedBy::Request, "a client asked to skip it".to_owned()))
            }
            Kind::Fires => None,
            Kind::Skipped(Skip::Gap { local }) => {
                Some((v1::SkippedBy::Gap, format!("the clock jumps over {local}")))
            }
            Kind::Skipped(Skip::Excluded { by }) => {
                let kind = match by {
                    ExcludedBy::Date(_) => v1::SkippedBy::Date,
                    ExcludedBy::Expression(_) => v1::SkippedBy::Expression,
                    ExcludedBy::Calendar(_) => v1::SkippedBy::Calendar,
                };
                Some((kind, format!("excluded by {by}")))
            }
        };
        let fires = skipped.is_none();
        let (skipped_by, skip_reason) = skipped.unzip();
        let due = fires.then(|| self.due(nominal)).filter(|due| *due != nominal);
        v1::UpcomingRun {
            nominal_time: Some(date(nominal)),
            local_time: upcoming.to_string(),
            utc_offset_seconds: upcoming.offset,
            due_time: due.map(date),
            fires,
            skipped_by: skipped_by.map(Into::into),
            skip_reason,
            moved_from: occurrence.moved_from.map(|day| day.to_string()),
        }
    }

    /// When the tick creates its task. Jitter ends before the next occurrence, as the core has it.
    fn due(&self, nominal: WallTime) -> WallTime {
        if self.jitter == Millis(0) {
            return nominal;
        }
        let at = Timestamp(nominal.0);
        let following = self.recurrence.next_after(at, &self.calendars);
        let room = following.map_or(self.jitter, |next| WallTime(next.at.0).since(nominal));
        let most = self.jitter.min(Millis(room.0.saturating_sub(1)));
        nominal + Millis::from_duration(rota_cron::jitter(&self.name, at, most.as_duration()))
    }
}
