//! Memory: no part of a node has held more bytes than it may.
//!
//! The engine accounts for what it holds apart from what keeps it within its bounds, and the bounds are stated here a
//! second time.

use rota_engine::MemoryPeaks;

use super::{Auditor, Rule};
use crate::{scenario::Scenario, world::Endpoint};

/// Bytes in the channel of a session, beside the task with which it passes them.
const CHANNEL_BYTES_MAX: usize = 4 << 20;
/// Bytes in the channels of all sessions, beside what a step puts into each.
const CHANNELS_BYTES_MAX: usize = 128 << 20;
/// No client sends a larger task.
const TASK_BYTES_MAX: usize = 1 << 20;

/// The bounds of a run.
#[derive(Debug, Default)]
pub(super) struct MemoryBounds {
    cached: usize,
    requests: usize,
    channels: usize,
}

impl MemoryBounds {
    pub(super) fn of(scenario: &Scenario) -> Self {
        let sessions = scenario.workers * scenario.sessions;
        Self {
            cached: scenario.cache_bytes,
            requests: scenario.request_bytes as usize,
            channels: CHANNELS_BYTES_MAX + sessions * CHANNEL_BYTES_MAX,
        }
    }
}

impl Auditor {
    /// A node says how many bytes the parts of its memory have held at most.
    pub(crate) fn look_at_memory(&mut self, now_us: u64, endpoint: Endpoint, held: MemoryPeaks) {
        let MemoryBounds { cached, requests, channels } = self.memory;
        let parts = [
            ("its cache", held.cached, cached),
            ("new tasks that wait", held.submissions, requests),
            ("reports that wait", held.reports, requests),
            ("the channels to workers", held.channels, channels),
            ("a channel to a worker", held.channel, CHANNEL_BYTES_MAX + TASK_BYTES_MAX),
        ];
        for (part, held, bound) in parts {
            if held > bound {
                let what =
                    format!("node {} held {held} bytes in {part}, of at most {bound}", endpoint.0);
                self.broken(Rule::Memory, now_us, what);
            }
        }
    }
}
