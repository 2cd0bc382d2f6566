//! The memory budget for request bodies.
//!
//! A body takes memory as it arrives. So a client holds at most twice what it has sent, plus 4 KiB, whatever
//! length it announces. The whole body must arrive within `body_timeout`.
//!
//! Small bodies have their own part of the budget, so that slow large ones do not block them. So do the
//! streams of workers, which must get through whatever clients send.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http::header;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use rota_metrics::NodeMetrics;
use tokio::{
    sync::Semaphore,
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::{
    ROOM, Refused, Room,
    framing::Framing,
    held::{Held, Stream, StreamRoom},
    no_room,
    share::Share,
};
use crate::{
    failure::{Failure, LimitName},
    limits::Limits,
};

/// Maximum size of a small body.
pub(super) const SMALL: usize = 64 << 10;
/// Memory that a body takes first.
const FIRST: usize = 4 << 10;
/// Maximum number of bodies that wait for memory. Further ones are refused. A waiting body stays in the
/// buffers of its connection: 64 KiB for an HTTP/2 stream, 128 KiB for HTTP/1.
const WAITING: usize = 1024;
/// Messages of a worker up to this size do not count, because a heartbeat must not wait.
const FREE: usize = 4 << 10;

/// The memory budget for request bodies.
#[derive(Debug)]
pub(crate) struct Bodies {
    small: Share,
    large: Share,
    streams: Share,
    waiting: Arc<Semaphore>,
    limit: LimitName,
    request_bytes: usize,
    body_timeout: Duration,
}

/// Whether a body is a stream of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    No,
    /// Of a worker, which has its own part of the budget.
    Worker,
    Other,
}

/// The kind of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// JSON, with a declared length or none.
    Plain,
    /// The message of a gRPC call.
    Call,
    /// Messages of gRPC, each with its own time.
    Stream { of_worker: bool },
}

impl Sort {
    fn is_stream(self) -> bool {
        matches!(self, Self::Stream { .. })
    }
}

impl Bodies {
    pub(crate) fn new(limits: &Limits, metrics: &NodeMetrics) -> Self {
        let all = limits.bodies_in_flight_bytes;
        let body = limits.request_bytes;
        Self {
            small: Share::of(all / 8, SMALL, metrics),
            large: Share::of(all - all / 8 - all / 4, body, metrics),
            streams: Share::of(all / 4, body, metrics),
            waiting: Arc::new(Semaphore::new(WAITING)),
            limit: LimitName { name: "bodies_in_flight_bytes", max: all as u64 },
            request_bytes: limits.request_bytes,
            body_timeout: limits.body_timeout,
        }
    }

