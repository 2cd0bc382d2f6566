//! Passes answers of another node on to the client.

use std::error::Error;

use axum::body::Body;
use futures_util::StreamExt;
use http::Response;
use http_body_util::{BodyExt, BodyStream, Limited, StreamBody};
use hyper::body::{Body as _, Incoming};
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
pub(super) fn until(held: Held, left: impl Future<Output = ()> + Send + 'static) -> Response<Body> {
    let Held { answer, slot } = held;
    let (head, body) = answer.into_parts();
    if body.is_end_stream() {
        return Response::from_parts(head, Body::empty());
    }
    let why = "another node became the leader, or this node stops";
    let over = || futures_util::stream::once(async move { Err(why.into()) });
    let frames = BodyStream::new(body)
        .map(move |frame| {
            let _held = &slot;
            frame.map_err(BoxError::from)
        })
        .take_until(Box::pin(left));
    // Nothing is read after the end of the answer, but this error is read after an interruption.
    Response::from_parts(head, Body::new(StreamBody::new(frames.chain(over()))))
}
