//! The number of keys or entries of one request, so that its answer has a suitable size.
//!
//! etcd does not report the size of a value before it sends it, and values of one space can differ by a
//! factor of ten thousand. So the sizes of earlier values are remembered. After an answer that was too slow
//! or too large, the number is halved, down to one. Answers in time let it grow again.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::{Space, SpaceShape};

/// Assumed bytes of a value in a space of large values.
const LARGE_GUESS: usize = 128 * 1024;
const HOT_GUESS: usize = 1024;

/// Maximum bytes of an answer by the limits alone, independent of estimated sizes.
const ANSWER_BYTES: usize = 48 << 20;

/// How many times as many entries a request can have in the middle of a long walk.
const WALK: usize = 4;

/// The sizes of one kind of requests, for both shapes of spaces.
#[derive(Debug)]
pub(super) struct Portions {
    hot: Portion,
    large: Portion,
    /// Target bytes of an answer.
    bytes: usize,
}

#[derive(Debug)]
struct Portion {
    /// Estimated bytes of an entry.
    entry_bytes: AtomicUsize,
    /// Maximum number of entries to request.
    entries: AtomicUsize,
    entries_max: usize,
}

impl Portions {
    /// For requests with this target of bytes and maximum number of entries, with values of up to
    /// `value_bytes_max` bytes.
    pub(super) fn new(bytes: usize, entries_max: usize, value_bytes_max: usize) -> Self {
        let large = (ANSWER_BYTES / value_bytes_max.max(1)).clamp(1, entries_max);
        Self {
            hot: Portion::new(HOT_GUESS, entries_max),
            large: Portion::new(LARGE_GUESS, large),
            bytes,
        }
    }

    /// The number of entries of this space to request.
    pub(super) fn of(&self, space: Space) -> usize {
        let portion = self.portion(space);
        let entries = portion.entries.load(Ordering::Relaxed);
        (self.bytes / portion.entry_bytes.load(Ordering::Relaxed).max(1)).clamp(1, entries)
    }

    /// The number of entries of this space to request in the middle of a long walk. The sizes just seen count for more
    /// there, so it can be larger: a run of the largest values after small ones costs etcd a few times as much memory
    /// for one request.
    pub(super) fn of_walk(&self, space: Space) -> usize {
        let portion = self.portion(space);
        let entries = portion.entries.load(Ordering::Relaxed).saturating_mul(WALK);
        (self.bytes / portion.entry_bytes.load(Ordering::Relaxed).max(1)).clamp(1, entries)
    }

    /// The number of these keys to request, from the first.
    pub(super) fn first_of(&self, mut spaces: impl Iterator<Item = Space>) -> usize {
        // Each key uses its share of a request.
        let mut share = 0.0;
        let fits = |space: &Space| {
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let portion = self.of(*space) as f64;
            share += 1.0 / portion;
            // Sums of thirds and the like are not exact.
            share <= 1.0 + 1e-6
        };
        spaces.by_ref().take_while(fits).count().max(1)
    }

    /// Records an answer in time with this many entries.
    pub(super) fn came(&self, space: Space, count: usize, bytes: usize) {
        let portion = self.portion(space);
        if let Some(average) = bytes.checked_div(count) {
            // Large sizes are forgotten slowly, because the next large one may come soon.
            let before = portion.entry_bytes.load(Ordering::Relaxed);
            portion.entry_bytes.store((average + 1).max(before / 4 * 3), Ordering::Relaxed);
        }
        let grown = portion.entries.load(Ordering::Relaxed).saturating_mul(2);
        portion.entries.store(grown.min(portion.entries_max), Ordering::Relaxed);
    }

    /// Records that an answer with this many entries was too slow or too large.
    pub(super) fn was_too_much(&self, space: Space, count: usize) {
        let portion = self.portion(space);
        portion.entries.fetch_min((count / 2).max(1), Ordering::Relaxed);
    }

    fn portion(&self, space: Space) -> &Portion {
        match space.shape {
            SpaceShape::Hot => &self.hot,
            SpaceShape::Large => &self.large,
        }
    }
}

impl Portion {
    fn new(entry_bytes: usize, entries_max: usize) -> Self {
        let entry_bytes = AtomicUsize::new(entry_bytes);
        Self { entry_bytes, entries: AtomicUsize::new(entries_max), entries_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const HOT: Space = Space { name: "hot", shape: SpaceShape::Hot };
    const LARGE: Space = Space { name: "large", shape: SpaceShape::Large };

    #[test]
    fn as_many_are_asked_for_as_fit_and_none_that_could_not() {
        let portions = Portions::new(MIB, 64, 3 * MIB / 2);
        assert_eq!((portions.of(HOT), portions.of(LARGE)), (64, 8));
        portions.came(LARGE, 8, 8 * MIB);
        assert_eq!(portions.of(LARGE), 1);
        for _ in 0..100 {
            portions.came(LARGE, 1, 100);
        }
        assert_eq!(portions.of(LARGE), 32, "with the largest values, 48 MiB");
        assert_eq!(Portions::new(MIB, 64, 16 * MIB).of(LARGE), 3);
        assert_eq!(Portions::new(MIB, 64, 64 * MIB).of(LARGE), 1);
    }

    #[test]
    fn what_was_too_much_is_halved_down_to_one_and_grows_again() {
        let portions = Portions::new(MIB, 64, MIB);
        for expected in [32, 16, 8, 4, 2, 1, 1] {
            portions.was_too_much(HOT, portions.of(HOT));
            assert_eq!(portions.of(HOT), expected);
        }
        for expected in [2, 4, 8, 16, 32, 64, 64] {
            portions.came(HOT, 1, 10);
            assert_eq!(portions.of(HOT), expected);
        }
    }

    #[test]
    fn keys_of_both_shapes_share_a_request() {
        let portions = Portions::new(MIB, 64, MIB);
        let first = |spaces: &[Space]| portions.first_of(spaces.iter().copied());
        assert_eq!(first(&[HOT; 100]), 64);
        assert_eq!(first(&[LARGE; 100]), 8);
        assert_eq!(first(&[[LARGE, HOT]; 50].concat()), 14);
        portions.came(LARGE, 1, 10 * MIB);
        assert_eq!(first(&[LARGE, LARGE]), 1);
        assert_eq!(first(&[HOT, LARGE, HOT]), 1);
        assert_eq!(first(&[]), 1);
    }
}
