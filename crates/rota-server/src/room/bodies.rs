//! Room for request bodies.
//!
//! Small bodies have a part of the budget to themselves, so that a few large ones which arrive
//! slowly do not keep them out; and so have workers' streams, which must be heard whatever clients
//! send.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{body::Body, extract::Request};
use bytes::{Bytes, BytesMut};
use http::header;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use rota_metrics::{InFlight, NodeMetrics};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::{Budget, ROOM, Refused, Room, framing::Framing, no_room, refused};
use crate::{
    failure::{Failure, LimitName, Reason},
    limits::Limits,
};

/// A body up to so many bytes is a small one.
const SMALL: usize = 64 << 10;
/// Room that a body of unknown length asks for first.
const UNKNOWN: usize = 4 << 10;
/// Bytes of a refused body that are read.
const DISCARD: usize = 64 << 20;
/// A message of a worker up to so many bytes is not counted: a sign of life must not wait.
const FREE: usize = 4 << 10;

/// All room for request bodies.
#[derive(Debug)]
pub(crate) struct Bodies {
    small: Budget,
    large: Budget,
    streams: Budget,
    limit: LimitName,
    request_bytes: usize,
    body_timeout: Duration,
}

/// What a request holds of it, until it is answered.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<Vec<Room>>);

impl Held {
    fn add(&self, room: Room) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(room);
    }

    fn take(&self) -> Vec<Room> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The room of a stream's messages, for whoever reads them.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamRoom(Arc<Stream>);

#[derive(Debug, Default)]
struct Stream {
    throttled: AtomicBool,
    /// Whoever reads the messages keeps their room. Else it is free when a message is whole.
    kept: AtomicBool,
    held: Arc<Held>,
}

impl StreamRoom {
    /// Whether nothing is read from the stream because there is no room, so that its worker cannot
    /// be heard.
    pub(crate) fn is_throttled(&self) -> bool {
        self.0.throttled.load(Ordering::Relaxed)
    }

    /// From now on, [`take`](Self::take) is called for each message.
    pub(crate) fn keep(&self) {
        self.0.kept.store(true, Ordering::Relaxed);
    }

    /// The room of the messages that came last, to be kept while they are worked on.
    pub(crate) fn take(&self) -> Vec<Room> {
        self.0.held.take()
    }
}

/// Which sort of body it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// JSON: its length is said before it, or found as it arrives.
    Plain,
    /// The message of a gRPC call.
    Call,
    /// The messages of a worker.
    Stream,
}

impl Bodies {
    pub(crate) fn new(limits: &Limits, metrics: &NodeMetrics) -> Self {
        let all = limits.bodies_in_flight_bytes;
        let part = |bytes| Budget::of(bytes, InFlight::Bodies, metrics);
        Self {
            small: part(all / 8),
            large: part(all - all / 8 - all / 4),
            streams: part(all / 4),
            limit: LimitName { name: "bodies_in_flight_bytes", max: all as u64 },
            request_bytes: limits.request_bytes,
            body_timeout: limits.body_timeout,
        }
    }

    /// The request with a body that waits for room, and what it holds: to be kept until the request
    /// is answered.
    pub(crate) fn count(
        self: &Arc<Self>,
        request: Request,
        grpc: bool,
        stream: bool,
    ) -> (Request, Arc<Held>) {
        let held = Arc::new(Held::default());
        if request.body().is_end_stream() {
            return (request, held);
        }
        let sort = match (grpc, stream) {
            (_, true) => Sort::Stream,
            (true, false) => Sort::Call,
            (false, false) => Sort::Plain,
        };
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let length = length.filter(|length| sort == Sort::Plain && *length <= self.request_bytes);
        let (mut head, inner) = request.into_parts();
        let stream = Arc::new(Stream { held: held.clone(), ..Stream::default() });
        if sort == Sort::Stream {
            head.extensions.insert(StreamRoom(stream.clone()));
        }
        let body = Counted {
            inner,
            bodies: self.clone(),
            held: held.clone(),
            sort,
            framing: Framing::default(),
            wanted: length.unwrap_or_default(),
            arrived: 0,
            taken: 0,
            waiting: None,
            refused: false,
            parked: None,
            late: None,
            stream,
        };
        (Request::from_parts(head, Body::new(body)), held)
    }
}

