//! The output of a program: its beginning is the result, its end is kept with the attempt.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Maximum bytes of output that are kept with the attempt.
const TAIL_BYTES: usize = 64 << 10;
/// Maximum bytes of standard output in the result. As JSON they can become six times as many, and the result
/// must stay below the default limit of servers (1 MiB).
const STDOUT_BYTES: usize = 160 << 10;

/// The end of an output.
#[derive(Default)]
pub(super) struct OutputTail {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl OutputTail {
    fn add(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        if self.bytes.len() > TAIL_BYTES {
            self.bytes.drain(..self.bytes.len() - TAIL_BYTES);
            self.is_cut = true;
        }
    }

    /// The bytes, without a character that was cut in the middle, so that text stays valid.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        if self.is_cut {
            let rest = self.bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
            if std::str::from_utf8(&self.bytes[rest..]).is_ok() {
                self.bytes.drain(..rest);
            }
        }
        self.bytes
    }
}

/// The beginning of an output.
#[derive(Default)]
pub(super) struct OutputHead {
    pub(super) bytes: Vec<u8>,
    pub(super) truncated: bool,
}

impl OutputHead {
    fn add(&mut self, more: &[u8]) {
        let room = STDOUT_BYTES - self.bytes.len();
        self.bytes.extend_from_slice(&more[..more.len().min(room)]);
        self.truncated |= more.len() > room;
    }
}

/// Reads an output to its end.
pub(super) async fn copy(
    output: Option<impl AsyncRead + Unpin>,
    tail: &tokio::sync::Mutex<OutputTail>,
    mut head: Option<&mut OutputHead>,
) {
    let Some(mut output) = output else { return };
    let mut buffer = vec![0; 16 << 10];
    // A broken pipe ends the output. The exit code tells the rest.
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        tail.lock().await.add(&buffer[..count]);
        if let Some(head) = head.as_deref_mut() {
            head.add(&buffer[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_text_is_a_text() {
        let mut tail = OutputTail::default();
        tail.add("ü".repeat(TAIL_BYTES).as_bytes());
        tail.add(b"x");
        let bytes = tail.into_bytes();
        assert!(std::str::from_utf8(&bytes).is_ok_and(|text| text.ends_with("üx")));
        assert_eq!(bytes.len(), TAIL_BYTES - 1);
        let mut tail = OutputTail::default();
        tail.add(&[0x80; TAIL_BYTES + 1]);
        assert_eq!(tail.into_bytes(), [0x80; TAIL_BYTES], "bytes are kept as they are");
    }
}
