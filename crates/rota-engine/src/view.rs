//! Builds the view of a task from its definition and its state.

use std::sync::Arc;

use rota_core::{AttemptRecord, DoneRecord, LiveView, TaskSpec};

use crate::api::TaskView;

/// The view of a live task. `last` is its last ended attempt.
pub(crate) fn live_view(
    mut spec: Arc<TaskSpec>,
    live: LiveView,
    last: Option<AttemptRecord>,
) -> TaskView {
    if spec.definition.expires_at != live.expires_at {
        Arc::make_mut(&mut spec).definition.expires_at = live.expires_at;
    }
    let (worker, token, started_at) = match (&live.lease, &last) {
        (Some(lease), _) => (Some(lease.worker.clone()), Some(lease.token), lease.started_at),
        (None, Some(last)) => (Some(last.worker.clone()), Some(last.token), last.started_at),
        (None, None) => (None, None, None),
    };
    TaskView {
        spec,
        is_readable: true,
        status: live.status,
        priority: live.priority,
        run_at: live.run_at,
        attempt: live.attempt,
        lost: live.lost,
        failures: live.failures,
        snoozes: live.snoozes,
        edits: live.edits,
        worker,
        lease_token: token,
        started_at,
        finished_at: None,
        failure: last.and_then(|last| last.failure),
        waiting: live.waiting,
        cancel_requested: live.cancel_requested,
        progress: live.lease.and_then(|lease| lease.progress),
        has_result: false,
    }
}

/// The view of an ended task.
pub(crate) fn done_view(spec: Arc<TaskSpec>, done: &DoneRecord) -> TaskView {
    let last = done.last.as_ref();
    TaskView {
        spec,
        is_readable: true,
        status: done.status,
        priority: done.priority,
        run_at: done.run_at,
        attempt: done.attempt,
        lost: done.lost,
        failures: done.failures,
        snoozes: done.snoozes,
        edits: done.edits,
        worker: last.map(|last| last.worker.clone()),
        lease_token: last.map(|last| last.token),
        started_at: last.and_then(|last| last.started_at),
        finished_at: Some(done.finished_at),
        failure: done.failure.clone(),
        waiting: None,
        cancel_requested: false,
        progress: None,
        has_result: done.has_result,
    }
}
