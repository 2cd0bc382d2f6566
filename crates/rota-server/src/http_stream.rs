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

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::{
    failure::{Failure, Reason},
    net::BoxedStream,
    request_scanner::RequestScanner,
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

/// Bytes that no head has: whoever reads them answers 400.
const NO_HEAD: &[u8] = b"\0\r\n\r\n";

/// How long a connection may stand still.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// The time that a head has.
    pub(crate) head: Duration,
    /// The longest time in which the peer takes no byte of what is written.
    pub(crate) write: Duration,
}

/// A connection that speaks HTTP.
pub(crate) struct HttpStream {
    /// Bytes that were read to tell the protocol, and are still to be given out.
    first: Vec<u8>,
    /// How many of them were given out.
    given: usize,
    /// Finds where its requests begin and end, until one is refused.
    scanner: Option<RequestScanner>,
    stream: BoxedStream,
    /// It speaks HTTP/1: only there can words be put in between.
    plain: bool,
    /// Something came since the last answer.
    begun: bool,
    late: Late,
    times: Times,
    /// The peer takes nothing: when it has not for too long.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl HttpStream {
    pub(crate) fn new(
        first: Vec<u8>,
        stream: BoxedStream,
        plain: bool,
        late: Late,
        times: Times,
    ) -> Self {
        let scanner = plain.then(RequestScanner::default);
        Self { first, given: 0, scanner, stream, plain, begun: false, late, times, stuck: None }
    }

    /// What was written, or that the peer has taken nothing for too long: its place is for others.
    fn unless_stuck(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let within = self.times.write;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(within)));
        ready!(stuck.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
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

impl Drop for HttpStream {
    fn drop(&mut self) {
        if self.plain && self.begun && self.late.0.load(Ordering::Relaxed) {
            // A connection that fails now is gone all the same.
            let words = whole_answer(Failure::header_timeout(self.times.head));
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut self.stream).poll_write(&mut cx, &words);
        }
    }
}

impl AsyncRead for HttpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if let Some(rest) = this.first.get(this.given..).filter(|rest| !rest.is_empty()) {
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            this.given += count;
        } else {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        }
        this.begun |= buf.filled().len() > before;
        let scanner = this.scanner.as_mut();
        if let Some(at) = scanner.and_then(|scanner| scanner.see(&buf.filled()[before..])) {
            // The requests before it are answered.
            buf.set_filled(before + at);
            buf.put_slice(&NO_HEAD[..NO_HEAD.len().min(buf.remaining())]);
            this.scanner = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begun = false;
        let written = match self.instead(cx, buf) {
            Some(written) => written,
            None => Pin::new(&mut self.stream).poll_write(cx, buf),
        };
        self.unless_stuck(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begun = false;
        let instead = if let [buf] = bufs { self.instead(cx, buf) } else { None };
        let written = match instead {
            Some(written) => written,
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        };
        self.unless_stuck(cx, written)
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
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::{Instant, advance},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_peer_takes_nothing_ends() {
        let (ours, mut theirs) = duplex(1024);
        let times = Times { head: Duration::from_secs(10), write: Duration::from_secs(30) };
        let mut stream = HttpStream::new(Vec::new(), Box::new(ours), true, Late::default(), times);
        let began = Instant::now();
        stream.write_all(&[1; 1024]).await.unwrap();
        // A slow one is served.
        for _ in 0..4 {
            let read = async {
                advance(Duration::from_secs(25)).await;
                theirs.read_exact(&mut [0; 256]).await.unwrap();
            };
            let (written, ()) = tokio::join!(stream.write_all(&[2; 256]), read);
            written.unwrap();
        }
        assert_eq!(began.elapsed(), Duration::from_secs(100));
        let error = stream.write_all(&[3; 1]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 130));
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
