//! Unknown fields that a newer version wrote: extracted from the bytes of a record, and written again at the
//! same place.
//!
//! prost drops unknown fields, so an older node that rewrites a record would destroy the data of a newer one.
//! This module keeps the bytes of those fields unchanged, including the tags. Appended to the fields that
//! this version writes, they form the record that the newer version expects.

use bytes::{Buf, Bytes};
use rota_core::{LeaseToken, UnknownFields};

use super::{EndMessage, LeaseMessage, PolicyMessage};

/// A message of which this version knows the fields from 1 to `LAST`.
pub(super) trait Known {
    const LAST: u32;
}

/// One field of a message.
struct Field<'a> {
    number: u32,
    /// All bytes, including the tag.
    whole: &'a [u8],
    /// The content, if it is a message, bytes or text.
    content: &'a [u8],
}

/// The fields of a message in order. Ends early at invalid bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let mut rest = self.0;
        let (number, content) = take_field(&mut rest)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Field { number, whole, content })
    }
}

/// The unknown fields of a message, unchanged. They are copied, because the message may be a slice of a large
/// buffer.
pub(super) fn of<M: Known>(message: &[u8]) -> Bytes {
    let unknown = Fields(message).filter(|field| field.number > M::LAST);
    unknown.flat_map(|field| field.whole).copied().collect()
}

/// The content of the message in field `number`. Protobuf merges repeated occurrences, which for encoded
/// messages means concatenation.
pub(super) fn content(message: &[u8], number: u32) -> Vec<u8> {
    let found = Fields(message).filter(|field| field.number == number);
    found.flat_map(|field| field.content).copied().collect()
}

/// The messages of a record to which newer versions can add fields.
#[derive(Default)]
pub(super) struct Places {
    pub(super) policy: Option<u32>,
    pub(super) lease: Option<(u32, LeaseToken)>,
    pub(super) last_end: Option<(u32, LeaseToken)>,
}

/// The unknown fields of a task's record. One pass, because a new leader does this for each live task.
pub(super) fn of_task<M: Known>(record: &[u8], places: &Places) -> Option<Box<UnknownFields>> {
    let (mut task, mut policy) = (Vec::new(), Vec::new());
    let (mut lease, mut last_end) = (Vec::new(), Vec::new());
    let at = |place: Option<(u32, LeaseToken)>| place.map(|(number, _)| number);
    let (of_lease, of_end) = (at(places.lease), at(places.last_end));
    for field in Fields(record) {
        let number = Some(field.number);
        if field.number > M::LAST {
            task.extend_from_slice(field.whole);
        } else if number == places.policy {
            policy.extend_from_slice(&of::<PolicyMessage>(field.content));
        } else if number == of_lease {
            lease.extend_from_slice(&of::<LeaseMessage>(field.content));
        } else if number == of_end {
            last_end.extend_from_slice(&of::<EndMessage>(field.content));
        }
    }
    if [&task, &policy, &lease, &last_end].into_iter().all(Vec::is_empty) {
        return None;
    }
    let owned = |place: Option<(u32, LeaseToken)>, fields: Vec<u8>| {
        place.filter(|_| !fields.is_empty()).map(|(_, token)| (token, Bytes::from(fields)))
    };
    Some(Box::new(UnknownFields {
        task: task.into(),
        policy: policy.into(),
        lease: owned(places.lease, lease),
        last_end: owned(places.last_end, last_end),
    }))
}

/// Appends them to a record, each at its place, if the lease or end that they belong to is still the same.
pub(super) fn put_of_task(record: &mut Vec<u8>, unknown: &UnknownFields, places: &Places) {
    record.extend_from_slice(&unknown.task);
    if let Some(number) = places.policy {
        put_within(record, number, &unknown.policy);
    }
    for (place, fields) in [(places.lease, &unknown.lease), (places.last_end, &unknown.last_end)] {
        if let (Some((number, token)), Some((owner, fields))) = (place, fields)
            && token == *owner
        {
            put_within(record, number, fields);
        }
    }
}

/// Adds fields to the message in field `number`. Protobuf merges a repeated message with the first.
pub(super) fn put_within(record: &mut Vec<u8>, number: u32, fields: &Bytes) {
    if !fields.is_empty() {
        prost::encoding::bytes::encode(number, fields, record);
    }
}

/// Takes the first field: its number and its content.
fn take_field<'a>(rest: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let key = varint(rest)?;
    let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0)?;
    let mut content: &[u8] = &[];
    match key & 7 {
        0 => drop(varint(rest)?),
        1 => drop(take(rest, 8)?),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            content = take(rest, length)?;
        }
        3 => skip_group(rest, number)?,
        5 => drop(take(rest, 4)?),
        _ => return None,
    }
    Some((number, content))
}

/// Skips to the end of a group, an obsolete form of messages.
fn skip_group(rest: &mut &[u8], number: u32) -> Option<()> {
    let mut open = vec![number];
    while let Some(innermost) = open.last() {
        let mut ahead = *rest;
        let key = varint(&mut ahead)?;
        match (u32::try_from(key >> 3).ok()?, key & 7) {
            (ended, 4) if ended == *innermost => {
                open.pop();
                *rest = ahead;
            }
            (begun, 3) => {
                open.push(begun);
                *rest = ahead;
            }
            _ => drop(take_field(rest)?),
        }
    }
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(rest).ok()
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let taken = rest.get(..length)?;
    rest.advance(length);
    Some(taken)
}

