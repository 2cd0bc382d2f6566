//! Tracks where requests begin and end in the bytes of an HTTP/1 connection, so that headers are checked and
//! bodies are not.
//!
//! It does not validate: the HTTP server refuses invalid requests and closes the connection. It must find the
//! same lengths as that server in every request that the server accepts.

/// Position in the bytes of a connection.
#[derive(Debug)]
pub(crate) struct RequestScanner(ScanState);

#[derive(Debug)]
enum ScanState {
    Head(HeadScan),
    /// In a body, with this many bytes to come.
    Body(u64),
    /// In the line with the length of the next chunk.
    ChunkSize(ChunkSizeScan),
    /// In a chunk, with this many bytes to come, including its line end.
    Chunk(u64),
    /// After the last chunk.
    Trailers(Lines),
}

/// The state of header lines. Only CR LF ends a line, although HTTP allows a server to accept a bare LF,
/// because a proxy and this server must agree on the end of the headers.
#[derive(Debug, Default)]
struct Lines {
    after_cr: bool,
    /// Number of bytes of the line so far.
    line: usize,
}

/// The effect of a byte on the lines.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Within,
    Ends,
    /// An empty line ended.
    EndsEmpty,
    /// The line ended with a bare LF.
    BareLf,
}

impl Lines {
    fn step(&mut self, byte: u8) -> Step {
        let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
        match byte {
            b'\n' if !after_cr => Step::BareLf,
            b'\n' if self.line == 0 => Step::EndsEmpty,
            b'\n' => {
                self.line = 0;
                Step::Ends
            }
            b'\r' => Step::Within,
            _ => {
                self.line += 1;
                Step::Within
            }
        }
    }
}

/// The headers that determine the length of a body.
const LENGTH: &[u8] = b"content-length";
const ENCODING: &[u8] = b"transfer-encoding";

#[derive(Debug, Default)]
struct HeadScan {
    lines: Lines,
    /// Number of lines so far. Empty lines before the first do not count.
    ended: usize,
    /// The name of the header in this line so far, in lower case.
    name: Vec<u8>,
    named: bool,
    /// The length from the headers.
    length: u64,
    chunked: bool,
}

impl HeadScan {
    fn step(&mut self, byte: u8) -> Step {
        let step = self.lines.step(byte);
        match step {
            Step::Within => self.read(byte),
            Step::Ends => {
                self.ended += 1;
                self.name.clear();
                self.named = false;
            }
            Step::EndsEmpty | Step::BareLf => {}
        }
        step
    }

    fn read(&mut self, byte: u8) {
        if self.ended == 0 {
            return;
        }
        if !self.named {
            self.named = byte == b':';
            if self.named {
                self.chunked |= self.name == ENCODING;
                // The last one counts; the HTTP server refuses differing ones.
                self.length = if self.name == LENGTH { 0 } else { self.length };
            } else if self.name.len() <= ENCODING.len() {
                self.name.push(byte.to_ascii_lowercase());
            }
        } else if self.name == LENGTH && byte.is_ascii_digit() {
            self.length = self.length.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
        }
    }
}

#[derive(Debug, Default)]
struct ChunkSizeScan {
    bytes: u64,
    /// The rest is not part of the number.
    named: bool,
    lines: Lines,
}

impl Default for RequestScanner {
    fn default() -> Self {
        Self(ScanState::Head(HeadScan::default()))
    }
}

