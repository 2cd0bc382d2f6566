//! The stream of events, for both protocols.

use std::time::Duration;

use futures_util::{Stream, stream};
use rota_engine::{Engine, EventListener, Told};
use rota_proto::v1;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Caller;
use crate::{failure::Failure, services::Services, validate, wire};

/// Interval of messages that show that the stream is alive.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

/// The type of the message that shows that the stream is alive.
pub(crate) const HEARTBEAT_TYPE: &str = "heartbeat";

/// A listener, and what ends it.
struct Watch {
    listener: EventListener,
    engine: Engine,
    stop: CancellationToken,
    is_over: bool,
}

impl Services {
    /// Streams the events that match a filter. The last message has the type `end`.
    pub(crate) async fn watch_events(
        &self,
        _: Caller,
        request: v1::WatchEventsRequest,
    ) -> Result<impl Stream<Item = v1::Event> + Send + use<>, Failure> {
        let (filter, after) = validate::watch(request, &self.limits)?;
        let listener = self.engine.watch(filter, after).await?;
        let (engine, stop) = (self.engine.clone(), self.stop.clone());
        let watch = Watch { listener, engine, stop, is_over: false };
        Ok(stream::unfold(watch, |mut watch| async move {
            let message = watch.next().await?;
            Some((message, watch))
        }))
    }
}

impl Watch {
    async fn next(&mut self) -> Option<v1::Event> {
        if self.is_over {
            return None;
        }
        let told = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Some(self.end("shutting_down")),
            told = timeout(HEARTBEAT, self.listener.next()) => told,
        };
        Some(match told {
            Ok(Told::Event(event)) => wire::event(&event),
            Ok(Told::Ready(_)) => self.message("ready", None),
            Ok(Told::Reset { reason, .. }) => self.message("reset", Some(reason.as_str())),
            Ok(Told::Ended(reason)) => self.end(reason.as_str()),
            Err(_) => self.message(HEARTBEAT_TYPE, None),
        })
    }

    fn end(&mut self, reason: &str) -> v1::Event {
        self.is_over = true;
        self.message("end", Some(reason))
    }

    /// A message about the stream itself.
    fn message(&self, kind: &str, reason: Option<&str>) -> v1::Event {
        let id = self.listener.position().to_string();
        wire::stream_message(id, kind, reason, self.engine.info().now)
    }
}
