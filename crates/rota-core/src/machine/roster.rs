//! Queues, kinds and lanes, each by name and by index.
//!
//! A queue keeps its lanes ordered by their first tasks, so the cost of finding the next task does not depend
//! on the number of kinds and tasks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::{
    events::LaneName,
    index::{KindIndex, LaneIndex, QueueIndex, SubscriptionIndex, Table, TaskIndex},
    lane::{Lane, LaneEntry, Turn},
    subscription::Subscription,
};
use crate::{MonoTime, Name, Pause, Priority};

/// A queue and its counts.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Name,
    pub(super) paused: bool,
    /// Who paused it, and why, if that is known.
    pub(super) pause: Option<Box<Pause>>,
    /// Unknown settings that a newer version wrote.
    pub(super) unknown: Bytes,
    pub(super) lanes: Vec<LaneIndex>,
    /// Lanes with waiting tasks, by the order of their first tasks.
    pub(super) heads: BTreeMap<Turn, LaneIndex>,
    pub(super) scheduled: u64,
    pub(super) pending: u64,
    pub(super) leased: u64,
    pub(super) unreadable: u64,
    pub(super) created_total: u64,
    pub(super) completed_total: u64,
    pub(super) failed_total: u64,
}

impl Queue {
    fn new(name: Name) -> Self {
        Self {
            name,
            paused: false,
            pause: None,
            unknown: Bytes::new(),
            lanes: Vec::new(),
            heads: BTreeMap::new(),
            scheduled: 0,
            pending: 0,
            leased: 0,
            unreadable: 0,
            created_total: 0,
            completed_total: 0,
            failed_total: 0,
        }
    }

    pub(super) fn live(&self) -> u64 {
        self.scheduled + self.pending + self.leased
    }
}

/// Queues, kinds, lanes and subscriptions, each by name and by index. Indices of dropped entries are reused.
#[derive(Debug, Default)]
pub(super) struct Roster {
    pub(super) queues: Table<QueueIndex, Queue>,
    pub(super) queue_index: FxHashMap<Name, QueueIndex>,
    /// The names in order, for lists.
    pub(super) queue_names: BTreeSet<Name>,
    pub(super) kinds: Table<KindIndex, Name>,
    pub(super) kind_index: FxHashMap<Name, KindIndex>,
    pub(super) lanes: Table<LaneIndex, Lane>,
    pub(super) lane_index: FxHashMap<(QueueIndex, KindIndex), LaneIndex>,
    /// Number of lanes in the index without tasks.
    pub(super) idle_lanes: usize,
    pub(super) subscriptions: Table<SubscriptionIndex, Subscription>,
    pub(super) subscription_index: FxHashMap<(Vec<QueueIndex>, Vec<KindIndex>), SubscriptionIndex>,
    /// Number of subscriptions that lost their last session since the last sweep.
    pub(super) unused_subscriptions: usize,
    /// Subscriptions that may have both a waiting task and a free session.
    pub(super) active: VecDeque<SubscriptionIndex>,
    /// Number of names that may have become unused since the last sweep.
    pub(super) reclaimable: usize,
    /// Time of the last sweep.
    pub(super) swept_at: Option<MonoTime>,
    last_order: u64,
}

impl Roster {
    pub(super) fn find_queue(&self, name: &str) -> Option<QueueIndex> {
        self.queue_index.get(name).copied()
    }

    /// The queue of this name, which is created if necessary.
    pub(super) fn queue(&mut self, name: &Name) -> QueueIndex {
        if let Some(index) = self.queue_index.get(name) {
            return *index;
        }
        let index = self.queues.insert(Queue::new(name.clone()));
        self.queue_index.insert(name.clone(), index);
        self.queue_names.insert(name.clone());
        index
    }

    pub(super) fn has_kind(&self, name: &str) -> bool {
        self.kind_index.contains_key(name)
    }

    /// The kind of this name, which is created if necessary.
    pub(super) fn kind(&mut self, name: &Name) -> KindIndex {
        if let Some(index) = self.kind_index.get(name) {
            return *index;
        }
        let index = self.kinds.insert(name.clone());
        self.kind_index.insert(name.clone(), index);
        index
    }

