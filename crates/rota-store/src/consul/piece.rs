//! A piece of the log: many changes packed into one value, with a checksum.
//!
//! A piece is a batch, or it repeats entries of older pieces that are still live so that those pieces can go.
//! Either way, to replay it is to put and delete in its order; so whoever replays all pieces in the order of
//! their numbers has the state.
//!
//! A piece that is too large for one transaction is cut into parts, and the key of the piece says where they are.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::fault::Fault;
use crate::model::{BatchSeq, Epoch, Head, Mutation, Space};

const MAGIC: &[u8; 4] = b"rota";
const VERSION: u8 = 1;
const BATCH: u8 = 0;
const KEPT: u8 = 1;
const PARTS: u8 = 2;

/// The bytes before the records: magic, version, kind, epoch, number, number of spaces.
const HEADER: usize = 4 + 1 + 1 + 8 + 8 + 1;
const CHECKSUM: usize = 8;

/// A record's bytes beside its key and value, at most: the space, and two lengths.
pub(super) const RECORD_BYTES: usize = 1 + 2 + 4;

/// What a piece has beside its records, at most: with all spaces' names.
pub(super) const PIECE_BYTES: usize = HEADER + CHECKSUM + 64 * 17;

/// What a piece is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Batch,
    /// Entries of older pieces, as they are.
    Kept,
}

/// Where the parts of a large piece are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Parts {
    pub(super) id: String,
    pub(super) parts: usize,
    pub(super) bytes: u64,
}

/// One change in a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The place of its space's name in the piece.
    pub(super) space: usize,
    pub(super) key: Bytes,
    /// `None` deletes it.
    pub(super) value: Option<Bytes>,
}

/// A piece, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) kind: Kind,
    pub(super) head: Head,
    pub(super) spaces: Vec<Box<str>>,
    pub(super) records: Vec<Record>,
}

/// What the value of a piece's key is.
#[derive(Debug)]
pub(super) enum Content {
    Whole(Piece),
    Parts(Parts),
}

impl Piece {
    /// A piece without records.
    pub(super) fn new(kind: Kind, head: Head) -> Self {
        Self { kind, head, spaces: Vec::new(), records: Vec::new() }
    }

    /// The piece that a batch makes. Keys and values are copied: they may be small parts of large buffers.
    pub(super) fn of_batch(head: Head, mutations: &[Mutation]) -> Self {
        let mut piece = Self::new(Kind::Batch, head);
        for mutation in mutations {
            let value = match mutation {
                Mutation::Put { value, .. } => Some(Bytes::copy_from_slice(value)),
                Mutation::Delete { .. } => None,
            };
            piece.push(mutation.space().name, Bytes::copy_from_slice(mutation.key()), value);
        }
        piece
    }

    pub(super) fn push(&mut self, space: &str, key: Bytes, value: Option<Bytes>) {
        let place = self.spaces.iter().position(|known| **known == *space);
        let space = place.unwrap_or_else(|| {
            self.spaces.push(space.into());
            self.spaces.len() - 1
        });
        self.records.push(Record { space, key, value });
    }

    /// The changes of declared spaces, as watchers see them.
    pub(super) fn mutations(&self, declared: &[Space]) -> Vec<Mutation> {
        let spaces: Vec<_> = self
            .spaces
            .iter()
            .map(|name| declared.iter().find(|space| *space.name == **name).copied())
            .collect();
        let mutation = |record: &Record| {
            let space = spaces[record.space]?;
            let key = record.key.clone();
            Some(match record.value.clone() {
                Some(value) => Mutation::Put { space, key, value },
                None => Mutation::Delete { space, key },
            })
        };
        self.records.iter().filter_map(mutation).collect()
    }

    pub(super) fn encode(&self) -> Bytes {
        let size = |record: &Record| {
            RECORD_BYTES + record.key.len() + record.value.as_ref().map_or(0, Bytes::len)
        };
        let records: usize = self.records.iter().map(size).sum();
        let mut out = BytesMut::with_capacity(PIECE_BYTES + records);
        out.put_slice(MAGIC);
        out.put_u8(VERSION);
        out.put_u8(match self.kind {
            Kind::Batch => BATCH,
            Kind::Kept => KEPT,
        });
        out.put_u64(self.head.epoch.0);
        out.put_u64(self.head.seq.0);
        out.put_u8(narrow(self.spaces.len()));
        for space in &self.spaces {
            out.put_u8(narrow(space.len()));
            out.put_slice(space.as_bytes());
        }
        for Record { space, key, value } in &self.records {
            out.put_u8(narrow(space << 1) | u8::from(value.is_some()));
            out.put_u16(u16::try_from(key.len()).unwrap_or(u16::MAX));
            out.put_slice(key);
            if let Some(value) = value {
                out.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
                out.put_slice(value);
            }
        }
        let checksum = xxh3_64(&out);
        out.put_u64(checksum);
        out.freeze()
    }
}

