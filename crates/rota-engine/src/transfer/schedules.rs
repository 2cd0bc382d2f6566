//! Records of schedules as JSON, for people. As in `readable`, a new field does not compile until it is shown.

use rota_core::{
    Backfill, BackfillOrder, BackfillScope, CalendarRecord, CatchUp, Definition, MissedTick, Name,
    Outcome, Overlap, Run, ScheduleDefinition, ScheduleRecord, ScheduleState, Template, TickRecord,
    TickRules, WallTime,
};
use rota_cron::{
    CalendarEntry, CalendarRule, ExclusionSpec, Fold, Gap, IntervalSpec, OnHoliday, RecurrenceSpec,
};
use serde_json::{Map, Value, json};

use super::readable::{content, date, newer_fields, object, pause_json, policy_json};

fn some_date(at: Option<WallTime>) -> Value {
    at.map_or(Value::Null, date)
}

/// A list, or nothing.
fn list<T>(items: &[T], show: impl Fn(&T) -> Value) -> Value {
    if items.is_empty() { Value::Null } else { items.iter().map(show).collect() }
}

fn texts(items: &[String]) -> Value {
    list(items, |text| text.as_str().into())
}

fn labels_json(labels: &[(Name, Box<str>)]) -> Value {
    let labels: Map<_, _> =
        labels.iter().map(|(name, value)| (name.to_string(), (**value).into())).collect();
    if labels.is_empty() { Value::Null } else { labels.into() }
}

pub(super) fn schedule(record: ScheduleRecord) -> Value {
    let ScheduleRecord { name, definition, created_at, updated_at, version, fingerprints } = record;
    let ScheduleDefinition { times, recurrence: _, rules, template, labels, description, max_runs } =
        definition;
    let TickRules { overlap, catch_up, catch_up_window, catch_up_max, jitter, pause_on_failure } =
        rules;
    object([
        ("name", name.as_str().into()),
        ("times", times_json(&times)),
        ("overlap", overlap_word(overlap).into()),
        ("catch_up", catch_up_word(catch_up).into()),
        ("catch_up_window_ms", catch_up_window.0.into()),
        ("catch_up_max", catch_up_max.into()),
        ("jitter_ms", jitter.0.into()),
        ("pause_on_failure", pause_on_failure.into()),
        ("template", template_json(&template)),
        ("labels", labels_json(&labels)),
        ("description", description.as_deref().map_or(Value::Null, Value::from)),
        ("max_runs", max_runs.map_or(Value::Null, Value::from)),
        ("created_at", date(created_at)),
        ("updated_at", date(updated_at)),
        ("version", version.into()),
        ("fingerprint", format!("{:016x}", fingerprints.whole).into()),
        ("fingerprint_of_times", format!("{:016x}", fingerprints.times).into()),
    ])
}

fn template_json(template: &Template) -> Value {
    let Template { definition, priority, expires_after } = template;
    let Definition { queue, kind, payload, labels, description, expires_at, policy, trace: _ } =
        definition;
    object([
        ("queue", queue.as_str().into()),
        ("kind", kind.as_str().into()),
        ("payload", content(payload)),
        ("labels", labels_json(labels)),
        ("description", description.as_deref().map_or(Value::Null, Value::from)),
        ("expires_at", some_date(*expires_at)),
        ("expires_after_ms", expires_after.map_or(Value::Null, |after| after.0.into())),
        ("priority", priority.level().into()),
        ("policy", policy_json(*policy)),
    ])
}

fn times_json(times: &RecurrenceSpec) -> Value {
    let RecurrenceSpec { expressions, intervals, dates, exclude, start, end, time_zone, gap, fold } =
        times;
    let ExclusionSpec { expressions: excluded, dates: excluded_dates, calendars } = exclude;
    let interval = |IntervalSpec { every, phase }: &IntervalSpec| json!({ "every_s": every.as_secs(), "phase_s": phase.as_secs() });
    let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
    object([
        ("expressions", texts(expressions)),
        ("intervals", list(intervals, interval)),
        ("dates", texts(dates)),
        ("excluded_expressions", texts(excluded)),
        ("excluded_dates", texts(excluded_dates)),
        ("calendars", list(calendars, calendar_rule)),
        ("start", text(start)),
        ("end", text(end)),
        ("time_zone", text(time_zone)),
        ("gap", gap_word(*gap).into()),
        ("fold", fold_word(*fold).into()),
    ])
}

fn calendar_rule(CalendarRule { name, on_holiday }: &CalendarRule) -> Value {
    let on_holiday = match on_holiday {
        OnHoliday::Skip => "skip",
        OnHoliday::Before => "before",
        OnHoliday::After => "after",
    };
    json!({ "name": name, "on_holiday": on_holiday })
}

