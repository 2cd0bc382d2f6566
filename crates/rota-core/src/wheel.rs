//! Timers: a hierarchical timing wheel.
//!
//! Setting and firing a timer cost the same for ten timers and ten million (G. Varghese and T. Lauck, *Hashed
//! and Hierarchical Timing Wheels*, SOSP 1987, scheme 7). Timers cannot be cancelled: the owner of a timer
//! that fires checks whether it still has something to do, and builds a new wheel when too many timers are
//! idle.

use crate::fifo::Fifo;

/// Number of slots of a level.
const SLOTS: usize = 64;
/// Bits that select a slot.
const SLOT_BITS: u32 = 6;
/// 64^7 ms is 139 years. A later timer stays in the last level for another round.
const LEVELS: usize = 7;
/// The last level.
const TOP: u32 = 6;
/// The maximum distance from now: all slots of the last level except the current one.
const HORIZON: u64 = (SLOTS as u64 - 1) << (SLOT_BITS * TOP);
/// Number of levels in which [`Wheel::coming`] looks. They reach 4 s ahead, or less at the end of a turn.
const LEVELS_LOOKED_AT: usize = 2;
/// Number of timers that can move to a lower level for the cost of one that fires.
const MOVES_FOR_ONE: usize = 16;

/// A set of timers, each a deadline in milliseconds and a key.
#[derive(Debug)]
pub(crate) struct Wheel<K> {
    now: u64,
    len: usize,
    levels: Vec<Level<K>>,
    /// Timers of a reached slot that still move to lower levels.
    falling: Fifo<Timer<K>>,
}

#[derive(Debug)]
struct Level<K> {
    /// Bit `n` is set when slot `n` has timers.
    occupied: u64,
    slots: Vec<Fifo<Timer<K>>>,
}

#[derive(Debug, Clone, Copy)]
struct Timer<K> {
    deadline: u64,
    key: K,
}

impl<K: Copy> Wheel<K> {
    /// Makes an empty wheel at `now`.
    pub(crate) fn new(now: u64) -> Self {
        let level = || Level {
            occupied: 0,
            slots: std::iter::repeat_with(Fifo::default).take(SLOTS).collect(),
        };
        let levels = std::iter::repeat_with(level).take(LEVELS).collect();
        Self { now, len: 0, levels, falling: Fifo::default() }
    }

    /// The time of the wheel. No earlier timer is left.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Number of timers, including idle ones.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Sets a timer. A deadline in the past fires at the next [`advance`](Self::advance).
    pub(crate) fn insert(&mut self, deadline: u64, key: K) {
        self.len += 1;
        self.place(Timer { deadline: deadline.max(self.now), key });
    }

    fn place(&mut self, timer: Timer<K>) {
        let place = timer.deadline.min(self.now + HORIZON);
        let differing = (place ^ self.now) | (SLOTS as u64 - 1);
        let level = (((63 - differing.leading_zeros()) / SLOT_BITS) as usize).min(LEVELS - 1);
        let slot = slot_of(place, level);
        let level = &mut self.levels[level];
        level.occupied |= 1 << slot;
        level.slots[slot].push_back(timer);
    }

    /// Moves to `now`, and appends the keys of due timers to `due`. Work is limited: at most `most` timers
    /// fire, and a proportional number moves to lower levels. Then the wheel stays at the time it has
    /// reached, and the next call continues.
    pub(crate) fn advance(&mut self, now: u64, most: usize, due: &mut Vec<K>) {
        let full = due.len().saturating_add(most);
        let mut moves = most.saturating_mul(MOVES_FOR_ONE);
        loop {
            while let Some(timer) = self.falling.pop_front() {
                self.place(timer);
                moves -= 1;
                if moves == 0 {
                    return;
                }
            }
            let Some((level, slot, start)) = self.next_slot().filter(|next| next.2 <= now) else {
                break;
            };
            self.now = self.now.max(start);
            let held = &mut self.levels[level];
            if level > 0 {
                held.occupied &= !(1 << slot);
                self.falling = std::mem::take(&mut held.slots[slot]);
                continue;
            }
            while due.len() < full
                && let Some(timer) = held.slots[slot].pop_front()
            {
                due.push(timer.key);
                self.len -= 1;
            }
            if !held.slots[slot].is_empty() {
                return;
            }
            held.occupied &= !(1 << slot);
        }
        self.now = self.now.max(now);
    }

