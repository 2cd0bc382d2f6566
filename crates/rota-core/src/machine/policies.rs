//! The policies of live tasks. Most tasks share a few, so each is kept once and counted.

use rustc_hash::FxHashMap;

use crate::{Jitter, Policy};

#[derive(Debug, Default)]
pub(super) struct PolicyTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: FxHashMap<Key, u32>,
}

#[derive(Debug)]
struct Slot {
    policy: Policy,
    tasks: u64,
}

/// All of a policy's fields; the multiplier by its bits, which compare.
type Key = ((u32, u32, Jitter), (u64, u64, u64), u64, Option<u64>);

fn key_of(policy: &Policy) -> Key {
    let retry = &policy.retry;
    (
        (retry.max_attempts, retry.max_lost, retry.jitter),
        (retry.initial.0, retry.max.0, retry.multiplier.to_bits()),
        policy.timeout.0,
        policy.retention.map(|retention| retention.0),
    )
}

impl PolicyTable {
    /// Counts one more task with that policy.
    pub(super) fn take(&mut self, policy: Policy) -> u32 {
        let key = key_of(&policy);
        if let Some(index) = self.index.get(&key) {
            self.slots[*index as usize].tasks += 1;
            return *index;
        }
        let slot = Slot { policy, tasks: 1 };
        let index = if let Some(index) = self.free.pop() {
            self.slots[index as usize] = slot;
            index
        } else {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).expect("no more policies than live tasks")
        };
        self.index.insert(key, index);
        index
    }

    /// Counts one task less.
    pub(super) fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.tasks -= 1;
        if slot.tasks == 0 {
            self.index.remove(&key_of(&slot.policy));
            self.free.push(index);
        }
    }

    /// Whether no task has a policy.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub(super) fn at(&self, index: u32) -> &Policy {
        &self.slots[index as usize].policy
    }
}