type Waiting = Pin<Box<dyn Future<Output = Option<Room>> + Send>>;

/// A body that is read only as far as there is room for it.
struct Counted {
    inner: Body,
    bodies: Arc<Bodies>,
    held: Arc<Held>,
    sort: Sort,
    framing: Framing,
    /// Bytes for which there must be room before more is read.
    wanted: usize,
    arrived: usize,
    /// Bytes for which there is room.
    taken: usize,
    waiting: Option<(usize, Waiting)>,
    /// There was no room.
    refused: bool,
    /// What was read and has no room yet.
    parked: Option<Frame<Bytes>>,
    /// When the message under way must be there.
    late: Option<Pin<Box<Sleep>>>,
    stream: Arc<Stream>,
}

impl Counted {
    /// Waits until there is room for what is wanted.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            let budget = match self.sort {
                Sort::Stream => &self.bodies.streams,
                Sort::Plain | Sort::Call if self.wanted <= SMALL => &self.bodies.small,
                Sort::Plain | Sort::Call => &self.bodies.large,
            };
            // What is larger than all there is may have all there is.
            let wanted = self.wanted.min(budget.bytes());
            if self.refused || wanted <= self.taken {
                return Poll::Ready(Ok(()));
            }
            let (wanted, waiting) = self.waiting.get_or_insert_with(|| {
                let taking = budget.clone().take(wanted - self.taken);
                // A worker's stream is held back instead: it is not refused for what others send.
                let within = self.bodies.body_timeout;
                let within = if self.sort == Sort::Stream { within } else { patience(within) };
                let taking = async move { timeout(within, taking).await.ok() };
                (wanted, Box::pin(taking) as Waiting)
            });
            self.stream.throttled.store(true, Ordering::Relaxed);
            let room = ready!(waiting.as_mut().poll(cx));
            self.stream.throttled.store(false, Ordering::Relaxed);
            let Some(room) = room else {
                // The rest can be read, by whoever throws it away.
                self.refused = true;
                self.parked = None;
                self.held.take();
                return Poll::Ready(Err(no_room("body", self.bodies.limit)));
            };
            self.taken = *wanted;
            self.held.add(room);
            self.waiting = None;
        }
    }

    /// Notes what arrived, and for how much there must be room before it goes on.
    fn arrive(&mut self, data: &Bytes) {
        self.arrived += data.len();
        match self.sort {
            // By doubling, so that a body of unknown length asks a few times only.
            Sort::Plain
                if self.arrived > self.wanted && self.arrived <= self.bodies.request_bytes =>
            {
                let more = self.arrived.next_power_of_two().max(UNKNOWN);
                self.wanted = more.min(self.bodies.request_bytes);
            }
            Sort::Plain => {}
            Sort::Call => {
                let announced = self.framing.see(data);
                // What is too long is refused by whoever reads it.
                if announced <= self.bodies.request_bytes {
                    self.wanted += announced;
                }
            }
            Sort::Stream => {
                self.framing.see(data);
                let length = self.framing.under_way();
                let counts = length > FREE && length <= self.bodies.request_bytes;
                if self.framing.take_ended() {
                    self.taken = 0;
                    // The next message has a time of its own.
                    self.late = None;
                    if !self.stream.kept.load(Ordering::Relaxed) {
                        self.held.take();
                    }
                }
                self.wanted = if counts { length } else { 0 };
            }
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        let begun = match self.sort {
            Sort::Plain => false,
            Sort::Call => true,
            Sort::Stream => self.framing.is_amidst(),
        };
        if !begun {
            self.late = None;
            return Poll::Pending;
        }
        let within = self.bodies.body_timeout;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + within)));
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Failure::body_timeout(within))
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let fail = |failure| Poll::Ready(Some(Err(Refused::new(failure).into())));
        loop {
            match this.poll_room(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(failure)) => return fail(failure),
                Poll::Pending => {
                    return match this.poll_late(cx) {
                        Poll::Ready(failure) => fail(failure),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
            if let Some(frame) = this.parked.take() {
                return Poll::Ready(Some(Ok(frame)));
            }
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        this.arrive(data);
                    }
                    // The end of one message and the beginning of the next may be in one frame: the room of the
                    // first is only given back when its reader has it, so this must not wait for the second's.
                    if this.sort == Sort::Stream {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    this.parked = Some(frame);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    return match this.poll_late(cx) {
                        Poll::Ready(failure) => fail(failure),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parked.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.parked.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}

/// The bounds of a body that is read as a whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes of a request.
    pub(crate) request_bytes: usize,
    /// What its protocol may add.
    pub(crate) extra: usize,
    pub(crate) within: Duration,
}

/// How long a request waits for room.
fn patience(body_timeout: Duration) -> Duration {
    ROOM.min(body_timeout / 2)
}

/// A whole body, within its bounds.
pub(crate) async fn read_body(mut body: Body, bounds: Bounds) -> Result<Bytes, Failure> {
    let Bounds { request_bytes, extra, within } = bounds;
    let read = collect(&mut body, request_bytes.saturating_add(extra));
    let failure = match timeout(within, read).await {
        Ok(Ok(Some(bytes))) => return Ok(bytes),
        Ok(Ok(None)) => Failure::too_large(request_bytes),
        Ok(Err(error)) => match refused(&error) {
            Some(failure) if failure.reason == Reason::Overloaded => failure,
            Some(failure) => return Err(failure),
            None => {
                return Err(Failure::new(Reason::Invalid, "the body could not be read to its end"));
            }
        },
        Err(_) => return Err(Failure::body_timeout(within)),
    };
    // A client that still writes when the connection is closed does not get to read why.
    let _ = timeout(patience(within), discard(&mut body)).await;
    Err(failure)
}

/// The body, if it has no more bytes than that. Its parts are put together as they come, so that it
/// is never there twice.
async fn collect(body: &mut Body, most: usize) -> Result<Option<Bytes>, axum::Error> {
    let least = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if least > most {
        return Ok(None);
    }
    let mut all = BytesMut::with_capacity(least);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if all.len() + data.len() > most {
            return Ok(None);
        }
        all.extend_from_slice(&data);
    }
    Ok(Some(all.freeze()))
}

/// Reads what is left of a body, as far as a client may mean well, and throws it away.
async fn discard(body: &mut Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > DISCARD {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use tokio::sync::mpsc;
    use tokio_stream::{StreamExt, wrappers::ReceiverStream};

    use super::*;

    fn bodies(bytes: usize) -> Arc<Bodies> {
        let limits = Limits { bodies_in_flight_bytes: bytes, ..Limits::default() };
        Arc::new(Bodies::new(&limits, &NodeMetrics::default()))
    }

    const BOUNDS: Bounds =
        Bounds { request_bytes: 16 << 20, extra: 0, within: Duration::from_secs(30) };

    /// A request whose body comes through the sender, and says its length if that is given.
    fn request(length: Option<usize>) -> (Request, mpsc::Sender<Bytes>) {
        let (sender, parts) = mpsc::channel(1000);
        let parts = ReceiverStream::new(parts).map(Ok::<_, std::convert::Infallible>);
        let mut request = Request::post("/");
        if let Some(length) = length {
            request = request.header(header::CONTENT_LENGTH, length);
        }
        (request.body(Body::from_stream(parts)).unwrap(), sender)
    }

    fn free(bodies: &Bodies) -> [usize; 3] {
        [&bodies.small, &bodies.large, &bodies.streams].map(|it| it.free.available_permits() * 1024)
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_wait_for_room_and_are_refused_and_small_ones_pass() {
        let bodies = bodies(8 << 20);
        let all = free(&bodies);
        let (slow, _arrives) = request(Some(4 << 20));
        let (slow, held) = bodies.count(slow, false, false);
        let reading = tokio::spawn(read_body(slow.into_body(), BOUNDS));
        tokio::task::yield_now().await;
        let (large, _arrives_too) = request(Some(4 << 20));
        let (large, _held) = bodies.count(large, false, false);
        let failure = read_body(large.into_body(), BOUNDS).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Overloaded);
        assert_eq!(failure.limit().map(|limit| limit.name), Some("bodies_in_flight_bytes"));
        assert_eq!(failure.retry_seconds(), Some(1));
        let (small, sender) = request(Some(3));
        sender.send(Bytes::from("abc")).await.unwrap();
        drop(sender);
        let (small, small_held) = bodies.count(small, false, false);
        assert_eq!(read_body(small.into_body(), BOUNDS).await.unwrap(), "abc");
        // What does not come gives its room back.
        let failure = reading.await.unwrap().unwrap_err();
        assert_eq!(failure.reason, Reason::RequestTimeout);
        drop((held, small_held));
        assert_eq!(free(&bodies), all);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_unknown_length_asks_for_room_as_it_grows() {
        let bodies = bodies(8 << 20);
        let (request, sender) = request(None);
        let (request, _held) = bodies.count(request, false, false);
        let reading = tokio::spawn(read_body(request.into_body(), BOUNDS));
        for _ in 0..6 {
            // It is read while there is room, and no further.
            let _ = sender.send(vec![0; 1 << 20].into()).await;
        }
        drop(sender);
        assert_eq!(reading.await.unwrap().unwrap().len(), 6 << 20);
        assert_eq!(free(&bodies)[1], 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_asks_for_room_when_its_length_has_come_and_has_a_deadline() {
        let bodies = bodies(8 << 20);
        let (call, sender) = request(None);
        let (call, _held) = bodies.count(call, true, false);
        sender.send(Bytes::from_static(&[0, 0, 0x20, 0, 0, b'x'])).await.unwrap();
        let mut body = call.into_body();
        body.frame().await.unwrap().unwrap();
        assert_eq!(free(&bodies)[1], (5 << 20) - (2 << 20));
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(refused(&error).unwrap().reason, Reason::RequestTimeout);
        let status = tonic::Status::from_error(Box::new(error));
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        // Its error is what an answer is made of.
        let _: Response<Body> = status.into_http();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_held_back_and_its_small_messages_are_free() {
        let bodies = bodies(1 << 20);
        let message = |length: usize| {
            let length = u32::try_from(length).unwrap().to_be_bytes();
            let header: Vec<u8> = [0].into_iter().chain(length).collect();
            Bytes::from(header)
        };
        let (stream, sender) = request(None);
        let (stream, _held) = bodies.count(stream, true, true);
        let room = stream.extensions().get::<StreamRoom>().unwrap().clone();
        room.keep();
        let mut body = stream.into_body();
        let all = free(&bodies)[2];
        sender.send(message(9)).await.unwrap();
        sender.send(Bytes::from_static(&[1; 9])).await.unwrap();
        for _ in 0..2 {
            body.frame().await.unwrap().unwrap();
        }
        assert_eq!(free(&bodies)[2], all);
        for size in [100 << 10, 200 << 10] {
            sender.send(message(size)).await.unwrap();
            sender.send(vec![1; size].into()).await.unwrap();
        }
        for _ in 0..2 {
            body.frame().await.unwrap().unwrap();
        }
        assert_eq!(free(&bodies)[2], all - (100 << 10));
        // The frame that announces the second message goes on: the first may end in it.
        body.frame().await.unwrap().unwrap();
        let waits = timeout(Duration::from_secs(10), body.frame()).await;
        assert!(waits.is_err() && room.is_throttled());
        drop(room.take());
        body.frame().await.unwrap().unwrap();
        assert!(!room.is_throttled());
    }
}
