//! A lane: what waits of one kind in one queue, by priority and then in order of arrival.

use std::{cmp::Reverse, sync::Arc};

use super::{
    events::LaneName,
    index::{KindIndex, QueueIndex, SubscriptionIndex, TaskIndex},
};
use crate::{Priority, fifo::Fifo};

/// A task's turn: the highest priority first, then who came first. Orders are never the same twice.
pub(super) type Turn = (Reverse<Priority>, u64);

/// What waits of one kind in one queue.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) queue: QueueIndex,
    pub(super) kind: KindIndex,
    pub(super) name: Arc<LaneName>,
    /// Its live tasks, in whatever state.
    pub(super) tasks: u64,
    /// Those of them that wait here.
    pub(super) waiting: u64,
    /// By priority, highest first. A place is void when its task is not pending or has another
    /// order; the first place of a level is never void.
    pub(super) levels: Vec<(Priority, Fifo<Place>)>,
    /// The turn of the first.
    pub(super) head: Option<Turn>,
    /// Who serves it; who was given one of its tasks longest ago comes first.
    pub(super) subscriptions: Vec<SubscriptionIndex>,
}

/// A task's place in a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) order: u64,
    pub(super) task: TaskIndex,
}

/// Void places that a lane may keep, however few wait.
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

    /// Puts a task behind those of its priority.
    pub(super) fn push(&mut self, priority: Priority, place: Place) {
        let level = match self.levels.binary_search_by(|(level, _)| priority.cmp(level)) {
            Ok(level) => level,
            Err(level) => {
                self.levels.insert(level, (priority, Fifo::default()));
                level
            }
        };
        self.levels[level].1.push_back(place);
        self.waiting += 1;
    }

    /// A task left. Void places are dropped from the front, and from everywhere when they are too
    /// many. `valid` tells a void place.
    pub(super) fn left(&mut self, valid: impl Fn(Place) -> bool) {
        self.waiting -= 1;
        let mut places = 0;
        for (_, level) in &mut self.levels {
            while level.front().is_some_and(|place| !valid(*place)) {
                level.pop_front();
            }
            places += level.len() as u64;
        }
        if places > self.waiting * 2 + VOID_MAX {
            for (_, level) in &mut self.levels {
                level.retain(|place| valid(*place));
            }
        }
    }

    /// Places that take memory, void ones included.
    pub(super) fn places(&self) -> usize {
        self.levels.iter().map(|(_, level)| level.len()).sum()
    }

    /// Whose turn it is, and when that is.
    pub(super) fn first(&self) -> Option<(Turn, TaskIndex)> {
        self.levels.iter().find_map(|(priority, level)| {
            let place = level.front()?;
            Some(((Reverse(*priority), place.order), place.task))
        })
    }
}
