//! A share of the memory for request bodies, and the order in which bodies complete when it is full.

use rota_metrics::{InFlight, NodeMetrics};

use super::{Budget, Room};

/// The memory for bodies of one kind.
///
/// A part of it is reserved for one body at a time, which then gets all that it needs. Otherwise bodies that
/// all hold some memory could wait for more forever.
#[derive(Debug, Clone)]
pub(super) struct Share {
    pub(super) common: Budget,
    pub(super) last: Budget,
}

impl Share {
    /// `body` is the maximum size of a body.
    pub(super) fn of(bytes: usize, body: usize, metrics: &NodeMetrics) -> Self {
        let last = body.min(bytes / 4);
        let part = |bytes| Budget::of(bytes, InFlight::Bodies, metrics);
        Self { common: part(bytes - last), last: part(last) }
    }

    /// Takes memory for this many more bytes, if it is free. Returns the amount.
    pub(super) fn try_take(&self, more: usize) -> Option<(Room, usize)> {
        Some((self.common.try_take(more)?, more))
    }

    /// Waits for memory for this many more bytes, up to the maximum.
    pub(super) async fn take(self, more: usize) -> (Room, usize) {
        let all = self.last.bytes();
        tokio::select! {
            biased;
            room = self.common.take(more) => (room, more),
            room = self.last.take(all) => (room, usize::MAX),
        }
    }
}
