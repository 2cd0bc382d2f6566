//! The table of live tasks: compact records by id or index.

use bytes::Bytes;

use super::{
    ids::IdIndex,
    index::{Index, LaneIndex, PolicyIndex, TaskIndex},
};
use crate::{
    ClientKeys, LeaseEnd, Name, Policy, Priority, Status, TaskId, UnknownFields, WallTime,
};

/// A live task. Properties that only some tasks have are in separate maps.
#[derive(Debug, Clone)]
pub(super) struct LiveTask {
    pub(super) id: TaskId,
    pub(super) run_at: WallTime,
    /// Its order in its lane. It changes each time the task is queued, so that older entries are void.
    pub(super) order: u64,
    pub(super) lane: LaneIndex,
    pub(super) policy: PolicyIndex,
    pub(super) attempt: u32,
    pub(super) lost: u16,
    pub(super) failures: u16,
    pub(super) snoozes: u16,
    pub(super) status: Status,
    pub(super) priority: Priority,
    pub(super) flags: Flags,
}

/// A task that becomes live: new, retried, or read from the store.
pub(super) struct Admission<'a> {
    pub(super) id: TaskId,
    pub(super) queue: &'a Name,
    pub(super) kind: &'a Name,
    pub(super) policy: Policy,
    pub(super) priority: Priority,
    pub(super) run_at: WallTime,
    pub(super) attempt: u32,
    pub(super) lost: u32,
    pub(super) failures: u32,
    pub(super) snoozes: u32,
    pub(super) edits: u32,
    pub(super) client_keys: &'a ClientKeys,
    pub(super) expires_at: Option<WallTime>,
    pub(super) last_end: Option<LeaseEnd>,
    pub(super) unknown: Option<Box<UnknownFields>>,
    /// The nominal time, if a tick created it.
    pub(super) nominal: Option<WallTime>,
}

/// Flags of a live task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    pub(super) const DIRTY: Self = Self(1);
    /// `run_at` is the end of a backoff.
    pub(super) const BACKING_OFF: Self = Self(2);
    /// A client asked to cancel it.
    pub(super) const CANCEL_REQUESTED: Self = Self(4);
    /// It has an entry in the map of expiry dates.
    pub(super) const EXPIRES: Self = Self(8);
    /// It has an entry in the map of names.
    pub(super) const NAMED: Self = Self(16);
    /// It is pending because its worker was lost or returned it.
    pub(super) const CAME_BACK: Self = Self(32);
    /// `run_at` is the end of a snooze.
    pub(super) const SNOOZED: Self = Self(64);

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

/// Slots of one chunk. Growing adds chunks, so entries never move.
const CHUNK: usize = 4096;

/// All live tasks.
#[derive(Debug, Default)]
pub(super) struct LiveTable {
    chunks: Vec<Chunk>,
    free: Vec<TaskIndex>,
    /// An empty chunk whose memory is kept, because it is likely to be used again soon.
    spare: Option<usize>,
    index: IdIndex,
}

/// Slots up to the last used one. Empty if their memory was freed.
#[derive(Debug, Default)]
struct Chunk {
    slots: Vec<Option<LiveTask>>,
    tasks: usize,
}

