//! The connections to one node, as many as its concurrent calls need.
//!
//! An HTTP/2 connection carries as many concurrent calls as the node allows. Further calls would wait,
//! possibly for the duration of a long poll. So calls are spread over several connections. For each call,
//! this module knows whether its stream was opened: a call without a stream has certainly not been carried
//! out.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;
use tonic::{
    Status,
    body::Body,
    codegen::{Service, http},
    transport::{Channel, Error},
};

use crate::connect::Dialer;

/// Number of calls on one connection before another one is opened. Nodes allow 1,000 by default, proxies
/// often 100.
const CALLS: usize = 100;
/// Maximum number of connections to one node. Beyond it, calls wait for each other.
const LINKS_MAX: usize = 64;

/// Time after which a node that carried fewer calls than [`CALLS`] on a connection is tried with more. It
/// doubles after each unsuccessful try, up to [`TRY_MAX`].
const TRY: Duration = Duration::from_secs(60);
const TRY_MAX: Duration = Duration::from_secs(3600);

/// The connections to one node.
pub(crate) struct Links {
    dialer: Dialer,
    state: Mutex<State>,
}

struct State {
    /// At least one connection. Others are closed when they carry no calls.
    links: Vec<Arc<Link>>,
    room: Room,
}

/// The number of calls that one connection carries, as far as known. It may be the limit of the node, or the
/// node may have stalled when it was measured, so it is tried again.
struct Room {
    calls: usize,
    since: Instant,
    /// When to try more.
    again: Duration,
}

impl Room {
    /// The current maximum number of calls on one connection.
    fn calls(&mut self) -> usize {
        while self.calls < CALLS && self.since.elapsed() >= self.again {
            self.calls = (self.calls * 2).min(CALLS);
            self.since += self.again;
            if self.calls == CALLS {
                self.again = TRY;
            }
        }
        self.calls
    }

    /// Records that a connection carried only this many calls.
    fn ends_at(&mut self, calls: usize) {
        if calls < self.calls {
            if self.calls < CALLS {
                self.again = (self.again * 2).min(TRY_MAX);
            }
            self.calls = calls;
        }
        self.since = Instant::now();
    }
}

/// One connection.
struct Link {
    channel: Channel,
    /// Number of calls that use it, and of those with open streams.
    calls: AtomicUsize,
    opened: AtomicUsize,
}

impl Links {
    pub(crate) fn new(dialer: Dialer) -> Arc<Self> {
        let first = Link::new(&dialer);
        let room = Room { calls: CALLS, since: Instant::now(), again: TRY };
        Arc::new(Self { dialer, state: Mutex::new(State { links: vec![first], room }) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock can panic between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.lock().links.len()
    }

    /// A slot for a call, on a connection with room.
    pub(crate) fn acquire(self: &Arc<Self>) -> NodeChannel {
        let mut state = self.lock();
        let State { links, room } = &mut *state;
        let calls_max = room.calls();
        let least = links.iter().min_by_key(|link| link.calls.load(Ordering::Relaxed)).cloned();
        let link = match least {
            Some(link) if link.calls.load(Ordering::Relaxed) < calls_max => link,
            Some(link) if links.len() >= LINKS_MAX => link,
            _ => {
                let link = Link::new(&self.dialer);
                links.push(link.clone());
                link
            }
        };
        link.calls.fetch_add(1, Ordering::Relaxed);
        drop(state);
        let channel = link.channel.clone();
        let state = AtomicU8::new(WAITING);
        NodeChannel { channel, call: Arc::new(Call { links: self.clone(), link, state }) }
    }

    /// Ends a call. Closes its connection if it carries no more calls and is not the only one.
    fn leave(&self, link: &Arc<Link>) {
        if link.calls.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        let links = &mut self.lock().links;
        let is_idle = link.calls.load(Ordering::Relaxed) == 0;
        if links.len() > 1 && is_idle {
            links.retain(|other| !Arc::ptr_eq(other, link));
        }
    }

    /// Lets further calls use a new connection. Calls on the present ones go on.
    pub(crate) fn renew(&self) {
        let links = std::mem::replace(&mut self.lock().links, vec![Link::new(&self.dialer)]);
        // Closing connections needs no lock.
        drop(links);
    }

    /// Records that no stream was opened on a connection for too long: it has reached its limit, or is stuck.
    fn is_full(&self, link: &Arc<Link>) {
        let opened = link.opened.load(Ordering::Relaxed);
        let State { links, room } = &mut *self.lock();
        if opened > 0 {
            room.ends_at(opened);
            return;
        }
        links.retain(|other| !Arc::ptr_eq(other, link));
        if links.is_empty() {
            links.push(Link::new(&self.dialer));
        }
    }
}

impl Link {
    fn new(dialer: &Dialer) -> Arc<Self> {
        Arc::new(Self {
            channel: dialer.channel(),
            calls: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
        })
    }
}

/// The stream of a call is not open.
const WAITING: u8 = 0;
/// A part of the call was sent.
const OPENED: u8 = 1;
/// The call was abandoned before its stream was opened. Nothing will be sent.
const GIVEN_UP: u8 = 2;

/// The slot of a call on a connection. It is in use until this and the answer are dropped.
struct Call {
    links: Arc<Links>,
    link: Arc<Link>,
    state: AtomicU8,
}

impl Call {
    /// Changes from waiting to another state. Returns whether the call has that state then.
    fn settle(&self, state: u8) -> bool {
        let order = Ordering::SeqCst;
        match self.state.compare_exchange(WAITING, state, order, order) {
            Ok(_) => {
                if state == OPENED {
                    self.link.opened.fetch_add(1, Ordering::Relaxed);
                }
                true
            }
            Err(now) => now == state,
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if *self.state.get_mut() == OPENED {
            self.link.opened.fetch_sub(1, Ordering::Relaxed);
        }
        self.links.leave(&self.link);
    }
}

/// One connection to a node, for a call or a stream.
#[derive(Clone)]
pub struct NodeChannel {
    channel: Channel,
    call: Arc<Call>,
}

impl NodeChannel {
    /// Tells whether the call was sent.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.call.clone())
    }
}

impl std::fmt::Debug for NodeChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeChannel")
            .field("address", &self.call.links.dialer)
            .finish_non_exhaustive()
    }
}

