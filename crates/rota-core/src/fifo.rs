//! A FIFO queue in pieces. Growing and shrinking never move entries, and memory follows the number of
//! entries.
//!
//! A single doubling allocation would stall for the copy at ten million entries, and would keep its largest
//! size forever.

use std::collections::VecDeque;

/// Entries of one piece.
const PIECE: usize = 512;

/// Maximum size of an empty last piece that is kept, because it is likely to be filled again.
const SPARE_MAX: usize = 64;

/// First in, first out.
#[derive(Debug)]
pub(crate) struct Fifo<T> {
    /// No piece is empty, except possibly a small last one.
    pieces: VecDeque<VecDeque<T>>,
    len: usize,
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), len: 0 }
    }
}

impl<T> Fifo<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push_back(&mut self, entry: T) {
        match self.pieces.back_mut() {
            Some(piece) if piece.len() < PIECE => piece.push_back(entry),
            _ => self.pieces.push_back(VecDeque::from([entry])),
        }
        self.len += 1;
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.pieces.front()?.front()
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let piece = self.pieces.front_mut()?;
        let entry = piece.pop_front();
        if piece.is_empty() && piece.capacity() > SPARE_MAX {
            self.pieces.pop_front();
        }
        self.len -= usize::from(entry.is_some());
        entry
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    /// The number of entries that satisfy `before`. These must come first.
    pub(crate) fn partition_point(&self, mut before: impl FnMut(&T) -> bool) -> usize {
        let starts_before = |piece: &VecDeque<T>| piece.front().is_some_and(&mut before);
        let pieces = self.pieces.partition_point(starts_before);
        let Some(last) = pieces.checked_sub(1) else { return 0 };
        let whole: usize = self.pieces.range(..last).map(VecDeque::len).sum();
        whole + self.pieces[last].partition_point(before)
    }

    /// Drops the entries that `keep` rejects.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let old = std::mem::take(self);
        for entry in old.pieces.into_iter().flatten() {
            if keep(&entry) {
                self.push_back(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn capacity<T>(fifo: &Fifo<T>) -> usize {
        fifo.pieces.iter().map(VecDeque::capacity).sum()
    }

    #[test]
    fn an_empty_queue_keeps_a_small_piece_and_no_large_one() {
        for (entries, keeps) in
            [(1, true), (SPARE_MAX, true), (SPARE_MAX + 1, false), (PIECE * 3, false)]
        {
            let mut fifo = Fifo::default();
            (0..entries).for_each(|entry| fifo.push_back(entry));
            while fifo.pop_front().is_some() {}
            assert_eq!(capacity(&fifo) > 0, keeps, "{entries} entries");
            assert!(capacity(&fifo) <= SPARE_MAX, "{entries} entries");
        }
    }

    #[test]
    fn a_piece_that_is_used_up_is_dropped_while_others_follow() {
        let mut fifo = Fifo::default();
        (0..=PIECE).for_each(|entry| fifo.push_back(entry));
        assert_eq!(fifo.pieces.len(), 2);
        (0..PIECE).for_each(|entry| assert_eq!(fifo.pop_front(), Some(entry)));
        assert_eq!(fifo.pieces.len(), 1);
        assert_eq!(fifo.front(), Some(&PIECE));
    }

    proptest! {
        /// Against the standard queue in one piece.
        #[test]
        fn does_what_a_queue_does(
            steps in prop::collection::vec((0u32..4, 1u32..900), 1..40),
        ) {
            let (mut fifo, mut model) = (Fifo::default(), VecDeque::new());
            let mut next = 0u32;
            for (step, count) in steps {
                match step {
                    0 | 1 => for _ in 0..count {
                        fifo.push_back(next);
                        model.push_back(next);
                        next += 1;
                    },
                    2 => for _ in 0..count {
                        prop_assert_eq!(fifo.pop_front(), model.pop_front());
                    },
                    _ => {
                        fifo.retain(|entry| entry % 3 != count % 3);
                        model.retain(|entry| entry % 3 != count % 3);
                    }
                }
                prop_assert_eq!(fifo.len(), model.len());
                prop_assert_eq!(fifo.is_empty(), model.is_empty());
                prop_assert_eq!(fifo.front(), model.front());
                prop_assert!(fifo.iter().eq(model.iter()));
                for cut in [0, next / 3, next / 2, next] {
                    let place = model.partition_point(|entry| *entry < cut);
                    prop_assert_eq!(fifo.partition_point(|entry| *entry < cut), place);
                }
                prop_assert!(capacity(&fifo) <= fifo.len() + 2 * PIECE);
            }
        }
    }
}