impl RequestScanner {
    /// Processes the next bytes. Returns the position of a header line that ends with a bare LF, if any.
    pub(crate) fn see(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match &mut self.0 {
                ScanState::Body(left) | ScanState::Chunk(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    *left -= count as u64;
                    at += count;
                    if *left == 0 {
                        let chunked = matches!(self.0, ScanState::Chunk(_));
                        self.0 = if chunked {
                            ScanState::ChunkSize(ChunkSizeScan::default())
                        } else {
                            Self::default().0
                        };
                    }
                    continue;
                }
                ScanState::Head(head) => match head.step(byte) {
                    Step::BareLf => return Some(at),
                    Step::EndsEmpty if head.ended > 0 => self.0 = Self::behind(head),
                    Step::EndsEmpty | Step::Ends | Step::Within => {}
                },
                ScanState::ChunkSize(size) => match size.lines.step(byte) {
                    Step::BareLf => return Some(at),
                    Step::Within => size.read(byte),
                    Step::Ends | Step::EndsEmpty => {
                        self.0 = match size.bytes {
                            0 => ScanState::Trailers(Lines::default()),
                            bytes => ScanState::Chunk(bytes.saturating_add(2)),
                        };
                    }
                },
                ScanState::Trailers(lines) => match lines.step(byte) {
                    Step::BareLf => return Some(at),
                    Step::EndsEmpty => self.0 = Self::default().0,
                    Step::Ends | Step::Within => {}
                },
            }
            at += 1;
        }
        None
    }

    /// The part of the request after the headers.
    fn behind(head: &HeadScan) -> ScanState {
        match head.length {
            _ if head.chunked => ScanState::ChunkSize(ChunkSizeScan::default()),
            0 => Self::default().0,
            length => ScanState::Body(length),
        }
    }
}

impl ChunkSizeScan {
    fn read(&mut self, byte: u8) {
        match char::from(byte).to_digit(16) {
            Some(digit) if !self.named => {
                self.bytes = self.bytes.saturating_mul(16).saturating_add(u64::from(digit));
            }
            _ => self.named = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the first line of a head is that ends with LF alone, however the bytes are cut.
    fn bare_lf(text: &str) -> Option<usize> {
        let whole = RequestScanner::default().see(text.as_bytes());
        for size in 1..text.len() {
            let mut scanner = RequestScanner::default();
            let mut parts = text.as_bytes().chunks(size).enumerate();
            let found = parts.find_map(|(at, part)| Some(at * size + scanner.see(part)?));
            assert_eq!(found, whole, "{text:?} in parts of {size}");
        }
        whole
    }

    const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    #[test]
    fn the_lines_of_a_head_end_with_both_characters() {
        assert_eq!(bare_lf(GET), None);
        for (text, at) in [
            ("\r\nGET / HTTP/1.1\n", 16),
            ("GET / HTTP/1.1\nhost: a\n\n", 14),
            ("GET / HTTP/1.1\r\nhost: a\n\r\n", 23),
            ("GET / HTTP/1.1\r\nhost: a\r\n\n", 25),
        ] {
            assert_eq!(bare_lf(text), Some(at), "{text:?}");
        }
    }

    #[test]
    fn later_heads_are_found_behind_bodies_of_every_sort() {
        let bodies = [
            "content-length: 3\r\n\r\n{\n}",
            "Content-LENGTH:   3  \r\nx: y\r\n\r\n\n\n\n",
            "content-length: 3\r\ncontent-length: 3\r\n\r\n\n\n\n",
            "content-length: 0\r\n\r\n",
            "content-lengths: 3\r\nx-content-length: 3\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n3\r\n{\n}\r\n0\r\n\r\n",
            "content-length: 7\r\ntransfer-encoding: gzip, chunked\r\n\r\n2;a=3\r\n\n\n\r\n1\r\n\n\r\n00\r\nx: y\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\nA\r\n\n\n\n\n\n\n\n\n\n\n\r\n0\r\n\r\n",
        ];
        for body in bodies {
            let request = format!("POST / HTTP/1.1\r\n{body}");
            let text = format!("{request}{request}\r\n{GET}{request}");
            assert_eq!(bare_lf(&text), None, "{body:?}");
            assert_eq!(bare_lf(&format!("{text}GET /\n")), Some(text.len() + 5), "{body:?}");
        }
        let trailer = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\n\r\n";
        assert_eq!(bare_lf(trailer), Some(trailer.len() - 3));
    }
}
