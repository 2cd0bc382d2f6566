//! The stream of events over REST, as server-sent events.

use axum::{extract::State, http::HeaderMap, response::Response};
use rota_proto::{Date, v1::TaskStatus};

use super::{
    fields::in_query,
    handlers::handlers,
    query::Pairs,
    sse::{self, ServerSentEvent},
    tasks::Level,
};
use crate::{failure::Failure, operations::Caller, services::Services};

handlers! {
    WatchEvents => watch,
}

/// Streams events as server-sent events, as they become durable.
///
/// An event matches if it has every property that the parameters name. Each event has an id, a type and an `Event`
/// as JSON. The stream begins with `ready`, or with `reset` if events were missed. While nothing happens, a comment
/// and the current id come every 15 seconds. The stream ends with `end`: reconnect then.
#[utoipa::path(get, path = "/v1/events", operation_id = "watch_events", tag = "events", params(
    ("task" = Option<Vec<String>>, Query, description = "Only events of these tasks, by id. Can be repeated or separated by commas.", pattern = "^[A-Za-z0-9._:/,-]+$"),
    ("task_prefix" = Option<String>, Query, description = "Only events of tasks whose id begins like this", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("queue" = Option<String>, Query, description = "Only events of this queue and its tasks", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("kind" = Option<String>, Query, description = "Only events of tasks of this kind", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("status" = Option<Vec<TaskStatus>>, Query, description = "Only events of tasks that have one of these statuses after the change. Can be repeated or separated by commas."),
    ("label" = Option<Vec<String>>, Query, description = "Only events of tasks with this label, as name=value. Can be repeated; all must match.", pattern = "^[A-Za-z0-9._:/-]{1,128}=[^\\u0000]*$"),
    ("created_from" = Option<Date>, Query, description = "Only events of tasks created at this time or later"),
    ("created_to" = Option<Date>, Query, description = "Only events of tasks created before this time"),
    ("run_at_from" = Option<Date>, Query, description = "Only events of tasks due at this time or later"),
    ("run_at_to" = Option<Date>, Query, description = "Only events of tasks due before this time"),
    ("schedule" = Option<String>, Query, description = "Only events of this schedule and its tasks", min_length = 1, max_length = 90, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("priority" = inline(Option<Vec<Level>>), Query, description = "Only events of tasks with one of these priorities. Can be repeated or separated by commas."),
    ("worker" = Option<String>, Query, description = "Only events of this worker and of attempts that it runs", min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$"),
    ("type" = Option<Vec<String>>, Query, description = "Only events of these types, such as task.completed, or groups, such as task. Can be repeated or separated by commas.", pattern = "^[a-z.*,]+$"),
    ("last_event_id" = Option<String>, Query, description = "Id of the last received event, for clients that cannot set the header. The header wins.", pattern = "^[0-9]{1,20}-[0-9]{1,20}-[0-9]{1,10}$"),
    ("brief" = Option<bool>, Query, description = "Whether you never resume the stream after a break. Then the server keeps no events for you after you leave. Default: false."),
    ("last-event-id" = Option<String>, Header, description = "Id of the last received event: the stream continues after it", pattern = "^[0-9]{1,20}-[0-9]{1,20}-[0-9]{1,10}$"),
), responses(
    (status = 200, description = "The stream of events", body = ServerSentEvent, content_type = "text/event-stream"),
))]
pub(crate) async fn watch(
    State(services): State<Services>,
    caller: Caller,
    headers: HeaderMap,
    pairs: Pairs,
) -> Result<Response, Failure> {
    let (filter, mut request) = pairs.events()?;
    request.filter = Some(filter.into());
    if let Some(id) = sse::last_event_id(&headers)? {
        request.last_event_id = Some(id);
    }
    let events = services.watch_events(caller, request).await.map_err(in_query)?;
    Ok(sse::answer(events, |event| (&event.id, &event.r#type)))
}
