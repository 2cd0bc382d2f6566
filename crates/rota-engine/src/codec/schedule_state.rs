//! The records of the states of schedules.

use bytes::Bytes;
use prost::Message;
use rota_core::{
    Backfill, BackfillOrder, BackfillScope, Millis, MissedTick, Outcome, Pause, ScheduleState,
    TaskId, WallTime,
};

use super::{
    Decoded, bad, parse, priority, task_id,
    tick::{RunMessage, numbers, outcome, run, run_message},
    unknown::{self, Known},
};

#[derive(Clone, PartialEq, Message)]
pub(super) struct PauseMessage {
    #[prost(int64, tag = "1")]
    at_ms: i64,
    #[prost(string, tag = "2")]
    by: String,
    #[prost(string, tag = "3")]
    note: String,
    #[prost(bool, tag = "4")]
    on_failure: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct BackfillMessage {
    #[prost(int64, tag = "1")]
    from_ms: i64,
    #[prost(int64, tag = "2")]
    to_ms: i64,
    #[prost(int64, tag = "3")]
    cursor_ms: i64,
    #[prost(uint32, optional, tag = "4")]
    priority: Option<u32>,
    #[prost(bool, tag = "5")]
    parallel: bool,
    #[prost(uint64, tag = "6")]
    interval_ms: u64,
    #[prost(int64, tag = "7")]
    next_at_ms: i64,
    #[prost(bool, tag = "8")]
    all: bool,
    #[prost(fixed64, optional, tag = "9")]
    last_task: Option<u64>,
    #[prost(uint32, tag = "10")]
    created: u32,
    #[prost(uint32, tag = "11")]
    present: u32,
    #[prost(uint32, tag = "12")]
    refused: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct MissedMessage {
    #[prost(int64, tag = "1")]
    nominal_ms: i64,
    #[prost(uint32, tag = "2")]
    outcome: u32,
    #[prost(uint32, tag = "3")]
    reason: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StateMessage {
    #[prost(int64, tag = "1")]
    cursor_ms: i64,
    #[prost(bool, tag = "2")]
    completed: bool,
    #[prost(message, optional, tag = "3")]
    pause: Option<PauseMessage>,
    #[prost(int64, optional, tag = "4")]
    paused_until_ms: Option<i64>,
    #[prost(uint64, optional, tag = "5")]
    runs_left: Option<u64>,
    #[prost(fixed64, optional, tag = "6")]
    last_task: Option<u64>,
    #[prost(int64, optional, tag = "7")]
    last_fired_ms: Option<i64>,
    #[prost(int64, optional, tag = "8")]
    last_success_ms: Option<i64>,
    #[prost(uint32, tag = "9")]
    failures: u32,
    #[prost(uint32, tag = "10")]
    manual: u32,
    #[prost(int64, repeated, tag = "11")]
    queued_ms: Vec<i64>,
    #[prost(int64, repeated, tag = "12")]
    to_skip_ms: Vec<i64>,
    #[prost(message, optional, tag = "13")]
    open_run: Option<RunMessage>,
    #[prost(message, optional, tag = "14")]
    backfill: Option<BackfillMessage>,
    #[prost(message, optional, tag = "15")]
    last_missed: Option<MissedMessage>,
}

impl Known for StateMessage {
    const LAST: u32 = 15;
}

pub(super) fn pause_message(Pause { at, by, note, on_failure }: &Pause) -> PauseMessage {
    PauseMessage {
        at_ms: at.0,
        by: by.to_string(),
        note: note.to_string(),
        on_failure: *on_failure,
    }
}

pub(super) fn pause(PauseMessage { at_ms, by, note, on_failure }: PauseMessage) -> Box<Pause> {
    Box::new(Pause { at: WallTime(at_ms), by: by.into(), note: note.into(), on_failure })
}

fn missed_message(missed: &MissedTick) -> MissedMessage {
    let (outcome, reason) = numbers(missed.outcome());
    MissedMessage { nominal_ms: missed.nominal.0, outcome, reason }
}

fn missed(message: MissedMessage) -> Decoded<MissedTick> {
    let refused = match outcome(message.outcome, message.reason, None)? {
        Outcome::Missed => None,
        Outcome::Refused(reason) => Some(reason),
        _ => return Err(bad("the tick was not missed")),
    };
    Ok(MissedTick { nominal: WallTime(message.nominal_ms), refused })
}

fn backfill_message(backfill: &Backfill) -> BackfillMessage {
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
    BackfillMessage {
        from_ms: from.0,
        to_ms: to.0,
        cursor_ms: cursor.0,
        priority: priority.map(|priority| priority.level().into()),
        parallel: *order == BackfillOrder::Parallel,
        interval_ms: interval.0,
        next_at_ms: next_at.0,
        all: *scope == BackfillScope::All,
        last_task: last_task.map(TaskId::as_u64),
        created: *created,
        present: *present,
        refused: *refused,
    }
}

fn backfill(message: BackfillMessage) -> Decoded<Box<Backfill>> {
    Ok(Box::new(Backfill {
        from: WallTime(message.from_ms),
        to: WallTime(message.to_ms),
        cursor: WallTime(message.cursor_ms),
        priority: message.priority.map(priority).transpose()?,
        order: if message.parallel { BackfillOrder::Parallel } else { BackfillOrder::OneByOne },
        interval: Millis(message.interval_ms),
        next_at: WallTime(message.next_at_ms),
        scope: if message.all { BackfillScope::All } else { BackfillScope::Missing },
        last_task: message.last_task.map(task_id).transpose()?,
        created: message.created,
        present: message.present,
        refused: message.refused,
    }))
}

pub(crate) fn encode_schedule_state(state: &ScheduleState) -> Bytes {
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
    let message = StateMessage {
        cursor_ms: cursor.0,
        completed: *completed,
        pause: pause.as_deref().map(pause_message),
        paused_until_ms: Some(paused_until.0).filter(|until| *until != i64::MIN),
        runs_left: *runs_left,
        last_task: last_task.map(TaskId::as_u64),
        last_fired_ms: last_fired.map(|at| at.0),
        last_success_ms: last_success.map(|at| at.0),
        failures: *failures,
        manual: *manual,
        queued_ms: queued.iter().map(|at| at.0).collect(),
        to_skip_ms: to_skip.iter().map(|at| at.0).collect(),
        open_run: open_run.as_ref().map(run_message),
        backfill: backfill.as_deref().map(backfill_message),
        last_missed: last_missed.as_ref().map(missed_message),
    };
    let mut bytes = message.encode_to_vec();
    bytes.extend_from_slice(unknown);
    bytes.into()
}

pub(crate) fn decode_schedule_state(bytes: &Bytes) -> Decoded<ScheduleState> {
    let message: StateMessage = parse(bytes)?;
    Ok(ScheduleState {
        cursor: WallTime(message.cursor_ms),
        completed: message.completed,
        pause: message.pause.map(pause),
        paused_until: WallTime(message.paused_until_ms.unwrap_or(i64::MIN)),
        runs_left: message.runs_left,
        last_task: message.last_task.map(task_id).transpose()?,
        last_fired: message.last_fired_ms.map(WallTime),
        last_success: message.last_success_ms.map(WallTime),
        last_missed: message.last_missed.map(missed).transpose()?,
        failures: message.failures,
        manual: message.manual,
        queued: message.queued_ms.into_iter().map(WallTime).collect(),
        to_skip: message.to_skip_ms.into_iter().map(WallTime).collect(),
        open_run: message.open_run.map(run).transpose()?,
        backfill: message.backfill.map(backfill).transpose()?,
        unknown: unknown::of::<StateMessage>(bytes),
    })
}

#[cfg(test)]
mod tests {
    use rota_core::{Outcome, Priority, RefusedReason, Run, SkipReason};

    use super::*;

    fn state() -> ScheduleState {
        let task = TaskId::from_u64(7);
        let run = Run {
            outcome: Outcome::Skipped(SkipReason::Gap),
            first: WallTime(1),
            last: WallTime(2),
            count: 3,
        };
        ScheduleState {
            cursor: WallTime(1),
            completed: true,
            pause: Some(Box::new(Pause {
                at: WallTime(2),
                by: "me".into(),
                note: "n".into(),
                on_failure: true,
            })),
            paused_until: WallTime(3),
            runs_left: Some(4),
            last_task: task,
            last_fired: Some(WallTime(5)),
            last_success: Some(WallTime(6)),
            last_missed: Some(MissedTick {
                nominal: WallTime(19),
                refused: Some(RefusedReason::QueueFull),
            }),
            failures: 7,
            manual: 8,
            queued: vec![WallTime(9)],
            to_skip: vec![WallTime(10)],
            open_run: Some(run),
            backfill: Some(Box::new(Backfill {
                from: WallTime(11),
                to: WallTime(12),
                cursor: WallTime(13),
                priority: Priority::new(2),
                order: BackfillOrder::Parallel,
                interval: Millis(14),
                next_at: WallTime(15),
                scope: BackfillScope::All,
                last_task: task,
                created: 16,
                present: 17,
                refused: 18,
            })),
            unknown: Bytes::new(),
        }
    }

    #[test]
    fn a_state_that_was_written_is_read() {
        let state = state();
        assert_eq!(decode_schedule_state(&encode_schedule_state(&state)).unwrap(), state);
        let missed = Some(MissedTick { nominal: WallTime(0), refused: None });
        let late = ScheduleState { last_missed: missed, ..state };
        assert_eq!(decode_schedule_state(&encode_schedule_state(&late)).unwrap(), late);
        let new = ScheduleState::new(WallTime(1), None);
        assert_eq!(decode_schedule_state(&encode_schedule_state(&new)).unwrap(), new);
    }

    #[test]
    fn what_a_newer_version_wrote_stays_with_a_state_that_is_changed() {
        let field = [0xC2, 0x3E, 1, b'x'];
        let mut newer = encode_schedule_state(&state()).to_vec();
        newer.extend_from_slice(&field);
        let mut read = decode_schedule_state(&newer.into()).unwrap();
        assert_eq!(read.unknown, field.as_slice());
        read.cursor = WallTime(2);
        assert_eq!(decode_schedule_state(&encode_schedule_state(&read)).unwrap(), read);
    }
}
