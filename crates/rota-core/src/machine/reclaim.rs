//! Drops unused queues, kinds and lanes to make room for new names.
//!
//! Unused names are kept while they are few, so that the totals of a queue and its place in lists stay. A
//! sweep runs only when enough has changed since the last one.

use rustc_hash::FxHashSet;

use super::{index::LaneIndex, roster::Roster};
use crate::{Millis, MonoTime};

/// Number of lanes without tasks to keep, in addition to as many as have tasks.
const IDLE_LANES_MAX: usize = 1024;
/// A sweep runs at once when this fraction of the limit may have become free.
const WORTHWHILE: usize = 64;
/// Otherwise, sweeps have at least this interval. Their cost grows with the number of names, and requests for
/// new names must not be able to cause them all the time.
const SWEEP_PAUSE: Millis = Millis::from_secs(1);

impl Roster {
    /// Counts a task of the lane that became live.
    pub(super) fn add_task(&mut self, lane: LaneIndex) {
        let tasks = &mut self.lanes[lane].tasks;
        self.idle_lanes -= usize::from(*tasks == 0);
        *tasks += 1;
    }

    /// Counts a task of the lane that ended.
    pub(super) fn drop_task(&mut self, lane: LaneIndex) {
        let tasks = &mut self.lanes[lane].tasks;
        *tasks -= 1;
        if *tasks == 0 {
            self.idle_lanes += 1;
            self.reclaimable += 1;
            let busy = self.lane_index.len() - self.idle_lanes;
            if self.idle_lanes > busy + IDLE_LANES_MAX {
                self.sweep_lanes();
            }
        }
    }

    /// Drops unused names, if there may be any. `limit` is the limit that was reached.
    pub(super) fn make_room(&mut self, limit: u32, now: MonoTime) {
        let many = self.reclaimable > limit as usize / WORTHWHILE;
        let rested = self.swept_at.is_none_or(|swept| now.since(swept) >= SWEEP_PAUSE);
        if self.reclaimable == 0 || !(many || rested) {
            return;
        }
        self.reclaimable = 0;
        self.swept_at = Some(now);
        self.sweep_subscriptions();
        self.sweep_lanes();
        self.sweep_queues();
        self.sweep_kinds();
    }

    fn sweep_lanes(&mut self) {
        let Self { lanes, lane_index, queues, .. } = self;
        for queue in queues.values_mut() {
            queue.lanes.retain(|index| {
                let lane = &mut lanes[*index];
                let keep = lane.tasks > 0;
                if !keep {
                    lane_index.remove(&(lane.queue, lane.kind));
                    lane.levels = Vec::new();
                    lane.subscriptions = Vec::new();
                    lanes.release(*index);
                }
                keep
            });
        }
        self.idle_lanes = 0;
    }

    fn sweep_queues(&mut self) {
        let used = self.subscriptions.values().filter(|subscription| subscription.is_used());
        let named: FxHashSet<_> =
            used.filter_map(|subscription| subscription.queues()).flatten().copied().collect();
        let Self { queues, queue_index, queue_names, .. } = self;
        queue_index.retain(|name, index| {
            let queue = &queues[*index];
            let has_settings = queue.paused || !queue.unknown.is_empty();
            let has_tasks = !queue.lanes.is_empty() || queue.unreadable > 0;
            let keep = has_settings || has_tasks || named.contains(index);
            if !keep {
                queue_names.remove(name);
                queues.release(*index);
            }
            keep
        });
    }