    /// Wraps the body of a request so that it waits for memory. Keep the returned memory until the request is
    /// answered.
    pub(crate) fn count(
        self: &Arc<Self>,
        request: Request,
        grpc: bool,
        streams: Streams,
    ) -> (Request, Arc<Held>) {
        let held = Arc::new(Held::default());
        if request.body().is_end_stream() {
            return (request, held);
        }
        let sort = match streams {
            Streams::Worker => Sort::Stream { of_worker: true },
            Streams::Other => Sort::Stream { of_worker: false },
            Streams::No if grpc => Sort::Call,
            Streams::No => Sort::Plain,
        };
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let length = length.filter(|length| sort == Sort::Plain && *length <= self.request_bytes);
        let (mut head, inner) = request.into_parts();
        let stream = Arc::new(Stream { held: held.clone(), ..Stream::default() });
        if streams == Streams::Worker {
            head.extensions.insert(StreamRoom(stream.clone()));
        }
        let body = Counted {
            inner,
            bodies: self.clone(),
            held: held.clone(),
            sort,
            framing: Framing::default(),
            expected: length.unwrap_or_default(),
            wanted: 0,
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

type Waiting = Pin<Box<dyn Future<Output = Option<(Room, usize)>> + Send>>;

/// A body that is read only as far as it has memory.
struct Counted {
    inner: Body,
    bodies: Arc<Bodies>,
    held: Arc<Held>,
    sort: Sort,
    framing: Framing,
    /// Declared length, 0 if unknown.
    expected: usize,
    /// Bytes of memory to take before more is read.
    wanted: usize,
    arrived: usize,
    /// Bytes of memory that it holds.
    taken: usize,
    waiting: Option<Waiting>,
    /// Whether there was no memory.
    refused: bool,
    /// Bytes that were read, but have no memory yet.
    parked: Option<Frame<Bytes>>,
    /// Deadline for the current message.
    late: Option<Pin<Box<Sleep>>>,
    stream: Arc<Stream>,
}

impl Counted {
    /// Waits for the wanted memory.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            if self.refused || self.wanted <= self.taken {
                return Poll::Ready(Ok(()));
            }
            let is_small = self.wanted.max(self.expected) <= SMALL;
            let share = match self.sort {
                Sort::Stream { of_worker: true } => &self.bodies.streams,
                _ if is_small => &self.bodies.small,
                _ => &self.bodies.large,
            };
            let waiting = self.waiting.get_or_insert_with(|| {
                let (share, places) = (share.clone(), self.bodies.waiting.clone());
                let more = self.wanted - self.taken;
                // The stream of a worker waits instead, because it is not refused for what others send.
                let within = self.bodies.body_timeout;
                let of_worker = self.sort == Sort::Stream { of_worker: true };
                let within = if of_worker { within } else { patience(within) };
                Box::pin(async move {
                    if let Some(taken) = share.try_take(more) {
                        return Some(taken);
                    }
                    let _place = places.try_acquire().ok()?;
                    timeout(within, share.take(more)).await.ok()
                })
            });
            self.stream.throttled.store(true, Ordering::Relaxed);
            let taken = ready!(waiting.as_mut().poll(cx));
            self.stream.throttled.store(false, Ordering::Relaxed);
            let Some((room, bytes)) = taken else {
                // The caller can read the rest, to discard it.
                self.refused = true;
                self.parked = None;
                self.held.take();
                return Poll::Ready(Err(no_room("body", self.bodies.limit)));
            };
            self.taken = self.taken.saturating_add(bytes);
            self.held.add(room);
            self.waiting = None;
        }
    }

    /// Counts the bytes that arrived, and the memory to take before more is read.
    fn arrive(&mut self, data: &Bytes) {
        self.arrived += data.len();
        match self.sort {
            Sort::Plain => {
                if self.arrived <= self.bodies.request_bytes {
                    self.wanted = self.step(self.arrived);
                }
            }
            Sort::Call => {
                let announced = self.framing.see(data);
                // The reader refuses a body that is too long.
                if announced <= self.bodies.request_bytes {
                    self.expected += announced;
                }
                if self.expected > 0 {
                    self.wanted = self.step(self.arrived);
                }
            }
            Sort::Stream { of_worker } => {
                self.framing.see(data);
                let length = self.framing.under_way();
                let counts = length > FREE && length <= self.bodies.request_bytes;
                if self.framing.take_ended() {
                    // The last part did not wait, but counts.
                    let rest = self.expected.saturating_sub(self.taken);
                    let share = if of_worker { &self.bodies.streams } else { &self.bodies.large };
                    let rest = share.try_take(rest).filter(|_| rest > 0);
                    rest.into_iter().for_each(|(room, _)| self.held.add(room));
                    self.taken = 0;
                    // The next message has its own deadline.
                    self.late = None;
                    if !self.stream.kept.load(Ordering::Relaxed) {
                        self.held.take();
                    }
                }
                if self.framing.is_amidst() {
                    self.stream.received_part.store(true, Ordering::Relaxed);
                }
                self.expected = if counts { length } else { 0 };
                self.wanted = if counts { self.step(self.framing.arrived()) } else { 0 };
            }
        }
    }

