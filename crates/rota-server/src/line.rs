//! A connection's bytes, and its last words: what is wrong with a request before there is one (its
//! head came too slowly, is too large or is none) is said as a problem document too. The server of
//! HTTP says of that a number alone, or nothing.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    failure::{Failure, Reason},
    net::BoxedStream,
    rest::whole_answer,
};

/// Whether a connection ends because a head took too long; said by whoever sees it end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Late(Arc<AtomicBool>);

impl Late {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How a line of a head ends decides where a proxy and this server see its end. Only CR LF is taken,
/// though HTTP lets a server take less.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head {
    after_cr: bool,
    /// Bytes of the line so far.
    line: usize,
    /// A line came that is not empty. Empty ones before it are no end.
    begun: bool,
}

/// What bytes of a head come to.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    More,
    End,
    /// A line ends with LF alone.
    BareLf,
}

impl Head {
    fn see(&mut self, bytes: &[u8]) -> Seen {
        for byte in bytes {
            match byte {
                b'\n' if !self.after_cr => return Seen::BareLf,
                b'\n' if self.line == 0 && self.begun => return Seen::End,
                b'\n' => self.line = 0,
                b'\r' => {}
                _ => {
                    self.line += 1;
                    self.begun = true;
                }
            }
            self.after_cr = *byte == b'\r';
        }
        Seen::More
    }
}

/// Bytes that no head has: whoever reads them answers 400.
const NO_HEAD: &[u8] = b"\0\r\n\r\n";

/// A connection that speaks HTTP.
pub(crate) struct Line {
    /// Bytes that were read to tell the protocol, and are still to be given out.
    first: Vec<u8>,
    /// How many of them were given out.
    given: usize,
    /// What came of the connection's first head, while it has not ended.
    head: Option<Head>,
    stream: BoxedStream,
    /// It speaks HTTP/1: only there can words be put in between.
    plain: bool,
    /// Something came since the last answer.
    begun: bool,
    late: Late,
    /// The time that a head has.
    head_within: Duration,
}

impl Line {
    pub(crate) fn new(
        first: Vec<u8>,
        stream: BoxedStream,
        plain: bool,
        late: Late,
        head_within: Duration,
    ) -> Self {
        let head = plain.then(Head::default);
        Self { first, given: 0, head, stream, plain, begun: false, late, head_within }
    }

    /// Writes the words instead of an answer that has none.
    fn instead(&mut self, cx: &mut Context<'_>, answer: &[u8]) -> Option<Poll<io::Result<usize>>> {
        let words = whole_answer(wordless(answer).filter(|_| self.plain)?);
        // It is the last that is written here, and less than any buffer holds.
        let written = Pin::new(&mut self.stream).poll_write(cx, &words);
        Some(written.map(|written| written.map(|_| answer.len())))
    }
}

/// What an answer without words means, if it is one: the service behind always has words for these.
fn wordless(answer: &[u8]) -> Option<Failure> {
    let has = |what: &[u8]| answer.windows(what.len()).any(|part| part == what);
    let status = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    let (reason, detail) = match status {
        b"400" => (Reason::Invalid, "this is not a request of HTTP"),
        b"414" => (Reason::UriTooLong, "the address of the request is too long"),
        b"431" => (Reason::HeadTooLarge, "the head of the request is too large"),
        _ => return None,
    };
    (has(b"content-length: 0\r\n") && !has(b"content-type")).then(|| Failure::new(reason, detail))
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.plain && self.begun && self.late.0.load(Ordering::Relaxed) {
            // A connection that fails now is gone all the same.
            let words = whole_answer(Failure::header_timeout(self.head_within));
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut self.stream).poll_write(&mut cx, &words);
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let line = &mut *self;
        let before = buf.filled().len();
        if let Some(rest) = line.first.get(line.given..).filter(|rest| !rest.is_empty()) {
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            line.given += count;
        } else {
            ready!(Pin::new(&mut line.stream).poll_read(cx, buf))?;
        }
        line.begun |= buf.filled().len() > before;
        let seen = line.head.as_mut().map(|head| head.see(&buf.filled()[before..]));
        match seen {
            Some(Seen::BareLf) => {
                buf.set_filled(before);
                buf.put_slice(&NO_HEAD[..NO_HEAD.len().min(buf.remaining())]);
                line.head = None;
            }
            Some(Seen::End) => line.head = None,
            Some(Seen::More) | None => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begun = false;
        match self.instead(cx, buf) {
            Some(written) => written,
            None => Pin::new(&mut self.stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begun = false;
        let instead = if let [buf] = bufs { self.instead(cx, buf) } else { None };
        match instead {
            Some(written) => written,
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_head_end_with_both_characters() {
        let seen = |parts: &[&str]| {
            let mut head = Head::default();
            let mut seen = parts.iter().map(|part| head.see(part.as_bytes()));
            seen.find(|seen| *seen != Seen::More).unwrap_or(Seen::More)
        };
        assert_eq!(seen(&["GET / HTTP/1.1\r\nhost: a\r\n\r\n{\n}"]), Seen::End);
        assert_eq!(seen(&["GET / HTTP/1.1\r", "\nhost: a\r\n", "\r", "\n"]), Seen::End);
        assert_eq!(seen(&["GET / HTTP/1.1\r\nhost: a\r\n"]), Seen::More);
        assert_eq!(seen(&["\r\nGET / HTTP/1.1\n"]), Seen::BareLf);
        assert_eq!(seen(&["GET / HTTP/1.1\nhost: a\n\n"]), Seen::BareLf);
        assert_eq!(seen(&["GET / HTTP/1.1\r\nhost: a", "\n\r\n"]), Seen::BareLf);
        assert_eq!(seen(&["GET / HTTP/1.1\r\nhost: a\r\n\n"]), Seen::BareLf);
    }

    #[test]
    fn only_answers_without_words_are_given_some() {
        let bare = |status| format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        let reason = |answer: &str| wordless(answer.as_bytes()).map(|failure| failure.reason);
        assert_eq!(reason(&bare(431)), Some(Reason::HeadTooLarge));
        assert_eq!(reason(&bare(414)), Some(Reason::UriTooLong));
        assert_eq!(reason(&bare(400)), Some(Reason::Invalid));
        assert_eq!(reason(&bare(404)), None);
        assert_eq!(
            reason("HTTP/1.1 400 X\r\ncontent-type: a/b\r\ncontent-length: 9\r\n\r\n"),
            None
        );
        assert_eq!(reason("HTTP"), None);
    }
}
