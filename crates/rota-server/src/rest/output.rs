//! The output of a task over REST, as server-sent events.

use axum::{extract::State, http::HeaderMap, response::Response};
use rota_proto::v1::WatchOutputRequest;

use super::{
    extract::Part,
    fields::in_query,
    handlers::handlers,
    problem::Problem,
    query::Pairs,
    sse::{self, ServerSentEvent},
};
use crate::{failure::Failure, operations::Caller, services::Services};

handlers! {
    WatchOutput => watch,
}

/// Streams the output of a task as server-sent events, while the task runs.
///
/// The stream begins with what is known of the last attempt. Each event has an id, a type and a `TaskOutput` as JSON.
/// While nothing happens, a comment and the current id come every 15 seconds. The stream ends with `end`: reconnect
/// then, unless its reason is `task_ended`.
#[utoipa::path(get, path = "/v1/tasks/{id}/logs", operation_id = "watch_output", tag = "tasks", params(
    ("id" = String, Path, description = "Task id", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("follow" = Option<bool>, Query, description = "False ends the stream when everything is sent that is known now. Default: true."),
    ("last_event_id" = Option<String>, Query, description = "Id of the last received event, for clients that cannot set the header. The header wins.", pattern = "^[0-9]{1,20}-([0-9]{1,20}|end)$"),
    ("last-event-id" = Option<String>, Header, description = "Id of the last received event: the stream continues after it", pattern = "^[0-9]{1,20}-([0-9]{1,20}|end)$"),
), responses(
    (status = 200, description = "The stream of the output", body = ServerSentEvent, content_type = "text/event-stream"),
    (status = 404, description = "No such task", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "This node cannot read the record of the task", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn watch(
    State(services): State<Services>,
    caller: Caller,
    Part(id): Part,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Response, Failure> {
    let (follow, mut last_event_id) = pairs.output()?;
    if let Some(id) = sse::last_event_id(&headers)? {
        last_event_id = Some(id);
    }
    let request = WatchOutputRequest { id, follow, last_event_id };
    let output = services.watch_output(caller, request).await.map_err(in_query)?;
    Ok(sse::answer(output, |message| (&message.id, &message.r#type)))
}