/// Spaces are few and their names short (see [`Space`]).
fn narrow(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

impl Parts {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = [&MAGIC[..], &[VERSION, PARTS]].concat();
        out.extend(serde_json::to_vec(self).expect("text and numbers are always JSON"));
        let checksum = xxh3_64(&out);
        out.put_u64(checksum);
        out.into()
    }
}

/// Reads a piece's value, or that of its parts together.
pub(super) fn decode(number: u64, value: &Bytes) -> Result<Content, Fault> {
    let damaged = |why: &str| Fault::Corrupt(format!("piece {number} of the log {why}"));
    let (mut rest, mut checksum) = match value.len().checked_sub(CHECKSUM) {
        Some(end) if end >= MAGIC.len() + 2 => (value.slice(..end), value.slice(end..)),
        _ => return Err(damaged("is cut off")),
    };
    if !rest.starts_with(MAGIC) {
        return Err(damaged("is not one of Rota's"));
    }
    if checksum.get_u64() != xxh3_64(&rest) {
        return Err(damaged("does not match its checksum"));
    }
    rest.advance(MAGIC.len());
    let (version, kind) = (rest.get_u8(), rest.get_u8());
    if version != VERSION {
        return Err(damaged(&format!("has version {version}; this program reads {VERSION}")));
    }
    let kind = match kind {
        BATCH => Kind::Batch,
        KEPT => Kind::Kept,
        PARTS => {
            let parts = serde_json::from_slice(&rest);
            return parts.map(Content::Parts).map_err(|_| damaged("does not say its parts"));
        }
        _ => return Err(damaged("is of an unknown kind")),
    };
    records(kind, rest).map(Content::Whole).ok_or_else(|| damaged("makes no sense"))
}

fn records(kind: Kind, mut rest: Bytes) -> Option<Piece> {
    let head =
        Head { epoch: Epoch(rest.try_get_u64().ok()?), seq: BatchSeq(rest.try_get_u64().ok()?) };
    let mut piece = Piece::new(kind, head);
    for _ in 0..rest.try_get_u8().ok()? {
        let length = usize::from(rest.try_get_u8().ok()?);
        let name = take(&mut rest, length)?;
        piece.spaces.push(std::str::from_utf8(&name).ok()?.into());
    }
    while rest.has_remaining() {
        let tag = rest.get_u8();
        let space = usize::from(tag >> 1);
        if space >= piece.spaces.len() {
            return None;
        }
        let length = usize::from(rest.try_get_u16().ok()?);
        let key = take(&mut rest, length)?;
        let value = if tag & 1 == 1 {
            let length = usize::try_from(rest.try_get_u32().ok()?).ok()?;
            Some(take(&mut rest, length)?)
        } else {
            None
        };
        piece.records.push(Record { space, key, value });
    }
    Some(piece)
}

/// A copy, so that one entry does not keep the whole piece in memory.
fn take(rest: &mut Bytes, length: usize) -> Option<Bytes> {
    let taken = rest.get(..length).map(Bytes::copy_from_slice)?;
    rest.advance(length);
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    fn piece() -> impl Strategy<Value = Piece> {
        let bytes = |size: usize| proptest::collection::vec(any::<u8>(), 0..size);
        let record = (0..3_usize, bytes(513), proptest::option::of(bytes(2000)));
        let records = proptest::collection::vec(record, 0..20);
        let kind = prop_oneof![Just(Kind::Batch), Just(Kind::Kept)];
        (kind, any::<u64>(), any::<u64>(), records).prop_map(|(kind, epoch, seq, records)| {
            let mut piece = Piece::new(kind, Head { epoch: Epoch(epoch), seq: BatchSeq(seq) });
            for (space, key, value) in records {
                let space = ["hot", "warm", "large"][space];
                piece.push(space, key.into(), value.map(Bytes::from));
            }
            piece
        })
    }

    proptest! {
        #[test]
        fn a_piece_is_read_as_it_was_written(piece in piece()) {
            let read = decode(1, &piece.encode());
            assert!(matches!(read, Ok(Content::Whole(read)) if read == piece));
        }

        #[test]
        fn damage_is_noticed(piece in piece(), place in any::<proptest::sample::Index>(), bit in 0..8) {
            let mut value = piece.encode().to_vec();
            value[place.index(piece.encode().len())] ^= 1_u8 << bit;
            assert!(matches!(decode(1, &value.into()), Err(Fault::Corrupt(_))));
        }

        #[test]
        fn a_piece_that_is_cut_off_is_noticed(piece in piece(), place in any::<proptest::sample::Index>()) {
            let value = piece.encode();
            let value = value.slice(..place.index(value.len()));
            assert!(matches!(decode(1, &value), Err(Fault::Corrupt(_))));
        }
    }

    #[test]
    fn parts_are_read_as_they_were_written() {
        let parts = Parts { id: "3-x".to_owned(), parts: 12, bytes: 4 << 20 };
        let read = decode(1, &parts.encode());
        assert!(matches!(read, Ok(Content::Parts(read)) if read == parts));
    }
}
