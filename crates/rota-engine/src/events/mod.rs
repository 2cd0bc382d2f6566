//! Events: changes of tasks, queues, workers and schedules, told to listeners as they become durable.
//!
//! The leader keeps recent events in one bounded ring. A listener holds a place in it and reads at its own
//! pace, so a slow one holds up nobody: when the ring has left its place behind, it gets a reset. The
//! coordinator derives events from each step (`collect`) while somebody listens and for some time after the
//! last listener left, and puts them into the ring when the step is durable (`hub`). Otherwise a step costs one
//! check of a flag. `filter` selects events, `listener` reads them, and `watch` is the call of the engine.

pub(crate) mod collect;
mod event;
mod filter;
pub(crate) mod hub;
mod listener;
mod watch;

pub(crate) use event::Draft;
pub use event::{
    Event, EventId, EventIdError, EventType, QueueFacts, ScheduleFacts, SpecFacts, Subject,
    TaskFacts, TickFacts, WorkerFacts,
};
pub use filter::{EventFilter, TypePattern};
pub use hub::{EventLimits, ResetReason};
pub use listener::{EndedReason, EventListener, Told};
