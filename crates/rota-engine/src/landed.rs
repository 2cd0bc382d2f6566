//! Queues and workers as of the last durable step, to answer reads while a commit hangs. Tasks are not
//! included, because the store has them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use rota_core::{
    Machine, Millis, MonoTime, Mutation, Name, QueueCounts, SessionView, Step, WallTime,
};
use rustc_hash::FxHashSet;

/// Interval at which dropped queues are removed.
const ALL_ANEW_AFTER: Millis = Millis(60_000);

/// Number of names and tasks of workers to copy for each millisecond between two copies. This many take about
/// 10 µs, so copying takes about one percent of the loop's time for any number of workers. The workers of a
/// small cluster are copied at every step.
const COPIED_EACH_MS: u64 = 100;

/// The workers of a step.
#[derive(Debug, Clone)]
pub(crate) struct LandedWorkers {
    /// By name.
    pub(crate) workers: Arc<[SessionView]>,
    /// Time of the step.
    pub(crate) at: WallTime,
}

/// The state to keep when a step is durable.
#[derive(Debug)]
pub(crate) struct LandingLists {
    queues: LandingQueues,
    /// `None` if the last copy is recent enough.
    workers: Option<LandedWorkers>,
}

/// The queues of a step, to keep when it is durable.
#[derive(Debug)]
struct LandingQueues {
    /// All queues, or those that the step changed.
    queues: Vec<QueueCounts>,
    all: bool,
    at: WallTime,
}

/// Queues and workers of the last durable step.
#[derive(Debug, Default)]
pub(crate) struct Landed {
    kept: Mutex<Option<Kept>>,
    workers: Mutex<Option<LandedWorkers>>,
    /// Time of the last copy of all queues. Only the coordinator writes it.
    all_at: AtomicI64,
    /// Time of the next copy of workers. Only the coordinator writes it.
    workers_due: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    queues: BTreeMap<Name, QueueCounts>,
    at: WallTime,
}

impl Landed {
    /// The state to keep when this step is durable. The cost grows with the number of changed queues. The
    /// more workers there are, the more rarely they are copied.
    pub(crate) fn landing(&self, machine: &Machine, step: &Step) -> LandingLists {
        let queues = self.landing_queues(machine, step);
        LandingLists { queues, workers: self.landing_workers(machine) }
    }

    fn landing_workers(&self, machine: &Machine) -> Option<LandedWorkers> {
        let now = machine.now();
        if now.mono < MonoTime(self.workers_due.load(Ordering::Relaxed)) {
            return None;
        }
        let workers = machine.sessions();
        let size = |view: &SessionView| 1 + view.tasks.len() + view.queues.len() + view.kinds.len();
        let copied = workers.iter().map(size).sum::<usize>() as u64;
        let due = now.mono + Millis(copied / COPIED_EACH_MS);
        self.workers_due.store(due.0, Ordering::Relaxed);
        Some(LandedWorkers { workers: workers.into(), at: now.wall })
    }

    fn landing_queues(&self, machine: &Machine, step: &Step) -> LandingQueues {
        let at = machine.now().wall;
        if at.since(WallTime(self.all_at.load(Ordering::Relaxed))) >= ALL_ANEW_AFTER {
            self.all_at.store(at.0, Ordering::Relaxed);
            return LandingQueues { queues: machine.queues(), all: true, at };
        }
        let mut changed: FxHashSet<&Name> = FxHashSet::default();
        changed.extend(step.events.iter().map(|event| &event.lane.queue));
        changed.extend(step.mutations.iter().filter_map(|mutation| match mutation {
            Mutation::PutLive(record) => Some(&record.queue),
            Mutation::PutQueue(name, _) | Mutation::DeleteQueue(name) => Some(name),
            _ => None,
        }));
        let queues = changed.into_iter().filter_map(|name| machine.queue(name)).collect();
        LandingQueues { queues, all: false, at }
    }

    /// Keeps the state of a durable step.
    pub(crate) fn keep(&self, landing: LandingLists) {
        if let Some(workers) = landing.workers {
            *self.workers.lock().unwrap_or_else(PoisonError::into_inner) = Some(workers);
        }
        let landing = landing.queues;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let queues = landing.queues.into_iter().map(|counts| (counts.name.clone(), counts));
        match kept.as_mut().filter(|_| !landing.all) {
            Some(kept) => {
                kept.queues.extend(queues);
                kept.at = landing.at;
            }
            None => *kept = landing.all.then(|| Kept { queues: queues.collect(), at: landing.at }),
        }
    }

    /// Clears the state, because this node is no longer the leader.
    pub(crate) fn forget(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.workers.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.all_at.store(0, Ordering::Relaxed);
        self.workers_due.store(0, Ordering::Relaxed);
    }

    /// The workers of the last durable copy.
    pub(crate) fn workers(&self) -> Option<LandedWorkers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All queues by name, and the time of that state.
    pub(crate) fn queues(&self) -> Option<(Vec<QueueCounts>, WallTime)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().map(|kept| (kept.queues.values().cloned().collect(), kept.at))
    }
}
