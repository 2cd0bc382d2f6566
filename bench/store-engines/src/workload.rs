//! What tasks do to a store, with the sizes that they have in Rota: a spec of 300 bytes written once,
//! a record of 100 bytes that changes and moves, and both removed in the end.

use std::{collections::VecDeque, sync::Arc};

use rota_store::{Batch, BatchSeq, Mutation, Space, SpaceShape};

pub(crate) const LIVE: Space = Space { name: "live", shape: SpaceShape::Hot };
pub(crate) const DONE: Space = Space { name: "done", shape: SpaceShape::Hot };
pub(crate) const SPEC: Space = Space { name: "spec", shape: SpaceShape::Large };
pub(crate) const SPACES: [Space; 3] = [LIVE, DONE, SPEC];

const SPEC_BYTES: usize = 300;
const RECORD_BYTES: usize = 100;
/// A task is assigned when so many more were submitted, and completed after as many again.
const IN_FLIGHT: u64 = 500;
/// A prime, and larger than any backlog.
const SCATTER: u64 = 2_654_435_761;

/// The mutations of tasks that go their way beside each other, in the order in which they are made.
pub(crate) struct Workload {
    random: fastrand::Rng,
    ready: VecDeque<Mutation>,
    seq: BatchSeq,
    submitted: u64,
    /// Tasks kept after they completed, before they are removed; `None`: all are kept.
    kept: Option<u64>,
    /// Tasks that lay there from the beginning. Where there are any, they are what is assigned and
    /// completed, in no order, while new ones join them.
    backlog: u64,
}

impl Workload {
    /// Tasks from the first one on, in batches from the first one on.
    pub(crate) fn new(kept: Option<u64>) -> Self {
        Self {
            random: fastrand::Rng::with_seed(7),
            ready: VecDeque::new(),
            seq: BatchSeq(0),
            submitted: 0,
            kept,
            backlog: 0,
        }
    }

    /// The next batch, of exactly so many mutations.
    pub(crate) fn batch(&mut self, mutations: usize) -> Batch {
        while self.ready.len() < mutations {
            self.step();
        }
        self.seq = self.seq.next();
        Batch { seq: self.seq, mutations: Arc::new(self.ready.drain(..mutations).collect()) }
    }

    /// Tasks submitted so far, those included that are still in the making.
    pub(crate) fn submitted(&self) -> u64 {
        self.submitted
    }

    /// The last batch given out.
    pub(crate) fn last(&self) -> u64 {
        self.seq.0
    }

    /// One task is submitted; others take their next step.
    fn step(&mut self) {
        let new = self.submitted;
        self.submitted += 1;
        self.put(SPEC, new, SPEC_BYTES);
        self.put(LIVE, new, RECORD_BYTES);
        if let Some(task) = new.checked_sub(IN_FLIGHT) {
            let task = self.next_to_run(task);
            self.put(LIVE, task, RECORD_BYTES);
        }
        if let Some(task) = new.checked_sub(2 * IN_FLIGHT) {
            let task = self.next_to_run(task);
            self.delete(LIVE, task);
            self.put(DONE, task, RECORD_BYTES);
        }
        let removed = self.kept.and_then(|kept| new.checked_sub(2 * IN_FLIGHT + kept));
        if let Some(task) = removed {
            let task = self.next_to_run(task);
            self.delete(DONE, task);
            self.delete(SPEC, task);
        }
    }

    /// The task that runs as the nth: without a backlog in order of creation, with one by date.
    fn next_to_run(&self, nth: u64) -> u64 {
        if nth >= self.backlog {
            return nth;
        }
        // A step without a common factor comes past all of them once.
        far(nth.wrapping_mul(SCATTER) % self.backlog)
    }

    /// The batch that writes these live tasks, for a store to begin with.
    pub(crate) fn preload(&mut self, tasks: std::ops::Range<u64>) -> Batch {
        self.backlog = tasks.end;
        for task in tasks {
            self.put(SPEC, far(task), SPEC_BYTES);
            self.put(LIVE, far(task), RECORD_BYTES);
        }
        let all = self.ready.len();
        self.batch(all)
    }

    /// The batch that removes these tasks, whatever became of them.
    pub(crate) fn remove(&mut self, tasks: std::ops::Range<u64>) -> Batch {
        self.ready.clear();
        for task in tasks {
            self.delete(DONE, task);
            self.delete(SPEC, task);
            // Those that had not come to their end.
            if task + 2 * IN_FLIGHT >= self.submitted {
                self.delete(LIVE, task);
            }
        }
        let all = self.ready.len();
        self.batch(all)
    }

    fn put(&mut self, space: Space, task: u64, bytes: usize) {
        // Noise, so that nothing depends on how well an engine compresses.
        let mut value = vec![0; bytes];
        self.random.fill(&mut value);
        let mutation = Mutation::Put { space, key: key(task).into(), value: value.into() };
        self.ready.push_back(mutation);
    }

    fn delete(&mut self, space: Space, task: u64) {
        self.ready.push_back(Mutation::Delete { space, key: key(task).into() });
    }
}

/// Ids sort by creation, as Rota's do: 26 characters, of which the first ones hardly differ.
fn key(task: u64) -> Vec<u8> {
    format!("01jd{task:022x}").into_bytes()
}

/// Tasks that lie there from the beginning have ids apart from those that come.
fn far(task: u64) -> u64 {
    task + (1 << 40)
}
