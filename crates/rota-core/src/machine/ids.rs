//! Maps ids of live tasks to their indices.
//!
//! Ids grow with time, and tasks that are used together were mostly created together. So this tree keeps
//! neighbouring ids together in its leaves, and the leaves in use stay in the processor's cache. A hash table
//! of ten million ids would cost two cache misses for each task.

use std::{collections::BTreeMap, ops::Bound};

use super::index::TaskIndex;
use crate::TaskId;

/// Maximum number of ids in a leaf.
const LEAF: usize = 128;

/// A map of ids to indices.
#[derive(Debug, Default)]
pub(super) struct IdIndex {
    /// The key of a leaf is not larger than any id in it, and larger than all ids in the leaf before.
    leaves: BTreeMap<TaskId, Leaf>,
    len: usize,
}

/// Sorted by id. Not empty.
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

    /// Ids below `before`, in descending order.
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
    /// When the id is already present.
    pub(super) fn insert(&mut self, id: TaskId, index: TaskIndex) {
        self.len += 1;
        // Ids grow, so it is mostly the last leaf, which is found without a search.
        let is_last = self.leaves.last_key_value().is_some_and(|(first, _)| *first <= id);
        let leaf = match is_last {
            true => self.leaves.values_mut().next_back(),
            false => self.leaves.range_mut(..=id).next_back().map(|(_, leaf)| leaf),
        };
        let Some(leaf) = leaf else {
            self.leaves.insert(id, vec![(id, index)]);
            return;
        };
        let at = leaf.binary_search_by_key(&id, |entry| entry.0);
        let at = at.expect_err("ids are given once");
        if leaf.len() < LEAF {
            leaf.insert(at, (id, index));
            return;
        }
        // After the last id, which is the common case, the full leaf stays full.
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

    /// Merges a small leaf with the one before it, if that has room.
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

    /// An index with the numbers from 1 on.
    fn filled(count: u32) -> IdIndex {
        let mut index = IdIndex::default();
        (1..=count)
            .for_each(|number| index.insert(id(number.into()), TaskIndex::new(number as usize)));
        index
    }

    fn leaves(index: &IdIndex) -> Vec<usize> {
        index.leaves.values().map(Vec::len).collect()
    }

    #[test]
    fn leaves_stay_full_while_ids_grow() {
        let index = filled(3 * 128 + 1);
        assert_eq!(leaves(&index), [128, 128, 128, 1]);
    }

    #[test]
    fn a_full_leaf_is_split_in_halves_wherever_an_id_comes() {
        // Even numbers are there, and an odd one comes between two of them.
        for at in 1..128 {
            let mut index = IdIndex::default();
            (1..=256).for_each(|number| index.insert(id(2 * number), TaskIndex::new(0)));
            index.insert(id(2 * at + 1), TaskIndex::new(1));
            let halves = if at < 64 { [65, 64] } else { [64, 65] };
            assert_eq!(leaves(&index), [halves[0], halves[1], 128], "{at}");
            assert_eq!(
                (index.len(), index.find(id(2 * at + 1))),
                (257, Some(TaskIndex::new(1))),
                "{at}"
            );
            assert!(index.below(None).map(|(id, _)| id).is_sorted_by(|a, b| a > b), "{at}");
            assert!(
                (1..=256).all(|number| index.find(id(2 * number)) == Some(TaskIndex::new(0))),
                "{at}"
            );
        }
    }

    #[test]
    fn a_small_leaf_joins_the_one_before_where_both_fill_half_of_one() {
        for (before, small, expected) in
            [(33, 31, &[64][..]), (34, 31, &[34, 31]), (32, 32, &[32, 32]), (128, 1, &[128, 1])]
        {
            let mut index = filled(256);
            (before + 1..=128).for_each(|number| _ = index.remove(id(number)));
            (128 + small + 1..=256).for_each(|number| _ = index.remove(id(number)));
            assert_eq!(leaves(&index), expected, "{before} and {small}");
        }
    }

    #[test]
    fn a_leaf_that_became_small_keeps_room_for_as_many_again() {
        let mut index = filled(256);
        for left in (2..128).rev() {
            index.remove(id(128 + left + 1));
            let room = index.leaves.values().last().unwrap().capacity();
            let expected = if left < 32 { 2 * left..=62 } else { 128..=128 };
            assert!(expected.contains(&(room as u64)), "room for {room} when {left} are left");
        }
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
