//! Pages of live tasks, newest first. A page looks at a bounded number of tasks, so a list holds up
//! the machine's other work for no longer than that.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{LiveTask, LiveView, Machine, TaskIndex};
use crate::{Name, Status, TaskId, WallTime};

/// Live tasks that one page looks at.
const LOOKED_AT_MAX: usize = 10_000;
/// Tasks looked at one by one to say how many go before a task of a page.
const COUNTED_EXACTLY: usize = 64;

/// Which live tasks a page shows. All that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveFilter {
    /// In one of these states; empty means any.
    pub statuses: Vec<Status>,
    /// In this queue.
    pub queue: Option<Name>,
    /// Of this kind.
    pub kind: Option<Name>,
    /// Due at or after.
    pub run_at_from: Option<WallTime>,
    /// Due before.
    pub run_at_to: Option<WallTime>,
}

impl LiveFilter {
    /// Whether it selects a task of this state, queue and kind that is due then.
    #[must_use]
    pub fn selects(&self, status: Status, queue: &Name, kind: &Name, run_at: WallTime) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && self.queue.as_ref().is_none_or(|wanted| wanted == queue)
            && self.kind.as_ref().is_none_or(|wanted| wanted == kind)
            && self.run_at_from.is_none_or(|from| from <= run_at)
            && self.run_at_to.is_none_or(|to| run_at < to)
    }
}

/// A page of live tasks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LivePage {
    /// Newest first.
    pub tasks: Vec<LiveView>,
    /// The oldest task that was looked at, where older ones may follow.
    pub down_to: Option<TaskId>,
}

impl Machine {
    /// Up to `limit` live tasks that the filter selects and that are older than `before`. May be fewer
    /// although more follow.
    #[must_use]
    pub fn live_page(&self, filter: &LiveFilter, before: Option<TaskId>, limit: usize) -> LivePage {
        let leased = |status: &Status| status.is_leased();
        let (found, down_to) = if !filter.statuses.is_empty() && filter.statuses.iter().all(leased)
        {
            self.leased_page(filter, before, limit)
        } else {
            self.walked_page(filter, before, limit)
        };
        let tasks = found.into_iter().map(|index| self.view(index, COUNTED_EXACTLY));
        LivePage { tasks: tasks.collect(), down_to }
    }

    /// Leased tasks are few beside those that wait, so they are looked through instead of all.
    fn leased_page(
        &self,
        filter: &LiveFilter,
        before: Option<TaskId>,
        limit: usize,
    ) -> (Vec<TaskIndex>, Option<TaskId>) {
        // The newest so far, the oldest of them first.
        let mut newest = BinaryHeap::new();
        let mut more = false;
        for index in self.leases.keys() {
            let task = self.live.at(*index);
            if before.is_some_and(|before| task.id >= before) || !self.selects(filter, task) {
                continue;
            }
            newest.push(Reverse((task.id, *index)));
            if newest.len() > limit {
                newest.pop();
                more = true;
            }
        }
        let found: Vec<_> = newest.into_sorted_vec();
        let down_to = found.last().filter(|_| more).map(|Reverse((id, _))| *id);
        (found.into_iter().map(|Reverse((_, index))| index).collect(), down_to)
    }

    fn walked_page(
        &self,
        filter: &LiveFilter,
        before: Option<TaskId>,
        limit: usize,
    ) -> (Vec<TaskIndex>, Option<TaskId>) {
        let mut found = Vec::new();
        let mut last = None;
        for (looked_at, (id, index)) in self.live.below(before).enumerate() {
            if found.len() >= limit || looked_at >= LOOKED_AT_MAX {
                return (found, last);
            }
            last = Some(id);
            if self.selects(filter, self.live.at(index)) {
                found.push(index);
            }
        }
        (found, None)
    }

    fn selects(&self, filter: &LiveFilter, task: &LiveTask) -> bool {
        let lane = &self.roster.lanes[task.lane].name;
        filter.selects(task.status, &lane.queue, &lane.kind, task.run_at)
    }
}