/// Whether a call was sent.
pub(crate) struct Ticket(Arc<Call>);

impl Ticket {
    /// Whether nothing of the call was sent. Then nothing will be sent.
    pub(crate) fn give_up(&self) -> bool {
        self.0.settle(GIVEN_UP)
    }

    /// Records that the call waited too long for its stream, so that other calls do not queue behind it.
    pub(crate) fn waited_in_vain(&self) {
        self.0.links.is_full(&self.0.link);
    }
}

impl Service<http::Request<Body>> for NodeChannel {
    type Response = http::Response<ResponseBody>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call = self.call.clone();
        let request = request.map(|body| Body::new(RequestBody { body, call: call.clone() }));
        let answer = self.channel.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| ResponseBody { body, _call: call })) })
    }
}

/// The request body. The transport reads it when the stream is open.
struct RequestBody {
    body: Body,
    call: Arc<Call>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if matches!(frame, Some(Ok(_))) && !self.call.settle(OPENED) {
            return Poll::Ready(Some(Err(Status::cancelled("the call was abandoned"))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The response body.
pub struct ResponseBody {
    body: Body,
    // The slot of the call is in use while this is read.
    _call: Arc<Call>,
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;
    use tonic::transport::Endpoint;

    use super::*;

    /// Some calls, and how many connections they are on.
    fn spread(links: &Arc<Links>, calls: usize) -> usize {
        let calls: Vec<_> = (0..calls).map(|_| links.acquire()).collect();
        let count = links.count();
        drop(calls);
        count
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_seems_dead_gets_no_further_calls() {
        let dialer = Dialer::new(Endpoint::from_static("http://localhost:1"), None, None);
        let links = Links::new(dialer);
        let before = links.acquire();
        links.renew();
        let after = links.acquire();
        assert!(!Arc::ptr_eq(&before.call.link, &after.call.link));
        assert_eq!(links.count(), 1);
        drop(before);
        assert_eq!(links.count(), 1, "the new one stays");
        assert!(Arc::ptr_eq(&after.call.link, &links.acquire().call.link));
    }

    /// A call waits for its stream in vain on a connection on which another has one.
    fn stand_still(links: &Arc<Links>) {
        let (open, waits) = (links.acquire(), links.acquire());
        open.call.settle(OPENED);
        waits.ticket().waited_in_vain();
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_stood_still_once_is_sent_many_calls_again() {
        let dialer = Dialer::new(Endpoint::from_static("http://localhost:1"), None, None);
        let links = Links::new(dialer);
        assert_eq!(spread(&links, 50), 1);
        stand_still(&links);
        assert_eq!(spread(&links, 50), 50, "a call on each");
        advance(Duration::from_secs(65)).await;
        assert_eq!(spread(&links, 50), 25, "it is tried whether it carries more");
        // It does not.
        stand_still(&links);
        advance(Duration::from_secs(65)).await;
        assert_eq!(spread(&links, 50), 50, "the next try comes later");
        advance(Duration::from_secs(3600)).await;
        assert_eq!(spread(&links, 50), 1);
    }
}