    /// The lane of this queue and kind, which is created if necessary.
    pub(super) fn lane(&mut self, queue: QueueIndex, kind: KindIndex) -> LaneIndex {
        if let Some(index) = self.lane_index.get(&(queue, kind)) {
            return *index;
        }
        let subscriptions = self
            .subscriptions
            .iter()
            .filter(|(_, subscription)| subscription.serves(queue, kind))
            .map(|(index, _)| index)
            .collect();
        let name =
            LaneName { queue: self.queues[queue].name.clone(), kind: self.kinds[kind].clone() };
        let index = self.lanes.insert(Lane::new(queue, kind, name, subscriptions));
        self.lane_index.insert((queue, kind), index);
        self.queues[queue].lanes.push(index);
        self.idle_lanes += 1;
        index
    }

    /// Adds a task to the end of its lane, and activates the subscriptions that serve it. Returns its order.
    pub(super) fn enqueue(&mut self, index: LaneIndex, priority: Priority, task: TaskIndex) -> u64 {
        self.last_order += 1;
        let order = self.last_order;
        self.lanes[index].push(priority, LaneEntry { order, task });
        self.note_head(index);
        self.wake_lane(index);
        order
    }

    /// A task left its lane. `valid` tells a void entry.
    pub(super) fn withdraw(&mut self, index: LaneIndex, valid: impl Fn(LaneEntry) -> bool) {
        self.lanes[index].left(valid);
        self.note_head(index);
    }

    /// Updates the position of a lane in its queue after its first task changed.
    fn note_head(&mut self, index: LaneIndex) {
        let lane = &mut self.lanes[index];
        let head = lane.first().map(|(turn, _)| turn);
        if head == lane.head {
            return;
        }
        let heads = &mut self.queues[lane.queue].heads;
        if let Some(old) = lane.head {
            heads.remove(&old);
        }
        if let Some(new) = head {
            heads.insert(new, index);
        }
        lane.head = head;
    }

    fn wake_lane(&mut self, index: LaneIndex) {
        let queue = self.lanes[index].queue;
        for at in 0..self.lanes[index].subscriptions.len() {
            let subscription = self.lanes[index].subscriptions[at];
            self.note_ready(subscription, queue);
        }
    }

    /// Activates the subscriptions that serve a queue, because it has a task again.
    pub(super) fn wake_queue(&mut self, queue: QueueIndex) {
        let lanes: Vec<_> = self.queues[queue].heads.values().copied().collect();
        for lane in lanes {
            self.wake_lane(lane);
        }
    }

    /// Whether an open session serves the lane.
    pub(super) fn is_served(&self, lane: LaneIndex) -> bool {
        self.lanes[lane]
            .subscriptions
            .iter()
            .any(|subscription| self.subscriptions[*subscription].serving > 0)
    }

    /// Whether a session that serves the lane has a free slot but has not asked for tasks.
    pub(super) fn is_rested(&self, lane: LaneIndex) -> bool {
        self.lanes[lane]
            .subscriptions
            .iter()
            .any(|subscription| self.subscriptions[*subscription].resting > 0)
    }

    /// The next task of `queue` that the subscription serves.
    pub(super) fn first(
        &self,
        subscription: SubscriptionIndex,
        queue: QueueIndex,
    ) -> Option<TaskIndex> {
        let serves = &self.subscriptions[subscription];
        if !serves.serves_queue(queue) {
            return None;
        }
        let heads = &self.queues[queue].heads;
        let lane = match serves.kinds() {
            None => heads.values().next().copied(),
            // Iterates over whichever are fewer, the kinds or the lanes.
            Some(kinds) if kinds.len() < heads.len() => kinds
                .iter()
                .filter_map(|kind| self.lane_index.get(&(queue, *kind)))
                .filter_map(|lane| Some((self.lanes[*lane].head?, *lane)))
                .min()
                .map(|(_, lane)| lane),
            Some(kinds) => {
                let served = |lane: &&LaneIndex| kinds.contains(&self.lanes[**lane].kind);
                heads.values().find(served).copied()
            }
        }?;
        self.lanes[lane].first().map(|(_, task)| task)
    }
}
