//! The last output of a task: pieces in order, bounded in bytes.

use std::collections::VecDeque;

use bytes::Bytes;

use super::place::OutputPlace;

/// Maximum bytes that a listener takes at once.
const PORTION_BYTES: usize = 64 << 10;
/// Bytes after which a piece is not continued, so that its memory is freed piece by piece.
const PIECE_BYTES: usize = 16 << 10;

/// Output without a hole, of the attempt with one lease.
#[derive(Debug)]
struct Piece {
    lease: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn end_place(&self) -> OutputPlace {
        OutputPlace { lease: self.lease, offset: self.end() }
    }
}

/// What there is after a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Output of the same attempt, which begins at the place.
    Output(Bytes),
    /// The place moves to this one of the same lease. The bytes in between are missing.
    Hole(u64),
    /// The next output is of the attempt with this later lease. Some in between is missing if the second value says so.
    Later(u64, bool),
    /// Nothing yet.
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct Buffer {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// The end of the output that was dropped because the buffer was full.
    dropped: OutputPlace,
}

impl Buffer {
    /// The end of the known output of a lease.
    fn end_of(&self, lease: u64) -> u64 {
        let last = self.pieces.back().filter(|piece| piece.lease == lease);
        let dropped = if self.dropped.lease == lease { self.dropped.offset } else { 0 };
        last.map_or(dropped, |piece| piece.end().max(dropped))
    }

