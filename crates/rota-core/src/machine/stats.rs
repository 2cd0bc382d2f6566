//! Figures of the machine, for metrics. Their cost grows with the number of queues, lanes and sessions, not
//! of tasks or schedules.

use super::{
    Lease, Machine, ScheduleStats,
    index::{LaneIndex, QueueIndex},
    live::LiveTask,
};
use crate::{Millis, Name, Pause, WallTime};

/// The figures of a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueCounts {
    pub name: Name,
    /// Whether the queue is paused.
    pub paused: bool,
    /// Who paused it, and why, if that is known.
    pub pause: Option<Box<Pause>>,
    /// Number of tasks that wait for their due time.
    pub scheduled: u64,
    /// Number of tasks that wait for a worker.
    pub pending: u64,
    /// Number of leased tasks.
    pub leased: u64,
    /// Number of live tasks whose records the leader cannot read.
    pub unreadable: u64,
    /// Number of tasks created since this machine was created.
    pub created_total: u64,
    /// Number of tasks that completed since this machine was created.
    pub completed_total: u64,
    /// Number of tasks that failed since this machine was created.
    pub failed_total: u64,
    /// Due time of the longest-due pending task.
    pub oldest_pending: Option<WallTime>,
}

/// A summary of all queues, sessions and schedules.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MachineStats {
    /// All queues, in any order.
    pub queues: Vec<QueueStats>,
    /// All sessions, in any order.
    pub sessions: Vec<SessionStats>,
    pub schedules: ScheduleStats,
    /// Estimated bytes of live tasks in memory, without the overhead of the allocator.
    pub memory_bytes: u64,
}

/// A queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueStats {
    /// Number of its tasks by status.
    pub counts: QueueCounts,
    /// Number of pending tasks that no session serves.
    pub unserved: u64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStats {
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
    /// All queues and sessions, and the figures of schedules.
    #[must_use]
    pub fn stats(&self) -> MachineStats {
        let indices = self.roster.queue_index.values();
        let queues = indices.map(|index| self.queue_stats(*index)).collect();
        let sessions = self.sessions.iter().map(|(_, session)| SessionStats {
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
        MachineStats {
            queues,
            sessions: sessions.collect(),
            schedules: self.schedule_stats(),
            memory_bytes: self.memory_bytes(),
        }
    }

    fn queue_stats(&self, index: QueueIndex) -> QueueStats {
        let lanes = &self.roster.queues[index].lanes;
        let unserved = lanes.iter().filter(|lane| !self.roster.is_served(**lane));
        let waiting = |lane: &LaneIndex| self.roster.lanes[*lane].waiting;
        QueueStats { counts: self.counts(index), unserved: unserved.map(waiting).sum() }
    }

    fn memory_bytes(&self) -> u64 {
        let table = self.live.capacity() * size_of::<Option<LiveTask>>() + self.live.len() * ENTRY;
        let entries: usize = self.roster.lanes.values().map(super::lane::Lane::entries).sum();
        // The number of objects of each type, and the size of one in entries.
        let beside = [
            (entries, 1),
            (self.leases.len(), size_of::<Lease>().div_ceil(ENTRY)),
            (self.backoffs.len(), 2),
            (self.expiries.len(), 2),
            (self.last_failures.len(), 4),
            (self.deadlines.len(), 1),
            (self.client_keys.len(), 4),
            (self.last_ends.len(), 2),
            (self.unknown.len(), 8),
            (self.dates.len(), 1),
            (self.delays.len(), 1),
        ];
        let beside: usize = beside.iter().map(|(count, entries)| count * entries * ENTRY).sum();
        (table + beside) as u64
    }
}
