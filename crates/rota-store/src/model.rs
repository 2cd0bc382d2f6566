//! The types in the interface of a store: spaces, keys, batches, fences.

use std::{fmt, sync::Arc};

use bytes::Bytes;

/// A named region of the key space, declared when a store is opened.
///
/// Keys are ordered within a space. Keys of different spaces have no order. An embedded backend can use a
/// tree for each space. A remote one makes the name a prefix of the key (`<prefix>/<name>/…`), so names are
/// short, lower case, and never change once data exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Space {
    /// Stable name, `[a-z]{1,16}`.
    pub name: &'static str,
    /// The expected shape of the values, so that a backend can choose a layout.
    pub shape: SpaceShape,
}

/// The shape of a space's values. It is a hint for the layout, and never changes the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpaceShape {
    /// Small values (tens to hundreds of bytes), rewritten and deleted often.
    Hot,
    /// Written once, read a few times, deleted once; from bytes to a megabyte.
    Large,
}

/// A position in the history of a store. It grows with every commit, and can only be compared within one
/// store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// The number of a leadership. It grows with every election, for the life of the store's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// The number of a batch: its predecessor plus one. The first batch of a leadership can have any larger number.
/// The first batch of a store is 1, unless its leadership uses this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BatchSeq(pub u64);

impl BatchSeq {
    /// The next number.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The head: the last durable batch, and its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Epoch of the leader that committed the last batch.
    pub epoch: Epoch,
    /// Number of that batch. 0 if there is none.
    pub seq: BatchSeq,
}

impl Head {
    /// Whether a batch with this number and epoch can follow this head: it has the next number, or a higher one if
    /// it is the first batch of its epoch.
    #[must_use]
    pub fn admits(self, epoch: Epoch, seq: BatchSeq) -> bool {
        if epoch > self.epoch { seq > self.seq } else { self.seq.0.checked_add(1) == Some(seq.0) }
    }
}

/// The proof of leadership in every batch. [`crate::Store::campaign`] returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The epoch of the leadership under which the batch is written.
    pub epoch: Epoch,
}

/// A node of a cluster, for other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    /// Name of the node, unique among the nodes of a store.
    pub name: String,
    /// URL at which other nodes reach its API, such as `http://10.0.0.7:7420`. `None` if they cannot.
    pub address: Option<String>,
    /// Highest feature level that it supports. The store only passes it on. 0 for versions without levels.
    pub level: u32,
    /// The leadership from which it is ready to take over at once, as
    /// [announced](crate::Store::announce_ready). 0 for none.
    pub ready_for: Epoch,
}

impl Member {
    /// A node that other nodes cannot reach.
    #[must_use]
    pub fn alone(name: impl Into<String>) -> Self {
        Self { name: name.into(), address: None, level: 0, ready_for: Epoch(0) }
    }
}

/// The leader, and its leadership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The leader.
    pub member: Member,
    /// The number of the leadership.
    pub epoch: Epoch,
}

/// One change to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// Sets the value, whether or not the key exists.
    Put {
        space: Space,
        /// The key within its space, 1 to [`KEY_BYTES_MAX`] bytes.
        key: Bytes,
        /// The value, up to [`VALUE_BYTES_MAX`] bytes.
        value: Bytes,
    },
    /// Removes the key. A missing key is not an error.
    Delete {
        space: Space,
        /// The key within its space.
        key: Bytes,
    },
}

impl Mutation {
    /// The space of the change.
    #[must_use]
    pub fn space(&self) -> Space {
        let (Self::Put { space, .. } | Self::Delete { space, .. }) = self;
        *space
    }

    /// The key of the change.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        let (Self::Put { key, .. } | Self::Delete { key, .. }) = self;
        key
    }

    /// Bytes of key and value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key, .. } => key.len(),
        }
    }
}

/// Changes that become durable together, or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The number of the batch; see [`Head::admits`].
    pub seq: BatchSeq,
    /// The changes, in order. A later change to the same key wins. Shared, because a batch is kept until its outcome
    /// is known.
    pub mutations: Arc<Vec<Mutation>>,
}

impl Batch {
    /// An empty batch with this number.
    #[must_use]
    pub fn new(seq: BatchSeq) -> Self {
        Self { seq, mutations: Arc::default() }
    }

    /// Bytes of all keys and values, for [`BatchLimits::take`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.mutations.iter().map(Mutation::bytes).sum()
    }

    /// Adds a put.
    pub fn put(&mut self, space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.push(Mutation::Put { space, key: key.into(), value: value.into() });
    }

    /// Adds a delete.
    pub fn delete(&mut self, space: Space, key: impl Into<Bytes>) {
        self.push(Mutation::Delete { space, key: key.into() });
    }

    /// Adds the changes of another batch.
    pub fn append(&mut self, other: Self) {
        Arc::make_mut(&mut self.mutations).extend(Arc::unwrap_or_clone(other.mutations));
    }

    /// Makes room for more changes.
    pub fn reserve(&mut self, more: usize) {
        Arc::make_mut(&mut self.mutations).reserve(more);
    }

    fn push(&mut self, mutation: Mutation) {
        Arc::make_mut(&mut self.mutations).push(mutation);
    }
}

/// Maximum bytes of a key in every backend. The minimum is one byte.
pub const KEY_BYTES_MAX: usize = 512;

/// Maximum bytes of a value in every backend, unless its [`BatchLimits`] are lower.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The limits of a batch; see [`crate::Store::limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Maximum number of mutations.
    pub mutations_max: usize,
    /// Maximum bytes of keys and values, plus `mutation_bytes` for each mutation.
    pub bytes_max: usize,
    /// Overhead of a mutation in bytes.
    pub mutation_bytes: usize,
}

impl BatchLimits {
    /// Whether a batch can have this many mutations with this many [bytes](Batch::bytes).
    #[must_use]
    pub fn take(self, mutations: usize, bytes: usize) -> bool {
        let all = mutations.saturating_mul(self.mutation_bytes).saturating_add(bytes);
        mutations <= self.mutations_max && all <= self.bytes_max
    }
}

/// A half-open range of keys within one space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The space.
    pub space: Space,
    /// First key of the range, inclusive. Empty means the first key of the space.
    pub start: Bytes,
    /// End of the range, exclusive. `None` means the end of the space.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// All keys of a space.
    #[must_use]
    pub fn all(space: Space) -> Self {
        Self { space, start: Bytes::new(), end: None }
    }

    /// All keys that start with `prefix`.
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

/// The direction of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// A page of a scan.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Keys and values, in the requested direction.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Whether the range has more entries.
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
