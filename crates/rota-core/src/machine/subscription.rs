//! Subscriptions: a *subscription* is a set of queues and kinds that one or more sessions serve.
//!
//! It has a ring of queues with tasks for it, and a ring of its sessions with free slots, so that all queues
//! and workers take turns. Subscriptions that have both are in a ring themselves.

use std::{collections::VecDeque, hash::Hash};

use rustc_hash::FxHashSet;

use super::{
    index::{KindIndex, LaneIndex, QueueIndex, SessionIndex, SubscriptionIndex},
    roster::Roster,
};
use crate::Name;

/// Number of subscriptions without sessions to keep, in addition to as many as have some, so that
/// reconnecting workers find theirs.
const UNUSED_MAX: usize = 64;

/// A set of queues and kinds, and the sessions that serve it.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    /// `None` means all.
    queues: Option<FxHashSet<QueueIndex>>,
    /// `None` means all.
    kinds: Option<FxHashSet<KindIndex>>,
    /// Queues that may have tasks for it.
    ready: Ring<QueueIndex>,
    /// Sessions that may have free slots.
    idle: Ring<SessionIndex>,
    /// Whether it is in the ring of subscriptions that have both.
    active: bool,
    /// Number of open sessions.
    pub(super) sessions: u32,
    /// Number of open sessions that take tasks.
    pub(super) serving: u32,
    /// Number of these whose workers have no stream and a free slot, and do not ask for tasks now.
    pub(super) resting: u32,
}

/// A ring. Each entry occurs at most once.
#[derive(Debug)]
struct Ring<T> {
    order: VecDeque<T>,
    members: FxHashSet<T>,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), members: FxHashSet::default() }
    }
}

impl<T: Copy + Eq + Hash> Ring<T> {
    fn join(&mut self, member: T) {
        if self.members.insert(member) {
            self.order.push_back(member);
        }
    }

    fn join_first(&mut self, member: T) {
        if self.members.insert(member) {
            self.order.push_front(member);
        }
    }

