//! Room for new names: queues, kinds and lanes that nothing needs any more are dropped.
//!
//! They are kept while they are few, so that a queue's totals and its place in lists stay. They are
//! looked through only when enough has changed since the last time to make that worth it.

use rustc_hash::FxHashSet;

use super::{index::LaneIndex, roster::Roster};
use crate::{Millis, MonoTime};

/// Lanes without tasks that are kept, beyond as many as have some.
const IDLE_LANES_MAX: usize = 1024;
/// Names are looked through at once when one in so many of the limit may have become free.
const WORTHWHILE: usize = 64;
/// When fewer may have, names are looked through at most this often: it takes time in proportion to
/// their number, and whoever asks for new names must not be able to cause it without end.
const SWEEP_PAUSE: Millis = Millis::from_secs(1);

impl Roster {
    /// A task lives in the lane from now on.
    pub(super) fn add_task(&mut self, lane: LaneIndex) {
        let tasks = &mut self.lanes[lane].tasks;
        self.idle_lanes -= usize::from(*tasks == 0);
        *tasks += 1;
    }

    /// A task of the lane has ended.
    pub(super) fn drop_task(&mut self, lane: LaneIndex) {
        let tasks = &mut self.lanes[lane].tasks;
        *tasks -= 1;
        if *tasks == 0 {
            self.idle_lanes += 1;
            self.loosened += 1;
            let busy = self.lane_index.len() - self.idle_lanes;
            if self.idle_lanes > busy + IDLE_LANES_MAX {
                self.sweep_lanes();
            }
        }
    }

    /// Drops names that nothing needs, if there may be any. `limit` is that of the names for which
    /// there is no room.
    pub(super) fn make_room(&mut self, limit: u32, now: MonoTime) {
        let many = self.loosened > limit as usize / WORTHWHILE;
        let rested = self.swept_at.is_none_or(|swept| now.since(swept) >= SWEEP_PAUSE);
        if self.loosened == 0 || !(many || rested) {
            return;
        }
        self.loosened = 0;
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