    fn sweep_kinds(&mut self) {
        let used = self.subscriptions.values().filter(|subscription| subscription.is_used());
        let mut needed: FxHashSet<_> =
            used.filter_map(|subscription| subscription.kinds()).flatten().copied().collect();
        needed.extend(self.lane_index.keys().map(|(_, kind)| *kind));
        let Self { kinds, kind_index, .. } = self;
        kind_index.retain(|_, index| {
            let keep = needed.contains(index);
            if !keep {
                kinds.release(*index);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Name;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// The lane of that queue and kind, with one task more.
    fn add_task(roster: &mut Roster, queue: &str, kind: &str) -> LaneIndex {
        let (queue, kind) = (roster.queue(&name(queue)), roster.kind(&name(kind)));
        let lane = roster.lane(queue, kind);
        roster.add_task(lane);
        lane
    }

    #[test]
    fn lanes_without_tasks_are_kept_while_they_are_few() {
        let mut roster = Roster::default();
        let lanes: Vec<_> =
            (0..1030).map(|at| add_task(&mut roster, "q", &format!("k{at}"))).collect();
        for lane in &lanes[..1027] {
            roster.drop_task(*lane);
            assert_eq!(roster.lane_index.len(), 1030, "1024 beyond the 3 that have tasks");
        }
        roster.drop_task(lanes[1027]);
        assert_eq!((roster.lane_index.len(), roster.idle_lanes), (2, 0));
        let queue = roster.find_queue("q").unwrap();
        assert_eq!(roster.queues[queue].lanes, lanes[1028..]);
    }

    #[test]
    fn a_lane_is_idle_when_its_last_task_has_ended() {
        let mut roster = Roster::default();
        let lane = add_task(&mut roster, "q", "k");
        add_task(&mut roster, "q", "k");
        roster.drop_task(lane);
        assert_eq!((roster.idle_lanes, roster.reclaimable), (0, 0));
        roster.drop_task(lane);
        assert_eq!((roster.idle_lanes, roster.reclaimable), (1, 1));
        add_task(&mut roster, "q", "k");
        assert_eq!(roster.idle_lanes, 0);
    }

    #[test]
    fn names_are_looked_through_when_it_is_worth_it() {
        const LAST: MonoTime = MonoTime(5000);
        for (reclaimable, last, passed, looks) in [
            // At once if one in 64 of the limit of 640 may have become free.
            (11, Some(LAST), 0, true),
            (10, Some(LAST), 999, false),
            (1, Some(LAST), 999, false),
            (1, Some(LAST), 1000, true),
            (1, None, 0, true),
            (0, Some(LAST), 1000, false),
            (0, None, 0, false),
        ] {
            let mut roster = Roster::default();
            roster.queue(&name("free"));
            (roster.reclaimable, roster.swept_at) = (reclaimable, last);
            let now = LAST + Millis(passed);
            roster.make_room(640, now);
            let case = (reclaimable, passed);
            assert_eq!(roster.find_queue("free").is_none(), looks, "{case:?}");
            let after = if looks { (0, Some(now)) } else { (reclaimable, last) };
            assert_eq!((roster.reclaimable, roster.swept_at), after, "{case:?}");
        }
    }

    #[test]
    fn queues_and_kinds_are_kept_while_something_needs_them() {
        let mut roster = Roster::default();
        add_task(&mut roster, "has-tasks", "has-tasks");
        let ended = add_task(&mut roster, "free", "free");
        roster.drop_task(ended);
        let [paused, unknown, unreadable] =
            ["paused", "unknown", "unreadable"].map(|text| roster.queue(&name(text)));
        roster.queues[paused].paused = true;
        roster.queues[unknown].unknown = Bytes::from_static(b"of a newer version");
        roster.queues[unreadable].unreadable = 1;
        let served = roster.subscription(&[name("served")], &[name("served")]);
        roster.attach(served);
        roster.subscription(&[name("was-served")], &[name("was-served")]);
        roster.reclaimable = 1;
        roster.make_room(1000, MonoTime(0));
        let queues: Vec<_> = roster.queue_names.iter().map(Name::as_str).collect();
        assert_eq!(queues, ["has-tasks", "paused", "served", "unknown", "unreadable"]);
        let mut kinds: Vec<_> = roster.kind_index.keys().map(Name::as_str).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["has-tasks", "served"]);
        // The places of the others are used again.
        let places = (roster.queues.len(), roster.kinds.len());
        add_task(&mut roster, "new", "new");
        add_task(&mut roster, "newer", "newer");
        assert_eq!((roster.queues.len(), roster.kinds.len()), places);
    }
}
