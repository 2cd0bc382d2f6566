//! Places in the machine's tables. Each table has a type of its own for them, so that the place of a
//! queue cannot be used to look for a lane.

use std::{fmt, ops};

use crate::sharded::ShardKey;

/// The place of an entry in a table: a number of 32 bits, used again after the entry has gone.
pub(super) trait Index: Copy + Ord + fmt::Debug {
    /// The place at that distance from the start.
    ///
    /// # Panics
    /// When it is 2^32 or more: limits keep every table smaller.
    fn new(at: usize) -> Self;

    /// Distance from the start.
    fn at(self) -> usize;
}

macro_rules! index {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(super) struct $name(u32);

        impl Index for $name {
            #[inline]
            fn new(at: usize) -> Self {
                Self(u32::try_from(at).expect("limits keep every table below 2^32 entries"))
            }

            #[inline]
            fn at(self) -> usize {
                self.0 as usize
            }
        }

        impl ShardKey for $name {
            #[inline]
            fn number(self) -> u64 {
                self.0.into()
            }
        }
    )*};
}

index! {
    /// Place of a live task.
    TaskIndex;
    /// Place of a policy that live tasks share.
    PolicyIndex;
    /// Place of a queue.
    QueueIndex;
    /// Place of a kind.
    KindIndex;
    /// Place of a lane.
    LaneIndex;
    /// Place of a subscription.
    SubscriptionIndex;
    /// Place of a session.
    SessionIndex;
}

/// Entries by their places. An entry that is released stays until its place is used again.
#[derive(Debug)]
pub(super) struct Table<I, T> {
    entries: Vec<T>,
    free: Vec<I>,
}

impl<I, T> Default for Table<I, T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<I: Index, T> Table<I, T> {
    /// Puts an entry where one was released, or else at the end.
    pub(super) fn insert(&mut self, entry: T) -> I {
        if let Some(index) = self.free.pop() {
            self[index] = entry;
            return index;
        }
        self.entries.push(entry);
        I::new(self.entries.len() - 1)
    }

    /// An entry that was released, as it was left, or else a new one at the end.
    pub(super) fn reuse(&mut self, new: impl FnOnce() -> T) -> I {
        self.free.pop().unwrap_or_else(|| {
            self.entries.push(new());
            I::new(self.entries.len() - 1)
        })
    }

    /// Nothing refers to the entry any more: its place may be used again.
    pub(super) fn release(&mut self, index: I) {
        self.free.push(index);
    }

    /// Places, released ones included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All entries with their places, released ones included.
    pub(super) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.entries.iter().enumerate().map(|(at, entry)| (I::new(at), entry))
    }

    /// All entries, released ones included.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter()
    }

    /// All entries, released ones included.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut()
    }
}

impl<I: Index, T> ops::Index<I> for Table<I, T> {
    type Output = T;

    #[inline]
    fn index(&self, index: I) -> &T {
        &self.entries[index.at()]
    }
}

impl<I: Index, T> ops::IndexMut<I> for Table<I, T> {
    #[inline]
    fn index_mut(&mut self, index: I) -> &mut T {
        &mut self.entries[index.at()]
    }
}
