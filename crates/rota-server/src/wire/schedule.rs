//! Maps ticks and calendars to the wire.

use rota_core::{
    CalendarRecord, Outcome, RefusedReason, Run, SkipReason, TickContext, TickRecord, tick_id,
};
use rota_proto::v1;

use super::date;

/// Maps the tick of a task.
pub(crate) fn tick(tick: &TickContext) -> v1::TickContext {
    let TickContext { schedule, nominal, previous, last_success } = tick;
    v1::TickContext {
        schedule: schedule.to_string(),
        nominal_time: nominal.map(date),
        previous_time: previous.map(date),
        last_success_time: last_success.map(date),
    }
}

/// Maps the record of a tick, or of a run of ticks.
pub(crate) fn tick_record(record: &TickRecord) -> v1::Tick {
    let TickRecord { schedule, run, decided_at, retain_until: _ } = record;
    let Run { outcome, first, last, count } = *run;
    let (outcome, reason) = outcome_of(outcome);
    let has_task = matches!(run.outcome, Outcome::Fired(_));
    v1::Tick {
        nominal_time: Some(date(first)),
        last_nominal_time: (last != first).then(|| date(last)),
        count,
        outcome: outcome.into(),
        reason: reason.map(Into::into),
        task_id: has_task.then(|| tick_id(schedule, first).to_string()),
        decided_at: Some(date(*decided_at)),
    }
}

/// Maps the outcome of a tick, and its reason.
pub(crate) fn outcome_of(outcome: Outcome) -> (v1::TickOutcome, Option<v1::TickReason>) {
    match outcome {
        Outcome::Fired(_) => (v1::TickOutcome::Fired, None),
        Outcome::Queued => (v1::TickOutcome::Queued, None),
        Outcome::Skipped(reason) => (v1::TickOutcome::Skipped, Some(skipped(reason))),
        Outcome::Coalesced => (v1::TickOutcome::Coalesced, None),
        Outcome::Missed => (v1::TickOutcome::Missed, None),
        Outcome::Refused(reason) => (v1::TickOutcome::Refused, Some(refused(reason))),
    }
}

fn skipped(reason: SkipReason) -> v1::TickReason {
    match reason {
        SkipReason::Overlap => v1::TickReason::Overlap,
        SkipReason::Paused => v1::TickReason::Paused,
        SkipReason::Excluded => v1::TickReason::Exclusion,
        SkipReason::Gap => v1::TickReason::Gap,
        SkipReason::ByRequest => v1::TickReason::ByRequest,
    }
}

fn refused(reason: RefusedReason) -> v1::TickReason {
    match reason {
        RefusedReason::Conflict => v1::TickReason::Conflict,
        RefusedReason::QueueFull => v1::TickReason::QueueFull,
        RefusedReason::TooManyNames => v1::TickReason::TooManyNames,
        RefusedReason::Expired => v1::TickReason::Expired,
        RefusedReason::StoreFull => v1::TickReason::StoreFull,
    }
}

/// Maps a calendar without its entries.
pub(crate) fn calendar_in_list(record: &CalendarRecord) -> v1::Calendar {
    let entries = record.calendar.entries().len();
    v1::Calendar {
        name: record.name.to_string(),
        entries: Vec::new(),
        entry_count: u32::try_from(entries).unwrap_or(u32::MAX),
        description: record.description.as_deref().map(str::to_owned),
        version: record.version.into(),
        created_at: Some(date(record.created_at)),
        updated_at: Some(date(record.updated_at)),
    }
}

/// Maps a calendar.
pub(crate) fn calendar(record: &CalendarRecord) -> v1::Calendar {
    let entries = record.calendar.entries().into_iter().map(|entry| v1::CalendarEntry {
        days: entry.days,
        note: (!entry.note.is_empty()).then_some(entry.note),
    });
    v1::Calendar { entries: entries.collect(), ..calendar_in_list(record) }
}
