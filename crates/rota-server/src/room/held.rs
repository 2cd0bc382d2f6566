//! The memory that a request, or the messages of a worker's stream, hold until they are dealt with.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::Room;

/// The memory that a request holds until it is answered.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<Vec<Room>>);

impl Held {
    pub(super) fn add(&self, room: Room) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(room);
    }

    pub(super) fn take(&self) -> Vec<Room> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The memory of a stream's messages, for their reader.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamRoom(pub(super) Arc<Stream>);

#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) throttled: AtomicBool,
    /// Whether a part of a message has arrived since somebody asked.
    pub(super) received_part: AtomicBool,
    /// Whether the reader keeps the memory of messages. Otherwise it is released when a message is complete.
    pub(super) kept: AtomicBool,
    pub(super) held: Arc<Held>,
}

impl StreamRoom {
    /// Whether the stream waits for memory, so that the server cannot receive heartbeats of its worker.
    pub(crate) fn is_throttled(&self) -> bool {
        self.0.throttled.load(Ordering::Relaxed)
    }

    /// Whether a part of an incomplete message has arrived since the last call: its worker lives, but heartbeats wait
    /// behind the rest.
    pub(crate) fn has_received_part(&self) -> bool {
        self.0.received_part.swap(false, Ordering::Relaxed)
    }

    /// Announces that [`take`](Self::take) will be called for each message.
    pub(crate) fn keep(&self) {
        self.0.kept.store(true, Ordering::Relaxed);
    }

    /// Takes the memory of the last messages, to be held while they are processed.
    pub(crate) fn take(&self) -> Vec<Room> {
        self.0.held.take()
    }
}
