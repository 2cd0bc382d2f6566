//! Checks of requests about schedules and calendars, except the definition of a schedule, which `definition` has.

use std::time::Duration;

use rota_core::{Backfill, Millis, Name, Pause, SCHEDULE_NAME_LEN_MAX, WallTime};
use rota_cron::{Calendar, CalendarEntry, CalendarError, calendar::MAX_ENTRIES};
use rota_engine::{ScheduleFilter, ScheduleStatus, TimeRange};
use rota_proto::{Date, v1};

use super::{Check, FieldPrefix, choices, page::foreign};
use crate::{
    failure::Failure,
    limits::{AUTHOR_CHARS, BACKFILL_INTERVAL, Limits, NOTE_CHARS, PREVIEW_RUNS},
};

/// Checks the name of a schedule that exists, or not.
pub(crate) fn schedule_name(text: &str) -> Result<Name, Failure> {
    let mut check = Check::new();
    let limit = ("schedule_name_characters", SCHEDULE_NAME_LEN_MAX);
    let short = check.at_most("name", "characters", text.len(), limit);
    let name = if short { check.name_in_path("name", text) } else { None };
    check.finish(name)
}

/// The version that a client expects. One that no schedule can have is never the current one.
pub(crate) fn version(expected: Option<u64>) -> Option<u32> {
    expected.map(|version| u32::try_from(version).unwrap_or(u32::MAX))
}

/// Checks a filter of schedules.
pub(crate) fn schedule_filter(
    filter: v1::ScheduleFilter,
    limits: &Limits,
) -> Result<ScheduleFilter, Failure> {
    let v1::ScheduleFilter { prefix, labels, state } = filter;
    let mut check = Check::at(FieldPrefix::Filter);
    // A beginning of names has the characters of names.
    let prefix = check.given("prefix", prefix);
    let prefix = prefix.and_then(|text| check.name("prefix", &text));
    let labels = check.labels(labels, limits);
    let state = match state.map(|number| (number, v1::ScheduleState::try_from(number))) {
        None | Some((_, Ok(v1::ScheduleState::Unspecified))) => None,
        Some((_, Ok(v1::ScheduleState::Active))) => Some(ScheduleStatus::Active),
        Some((_, Ok(v1::ScheduleState::Paused))) => Some(ScheduleStatus::Paused),
        Some((_, Ok(v1::ScheduleState::Completed))) => Some(ScheduleStatus::Completed),
        Some((number, Err(_))) => {
            let wrong = format_args!("is {number}; it must be a value of the enum ScheduleState");
            check.wrong("state", wrong);
            None
        }
    };
    let prefix = prefix.map(|prefix| prefix.as_str().into());
    check.finish(Some(ScheduleFilter { prefix, labels, state }))
}

/// Checks that `all` is set if the filter selects all schedules, and only then.
pub(crate) fn schedule_selection(filter: &ScheduleFilter, all: bool) -> Result<(), Failure> {
    match (*filter == ScheduleFilter::default(), all) {
        (true, false) => Err(Failure::field(
            "all",
            "must be true to select every schedule; or use a filter that selects fewer schedules",
        )),
        (false, true) => Err(Failure::field("all", "cannot be combined with a filter")),
        _ => Ok(()),
    }
}

/// Checks a pause.
pub(crate) fn pause(
    note: Option<String>,
    by: Option<String>,
    now: WallTime,
) -> Result<Pause, Failure> {
    let mut check = Check::new();
    let note = line(&mut check, "note", note, NOTE_CHARS);
    let by = line(&mut check, "by", by, AUTHOR_CHARS);
    check.finish(Some(Pause { at: now, by, note, on_failure: false }))
}

/// A short text for people.
fn line(check: &mut Check, field: &str, text: Option<String>, most: usize) -> Box<str> {
    let text = text.unwrap_or_default();
    let count = text.chars().count();
    if count > most {
        check.wrong(field, format_args!("has {count} characters; the limit is {most}"));
    }
    if text.chars().any(char::is_control) {
        check.wrong(field, "must not contain control characters");
    }
    text.into_boxed_str()
}

/// Checks the time of a tick to skip.
pub(crate) fn nominal_time(at: Option<Date>) -> Result<WallTime, Failure> {
    let mut check = Check::new();
    if at.is_none() {
        check.wrong("nominal_time", "is missing");
    }
    let at = check.date("nominal_time", at);
    check.finish(at)
}

