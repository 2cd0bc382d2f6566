//! What a run is made of: how many machines, how long leases last, how much work there is. Drawn from
//! the seed.

use std::time::Duration;

use rota_store::BatchLimits;

use crate::{seed::Seed, store::StoreLimits, world::Latency};

/// What clients and workers do beyond the plain.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for one thing that they do")]
pub(crate) struct Behaviours {
    /// Tasks expire.
    pub(crate) expiry: bool,
    /// Payloads are large now and then.
    pub(crate) large: bool,
    /// Who waits for the end of a task gives up now and then.
    pub(crate) gives_up: bool,
    /// Many tasks are deleted at once.
    pub(crate) bulk_delete: bool,
    /// Workers are told to drain, and leave of their own.
    pub(crate) drains: bool,
    /// Leadership is handed over.
    pub(crate) transfers: bool,
    /// Waiting tasks are edited.
    pub(crate) edits: bool,
    /// Of a thousand attempts, so many are snoozed.
    pub(crate) snoozes: u32,
    /// Of a hundred sessions, so many have no stream.
    pub(crate) pulls: u32,
}

impl Behaviours {
    fn draw(mut rng: fastrand::Rng) -> Self {
        // Most runs have most of them.
        let mut does = || rng.u32(..4) > 0;
        let (expiry, large, gives_up) = (does(), does(), does());
        let (bulk_delete, drains, transfers) = (does(), does(), does());
        let pulls = [0, 30, 50, 100][rng.usize(..4)];
        let (edits, snoozes) = (rng.u32(..4) > 0, [0, 20, 40, 120][rng.usize(..4)]);
        Self { edits, snoozes, expiry, large, gives_up, bulk_delete, drains, transfers, pulls }
    }
}

/// The parts of a run.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) nodes: usize,
    /// Machines of workers, and sessions on each.
    pub(crate) workers: usize,
    pub(crate) sessions: usize,
    pub(crate) slots: u32,
    /// Machines of clients, and clients on each.
    pub(crate) clients: usize,
    pub(crate) clients_each: usize,
    /// The longest pause of a client between two calls.
    pub(crate) client_pause_ms: u64,
    pub(crate) queues: usize,
    /// Names of schedules.
    pub(crate) schedules: usize,
    pub(crate) session_ttl: Duration,
    pub(crate) latency: Latency,
    pub(crate) store: StoreLimits,
    /// When all faults are healed and work is left, some of it is done within this time.
    pub(crate) patience_us: u64,
    /// A call is waited for so long by a node.
    pub(crate) call_timeout: Duration,
    /// Bytes of definitions that a leader keeps of tasks that are about to run. It reads the others from the store.
    pub(crate) cache_bytes: usize,
    /// Bytes of requests of one kind that wait for their step.
    pub(crate) request_bytes: u32,
    pub(crate) behaviours: Behaviours,
    /// Faults come one at a time, and none of them may cost a healthy worker a lease.
    pub(crate) single_faults: bool,
    /// Of a thousand attempts of shipped workers, so many take seconds.
    pub(crate) long_attempts: u32,
}

impl Scenario {
    pub(crate) fn draw(seed: Seed, by_wire: bool, single_faults: bool) -> Self {
        let mut rng = seed.rng("scenario", 0);
        let mutations_max = [127, 2_048, 100_000][rng.usize(..3)];
        let leader_ttl_us = rng.u64(1_000_000..5_000_000);
        let latency_us = [300, 1_000, 4_000][rng.usize(..3)];
        // What is encoded takes more of the machine that simulates it.
        let clients_each = if by_wire { rng.usize(3..12) } else { rng.usize(5..40) };
        let nodes = [1, 2, 3, 3, 3][rng.usize(..5)];
        // Workers find nodes themselves only by wire.
        let are_drawn = seed.rng("single faults", 0).u32(..3) == 0;
        let single_faults = by_wire && nodes > 1 && (single_faults || are_drawn);
        let drawn = Self {
            nodes,
            workers: rng.usize(2..4),
            sessions: rng.usize(2..6),
            slots: rng.u32(2..40),
            clients: rng.usize(1..3),
            clients_each,
            client_pause_ms: [5, 20, 60, 200][rng.usize(..4)],
            queues: rng.usize(1..8),
            // The API has none yet.
            schedules: if by_wire {
                0
            } else {
                [0, 4, 12, 30][seed.rng("schedules", 0).usize(..4)]
            },
            session_ttl: Duration::from_millis(rng.u64(1_000..6_000)),
            latency: Latency { min_us: 100, max_us: latency_us },
            store: StoreLimits {
                batch: BatchLimits { mutations_max, bytes_max: 40 << 20, mutation_bytes: 64 },
                leader_ttl_us,
            },
            patience_us: 60_000_000,
            call_timeout: Duration::from_millis([1_500, 5_000, 15_000][rng.usize(..3)]),
            cache_bytes: [64 << 20, 64 << 20, 20_000, 0][seed.rng("cache", 0).usize(..4)],
            request_bytes: [64 << 20, 64 << 20, 4 << 20][seed.rng("requests", 0).usize(..3)],
            behaviours: Behaviours::draw(seed.rng("behaviours", 0)),
            single_faults,
            long_attempts: 15,
        };
        if single_faults {
            // Little work with long leases, so that there is time for many faults.
            Self { client_pause_ms: 1_000, long_attempts: 300, ..drawn }
        } else {
            drawn
        }
    }

    /// The time between two faults that come one at a time: workers have found a node that answers, a leader is
    /// there, and what was late has been worked off.
    pub(crate) fn apart_us(&self) -> u64 {
        let ttl_us = u64::try_from(self.session_ttl.as_micros()).unwrap_or(u64::MAX);
        2 * ttl_us + self.store.leader_ttl_us
    }
}
