//! The output of an attempt while it runs: its end is kept, and the session takes what the server asked for.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Maximum bytes of output that are kept with the attempt.
pub(crate) const TAIL_BYTES: usize = 64 << 10;

/// The end of the output of an attempt, and how much came before it.
#[derive(Debug, Default)]
pub(crate) struct Output(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Bytes of output before those that are kept.
    cut: u64,
    is_watched: bool,
    /// Whether the session was told of new output, and has not taken all of it.
    is_told: bool,
}

impl Kept {
    fn written(&self) -> u64 {
        self.cut + self.bytes.len() as u64
    }

    /// The number of bytes at this index that are the rest of a character that was cut, if what follows is text.
    fn rest_of_character(&self, at: usize) -> usize {
        let bytes = &self.bytes[at..];
        let rest = bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
        if std::str::from_utf8(&bytes[rest..]).is_ok() { rest } else { 0 }
    }
}

/// A piece of output, and the number of bytes before it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
    /// Whether there is more to take.
    pub(crate) has_more: bool,
}

impl Output {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // No code under this lock can panic halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds output. Returns whether the session must be told of it.
    pub(crate) fn add(&self, more: &[u8]) -> bool {
        if more.is_empty() {
            return false;
        }
        let mut kept = self.kept();
        kept.bytes.extend_from_slice(more);
        if kept.bytes.len() > TAIL_BYTES {
            let cut = kept.bytes.len() - TAIL_BYTES;
            kept.bytes.drain(..cut);
            kept.cut += cut as u64;
        }
        let must_tell = kept.is_watched && !kept.is_told;
        kept.is_told |= kept.is_watched;
        must_tell
    }

    /// Begins to tell the session of new output, or ends it.
    pub(crate) fn watch(&self, on: bool) {
        let mut kept = self.kept();
        kept.is_watched = on;
        // The session takes what there is.
        kept.is_told = on;
    }

    /// The output after so many bytes, or what is kept of it. At most `most` bytes.
    pub(crate) fn take(&self, after: u64, most: usize) -> Piece {
        let mut kept = self.kept();
        let passed = after.saturating_sub(kept.cut);
        let mut begin = usize::try_from(passed).unwrap_or(usize::MAX).min(kept.bytes.len());
        if after < kept.cut {
            begin = kept.rest_of_character(0);
        }
        let end = kept.bytes.len().min(begin.saturating_add(most));
        let has_more = end < kept.bytes.len();
        kept.is_told = kept.is_watched && has_more;
        Piece {
            offset: kept.cut + begin as u64,
            bytes: Bytes::copy_from_slice(&kept.bytes[begin..end]),
            has_more,
        }
    }

    /// Number of bytes that were written.
    pub(crate) fn written(&self) -> u64 {
        self.kept().written()
    }

    /// The end of the output, without a character that was cut in the middle, so that text stays valid.
    pub(crate) fn tail(&self) -> Bytes {
        let kept = self.kept();
        let begin = if kept.cut > 0 { kept.rest_of_character(0) } else { 0 };
        Bytes::copy_from_slice(&kept.bytes[begin..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, text: &'static str, has_more: bool) -> Piece {
        Piece { offset, bytes: Bytes::from_static(text.as_bytes()), has_more }
    }

    #[test]
    fn the_end_of_a_text_is_a_text() {
        let output = Output::default();
        output.add("ü".repeat(TAIL_BYTES).as_bytes());
        output.add(b"x");
        let tail = output.tail();
        assert!(std::str::from_utf8(&tail).is_ok_and(|text| text.ends_with("üx")));
        assert_eq!((tail.len(), output.written()), (TAIL_BYTES - 1, 2 * TAIL_BYTES as u64 + 1));
        let output = Output::default();
        output.add(&[0x80; TAIL_BYTES + 1]);
        assert_eq!(output.tail(), [0x80; TAIL_BYTES][..], "bytes are kept as they are");
    }

    #[test]
    fn the_session_is_told_once_until_it_has_taken_all() {
        let output = Output::default();
        assert!(!output.add(b"before"), "nobody listens");
        output.watch(true);
        assert!(!output.add(b"!"), "it takes what there is");
        assert_eq!(output.take(0, 100), piece(0, "before!", false));
        assert!(output.add(b"one ") && !output.add(b"two"));
        assert_eq!(output.take(7, 4), piece(7, "one ", true));
        assert!(!output.add(b"."), "it has not taken all");
        assert_eq!(output.take(11, 100), piece(11, "two.", false));
        assert_eq!(output.take(15, 100), piece(15, "", false));
        output.watch(false);
        assert!(!output.add(b"after"));
    }

    #[test]
    fn a_session_that_is_slow_gets_the_newest_output() {
        let output = Output::default();
        output.watch(true);
        output.add(b"first");
        output.add(&[b'x'; TAIL_BYTES]);
        let piece = output.take(2, usize::MAX);
        assert_eq!((piece.offset, piece.bytes.len()), (5, TAIL_BYTES));
    }
}