impl LiveTable {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Number of slots in memory, including free ones.
    pub(super) fn capacity(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.slots.capacity()).sum()
    }

    /// # Panics
    /// When the task is already present, or there are 2^32 tasks.
    pub(super) fn insert(&mut self, task: LiveTask) -> TaskIndex {
        let index = self.free.pop().unwrap_or_else(|| {
            let first = self.chunks.len() * CHUNK;
            self.chunks.push(Chunk::default());
            let slots = first..first + CHUNK;
            self.free.extend(slots.rev().map(TaskIndex::new));
            self.free.pop().expect("some were added")
        });
        self.index.insert(task.id, index);
        let chunk = &mut self.chunks[index.at() / CHUNK];
        let slot = index.at() % CHUNK;
        if chunk.slots.len() <= slot {
            chunk.slots.resize(slot + 1, None);
        }
        chunk.slots[slot] = Some(task);
        chunk.tasks += 1;
        index
    }

    pub(super) fn remove(&mut self, index: TaskIndex) -> LiveTask {
        let at = index.at() / CHUNK;
        let chunk = &mut self.chunks[at];
        let task = chunk.slots[index.at() % CHUNK].take().expect("an index in use");
        chunk.tasks -= 1;
        if chunk.tasks == 0 && self.spare != Some(at) {
            let former = self.spare.replace(at).map(|former| &mut self.chunks[former]);
            if let Some(former) = former.filter(|former| former.tasks == 0) {
                former.slots = Vec::new();
            }
        }
        self.index.remove(task.id);
        self.free.push(index);
        task
    }

    pub(super) fn find(&self, id: TaskId) -> Option<TaskIndex> {
        self.index.find(id)
    }

    /// The task at an index that may be vacant.
    pub(super) fn get(&self, index: TaskIndex) -> Option<&LiveTask> {
        self.chunks[index.at() / CHUNK].slots.get(index.at() % CHUNK)?.as_ref()
    }

    /// # Panics
    /// When the index is vacant.
    pub(super) fn at(&self, index: TaskIndex) -> &LiveTask {
        self.get(index).expect("an index in use")
    }

    /// # Panics
    /// When the index is vacant.
    pub(super) fn at_mut(&mut self, index: TaskIndex) -> &mut LiveTask {
        let chunk = &mut self.chunks[index.at() / CHUNK];
        chunk.slots[index.at() % CHUNK].as_mut().expect("an index in use")
    }

    /// Tasks older than `before`, newest first.
    pub(super) fn below(
        &self,
        before: Option<TaskId>,
    ) -> impl Iterator<Item = (TaskId, TaskIndex)> {
        self.index.below(before)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskIndex, &LiveTask)> {
        (0..).step_by(CHUNK).zip(&self.chunks).flat_map(|(first, chunk)| {
            let slots = (first..).zip(&chunk.slots);
            slots.filter_map(|(at, slot)| Some((TaskIndex::new(at), slot.as_ref()?)))
        })
    }
}

/// What is known of an attempt when it ends.
#[derive(Debug, Clone, Default)]
pub(super) struct AttemptEnd {
    pub(super) started_at: Option<WallTime>,
    pub(super) output_tail: Bytes,
    /// How its worker reported it; `None` where it did not.
    pub(super) reported: Option<LeaseEnd>,
    pub(super) result: Bytes,
    /// Time to which the handler put the task off.
    pub(super) snoozed_until: Option<WallTime>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u64) -> LiveTask {
        LiveTask {
            id: TaskId::from_u64(number).unwrap(),
            run_at: WallTime(0),
            order: 0,
            lane: LaneIndex::new(0),
            policy: PolicyIndex::new(0),
            attempt: 0,
            lost: 0,
            failures: 0,
            snoozes: 0,
            status: Status::Scheduled,
            priority: Priority::default(),
            flags: Flags::default(),
        }
    }

    #[test]
    fn a_record_is_compact() {
        assert!(size_of::<Option<LiveTask>>() <= 48);
    }

    #[test]
    fn gives_memory_back_and_uses_indices_again() {
        let count = 10 * CHUNK as u64;
        let mut table = LiveTable::default();
        let indices: Vec<_> = (1..=count).map(|number| table.insert(task(number))).collect();
        assert!(
            indices.iter().map(|index| index.at()).eq(0..40_960),
            "in order, so that neighbours stay close"
        );
        for index in &indices[..indices.len() - 1] {
            table.remove(*index);
        }
        let held = table.chunks.iter().filter(|chunk| !chunk.slots.is_empty()).count();
        assert_eq!((table.len(), table.iter().count(), held), (1, 1, 2));
        assert!(
            table.get(TaskIndex::new(0)).is_none() && table.get(TaskIndex::new(40_959)).is_some()
        );
        for number in 1..count {
            let index = table.insert(task(number));
            assert_eq!(table.find(table.at(index).id), Some(index));
        }
        assert_eq!((table.len(), table.chunks.len()), (10 * CHUNK, 10));
    }
}
