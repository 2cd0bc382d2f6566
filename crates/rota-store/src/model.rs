//! The values that pass between a store and its user: spaces, keys, batches, fences.

use std::fmt;

use bytes::Bytes;

/// A named region of the key space, declared when a store is opened.
///
/// Keys are ordered within a space; nothing orders keys of different spaces. An embedded backend
/// may give each space its own tree, a remote one makes the name a prefix of the key
/// (`<prefix>/<name>/…`), so names are short, lower case and never change once data exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Space {
    /// Stable name, `[a-z]{1,16}`.
    pub name: &'static str,
    /// What to expect of the values, so that a backend can lay them out well.
    pub shape: SpaceShape,
}

/// What a space's values are like. A hint for layout; it never changes what a store promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpaceShape {
    /// Small values (tens to hundreds of bytes), rewritten and deleted often.
    Hot,
    /// Written once, read a few times, deleted once; from bytes to a megabyte.
    Large,
}

/// A position in the store's history. Grows with every commit; comparable within one store only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// The number of a leadership: grows with every leader elected, for the life of the store's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// The number of a batch. It is its predecessor's plus one, but the first batch of a leadership may carry any
/// number above its predecessor's. The first batch ever committed is 1 unless it makes use of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BatchSeq(pub u64);

impl BatchSeq {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What the head key says: the last batch that landed, and in whose epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Epoch of the leader that committed the last batch.
    pub epoch: Epoch,
    /// Number of that batch; 0 where none was ever committed.
    pub seq: BatchSeq,
}

impl Head {
    /// Whether a batch with that number, written in that epoch, may land on top of this head: it is the next
    /// number, or a higher one where it is the first batch of its epoch.
    #[must_use]
    pub fn admits(self, epoch: Epoch, seq: BatchSeq) -> bool {
        if epoch > self.epoch { seq > self.seq } else { self.seq.0.checked_add(1) == Some(seq.0) }
    }
}

/// Proof of leadership that every batch carries. Got from [`crate::Store::campaign`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The epoch of the leadership under which the batch is written.
    pub epoch: Epoch,
}

/// A node, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its name: unique among the nodes of one store, for people and for naming a successor.
    pub name: String,
    /// Where other nodes reach its API, such as `http://10.0.0.7:7420`; `None` where no other can.
    pub address: Option<String>,
    /// The feature level that it knows. The store only tells others of it; 0 for a node from before there were
    /// levels.
    pub level: u32,
    /// The leadership from which it is ready to take over at once, as it [announced](crate::Store::announce_ready);
    /// 0 for none.
    pub ready_for: Epoch,
}

impl Member {
    /// A node that no other node can reach.
    #[must_use]
    pub fn alone(name: impl Into<String>) -> Self {
        Self { name: name.into(), address: None, level: 0, ready_for: Epoch(0) }
    }
}

/// The leader's seat, taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Who has it.
    pub member: Member,
    /// Since when: the number of this leadership.
    pub epoch: Epoch,
}

/// One change to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// Sets the value, whether or not the key exists.
    Put {
        /// The region the key belongs to.
        space: Space,
        /// The key within its space, 1 to [`KEY_BYTES_MAX`] bytes.
        key: Bytes,
        /// The value, up to [`VALUE_BYTES_MAX`] bytes.
        value: Bytes,
    },
    /// Removes the key; no error where it does not exist.
    Delete {
        /// The region the key belongs to.
        space: Space,
        /// The key within its space.
        key: Bytes,
    },
}

impl Mutation {
    /// The region that it changes.
    #[must_use]
    pub fn space(&self) -> Space {
        let (Self::Put { space, .. } | Self::Delete { space, .. }) = self;
        *space
    }

    /// The key that it changes.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        let (Self::Put { key, .. } | Self::Delete { key, .. }) = self;
        key
    }

    /// Bytes of its key and value together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key, .. } => key.len(),
        }
    }
}

/// Changes that land together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// This batch's number; see [`Head::admits`].
    pub seq: BatchSeq,
    /// The changes, applied in order (a later change to the same key wins).
    pub mutations: Vec<Mutation>,
}

impl Batch {
    /// An empty batch with that number.
    #[must_use]
    pub fn new(seq: BatchSeq) -> Self {
        Self { seq, mutations: Vec::new() }
    }

    /// Bytes of keys and values together, as [`BatchLimits::take`] has them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.mutations.iter().map(Mutation::bytes).sum()
    }

    /// Adds a put.
    pub fn put(&mut self, space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.mutations.push(Mutation::Put { space, key: key.into(), value: value.into() });
    }

    /// Adds a delete.
    pub fn delete(&mut self, space: Space, key: impl Into<Bytes>) {
        self.mutations.push(Mutation::Delete { space, key: key.into() });
    }
}

/// The longest key that every backend takes, in bytes. The shortest has one byte.
pub const KEY_BYTES_MAX: usize = 512;

/// The longest value that every backend takes, in bytes, unless its [`BatchLimits`] say less.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What one batch may hold; see [`crate::Store::limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most mutations.
    pub mutations_max: usize,
    /// The most bytes of keys and values together, with `mutation_bytes` more for each mutation.
    pub bytes_max: usize,
    /// What a mutation takes beside its key and value.
    pub mutation_bytes: usize,
}

impl BatchLimits {
    /// Whether one batch may hold so many mutations with so many [bytes](Batch::bytes).
    #[must_use]
    pub fn take(self, mutations: usize, bytes: usize) -> bool {
        let all = mutations.saturating_mul(self.mutation_bytes).saturating_add(bytes);
        mutations <= self.mutations_max && all <= self.bytes_max
    }
}

/// A half-open range of keys within one space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The region.
    pub space: Space,
    /// First key of the range (inclusive); empty means from the first key of the space.
    pub start: Bytes,
    /// End of the range (exclusive); `None` means to the end of the space.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// The whole of a space.
    #[must_use]
    pub fn all(space: Space) -> Self {
        Self { space, start: Bytes::new(), end: None }
    }

    /// Every key that starts with `prefix`.
    #[must_use]
    pub fn prefix(space: Space, prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let mut end = start.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return Self { space, start, end: Some(end.into()) };
            }
        }
        Self { space, start, end: None }
    }
}

/// Which way a scan walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// One page of a scan.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Keys and values, in the direction asked for.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Whether the range holds more than this page shows.
    pub more: bool,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BatchSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
