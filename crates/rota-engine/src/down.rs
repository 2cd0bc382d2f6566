//! The channel to a session. The bytes of payloads in it are limited, for each session and for the whole
//! node, so that workers that do not read cost a bounded amount of memory.
//!
//! The dispatcher enforces the limit: it checks for room before it reads a payload. Orders without payloads
//! are small and always allowed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rota_core::{LeaseId, ScheduleDefinition, SessionId, TaskSpec};
use tokio::sync::{
    Notify,
    mpsc::{self, error::TryRecvError},
};

use crate::{api::SessionEvent, memory::Account, planted::Planted};

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

/// Maximum bytes of payloads in the channel of one session. The payload that exceeds the limit is still
/// allowed.
const SESSION_BYTES_MAX: usize = 4 << 20;
/// Maximum bytes of payloads in all channels.
const NODE_BYTES_MAX: usize = 128 << 20;
/// Approximate bytes of a task without its payload and labels.
const OVERHEAD_BYTES: usize = 256;

/// Approximate bytes of a task in memory and in a message.
pub(crate) fn size_of(spec: &TaskSpec) -> usize {
    let labels: usize =
        spec.definition.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    spec.definition.payload.len() + labels + OVERHEAD_BYTES
}

/// Approximate bytes of a schedule in memory and in its record.
pub(crate) fn size_of_schedule(schedule: &ScheduleDefinition) -> usize {
    let times = &schedule.times;
    let exclude = &times.exclude;
    let texts = [&times.expressions, &times.dates, &exclude.expressions, &exclude.dates];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    schedule.template.definition.payload.len() + texts + OVERHEAD_BYTES
}

/// The bytes in all channels of a node.
#[derive(Debug, Default)]
pub(crate) struct Downstream {
    account: Account,
    /// The most bytes that one channel has held.
    fullest: AtomicUsize,
    /// Whether the dispatcher waits for room.
    wanted: AtomicBool,
    freed: Notify,
}

impl Downstream {
    /// The dispatcher sets `wanted` and then reads the bytes. A thread that frees bytes subtracts them and
    /// then reads `wanted`. At least one of the two must see the other's write, which requires a single order
    /// of all four accesses. So they are sequentially consistent here and in `Hold`. Otherwise the dispatcher
    /// could wait forever.
    pub(crate) fn has_room(&self) -> bool {
        self.account.bytes() < NODE_BYTES_MAX || Planted::FillsChannels.is_made()
    }

    /// Makes [`Downstream::freed`] resolve when bytes leave a channel. Check for room after this call, not
    /// before, so that no change in between is missed.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::SeqCst);
    }

    /// The most bytes that all channels have held, and one of them.
    pub(crate) fn most(&self) -> (usize, usize) {
        (self.account.most(), self.fullest.load(Ordering::Relaxed))
    }

    /// Resolves when bytes have left a channel. Cancel safe.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }
}

/// The bytes of an event in its channel. They are released when the event leaves or is dropped.
#[derive(Debug)]
struct Hold {
    bytes: usize,
    session: Arc<Account>,
    node: Arc<Downstream>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.session.remove(self.bytes);
        self.node.account.remove(self.bytes);
        if self.node.wanted.swap(false, Ordering::SeqCst) {
            self.node.freed.notify_one();
        }
    }
}

/// The sending end of a session's channel.
#[derive(Debug)]
pub(crate) struct DownSender {
    events: mpsc::UnboundedSender<(SessionEvent, Option<Hold>)>,
    account: Arc<Account>,
    node: Arc<Downstream>,
    /// Whether the machine sends leases again that the worker does not name when it opens the session.
    pub(crate) is_sent_again: bool,
    /// Whether the worker sends the output of running attempts when it is asked.
    pub(crate) streams_output: bool,
}

impl DownSender {
    /// Whether there is room for another payload, in addition to the given bytes that will be added. The
    /// order of accesses is that of [`Downstream::has_room`].
    pub(crate) fn has_room(&self, beside: usize) -> bool {
        let fits = self.account.bytes() + beside < SESSION_BYTES_MAX;
        (fits || Planted::FillsChannels.is_made()) && self.node.has_room()
    }

    /// A disconnected worker gets its tasks when it reconnects.
    pub(crate) fn send(&self, event: SessionEvent) {
        let bytes = match &event {
            SessionEvent::Dispatches(tasks) => tasks.iter().map(|task| size_of(&task.spec)).sum(),
            _ => 0,
        };
        let hold = (bytes > 0).then(|| {
            self.account.add(bytes);
            self.node.account.add(bytes);
            self.node.fullest.fetch_max(self.account.most(), Ordering::Relaxed);
            Hold { bytes, session: self.account.clone(), node: self.node.clone() }
        });
        let _ = self.events.send((event, hold));
    }
}

/// The receiving end of a session's channel.
#[derive(Debug)]
pub struct SessionEvents(mpsc::UnboundedReceiver<(SessionEvent, Option<Hold>)>);

impl SessionEvents {
    /// The next event. `None` if the session has ended, or has another connection. Cancel safe.
    pub async fn recv(&mut self) -> Option<SessionEvent> {
        self.0.recv().await.map(|(event, _)| event)
    }

    /// The next event, if one is already available.
    ///
    /// # Errors
    /// When there is none now, or no more will come.
    pub fn try_recv(&mut self) -> Result<SessionEvent, TryRecvError> {
        self.0.try_recv().map(|(event, _)| event)
    }

    /// Whether no more events will come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// A session's channel on this node.
pub(crate) fn channel(
    node: &Arc<Downstream>,
    is_sent_again: bool,
    streams_output: bool,
) -> (DownSender, SessionEvents) {
    let (events, receiver) = mpsc::unbounded_channel();
    let (account, node) = (Arc::default(), node.clone());
    let sender = DownSender { events, account, node, is_sent_again, streams_output };
    (sender, SessionEvents(receiver))
}
