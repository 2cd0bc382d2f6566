//! Who waits where and who serves what: queues, lanes, and the subscriptions of sessions.
//!
//! A *lane* is what waits of one kind in one queue, by priority and then in order of arrival. A
//! *subscription* is a set of queues and kinds that one or more sessions serve; it knows which
//! queues have something for it and which of its sessions have room, each in a ring, so that
//! neither a queue nor a worker is preferred.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use super::live::TaskIndex;
use crate::{Name, Priority};

pub(super) type QueueIndex = u32;
pub(super) type KindIndex = u32;
pub(super) type LaneIndex = u32;
pub(super) type SubscriptionIndex = u32;
pub(super) type SessionIndex = u32;

/// A queue and its counts.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Name,
    pub(super) paused: bool,
    pub(super) lanes: Vec<LaneIndex>,
    pub(super) scheduled: u64,
    pub(super) pending: u64,
    pub(super) leased: u64,
    pub(super) completed_total: u64,
    pub(super) failed_total: u64,
}

impl Queue {
    pub(super) fn live(&self) -> u64 {
        self.scheduled + self.pending + self.leased
    }
}

/// What waits of one kind in one queue.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) queue: QueueIndex,
    pub(super) kind: KindIndex,
    /// Tasks that wait, void places not counted.
    pub(super) waiting: u64,
    /// By priority, highest first. A place is void when its task is not pending or has another
    /// order.
    pub(super) levels: Vec<(Priority, VecDeque<Place>)>,
    subscriptions: Vec<SubscriptionIndex>,
}

/// A task's place in a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) order: u64,
    pub(super) task: TaskIndex,
}

/// A set of queues and kinds, and the sessions that serve it.
#[derive(Debug)]
pub(super) struct Subscription {
    /// `None`: all.
    queues: Option<FxHashSet<QueueIndex>>,
    /// `None`: all.
    kinds: Option<FxHashSet<KindIndex>>,
    /// Queues that may have something for it.
    pub(super) ready: VecDeque<QueueIndex>,
    in_ready: FxHashSet<QueueIndex>,
    /// Sessions that may have room.
    pub(super) idle: VecDeque<SessionIndex>,
    /// Open sessions that are not draining.
    pub(super) serving: u32,
}

/// Queues, kinds, lanes and subscriptions, each by name and by index.
#[derive(Debug, Default)]
pub(super) struct Roster {
    pub(super) queues: Vec<Queue>,
    queue_index: FxHashMap<Name, QueueIndex>,
    pub(super) kinds: Vec<Name>,
    kind_index: FxHashMap<Name, KindIndex>,
    pub(super) lanes: Vec<Lane>,
    lane_index: FxHashMap<(QueueIndex, KindIndex), LaneIndex>,
    pub(super) subscriptions: Vec<Subscription>,
    subscription_index: FxHashMap<(Vec<QueueIndex>, Vec<KindIndex>), SubscriptionIndex>,
    last_order: u64,
}

fn index_of(len: usize) -> u32 {
    u32::try_from(len).expect("limits keep every table below 2^32")
}

impl Roster {
    pub(super) fn find_queue(&self, name: &str) -> Option<QueueIndex> {
        self.queue_index.get(name).copied()
    }

    /// The queue of that name; a new one if there is none.
    pub(super) fn queue(&mut self, name: &Name) -> QueueIndex {
        if let Some(index) = self.queue_index.get(name) {
            return *index;
        }
        let index = index_of(self.queues.len());
        self.queues.push(Queue {
            name: name.clone(),
            paused: false,
            lanes: Vec::new(),
            scheduled: 0,
            pending: 0,
            leased: 0,
            completed_total: 0,
            failed_total: 0,
        });
        self.queue_index.insert(name.clone(), index);
        index
    }

    pub(super) fn has_kind(&self, name: &str) -> bool {
        self.kind_index.contains_key(name)
    }

    /// The kind of that name; a new one if there is none.
    pub(super) fn kind(&mut self, name: &Name) -> KindIndex {
        if let Some(index) = self.kind_index.get(name) {
            return *index;
        }
        let index = index_of(self.kinds.len());
        self.kinds.push(name.clone());
        self.kind_index.insert(name.clone(), index);
        index
    }

    /// The lane of that queue and kind; a new one if there is none.
    pub(super) fn lane(&mut self, queue: QueueIndex, kind: KindIndex) -> LaneIndex {
        if let Some(index) = self.lane_index.get(&(queue, kind)) {
            return *index;
        }
        let index = index_of(self.lanes.len());
        let subscriptions = (0..)
            .zip(&self.subscriptions)
            .filter(|(_, subscription)| subscription.serves(queue, kind))
            .map(|(index, _)| index)
            .collect();
        self.lanes.push(Lane { queue, kind, waiting: 0, levels: Vec::new(), subscriptions });
        self.lane_index.insert((queue, kind), index);
        self.queues[queue as usize].lanes.push(index);
        index
    }