    /// The memory to take after this many bytes have arrived. It doubles, so that a large body takes memory
    /// only a few times.
    fn step(&self, arrived: usize) -> usize {
        let step = arrived.next_power_of_two().max(FIRST);
        let most = if self.expected > 0 { self.expected } else { self.bodies.request_bytes };
        step.min(most)
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        let begun = match self.sort {
            Sort::Plain => false,
            Sort::Call => true,
            Sort::Stream { .. } => self.framing.is_amidst(),
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
                    // A frame can have the end of one message and the start of the next. The memory of the
                    // first is released only by its reader, so the frame must not wait for the memory of the
                    // second.
                    if this.sort.is_stream() {
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

/// Time that a request waits for memory.
pub(super) fn patience(body_timeout: Duration) -> Duration {
    ROOM.min(body_timeout / 2)
}

#[cfg(test)]
mod tests {
    use http::Response;
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;
    use tokio_stream::{StreamExt, wrappers::ReceiverStream};

    use super::{
        super::{Bounds, read_body, refused},
        *,
    };
    use crate::failure::Reason;

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
        let units = |budget: &super::super::Budget| budget.free.available_permits() * 1024;
        [&bodies.small, &bodies.large, &bodies.streams]
            .map(|share| units(&share.common) + units(&share.last))
    }

    /// Lets the others go on as far as they can: the clock moves only when they cannot.
    async fn settle() {
        let _ = timeout(Duration::from_millis(1), std::future::pending::<()>()).await;
    }

    /// Sends what is read as far as there is room.
    async fn send(sender: &mpsc::Sender<Bytes>, bytes: usize) {
        for _ in 0..bytes >> 10 {
            sender.send(vec![0; 1 << 10].into()).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_wait_for_room_and_are_refused_and_small_ones_pass() {
        let bodies = bodies(8 << 20);
        let all = free(&bodies);
        // Two that fall silent when all room is theirs.
        let mut slow = Vec::new();
        for _ in 0..2 {
            let (request, sender) = request(Some(4 << 20));
            let (request, held) = bodies.count(request, false, Streams::No);
            let reading = tokio::spawn(read_body(request.into_body(), BOUNDS));
            slow.push((reading, sender, held));
        }
        send(&slow[0].1, 3 << 20).await;
        send(&slow[1].1, 1 << 20).await;
        settle().await;
        let (large, sender) = request(Some(4 << 20));
        let (large, _held) = bodies.count(large, false, Streams::No);
        send(&sender, 900 << 10).await;
        let failure = read_body(large.into_body(), BOUNDS).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Overloaded);
        assert_eq!(failure.limit().map(|limit| limit.name), Some("bodies_in_flight_bytes"));
        assert_eq!(failure.retry_seconds(), Some(1));
        let (small, sender) = request(Some(3));
        sender.send(Bytes::from("abc")).await.unwrap();
        drop(sender);
        let (small, small_held) = bodies.count(small, false, Streams::No);
        assert_eq!(read_body(small.into_body(), BOUNDS).await.unwrap(), "abc");
        // What does not come gives its room back.
        for (reading, sender, held) in slow {
            let failure = reading.await.unwrap().unwrap_err();
            assert_eq!(failure.reason, Reason::RequestTimeout);
            drop((sender, held));
        }
        drop(small_held);
        assert_eq!(free(&bodies), all);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_holds_is_bounded_by_what_it_sent() {
        let bodies = bodies(8 << 20);
        let all = free(&bodies);
        let (silent, sender) = request(Some(16 << 20));
        let (silent, _held) = bodies.count(silent, false, Streams::No);
        tokio::spawn(read_body(silent.into_body(), BOUNDS));
        tokio::task::yield_now().await;
        assert_eq!(free(&bodies), all, "nothing came");
        for (sent, held) in [(1, 4), (5, 8), (99, 128)] {
            send(&sender, sent << 10).await;
            settle().await;
            assert_eq!(all[1] - free(&bodies)[1], held << 10);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_all_have_some_room_get_to_their_end_one_after_the_other() {
        let bodies = bodies(8 << 20);
        let mut under_way = Vec::new();
        for _ in 0..8 {
            let (request, sender) = request(Some(4 << 20));
            let (request, held) = bodies.count(request, false, Streams::No);
            under_way.push(tokio::spawn(async move {
                let read = read_body(request.into_body(), BOUNDS).await;
                drop(held);
                read.map(|body| body.len())
            }));
            tokio::spawn(async move {
                for _ in 0..4 << 10 {
                    if sender.send(vec![0; 1 << 10].into()).await.is_err() {
                        return;
                    }
                }
            });
        }
        for reading in under_way {
            assert_eq!(reading.await.unwrap().unwrap(), 4 << 20);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_unknown_length_asks_for_room_as_it_grows() {
        let bodies = bodies(8 << 20);
        let (request, sender) = request(None);
        let (request, _held) = bodies.count(request, false, Streams::No);
        let reading = tokio::spawn(read_body(request.into_body(), BOUNDS));
        for _ in 0..6 {
            // It is read while there is room, and no further.
            let _ = sender.send(vec![0; 1 << 20].into()).await;
        }
        drop(sender);
        assert_eq!(reading.await.unwrap().unwrap().len(), 6 << 20);
        // It has the part for one body alone, and what it took before.
        assert_eq!(free(&bodies)[1], (5 << 20) - (5 << 18) - (2 << 20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_asks_for_room_as_it_arrives_and_has_a_deadline() {
        let bodies = bodies(8 << 20);
        let (call, sender) = request(None);
        let (call, _held) = bodies.count(call, true, Streams::No);
        sender.send(Bytes::from_static(&[0, 0, 0x20, 0, 0, b'x'])).await.unwrap();
        let mut body = call.into_body();
        body.frame().await.unwrap().unwrap();
        assert_eq!(free(&bodies)[1], (5 << 20) - FIRST);
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
        let (stream, _held) = bodies.count(stream, true, Streams::Worker);
        let room = stream.extensions().get::<StreamRoom>().unwrap().clone();
        room.keep();
        let mut body = stream.into_body();
        let all = free(&bodies)[2];
        sender.send(message(9)).await.unwrap();
        assert!(!room.has_received_part());
        body.frame().await.unwrap().unwrap();
        assert!(room.has_received_part() && !room.has_received_part(), "once for each part");
        sender.send(Bytes::from_static(&[1; 9])).await.unwrap();
        body.frame().await.unwrap().unwrap();
        assert!(!room.has_received_part(), "the message is complete");
        assert_eq!(free(&bodies)[2], all);
        // The last is held back: the reader has not given back the room of those before.
        for size in [100 << 10, 200 << 10, 200 << 10] {
            sender.send(message(size)).await.unwrap();
            send(&sender, size).await;
        }
        let read = async { while body.frame().await.is_some() {} };
        assert!(timeout(Duration::from_secs(10), read).await.is_err() && room.is_throttled());
        drop(room.take());
        body.frame().await.unwrap().unwrap();
        assert!(!room.is_throttled());
    }

    #[tokio::test(start_paused = true)]
    async fn streams_of_others_take_nothing_from_those_of_workers() {
        let bodies = bodies(4 << 20);
        let before = free(&bodies);
        let mut streams = Vec::new();
        for _ in 0..8 {
            let (stream, sender) = request(None);
            let (stream, held) = bodies.count(stream, true, Streams::Other);
            let length = (300_u32 << 10).to_be_bytes();
            sender.send([&[0][..], &length].concat().into()).await.unwrap();
            send(&sender, 200 << 10).await;
            let mut body = stream.into_body();
            let read = async { while matches!(body.frame().await, Some(Ok(_))) {} };
            let _ = timeout(Duration::from_millis(10), read).await;
            streams.push((body, sender, held));
        }
        assert!(free(&bodies)[1] < before[1], "they take memory of large bodies");
        assert_eq!(free(&bodies)[2], before[2]);
    }
}
