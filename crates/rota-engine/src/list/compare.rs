//! Compares the tasks of a part with a filter: reads their definitions, and makes the views of those that match.

use std::sync::Arc;

use bytes::Bytes;
use rota_core::{AttemptRecord, LiveView, TaskId, TaskSpec};
use rustc_hash::FxHashMap;

use super::{bounds::Bounds, part::State};
use crate::{
    api::{EngineError, TaskFilter, TaskRef, TaskView},
    engine::{Engine, Inner},
    records::{Attempt, Found},
    specs::PORTION,
    view::{done_view, live_view},
};

/// Number of definitions to read before the bounds of the call are checked.
const ROUND: usize = 4 * PORTION;

impl Engine {
    /// Adds the tasks that match to `matched`, until it has `most` or the bounds of the call are reached. Returns
    /// how many tasks were compared, at least one if there are any.
    pub(super) async fn add_matching(
        &self,
        filter: &TaskFilter,
        states: Vec<State>,
        most: usize,
        matched: &mut Vec<TaskView>,
        bounds: &mut Bounds,
    ) -> Result<usize, EngineError> {
        let (mut compared, mut states) = (0, states.into_iter());
        // If each matches, a page needs no more than it has room for.
        while matched.len() < most && !(compared > 0 && bounds.is_read_out()) {
            let round = ROUND.min((most - matched.len()).max(PORTION));
            let round: Vec<_> = states.by_ref().take(round).collect();
            if round.is_empty() {
                break;
            }
            for view in self.compare_round(filter, round, bounds).await? {
                compared += 1;
                matched.extend(view);
                if matched.len() >= most {
                    break;
                }
            }
        }
        Ok(compared)
    }

    /// The task whose id the filter searches for, if it matches. It is found whatever its age.
    pub(super) async fn task_named_by(
        &self,
        filter: &TaskFilter,
    ) -> Result<Option<TaskView>, EngineError> {
        let Some(named) = named_by(filter) else { return Ok(None) };
        match self.task(&named).await {
            Ok(view) => {
                let view = view.filter(|view| filter.selects(view));
                Ok(view.map(|view| TaskView { spec: bare(&view.spec), ..view }))
            }
            // A list shows the others.
            Err(EngineError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// For each task its view if it matches, in the same order. A task that was deleted meanwhile has none.
    async fn compare_round(
        &self,
        filter: &TaskFilter,
        states: Vec<State>,
        bounds: &mut Bounds,
    ) -> Result<Vec<Option<TaskView>>, EngineError> {
        let ids: Vec<TaskId> = states.iter().map(State::id).collect();
        let Inner { store, shared, .. } = self.inner.as_ref();
        let search = filter.search.as_ref();
        let look = |spec: &TaskSpec| search.is_none_or(|search| search.is_in_spec(spec));
        let specs = shared.specs.looked_at(store.as_ref(), &ids, &look).await?;
        bounds.spend(specs.iter().map(|looked_at| looked_at.bytes).sum());
        let live = states.iter().filter_map(|state| match state {
            State::Live(view) => Some(view.as_ref()),
            State::Ended(_) => None,
        });
        let mut failures = self.last_failures(live).await?;
        let named = named_by(filter);
        let mut views = Vec::with_capacity(states.len());
        for (state, looked_at) in states.into_iter().zip(specs) {
            let last = failures.remove(&state.id());
            let has_text = looked_at.matches
                || search.is_none_or(|search| {
                    let failure = last.as_ref().and_then(|last| last.failure.as_ref());
                    state.contains(search) || search.is_in_failure(failure)
                });
            let (spec, is_readable) = match looked_at.found {
                Found::Record(spec) => (spec, true),
                Found::Missing => {
                    views.push(None);
                    continue;
                }
                // It is still shown, so that somebody can find and delete it.
                Found::Damaged(_) | Found::Newer(_) => (Arc::new(state.known()), false),
            };
            let view = match state {
                State::Ended(done) => done_view(spec, &done),
                State::Live(view) => live_view(spec, *view, last),
            };
            // The first page began with it.
            let was_shown = is_readable && named.as_ref().is_some_and(|named| names(named, &view));
            let matches = has_text && !was_shown && filter.selects_view(&view);
            views.push(matches.then_some(TaskView { is_readable, ..view }));
        }
        Ok(views)
    }

    /// The last attempts of tasks that wait for another attempt, without output, which can be large.
    pub(super) async fn last_failures(
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

/// The task whose id the text to search for is, if there is such a task.
fn named_by(filter: &TaskFilter) -> Option<TaskRef> {
    filter.search.as_ref()?.as_str().parse().ok()
}

fn names(named: &TaskRef, view: &TaskView) -> bool {
    match named {
        TaskRef::Id(id) => *id == view.spec.id,
        TaskRef::Named(name) => view.spec.client_keys.id.as_ref() == Some(name),
    }
}

/// The definition without its payload.
fn bare(spec: &TaskSpec) -> Arc<TaskSpec> {
    let mut spec = spec.clone();
    spec.definition.payload = Bytes::new();
    Arc::new(spec)
}