    /// The subscription to those queues and kinds; empty means all.
    pub(super) fn subscription(&mut self, queues: &[Name], kinds: &[Name]) -> SubscriptionIndex {
        let mut queues: Vec<_> = queues.iter().map(|name| self.queue(name)).collect();
        let mut kinds: Vec<_> = kinds.iter().map(|name| self.kind(name)).collect();
        queues.sort_unstable();
        queues.dedup();
        kinds.sort_unstable();
        kinds.dedup();
        if let Some(index) = self.subscription_index.get(&(queues.clone(), kinds.clone())) {
            return *index;
        }
        let index = index_of(self.subscriptions.len());
        let some = |set: &[u32]| (!set.is_empty()).then(|| set.iter().copied().collect());
        let mut subscription = Subscription {
            queues: some(&queues),
            kinds: some(&kinds),
            ready: VecDeque::new(),
            in_ready: FxHashSet::default(),
            idle: VecDeque::new(),
            serving: 0,
        };
        for lane in &mut self.lanes {
            if subscription.serves(lane.queue, lane.kind) {
                lane.subscriptions.push(index);
                if lane.waiting > 0 {
                    subscription.note_ready(lane.queue);
                }
            }
        }
        self.subscriptions.push(subscription);
        self.subscription_index.insert((queues, kinds), index);
        index
    }

    /// Puts a task at the end of its lane and tells those who serve it. Returns its order.
    pub(super) fn enqueue(&mut self, lane: LaneIndex, priority: Priority, task: TaskIndex) -> u64 {
        self.last_order += 1;
        let order = self.last_order;
        let lane = &mut self.lanes[lane as usize];
        let level = match lane.levels.binary_search_by(|(level, _)| priority.cmp(level)) {
            Ok(level) => level,
            Err(level) => {
                lane.levels.insert(level, (priority, VecDeque::new()));
                level
            }
        };
        lane.levels[level].1.push_back(Place { order, task });
        lane.waiting += 1;
        for subscription in &lane.subscriptions {
            self.subscriptions[*subscription as usize].note_ready(lane.queue);
        }
        order
    }

    /// Tells those who serve a queue that it has something again.
    pub(super) fn wake_queue(&mut self, queue: QueueIndex) {
        for lane in &self.queues[queue as usize].lanes {
            let lane = &self.lanes[*lane as usize];
            if lane.waiting > 0 {
                for subscription in &lane.subscriptions {
                    self.subscriptions[*subscription as usize].note_ready(queue);
                }
            }
        }
    }

    /// Whether a session that is open serves the lane.
    pub(super) fn is_served(&self, lane: LaneIndex) -> bool {
        self.lanes[lane as usize]
            .subscriptions
            .iter()
            .any(|subscription| self.subscriptions[*subscription as usize].serving > 0)
    }

    /// Takes the task that goes first among those of `queue` that the subscription serves. `valid`
    /// tells a void place.
    pub(super) fn dequeue(
        &mut self,
        subscription: SubscriptionIndex,
        queue: QueueIndex,
        valid: impl Fn(Place) -> bool,
    ) -> Option<TaskIndex> {
        let serves = &self.subscriptions[subscription as usize];
        let mut best: Option<(Priority, u64, LaneIndex)> = None;
        for index in &self.queues[queue as usize].lanes {
            let lane = &mut self.lanes[*index as usize];
            if lane.waiting == 0 || !serves.serves(lane.queue, lane.kind) {
                continue;
            }
            let Some((priority, order)) = lane.head(&valid) else { continue };
            if best.is_none_or(|(p, o, _)| priority > p || (priority == p && order < o)) {
                best = Some((priority, order, *index));
            }
        }
        let (_, _, lane) = best?;
        let lane = &mut self.lanes[lane as usize];
        lane.waiting -= 1;
        lane.levels.iter_mut().find_map(|(_, places)| places.pop_front()).map(|place| place.task)
    }

    /// A task left its lane from the middle. Void places are swept out when they are too many.
    pub(super) fn withdraw(&mut self, lane: LaneIndex, valid: impl Fn(Place) -> bool) {
        let lane = &mut self.lanes[lane as usize];
        lane.waiting -= 1;
        let places: usize = lane.levels.iter().map(|(_, places)| places.len()).sum();
        if places as u64 > lane.waiting * 2 + 64 {
            for (_, places) in &mut lane.levels {
                places.retain(|place| valid(*place));
                places.shrink_to(places.len() * 2);
            }
        }
    }
}

impl Lane {
    /// The first valid place, void ones before it dropped.
    fn head(&mut self, valid: impl Fn(Place) -> bool) -> Option<(Priority, u64)> {
        for (priority, places) in &mut self.levels {
            while let Some(place) = places.front() {
                if valid(*place) {
                    return Some((*priority, place.order));
                }
                places.pop_front();
            }
        }
        None
    }
}

impl Subscription {
    fn serves(&self, queue: QueueIndex, kind: KindIndex) -> bool {
        self.queues.as_ref().is_none_or(|set| set.contains(&queue))
            && self.kinds.as_ref().is_none_or(|set| set.contains(&kind))
    }

    pub(super) fn note_ready(&mut self, queue: QueueIndex) {
        if self.in_ready.insert(queue) {
            self.ready.push_back(queue);
        }
    }

    /// Takes the next queue of the ring.
    pub(super) fn next_ready(&mut self) -> Option<QueueIndex> {
        let queue = self.ready.pop_front()?;
        self.in_ready.remove(&queue);
        Some(queue)
    }
}
