//! The way down to workers: reads what is to be done and puts it into their sessions' channels.
//!
//! One task owns all channels and handles all that flows down, in the order in which it became
//! durable. It is apart from the coordinator's loop because it may have to read payloads.

use std::{sync::Arc, time::Duration};

use rota_core::{LeaseToken, Leased, SessionId, StopReason, TaskId, TaskSpec};
use rota_store::{Store, StoreError};
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use crate::{
    api::{Dispatched, SessionEvent},
    codec, layout,
    planted::Planted,
};

/// Batches of effects that may wait here; then the coordinator waits.
pub(crate) const QUEUED_MAX: usize = 256;
/// Definitions read in one call.
const READ_MAX: usize = 256;
/// Between two tries to read.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What the dispatcher is told.
pub(crate) enum ToWorkers {
    /// This session's events go here from now on.
    Attach(SessionId, mpsc::UnboundedSender<SessionEvent>),
    /// Effects of one step, in order.
    Effects(Vec<WorkerEffect>),
    /// All sessions are over for this node: leadership was lost.
    DetachAll,
    /// Answer this: all that came before is in the sessions' channels by then.
    Flush(oneshot::Sender<()>),
}

/// A way to the dispatcher that does not keep it running.
pub(crate) struct ToDispatcher(pub(crate) mpsc::WeakSender<ToWorkers>);

impl ToDispatcher {
    /// Resolves when all that it was told before is in the sessions' channels, or when it has ended.
    /// It may be reading a payload that long. Cancel safe.
    pub(crate) async fn flush(&self) {
        let Some(workers) = self.0.upgrade() else { return };
        let (done, flushed) = oneshot::channel();
        let sent = workers.send(ToWorkers::Flush(done)).await;
        // It runs as long as there is a sender.
        drop(workers);
        if sent.is_ok() {
            // Where it ends before it comes to this, nobody is told of anything any more.
            let _ = flushed.await;
        }
    }
}

/// An effect that concerns one worker.
pub(crate) enum WorkerEffect {
    Dispatch(Leased, Option<Arc<TaskSpec>>),
    Stop(SessionId, TaskId, LeaseToken, StopReason),
    Drain(SessionId),
    Ended(SessionId),
}

/// Runs until its sender is dropped.
pub(crate) async fn run(store: Arc<dyn Store>, mut inbox: mpsc::Receiver<ToWorkers>) {
    let mut channels = FxHashMap::default();
    while let Some(message) = inbox.recv().await {
        match message {
            ToWorkers::Attach(session, events) => {
                if Planted::KeepsFormerChannel.is_made() && channels.contains_key(&session) {
                    continue;
                }
                channels.insert(session, events);
            }
            ToWorkers::DetachAll => channels.clear(),
            ToWorkers::Flush(done) => {
                // One who no longer waits needs no answer.
                let _ = done.send(());
            }
            ToWorkers::Effects(effects) => deliver(store.as_ref(), &mut channels, effects).await,
        }
    }
}

type Channels = FxHashMap<SessionId, mpsc::UnboundedSender<SessionEvent>>;

async fn deliver(store: &dyn Store, channels: &mut Channels, effects: Vec<WorkerEffect>) {
    let mut specs = read_missing(store, &effects).await;
    let mut outgoing: FxHashMap<SessionId, Vec<Dispatched>> = FxHashMap::default();
    for effect in effects {
        match effect {
            WorkerEffect::Dispatch(..) if Planted::DropsDispatches.is_made_once_in(500) => {}
            WorkerEffect::Dispatch(leased, spec) => {
                let Some(spec) = spec.or_else(|| specs.remove(&leased.task)) else {
                    // The lease stays; the task's timeout or the session's end frees it.
                    error!(task = %leased.task, "the definition could not be read");
                    continue;
                };
                outgoing.entry(leased.session).or_default().push(Dispatched {
                    token: leased.token,
                    attempt: leased.attempt,
                    run_at: leased.run_at,
                    spec,
                });
            }
            WorkerEffect::Stop(session, task, token, reason) => {
                flush(channels, &mut outgoing, session);
                send(channels, session, SessionEvent::Stop { task, token, reason });
            }
            WorkerEffect::Drain(session) => {
                flush(channels, &mut outgoing, session);
                send(channels, session, SessionEvent::Drain);
            }
            WorkerEffect::Ended(session) => {
                send(channels, session, SessionEvent::Ended);
                channels.remove(&session);
            }
        }
    }
    for (session, tasks) in outgoing {
        send(channels, session, SessionEvent::Dispatches(tasks));
    }
}

fn flush(
    channels: &Channels,
    outgoing: &mut FxHashMap<SessionId, Vec<Dispatched>>,
    session: SessionId,
) {
    if let Some(tasks) = outgoing.remove(&session) {
        send(channels, session, SessionEvent::Dispatches(tasks));
    }
}

/// A worker that is not connected now learns of its tasks when it comes back.
fn send(channels: &Channels, session: SessionId, event: SessionEvent) {
    if let Some(channel) = channels.get(&session) {
        let _ = channel.send(event);
    }
}

async fn read_missing(
    store: &dyn Store,
    effects: &[WorkerEffect],
) -> FxHashMap<TaskId, Arc<TaskSpec>> {
    let missing: Vec<TaskId> = effects
        .iter()
        .filter_map(|effect| match effect {
            WorkerEffect::Dispatch(leased, None) => Some(leased.task),
            _ => None,
        })
        .collect();
    let mut specs = FxHashMap::default();
    for tasks in missing.chunks(READ_MAX) {
        let found = read_until_known(store, tasks).await;
        specs.extend(found.into_iter().flatten().map(|spec| (spec.id, spec)));
    }
    specs
}

/// Reads definitions, as often as it takes: the leases are given, so the workers must learn of them.
async fn read_until_known(store: &dyn Store, tasks: &[TaskId]) -> Vec<Option<Arc<TaskSpec>>> {
    let mut pause = PAUSE_MIN;
    loop {
        match read_specs(store, tasks).await {
            Ok(found) => return found,
            Err(error @ StoreError::Corrupt(_)) => {
                error!(%error, "definitions cannot be read");
                return Vec::new();
            }
            Err(error) => warn!(%error, "reading definitions failed; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Reads definitions, in the order asked for.
pub(crate) async fn read_specs(
    store: &dyn Store,
    tasks: &[TaskId],
) -> Result<Vec<Option<Arc<TaskSpec>>>, StoreError> {
    let keys: Vec<_> = tasks.iter().map(|task| (layout::SPEC, layout::task(*task))).collect();
    let found = store.get(&keys).await?;
    found
        .into_iter()
        .zip(tasks)
        .map(|(bytes, task)| {
            let spec = bytes.map(|bytes| codec::decode_spec(&bytes)).transpose();
            let spec = spec.map_err(|error| corrupt("spec", *task, &error))?;
            Ok(spec.map(Arc::new))
        })
        .collect()
}

/// The error for a record that is there and cannot be read.
pub(crate) fn corrupt(space: &str, task: TaskId, error: &codec::CodecError) -> StoreError {
    StoreError::Corrupt(format!("{space}/{task}: {error}"))
}
