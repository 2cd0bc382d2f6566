//! How many keys or entries one request asks for, so that its answer has a fair size.
//!
//! etcd does not tell the size of a value before it sends it, and values of one space can differ by
//! a factor of ten thousand. So the sizes that came are remembered, and after an answer that was too
//! slow or too large half as many are asked for, down to one. What comes in time lets it grow again.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::{Space, SpaceShape};

/// Values of a space of large ones have that many bytes as long as nothing is known.
const LARGE_GUESS: usize = 128 * 1024;
const HOT_GUESS: usize = 1024;

/// The most bytes that an answer may have by the limits alone, whatever the sizes are guessed to be.
const ANSWER_BYTES: usize = 48 << 20;

/// The sizes of one kind of requests, for either shape of spaces.
#[derive(Debug)]
pub(super) struct Portions {
    hot: Portion,
    large: Portion,
    /// What the answer to one request aims at.
    bytes: usize,
}

#[derive(Debug)]
struct Portion {
    /// Bytes of an entry, guessed from what came.
    entry_bytes: AtomicUsize,
    /// The most entries to ask for.
    entries: AtomicUsize,
    entries_max: usize,
}

impl Portions {
    /// Of requests that aim at that many bytes and ask for so many entries at most, where a value has
    /// up to `value_bytes_max` bytes.
    pub(super) fn new(bytes: usize, entries_max: usize, value_bytes_max: usize) -> Self {
        let large = (ANSWER_BYTES / value_bytes_max.max(1)).clamp(1, entries_max);
        Self {
            hot: Portion::new(HOT_GUESS, entries_max),
            large: Portion::new(LARGE_GUESS, large),
            bytes,
        }
    }

    /// How many entries of that space to ask for.
    pub(super) fn of(&self, space: Space) -> usize {
        let portion = self.portion(space);
        let entries = portion.entries.load(Ordering::Relaxed);
        (self.bytes / portion.entry_bytes.load(Ordering::Relaxed).max(1)).clamp(1, entries)
    }

    /// How many of these keys to ask for, beginning with the first.
    pub(super) fn first_of(&self, mut spaces: impl Iterator<Item = Space>) -> usize {
        // Each takes its share of what one request may ask for.
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

    /// Notes that an answer with so many entries came in time.
    pub(super) fn came(&self, space: Space, count: usize, bytes: usize) {
        let portion = self.portion(space);
        if let Some(average) = bytes.checked_div(count) {
            // Large ones are forgotten slowly: the next large one may not be far.
            let before = portion.entry_bytes.load(Ordering::Relaxed);
            portion.entry_bytes.store((average + 1).max(before / 4 * 3), Ordering::Relaxed);
        }
        let grown = portion.entries.load(Ordering::Relaxed).saturating_mul(2);
        portion.entries.store(grown.min(portion.entries_max), Ordering::Relaxed);
    }

    /// Notes that the answer with so many was too slow or too large.
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
