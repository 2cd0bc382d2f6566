//! Output of running tasks, told to listeners while the tasks run.
//!
//! Workers send output only while somebody listens. The hub (`hub`) knows the tasks that are listened to, asks
//! their workers for output by way of the dispatcher, and keeps the last output of each in a bounded buffer
//! (`buffer`). A listener (`listener`) holds a place in the buffer and reads at its own pace, so a slow one holds
//! up nobody: when the buffer has left its place behind, it is told of a gap. `watch` has the calls of the engine.
//!
//! All of this is soft: it is in the memory of the leader, and is lost with it. The end of the output of each
//! attempt is part of its durable record.

mod buffer;
pub(crate) mod hub;
mod listener;
mod place;
mod watch;

pub use hub::OutputLimits;
pub use listener::{GapReason, OutputEnd, OutputListener, OutputTold};
pub use place::{OutputPlace, OutputPlaceError};
pub use watch::OutputRequest;
