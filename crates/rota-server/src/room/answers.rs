//! The memory budget for large answers, from when they are built or arrive from another node until the client
//! has read them.
//!
//! Without free memory, the answer to a read is refused. The answer to a change is always sent. If a client
//! does not read an answer, the rest of it is dropped.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::IntoResponse};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use rota_metrics::{InFlight, NodeMetrics};
use tokio::{
    sync::Semaphore,
    task::AbortHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{Budget, ROOM, Room, framing, no_room};
use crate::{
    failure::{Failure, LimitName, Reason},
    limits::Limits,
};

/// Answers up to this size do not count, because they are hardly larger than the buffers of their stream.
/// Larger answers are passed on in parts of this size, because a part in a connection's buffer no longer
/// counts.
const LARGE: usize = 4 << 10;
/// Maximum number of large answers that wait for memory. Further ones are refused.
const WAITING: usize = 32;

/// The memory budget for answers.
#[derive(Debug)]
pub(crate) struct Answers {
    budget: Budget,
    waiting: Semaphore,
    limit: LimitName,
    /// Time after which an answer is dropped if the client reads nothing of it.
    stall: Duration,
}

impl Answers {
    pub(crate) fn new(limits: &Limits, metrics: &NodeMetrics) -> Self {
        let bytes = limits.answers_in_flight_bytes;
        let max = bytes as u64;
        Self {
            budget: Budget::of(bytes, InFlight::Answers, metrics),
            waiting: Semaphore::new(WAITING),
            limit: LimitName { name: "answers_in_flight_bytes", max },
            stall: limits.body_timeout,
        }
    }

    /// An answer of this node, or a refusal if there is no memory for it. `reads`: the operation only reads.
    pub(crate) async fn count(
        &self,
        answer: Response<Body>,
        reads: bool,
        grpc: bool,
    ) -> Response<Body> {
        let length = answer.body().size_hint().exact();
        if length.is_some_and(|length| length <= LARGE as u64) {
            return answer;
        }
        let until = Instant::now() + self.stall;
        match self.whole(answer, reads, grpc, until).await {
            Ok(answer) => answer,
            Err(Broken::NoRoom(failure)) => answer_with(failure, grpc),
            Err(Broken::Off | Broken::Late) => {
                answer_with(Failure::new(Reason::Internal, "the answer was interrupted"), grpc)
            }
        }
    }

    /// Buffers a complete answer, so that a slow client does not hold up its sender. A small answer must
    /// arrive by `until`; a large one must not stall for too long.
    pub(crate) async fn whole<B>(
        &self,
        answer: Response<B>,
        reads: bool,
        grpc: bool,
        until: Instant,
    ) -> Result<Response<Body>, Broken>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let (head, mut body) = answer.into_parts();
        // An answer without a body must stay one, because gRPC reports errors in this way.
        if body.is_end_stream() {
            return Ok(Response::from_parts(head, Body::empty()));
        }
        let mut expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let (mut data, mut parts) = (Bytes::new(), BytesMut::new());
        let (mut rooms, mut trailers, mut have) = (Rooms::default(), None, 0);
        while let Some(frame) = timeout_at(self.within(have, until), body.frame()).await? {
            let frame = match frame.map_err(|_| Broken::Off)?.into_data() {
                Ok(part) => part,
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    continue;
                }
            };
            if grpc && have == 0 {
                // The length of a message precedes it.
                expected = expected.max(framing::announced(&frame));
            }
            have += frame.len();
            self.make_room(&mut rooms, have, expected, reads).await?;
            if have == frame.len() {
                data = frame;
                continue;
            }
            if parts.is_empty() {
                parts.reserve(have.max(expected.min(rooms.bytes)));
                parts.extend_from_slice(&std::mem::take(&mut data));
            }
            parts.extend_from_slice(&frame);
        }
        let data = if parts.is_empty() { data } else { parts.freeze() };
        let body = if data.len() > LARGE {
            Body::new(Large::new(data, trailers, rooms.held, self.stall))
        } else if let Some(trailers) = trailers {
            Body::new(Full::new(data).with_trailers(std::future::ready(Some(Ok(trailers)))))
        } else {
            Body::from(data)
        };
        Ok(Response::from_parts(head, body))
    }

    fn within(&self, have: usize, until: Instant) -> Instant {
        if have <= LARGE { until } else { Instant::now() + self.stall }
    }

    /// Takes memory for the part of an answer that has arrived, and for the rest if its length is known.
    async fn make_room(
        &self,
        rooms: &mut Rooms,
        have: usize,
        expected: usize,
        reads: bool,
    ) -> Result<(), Broken> {
        let wanted = have.max(expected);
        if wanted <= LARGE || wanted <= rooms.bytes {
            return Ok(());
        }
        // Doubles the amount, so that an answer of unknown length takes memory only a few times.
        let wanted = if expected < have { have.next_power_of_two() } else { expected };
        let more = wanted - rooms.bytes;
        let room = if reads {
            let room = self.room(more).await;
            Some(room.ok_or_else(|| Broken::NoRoom(no_room("answer", self.limit)))?)
        } else {
            self.budget.take_some(more)
        };
        rooms.held.extend(room);
        rooms.bytes = wanted;
        Ok(())
    }

    async fn room(&self, bytes: usize) -> Option<Room> {
        if let Some(room) = self.budget.try_take(bytes) {
            return Some(room);
        }
        let _place = self.waiting.try_acquire().ok()?;
        timeout(ROOM, self.budget.clone().take(bytes)).await.ok()
    }
}

