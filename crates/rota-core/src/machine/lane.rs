//! A lane: the waiting tasks of one kind in one queue, by priority and then by order of arrival.

use std::{cmp::Reverse, sync::Arc};

use super::{
    events::LaneName,
    index::{KindIndex, QueueIndex, SubscriptionIndex, TaskIndex},
};
use crate::{Priority, fifo::Fifo};

/// The sort key of waiting tasks: highest priority first, then order of arrival, which is unique.
pub(super) type Turn = (Reverse<Priority>, u64);

/// The waiting tasks of one kind in one queue.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) queue: QueueIndex,
    pub(super) kind: KindIndex,
    pub(super) name: Arc<LaneName>,
    /// Number of its live tasks in any status.
    pub(super) tasks: u64,
    /// Number of its waiting tasks.
    pub(super) waiting: u64,
    /// By priority, highest first. An entry is void when its task is not pending or has another
    /// order; the first entry of a level is never void.
    pub(super) levels: Vec<(Priority, Fifo<LaneEntry>)>,
    /// The sort key of the first waiting task.
    pub(super) head: Option<Turn>,
    /// The subscriptions that serve it. The one that got a task longest ago comes first.
    pub(super) subscriptions: Vec<SubscriptionIndex>,
}

/// A task in a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneEntry {
    pub(super) order: u64,
    pub(super) task: TaskIndex,
}

/// Number of void entries that a lane can always keep.
const VOID_MAX: u64 = 64;

impl Lane {
    pub(super) fn new(
        queue: QueueIndex,
        kind: KindIndex,
        name: LaneName,
        subscriptions: Vec<SubscriptionIndex>,
    ) -> Self {
        let levels = Vec::new();
        let name = Arc::new(name);
        Self { queue, kind, name, tasks: 0, waiting: 0, levels, head: None, subscriptions }
    }

    /// Adds a task after those of the same priority.
    pub(super) fn push(&mut self, priority: Priority, entry: LaneEntry) {
        let level = match self.levels.binary_search_by(|(level, _)| priority.cmp(level)) {
            Ok(level) => level,
            Err(level) => {
                self.levels.insert(level, (priority, Fifo::default()));
                level
            }
        };
        self.levels[level].1.push_back(entry);
        self.waiting += 1;
    }

    /// Removes a task. Drops void entries at the front, and everywhere if there are too many. `valid` tells
    /// whether an entry is not void.
    pub(super) fn left(&mut self, valid: impl Fn(LaneEntry) -> bool) {
        self.waiting -= 1;
        let mut entries = 0;
        for (_, level) in &mut self.levels {
            while level.front().is_some_and(|entry| !valid(*entry)) {
                level.pop_front();
            }
            entries += level.len() as u64;
        }
        if entries > self.waiting * 2 + VOID_MAX {
            for (_, level) in &mut self.levels {
                level.retain(|entry| valid(*entry));
            }
        }
    }

    /// Number of entries in memory, including void ones.
    pub(super) fn entries(&self) -> usize {
        self.levels.iter().map(|(_, level)| level.len()).sum()
    }

    /// The next task, and its sort key.
    pub(super) fn first(&self) -> Option<(Turn, TaskIndex)> {
        self.levels.iter().find_map(|(priority, level)| {
            let entry = level.front()?;
            Some(((Reverse(*priority), entry.order), entry.task))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::index::Index as _, *};
    use crate::Name;

    #[test]
    fn void_places_are_dropped_when_they_are_many() {
        let name = |text| Name::new(text).unwrap();
        let name = LaneName { queue: name("q"), kind: name("k") };
        let mut lane = Lane::new(QueueIndex::new(0), KindIndex::new(0), name, Vec::new());
        for task in 0..200 {
            let order = task as u64 + 1;
            lane.push(Priority::default(), LaneEntry { order, task: TaskIndex::new(task) });
        }
        // All but the first leave, the last first.
        let mut most = 200;
        for left in (1..200).rev() {
            lane.left(|entry| entry.task.at() < left);
            if most > 2 * left + 64 {
                most = left;
            }
            assert_eq!((lane.waiting, lane.entries()), (left as u64, most));
        }
        assert_eq!(lane.first(), Some(((Reverse(Priority::default()), 1), TaskIndex::new(0))));
        // Those at the front go at once.
        lane.left(|_| false);
        assert_eq!((lane.waiting, lane.entries(), lane.first()), (0, 0, None));
    }
}
