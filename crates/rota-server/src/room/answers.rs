//! Room for large answers, from when they are built until the client has read them.
//!
//! An answer that only tells something is refused when there is no room for it. One that says what
//! was done is always given. The rest of an answer that its client does not read is dropped.

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
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use rota_metrics::{InFlight, NodeMetrics};
use tokio::{
    sync::Semaphore,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{Budget, ROOM, Room, no_room};
use crate::{
    failure::{Failure, LimitName, Reason},
    limits::Limits,
};

/// An answer up to so many bytes is not counted.
const LARGE: usize = 64 << 10;
/// Large answers that may wait for room at once; further ones are refused.
const WAITING: usize = 32;

/// All room for answers.
#[derive(Debug)]
pub(crate) struct Answers {
    budget: Budget,
    waiting: Semaphore,
    limit: LimitName,
    /// An answer of which the client reads nothing for so long is dropped.
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

    /// The answer, or that there is no room for it. `reads`: it only tells something.
    pub(crate) async fn count(
        &self,
        answer: Response<Body>,
        reads: bool,
        grpc: bool,
    ) -> Response<Body> {
        // The message of a gRPC call has no length before it is read.
        let length = answer.body().size_hint().exact();
        let small = length.is_some_and(|length| length <= LARGE as u64);
        if small || (grpc && !reads) || answer.body().is_end_stream() {
            return answer;
        }
        let (head, body) = answer.into_parts();
        let Ok(body) = body.collect().await else {
            let failure = Failure::new(Reason::Internal, "the answer broke off");
            return dress(failure, grpc);
        };
        let trailers = body.trailers().cloned();
        let data = body.to_bytes();
        let room = if data.len() <= LARGE {
            None
        } else if reads {
            match self.room(data.len()).await {
                Some(room) => Some(room),
                None => return dress(no_room("answer", self.limit), grpc),
            }
        } else {
            self.budget.take_some(data.len())
        };
        Response::from_parts(head, Body::new(Large::new(data, trailers, room, self.stall)))
    }

    async fn room(&self, bytes: usize) -> Option<Room> {
        if let Some(room) = self.budget.try_take(bytes) {
            return Some(room);
        }
        let _place = self.waiting.try_acquire().ok()?;
        timeout(ROOM, self.budget.clone().take(bytes)).await.ok()
    }
}

fn dress(failure: Failure, grpc: bool) -> Response<Body> {
    if grpc { tonic::Status::from(failure).into_http() } else { failure.into_response() }
}

#[derive(Debug)]
struct Rest {
    data: Bytes,
    _room: Option<Room>,
}

/// An answer that is given out in parts.
#[derive(Debug)]
struct Large {
    rest: Arc<Mutex<Option<Rest>>>,
    /// Parts that were given out.
    given: Arc<AtomicUsize>,
    left: usize,
    trailers: Option<HeaderMap>,
    watch: Option<AbortHandle>,
}

impl Large {
    fn new(data: Bytes, trailers: Option<HeaderMap>, room: Option<Room>, stall: Duration) -> Self {
        let left = data.len();
        let rest = Arc::new(Mutex::new(Some(Rest { data, _room: room })));
        let given = Arc::new(AtomicUsize::new(0));
        // The body itself is not asked while its client reads nothing.
        let watch = (left > LARGE).then(|| {
            let (rest, given) = (rest.clone(), given.clone());
            tokio::spawn(drop_when_stalled(rest, given, stall)).abort_handle()
        });
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
        if let Some(watch) = &self.watch {
            watch.abort();
        }
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
        // A copy: what waits in a connection's buffers must not keep all of the answer.
        let part = if this.left == 0 && this.given.load(Ordering::Relaxed) == 0 {
            part
        } else {
            Bytes::copy_from_slice(&part)
        };
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
