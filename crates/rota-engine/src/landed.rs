//! The queues as of the last step that landed: what can be told of them while a commit hangs.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use rota_core::{Machine, Millis, Mutation, Name, QueueCounts, Step, WallTime};
use rustc_hash::FxHashSet;

/// The queues that are gone are dropped once in so long.
const ALL_ANEW_AFTER: Millis = Millis(60_000);

/// The queues of a step, to be kept when it has landed.
#[derive(Debug)]
pub(crate) struct LandingQueues {
    /// All there are, or those that the step changed.
    queues: Vec<QueueCounts>,
    all: bool,
    at: WallTime,
}

/// The queues of the last step that landed.
#[derive(Debug, Default)]
pub(crate) struct Landed {
    kept: Mutex<Option<Kept>>,
    /// When all queues were last looked at; the coordinator's loop alone writes it.
    all_at: AtomicI64,
}

#[derive(Debug)]
struct Kept {
    queues: BTreeMap<Name, QueueCounts>,
    at: WallTime,
}

impl Landed {
    /// What is to be kept when this step has landed. Costs grow with the queues that it changed.
    pub(crate) fn landing(&self, machine: &Machine, step: &Step) -> LandingQueues {
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

    /// The step has landed.
    pub(crate) fn keep(&self, landing: LandingQueues) {
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

    /// This node leads no more.
    pub(crate) fn forget(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.all_at.store(0, Ordering::Relaxed);
    }

    /// All queues by name, and when that was.
    pub(crate) fn queues(&self) -> Option<(Vec<QueueCounts>, WallTime)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().map(|kept| (kept.queues.values().cloned().collect(), kept.at))
    }
}
