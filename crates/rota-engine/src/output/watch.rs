//! The calls of the engine about the output of running tasks.

use std::time::Duration;

use rota_core::{LeaseId, LiveView, Refusal, SessionId, TaskId};

use super::{
    hub::{NoPlace, Running},
    listener::{Beginning, OutputListener},
    place::OutputPlace,
};
use crate::{
    api::{EngineError, TaskRef},
    engine::Engine,
};

/// Time after which a listener that found no place may try again.
const RETRY: Duration = Duration::from_secs(5);
/// Maximum number of earlier attempts that a listener is told of when it goes on.
const EARLIER_MAX: u32 = 10;

/// The output that a listener wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRequest {
    pub task: TaskRef,
    /// The place after which it goes on. `None`: the beginning of the last attempt.
    pub after: Option<OutputPlace>,
    /// Whether it wants later output, too.
    pub follow: bool,
    /// Bytes of output that are kept of each attempt. A shorter output is known to be whole.
    pub tail_bytes: usize,
}

impl Engine {
    /// Listens to the output of a task. It begins with the last attempt: what is kept of it, or what its worker has
    /// kept of it.
    ///
    /// # Errors
    /// When there is no such task, this node does not lead or does not answer in time, or has too many listeners.
    pub async fn watch_output(
        &self,
        request: OutputRequest,
    ) -> Result<OutputListener, EngineError> {
        let hub = &self.inner.shared.output;
        let task = self.resolve(&request.task).await?.ok_or(Refusal::UnknownTask)?;
        let mut seat = hub.open(task);
        if matches!(seat, Err(NoPlace::NotLeading)) {
            // A call waits for an election, unless another node is the leader.
            self.query(|_| ()).await?;
            seat = hub.open(task);
        }
        let seat = seat.map_err(|none| match none {
            NoPlace::NotLeading => EngineError::NotLeader,
            NoPlace::Full(name, limit) => EngineError::Overloaded {
                reason: format!(
                    "{limit} listeners receive output already, which is the limit ({name})"
                ),
                retry_after: RETRY,
            },
        })?;
        let mut listener = OutputListener::new(self.inner.clone(), seat);
        // After the seat is taken, so that no attempt in between is missed.
        listener.begin(self.beginning(task, &request).await?);
        Ok(listener)
    }

    async fn beginning(
        &self,
        task: TaskId,
        request: &OutputRequest,
    ) -> Result<Beginning, EngineError> {
        let (live, done) = self.state_of(task).await?.ok_or(Refusal::UnknownTask)?;
        let running = live.as_ref().and_then(running);
        let last = match (&live, &done, &running) {
            // Its output comes from the worker.
            (_, _, Some(running)) => running.attempt - 1,
            (Some(live), _, None) => live.attempt,
            (None, done, None) => done.as_ref().map_or(0, |done| done.attempt),
        };
        let newest = match (&live, &done) {
            (Some(live), _) => live.lease.as_ref().map(|lease| lease.token),
            (None, done) => done.as_ref().and_then(|done| Some(done.last.as_ref()?.token)),
        };
        // A place that is not of this task is ignored. Without a running attempt its lease is not known here.
        let after =
            request.after.filter(|after| newest.is_none_or(|newest| after.lease <= newest.0));
        let first = match (after, &running) {
            (Some(_), _) => last.saturating_sub(EARLIER_MAX - 1),
            (None, Some(running)) => running.attempt,
            (None, None) => last,
        };
        let begun = running.as_ref().map_or(0, |running| running.lease.token.0.saturating_sub(1));
        let place = after.unwrap_or(OutputPlace::after(begun));
        let is_running = running.as_ref().filter(|running| running.lease.token.0 == place.lease);
        let attempt = is_running.map_or(0, |running| running.attempt);
        if let Some(running) = running {
            self.inner.shared.output.found(running);
        }
        let ended = done.as_ref().map(|done| done.status);
        Ok(Beginning {
            place,
            attempt,
            earlier: first.max(1)..last.saturating_add(1),
            last: done.and_then(|done| done.last),
            ended,
            follow: request.follow,
            tail_bytes: request.tail_bytes,
        })
    }

    /// Whether somebody listens to the output of a task.
    #[must_use]
    pub fn watches_output(&self, task: TaskId) -> bool {
        self.inner.shared.output.watches(task)
    }

    /// Takes output of a running attempt, which begins after so many bytes. Ignored if nobody listens, or the session
    /// does not hold the lease.
    pub fn output(&self, session: SessionId, lease: LeaseId, offset: u64, bytes: &[u8]) {
        self.inner.shared.output.said(session, lease, offset, bytes);
    }

    /// Takes the end of the output of an attempt from its report, before the report is carried out. `written` is the
    /// number of bytes of the whole output.
    pub fn output_ends(&self, lease: LeaseId, written: u64, tail: &[u8]) {
        self.inner.shared.output.reported(lease, written, tail);
    }
}

fn running(live: &LiveView) -> Option<Running> {
    let lease = live.lease.as_ref()?;
    Some(Running {
        session: lease.session,
        lease: LeaseId { task: live.id, token: lease.token },
        attempt: live.attempt,
        worker: Some(lease.worker.clone()),
    })
}
