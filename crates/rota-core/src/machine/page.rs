//! Pages of live tasks, newest first. A page examines a bounded number of tasks, so a list delays other work
//! of the machine only for a bounded time.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{LiveTask, LiveView, Machine, TaskIndex};
use crate::{Name, Priority, Status, TaskId, WallTime};

/// Maximum number of live tasks that one page examines.
pub(super) const LOOKED_AT_MAX: usize = 10_000;
/// Number of lane entries that are checked to count the tasks ahead of a task on a page.
const COUNTED_EXACTLY: usize = 64;

/// Whether a task with this status has had an attempt, and now waits for another.
pub(super) fn is_tried(status: Status, attempt: u32) -> bool {
    attempt > 0 && !status.is_leased()
}

/// A filter of live tasks. All set fields must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveFilter {
    /// Statuses. Empty means any.
    pub statuses: Vec<Status>,
    pub queue: Option<Name>,
    pub kind: Option<Name>,
    /// Due at this time or later.
    pub run_at_from: Option<WallTime>,
    /// Due before this time.
    pub run_at_to: Option<WallTime>,
    /// Only tasks that wait for another attempt.
    pub only_tried: bool,
    /// Priorities. Empty means any.
    pub priorities: Vec<Priority>,
    /// The worker that holds the task. A task that nobody holds matches if it had an attempt, because only the
    /// record of that attempt names its worker.
    pub worker: Option<Name>,
}

impl LiveFilter {
    /// Whether it matches a task.
    #[must_use]
    pub fn selects_view(&self, view: &LiveView) -> bool {
        let holder = view.lease.as_ref().map(|lease| &lease.worker);
        (!self.only_tried || is_tried(view.status, view.attempt))
            && self.selects(view.status, &view.queue, &view.kind, view.run_at)
            && self.selects_run(view.priority, holder, view.attempt)
    }

    /// Whether it matches a task with this status, queue, kind and due time, apart from its attempts.
    #[must_use]
    pub fn selects(&self, status: Status, queue: &Name, kind: &Name, run_at: WallTime) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&status))
            && self.queue.as_ref().is_none_or(|wanted| wanted == queue)
            && self.kind.as_ref().is_none_or(|wanted| wanted == kind)
            && self.run_at_from.is_none_or(|from| from <= run_at)
            && self.run_at_to.is_none_or(|to| run_at < to)
    }

    /// Whether it matches a task with this priority, this holder and this number of attempts.
    #[must_use]
    pub fn selects_run(&self, priority: Priority, holder: Option<&Name>, attempt: u32) -> bool {
        let of_worker = |wanted: &Name| holder.map_or(attempt > 0, |holder| holder == wanted);
        (self.priorities.is_empty() || self.priorities.contains(&priority))
            && self.worker.as_ref().is_none_or(of_worker)
    }
}

/// A page of live tasks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LivePage {
    /// Newest first.
    pub tasks: Vec<LiveView>,
    /// The examined tasks, newest first.
    pub examined: Vec<TaskId>,
    /// The oldest examined task, if older ones may follow.
    pub down_to: Option<TaskId>,
}

impl Machine {
    /// Up to `limit` live tasks that match the filter and are older than `before`. Can be fewer even if more
    /// follow.
    #[must_use]
    pub fn live_page(&self, filter: &LiveFilter, before: Option<TaskId>, limit: usize) -> LivePage {
        let leased = |status: &Status| status.is_leased();
        let found = if !filter.statuses.is_empty() && filter.statuses.iter().all(leased) {
            self.leased_page(filter, before, limit)
        } else {
            self.walked_page(filter, before, limit)
        };
        let tasks = found.tasks.iter().map(|index| self.view(*index, COUNTED_EXACTLY));
        LivePage { tasks: tasks.collect(), examined: found.examined, down_to: found.down_to }
    }

