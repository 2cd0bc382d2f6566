//! What the auditor keeps of each queue: what waits in it by priority, whether it is paused, its tasks.

use std::collections::{BTreeSet, VecDeque};

use rustc_hash::FxHashMap;

/// Changes of a queue's pause that are remembered.
const HISTORY: usize = 64;
/// Priorities.
const LEVELS: usize = 10;

#[derive(Debug, Default)]
struct QueueState {
    /// Tasks that are ready and wait for a worker, by priority.
    waiting: [u32; LEVELS],
    paused: bool,
    /// When its pause changed, and to what.
    changes: VecDeque<(u64, bool)>,
    /// All its tasks.
    tasks: BTreeSet<u64>,
    /// How many of them live, after which batches that changed it, and when these landed.
    live: VecDeque<Counted>,
}

/// How many tasks live after a batch. A question is answered within a step, so one that is told after the batch may
/// have been counted before some of what the batch did: between these two.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    seq: u64,
    at_us: u64,
    count: u64,
    low: u64,
    high: u64,
}

/// All queues, by name.
#[derive(Debug, Default)]
pub(super) struct QueueStates(FxHashMap<String, QueueState>);

/// Where a task waits: in which queue, at which priority.
pub(super) type Waits = Option<(String, u32)>;

impl QueueStates {
    fn state(&mut self, queue: &str) -> &mut QueueState {
        if !self.0.contains_key(queue) {
            self.0.insert(queue.to_owned(), QueueState::default());
        }
        self.0.entry(queue.to_owned()).or_default()
    }

    pub(super) fn add_task(&mut self, queue: &str, id: u64) {
        self.state(queue).tasks.insert(id);
    }

    pub(super) fn drop_task(&mut self, queue: &str, id: u64) {
        self.state(queue).tasks.remove(&id);
    }

    /// A batch changed a task of the queue, which lived before it or does now.
    pub(super) fn lives(
        &mut self,
        now_us: u64,
        seq: u64,
        queue: &str,
        (before, now): (bool, bool),
    ) {
        let state = self.state(queue);
        let last = state.live.back().copied().unwrap_or_default();
        let mut counted = Counted { at_us: now_us, ..last };
        if last.seq == seq {
            state.live.pop_back();
        } else {
            counted = Counted { seq, low: last.count, high: last.count, ..counted };
            if state.live.len() == HISTORY {
                state.live.pop_front();
            }
        }
        if before {
            counted.low = counted.low.saturating_sub(1);
            counted.count = counted.count.saturating_sub(u64::from(!now));
        } else {
            counted.high += 1;
            counted.count += u64::from(now);
        }
        state.live.push_back(counted);
    }

    /// Whether so many tasks of the queue may have lived at some moment between these two. Unknown counts as yes.
    pub(super) fn so_many_lived(
        &self,
        queue: &str,
        told: u64,
        (from_us, to_us): (u64, u64),
    ) -> bool {
        let Some(state) = self.0.get(queue) else { return told == 0 };
        let mut until_us = u64::MAX;
        for Counted { at_us, low, high, .. } in state.live.iter().rev() {
            if *at_us <= to_us && until_us >= from_us && (*low..=*high).contains(&told) {
                return true;
            }
            until_us = *at_us;
        }
        // Before the first change that is remembered.
        until_us >= from_us && (told == 0 || state.live.len() == HISTORY)
    }

    /// A task waits there no more, and here from now on.
    pub(super) fn moved(&mut self, from: &Waits, to: &Waits) {
        if from == to {
            return;
        }
        if let Some((queue, priority)) = from {
            let count = &mut self.state(queue).waiting[*priority as usize % LEVELS];
            *count = count.saturating_sub(1);
        }
        if let Some((queue, priority)) = to {
            self.state(queue).waiting[*priority as usize % LEVELS] += 1;
        }
    }

    /// Whether something of a higher priority waits in the queue.
    pub(super) fn waits_above(&self, queue: &str, priority: u32) -> bool {
        let above = (priority as usize + 1).min(LEVELS);
        self.0.get(queue).is_some_and(|state| state.waiting[above..].iter().any(|count| *count > 0))
    }

    pub(super) fn is_paused(&self, queue: &str) -> bool {
        self.0.get(queue).is_some_and(|state| state.paused)
    }

    /// Sets whether a queue is paused. Says whether that is a change.
    pub(super) fn set_paused(&mut self, now_us: u64, queue: &str, paused: bool) -> bool {
        let state = self.state(queue);
        if state.paused == paused {
            return false;
        }
        state.paused = paused;
        if state.changes.len() == HISTORY {
            state.changes.pop_front();
        }
        state.changes.push_back((now_us, paused));
        true
    }

    /// Whether the queue stood so at some moment since then.
    pub(super) fn was_paused(&self, queue: &str, paused: bool, since_us: u64) -> bool {
        let Some(state) = self.0.get(queue) else { return !paused };
        state.paused == paused || state.changes.iter().any(|(at_us, _)| *at_us >= since_us)
    }

    /// The newest tasks of a queue, down to this one.
    pub(super) fn newest(&self, queue: &str, down_to: u64) -> impl Iterator<Item = u64> {
        let tasks = self.0.get(queue).map(|state| state.tasks.range(down_to..));
        tasks.into_iter().flatten().rev().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_counted_as_it_stood_within_the_step_and_no_further() {
        let mut queues = QueueStates::default();
        for _ in 0..3 {
            queues.lives(1_000, 1, "q", (false, true));
        }
        // One ends and two begin, in an order that nobody knows.
        queues.lives(5_000, 2, "q", (true, false));
        queues.lives(5_000, 2, "q", (false, true));
        queues.lives(5_000, 2, "q", (false, true));
        let counted = |from_us, to_us| -> Vec<u64> {
            (0..10).filter(|told| queues.so_many_lived("q", *told, (from_us, to_us))).collect()
        };
        assert_eq!(counted(2_000, 4_000), [0, 1, 2, 3]);
        assert_eq!(counted(6_000, 7_000), [2, 3, 4, 5]);
        assert_eq!(counted(4_000, 7_000), [0, 1, 2, 3, 4, 5]);
        assert!(queues.so_many_lived("other", 0, (0, 9_000)));
        assert!(!queues.so_many_lived("other", 1, (0, 9_000)));
    }
}