    /// Adds output that begins at this place, except what is known already. Leases come in order. Returns
    /// whether something was new.
    pub(super) fn add(&mut self, at: OutputPlace, bytes: &[u8], limit: usize) -> bool {
        let OutputPlace { lease, mut offset } = at;
        if self.pieces.back().is_some_and(|piece| piece.lease > lease) || self.dropped.lease > lease
        {
            return false;
        }
        let known = self.end_of(lease);
        let passed = usize::try_from(known.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = bytes.get(passed..).unwrap_or_default();
        offset = offset.max(known);
        if bytes.is_empty() || offset.checked_add(bytes.len() as u64).is_none() {
            return false;
        }
        // Of more than fits, the end counts.
        if bytes.len() > limit {
            offset += (bytes.len() - limit) as u64;
            bytes = &bytes[bytes.len() - limit..];
        }
        self.bytes += bytes.len();
        match self.pieces.back_mut() {
            Some(last)
                if last.end_place() == (OutputPlace { lease, offset })
                    && last.bytes.len() + bytes.len() <= PIECE_BYTES =>
            {
                last.bytes.extend_from_slice(bytes);
            }
            _ => {
                self.pieces.push_back(Piece { lease, start: offset, bytes: bytes.to_vec() });
            }
        }
        while self.bytes > limit
            && let Some(first) = self.pieces.pop_front()
        {
            self.bytes -= first.bytes.len();
            self.dropped = first.end_place();
        }
        true
    }

    /// What there is after a place. `is_over` says whether more can follow the last piece of this attempt; if it
    /// can, a character that is not complete yet waits for its rest.
    pub(super) fn after(&self, place: OutputPlace, is_over: bool) -> Found {
        if self.dropped > place && self.dropped.lease > place.lease {
            return Found::Later(self.dropped.lease, true);
        }
        let next = self.pieces.iter().position(|piece| piece.end_place() > place);
        let next = next.and_then(|at| Some((at, self.pieces.get(at)?)));
        let Some((at, piece)) = next.filter(|(_, piece)| piece.lease == place.lease) else {
            return match next {
                _ if self.dropped > place => Found::Hole(self.dropped.offset),
                Some((_, piece)) => Found::Later(piece.lease, false),
                None => Found::Nothing,
            };
        };
        if piece.start > place.offset {
            return Found::Hole(piece.start);
        }
        let mut found = Vec::new();
        let mut begin = usize::try_from(place.offset - piece.start).unwrap_or(usize::MAX);
        let mut end = place.offset;
        let mut is_last = true;
        for piece in self.pieces.iter().skip(at) {
            if piece.lease != place.lease || piece.start > end {
                // The rest of a character before a hole never comes.
                return output(found, true);
            }
            let rest = piece.bytes.get(begin..).unwrap_or_default();
            begin = 0;
            let room = PORTION_BYTES - found.len();
            if rest.len() > room {
                found.extend_from_slice(&rest[..room]);
                is_last = false;
                break;
            }
            found.extend_from_slice(rest);
            end = piece.end();
        }
        output(found, is_over && is_last)
    }
}

/// A portion of output. Unless it is whole, a character that its end divides is left for the next one.
fn output(mut bytes: Vec<u8>, is_whole: bool) -> Found {
    if !is_whole {
        bytes.truncate(bytes.len() - incomplete(&bytes));
    }
    if bytes.is_empty() { Found::Nothing } else { Found::Output(bytes.into()) }
}

/// The number of bytes at the end that begin a character of UTF-8 without completing it.
fn incomplete(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    for (from_end, byte) in tail.iter().rev().enumerate() {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 0,
        };
        let there = from_end + 1;
        return if there < length { there } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 100_000;

    fn at(lease: u64, offset: u64) -> OutputPlace {
        OutputPlace { lease, offset }
    }

    fn text(found: Found) -> String {
        match found {
            Found::Output(bytes) => String::from_utf8(bytes.to_vec()).expect("text"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_known_is_not_added_again() {
        let mut buffer = Buffer::default();
        assert!(buffer.add(at(1, 0), b"one ", LIMIT));
        assert!(!buffer.add(at(1, 0), b"one ", LIMIT));
        assert!(buffer.add(at(1, 2), b"e two", LIMIT), "the end is new");
        assert_eq!(text(buffer.after(at(1, 0), false)), "one two");
        assert_eq!(text(buffer.after(at(1, 4), false)), "two");
        assert_eq!(buffer.after(at(1, 7), false), Found::Nothing);
        assert!(!buffer.add(at(1, u64::MAX), b"x", LIMIT), "no place is after the end");
    }

    #[test]
    fn what_is_missing_is_a_hole() {
        let mut buffer = Buffer::default();
        buffer.add(at(1, 10), b"ab", LIMIT);
        buffer.add(at(1, 20), b"cd", LIMIT);
        assert_eq!(buffer.after(at(1, 0), false), Found::Hole(10));
        assert_eq!(text(buffer.after(at(1, 10), false)), "ab");
        assert_eq!(buffer.after(at(1, 12), false), Found::Hole(20));
        assert_eq!(text(buffer.after(at(1, 20), false)), "cd");
    }

    #[test]
    fn the_oldest_output_is_dropped_and_its_place_is_a_hole() {
        let mut buffer = Buffer::default();
        for round in 0..100 {
            let offset = round * 1000;
            buffer.add(at(1, offset), &[b'x'; 1000], 20_000);
        }
        assert!(buffer.bytes <= 20_000 && buffer.bytes > 1000, "{}", buffer.bytes);
        let Found::Hole(kept) = buffer.after(at(1, 5), false) else { panic!("a hole") };
        assert_eq!(kept + buffer.bytes as u64, 100_000);
        assert!(matches!(buffer.after(at(1, kept), false), Found::Output(_)));
        buffer.add(at(2, 0), &[b'y'; 30_000], 20_000);
        assert_eq!(buffer.after(at(1, 5), false), Found::Hole(100_000), "of the first attempt");
        assert_eq!(buffer.after(at(1, 100_000), false), Found::Later(2, false));
        assert_eq!(buffer.after(at(2, 0), false), Found::Hole(10_000));
        buffer.add(at(2, 30_000), &[b'z'; 20_000], 20_000);
        assert_eq!(buffer.after(at(1, 5), false), Found::Later(2, true));
    }

    #[test]
    fn attempts_follow_one_another() {
        let mut buffer = Buffer::default();
        buffer.add(at(1, 0), b"first", LIMIT);
        buffer.add(at(2, 0), b"second", LIMIT);
        assert!(!buffer.add(at(1, 5), b"late", LIMIT), "a lease that is over says no more");
        assert_eq!(text(buffer.after(at(1, 0), false)), "first");
        assert_eq!(buffer.after(at(1, 5), false), Found::Later(2, false));
        assert_eq!(buffer.after(OutputPlace::after(1), false), Found::Later(2, false));
        assert_eq!(text(buffer.after(at(2, 0), false)), "second");
        assert_eq!(buffer.after(OutputPlace::after(2), false), Found::Nothing);
    }

    #[test]
    fn a_large_output_comes_in_portions_of_whole_characters() {
        let mut buffer = Buffer::default();
        let said = "ü€🦀".repeat(20_000);
        for (index, piece) in said.as_bytes().chunks(1001).enumerate() {
            buffer.add(at(1, index as u64 * 1001), piece, 1 << 20);
        }
        let (mut place, mut heard) = (at(1, 0), String::new());
        while let Found::Output(bytes) = buffer.after(place, false) {
            assert!(bytes.len() <= PORTION_BYTES);
            heard.push_str(std::str::from_utf8(&bytes).expect("whole characters"));
            place.offset += bytes.len() as u64;
        }
        assert_eq!(heard, said);
    }

    #[test]
    fn a_divided_character_waits_for_its_rest_unless_none_can_come() {
        let mut buffer = Buffer::default();
        buffer.add(at(1, 0), b"a\xe2\x82", LIMIT);
        assert_eq!(text(buffer.after(at(1, 0), false)), "a");
        assert_eq!(buffer.after(at(1, 1), false), Found::Nothing);
        assert_eq!(buffer.after(at(1, 1), true), Found::Output(Bytes::from_static(b"\xe2\x82")));
        buffer.add(at(1, 3), b"\xac", LIMIT);
        assert_eq!(text(buffer.after(at(1, 1), false)), "€");
        for (bytes, rest) in [
            (&b""[..], 0),
            (b"a", 0),
            (b"\xff", 0),
            (b"\x80\x80\x80", 0),
            (b"\xc3", 1),
            (b"\xf0\x9f\xa6", 3),
            ("🦀".as_bytes(), 0),
        ] {
            assert_eq!(incomplete(bytes), rest, "{bytes:?}");
        }
    }
}
