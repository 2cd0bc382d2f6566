//! Counts and checksums of records, the same however the records were cut into batches and pages.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::kinds::KINDS;

/// What a store or a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contents {
    pub records: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// XXH3 of 128 bits over all records, in hexadecimal digits.
    pub checksum: String,
    /// By name of the space. Spaces without records are left out.
    pub spaces: BTreeMap<&'static str, SpaceContents>,
}

/// What a space holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpaceContents {
    pub records: u64,
    pub bytes: u64,
    pub checksum: String,
}

impl Contents {
    /// The spaces in which the two differ, with both numbers of records.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let records = |contents: &Self, name| {
            contents.spaces.get(name).map_or(0, |space: &SpaceContents| space.records)
        };
        let differ = KINDS.iter().map(|kind| kind.space.name);
        let differ = differ.filter(|name| self.spaces.get(name) != other.spaces.get(name));
        let tell = |name| match (records(self, name), records(other, name)) {
            (one, two) if one == two => format!("{name} (other contents)"),
            (one, two) => format!("{name} ({one} and {two} records)"),
        };
        differ.map(tell).collect()
    }
}

/// A checksum in the making. The records of a space must come in the order of their keys; spaces can come in any order.
pub(super) struct Digest {
    spaces: Vec<SpaceDigest>,
    /// The largest record: its bytes, its space and its key.
    largest: (usize, usize, Bytes),
}

struct SpaceDigest {
    records: u64,
    bytes: u64,
    hash: Xxh3,
}

impl Digest {
    pub(super) fn new() -> Self {
        let space = |_| SpaceDigest { records: 0, bytes: 0, hash: Xxh3::new() };
        Self { spaces: KINDS.iter().map(space).collect(), largest: (0, 0, Bytes::new()) }
    }

    /// Adds a record of the space in that row of the table.
    pub(super) fn add(&mut self, kind: usize, key: &Bytes, value: &Bytes) {
        let Some(space) = self.spaces.get_mut(kind) else { return };
        let bytes = key.len() + value.len();
        space.records += 1;
        space.bytes += bytes as u64;
        // The lengths keep `ab` + `c` apart from `a` + `bc`.
        let mut lengths = [0; 8];
        lengths[..4].copy_from_slice(&length(key));
        lengths[4..].copy_from_slice(&length(value));
        space.hash.update(&lengths);
        space.hash.update(key);
        space.hash.update(value);
        if bytes > self.largest.0 {
            self.largest = (bytes, kind, key.clone());
        }
    }

    /// Takes over the spaces that the other has records of, and this one has not.
    pub(super) fn join(&mut self, other: Self) {
        for (mine, theirs) in self.spaces.iter_mut().zip(other.spaces) {
            if theirs.records > 0 {
                *mine = theirs;
            }
        }
        if other.largest.0 > self.largest.0 {
            self.largest = other.largest;
        }
    }

    pub(super) fn records(&self) -> u64 {
        self.spaces.iter().map(|space| space.records).sum()
    }

    /// The largest record: its bytes, its space and its key.
    pub(super) fn largest(&self) -> &(usize, usize, Bytes) {
        &self.largest
    }

    pub(super) fn finish(&self) -> Contents {
        let mut whole = Xxh3::new();
        let mut contents = Contents {
            records: self.records(),
            bytes: self.spaces.iter().map(|space| space.bytes).sum(),
            checksum: String::new(),
            spaces: BTreeMap::new(),
        };
        for (kind, space) in KINDS.iter().zip(&self.spaces) {
            // So that a new space changes the checksum only of stores that use it.
            if space.records == 0 {
                continue;
            }
            let digest = space.hash.digest128();
            whole.update(kind.space.name.as_bytes());
            whole.update(&[0]);
            whole.update(&space.records.to_le_bytes());
            whole.update(&digest.to_le_bytes());
            let told = SpaceContents {
                records: space.records,
                bytes: space.bytes,
                checksum: format!("{digest:032x}"),
            };
            contents.spaces.insert(kind.space.name, told);
        }
        contents.checksum = format!("{:032x}", whole.digest128());
        contents
    }
}

fn length(bytes: &Bytes) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(records: &[(usize, &'static str, &'static str)]) -> Contents {
        let mut digest = Digest::new();
        for (kind, key, value) in records {
            digest.add(*kind, &Bytes::from(*key), &Bytes::from(*value));
        }
        digest.finish()
    }

    #[test]
    fn every_difference_counts_and_the_order_of_spaces_does_not() {
        let contents = of(&[(0, "a", "bc"), (3, "a", "x")]);
        assert_eq!(contents, of(&[(3, "a", "x"), (0, "a", "bc")]));
        assert_eq!((contents.records, contents.bytes), (2, 5));
        for other in [
            of(&[(0, "ab", "c"), (3, "a", "x")]),
            of(&[(0, "a", "bc"), (3, "a", "y")]),
            of(&[(0, "a", "bc"), (2, "a", "x")]),
            of(&[(0, "a", "bc")]),
        ] {
            assert_ne!(contents.checksum, other.checksum);
            assert!(!contents.differences(&other).is_empty());
        }
        let more = of(&[(0, "a", "bc"), (3, "a", "x"), (3, "b", "x")]);
        assert_eq!(contents.differences(&more), ["spec (1 and 2 records)"]);
    }
}
