//! Passes answers of another node on to the client.

use std::{error::Error, pin::Pin};

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, BodyStream, Limited, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use tokio::time::{Instant, timeout_at};

use super::pool::{Lost, Slot};
use crate::{
    failure::Failure,
    room::{Answers, Broken},
};

type BoxError = Box<dyn Error + Send + Sync>;

/// An answer, and the stream that carries it.
pub(super) struct Held {
    answer: Response<Incoming>,
    slot: Slot,
}

impl Held {
    pub(super) fn new(answer: Response<Incoming>, slot: Slot) -> Self {
        Self { answer, slot }
    }
}

/// Maximum bytes of an answer that is known to be small.
const SMALL: usize = 64 << 10;

/// Reads the answer to a call completely before it passes any of it on. A slow client then holds memory of
/// this node, but no stream to the leader. Fails if there is no memory for it.
pub(super) async fn whole(
    held: Held,
    answers: &Answers,
    reads: bool,
    grpc: bool,
    until: Instant,
) -> Result<Result<Response<Body>, Lost>, Failure> {
    let Held { answer, slot: _slot } = held;
    match answers.whole(answer, reads, grpc, until).await {
        Ok(answer) => Ok(Ok(answer)),
        Err(Broken::NoRoom(failure)) => Err(failure),
        Err(Broken::Late) => Ok(Err(Lost::Late)),
        Err(Broken::Off) => Ok(Err(Lost::Unknown)),
    }
}

/// Reads an answer that is known to be small.
pub(super) async fn small(held: Held, until: Instant) -> Result<Response<Body>, Lost> {
    let Held { answer, slot: _slot } = held;
    let (head, body) = answer.into_parts();
    match timeout_at(until, Limited::new(body, SMALL).collect()).await {
        Ok(Ok(body)) => Ok(Response::from_parts(head, Body::from(body.to_bytes()))),
        Ok(Err(_)) => Err(Lost::Unknown),
        Err(_) => Err(Lost::Late),
    }
}

/// The answer of a stream. It is cut off when `left` resolves.
///
/// A client of server-sent events cannot see why its connection broke. So such a stream ends with `last`, unless it
/// was cut off within an event.
pub(super) fn until(
    held: Held,
    left: impl Future<Output = ()> + Send + 'static,
    last: impl FnOnce() -> Bytes + Send + 'static,
) -> Response<Body> {
    let Held { answer, slot } = held;
    let (head, body) = answer.into_parts();
    if body.is_end_stream() {
        return Response::from_parts(head, Body::empty());
    }
    let kind = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let events = (kind == Some(b"text/event-stream")).then(EventPlace::default);
    let body = BodyStream::new(body);
    let carried = Carried { body, left: Box::pin(left), last, events, _slot: slot };
    let frames = futures_util::stream::unfold(Some(carried), |carried| async move {
        let mut carried = carried?;
        match carried.next().await? {
            Ok(frame) => Some((Ok(frame), Some(carried))),
            Err(why) => carried.over(why).map(|last| (last, None)),
        }
    });
    Response::from_parts(head, Body::new(StreamBody::new(frames)))
}

/// A stream from another node.
struct Carried<L, E> {
    body: BodyStream<Incoming>,
    left: Pin<Box<L>>,
    last: E,
    /// The place in a stream of server-sent events.
    events: Option<EventPlace>,
    _slot: Slot,
}

impl<L: Future<Output = ()>, E: FnOnce() -> Bytes> Carried<L, E> {
    /// The next frame, or why the stream broke. `None` at its end.
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        let frame = tokio::select! {
            biased;
            () = self.left.as_mut() => {
                return Some(Err("another node became the leader, or this node stops".into()));
            }
            frame = self.body.next() => frame?,
        };
        if let (Some(place), Ok(frame)) = (&mut self.events, &frame)
            && let Some(data) = frame.data_ref()
        {
            place.pass(data);
        }
        Some(frame.map_err(BoxError::from))
    }

    /// The last frame of a stream that broke, if it needs one.
    fn over(self, why: BoxError) -> Option<Result<Frame<Bytes>, BoxError>> {
        match self.events {
            Some(place) if place.has_ended => None,
            Some(place) if place.is_between_events => Some(Ok(Frame::data((self.last)()))),
            _ => Some(Err(why)),
        }
    }
}

/// The place in a stream of server-sent events, which are separated by empty lines.
struct EventPlace {
    is_between_events: bool,
    /// Whether the leader has sent the last event.
    has_ended: bool,
}

impl Default for EventPlace {
    fn default() -> Self {
        Self { is_between_events: true, has_ended: false }
    }
}

impl EventPlace {
    fn pass(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.is_between_events = data.ends_with(b"\n\n");
        self.has_ended |= data.windows(END.len()).any(|part| part == END);
    }
}

/// The line that begins the last event.
const END: &[u8] = b"event: end\n";
