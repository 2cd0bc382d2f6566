//! The plan of faults: what goes wrong when and for how long, all of it from the seed.
//!
//! Faults are drawn one after the other and numbered, so that a failing run can be repeated without
//! some of them until only those are left that it takes.

use std::collections::BTreeSet;

use crate::seed::Seed;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The store does nothing for a while.
    StoreStalls,
    /// The store refuses everything.
    StoreIsAway,
    /// The store has no room.
    StoreIsFull,
    /// The store takes so many microseconds longer for everything.
    StoreIsSlow(u64),
    /// The store's answers get lost now and then, and requests to it.
    StoreLosesAnswers,
    /// The leader's seat is taken from it.
    Depose,
    /// The store forgets its history.
    Compact,
    /// Watchers hear nothing of what lands.
    StoreHoldsNews,
    /// A definition in the store cannot be read any more.
    StoreDamages,
    /// A node's process ends at once and comes back later.
    NodeCrashes(usize),
    /// A node is told to stop, and comes back later.
    NodeStops(usize),
    /// A node's process does not run for a while; its clocks go on.
    NodePauses(usize),
    /// A node's machine is suspended, and its monotonic clock with it.
    NodeSuspends(usize),
    /// A node's wall clock is wrong for a while, by so many milliseconds.
    NodeClockJumps(usize, i64),
    /// A node's wall clock is ahead for a while by so many days.
    NodeClockLeaps(usize, u32),
    /// A node cannot reach the store, or is not reached by it.
    NodeLosesStore(usize, Ways),
    /// A worker's machine and a node do not reach each other.
    WorkerLosesNode(usize, usize, Ways),
    /// A worker's process ends at once and comes back later.
    WorkerCrashes(usize),
    /// A worker's process does not run for a while.
    WorkerPauses(usize),
    /// Messages take long.
    NetIsSlow,
    /// Links carry so many bytes in a millisecond.
    NetIsThin(u64),
    /// Clients submit large payloads, all at the same time.
    ClientsFlood,
}

/// Which ways between two places are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ways {
    /// Both.
    Both,
    /// From the first to the second.
    There,
    /// From the second to the first.
    Back,
}

/// A fault of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Number of the fault in the plan.
    pub number: usize,
    /// When it begins, in simulated microseconds.
    pub at_us: u64,
    /// How long it lasts.
    pub for_us: u64,
    /// What it is.
    pub fault: Fault,
}

/// Draws faults.
pub(crate) struct Plan {
    rng: fastrand::Rng,
    nodes: usize,
    workers: usize,
    number: usize,
    at_us: u64,
    left_out: BTreeSet<usize>,
    only: Option<BTreeSet<usize>>,
    /// The only kinds of faults that there are, which come together again and again; none for all kinds.
    kinds: &'static [Fault],
    /// Faults come one at a time, with so much time between them.
    apart_us: Option<u64>,
}

/// How far some clocks are set back.
const SET_BACK_MS: i64 = -300_000;
/// Stands for whoever leads when a fault begins.
#[cfg(feature = "planted-faults")]
pub(crate) const LEADER: usize = usize::MAX;
/// Where there are only some kinds of faults: the gap before they come, and the one between them.
const GAP_US: std::ops::Range<u64> = 2_000_000..9_000_000;
const GAP_WITHIN_US: std::ops::Range<u64> = 10_000..400_000;

impl Fault {
    /// Whether it is the store's or the clients' alone: machines and the network are well.
    pub(crate) fn is_of_the_store(self) -> bool {
        matches!(
            self,
            Self::StoreStalls
                | Self::StoreIsAway
                | Self::StoreIsFull
                | Self::StoreIsSlow(_)
                | Self::StoreLosesAnswers
                | Self::Compact
                | Self::StoreHoldsNews
                | Self::StoreDamages
                | Self::ClientsFlood
        )
    }

    /// The same, where the number behind the last node means whoever leads now.
    pub(crate) fn aimed(self, nodes: usize, leader: usize) -> Self {
        let aim = |at: usize| if at >= nodes { leader } else { at };
        match self {
            Self::NodeCrashes(at) => Self::NodeCrashes(aim(at)),
            Self::NodeStops(at) => Self::NodeStops(aim(at)),
            Self::NodePauses(at) => Self::NodePauses(aim(at)),
            Self::NodeSuspends(at) => Self::NodeSuspends(aim(at)),
            Self::NodeClockJumps(at, by_ms) => Self::NodeClockJumps(aim(at), by_ms),
            Self::NodeClockLeaps(at, days) => Self::NodeClockLeaps(aim(at), days),
            Self::NodeLosesStore(at, ways) => Self::NodeLosesStore(aim(at), ways),
            Self::WorkerLosesNode(worker, at, ways) => Self::WorkerLosesNode(worker, aim(at), ways),
            other => other,
        }
    }
}

impl Plan {
    pub(crate) fn new(
        seed: Seed,
        nodes: usize,
        workers: usize,
        only: Option<BTreeSet<usize>>,
    ) -> Self {
        let rng = seed.rng("plan", 0);
        let (left_out, kinds) = (BTreeSet::new(), &[][..]);
        let apart_us = None;
        Self { rng, nodes, workers, number: 0, at_us: 500_000, left_out, only, kinds, apart_us }
    }

