//! The state machine.

mod command;
mod view;

pub use command::{
    Binding, Bindings, Command, Effect, EndReason, HeldLease, Leased, Mutation, OpenSession,
    Outcome, Refusal, Reply, Report, SessionEnd, StopReason, Stored, Submit,
};
pub use view::{LeaseView, LiveView, QueueCounts, SessionView, Waiting};

/// Bounds on what the machine holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineLimits {
    /// Live tasks in one queue.
    pub queue_length_max: u64,
    /// Different queues.
    pub queues_max: u32,
    /// Different kinds.
    pub kinds_max: u32,
    /// Open sessions.
    pub sessions_max: u32,
}

impl Default for MachineLimits {
    fn default() -> Self {
        Self {
            queue_length_max: 20_000_000,
            queues_max: 100_000,
            kinds_max: 100_000,
            sessions_max: 10_000,
        }
    }
}
