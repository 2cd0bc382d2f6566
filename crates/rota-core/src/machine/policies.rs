//! The policies of live tasks. Most tasks share a few policies, so each is kept once with a reference count.

use rustc_hash::FxHashMap;

use super::index::{PolicyIndex, Table};

use crate::{Jitter, Policy, RetryPolicy};

#[derive(Debug, Default)]
pub(super) struct PolicyTable {
    slots: Table<PolicyIndex, Slot>,
    index: FxHashMap<Key, PolicyIndex>,
}

#[derive(Debug)]
struct Slot {
    policy: Policy,
    tasks: u64,
}

/// All fields of a policy. The multiplier is in bits, which can be compared.
type Key = ((u32, u32, u32, Jitter), (u64, u64, u64), u64, Option<u64>);

fn key_of(policy: &Policy) -> Key {
    let Policy { retry, timeout, retention } = policy;
    let RetryPolicy { max_attempts, initial, multiplier, max, jitter, max_lost, max_snoozes } =
        retry;
    (
        (*max_attempts, *max_lost, *max_snoozes, *jitter),
        (initial.0, max.0, multiplier.to_bits()),
        timeout.0,
        retention.map(|retention| retention.0),
    )
}

impl PolicyTable {
    /// Adds a reference to a policy.
    pub(super) fn take(&mut self, policy: Policy) -> PolicyIndex {
        let key = key_of(&policy);
        if let Some(index) = self.index.get(&key) {
            self.slots[*index].tasks += 1;
            return *index;
        }
        let index = self.slots.insert(Slot { policy, tasks: 1 });
        self.index.insert(key, index);
        index
    }

    /// Removes a reference.
    pub(super) fn release(&mut self, index: PolicyIndex) {
        let slot = &mut self.slots[index];
        slot.tasks -= 1;
        if slot.tasks == 0 {
            self.index.remove(&key_of(&slot.policy));
            self.slots.release(index);
        }
    }

    /// Whether no task has a policy.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub(super) fn at(&self, index: PolicyIndex) -> &Policy {
        &self.slots[index].policy
    }
}
