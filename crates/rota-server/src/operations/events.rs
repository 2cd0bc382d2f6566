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
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The type of the message that shows that the stream is alive.
pub(crate) const HEARTBEAT_TYPE: &str = "heartbeat";
/// The last message of a stream.
pub(crate) fn end(engine: &Engine, id: String, reason: &str) -> v1::Event {
    message(engine, id, "end", Some(reason))
}

/// A message about the stream itself.
fn message(engine: &Engine, id: String, kind: &str, reason: Option<&str>) -> v1::Event {
    v1::Event {
        id,
        r#type: kind.to_owned(),
        time: Some(wire::date(engine.info().now)),
        reason: reason.map(ToOwned::to_owned),
        ..v1::Event::default()
    }
}

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
        end(&self.engine, self.listener.position().to_string(), reason)
    }

    fn message(&self, kind: &str, reason: Option<&str>) -> v1::Event {
        message(&self.engine, self.listener.position().to_string(), kind, reason)
    }
}
