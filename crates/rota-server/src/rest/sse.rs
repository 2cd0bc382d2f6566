//! Server-sent events: what all their streams have in common.

use std::{convert::Infallible, time::Duration};

use axum::{
    http::{HeaderMap, header},
    response::{
        IntoResponse, Response,
        sse::{Event as Frame, Sse},
    },
};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{failure::Failure, operations::events::HEARTBEAT_TYPE};

/// The header with which browsers reconnect.
const LAST_EVENT_ID: &str = "last-event-id";
/// The time after which a browser reconnects.
const RETRY: Duration = Duration::from_secs(1);

/// A server-sent event, as clients read it from the lines of the stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes the stream")]
pub(super) struct ServerSentEvent {
    /// Id of the event, to continue after it.
    id: Option<String>,
    /// Type of the event, such as `task.completed` or `output`.
    event: Option<String>,
    /// The event as JSON.
    data: Option<String>,
    /// Time after which to reconnect, in milliseconds.
    retry: Option<u64>,
}

/// The id in the header, if there is one. A browser that reconnects sends the address as it was, and the newer id in
/// the header.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let mut given = headers.get_all(LAST_EVENT_ID).iter();
    let Some(value) = given.next() else { return Ok(None) };
    match value.to_str() {
        Ok(_) if given.next().is_some() => {
            Err(Failure::field(LAST_EVENT_ID, "occurs more than once"))
        }
        // Browsers send an empty one after a stream without ids.
        Ok("") => Ok(None),
        Ok(id) => Ok(Some(id.to_owned())),
        Err(_) => Err(Failure::field(LAST_EVENT_ID, "must be ASCII")),
    }
}

/// The answer with a stream of messages, of which `parts` are the id and the type.
pub(super) fn answer<M: Serialize + 'static>(
    messages: impl Stream<Item = M> + Send + 'static,
    parts: fn(&M) -> (&str, &str),
) -> Response {
    let mut is_first = true;
    let frames = messages.map(move |message| {
        let (id, kind) = parts(&message);
        let frame = frame(&message, id, kind);
        Ok::<_, Infallible>(if std::mem::take(&mut is_first) { frame.retry(RETRY) } else { frame })
    });
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        // Some proxies would hold events back to send more at once.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Sse::new(frames)).into_response()
}

/// A message as the protocol writes it. A heartbeat is a comment with the id to go on after, which clients do not take
/// for an event.
fn frame<M: Serialize>(message: &M, id: &str, kind: &str) -> Frame {
    if kind == HEARTBEAT_TYPE {
        return Frame::default().comment("heartbeat").id(id);
    }
    let json = serde_json::to_string(message).unwrap_or_default();
    Frame::default().id(id).event(kind).data(json)
}