fn gap_word(gap: Gap) -> &'static str {
    match gap {
        Gap::End => "end",
        Gap::Skip => "skip",
        Gap::Shift => "shift",
    }
}

fn fold_word(fold: Fold) -> &'static str {
    match fold {
        Fold::First => "first",
        Fold::Second => "second",
        Fold::Both => "both",
    }
}

fn overlap_word(overlap: Overlap) -> &'static str {
    match overlap {
        Overlap::Skip => "skip",
        Overlap::QueueOne => "queue_one",
        Overlap::QueueAll => "queue_all",
        Overlap::CancelRunning => "cancel_running",
        Overlap::Allow => "allow",
    }
}

fn catch_up_word(catch_up: CatchUp) -> &'static str {
    match catch_up {
        CatchUp::Last => "last",
        CatchUp::All => "all",
        CatchUp::None => "none",
    }
}

pub(super) fn state(state: ScheduleState) -> Value {
    let ScheduleState {
        cursor,
        completed,
        pause,
        paused_until,
        runs_left,
        last_task,
        last_fired,
        last_success,
        last_missed,
        failures,
        manual,
        queued,
        to_skip,
        open_run,
        backfill,
        unknown,
    } = state;
    let paused_until = Some(paused_until).filter(|until| until.0 != i64::MIN);
    object([
        ("cursor", date(cursor)),
        ("completed", completed.into()),
        ("pause", pause.as_deref().map_or(Value::Null, pause_json)),
        ("paused_until", some_date(paused_until)),
        ("runs_left", runs_left.map_or(Value::Null, Value::from)),
        ("last_task", last_task.map_or(Value::Null, |task| task.to_string().into())),
        ("last_fired", some_date(last_fired)),
        ("last_success", some_date(last_success)),
        ("last_missed", last_missed.map_or(Value::Null, missed_json)),
        ("failures", failures.into()),
        ("manual", manual.into()),
        ("queued", list(&queued, |at| date(*at))),
        ("to_skip", list(&to_skip, |at| date(*at))),
        ("open_run", open_run.map_or(Value::Null, run_json)),
        ("backfill", backfill.as_deref().map_or(Value::Null, backfill_json)),
        ("newer_fields_bytes", newer_fields(unknown.len())),
    ])
}

fn missed_json(missed: MissedTick) -> Value {
    object([
        ("nominal_time", date(missed.nominal)),
        ("outcome", missed.outcome().as_str().into()),
        ("reason", missed.outcome().reason().map_or(Value::Null, Value::from)),
    ])
}

fn backfill_json(backfill: &Backfill) -> Value {
    let Backfill {
        from,
        to,
        cursor,
        priority,
        order,
        interval,
        next_at,
        scope,
        last_task,
        created,
        present,
        refused,
    } = backfill;
    object([
        ("from", date(*from)),
        ("to", date(*to)),
        ("cursor", date(*cursor)),
        ("priority", priority.map_or(Value::Null, |priority| priority.level().into())),
        ("parallel", (*order == BackfillOrder::Parallel).into()),
        ("interval_ms", interval.0.into()),
        ("next_at", date(*next_at)),
        ("all", (*scope == BackfillScope::All).into()),
        ("last_task", last_task.map_or(Value::Null, |task| task.to_string().into())),
        ("created", (*created).into()),
        ("present", (*present).into()),
        ("refused", (*refused).into()),
    ])
}

fn run_json(Run { outcome, first, last, count }: Run) -> Value {
    let task = if let Outcome::Fired(task) = outcome { Some(task) } else { None };
    object([
        ("outcome", outcome.as_str().into()),
        ("reason", outcome.reason().map_or(Value::Null, Value::from)),
        ("task", task.map_or(Value::Null, |task| task.to_string().into())),
        ("first", date(first)),
        ("last", date(last)),
        ("count", count.into()),
    ])
}

pub(super) fn tick(record: TickRecord) -> Value {
    let TickRecord { schedule, run, decided_at, retain_until } = record;
    object([
        ("schedule", schedule.as_str().into()),
        ("run", run_json(run)),
        ("decided_at", date(decided_at)),
        ("retain_until", some_date(retain_until)),
    ])
}

pub(super) fn calendar(record: CalendarRecord) -> Value {
    let CalendarRecord { name, calendar, description, created_at, updated_at, version } = record;
    let entry =
        |CalendarEntry { days, note }: &CalendarEntry| json!({ "days": days, "note": note });
    object([
        ("name", name.as_str().into()),
        ("entries", list(&calendar.entries(), entry)),
        ("description", description.as_deref().map_or(Value::Null, Value::from)),
        ("created_at", date(created_at)),
        ("updated_at", date(updated_at)),
        ("version", version.into()),
    ])
}
