//! Marks that a leader must keep even if no task has them any more: the newest task id, so that no id is
//! given twice, and the last trusted date, so that a clock that is far ahead is noticed.
//!
//! They are one record, written only together with other changes: with a batch that deletes a task newer than
//! the stored id, and at intervals for the date.

use bytes::Bytes;
use prost::Message;
use rota_core::{Millis, Mutation, TaskId, WallTime};
use rota_store::{Snapshot, StoreError};
use tracing::error;

use crate::layout;

/// Minimum interval between writes of the date.
const DATE_PERIOD: Millis = Millis::from_secs(600);

/// The last written record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Marks {
    /// Ids up to this one are never given again.
    pub(crate) newest: Option<TaskId>,
    /// The last trusted date.
    pub(crate) written: Option<WallTime>,
}

#[derive(Clone, PartialEq, Message)]
struct MarksMessage {
    #[prost(fixed64, tag = "1")]
    newest: u64,
    #[prost(int64, tag = "2")]
    written_ms: i64,
}

impl Marks {
    pub(crate) async fn load(snapshot: &dyn Snapshot) -> Result<Self, StoreError> {
        let found = snapshot.get(&[(layout::MARK, layout::marks())]).await?;
        let Some(bytes) = found.into_iter().next().flatten() else { return Ok(Self::default()) };
        Ok(Self::decode(bytes).unwrap_or_else(|error| {
            // It only guards against rare problems, so the engine continues and writes it again.
            error!(%error, "cannot read the record mark/marks");
            Self::default()
        }))
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, prost::DecodeError> {
        let message = MarksMessage::decode(bytes)?;
        let written = Some(WallTime(message.written_ms)).filter(|date| date.0 > 0);
        Ok(Self { newest: TaskId::from_u64(message.newest), written })
    }

    /// The record that must be written with these changes, if any. `last` is the newest id, `now` the time if
    /// it is trusted.
    pub(crate) fn note(
        &mut self,
        mutations: &[Mutation],
        last: Option<TaskId>,
        now: Option<WallTime>,
    ) -> Option<Bytes> {
        let removes_newer = mutations.iter().any(|mutation| {
            matches!(mutation, Mutation::DeleteTask(record) if Some(record.id) > self.newest)
        });
        let is_later = now.is_some_and(|now| {
            self.written.is_none_or(|written| now.since(written) >= DATE_PERIOD)
        });
        if !removes_newer && !is_later {
            return None;
        }
        if removes_newer {
            self.newest = self.newest.max(last);
        }
        if let Some(now) = now {
            self.written = self.written.max(Some(now));
        }
        let message = MarksMessage {
            newest: self.newest.map_or(0, TaskId::as_u64),
            written_ms: self.written.map_or(0, |date| date.0),
        };
        Some(message.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_a_date_has_none() {
        let mut marks = Marks::default();
        let newest = TaskId::from_u64(7).expect("an id");
        let message = MarksMessage { newest: newest.as_u64(), written_ms: 0 };
        let read = Marks::decode(message.encode_to_vec().into()).expect("a record");
        assert_eq!(read, Marks { newest: Some(newest), written: None });
        // Nothing was trusted before, so the first date is written whatever it is.
        let record = marks.note(&[], None, Some(WallTime(1))).expect("a first date");
        let read = Marks::decode(record).expect("a record");
        assert_eq!(read, Marks { newest: None, written: Some(WallTime(1)) });
    }
}
