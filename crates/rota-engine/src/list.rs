//! Lists of tasks, newest first. `bulk` has actions on many tasks, `count` has counts, and `failures` groups of
//! failed tasks.
//!
//! Live tasks come from the machine, page by page, so the cost of listing running tasks does not depend on
//! the number of waiting ones. Ended tasks come from the store. Both are merged by id. A call examines a
//! bounded number of tasks for a bounded time. If a filter matches few tasks, a page is short and has a
//! cursor. Pages have no payloads.

mod bulk;
mod count;
mod ended;
mod failures;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::{
    AttemptRecord, Definition, DoneRecord, LiveFilter, LivePage, LiveView, Name, Policy, Status,
    TaskId, TaskSpec,
};
use rota_store::{Direction, KeyRange};
use rustc_hash::FxHashMap;
use tokio::time::Instant;

use self::ended::EndedWalk;
use crate::{
    api::{Cursor, EngineError, TaskFilter, TaskPage, TaskView, has_error},
    engine::{Engine, Inner},
    layout,
    planted::Planted,
    records::{Attempt, Entry, Found, Live, Scan},
    specs::PORTION,
    view::{done_view, live_view},
};

pub use self::{
    count::TaskCount,
    failures::{FailureFilter, FailureGroup, FailureList, FailureState},
};

/// Number of live tasks to take from the machine at a time, because a read blocks its loop.
const LIVE_PAGE: usize = 256;
/// Maximum number of ended tasks to examine in one call.
const LOOKED_AT_MAX: usize = 20_000;
/// Time after which a call ends with the tasks that it has found.
const TIME_MAX: Duration = Duration::from_secs(2);

/// What is left of the bounds of a call.
struct Bounds {
    /// Number of ended tasks that it can examine.
    budget: usize,
    until: Instant,
    /// Number of tasks that it has examined.
    examined: u64,
}

impl Bounds {
    fn new(time: Duration) -> Self {
        Self { budget: LOOKED_AT_MAX, until: Instant::now() + time, examined: 0 }
    }

    fn are_reached(&self) -> bool {
        self.budget == 0 || Instant::now() >= self.until
    }
}

/// The state of a task, from the machine or from the store.
enum State {
    Live(Box<LiveView>),
    Ended(Box<DoneRecord>),
}

impl State {
    fn id(&self) -> TaskId {
        match self {
            Self::Live(view) => view.id,
            Self::Ended(record) => record.id,
        }
    }

    fn client_id(&self) -> Option<&Name> {
        match self {
            Self::Live(view) => view.client_keys.id.as_ref(),
            Self::Ended(record) => record.client_keys.id.as_ref(),
        }
    }

    /// A replacement for a definition that cannot be read, from the state of the task.
    fn known(&self) -> TaskSpec {
        let (id, queue, kind, policy, client_keys) = match self {
            Self::Live(view) => (view.id, &view.queue, &view.kind, view.policy, &view.client_keys),
            Self::Ended(done) => {
                (done.id, &done.queue, &done.kind, Policy::default(), &done.client_keys)
            }
        };
        let definition = Definition { policy, ..Definition::new(queue.clone(), kind.clone()) };
        TaskSpec {
            client_keys: client_keys.clone(),
            ..TaskSpec::new(id, definition, id.created_at())
        }
    }
}

/// Part of a list, newest first.
struct Part {
    states: Vec<State>,
    /// The oldest examined task. `None` if no older ones follow.
    down_to: Option<TaskId>,
}

impl Engine {
    /// Tasks, newest first, without payloads. `page_size` is at least 1.
    ///
    /// # Errors
    /// When the engine or the store does not answer.
    pub async fn list(
        &self,
        filter: &TaskFilter,
        page_size: usize,
        after: Option<Cursor>,
    ) -> Result<TaskPage, EngineError> {
        self.list_within(filter, page_size, after, &mut Bounds::new(TIME_MAX)).await
    }

