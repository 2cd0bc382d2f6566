//! Figures of the machine for metrics. They cost as much as there are queues, lanes and sessions, whatever the
//! number of tasks.

use super::{
    Lease, Machine,
    index::{LaneIndex, QueueIndex},
    live::LiveTask,
};
use crate::{Millis, Name, WallTime};

/// A queue as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueCounts {
    /// The name.
    pub name: Name,
    /// Whether none of its tasks starts.
    pub paused: bool,
    /// Tasks that wait for their time.
    pub scheduled: u64,
    /// Tasks that wait for a worker.
    pub pending: u64,
    /// Tasks that a worker has.
    pub leased: u64,
    /// Live tasks whose records the leader cannot read: nothing is done to them.
    pub unreadable: u64,
    /// Ended well since this machine was made.
    pub completed_total: u64,
    /// Ended as failed since this machine was made.
    pub failed_total: u64,
    /// Since when the pending task that is due longest has been due.
    pub oldest_pending: Option<WallTime>,
}

/// The state of all queues and sessions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MachineStats {
    /// All queues, in no order.
    pub queues: Vec<QueueStats>,
    /// All sessions, in no order.
    pub sessions: Vec<SessionStats>,
    /// Bytes that live tasks take in memory, as far as their number says: allocators add to it.
    pub memory_bytes: u64,
}

/// A queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueStats {
    /// Counts of its tasks by state.
    pub counts: QueueCounts,
    /// Pending tasks that no session serves.
    pub unserved: u64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStats {
    /// The worker's name.
    pub worker: Name,
    /// The most tasks it holds; of a worker that asks call by call, as many as it last asked for, or
    /// holds.
    pub slots: u32,
    /// Tasks it holds.
    pub held: u32,
    /// How long ago it was last heard of.
    pub heartbeat_age: Millis,
    /// What it does.
    pub state: SessionState,
}

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// It takes tasks.
    Serving,
    /// It takes no more.
    Draining,
    /// Its worker has not come back yet after a change of leader or a restart.
    Awaited,
}

/// Bytes of an entry in a map or wheel beside its value, on average.
const ENTRY: usize = 16;

impl Machine {
    /// All queues and sessions.
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
        MachineStats { queues, sessions: sessions.collect(), memory_bytes: self.memory_bytes() }
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
        // How many there are of each sort, and how many entries one of them is as large as.
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
