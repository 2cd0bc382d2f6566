//! The state in memory: what all pieces of the log together say, and how much of each piece is still live.
//!
//! Maps are persistent (copy on write), so a view of all of them costs nothing and stays as it is.

use std::{collections::VecDeque, ops::Bound};

use bytes::Bytes;
use immutable_chunkmap::map::Map;

use super::{
    layout::Tip,
    piece::{PIECE_BYTES, Parts, Piece, RECORD_BYTES, Record},
};
use crate::model::{Direction, Page, Revision};

/// Entries in a node of a map: so many are copied when one of them changes under a view.
const NODE: usize = 64;

/// A page ends when it holds this many bytes of keys and values, whatever its limit.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

type Entries = Map<Bytes, Stored, NODE>;

/// A value, and the piece that holds it.
#[derive(Debug, Clone)]
struct Stored {
    value: Bytes,
    piece: u64,
}

/// The state at one revision.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) revision: Revision,
    /// By name; also spaces that this store was not opened with, so that nothing of them is lost.
    spaces: Vec<(Box<str>, Entries)>,
}

impl View {
    fn entries(&self, space: &str) -> Option<&Entries> {
        self.spaces.iter().find(|(name, _)| **name == *space).map(|(_, entries)| entries)
    }

    pub(super) fn get(&self, space: &str, key: &Bytes) -> Option<Bytes> {
        self.entries(space)?.get(key).map(|stored| stored.value.clone())
    }

    /// A page of a range.
    pub(super) fn scan(
        &self,
        space: &str,
        (start, end): (&Bytes, Option<&Bytes>),
        direction: Direction,
        limit: usize,
    ) -> Page {
        let Some(entries) = self.entries(space) else { return Page::default() };
        if end.is_some_and(|end| end <= start) {
            return Page::default();
        }
        let end = end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.clone()));
        let mut range = entries.range::<Bytes, _>((Bound::Included(start.clone()), end));
        let mut page = Page::default();
        let mut bytes = 0;
        loop {
            let next = match direction {
                Direction::Ascending => range.next(),
                Direction::Descending => range.next_back(),
            };
            let Some((key, stored)) = next else { return page };
            if page.entries.len() >= limit || bytes >= PAGE_BYTES_MAX {
                page.more = true;
                return page;
            }
            bytes += key.len() + stored.value.len();
            page.entries.push((key.clone(), stored.value.clone()));
        }
    }
}

/// A piece that Consul holds.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// What it takes there.
    pub(super) bytes: u64,
    /// What of it is live.
    pub(super) live: u64,
    /// The id of its parts, where it has any.
    pub(super) parts: Option<Parts>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct State {
    view: View,
    /// The number of the first piece in `held`.
    first: u64,
    held: VecDeque<Held>,
    bytes: u64,
    live: u64,
}