    async fn list_within(
        &self,
        filter: &TaskFilter,
        page_size: usize,
        after: Option<Cursor>,
        bounds: &mut Bounds,
    ) -> Result<TaskPage, EngineError> {
        let mut page = TaskPage::default();
        let mut before = after.map(|cursor| cursor.before);
        let oldest = ended::oldest(filter);
        loop {
            let wanted = (page_size - page.tasks.len()).min(LIVE_PAGE);
            let before_part = bounds.budget;
            let mut part = self.part(filter, before, wanted, &mut bounds.budget).await?;
            let live = part.states.iter().filter(|state| matches!(state, State::Live(_))).count();
            bounds.examined += (live + before_part - bounds.budget) as u64;
            // Their definitions need not be read.
            part.states.retain(|state| filter.can_be_of_schedule(state.client_id()));
            let views = self.views(filter, part.states).await?;
            page.tasks.extend(views.into_iter().filter(|view| selects_view(filter, view)));
            before = part.down_to.filter(|down_to| oldest < Some(*down_to));
            page.next = before.map(|before| Cursor { before });
            if page.tasks.len() >= page_size || bounds.are_reached() || before.is_none() {
                return Ok(page);
            }
        }
    }

    /// Up to `wanted` tasks older than `before` that may match the filter, as far as their state tells.
    async fn part(
        &self,
        filter: &TaskFilter,
        before: Option<TaskId>,
        wanted: usize,
        budget: &mut usize,
    ) -> Result<Part, EngineError> {
        // Live tasks first: a task that ends meanwhile is in both sources, never in none.
        let live = self.live_part(filter, before, wanted).await?;
        let mut down_to = live.down_to;
        let mut live = VecDeque::from(live.tasks);
        if Planted::ListsLeaveOut.is_made_once_in(5) {
            live.pop_front();
        }
        let mut ended = EndedWalk::open(self, filter, before, down_to).await?;
        let mut states: Vec<State> = Vec::new();
        while states.len() < wanted {
            let next_live = live.front().map(|view| view.id);
            let next_ended = ended.peek(budget).await?;
            if next_ended.is_none() && *budget == 0 {
                // Where it stopped; older tasks are for the next page.
                let floor = ended.looked_at();
                let newer = live.iter().take_while(|view| floor < Some(view.id)).count();
                let fit = newer.min(wanted - states.len());
                states.extend(live.drain(..fit).map(Box::new).map(State::Live));
                let down_to = if fit < newer { states.last().map(State::id) } else { floor };
                return Ok(Part { states, down_to });
            }
            match (next_live, next_ended) {
                (None, None) => return Ok(Part { states, down_to }),
                (Some(live_id), ended_id) if ended_id < Some(live_id) => {
                    states.extend(live.pop_front().map(Box::new).map(State::Live));
                }
                (live_id, Some(ended_id)) => {
                    if live_id == Some(ended_id) {
                        live.pop_front();
                    }
                    states.extend(ended.take().map(Box::new).map(State::Ended));
                }
                (Some(_), None) => unreachable!("a live one is newer than none"),
            }
        }
        let more = down_to.is_some() || !live.is_empty() || ended.peek(budget).await?.is_some();
        // If the budget is used up, more may follow.
        if more || *budget == 0 {
            down_to = states.last().map(State::id);
        }
        Ok(Part { states, down_to })
    }

    async fn live_part(
        &self,
        filter: &TaskFilter,
        before: Option<TaskId>,
        wanted: usize,
    ) -> Result<LivePage, EngineError> {
        match live_filter(filter) {
            Some(live) => self.live_page(&live, before, wanted).await,
            None => Ok(LivePage::default()),
        }
    }

    async fn live_page(
        &self,
        live: &LiveFilter,
        before: Option<TaskId>,
        wanted: usize,
    ) -> Result<LivePage, EngineError> {
        // Then the answer of the machine waits for a commit. The store has everything that is durable.
        if !self.inner.shared.is_full() {
            let asked = live.clone();
            let page =
                self.try_query(move |machine| machine.live_page(&asked, before, wanted)).await?;
            if let Some(page) = page {
                return Ok(page);
            }
        }
        self.recorded_part(live, before, wanted).await
    }

