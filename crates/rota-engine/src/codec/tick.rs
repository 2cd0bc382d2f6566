//! The records of ticks.

use bytes::Bytes;
use prost::Message;
use rota_core::{Name, Outcome, RefusedReason, Run, SkipReason, TickRecord, WallTime};

use super::{Decoded, bad, bytes_of, parse, task_id};

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct RunMessage {
    #[prost(uint32, tag = "1")]
    outcome: u32,
    #[prost(uint32, tag = "2")]
    reason: u32,
    #[prost(fixed64, optional, tag = "3")]
    task: Option<u64>,
    #[prost(int64, tag = "4")]
    first_ms: i64,
    #[prost(int64, tag = "5")]
    last_ms: i64,
    #[prost(uint64, tag = "6")]
    count: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct TickRecordMessage {
    #[prost(message, optional, tag = "1")]
    run: Option<RunMessage>,
    #[prost(int64, tag = "2")]
    decided_at_ms: i64,
    #[prost(int64, optional, tag = "3")]
    retain_until_ms: Option<i64>,
}

/// The numbers of outcomes and reasons in the store. Never change one.
pub(super) fn numbers(outcome: Outcome) -> (u32, u32) {
    match outcome {
        Outcome::Fired(_) => (1, 0),
        Outcome::Queued => (2, 0),
        Outcome::Skipped(reason) => (
            3,
            match reason {
                SkipReason::Overlap => 1,
                SkipReason::Paused => 2,
                SkipReason::Excluded => 3,
                SkipReason::Gap => 4,
                SkipReason::ByRequest => 5,
            },
        ),
        Outcome::Coalesced => (4, 0),
        Outcome::Missed => (5, 0),
        Outcome::Refused(reason) => (
            6,
            match reason {
                RefusedReason::Conflict => 1,
                RefusedReason::QueueFull => 2,
                RefusedReason::TooManyNames => 3,
                RefusedReason::Expired => 4,
                RefusedReason::StoreFull => 5,
            },
        ),
    }
}

pub(super) fn outcome(number: u32, reason: u32, task: Option<u64>) -> Decoded<Outcome> {
    if number == 1 {
        let task = task.ok_or_else(|| bad("a tick that fired has no task"))?;
        return Ok(Outcome::Fired(task_id(task)?));
    }
    let plain = [Outcome::Queued, Outcome::Coalesced, Outcome::Missed];
    let skipped = SkipReason::ALL.map(Outcome::Skipped);
    let refused = RefusedReason::ALL.map(Outcome::Refused);
    let mut all = plain.into_iter().chain(skipped).chain(refused);
    let found = all.find(|outcome| numbers(*outcome) == (number, reason));
    found.ok_or_else(|| bad("unknown outcome of a tick"))
}

pub(super) fn run_message(Run { outcome, first, last, count }: &Run) -> RunMessage {
    let (number, reason) = numbers(*outcome);
    let task = if let Outcome::Fired(task) = outcome { Some(task.as_u64()) } else { None };
    let (first_ms, last_ms) = (first.0, last.0);
    RunMessage { outcome: number, reason, task, first_ms, last_ms, count: *count }
}

pub(super) fn run(message: RunMessage) -> Decoded<Run> {
    Ok(Run {
        outcome: outcome(message.outcome, message.reason, message.task)?,
        first: WallTime(message.first_ms),
        last: WallTime(message.last_ms),
        count: message.count,
    })
}

pub(crate) fn encode_tick(record: &TickRecord) -> Bytes {
    let TickRecord { schedule: _, run, decided_at, retain_until } = record;
    bytes_of(&TickRecordMessage {
        run: Some(run_message(run)),
        decided_at_ms: decided_at.0,
        retain_until_ms: retain_until.map(|until| until.0),
    })
}

/// Decodes the record of a tick of this schedule.
pub(crate) fn decode_tick(schedule: &Name, bytes: &Bytes) -> Decoded<TickRecord> {
    let message: TickRecordMessage = parse(bytes)?;
    Ok(TickRecord {
        schedule: schedule.clone(),
        run: run(message.run.ok_or_else(|| bad("the outcome is missing"))?)?,
        decided_at: WallTime(message.decided_at_ms),
        retain_until: message.retain_until_ms.map(WallTime),
    })
}

#[cfg(test)]
mod tests {
    use rota_core::TaskId;

    use super::*;

    #[test]
    fn each_outcome_that_was_written_is_read() {
        let task = TaskId::from_u64(7).unwrap();
        let plain = [Outcome::Fired(task), Outcome::Queued, Outcome::Coalesced, Outcome::Missed];
        let skipped = SkipReason::ALL.map(Outcome::Skipped);
        let refused = RefusedReason::ALL.map(Outcome::Refused);
        let schedule = Name::new("nightly").unwrap();
        for outcome in plain.into_iter().chain(skipped).chain(refused) {
            let record = TickRecord {
                schedule: schedule.clone(),
                run: Run { outcome, first: WallTime(1), last: WallTime(2), count: 3 },
                decided_at: WallTime(4),
                retain_until: Some(WallTime(5)),
            };
            assert_eq!(decode_tick(&schedule, &encode_tick(&record)).unwrap(), record);
        }
    }
}