#[cfg(test)]
mod tests {
    use rota_core::{
        AttemptRecord, ClientKeys, DoneRecord, EndKind, Failure, FailureReason, LeaseEnd,
        LeaseRecord, LiveRecord, Millis, Name, Policy, Priority, SessionId, Status, TaskId,
        WallTime,
    };

    use super::*;
    use crate::codec::{
        decode_attempt, decode_done, decode_live, encode_attempt, encode_done, encode_live,
    };

    struct UpToTwo;

    impl Known for UpToTwo {
        const LAST: u32 = 2;
    }

    #[test]
    fn unknown_fields_of_every_type_are_found_between_known_ones() {
        let known = [&[0x08, 1][..], &[0x12, 1, b'x']];
        let unknown = [
            // A number, 64 bits, text, a group with a group in it, and 32 bits.
            &[0x18, 0x96, 0x01][..],
            &[0x21, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x2A, 2, b'h', b'i'],
            &[0x33, 0x08, 1, 0x3B, 0x08, 1, 0x3C, 0x34],
            &[0xFD, 0x7F, 1, 2, 3, 4],
        ];
        let mut message = Vec::new();
        for field in unknown {
            message.extend(known.concat());
            message.extend(field);
        }
        assert_eq!(of::<UpToTwo>(&message), unknown.concat());
        assert_eq!(of::<UpToTwo>(&known.concat()), Bytes::new());
    }

    #[test]
    fn bytes_that_are_no_message_are_no_fields() {
        for bytes in [&[0x2A, 200, 1][..], &[0x80], &[0x03], &[0x33, 0x3C], &[0x07], &[0x2A, 0xFF]]
        {
            assert_eq!(of::<UpToTwo>(bytes), Bytes::new(), "{bytes:?}");
        }
    }

    fn failure() -> Option<Failure> {
        Some(Failure::new(FailureReason::Expired, "late"))
    }

    fn end() -> Option<LeaseEnd> {
        Some(LeaseEnd { token: LeaseToken(7), kind: EndKind::Cancelled, fingerprint: 1 })
    }

    fn live() -> LiveRecord {
        let name = |text| Name::new(text).unwrap();
        let mut policy = Policy { retention: Some(Millis(1)), ..Policy::default() };
        policy.retry.max_snoozes = 7;
        LiveRecord {
            id: TaskId::from_u64(1).unwrap(),
            queue: name("q"),
            kind: name("k"),
            status: Status::Assigned,
            priority: Priority::MAX,
            run_at: WallTime(1),
            expires_at: Some(WallTime(2)),
            attempt: 3,
            lost: 1,
            failures: 1,
            snoozes: 2,
            edits: 5,
            backing_off: true,
            snoozed: true,
            lease: Some(LeaseRecord {
                session: SessionId(5),
                token: LeaseToken(9),
                worker: name("w"),
                assigned_at: WallTime(1),
                session_ttl: Millis(4),
            }),
            cancel_requested: true,
            last_end: end(),
            policy,
            client_keys: ClientKeys { id: Some(name("mine")), key: Some("key".into()) },
            nominal: Some(WallTime(8)),
            unknown: None,
        }
    }

    fn done() -> DoneRecord {
        let LiveRecord { id, queue, kind, priority, run_at, client_keys, .. } = live();
        DoneRecord {
            id,
            queue: queue.clone(),
            kind,
            status: Status::Failed,
            priority,
            run_at,
            attempt: 3,
            lost: 1,
            failures: 2,
            snoozes: 3,
            edits: 4,
            finished_at: WallTime(5),
            retain_until: WallTime(6),
            last: Some(AttemptRecord {
                attempt: 3,
                token: LeaseToken(9),
                worker: queue,
                assigned_at: WallTime(1),
                started_at: Some(WallTime(2)),
                ended_at: Some(WallTime(3)),
                failure: failure(),
                snoozed_until: Some(WallTime(4)),
                output_tail: Bytes::from_static(b"out"),
                unknown: Bytes::new(),
            }),
            failure: failure(),
            last_end: end(),
            has_result: true,
            has_output: true,
            client_keys,
            nominal: Some(WallTime(8)),
            unknown: None,
        }
    }

    /// A field that was added without raising `LAST` would be taken for a newer version's.
    #[test]
    fn records_of_this_version_have_no_unknown_fields() {
        let (live, done) = (live(), done());
        assert_eq!(decode_live(&encode_live(&live)).unwrap(), live);
        assert_eq!(decode_done(&encode_done(&done)).unwrap(), done);
        let last = done.last.unwrap();
        assert_eq!(decode_attempt(&encode_attempt(&last)).unwrap(), last);
    }

    #[test]
    fn fields_of_a_lease_are_not_written_into_another() {
        let mut record = live();
        let fields = Bytes::from_static(&[0xC2, 0x3E, 1, b'x']);
        record.unknown = Some(Box::new(UnknownFields {
            lease: Some((LeaseToken(9), fields.clone())),
            last_end: Some((LeaseToken(7), fields.clone())),
            task: fields.clone(),
            policy: fields.clone(),
        }));
        assert_eq!(decode_live(&encode_live(&record)).unwrap(), record);
        record.lease.as_mut().unwrap().token = LeaseToken(10);
        record.last_end = None;
        let read = decode_live(&encode_live(&record)).unwrap();
        let of_task = UnknownFields { task: fields.clone(), policy: fields, ..Default::default() };
        assert_eq!(read.unknown, Some(Box::new(of_task)));
    }
}