    /// Views of live tasks from their records only.
    async fn recorded_part(
        &self,
        filter: &LiveFilter,
        before: Option<TaskId>,
        wanted: usize,
    ) -> Result<LivePage, EngineError> {
        let snapshot = self.inner.store.snapshot().await?;
        let end = before.map(layout::task);
        let range = KeyRange { space: layout::LIVE, start: Bytes::new(), end };
        let mut scan = Scan::<Live>::new(range, Direction::Descending, wanted);
        let page = scan.next(snapshot.as_ref()).await?.unwrap_or_default();
        let last = page.last().and_then(Entry::typed_key);
        let mut records = Vec::with_capacity(page.len());
        for entry in page.iter().rev() {
            let Some(id) = entry.typed_key() else { continue };
            records.extend(self.inner.shared.records.read(entry, &id).record());
        }
        let mut tasks = self.recorded(&records);
        tasks.retain(|view| filter.selects_view(view));
        tasks.reverse();
        Ok(LivePage { tasks, down_to: last.filter(|_| scan.has_more()) })
    }

    /// The views of these tasks, in the same order. Omits tasks that were deleted meanwhile, and live tasks whose error
    /// the filter does not select.
    async fn views(
        &self,
        filter: &TaskFilter,
        mut states: Vec<State>,
    ) -> Result<Vec<TaskView>, EngineError> {
        let live = states.iter().filter_map(|state| match state {
            State::Live(view) => Some(view.as_ref()),
            State::Ended(_) => None,
        });
        let mut failures = self.last_failures(live).await?;
        states.retain(|state| match state {
            State::Live(view) => {
                let last = failures.get(&view.id).and_then(|last| last.failure.as_ref());
                has_error(filter.error, &view.kind, last)
            }
            State::Ended(_) => true,
        });
        let ids: Vec<TaskId> = states.iter().map(State::id).collect();
        let Inner { store, shared, .. } = self.inner.as_ref();
        let specs = shared.specs.without_payloads(store.as_ref(), &ids).await?;
        let mut views = Vec::with_capacity(states.len());
        for (state, found) in states.into_iter().zip(specs) {
            let (spec, is_readable) = match found {
                Found::Record(spec) => (spec, true),
                Found::Missing => continue,
                // It is still shown, so that somebody can find and delete it.
                Found::Damaged(_) | Found::Newer(_) => (Arc::new(state.known()), false),
            };
            let view = match state {
                State::Ended(done) => done_view(spec, &done),
                State::Live(view) => {
                    let last = failures.remove(&view.id);
                    live_view(spec, *view, last)
                }
            };
            views.push(TaskView { is_readable, ..view });
        }
        Ok(views)
    }

    /// The last attempts of tasks that wait for another attempt, without output, which can be large.
    async fn last_failures(
        &self,
        views: impl Iterator<Item = &LiveView>,
    ) -> Result<FxHashMap<TaskId, AttemptRecord>, EngineError> {
        let tried = views.filter(|view| view.attempt > 0 && view.lease.is_none());
        let tried: Vec<_> = tried.map(|view| (view.id, view.attempt)).collect();
        let mut failures = FxHashMap::default();
        for portion in tried.chunks(PORTION) {
            let Inner { store, shared, .. } = self.inner.as_ref();
            let found = shared.records.many::<Attempt>(store.as_ref(), portion).await?;
            for ((id, _), found) in portion.iter().zip(found) {
                let record = found.record();
                failures
                    .extend(record.map(|record| {
                        (*id, AttemptRecord { output_tail: Bytes::new(), ..record })
                    }));
            }
        }
        Ok(failures)
    }
}

/// The filter of live tasks. `None` if the filter selects only ended tasks.
fn live_filter(filter: &TaskFilter) -> Option<LiveFilter> {
    let is_live = |status: &Status| !status.is_terminal();
    let statuses: Vec<_> = filter.statuses.iter().copied().filter(is_live).collect();
    if statuses.is_empty() && !filter.statuses.is_empty() {
        return None;
    }
    Some(LiveFilter {
        statuses,
        queue: filter.queue.clone(),
        kind: filter.kind.clone(),
        run_at_from: filter.run_at.from,
        run_at_to: filter.run_at.to,
        // A task shows the error of an attempt until the next one.
        only_tried: filter.error.is_some(),
    })
}

/// Checks the parts of a filter that need the definition.
fn selects_view(filter: &TaskFilter, view: &TaskView) -> bool {
    let of_schedule =
        |schedule: &Name| view.spec.tick.as_ref().is_some_and(|tick| tick.schedule == *schedule);
    filter.created.contains(view.spec.created_at)
        && filter.schedule.as_ref().is_none_or(of_schedule)
        && filter.labels.iter().all(|label| view.spec.definition.labels.contains(label))
}