impl State {
    /// Nothing, before the first piece that there is.
    pub(super) fn before(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// The number of the next piece.
    pub(super) fn next(&self) -> u64 {
        self.first + self.held.len() as u64
    }

    /// The bytes of all pieces.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What of them is live.
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    pub(super) fn pieces(&self) -> usize {
        self.held.len()
    }

    /// The pieces from the oldest on, with their numbers.
    pub(super) fn oldest(&self) -> impl Iterator<Item = (u64, &Held)> {
        (self.first..).zip(&self.held)
    }

    /// Whether the parts of that id belong to a piece.
    pub(super) fn has_parts(&self, id: &str) -> bool {
        self.held.iter().any(|held| held.parts.as_ref().is_some_and(|parts| parts.id == id))
    }

    /// Replays the next piece, which takes so many bytes in Consul.
    pub(super) fn apply(&mut self, piece: &Piece, bytes: u64, parts: Option<Parts>) {
        let number = self.next();
        self.bytes += bytes;
        self.held.push_back(Held { bytes, live: 0, parts });
        let spaces: Vec<usize> = piece.spaces.iter().map(|name| self.place(name)).collect();
        for Record { space, key, value } in &piece.records {
            let entries = &mut self.view.spaces[spaces[*space]].1;
            let before = match value.clone() {
                Some(value) => {
                    let size = size(key, &value);
                    let before = entries.insert_cow(key.clone(), Stored { value, piece: number });
                    self.live += size;
                    if let Some(held) = self.held.back_mut() {
                        held.live += size;
                    }
                    before
                }
                None => entries.remove_cow(key),
            };
            if let Some(before) = before {
                let size = size(key, &before.value);
                self.live -= size;
                let place = before.piece.checked_sub(self.first);
                let place = place.and_then(|place| usize::try_from(place).ok());
                if let Some(held) = place.and_then(|place| self.held.get_mut(place)) {
                    held.live -= size;
                }
            }
        }
    }

    /// Notes which revision the state now shows.
    pub(super) fn shows(&mut self, revision: Revision) {
        self.view.revision = revision;
    }

    /// Forgets the pieces before that one, which Consul no longer holds.
    pub(super) fn forget_before(&mut self, first: u64) {
        while self.first < first {
            let Some(held) = self.held.pop_front() else {
                self.first = first;
                return;
            };
            self.bytes -= held.bytes;
            self.first += 1;
        }
    }

    /// The records of that piece which are still live.
    pub(super) fn keep(&self, number: u64, piece: &Piece, into: &mut Piece) {
        for Record { space, key, value } in &piece.records {
            let name = &piece.spaces[*space];
            let stored = self.view.entries(name).and_then(|entries| entries.get(key));
            // A key that the piece has twice is live once: with its last value.
            let is_live = stored.is_some_and(|stored| {
                stored.piece == number && value.as_ref() == Some(&stored.value)
            });
            if is_live {
                into.push(name, key.clone(), value.clone());
            }
        }
    }

    fn place(&mut self, name: &str) -> usize {
        let spaces = &mut self.view.spaces;
        let place = spaces.iter().position(|(known, _)| **known == *name);
        place.unwrap_or_else(|| {
            spaces.push((name.into(), Entries::new()));
            spaces.len() - 1
        })
    }

    /// What the head must say of pieces, where this state is the newest.
    pub(super) fn matches(&self, tip: &Tip) -> bool {
        self.next() == tip.last + 1
    }
}

/// What an entry takes in a piece.
fn size(key: &Bytes, value: &Bytes) -> u64 {
    (RECORD_BYTES + key.len() + value.len()) as u64
}

/// What a piece of that many encoded bytes takes in Consul.
pub(super) fn weight(encoded: usize) -> u64 {
    (encoded + PIECE_BYTES / 8) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        consul::piece::Kind,
        model::{Head, KeyRange, Space, SpaceShape},
    };

    const HOT: Space = Space { name: "hot", shape: SpaceShape::Hot };

    fn piece(records: &[(u8, Option<u8>)]) -> Piece {
        let mut piece = Piece::new(Kind::Batch, Head::default());
        for (key, value) in records {
            piece.push("hot", vec![*key].into(), value.map(|value| vec![value].into()));
        }
        piece
    }

    fn all(view: &View) -> BTreeMap<u8, u8> {
        let range = KeyRange::all(HOT);
        let page = view.scan("hot", (&range.start, None), Direction::Ascending, usize::MAX);
        page.entries.iter().map(|(key, value)| (key[0], value[0])).collect()
    }

    /// Whoever keeps what is live of the oldest piece and forgets it has the same state, however often.
    #[test]
    fn what_is_live_outlives_its_piece_and_what_was_deleted_does_not_come_back() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut state = State::before(1);
        let mut log: VecDeque<Piece> = VecDeque::new();
        let mut expected = BTreeMap::new();
        for _ in 0..5_000 {
            let records: Vec<_> = (0..random.usize(0..6))
                .map(|_| (random.u8(0..40), random.bool().then(|| random.u8(..))))
                .collect();
            for (key, value) in &records {
                match value {
                    Some(value) => expected.insert(*key, *value),
                    None => expected.remove(key),
                };
            }
            let next = piece(&records);
            state.apply(&next, 1, None);
            log.push_back(next);
            if random.bool() && log.len() > 3 {
                let (number, _) = state.oldest().next().expect("there are some");
                let mut kept = Piece::new(Kind::Kept, Head::default());
                state.keep(number, &log[0], &mut kept);
                state.apply(&kept, 1, None);
                log.push_back(kept);
                state.forget_before(number + 1);
                log.pop_front();
            }
            assert_eq!(all(state.view()), expected);
            assert_eq!(state.live(), expected.len() as u64 * (RECORD_BYTES as u64 + 2));
            assert_eq!(state.live(), state.oldest().map(|(_, held)| held.live).sum::<u64>());
            assert_eq!(state.bytes(), log.len() as u64);
        }
        let mut replayed = State::before(1);
        for piece in &log {
            replayed.apply(piece, 1, None);
        }
        assert_eq!(all(replayed.view()), expected);
    }

    #[test]
    fn a_view_stays_as_it_is() {
        let mut state = State::before(1);
        state.apply(&piece(&[(1, Some(1)), (2, Some(2))]), 1, None);
        let view = state.view().clone();
        state.apply(&piece(&[(1, None), (2, Some(3))]), 1, None);
        assert_eq!(all(&view), BTreeMap::from([(1, 1), (2, 2)]));
        assert_eq!(all(state.view()), BTreeMap::from([(2, 3)]));
    }
}
