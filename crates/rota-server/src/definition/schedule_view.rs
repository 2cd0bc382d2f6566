//! Maps a schedule with its state to the wire.

use rota_core::{Backfill, MissedTick, Pause, ScheduleRecord, ScheduleView, WallTime, tick_id};
use rota_engine::{ScheduleRead, ScheduleStatus};
use rota_proto::{Date, v1};

use super::schedule;
use crate::{
    validate::choices,
    wire::{date, outcome_of, span},
};

/// Maps a schedule.
pub(crate) fn shown_schedule(read: &ScheduleRead) -> v1::Schedule {
    let ScheduleRead { record, view } = read;
    let ScheduleRecord { name, definition, created_at, updated_at, .. } = record;
    let ScheduleView { version, state, running, next } = view;
    let recurrence = &definition.recurrence;
    let its = state_of(read.status());
    v1::Schedule {
        name: name.to_string(),
        definition: Some(schedule::shown(name, definition)),
        version: (*version).into(),
        created_at: Some(date(*created_at)),
        updated_at: Some(date(*updated_at)),
        state: its.into(),
        sentence: recurrence.describe(),
        normal_form: recurrence.normal_form(),
        time_zone: recurrence.zone().to_string(),
        // The ticks of a paused schedule create no tasks.
        next_time: next.filter(|_| its == v1::ScheduleState::Active).map(date),
        decided_until: Some(date(state.cursor)),
        last_fired_time: state.last_fired.map(date),
        last_success_time: state.last_success.map(date),
        last_missed: state.last_missed.map(missed),
        running_task: running
            .and(state.last_fired)
            .map(|nominal| tick_id(name, nominal).to_string()),
        queued_times: dates(&state.queued),
        skip_times: dates(&state.to_skip),
        remaining_runs: state.runs_left,
        failures_in_a_row: state.failures,
        pause: state.pause.as_deref().map(pause),
        backfill: state.backfill.as_deref().map(backfill),
        warnings: Vec::new(),
    }
}

fn state_of(status: ScheduleStatus) -> v1::ScheduleState {
    match status {
        ScheduleStatus::Active => v1::ScheduleState::Active,
        ScheduleStatus::Paused => v1::ScheduleState::Paused,
        ScheduleStatus::Completed => v1::ScheduleState::Completed,
    }
}

fn dates(times: &[WallTime]) -> Vec<Date> {
    times.iter().copied().map(date).collect()
}

fn missed(missed: MissedTick) -> v1::MissedTick {
    let (outcome, reason) = outcome_of(missed.outcome());
    v1::MissedTick {
        nominal_time: Some(date(missed.nominal)),
        outcome: outcome.into(),
        reason: reason.map(Into::into),
    }
}

fn pause(pause: &Pause) -> v1::SchedulePause {
    let Pause { at, by, note, on_failure } = pause;
    v1::SchedulePause {
        at: Some(date(*at)),
        by: by.to_string(),
        note: note.to_string(),
        on_failure: *on_failure,
    }
}

fn backfill(backfill: &Backfill) -> v1::Backfill {
    v1::Backfill {
        from: Some(date(backfill.from)),
        to: Some(date(backfill.to)),
        // The cursor is just before the start at first.
        decided_until: Some(date(backfill.cursor)),
        order: choices::show_backfill_order(backfill.order),
        scope: choices::show_backfill_scope(backfill.scope),
        priority: backfill.priority.map(|priority| priority.level().into()),
        interval: Some(span(backfill.interval)),
        created: backfill.created,
        present: backfill.present,
        refused: backfill.refused,
    }
}
