//! The records of calendars.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use rota_core::{CalendarRecord, Name, WallTime};
use rota_cron::{Calendar, CalendarEntry};

use super::{CodecError, Decoded, bad, bytes_of, name, parse};

#[derive(Clone, PartialEq, Message)]
struct CalendarMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<EntryMessage>,
    #[prost(string, optional, tag = "3")]
    description: Option<String>,
    #[prost(int64, tag = "4")]
    created_at_ms: i64,
    #[prost(int64, tag = "5")]
    updated_at_ms: i64,
    #[prost(uint32, tag = "6")]
    version: u32,
}

#[derive(Clone, PartialEq, Message)]
struct EntryMessage {
    #[prost(string, tag = "1")]
    days: String,
    #[prost(string, tag = "2")]
    note: String,
}

pub(crate) fn encode_calendar(record: &CalendarRecord) -> Bytes {
    let CalendarRecord { name, calendar, description, created_at, updated_at, version } = record;
    let entry = |CalendarEntry { days, note }| EntryMessage { days, note };
    bytes_of(&CalendarMessage {
        name: name.to_string(),
        entries: calendar.entries().into_iter().map(entry).collect(),
        description: description.as_deref().map(str::to_owned),
        created_at_ms: created_at.0,
        updated_at_ms: updated_at.0,
        version: *version,
    })
}

/// Decodes the record of this calendar. A record of another one is damaged.
pub(crate) fn decode_calendar_of(calendar: &Name, bytes: &Bytes) -> Decoded<CalendarRecord> {
    let record = decode_calendar(bytes)?;
    if record.name != *calendar {
        return Err(bad("the record belongs to another calendar"));
    }
    Ok(record)
}

fn decode_calendar(bytes: &Bytes) -> Decoded<CalendarRecord> {
    let message: CalendarMessage = parse(bytes)?;
    let entry = |EntryMessage { days, note }| CalendarEntry { days, note };
    let entries: Vec<_> = message.entries.into_iter().map(entry).collect();
    let calendar =
        Calendar::new(&entries).map_err(|error| CodecError::Unknown(error.to_string()))?;
    Ok(CalendarRecord {
        name: name(&message.name)?,
        calendar: Arc::new(calendar),
        description: message.description.map(String::into_boxed_str),
        created_at: WallTime(message.created_at_ms),
        updated_at: WallTime(message.updated_at_ms),
        version: message.version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calendar_that_was_written_is_read() {
        let entry = CalendarEntry { days: "12-25".to_owned(), note: "n".to_owned() };
        let calendar = CalendarRecord {
            name: Name::new("holidays").unwrap(),
            calendar: Arc::new(Calendar::new(&[entry]).unwrap()),
            description: Some("d".into()),
            created_at: WallTime(1),
            updated_at: WallTime(2),
            version: 3,
        };
        assert_eq!(decode_calendar(&encode_calendar(&calendar)).unwrap(), calendar);
    }
}