    /// Examines only leased tasks, which are few compared with waiting ones.
    fn leased_page(&self, filter: &LiveFilter, before: Option<TaskId>, limit: usize) -> Selection {
        // The newest tasks so far, oldest first.
        let mut newest = BinaryHeap::new();
        let (mut examined, mut more) = (Vec::new(), false);
        for index in self.leases.keys() {
            let task = self.live.at(*index);
            if before.is_some_and(|before| task.id >= before) {
                continue;
            }
            examined.push(task.id);
            if !self.selects(filter, *index, task) {
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
        // Older ones are examined again for the next page.
        examined.retain(|id| down_to <= Some(*id));
        examined.sort_unstable_by(|one, other| other.cmp(one));
        let tasks = found.into_iter().map(|Reverse((_, index))| index).collect();
        Selection { tasks, examined, down_to }
    }

    fn walked_page(&self, filter: &LiveFilter, before: Option<TaskId>, limit: usize) -> Selection {
        let mut found = Selection::default();
        let mut last = None;
        for (id, index) in self.live.below(before) {
            if found.tasks.len() >= limit || found.examined.len() >= LOOKED_AT_MAX {
                found.down_to = last;
                return found;
            }
            last = Some(id);
            found.examined.push(id);
            if self.selects(filter, index, self.live.at(index)) {
                found.tasks.push(index);
            }
        }
        found
    }

    pub(super) fn selects(&self, filter: &LiveFilter, index: TaskIndex, task: &LiveTask) -> bool {
        if filter.only_tried && !is_tried(task.status, task.attempt) {
            return false;
        }
        let lane = &self.roster.lanes[task.lane].name;
        let holder = || {
            let lease = self.leases.get(&index).filter(|_| filter.worker.is_some())?;
            Some(&self.sessions.at(lease.session).worker)
        };
        filter.selects(task.status, &lane.queue, &lane.kind, task.run_at)
            && filter.selects_run(task.priority, holder(), task.attempt)
    }
}

/// The tasks of a page, as in [`LivePage`].
#[derive(Debug, Default)]
struct Selection {
    tasks: Vec<TaskIndex>,
    examined: Vec<TaskId>,
    down_to: Option<TaskId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_selects_what_satisfies_all_that_is_set() {
        let name = |text| Name::new(text).unwrap();
        let any = LiveFilter::default();
        let states =
            |statuses: &[Status]| LiveFilter { statuses: statuses.to_vec(), ..any.clone() };
        let from = |at| LiveFilter { run_at_from: Some(WallTime(at)), ..any.clone() };
        let to = |at| LiveFilter { run_at_to: Some(WallTime(at)), ..any.clone() };
        let queue = |text| LiveFilter { queue: Some(name(text)), ..any.clone() };
        let kind = |text| LiveFilter { kind: Some(name(text)), ..any.clone() };
        let all = LiveFilter {
            statuses: vec![Status::Pending],
            queue: Some(name("q")),
            kind: Some(name("k")),
            run_at_from: Some(WallTime(100)),
            run_at_to: Some(WallTime(101)),
            ..any.clone()
        };
        for (filter, selects) in [
            (any.clone(), true),
            (states(&[Status::Pending]), true),
            (states(&[Status::Scheduled, Status::Pending]), true),
            (states(&[Status::Scheduled]), false),
            (queue("q"), true),
            (queue("k"), false),
            (kind("k"), true),
            (kind("q"), false),
            (from(99), true),
            (from(100), true),
            (from(101), false),
            (to(101), true),
            (to(100), false),
            (to(99), false),
            (all.clone(), true),
            (LiveFilter { statuses: vec![Status::Running], ..all.clone() }, false),
            (LiveFilter { queue: Some(name("other")), ..all.clone() }, false),
            (LiveFilter { kind: Some(name("other")), ..all.clone() }, false),
            (LiveFilter { run_at_from: Some(WallTime(101)), ..all.clone() }, false),
            (LiveFilter { run_at_to: Some(WallTime(100)), ..all }, false),
        ] {
            let is_selected =
                filter.selects(Status::Pending, &name("q"), &name("k"), WallTime(100));
            assert_eq!(is_selected, selects, "{filter:?}");
        }
    }

    #[test]
    fn a_filter_by_worker_leaves_open_who_ran_an_attempt_that_has_ended() {
        let (mine, other) = (Name::new("mine").unwrap(), Name::new("other").unwrap());
        let normal = Priority::default();
        let any = LiveFilter::default();
        let of_worker = LiveFilter { worker: Some(mine.clone()), ..any.clone() };
        let urgent = LiveFilter { priorities: vec![Priority::MAX, normal], ..any.clone() };
        for (filter, priority, holder, attempt, selects) in [
            (&any, normal, None, 0, true),
            (&of_worker, normal, Some(&mine), 1, true),
            (&of_worker, normal, Some(&other), 1, false),
            (&of_worker, normal, None, 0, false),
            (&of_worker, normal, None, 1, true),
            (&urgent, normal, None, 0, true),
            (&urgent, Priority::MAX, Some(&other), 1, true),
            (&urgent, Priority::new(1).unwrap(), None, 0, false),
        ] {
            let is_selected = filter.selects_run(priority, holder, attempt);
            assert_eq!(is_selected, selects, "{filter:?} {holder:?} {attempt}");
        }
    }
}