/// Checks a backfill.
pub(crate) fn backfill(
    request: &v1::BackfillScheduleRequest,
    now: WallTime,
) -> Result<Backfill, Failure> {
    let mut check = Check::new();
    if request.from.is_none() {
        check.wrong("from", "is missing");
    }
    let from = check.date("from", request.from);
    let to = check.date("to", request.to);
    match (from, to) {
        (Some(from), _) if from > now => check.wrong("from", "must not be in the future"),
        (Some(from), Some(to)) if to < from => check.wrong("to", "must not be before from"),
        _ => {}
    }
    if to.is_some_and(|to| to > now) {
        check.wrong("to", "must not be in the future: the schedule itself decides coming ticks");
    }
    let order = choices::backfill_order(&mut check, "order", request.order);
    let scope = choices::backfill_scope(&mut check, "scope", request.scope);
    let priority = request.priority.and_then(|level| check.priority(level));
    let range = (Duration::ZERO, BACKFILL_INTERVAL);
    let interval = check.span("interval", request.interval, range).unwrap_or(Millis(0));
    check.finish(from.map(|from| Backfill {
        from,
        to: to.unwrap_or(now),
        cursor: WallTime(from.0.saturating_sub(1)),
        priority,
        order,
        interval,
        next_at: now,
        scope,
        last_task: None,
        created: 0,
        present: 0,
        refused: 0,
    }))
}

/// Checks a range of nominal times.
pub(crate) fn tick_range(range: Option<v1::TimeRange>) -> Result<TimeRange, Failure> {
    let v1::TimeRange { from, to } = range.unwrap_or_default();
    let mut check = Check::new();
    let range = TimeRange { from: check.date("from", from), to: check.date("to", to) };
    check.finish(Some(range))
}

/// Writes the cursor of a list of ticks.
pub(crate) fn tick_token(before: WallTime) -> String {
    before.0.to_string()
}

/// Parses the cursor of a list of ticks.
pub(crate) fn tick_place(text: &str) -> Result<Option<WallTime>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let millis = text.parse().ok().filter(|millis| (0..=WallTime::MAX.0).contains(millis));
    millis.map(|millis| Some(WallTime(millis))).ok_or_else(foreign)
}

/// Checks the number of runs of a preview, and its start. Default: the next runs from now.
pub(crate) fn preview(
    count: Option<u32>,
    from: Option<Date>,
    now: WallTime,
) -> Result<(usize, WallTime), Failure> {
    let mut check = Check::new();
    let count = check.number_within("count", count, 10, ("preview_runs", PREVIEW_RUNS));
    let from = check.date("from", from).unwrap_or(now);
    check.finish(Some((count as usize, from)))
}

/// Checks the content of a calendar: entries, or the text of an iCalendar file.
pub(crate) fn calendar(
    request: v1::PutCalendarRequest,
    limits: &Limits,
) -> Result<(Name, Calendar, Option<Box<str>>), Failure> {
    let v1::PutCalendarRequest { name, entries, description, ics, expected_version: _ } = request;
    let mut check = Check::new().naming(limits);
    let name = check.name_in_path("name", &name);
    let description = check.given("description", description);
    let description =
        description.map(|text| line(&mut check, "description", Some(text), NOTE_CHARS));
    let calendar = match ics {
        None => listed(&mut check, entries),
        Some(_) if !entries.is_empty() => {
            check.wrong("ics", "cannot be combined with entries");
            None
        }
        Some(text) => match Calendar::from_ics(&text) {
            Ok(calendar) => Some(calendar),
            Err(error) => {
                check.wrong("ics", error);
                None
            }
        },
    };
    check.finish(name.zip(calendar).map(|(name, calendar)| (name, calendar, description)))
}

fn listed(check: &mut Check, entries: Vec<v1::CalendarEntry>) -> Option<Calendar> {
    if !check.at_most("entries", "entries", entries.len(), ("calendar_entries", MAX_ENTRIES)) {
        return None;
    }
    let entry =
        |v1::CalendarEntry { days, note }| CalendarEntry { days, note: note.unwrap_or_default() };
    let entries: Vec<_> = entries.into_iter().map(entry).collect();
    match Calendar::new(&entries) {
        Ok(calendar) => Some(calendar),
        Err(error) => {
            let field = match &error {
                CalendarError::TooMany(_) => "entries".to_owned(),
                CalendarError::Days { index, .. } => format!("entries[{index}].days"),
                CalendarError::Note { index } => format!("entries[{index}].note"),
            };
            let message = match &error {
                CalendarError::Days { days, .. } => format!(
                    "is {days:?}, which is not a date; use 2026-12-25, 2026-12-24..2026-12-26, or \
                     12-25 for every year"
                ),
                CalendarError::Note { index } => {
                    let count = entries.get(*index).map_or(0, |entry| entry.note.chars().count());
                    format!(
                        "has {count} characters; the limit is {}",
                        rota_cron::calendar::MAX_NOTE
                    )
                }
                CalendarError::TooMany(_) => error.to_string(),
            };
            check.wrong(field, message);
            None
        }
    }
}
