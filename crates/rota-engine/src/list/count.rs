//! Counts of tasks. Numbers of live tasks come from the counters of queues if the filter allows it, and from the
//! machine otherwise. Ended tasks are examined in the store, up to the bounds of a list.

use std::time::Duration;

use rota_core::{LiveCounts, LiveFilter, Status};

use super::{
    bounds::{Bounds, ENDED_MAX},
    ended::EndedWalk,
    part::live_filter,
};
use crate::{
    api::{EngineError, TaskFilter, TimeRange},
    engine::Engine,
};

/// Maximum number of live tasks to examine in one call, which takes the machine about 10 ms.
const LIVE_LOOKED_AT_MAX: u64 = 200_000;
/// Number of tasks to read with their definitions at a time.
const PAGE: usize = 1000;

/// The number of tasks that match a filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskCount {
    pub count: u64,
    /// Whether more may match, because the call ended before it had examined all.
    pub at_least: bool,
    /// Number of tasks that were examined. Counters need none.
    pub examined: u64,
}

impl TaskCount {
    fn exactly(count: u64) -> Self {
        Self { count, ..Self::default() }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            at_least: self.at_least || other.at_least,
            examined: self.examined + other.examined,
        }
    }
}

impl Engine {
    /// Counts the tasks that match a filter, within this time. A task that ends meanwhile can count twice.
    ///
    /// # Errors
    /// When the engine or the store does not answer.
    pub async fn count(
        &self,
        filter: &TaskFilter,
        time: Duration,
    ) -> Result<TaskCount, EngineError> {
        let mut bounds = Bounds::new(time);
        let live = live_filter(filter);
        if needs_views(filter, live.as_ref()) {
            return self.count_views(filter, &mut bounds).await;
        }
        let live = match live {
            Some(live) => self.count_live(filter, live, &bounds).await?,
            None => Some(TaskCount::default()),
        };
        match live {
            Some(live) => Ok(live.plus(self.count_ended(filter, &mut bounds).await?)),
            None => self.count_views(filter, &mut bounds).await,
        }
    }

    /// Counts live tasks. `None` if the machine cannot answer now, because a commit takes long.
    async fn count_live(
        &self,
        filter: &TaskFilter,
        live: LiveFilter,
        bounds: &Bounds,
    ) -> Result<Option<TaskCount>, EngineError> {
        if self.inner.shared.is_full() {
            return Ok(None);
        }
        if is_counted(filter, &live) {
            let queue = live.queue.clone();
            let counts = self.try_query(move |machine| machine.live_counts(queue.as_ref())).await?;
            return Ok(counts.map(|counts| TaskCount::exactly(sum(counts, &live.statuses))));
        }
        let (mut total, mut before) = (TaskCount::default(), None);
        loop {
            let wanted = live.clone();
            let part = self.try_query(move |machine| machine.count_part(&wanted, before)).await?;
            let Some(part) = part else { return Ok(None) };
            total.count += part.count;
            total.examined += part.examined;
            before = part.down_to;
            if before.is_none() {
                return Ok(Some(total));
            }
            if total.examined >= LIVE_LOOKED_AT_MAX || bounds.is_late() {
                return Ok(Some(TaskCount { at_least: true, ..total }));
            }
        }
    }

    /// Counts ended tasks, by their records alone.
    async fn count_ended(
        &self,
        filter: &TaskFilter,
        bounds: &mut Bounds,
    ) -> Result<TaskCount, EngineError> {
        let mut walk = EndedWalk::open(self, filter, None, None).await?;
        let mut count = 0;
        while walk.peek(bounds).await?.is_some() {
            walk.take();
            count += 1;
        }
        let at_least = walk.is_cut();
        Ok(TaskCount { count, at_least, examined: walk.examined().len() as u64 })
    }

    /// Counts tasks whose definitions or attempts must be read.
    async fn count_views(
        &self,
        filter: &TaskFilter,
        bounds: &mut Bounds,
    ) -> Result<TaskCount, EngineError> {
        let (mut total, mut after) = (TaskCount::default(), None);
        loop {
            let page = self.list_bounded(bounds, filter, PAGE, after).await?;
            total.count += page.tasks.len() as u64;
            total.examined += page.examined as u64;
            after = page.next;
            if bounds.is_over() || total.examined >= ENDED_MAX as u64 || after.is_none() {
                return Ok(TaskCount { at_least: after.is_some(), ..total });
            }
        }
    }
}

/// Whether the records of tasks do not suffice for the filter.
fn needs_views(filter: &TaskFilter, live: Option<&LiveFilter>) -> bool {
    filter.created != TimeRange::default()
        || !filter.labels.is_empty()
        || filter.schedule.is_some()
        || filter.search.is_some()
        || live.is_some() && (filter.error.is_some() || filter.worker.is_some())
}

/// Whether the counters of queues suffice for the live tasks of the filter. They do not tell assigned from running
/// tasks.
fn is_counted(filter: &TaskFilter, live: &LiveFilter) -> bool {
    let has = |status| live.statuses.contains(&status);
    let names_both_or_none = has(Status::Assigned) == has(Status::Running);
    names_both_or_none
        && filter.kind.is_none()
        && filter.priorities.is_empty()
        && filter.run_at == TimeRange::default()
}

/// The number of tasks with these statuses. None means any.
fn sum(counts: LiveCounts, statuses: &[Status]) -> u64 {
    let is_wanted = |status| statuses.is_empty() || statuses.contains(&status);
    let of = |status, count| if is_wanted(status) { count } else { 0 };
    of(Status::Scheduled, counts.scheduled)
        + of(Status::Pending, counts.pending)
        + of(Status::Running, counts.leased)
}
