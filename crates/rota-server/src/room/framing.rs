//! Tracks where gRPC messages begin and end in the bytes of a body. A flag and the length precede each
//! message.

/// Bytes of the prefix of a message.
const HEADER: usize = 5;

/// The declared length of the first message of a body, including its prefix.
pub(super) fn announced(first: &[u8]) -> usize {
    match first {
        [_, a, b, c, d, ..] => HEADER + u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        _ => 0,
    }
}

/// The position in a body.
#[derive(Debug, Default)]
pub(super) struct Framing {
    header: [u8; HEADER],
    /// Number of bytes of it so far.
    have: usize,
    /// The length of the current message, and the bytes still to come.
    message: Option<(usize, usize)>,
    /// Whether a message has ended since the last call of `ended`.
    ended: bool,
}

impl Framing {
    /// Processes the next bytes. Returns the lengths of messages that begin in them.
    pub(super) fn see(&mut self, mut bytes: &[u8]) -> usize {
        let mut announced = 0;
        while !bytes.is_empty() {
            match &mut self.message {
                Some((_, left)) => {
                    let count = bytes.len().min(*left);
                    *left -= count;
                    bytes = &bytes[count..];
                    if *left == 0 {
                        self.message = None;
                        self.ended = true;
                    }
                }
                None => {
                    let count = bytes.len().min(HEADER - self.have);
                    self.header[self.have..self.have + count].copy_from_slice(&bytes[..count]);
                    self.have += count;
                    bytes = &bytes[count..];
                    if self.have == HEADER {
                        self.have = 0;
                        let [_, a, b, c, d] = self.header;
                        let length = u32::from_be_bytes([a, b, c, d]) as usize;
                        announced += length;
                        self.message = (length > 0).then_some((length, length));
                    }
                }
            }
        }
        announced
    }

    /// The length of the current message; 0 between messages.
    pub(super) fn under_way(&self) -> usize {
        self.message.map_or(0, |(length, _)| length)
    }

    /// Bytes of the current message so far.
    pub(super) fn arrived(&self) -> usize {
        self.message.map_or(0, |(length, left)| length - left)
    }

    /// Whether a message has ended since the last call.
    pub(super) fn take_ended(&mut self) -> bool {
        std::mem::take(&mut self.ended)
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_amidst(&self) -> bool {
        self.have > 0 || self.message.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let bytes = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[0, 0, 0, 1, 0], &[7; 256]];
        let bytes = bytes.concat();
        for size in 1..=bytes.len() {
            let mut framing = Framing::default();
            let mut announced = 0;
            for part in bytes.chunks(size) {
                announced += framing.see(part);
            }
            assert_eq!((announced, framing.is_amidst()), (259, false), "{size}");
        }
        let mut framing = Framing::default();
        framing.see(&bytes[..6]);
        assert_eq!((framing.under_way(), framing.is_amidst()), (3, true));
    }
}
