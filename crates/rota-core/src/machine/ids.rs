//! Where a live task sits, by its id.
//!
//! Ids grow with time, and tasks that are used together were mostly created together. So this keeps
//! neighbours together, in leaves of a tree: the leaves in use stay in the processor's cache however
//! many others there are. A hash table of ten million ids costs two misses for each task instead.

use std::{collections::BTreeMap, ops::Bound};

use super::index::TaskIndex;
use crate::TaskId;

/// Ids of one leaf at most.
const LEAF: usize = 128;

/// A map of ids to indices.
#[derive(Debug, Default)]
pub(super) struct IdIndex {
    /// By an id that is not larger than any in the leaf, and larger than any in the leaf before.
    leaves: BTreeMap<TaskId, Leaf>,
    len: usize,
}

/// In the order of ids; not empty.
type Leaf = Vec<(TaskId, TaskIndex)>;

impl IdIndex {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn find(&self, id: TaskId) -> Option<TaskIndex> {
        let (_, leaf) = self.leaves.range(..=id).next_back()?;
        let at = leaf.binary_search_by_key(&id, |entry| entry.0).ok()?;
        Some(leaf[at].1)
    }

    /// Ids smaller than `before`, the largest first.
    pub(super) fn below(
        &self,
        before: Option<TaskId>,
    ) -> impl Iterator<Item = (TaskId, TaskIndex)> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let leaves = self.leaves.range((Bound::Unbounded, end)).rev();
        leaves.flat_map(move |(_, leaf)| {
            let is_below = |entry: &(TaskId, _)| before.is_none_or(|before| entry.0 < before);
            leaf[..leaf.partition_point(is_below)].iter().rev().copied()
        })
    }

    /// # Panics
    /// When the id is there already.
    pub(super) fn insert(&mut self, id: TaskId, index: TaskIndex) {
        self.len += 1;
        let Some((_, leaf)) = self.leaves.range_mut(..=id).next_back() else {
            self.leaves.insert(id, vec![(id, index)]);
            return;
        };
        let at = leaf.binary_search_by_key(&id, |entry| entry.0);
        let at = at.expect_err("ids are given once");
        if leaf.len() < LEAF {
            leaf.insert(at, (id, index));
            return;
        }
        // Behind the last id, as almost always, the full leaf stays full.
        let mut right = leaf.split_off(if at == LEAF { LEAF } else { LEAF / 2 });
        if at < leaf.len() {
            leaf.insert(at, (id, index));
        } else {
            right.insert(at - leaf.len(), (id, index));
        }
        self.leaves.insert(right[0].0, right);
    }

    pub(super) fn remove(&mut self, id: TaskId) -> Option<TaskIndex> {
        let (key, leaf) = self.leaves.range_mut(..=id).next_back()?;
        let at = leaf.binary_search_by_key(&id, |entry| entry.0).ok()?;
        let (_, index) = leaf.remove(at);
        self.len -= 1;
        if leaf.len() < LEAF / 4 {
            let key = *key;
            self.thin_out(key);
        }
        Some(index)
    }

    /// A leaf has become small: it joins the one before it, if that has room for it.
    fn thin_out(&mut self, key: TaskId) {
        let leaf = self.leaves.get_mut(&key).expect("the caller found it");
        if leaf.is_empty() {
            self.leaves.remove(&key);
            return;
        }
        let len = leaf.len();
        leaf.shrink_to(len * 2);
        if let Some((_, before)) = self.leaves.range(..key).next_back()
            && before.len() + len <= LEAF / 2
        {
            let leaf = self.leaves.remove(&key).expect("just found");
            let before = self.leaves.range_mut(..key).next_back();
            before.expect("just found").1.extend(leaf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::index::Index as _, *};
    use proptest::prelude::*;

    fn id(number: u64) -> TaskId {
        TaskId::from_u64(number).unwrap()
    }

    proptest! {
        /// Against the standard map.
        #[test]
        fn does_what_a_map_does(
            steps in prop::collection::vec((0u32..4, 1u64..3000, 1u64..600), 1..20),
        ) {
            let (mut index, mut model) = (IdIndex::default(), BTreeMap::new());
            for (step, from, count) in steps {
                for number in from..from + count {
                    let slot = TaskIndex::new(usize::try_from(number).unwrap());
                    if step < 2 && !model.contains_key(&number) {
                        index.insert(id(number), slot);
                        model.insert(number, slot);
                    } else if step == 2 || (step == 3 && number % 10 > 0) {
                        prop_assert_eq!(index.remove(id(number)), model.remove(&number));
                    }
                }
                prop_assert_eq!(index.len(), model.len());
                for number in (from..from + count).step_by(3).chain([from.max(2) - 1, from + count]) {
                    prop_assert_eq!(index.find(id(number)), model.get(&number).copied());
                    let below = index.below(Some(id(number))).take(3).map(|(id, _)| id.as_u64());
                    let expected = model.range(..number).rev().take(3).map(|(number, _)| *number);
                    prop_assert!(below.eq(expected));
                }
                let places: usize = index.leaves.values().map(Vec::capacity).sum();
                prop_assert!(index.leaves.values().all(|leaf| !leaf.is_empty()));
                prop_assert!(places <= 8 * index.len() + 2 * LEAF, "{places} for {}", index.len());
            }
        }
    }
}