    fn leave_first(&mut self) -> Option<T> {
        let first = self.order.pop_front()?;
        self.members.remove(&first);
        Some(first)
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl Subscription {
    pub(super) fn serves(&self, queue: QueueIndex, kind: KindIndex) -> bool {
        self.serves_queue(queue) && self.serves_kind(kind)
    }

    pub(super) fn serves_queue(&self, queue: QueueIndex) -> bool {
        self.queues.as_ref().is_none_or(|set| set.contains(&queue))
    }

    pub(super) fn serves_kind(&self, kind: KindIndex) -> bool {
        self.kinds.as_ref().is_none_or(|set| set.contains(&kind))
    }

    /// The kinds. `None` for all.
    pub(super) fn kinds(&self) -> Option<&FxHashSet<KindIndex>> {
        self.kinds.as_ref()
    }

    /// The queues.
    pub(super) fn queues(&self) -> Option<&FxHashSet<QueueIndex>> {
        self.queues.as_ref()
    }

    #[cfg(test)]
    pub(super) fn idle_len(&self) -> usize {
        self.idle.order.len()
    }

    pub(super) fn is_used(&self) -> bool {
        self.sessions > 0
    }

    /// Stops serving. It may stay in the ring of active subscriptions.
    fn retire(&mut self) {
        *self = Self { queues: Some(FxHashSet::default()), active: self.active, ..Self::default() };
    }
}

impl Roster {
    /// The subscription to these queues and kinds. Empty means all.
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
        // A retired subscription may still be in the ring of active ones.
        let index = self.subscriptions.reuse(Subscription::default);
        let subscription = &mut self.subscriptions[index];
        subscription.queues = (!queues.is_empty()).then(|| queues.iter().copied().collect());
        subscription.kinds = (!kinds.is_empty()).then(|| kinds.iter().copied().collect());
        for lane in self.lane_index.values() {
            let lane = &mut self.lanes[*lane];
            if subscription.serves(lane.queue, lane.kind) {
                lane.subscriptions.push(index);
                if lane.waiting > 0 {
                    subscription.ready.join(lane.queue);
                }
            }
        }
        self.subscription_index.insert((queues, kinds), index);
        index
    }

    /// Counts a session that opened.
    pub(super) fn attach(&mut self, subscription: SubscriptionIndex) {
        self.subscriptions[subscription].sessions += 1;
    }

    /// Counts a session that ended.
    pub(super) fn detach(&mut self, subscription: SubscriptionIndex) {
        let held = &mut self.subscriptions[subscription];
        held.sessions -= 1;
        if held.sessions == 0 {
            let queues = held.queues.as_ref().map_or(0, FxHashSet::len);
            let kinds = held.kinds.as_ref().map_or(0, FxHashSet::len);
            self.reclaimable += 1 + queues + kinds;
            self.unused_subscriptions += 1;
            // Some of them may be in use again; the sweep counts again.
            let used = self.subscription_index.len().saturating_sub(self.unused_subscriptions);
            if self.unused_subscriptions > used + UNUSED_MAX {
                self.sweep_subscriptions();
            }
        }
    }

    /// Drops subscriptions without open sessions.
    pub(super) fn sweep_subscriptions(&mut self) {
        let Self { subscriptions, subscription_index, lanes, .. } = self;
        let is_used = |index: SubscriptionIndex| subscriptions[index].is_used();
        let mut swept = Vec::new();
        subscription_index.retain(|_, index| {
            let keep = is_used(*index);
            if !keep {
                swept.push(*index);
            }
            keep
        });
        // Lanes keep the order in which subscriptions came, so the order is the same in every run.
        swept.sort_unstable();
        for lane in lanes.values_mut() {
            lane.subscriptions.retain(|index| is_used(*index));
        }
        for index in swept {
            subscriptions[index].retire();
            subscriptions.release(index);
        }
        self.unused_subscriptions = 0;
    }

    /// Adds a queue that may have tasks for the subscription.
    pub(super) fn note_ready(&mut self, subscription: SubscriptionIndex, queue: QueueIndex) {
        self.subscriptions[subscription].ready.join(queue);
        self.activate(subscription);
    }

    /// Adds a session that may have a free slot.
    pub(super) fn note_idle(&mut self, subscription: SubscriptionIndex, session: SessionIndex) {
        self.subscriptions[subscription].idle.join(session);
        self.activate(subscription);
    }

    /// Takes the next queue from the ring of the subscription.
    pub(super) fn next_ready(&mut self, subscription: SubscriptionIndex) -> Option<QueueIndex> {
        self.subscriptions[subscription].ready.leave_first()
    }

    /// Takes the next session from the ring of the subscription.
    pub(super) fn next_idle(&mut self, subscription: SubscriptionIndex) -> Option<SessionIndex> {
        self.subscriptions[subscription].idle.leave_first()
    }

    /// Puts a session that got nothing back to the front.
    pub(super) fn keep_turn(&mut self, subscription: SubscriptionIndex, session: SessionIndex) {
        self.subscriptions[subscription].idle.join_first(session);
        self.activate(subscription);
    }

    /// Moves a subscription that got a task of the lane to the end of its list.
    pub(super) fn note_served(&mut self, lane: LaneIndex, subscription: SubscriptionIndex) {
        let told = &mut self.lanes[lane].subscriptions;
        if let Some(at) = told.iter().position(|other| *other == subscription) {
            told[at..].rotate_left(1);
        }
    }

    /// Takes the next subscription that has both a task and a free session.
    pub(super) fn next_active(&mut self) -> Option<SubscriptionIndex> {
        let next = self.active.pop_front()?;
        self.subscriptions[next].active = false;
        Some(next)
    }

    /// Whether there may be another one.
    pub(super) fn is_active(&self) -> bool {
        !self.active.is_empty()
    }

    fn activate(&mut self, index: SubscriptionIndex) {
        let held = &mut self.subscriptions[index];
        if !held.active && !held.ready.is_empty() && !held.idle.is_empty() {
            held.active = true;
            self.active.push_back(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::index::Index as _, *};

    fn names<const N: usize>(texts: [&str; N]) -> [Name; N] {
        texts.map(|text| Name::new(text).unwrap())
    }

    #[test]
    fn the_same_queues_and_kinds_are_one_subscription() {
        let mut roster = Roster::default();
        let queues = names(["a", "b"]);
        let first = roster.subscription(&queues, &names(["k"]));
        assert_eq!(roster.subscription(&names(["b", "a", "b"]), &names(["k", "k"])), first);
        let others = [
            roster.subscription(&queues, &[]),
            roster.subscription(&names(["a"]), &names(["k"])),
            roster.subscription(&[], &[]),
        ];
        assert_eq!([&[first], &others[..]].concat(), [0, 1, 2, 3].map(SubscriptionIndex::new));
    }

    #[test]
    fn subscriptions_without_sessions_are_kept_while_they_are_few() {
        let mut roster = Roster::default();
        let all: Vec<_> = (0..70)
            .map(|at| roster.subscription(&[], &names([format!("k{at}").as_str()])))
            .collect();
        all.iter().for_each(|subscription| roster.attach(*subscription));
        for subscription in &all[..67] {
            roster.detach(*subscription);
            assert_eq!(roster.subscription_index.len(), 70, "64 beyond the 3 that are used");
        }
        roster.detach(all[67]);
        let mut left: Vec<_> = roster.subscription_index.values().copied().collect();
        left.sort_unstable();
        assert_eq!(left, all[68..]);
    }

    #[test]
    fn a_subscription_is_unused_when_its_last_session_has_gone() {
        let mut roster = Roster::default();
        let subscription = roster.subscription(&names(["a", "b"]), &names(["k", "l", "m"]));
        roster.attach(subscription);
        roster.attach(subscription);
        roster.detach(subscription);
        assert!(roster.subscriptions[subscription].is_used());
        assert_eq!(roster.reclaimable, 0);
        roster.detach(subscription);
        assert!(!roster.subscriptions[subscription].is_used());
        assert_eq!(roster.reclaimable, 6, "itself, two queues and three kinds");
    }

    #[test]
    fn the_place_of_a_subscription_that_was_dropped_serves_nothing_until_it_is_used_again() {
        let mut roster = Roster::default();
        let subscription = roster.subscription(&[], &[]);
        roster.attach(subscription);
        roster.note_ready(subscription, QueueIndex::new(0));
        roster.note_idle(subscription, SessionIndex::new(0));
        assert_eq!(roster.active, [subscription]);
        roster.detach(subscription);
        roster.sweep_subscriptions();
        let [queue, kind] = names(["q", "k"]);
        let (queue, kind) = (roster.queue(&queue), roster.kind(&kind));
        let lane = roster.lane(queue, kind);
        assert!(roster.lanes[lane].subscriptions.is_empty());
        // It has one turn, although it stood in the ring already.
        assert_eq!(roster.subscription(&[], &[]), subscription);
        roster.note_ready(subscription, queue);
        roster.note_idle(subscription, SessionIndex::new(0));
        assert_eq!(roster.active, [subscription]);
        assert_eq!(roster.lanes[lane].subscriptions, [subscription]);
    }
}
