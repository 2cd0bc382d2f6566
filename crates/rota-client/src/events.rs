//! Events: changes of tasks, queues, workers and schedules, as a stream that reconnects by itself.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use rota_proto::operations::Operation;
use rota_proto::v1::{self, event_service_client::EventServiceClient};
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use crate::{
    client::{ANSWER_BYTES, Client},
    error::{ClientError, ErrorKind},
};

/// Time without a message after which a connection counts as broken. The server sends one every 15 seconds.
pub(crate) const SILENCE: Duration = Duration::from_secs(45);
/// Pause before the stream reconnects. It doubles while connections break at once.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

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
pub struct Events(Pin<Box<dyn Stream<Item = Result<v1::Event, ClientError>> + Send>>);

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
        let watching = Watching {
            client: self.clone(),
            request: filter.0,
            stream: None,
            was_ready: false,
            is_over: false,
            rest: Rest::default(),
        };
        Events(Box::pin(stream::unfold(watching, |mut watching| async move {
            let event = watching.next().await?;
            Some((event, watching))
        })))
    }
}

struct Watching {
    client: Client,
    /// With the id of the last received event.
    request: v1::WatchEventsRequest,
    stream: Option<Streaming<v1::Event>>,
    was_ready: bool,
    is_over: bool,
    rest: Rest,
}

impl Watching {
    async fn next(&mut self) -> Option<Result<v1::Event, ClientError>> {
        while !self.is_over {
            let Some(stream) = &mut self.stream else {
                match self.connect().await {
                    Ok(stream) => self.stream = Some(stream),
                    Err(error) => {
                        self.is_over = is_final(&error);
                        return Some(Err(error));
                    }
                }
                continue;
            };
            let Ok(Ok(Some(event))) = timeout(SILENCE, stream.message()).await else {
                self.client.next_node();
                self.reconnect().await;
                continue;
            };
            if !event.id.is_empty() {
                self.request.last_event_id = Some(event.id.clone());
            }
            match event.r#type.as_str() {
                "ready" if std::mem::replace(&mut self.was_ready, true) => {}
                "heartbeat" => self.rest.over(),
                "end" => {
                    if event.reason.as_deref() == Some("shutting_down") {
                        self.client.next_node();
                    }
                    self.reconnect().await;
                }
                "ready" => return Some(Ok(event)),
                "reset" => {
                    self.was_ready = true;
                    return Some(Ok(event));
                }
                _ => {
                    self.rest.over();
                    return Some(Ok(event));
                }
            }
        }
        None
    }

    async fn connect(&self) -> Result<Streaming<v1::Event>, ClientError> {
        let (repeat, timeout) = (Operation::WatchEvents.repeat(), self.client.request_timeout);
        let watch = |connection| {
            let request = self.request.clone();
            async move {
                EventServiceClient::new(connection)
                    .max_decoding_message_size(ANSWER_BYTES)
                    .watch_events(request)
                    .await
            }
        };
        self.client.nodes.ask(repeat, timeout, watch).await
    }

    /// Forgets the connection, and waits before the next one.
    async fn reconnect(&mut self) {
        self.stream = None;
        self.rest.take().await;
    }
}

/// The pause before a stream reconnects.
pub(crate) struct Rest(Duration);

impl Default for Rest {
    fn default() -> Self {
        Self(PAUSE_MIN)
    }
}

impl Rest {
    /// Waits. The next pause is longer.
    pub(crate) async fn take(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(PAUSE_MAX);
    }

    /// The connection works.
    pub(crate) fn over(&mut self) {
        self.0 = PAUSE_MIN;
    }
}

/// Whether no retry can help.
pub(crate) fn is_final(error: &ClientError) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::ResourceExhausted
    )
}
