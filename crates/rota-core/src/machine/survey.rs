//! A summary of the machine, for metrics. Its cost grows with the number of queues, lanes and sessions, not
//! of tasks.

use super::{
    Lease, Machine, QueueCounts,
    index::{LaneIndex, QueueIndex},
    live::LiveTask,
};
use crate::{Millis, Name};

/// A summary of all queues and sessions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// All queues, in any order.
    pub queues: Vec<QueueSurvey>,
    /// All sessions, in any order.
    pub sessions: Vec<SessionSurvey>,
    /// Estimated bytes of live tasks in memory, without the overhead of the allocator.
    pub memory_bytes: u64,
}

/// A queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSurvey {
    /// Number of its tasks by status.
    pub counts: QueueCounts,
    /// Number of pending tasks that no session serves.
    pub unserved: u64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSurvey {
    pub worker: Name,
    /// Maximum number of tasks that it holds. For a worker without a stream: the number that it last asked
    /// for, or holds.
    pub slots: u32,
    /// Number of tasks that it holds.
    pub held: u32,
    /// Time since its last heartbeat.
    pub heartbeat_age: Millis,
    pub state: SessionState,
}

/// The state of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// It takes tasks.
    Serving,
    /// It drains.
    Draining,
    /// Its worker has not reconnected yet after a change of leader or a restart.
    Awaited,
}

/// Average overhead in bytes of an entry in a map or wheel.
const ENTRY: usize = 16;

impl Machine {
    /// All queues and sessions.
    #[must_use]
    pub fn survey(&self) -> Survey {
        let indices = self.roster.queue_index.values();
        let queues = indices.map(|index| self.survey_queue(*index)).collect();
        let sessions = self.sessions.iter().map(|(_, session)| SessionSurvey {
            worker: session.worker.clone(),
            slots: session.shown_slots(),
            held: session.held(),
            heartbeat_age: self.now.mono.since(session.heard_at),
            state: match (session.awaited, session.draining) {
                (true, _) => SessionState::Awaited,
                (_, true) => SessionState::Draining,
                _ => SessionState::Serving,
            },
        });
        Survey { queues, sessions: sessions.collect(), memory_bytes: self.memory_bytes() }
    }

    fn survey_queue(&self, index: QueueIndex) -> QueueSurvey {
        let lanes = &self.roster.queues[index].lanes;
        let unserved = lanes.iter().filter(|lane| !self.roster.is_served(**lane));
        let waiting = |lane: &LaneIndex| self.roster.lanes[*lane].waiting;
        QueueSurvey { counts: self.counts(index), unserved: unserved.map(waiting).sum() }
    }

    fn memory_bytes(&self) -> u64 {
        let table = self.live.capacity() * size_of::<Option<LiveTask>>() + self.live.len() * ENTRY;
        let places: usize = self.roster.lanes.values().map(super::lane::Lane::places).sum();
        // The number of objects of each type, and the size of one in entries.
        let beside = [
            (places, 1),
            (self.leases.len(), size_of::<Lease>().div_ceil(ENTRY)),
            (self.backoffs.len(), 2),
            (self.expiries.len(), 2),
            (self.last_failures.len(), 4),
            (self.deadlines.len(), 1),
            (self.binds.len(), 4),
            (self.last_ends.len(), 2),
            (self.unknown.len(), 8),
            (self.dates.len(), 1),
            (self.delays.len(), 1),
        ];
        let beside: usize = beside.iter().map(|(count, entries)| count * entries * ENTRY).sum();
        (table + beside) as u64
    }
}