    /// When to call [`advance`](Self::advance) next. Never later than the earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if !self.falling.is_empty() {
            return Some(self.now);
        }
        self.next_slot().map(|(_, _, start)| start.max(self.now))
    }

    /// The keys of timers with deadlines from `from` to `until`, in no order. Looks at no more than `most` timers,
    /// and only in the lowest levels, so some can be missing.
    pub(crate) fn coming(&self, from: u64, until: u64, most: usize) -> Vec<K> {
        let slots = (0u32..).zip(&self.levels[..LEVELS_LOOKED_AT]).flat_map(|(level, held)| {
            let width = SLOT_BITS * level;
            let here = self.now >> width;
            let starts = (here..here + SLOTS as u64).take_while(move |at| at << width <= until);
            let slots = starts.map(|at| &held.slots[slot_of(at, 0)]);
            slots.filter(|slot| !slot.is_empty())
        });
        let timers = slots.flat_map(Fifo::iter).take(most);
        timers
            .filter(|timer| (from..=until).contains(&timer.deadline))
            .map(|timer| timer.key)
            .collect()
    }

    /// The occupied slot that begins first: its level, index and first millisecond.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        (0u32..).zip(&self.levels).find_map(|(level, held)| {
            if held.occupied == 0 {
                return None;
            }
            let width = SLOT_BITS * level;
            let here = self.now >> width;
            // Rotation works modulo 64, like the slots.
            let turn = u32::try_from(here % SLOTS as u64).expect("six bits fit");
            let ahead = u64::from(held.occupied.rotate_right(turn).trailing_zeros());
            let start = (here + ahead) << width;
            Some((level as usize, slot_of(start, level as usize), start))
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "six bits, and fewer than 64 levels")]
fn slot_of(time: u64, level: usize) -> usize {
    ((time >> (SLOT_BITS * level as u32)) % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the obvious model: a sorted list.
        #[test]
        fn fires_each_once_never_early_never_late(
            start in 0u64..1 << 45,
            timers in prop::collection::vec((0u64..1 << 43, 0u32..14), 1..200),
            steps in prop::collection::vec((0u64..1 << 43, 0u32..14), 1..50),
        ) {
            let mut wheel = Wheel::new(start);
            let mut left: Vec<(u64, u32)> = Vec::new();
            for (key, (span, shift)) in (0u32..).zip(timers) {
                let deadline = start + (span >> (shift * 3));
                wheel.insert(deadline, key);
                left.push((deadline, key));
            }
            let mut now = start;
            for (span, shift) in steps {
                now += span >> (shift * 3);
                if let Some(next) = wheel.next_deadline() {
                    let earliest = left.iter().map(|(deadline, _)| *deadline).min();
                    prop_assert!(earliest.is_some_and(|earliest| next <= earliest));
                }
                // Those of the next milliseconds are there, and nothing else.
                let (from, until) = (now + 1, now + (span & 63));
                let mut coming = wheel.coming(from, until, usize::MAX);
                coming.sort_unstable();
                let mut known: Vec<u32> = left
                    .iter()
                    .filter(|(deadline, _)| (from..=until).contains(deadline))
                    .map(|(_, key)| *key)
                    .collect();
                known.sort_unstable();
                if until >> (2 * SLOT_BITS) == wheel.now() >> (2 * SLOT_BITS) {
                    prop_assert_eq!(&coming, &known);
                } else {
                    prop_assert!(coming.iter().all(|key| known.contains(key)));
                }
                prop_assert!(wheel.coming(from, until, 3).len() <= 3);
                let mut fired = Vec::new();
                wheel.advance(now, usize::MAX, &mut fired);
                fired.sort_unstable();
                let mut expected: Vec<u32> =
                    left.iter().filter(|(deadline, _)| *deadline <= now).map(|(_, key)| *key).collect();
                expected.sort_unstable();
                prop_assert_eq!(fired, expected);
                left.retain(|(deadline, _)| *deadline > now);
                prop_assert_eq!(wheel.len(), left.len());
            }
        }
    }

    #[test]
    fn a_timer_comes_nearer_in_few_steps_and_fires_at_its_time() {
        const FURTHEST: u64 = 63 << 36;
        for start in [0, 1, 63, 4095, 1_700_000_000_000] {
            for span in [0, 1, 63, 64, 4095, 4096, 1 << 20, (1 << 36) - 1, FURTHEST, 3 * FURTHEST] {
                let mut wheel = Wheel::new(start);
                wheel.insert(start + span, 7);
                let (mut due, mut steps) = (Vec::new(), 0);
                // One for each level, and one for each turn of the last.
                let most = LEVELS as u64 + span / FURTHEST + 1;
                while let Some(next) = wheel.next_deadline() {
                    assert!(wheel.now() <= next && next <= start + span, "{start} {span}");
                    wheel.advance(next, 1, &mut due);
                    steps += 1;
                    assert!(steps <= most, "{steps} steps from {start} over {span}");
                }
                assert_eq!((due, wheel.now(), wheel.len()), (vec![7], start + span, 0));
            }
        }
    }

    #[test]
    fn a_burst_is_handed_out_in_portions() {
        let mut wheel = Wheel::new(0);
        (0..1000u32).for_each(|key| wheel.insert(5000, key));
        let mut due = Vec::new();
        wheel.advance(6000, 300, &mut due);
        assert_eq!(due.len(), 300);
        assert_eq!(wheel.next_deadline(), Some(5000));
        wheel.advance(6000, 10_000, &mut due);
        assert_eq!((due.len(), wheel.len()), (1000, 0));
    }

    #[test]
    fn a_far_slot_that_is_reached_is_emptied_in_portions() {
        let mut wheel = Wheel::new(0);
        let first = 1 << 20;
        (0..1000u32).for_each(|key| wheel.insert(first + u64::from(key), key));
        let (mut due, mut calls) = (Vec::new(), 0);
        while due.len() < 1000 {
            assert!(wheel.next_deadline().is_some_and(|next| next <= first + due.len() as u64));
            let before = due.len();
            wheel.advance(first + 5000, 10, &mut due);
            assert!(due.len() <= before + 10);
            calls += 1;
        }
        assert!(calls > 1000 / 10, "moving was not bounded");
        assert!(due.iter().copied().eq(0..1000), "none overtook another");
    }
}
