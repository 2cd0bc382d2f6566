//! A share of the room for request bodies, and the order in which bodies get to their end when it is full.

use rota_metrics::{InFlight, NodeMetrics};

use super::{Budget, Room};

/// The room for bodies of one sort.
///
/// A part of it is for one body at a time, which then has all that it needs. Else bodies that all have some
/// room could wait for more until none of them is taken.
#[derive(Debug, Clone)]
pub(super) struct Share {
    pub(super) common: Budget,
    pub(super) last: Budget,
}

impl Share {
    /// `body`: the largest one there may be.
    pub(super) fn of(bytes: usize, body: usize, metrics: &NodeMetrics) -> Self {
        let last = body.min(bytes / 4);
        let part = |bytes| Budget::of(bytes, InFlight::Bodies, metrics);
        Self { common: part(bytes - last), last: part(last) }
    }

    /// Room for so many bytes more, if there is; and for how many.
    pub(super) fn try_take(&self, more: usize) -> Option<(Room, usize)> {
        Some((self.common.try_take(more)?, more))
    }

    /// Room for so many bytes more, or for all that there can be.
    pub(super) async fn take(self, more: usize) -> (Room, usize) {
        let all = self.last.bytes();
        tokio::select! {
            biased;
            room = self.common.take(more) => (room, more),
            room = self.last.take(all) => (room, usize::MAX),
        }
    }
}