    /// From now on a fault comes only when so much time has passed since the end of the one before. The only
    /// faults are those of which each alone may not cost a healthy worker a lease.
    pub(crate) fn keep_apart(&mut self, by_us: u64) {
        self.apart_us = Some(by_us);
    }

    /// From now on only these faults come, in this order.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn keep_to(&mut self, kinds: &'static [Fault]) {
        self.kinds = kinds;
    }

    /// The next fault that is not left out; nothing where no more are to come.
    pub(crate) fn next(&mut self) -> Option<Planned> {
        loop {
            if let Some(only) = &self.only
                && only.last().is_none_or(|last| *last < self.number)
            {
                return None;
            }
            let planned = self.draw();
            let wanted = self.only.as_ref().is_none_or(|only| only.contains(&planned.number));
            if wanted && !self.left_out.contains(&planned.number) {
                return Some(planned);
            }
        }
    }

    fn draw(&mut self) -> Planned {
        let rng = &mut self.rng;
        let gap_us = match rng.u32(..20) {
            0..8 => rng.u64(1_000..150_000),
            8..15 => rng.u64(50_000..800_000),
            15..19 => rng.u64(500_000..3_000_000),
            _ => rng.u64(4_000_000..12_000_000),
        };
        self.at_us += match self.number.checked_rem(self.kinds.len()) {
            None => gap_us,
            Some(0) => rng.u64(GAP_US),
            Some(_) => rng.u64(GAP_WITHIN_US),
        };
        let for_us = match rng.u32(..10) {
            0..3 => rng.u64(5_000..300_000),
            3..7 => rng.u64(300_000..2_500_000),
            _ => rng.u64(2_000_000..8_000_000),
        };
        // One more than there are: whoever leads then.
        let (node, worker) = (rng.usize(..=self.nodes), rng.usize(..self.workers));
        let thin = rng.u64(20..500);
        let slow_us = rng.u64(5_000..400_000);
        let ways = [Ways::Both, Ways::There, Ways::Back][rng.usize(..3)];
        let jump_ms = if rng.u32(..4) == 0 { SET_BACK_MS } else { rng.i64(-20_000..20_000) };
        let days = if rng.bool() { 1 } else { rng.u32(2..60) };
        let (long_pause, pause_us) = (rng.bool(), rng.u64(1_000_000..3_500_000));
        let fault = match rng.u32(..109) {
            100 | 101 => Fault::StoreHoldsNews,
            102 | 103 => Fault::StoreDamages,
            104..107 => Fault::NodeClockLeaps(node, days),
            107..109 => Fault::ClientsFlood,
            0..11 => Fault::StoreStalls,
            11..16 => Fault::StoreIsSlow(slow_us),
            16..20 => Fault::StoreIsAway,
            20..23 => Fault::StoreIsFull,
            23..33 => Fault::StoreLosesAnswers,
            33..41 => Fault::Depose,
            41..45 => Fault::Compact,
            45..52 => Fault::NodeCrashes(node),
            52..57 => Fault::NodeStops(node),
            57..64 => Fault::NodePauses(node),
            64..71 => Fault::NodeSuspends(node),
            71..75 => Fault::NodeClockJumps(node, jump_ms),
            75..81 => Fault::NodeLosesStore(node, ways),
            81..88 => Fault::WorkerLosesNode(worker, node, ways),
            88..92 => Fault::WorkerCrashes(worker),
            92..96 => Fault::WorkerPauses(worker),
            96 | 97 => Fault::NetIsThin(thin),
            _ => Fault::NetIsSlow,
        };
        let kind = self.number.checked_rem(self.kinds.len()).map(|at| self.kinds[at]);
        let single = self.apart_us.map(|_| match rng.u32(..18) {
            0..4 => Fault::NodePauses(node),
            4..6 => Fault::NodeSuspends(node),
            6 => Fault::NodeCrashes(node),
            7 => Fault::NodeStops(node),
            8..10 => Fault::NodeLosesStore(node, ways),
            10..12 => Fault::WorkerLosesNode(worker, node, ways),
            12 => Fault::Depose,
            13 => Fault::StoreStalls,
            14 => Fault::StoreIsAway,
            15 => Fault::NodeClockJumps(node, jump_ms),
            16 => Fault::NodeClockLeaps(node, days),
            _ => Fault::StoreLosesAnswers,
        });
        let fault = kind.or(single).unwrap_or(fault);
        let for_us = match fault {
            // Long enough for history to be looked through.
            Fault::NodeClockLeaps(..) => for_us + 6_000_000,
            // Often longer than a session lives, and shorter than a leadership.
            Fault::NodePauses(_) if long_pause => pause_us,
            _ => for_us,
        };
        let planned = Planned { number: self.number, at_us: self.at_us, for_us, fault };
        self.number += 1;
        self.at_us += self.apart_us.map_or(0, |apart_us| apart_us + for_us);
        planned
    }
}
