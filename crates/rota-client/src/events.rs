//! Events: changes of tasks, queues, workers and schedules, as a stream that reconnects by itself.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt};
use rota_proto::operations::Operation;
use rota_proto::v1::{self, event_service_client::EventServiceClient};
use tonic::Streaming;

use crate::{
    client::{ANSWER_BYTES, Client},
    error::ClientError,
    follow::{Followed, Next, Source, Step, follow},
};

/// Selects events. An event matches if it has every property that the filter names: a filter with a queue selects
/// events of the queue and its tasks, and none of workers. Empty selects all events.
///
/// ```
/// use rota_client::EventFilter;
///
/// let failed = EventFilter::new().queue("images").types(["task.failed", "task.retrying"]);
/// # let _ = failed;
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use]
pub struct EventFilter(v1::WatchEventsRequest);

impl EventFilter {
    /// All events.
    pub fn new() -> Self {
        Self::default()
    }

    fn properties(mut self, change: impl FnOnce(&mut v1::TaskFilter)) -> Self {
        change(self.0.filter.get_or_insert_default());
        self
    }

    /// Only events of this task, or of one of several if it is called again. Up to 100.
    pub fn task(mut self, id: impl Into<String>) -> Self {
        self.0.tasks.push(id.into());
        self
    }

    /// Only events of tasks whose id begins like this.
    pub fn task_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.0.task_prefix = Some(prefix.into());
        self
    }

    /// Only events of this queue and its tasks.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        self.properties(|properties| properties.queue = Some(queue.into()))
    }

    /// Only events of tasks of this kind.
    pub fn kind(self, kind: impl Into<String>) -> Self {
        self.properties(|properties| properties.kind = Some(kind.into()))
    }

    /// Only events of tasks with this label. If it is called again, all labels must match.
    pub fn label(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties(|properties| drop(properties.labels.insert(name.into(), value.into())))
    }

    /// Only events of this schedule and its tasks.
    pub fn schedule(self, schedule: impl Into<String>) -> Self {
        self.properties(|properties| properties.schedule = Some(schedule.into()))
    }

    /// Only events of tasks with this status after the change, or with one of several if it is called again.
    pub fn status(self, status: v1::TaskStatus) -> Self {
        self.properties(|properties| properties.statuses.push(status.into()))
    }

    /// Only events of tasks with this priority, or with one of several if it is called again.
    pub fn priority(self, priority: u32) -> Self {
        self.properties(|properties| properties.priorities.push(priority))
    }

    /// Only events of this worker and of attempts that it runs.
    pub fn worker(mut self, worker: impl Into<String>) -> Self {
        self.0.worker = Some(worker.into());
        self
    }

    /// Only events of these types, such as `task.completed`, or groups of types, such as `task`.
    pub fn types<T: Into<String>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.0.types.extend(types.into_iter().map(Into::into));
        self
    }

    /// Continues after the event with this id instead of beginning now. If later events are no longer kept, the
    /// first one is a `reset`.
    pub fn after(mut self, id: impl Into<String>) -> Self {
        self.0.last_event_id = Some(id.into());
        self
    }
}

impl From<v1::WatchEventsRequest> for EventFilter {
    fn from(request: v1::WatchEventsRequest) -> Self {
        Self(request)
    }
}

/// A stream of events, which [`Client::events`] returns.
///
/// - The first event has the type `ready`: everything that changes from then on is told. Read the current state
///   after it.
/// - After an event of the type `reset`, some events were missed, because another node became the leader or because
///   this client was too slow. Read the current state again.
/// - When the connection breaks, the stream reconnects and continues after the last event. So each event comes once
///   and in order, except across a `reset`.
/// - An error means that the stream could not reconnect within [`Builder::patience`](crate::Builder::patience). It
///   tries again when it is polled again. It ends after an error that no retry can help.
#[must_use = "streams do nothing unless polled"]
pub struct Events(Followed<v1::Event>);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Stream for Events {
    type Item = Result<v1::Event, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl Events {
    /// The next event. `None` after an error that no retry can help. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<v1::Event, ClientError>> {
        self.0.next().await
    }
}

impl Client {
    /// Streams events that match a filter, as they become durable. Connects when it is first polled.
    pub fn events(&self, filter: EventFilter) -> Events {
        let source = EventSource { request: filter.0, was_ready: false };
        Events(follow(self.clone(), source))
    }
}

struct EventSource {
    /// With the id of the last received event.
    request: v1::WatchEventsRequest,
    was_ready: bool,
}

impl Source for EventSource {
    type Message = v1::Event;

    async fn connect(&self, client: &Client) -> Result<Streaming<v1::Event>, ClientError> {
        let (repeat, timeout) = (Operation::WatchEvents.repeat(), client.request_timeout);
        let watch = |connection| {
            let request = self.request.clone();
            async move {
                EventServiceClient::new(connection)
                    .max_decoding_message_size(ANSWER_BYTES)
                    .watch_events(request)
                    .await
            }
        };
        client.nodes.ask(repeat, timeout, watch).await
    }

    fn receive(&mut self, event: &v1::Event) -> Step {
        if !event.id.is_empty() {
            self.request.last_event_id = Some(event.id.clone());
        }
        match event.r#type.as_str() {
            "ready" if mem::replace(&mut self.was_ready, true) => Step::Skip,
            "ready" => Step::PassUntested,
            "reset" => {
                self.was_ready = true;
                Step::PassUntested
            }
            "heartbeat" => Step::Alive,
            "end" => Step::Reconnect(Next::of(event.reason())),
            _ => Step::Pass,
        }
    }
}
