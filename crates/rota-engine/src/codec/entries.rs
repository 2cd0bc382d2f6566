//! Records that do not belong to one task: queues, names, totals, and the retention log.

use bytes::Bytes;
use prost::Message;
use rota_core::{KeyOwner, Name, QueueRecord, TaskId, WallTime};
use rota_metrics::Counts;

use super::{
    Decoded, bad, bytes_of, parse,
    schedule_state::{PauseMessage, pause, pause_message},
    task_id,
    unknown::{self, Known},
};
use crate::layout;

#[derive(Clone, PartialEq, Message)]
struct QueueMessage {
    #[prost(bool, tag = "1")]
    paused: bool,
    #[prost(message, optional, tag = "2")]
    pause: Option<PauseMessage>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct KeyOwnerMessage {
    #[prost(fixed64, tag = "1")]
    task: u64,
    #[prost(fixed64, tag = "2")]
    fingerprint: u64,
}

#[derive(Clone, PartialEq, Message)]
struct RetainMessage {
    #[prost(fixed64, repeated, tag = "1")]
    tasks: Vec<u64>,
    /// Keys of the space `tick`.
    #[prost(string, repeated, tag = "2")]
    ticks: Vec<String>,
}

/// What can be removed from a date on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expiring {
    pub(crate) tasks: Vec<TaskId>,
    /// The schedule and the first nominal time of each record.
    pub(crate) ticks: Vec<(Name, WallTime)>,
}

impl Expiring {
    pub(crate) fn len(&self) -> usize {
        self.tasks.len() + self.ticks.len()
    }
}

impl Known for QueueMessage {
    const LAST: u32 = 2;
}

#[derive(Clone, PartialEq, Message)]
struct TotalMessage {
    #[prost(uint64, repeated, tag = "1")]
    counts: Vec<u64>,
}

impl Known for TotalMessage {
    const LAST: u32 = 1;
}

/// Counts that only a newer version knows. They are kept, and written again with the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ForeignCounts {
    counts: Vec<u64>,
    unknown: Bytes,
}

pub(crate) fn encode_total(counts: &Counts, foreign: &ForeignCounts) -> Bytes {
    let counts = counts.iter().chain(&foreign.counts).copied().collect();
    let mut bytes = TotalMessage { counts }.encode_to_vec();
    bytes.extend_from_slice(&foreign.unknown);
    bytes.into()
}

/// A count that the version of the record did not know is zero.
pub(crate) fn decode_total(bytes: &Bytes) -> Decoded<(Counts, ForeignCounts)> {
    let mut found = parse::<TotalMessage>(bytes)?.counts.into_iter();
    let mut counts = Counts::default();
    for (count, found) in counts.iter_mut().zip(found.by_ref()) {
        *count = found;
    }
    let unknown = unknown::of::<TotalMessage>(bytes);
    Ok((counts, ForeignCounts { counts: found.collect(), unknown }))
}

pub(crate) fn encode_queue(record: &QueueRecord) -> Bytes {
    let QueueRecord { paused, pause, unknown } = record;
    let pause = pause.as_deref().map(pause_message);
    let mut bytes = QueueMessage { paused: *paused, pause }.encode_to_vec();
    bytes.extend_from_slice(unknown);
    bytes.into()
}

pub(crate) fn decode_queue(bytes: &Bytes) -> Decoded<QueueRecord> {
    let message: QueueMessage = parse(bytes)?;
    // A version that does not know who paused a queue keeps that when it resumes the queue.
    let pause = message.pause.filter(|_| message.paused).map(pause);
    Ok(QueueRecord { paused: message.paused, pause, unknown: unknown::of::<QueueMessage>(bytes) })
}

pub(crate) fn encode_key_owner(owner: KeyOwner) -> Bytes {
    bytes_of(&KeyOwnerMessage { task: owner.task.as_u64(), fingerprint: owner.fingerprint })
}

pub(crate) fn decode_key_owner(bytes: &Bytes) -> Decoded<KeyOwner> {
    let message: KeyOwnerMessage = parse(bytes)?;
    Ok(KeyOwner { task: task_id(message.task)?, fingerprint: message.fingerprint })
}

pub(crate) fn encode_retain(expiring: &Expiring) -> Bytes {
    let Expiring { tasks, ticks } = expiring;
    let key = |(schedule, first): &(Name, WallTime)| layout::tick_text(schedule, *first);
    bytes_of(&RetainMessage {
        tasks: tasks.iter().map(|task| task.as_u64()).collect(),
        ticks: ticks.iter().map(key).collect(),
    })
}

pub(crate) fn decode_retain(bytes: &Bytes) -> Decoded<Expiring> {
    let RetainMessage { tasks, ticks } = parse(bytes)?;
    let key = |key: String| {
        layout::parse_tick(key.as_bytes()).ok_or_else(|| bad("the key of a tick cannot be read"))
    };
    Ok(Expiring {
        tasks: tasks.into_iter().map(task_id).collect::<Decoded<_>>()?,
        ticks: ticks.into_iter().map(key).collect::<Decoded<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use rota_core::Pause;

    use super::*;

    #[test]
    fn a_queue_that_an_older_version_resumed_has_no_pause() {
        let pause = Pause {
            at: WallTime(7),
            by: "ann".into(),
            note: "migration".into(),
            on_failure: false,
        };
        let paused = QueueRecord { paused: true, pause: Some(pause.into()), ..Default::default() };
        let again =
            |record: &QueueRecord| decode_queue(&encode_queue(record)).expect("it can be read");
        assert_eq!(again(&paused), paused);
        let resumed = QueueRecord { paused: false, ..paused };
        assert_eq!(again(&resumed), QueueRecord::default());
    }
}