/// Why an answer is incomplete.
#[derive(Debug)]
pub(crate) enum Broken {
    NoRoom(Failure),
    /// It stalled for too long.
    Late,
    /// It was interrupted.
    Off,
}

impl From<tokio::time::error::Elapsed> for Broken {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::Late
    }
}

/// The memory that an answer holds so far.
#[derive(Debug, Default)]
struct Rooms {
    bytes: usize,
    held: Vec<Room>,
}

fn answer_with(failure: Failure, grpc: bool) -> Response<Body> {
    if grpc { tonic::Status::from(failure).into_http() } else { failure.into_response() }
}

#[derive(Debug)]
struct Rest {
    data: Bytes,
    _rooms: Vec<Room>,
}

/// An answer that is sent in parts.
#[derive(Debug)]
struct Large {
    rest: Arc<Mutex<Option<Rest>>>,
    /// The parts that were sent.
    given: Arc<AtomicUsize>,
    left: usize,
    trailers: Option<HeaderMap>,
    watch: AbortHandle,
}

impl Large {
    fn new(data: Bytes, trailers: Option<HeaderMap>, rooms: Vec<Room>, stall: Duration) -> Self {
        let left = data.len();
        let rest = Arc::new(Mutex::new(Some(Rest { data, _rooms: rooms })));
        let given = Arc::new(AtomicUsize::new(0));
        // The body is not polled while its client reads nothing.
        let watch = {
            let (rest, given) = (rest.clone(), given.clone());
            tokio::spawn(drop_when_stalled(rest, given, stall)).abort_handle()
        };
        Self { rest, given, left, trailers, watch }
    }
}

async fn drop_when_stalled(
    rest: Arc<Mutex<Option<Rest>>>,
    given: Arc<AtomicUsize>,
    stall: Duration,
) {
    let mut before = given.load(Ordering::Relaxed);
    loop {
        sleep(stall).await;
        let now = given.load(Ordering::Relaxed);
        if now == before {
            break;
        }
        before = now;
    }
    rest.lock().unwrap_or_else(PoisonError::into_inner).take();
}

impl Drop for Large {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl HttpBody for Large {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if this.left == 0 {
            return Poll::Ready(this.trailers.take().map(|it| Ok(Frame::trailers(it))));
        }
        let mut rest = this.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Rest { data, .. }) = rest.as_mut() else {
            this.left = 0;
            this.trailers = None;
            return Poll::Ready(Some(Err("the client did not read the answer in time".into())));
        };
        let part = data.split_to(data.len().min(LARGE));
        this.left = data.len();
        // A copy, so that a part in a connection's buffer does not keep the whole answer in memory.
        let part = Bytes::copy_from_slice(&part);
        this.given.fetch_add(1, Ordering::Relaxed);
        if this.left == 0 {
            rest.take();
        }
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(bytes: usize) -> Answers {
        let limits = Limits { answers_in_flight_bytes: bytes, ..Limits::default() };
        Answers::new(&limits, &NodeMetrics::default())
    }

    fn answer(bytes: usize) -> Response<Body> {
        Response::new(Body::from(vec![7; bytes]))
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_tells_is_refused_without_room_and_what_was_done_is_said() {
        let answers = answers(1 << 20);
        let first = answers.count(answer(1 << 20), true, false).await;
        let refused = answers.count(answer(1 << 20), true, false).await;
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (429, &"1".parse().unwrap())
        );
        let refused = answers.count(answer(1 << 20), true, true).await;
        assert_eq!(refused.headers()["grpc-status"], "8");
        let small = answers.count(answer(LARGE), true, false).await;
        assert_eq!(small.status(), 200);
        let done = answers.count(answer(1 << 20), false, false).await;
        assert_eq!(done.into_body().collect().await.unwrap().to_bytes().len(), 1 << 20);
        let whole = first.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(whole, vec![7; 1 << 20]);
        assert_eq!(answers.count(answer(1 << 20), true, false).await.status(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_read_is_dropped() {
        let answers = answers(1 << 20);
        let unread = answers.count(answer(1 << 20), true, false).await;
        let _ = timeout(Duration::from_secs(61), std::future::pending::<()>()).await;
        assert_eq!(answers.budget.free.available_permits(), 1024);
        assert!(unread.into_body().collect().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn answers_of_calls_keep_their_trailers() {
        let frames = [
            Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![7; 100_000]))),
            Ok(Frame::trailers(HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                http::HeaderValue::from_static("0"),
            )]))),
        ];
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
        let answer = answers(1 << 20).count(Response::new(Body::new(body)), true, true).await;
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes().len(), 100_000);
    }
}
