//! Traces of tasks that schedules create. A client can send a trace with the tasks that it creates. The task of a
//! tick has no client, so its trace begins here, before its record is written.

use std::{fmt, sync::Arc};

use rota_core::{Event, Happened, Mutation, TaskId, TaskSpec, Trace};
use rustc_hash::FxHashSet;

/// Called when a task is durable.
type WhenDurable = Box<dyn FnOnce() + Send>;

/// Begins a trace for each task that a schedule creates.
pub trait TickTraces: fmt::Debug + Send + Sync {
    /// Begins the trace of a new task. `None` if the task gets none.
    ///
    /// The closure is called when the task is durable. If that fails, it is dropped without a call, and another
    /// leader decides the tick again.
    fn begin(&self, task: &TaskSpec) -> Option<(Trace, WhenDurable)>;
}

/// Begins traces for the tasks that schedules create in a step. The result is for when the step is durable.
pub(crate) fn begin(
    traces: Option<&Arc<dyn TickTraces>>,
    mutations: &mut [Mutation],
    events: &[Event],
) -> Vec<WhenDurable> {
    let Some(traces) = traces else { return Vec::new() };
    let mut created: Option<FxHashSet<TaskId>> = None;
    let mut releases = Vec::new();
    for mutation in mutations {
        let Mutation::PutSpec(spec) = mutation else { continue };
        if spec.tick.is_none() || spec.definition.trace.is_some() {
            continue;
        }
        // A change of an older task is written in the same way.
        let created = created.get_or_insert_with(|| {
            let submitted = events.iter().filter(|event| event.what == Happened::Submitted);
            submitted.map(|event| event.task).collect()
        });
        if created.contains(&spec.id)
            && let Some((trace, release)) = traces.begin(spec)
        {
            Arc::make_mut(spec).definition.trace = Some(Box::new(trace));
            releases.push(release);
        }
    }
    releases
}
