//! Indices into the tables of the machine. Each table has its own index type, so that the index of a queue
//! cannot be used for a lane.

use std::{fmt, ops};

use crate::sharded::ShardKey;

/// The index of an entry in a table: a 32-bit number, which is reused after the entry is gone.
pub(super) trait Index: Copy + Ord + fmt::Debug {
    /// The index at this position.
    ///
    /// # Panics
    /// When it is 2^32 or more, which limits prevent.
    fn new(at: usize) -> Self;

    /// The position.
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
    /// Index of a live task.
    TaskIndex;
    /// Index of a policy that live tasks share.
    PolicyIndex;
    /// Index of a queue.
    QueueIndex;
    /// Index of a kind.
    KindIndex;
    /// Index of a lane.
    LaneIndex;
    /// Index of a subscription.
    SubscriptionIndex;
    /// Index of a session.
    SessionIndex;
    /// Index of a schedule.
    ScheduleIndex;
}

/// A table of entries by index. A released entry stays until its index is reused.
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
    /// Adds an entry at a released index, or at the end.
    pub(super) fn insert(&mut self, entry: T) -> I {
        if let Some(index) = self.free.pop() {
            self[index] = entry;
            return index;
        }
        self.entries.push(entry);
        I::new(self.entries.len() - 1)
    }

    /// Reuses a released entry in its last state, or adds a new one at the end.
    pub(super) fn reuse(&mut self, new: impl FnOnce() -> T) -> I {
        self.free.pop().unwrap_or_else(|| {
            self.entries.push(new());
            I::new(self.entries.len() - 1)
        })
    }

    /// Releases an entry to which nothing refers any more, so that its index can be reused.
    pub(super) fn release(&mut self, index: I) {
        self.free.push(index);
    }

    /// Number of indices, including released ones.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All entries with their indices, including released ones.
    pub(super) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.entries.iter().enumerate().map(|(at, entry)| (I::new(at), entry))
    }

    /// All entries, including released ones.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter()
    }

    /// All entries, including released ones.
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
