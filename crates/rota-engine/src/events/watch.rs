//! The call of the engine that begins to listen.

use std::time::Duration;

use super::{event::EventId, filter::EventFilter, hub::NoPlace, listener::EventListener};
use crate::{api::EngineError, engine::Engine};

/// Time after which a listener that found no place may try again.
const RETRY: Duration = Duration::from_secs(5);

impl Engine {
    /// Listens to events that match the filter: to those after the event with this id, or to those from now
    /// on. Everything that becomes durable after this call is told. So a caller that reads a state afterwards
    /// misses no change of it.
    ///
    /// # Errors
    /// When this node does not lead, does not answer in time, or has too many listeners.
    pub async fn watch(
        &self,
        filter: EventFilter,
        after: Option<EventId>,
    ) -> Result<EventListener, EngineError> {
        let events = &self.inner.shared.events;
        let mut opened = events.open(after);
        if matches!(opened, Err(NoPlace::NotLeading)) {
            // A call waits for an election, unless another node is the leader.
            self.query(|_| ()).await?;
            opened = events.open(after);
        }
        let opened = opened.map_err(|none| match none {
            NoPlace::NotLeading => EngineError::NotLeader,
            NoPlace::Full(limit) => EngineError::Overloaded {
                reason: format!(
                    "{limit} listeners receive events already, which is the limit (event_listeners)"
                ),
                retry_after: RETRY,
            },
        })?;
        let is_unsettled = opened.is_unsettled;
        let listener = EventListener::new(self.inner.clone(), filter, opened);
        if is_unsettled {
            // Steps in flight were sealed before events were recorded. Answers wait for them.
            self.query(|_| ()).await?;
            events.settled(listener.place());
        }
        Ok(listener)
    }
}
