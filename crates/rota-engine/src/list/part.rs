//! Parts of a list: tasks that may match by their state alone, from the machine and from the store, merged by id.

use std::collections::VecDeque;

use bytes::Bytes;
use rota_core::{
    Definition, DoneRecord, LiveFilter, LivePage, LiveView, Name, Policy, Status, TaskId, TaskSpec,
};
use rota_store::{Direction, KeyRange};

use super::{bounds::Bounds, ended::EndedWalk};
use crate::{
    api::{EngineError, TaskFilter},
    engine::Engine,
    layout,
    planted::Planted,
    records::{Entry, Live, Scan},
    search::Search,
};

/// The state of a task, from the machine or from the store.
pub(super) enum State {
    Live(Box<LiveView>),
    Ended(Box<DoneRecord>),
}

impl State {
    pub(super) fn id(&self) -> TaskId {
        match self {
            Self::Live(view) => view.id,
            Self::Ended(record) => record.id,
        }
    }

    pub(super) fn client_id(&self) -> Option<&Name> {
        match self {
            Self::Live(view) => view.client_keys.id.as_ref(),
            Self::Ended(record) => record.client_keys.id.as_ref(),
        }
    }

    /// Whether an id, or an error in the record of its end, contains the text.
    pub(super) fn contains(&self, search: &Search) -> bool {
        match self {
            Self::Live(view) => search.is_in_ids(view.id, &view.client_keys),
            Self::Ended(done) => {
                let last = done.last.as_ref().and_then(|last| last.failure.as_ref());
                search.is_in_ids(done.id, &done.client_keys)
                    || search.is_in_failure(done.failure.as_ref())
                    || search.is_in_failure(last)
            }
        }
    }

    /// A replacement for a definition that cannot be read, from the state of the task.
    pub(super) fn known(&self) -> TaskSpec {
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
pub(super) struct Part {
    /// The tasks that may match.
    pub(super) states: Vec<State>,
    /// The oldest task that was taken into account. `None` if no older ones follow.
    pub(super) down_to: Option<TaskId>,
    /// The examined tasks of both sources, each newest first. They can go beyond `down_to`.
    examined: [Vec<TaskId>; 2],
}

impl Part {
    /// Number of examined tasks down to this one, or of all.
    pub(super) fn examined(&self, down_to: Option<TaskId>) -> usize {
        let newer = |ids: &Vec<TaskId>| ids.partition_point(|id| down_to <= Some(*id));
        self.examined.iter().map(newer).sum()
    }
}

impl Engine {
    /// Up to `wanted` tasks older than `before` that may match the filter, as far as their state tells.
    pub(super) async fn part(
        &self,
        filter: &TaskFilter,
        before: Option<TaskId>,
        wanted: usize,
        bounds: &mut Bounds,
    ) -> Result<Part, EngineError> {
        // Live tasks first: a task that ends meanwhile is in both sources, never in none.
        let LivePage { tasks, examined, mut down_to } =
            self.live_part(filter, before, wanted).await?;
        let mut live = VecDeque::from(tasks);
        if Planted::ListsLeaveOut.is_made_once_in(5) {
            live.pop_front();
        }
        let mut ended = EndedWalk::open(self, filter, before, down_to).await?;
        let mut states: Vec<State> = Vec::new();
        while states.len() < wanted {
            let next_live = live.front().map(|view| view.id);
            let next_ended = ended.peek(bounds).await?;
            if next_ended.is_none() && ended.is_cut() {
                // Where it stopped; older tasks are for the next page.
                let floor = ended.looked_at();
                let newer = live.iter().take_while(|view| floor < Some(view.id)).count();
                let fit = newer.min(wanted - states.len());
                states.extend(live.drain(..fit).map(Box::new).map(State::Live));
                let down_to = if fit < newer { states.last().map(State::id) } else { floor };
                return Ok(Part { states, down_to, examined: [examined, ended.examined()] });
            }
            match (next_live, next_ended) {
                (None, None) => {
                    return Ok(Part { states, down_to, examined: [examined, ended.examined()] });
                }
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
        let more = down_to.is_some() || !live.is_empty() || ended.peek(bounds).await?.is_some();
        // At the bounds of the call, more may follow.
        if more || ended.is_cut() {
            down_to = states.last().map(State::id);
        }
        Ok(Part { states, down_to, examined: [examined, ended.examined()] })
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

    /// Up to `wanted` live tasks older than `before` that may match.
    pub(super) async fn live_page(
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
        tasks.reverse();
        let examined = tasks.iter().map(|view| view.id).collect();
        tasks.retain(|view| filter.selects_view(view));
        Ok(LivePage { tasks, examined, down_to: last.filter(|_| scan.has_more()) })
    }
}

/// The filter of live tasks. `None` if the filter selects only ended tasks.
pub(super) fn live_filter(filter: &TaskFilter) -> Option<LiveFilter> {
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
        priorities: filter.priorities.clone(),
        worker: filter.worker.clone(),
        // A task shows the error of an attempt until the next one.
        only_tried: filter.error.is_some(),
    })
}
