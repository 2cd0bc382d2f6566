//! The channel down to one session. Payloads in it are bounded in bytes, for each session and for
//! the whole node, so a worker that does not read costs no more memory than that.
//!
//! The bound is the dispatcher's to keep: it looks for room before it reads a payload. Orders without
//! payloads are small and always go in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rota_core::{LeaseId, SessionId, TaskSpec};
use tokio::sync::{
    Notify,
    mpsc::{self, error::TryRecvError},
};

use crate::api::SessionEvent;

/// An open session: what flows down to the worker.
#[derive(Debug)]
pub struct SessionStream {
    /// The session.
    pub session: SessionId,
    /// Tells this connection from the worker's others.
    pub connection: u64,
    /// Without a heartbeat for so long, it ends.
    pub ttl: Duration,
    /// Of the leases named, those that are not its any more.
    pub revoked: Vec<LeaseId>,
    /// What the worker is to do. Ends when the session does, or when the worker came back on
    /// another stream.
    pub events: SessionEvents,
}

/// Bytes of payloads that wait in one session's channel; the one that passes the bound still goes in.
const SESSION_BYTES_MAX: usize = 4 << 20;
/// Bytes of payloads that wait in all channels.
const NODE_BYTES_MAX: usize = 128 << 20;
/// Bytes that a task takes beside its payload and labels, roughly.
const OVERHEAD_BYTES: usize = 256;

/// Bytes that a task takes in memory and, roughly, in a message.
pub(crate) fn size_of(spec: &TaskSpec) -> usize {
    let labels: usize =
        spec.definition.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    spec.definition.payload.len() + labels + OVERHEAD_BYTES
}

/// What waits in all channels of a node.
#[derive(Debug, Default)]
pub(crate) struct Downstream {
    bytes: AtomicUsize,
    /// Whether the dispatcher waits for room.
    wanted: AtomicBool,
    freed: Notify,
}

impl Downstream {
    /// The dispatcher sets `wanted` and then looks at the bytes; who frees bytes takes them off and then looks at
    /// `wanted`. Of two such threads at least one sees what the other did only if all four accesses have one order,
    /// so here and in `Hold` all are sequentially consistent. Otherwise the dispatcher could wait for ever.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) < NODE_BYTES_MAX
    }

    /// Has [`Downstream::freed`] resolve when bytes leave a channel. Look for room after this, not
    /// before, so that what leaves in between is not missed.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::SeqCst);
    }

    /// Resolves when bytes have left a channel. Cancel safe.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }
}

/// Bytes that an event takes in its channel. They are given back when it leaves or is dropped.
#[derive(Debug)]
struct Hold {
    bytes: usize,
    session: Arc<AtomicUsize>,
    node: Arc<Downstream>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.session.fetch_sub(self.bytes, Ordering::SeqCst);
        self.node.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        if self.node.wanted.swap(false, Ordering::SeqCst) {
            self.node.freed.notify_one();
        }
    }
}

/// The dispatcher's end of a session's channel.
#[derive(Debug)]
pub(crate) struct DownSender {
    events: mpsc::UnboundedSender<(SessionEvent, Option<Hold>)>,
    bytes: Arc<AtomicUsize>,
    node: Arc<Downstream>,
    /// Whether the machine sends again what the worker does not name when it opens the session.
    pub(crate) is_sent_again: bool,
}

impl DownSender {
    /// Whether another payload may go in, beside those of so many bytes that are about to. The order of the accesses
    /// is that of [`Downstream::has_room`].
    pub(crate) fn has_room(&self, beside: usize) -> bool {
        self.bytes.load(Ordering::SeqCst) + beside < SESSION_BYTES_MAX && self.node.has_room()
    }

    /// A worker that is not connected now learns of its tasks when it comes back.
    pub(crate) fn send(&self, event: SessionEvent) {
        let bytes = match &event {
            SessionEvent::Dispatches(tasks) => tasks.iter().map(|task| size_of(&task.spec)).sum(),
            _ => 0,
        };
        let hold = (bytes > 0).then(|| {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.node.bytes.fetch_add(bytes, Ordering::Relaxed);
            Hold { bytes, session: self.bytes.clone(), node: self.node.clone() }
        });
        let _ = self.events.send((event, hold));
    }
}

/// What a session's worker is to do, in order.
#[derive(Debug)]
pub struct SessionEvents(mpsc::UnboundedReceiver<(SessionEvent, Option<Hold>)>);

impl SessionEvents {
    /// The next event. `None`: the session is over or served elsewhere. Cancel safe.
    pub async fn recv(&mut self) -> Option<SessionEvent> {
        self.0.recv().await.map(|(event, _)| event)
    }

    /// The next event, if there is one already.
    ///
    /// # Errors
    /// When there is none, or there will be none any more.
    pub fn try_recv(&mut self) -> Result<SessionEvent, TryRecvError> {
        self.0.try_recv().map(|(event, _)| event)
    }

    /// Whether no more events come in.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// A session's channel on this node.
pub(crate) fn channel(node: &Arc<Downstream>, is_sent_again: bool) -> (DownSender, SessionEvents) {
    let (events, receiver) = mpsc::unbounded_channel();
    let sender = DownSender { events, bytes: Arc::default(), node: node.clone(), is_sent_again };
    (sender, SessionEvents(receiver))
}
