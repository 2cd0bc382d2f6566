//! The table of live tasks: compact records, found by id or by index.

use rustc_hash::FxHashMap;

use crate::{Priority, Status, TaskId, WallTime};

/// Where a live task sits in the table. Reused after the task has ended.
pub(super) type TaskIndex = u32;

/// A live task. Everything that only some tasks have is kept in maps beside the table.
#[derive(Debug, Clone)]
pub(super) struct LiveTask {
    pub(super) id: TaskId,
    pub(super) run_at: WallTime,
    /// Its place in its lane; changes each time it is queued, so that an older place is known to
    /// be void.
    pub(super) order: u64,
    pub(super) lane: u32,
    pub(super) policy: u32,
    pub(super) attempt: u32,
    pub(super) lost: u16,
    pub(super) failures: u16,
    pub(super) status: Status,
    pub(super) priority: Priority,
    pub(super) flags: Flags,
}

/// Facts about a live task that take one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    /// Its record changed in this step.
    pub(super) const DIRTY: Self = Self(1);
    /// `run_at` is the end of a backoff.
    pub(super) const BACKING_OFF: Self = Self(2);
    /// A client asked for it to be stopped.
    pub(super) const CANCEL_REQUESTED: Self = Self(4);
    /// It has an entry in the map of expiry dates.
    pub(super) const EXPIRES: Self = Self(8);
    /// It has an entry in the map of names.
    pub(super) const NAMED: Self = Self(16);

    pub(super) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(super) fn set(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    pub(super) fn clear(&mut self, flag: Self) {
        self.0 &= !flag.0;
    }
}

/// Slots of one chunk: growing never moves what is there.
const CHUNK: usize = 4096;
/// Parts of the index: growing one stalls for a hundredth of what growing all would.
const SHARDS: usize = 256;

/// All live tasks.
#[derive(Debug)]
pub(super) struct LiveTable {
    chunks: Vec<Vec<Option<LiveTask>>>,
    free: Vec<TaskIndex>,
    index: Vec<FxHashMap<TaskId, TaskIndex>>,
    len: usize,
}

impl LiveTable {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            index: (0..SHARDS).map(|_| FxHashMap::default()).collect(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// # Panics
    /// When there is such a task already, or there are 2^32 of them.
    pub(super) fn insert(&mut self, task: LiveTask) -> TaskIndex {
        let index = self.free.pop().unwrap_or_else(|| {
            if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                self.chunks.push(Vec::with_capacity(CHUNK));
            }
            let full = (self.chunks.len() - 1) * CHUNK;
            let chunk = self.chunks.last_mut().expect("one was pushed if there was none");
            chunk.push(None);
            TaskIndex::try_from(full + chunk.len() - 1).expect("fewer than 2^32 live tasks")
        });
        let known = self.index[shard(task.id)].insert(task.id, index);
        assert!(known.is_none(), "task {} is live already", task.id);
        *self.slot(index) = Some(task);
        self.len += 1;
        index
    }

    pub(super) fn remove(&mut self, index: TaskIndex) -> LiveTask {
        let task = self.slot(index).take().expect("an index in use");
        self.index[shard(task.id)].remove(&task.id);
        self.free.push(index);
        self.len -= 1;
        task
    }

    pub(super) fn find(&self, id: TaskId) -> Option<TaskIndex> {
        self.index[shard(id)].get(&id).copied()
    }

    /// The task at an index that may have been vacated.
    pub(super) fn get(&self, index: TaskIndex) -> Option<&LiveTask> {
        self.chunks[index as usize / CHUNK][index as usize % CHUNK].as_ref()
    }

    /// # Panics
    /// When the index is vacant.
    pub(super) fn at(&self, index: TaskIndex) -> &LiveTask {
        self.get(index).expect("an index in use")
    }

    /// # Panics
    /// When the index is vacant.
    pub(super) fn at_mut(&mut self, index: TaskIndex) -> &mut LiveTask {
        self.slot(index).as_mut().expect("an index in use")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskIndex, &LiveTask)> {
        (0..)
            .zip(self.chunks.iter().flatten())
            .filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
    }

    fn slot(&mut self, index: TaskIndex) -> &mut Option<LiveTask> {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}

/// Spreads ids evenly: their low bits are mostly zero and their high bits change slowly.
fn shard(id: TaskId) -> usize {
    (id.as_u64().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize % SHARDS
}
