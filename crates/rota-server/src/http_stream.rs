//! The byte stream of a connection. It answers with a problem document when request headers are too slow, too
//! large or invalid, for which the HTTP server would send a bare status or nothing.

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

/// Whether a connection ends because headers took too long.
#[derive(Debug, Clone, Default)]
pub(crate) struct Late(Arc<AtomicBool>);

impl Late {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bytes that are not a valid request, so that the HTTP server answers 400.
const NO_HEAD: &[u8] = b"\0\r\n\r\n";

/// Timeouts of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Time for the headers of a request to arrive.
    pub(crate) head: Duration,
    /// Maximum time in which the peer reads nothing of what was written.
    pub(crate) write: Duration,
}

/// An HTTP connection.
pub(crate) struct HttpStream {
    /// Bytes that were read to detect the protocol, and are still to be passed on.
    first: Vec<u8>,
    /// Number of these bytes that were passed on.
    given: usize,
    /// Finds where its requests begin and end, until one is refused.
    scanner: Option<RequestScanner>,
    stream: BoxedStream,
    /// Whether it speaks HTTP/1. Only there can an answer be inserted.
    plain: bool,
    /// Whether bytes arrived since the last answer.
    begun: bool,
    late: Late,
    times: Times,
    /// The timeout of a peer that reads nothing.
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

    /// The result of a write, or a timeout if the peer has read nothing for too long.
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

    /// Writes a problem document in place of an answer without a body.
    fn instead(&mut self, cx: &mut Context<'_>, answer: &[u8]) -> Option<Poll<io::Result<usize>>> {
        let words = whole_answer(wordless(answer).filter(|_| self.plain)?);
        // It is the last write of the connection, and fits every send buffer.
        let written = Pin::new(&mut self.stream).poll_write(cx, &words);
        Some(written.map(|written| written.map(|_| answer.len())))
    }
}

/// The failure of an answer of the HTTP server without a body. Answers of the service always have a body.
fn wordless(answer: &[u8]) -> Option<Failure> {
    let has = |what: &[u8]| answer.windows(what.len()).any(|part| part == what);
    let status = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    let (reason, detail) = match status {
        b"400" => (Reason::Invalid, "the request is not valid HTTP"),
        b"414" => (Reason::UriTooLong, "the URL of the request is too long"),
        b"431" => (Reason::HeadTooLarge, "the headers of the request are too large"),
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
            // Earlier requests have been answered.
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
