//! Counts of live tasks: from the counters of queues, or part by part where a filter selects among the tasks of a
//! queue.

use super::{LiveFilter, Machine, TaskIndex, page::LOOKED_AT_MAX};
use crate::{Name, TaskId};

/// Numbers of live tasks by status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveCounts {
    /// Tasks that wait for their time.
    pub scheduled: u64,
    /// Tasks that wait for a worker.
    pub pending: u64,
    /// Tasks that are assigned or running.
    pub leased: u64,
}

/// A part of a count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CountPart {
    /// Number of tasks that match.
    pub count: u64,
    /// Number of tasks that were examined.
    pub examined: u64,
    /// The oldest examined task, if older ones may follow.
    pub down_to: Option<TaskId>,
}

impl Machine {
    /// Numbers of live tasks in a queue, or in all. The cost does not depend on the number of tasks.
    #[must_use]
    pub fn live_counts(&self, queue: Option<&Name>) -> LiveCounts {
        let mut counts = LiveCounts::default();
        let wanted = queue.map(|name| self.roster.find_queue(name));
        let all = self.roster.queue_index.values().copied().map(Some);
        let indices: Vec<_> = wanted.map_or_else(|| all.collect(), |index| vec![index]);
        for index in indices.into_iter().flatten() {
            let queue = &self.roster.queues[index];
            counts.scheduled += queue.scheduled;
            counts.pending += queue.pending;
            counts.leased += queue.leased;
        }
        counts
    }

    /// Counts the live tasks that match the filter and are older than `before`, among a bounded number of them.
    #[must_use]
    pub fn count_part(&self, filter: &LiveFilter, before: Option<TaskId>) -> CountPart {
        let mut part = CountPart::default();
        let is_leased =
            !filter.statuses.is_empty() && filter.statuses.iter().all(|it| it.is_leased());
        if is_leased && before.is_none() {
            // They are few compared with waiting tasks.
            let is_wanted =
                |index: &&TaskIndex| self.selects(filter, **index, self.live.at(**index));
            part.count = self.leases.keys().filter(is_wanted).count() as u64;
            part.examined = self.leases.len() as u64;
            return part;
        }
        let mut last = None;
        for (looked_at, (id, index)) in self.live.below(before).enumerate() {
            if looked_at >= LOOKED_AT_MAX {
                part.down_to = last;
                return part;
            }
            last = Some(id);
            part.examined += 1;
            part.count += u64::from(self.selects(filter, index, self.live.at(index)));
        }
        part
    }
}
