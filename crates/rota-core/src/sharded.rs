//! A map in parts. Growing one part stalls only for a fraction of the time that growing a single map would
//! take, and a nearly empty part frees its memory.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// Number of parts of a map.
const SHARDS: usize = 256;
/// Minimum capacity of a part to shrink.
const SHRUNK_MIN: usize = 64;

/// The key of a map in parts.
pub(crate) trait ShardKey: Copy + Eq + Hash {
    /// A number that distinguishes keys. Keys may differ in any of its bits.
    fn number(self) -> u64;
}

impl ShardKey for u32 {
    #[inline]
    fn number(self) -> u64 {
        self.into()
    }
}

/// A map of `K` to `V`.
#[derive(Debug)]
pub(crate) struct Sharded<K, V> {
    /// Empty before the first entry.
    shards: Vec<FxHashMap<K, V>>,
    len: usize,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self { shards: Vec::new(), len: 0 }
    }
}

impl<K: ShardKey, V> Sharded<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: K) -> Option<&V> {
        if self.len == 0 {
            return None;
        }
        self.shards[shard(key)].get(&key)
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, FxHashMap::default);
        }
        let old = self.shards[shard(key)].insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        if self.len == 0 {
            return None;
        }
        let part = &mut self.shards[shard(key)];
        let old = part.remove(&key)?;
        self.len -= 1;
        if part.capacity() > SHRUNK_MIN && part.len() < part.capacity() / 8 {
            part.shrink_to(part.len() * 2);
        }
        Some(old)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.shards.iter().flatten().map(|(key, value)| (*key, value))
    }
}

/// Spreads keys evenly, whatever bits they differ in.
fn shard<K: ShardKey>(key: K) -> usize {
    (key.number().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_memory_back_and_forgets_nothing() {
        let mut map = Sharded::default();
        for key in 0..200_000u32 {
            assert_eq!(map.insert(key, key + 1), None);
        }
        let full: usize = map.shards.iter().map(FxHashMap::capacity).sum();
        for key in (0..200_000).filter(|key| key % 100 != 0) {
            assert_eq!(map.remove(key), Some(key + 1));
        }
        assert_eq!((map.len(), map.iter().count()), (2000, 2000));
        assert!((0..200_000).all(|key| map.contains(key) == (key % 100 == 0)));
        let left: usize = map.shards.iter().map(FxHashMap::capacity).sum();
        assert!(left * 5 < full, "{left} of {full}");
        assert_eq!(map.insert(100, 7), Some(101));
        assert_eq!(map.get(100), Some(&7));
    }

    #[test]
    fn a_part_shrinks_when_less_than_an_eighth_of_a_large_one_is_used() {
        let keys = (0..1 << 20).filter(|key| shard(*key) == 0);
        let keys: Vec<u32> = keys.take(448).collect();
        assert_eq!(keys.len(), 448);
        for (entries, shrunk) in [(448, true), (28, false)] {
            let mut map = Sharded::default();
            keys[..entries].iter().for_each(|key| _ = map.insert(*key, ()));
            let full = map.shards[0].capacity();
            for left in (1..entries).rev() {
                let before = map.shards[0].capacity();
                map.remove(keys[left]);
                let after = map.shards[0].capacity();
                // An entry that goes may take its place with it, until the part is made anew.
                if after + 1 >= before {
                    assert!(left >= after / 8 || after <= SHRUNK_MIN, "{left} in {after}");
                } else {
                    assert!(left < before / 8, "{left} in {before} shrank to {after}");
                    assert!(2 * left <= after, "{left} in {after} will grow at once");
                }
            }
            assert_eq!(map.shards[0].capacity() < full / 4, shrunk, "{entries}");
        }
    }

    #[test]
    fn keys_are_spread_whichever_bits_they_differ_in() {
        for step in [1, 2, 1 << 8, 1 << 12, 1 << 20] {
            let mut map = Sharded::default();
            (0..4096u32).for_each(|key| _ = map.insert(key.wrapping_mul(step), ()));
            let largest = map.shards.iter().map(FxHashMap::len).max();
            assert!(largest <= Some(4 * 4096 / SHARDS), "{largest:?} in one part with step {step}");
        }
    }
}
