//! Answers of another node on their way to the client.

use std::error::Error;

use axum::body::Body;
use futures_util::StreamExt;
use http::Response;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout_at};

use super::pool::Slot;

/// An answer up to so many bytes is read as a whole before it goes on, so that a client that reads
/// slowly does not hold a stream to the leader.
const WHOLE_BYTES: usize = 64 << 10;

type BoxError = Box<dyn Error + Send + Sync>;

/// An answer, and the stream on which it comes.
pub(super) struct Held {
    answer: Response<Incoming>,
    slot: Slot,
}

impl Held {
    pub(super) fn new(answer: Response<Incoming>, slot: Slot) -> Self {
        Self { answer, slot }
    }
}

/// The answer to a call. If it is small it is read to its end, by then.
pub(super) async fn whole(held: Held, until: Instant) -> Response<Body> {
    let Held { answer, slot } = held;
    let (head, mut body) = answer.into_parts();
    let (mut frames, mut bytes) = (Vec::new(), 0);
    while !body.is_end_stream() && bytes <= WHOLE_BYTES {
        let frame = match timeout_at(until, body.frame()).await {
            Ok(Some(frame)) => frame.map_err(BoxError::from),
            Ok(None) => break,
            Err(_) => Err("the rest of the answer did not come in time".into()),
        };
        bytes +=
            frame.as_ref().ok().and_then(|frame| frame.data_ref()).map_or(0, bytes::Bytes::len);
        let failed = frame.is_err();
        frames.push(frame);
        if failed {
            break;
        }
    }
    // An answer that ends with its head must go on as one: gRPC tells errors so.
    if frames.is_empty() {
        return Response::from_parts(head, Body::empty());
    }
    let first = futures_util::stream::iter(frames);
    if bytes <= WHOLE_BYTES {
        return Response::from_parts(head, Body::new(StreamBody::new(first)));
    }
    let rest = BodyStream::new(body).map(move |frame| {
        let _held = &slot;
        frame.map_err(BoxError::from)
    });
    Response::from_parts(head, Body::new(StreamBody::new(first.chain(rest))))
}

/// The answer of a stream, which breaks off when `left` resolves.
pub(super) fn until(held: Held, left: impl Future<Output = ()> + Send + 'static) -> Response<Body> {
    let Held { answer, slot } = held;
    let (head, body) = answer.into_parts();
    if body.is_end_stream() {
        return Response::from_parts(head, Body::empty());
    }
    let why = "another node leads now, or this one stops";
    let over = || futures_util::stream::once(async move { Err(why.into()) });
    let frames = BodyStream::new(body)
        .map(move |frame| {
            let _held = &slot;
            frame.map_err(BoxError::from)
        })
        .take_until(Box::pin(left));
    // Behind the end of the answer nothing more is read; behind its interruption, this is.
    Response::from_parts(head, Body::new(StreamBody::new(frames.chain(over()))))
}
