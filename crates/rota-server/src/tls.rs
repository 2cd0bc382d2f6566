//! TLS on the node's port: handshakes, answers to clients that do not speak TLS, and reading the files anew when they
//! change. `rota-tls` knows certificates; this module knows connections, the log and metrics.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rota_metrics::{Handshake, NodeMetrics};
use rota_tls::{AcceptError, ClientFiles, Connector, FileError, ServerTls};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::OnceCell,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    failure::{Failure, Reason},
    net::{BoxedStream, Connect, Pending},
    rest,
};

/// Interval of looking at the files.
const LOOK: Duration = Duration::from_secs(2);
/// Interval of repeating that changed files cannot be used.
const SAID_AGAIN: Duration = Duration::from_secs(300);
/// Minimum time between two warnings of the same kind. Anyone who reaches the port can cause them.
const SELDOM: Duration = Duration::from_secs(10);
/// Time for a client to read why it is refused.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The first byte of a TLS connection: a record of the handshake.
pub(crate) const TLS_HELLO: u8 = 0x16;
/// Words for clients that do not speak TLS.
const USE_HTTPS: &str = "this port speaks TLS; use https:// instead of http://";

/// Limits how often something is logged.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether it is time to log again.
    pub(crate) fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|at| at.elapsed() >= SELDOM);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// TLS of a server.
pub(crate) struct Tls {
    accepts: Arc<ServerTls>,
    metrics: NodeMetrics,
    plain: Seldom,
    failed: Seldom,
}

impl Tls {
    pub(crate) fn new(accepts: Arc<ServerTls>, metrics: NodeMetrics) -> Self {
        metrics.tls().start(accepts.expires());
        Self { accepts, metrics, plain: Seldom::default(), failed: Seldom::default() }
    }

    /// Makes the handshake within a timeout. `None` if the connection is over.
    pub(crate) async fn accept(
        &self,
        stream: BoxedStream,
        peer: SocketAddr,
        within: Duration,
    ) -> Option<BoxedStream> {
        let accepted = timeout(within, self.accepts.accept(stream)).await;
        let (end, stream) = match accepted {
            Ok(Ok(stream)) => (Handshake::Done, Some(Box::new(stream) as BoxedStream)),
            Ok(Err(AcceptError::Plain { http2, stream })) => {
                if self.plain.is_due() {
                    warn!(%peer, "a client does not speak TLS on this port; it must use https://");
                }
                // The connection ends anyway, so an error does not matter.
                let _ = timeout(LAST_WORDS, say_https(stream, http2)).await;
                (Handshake::Plain, None)
            }
            Ok(Err(AcceptError::Handshake(error))) => {
                self.note_failed(peer, &error);
                (Handshake::Failed, None)
            }
            Err(_) => {
                debug!(%peer, ?within, "TLS handshake not complete in time");
                (Handshake::Late, None)
            }
        };
        self.metrics.tls().handshake(end);
        stream
    }

    fn note_failed(&self, peer: SocketAddr, error: &std::io::Error) {
        // A connection that is opened and closed again is a probe of the port.
        let is_probe = error.get_ref().is_none();
        if !is_probe && self.failed.is_due() {
            warn!(%peer, %error, "TLS handshake failed");
        } else {
            debug!(%peer, %error, "TLS handshake failed");
        }
    }

    /// Reads changed files anew, until it is stopped.
    pub(crate) async fn watch(&self, stop: CancellationToken) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Option<(FileError, Instant)> = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = look.tick() => self.reload(&mut told).await,
            }
        }
    }

    /// `told` is the last failure in the log, and its time.
    async fn reload(&self, told: &mut Option<(FileError, Instant)>) {
        let accepts = self.accepts.clone();
        let Ok(reloaded) = tokio::task::spawn_blocking(move || accepts.reload()).await else {
            return;
        };
        match reloaded {
            Ok(changed) => {
                *told = None;
                if changed {
                    let expires = self.accepts.expires();
                    self.metrics.tls().reloaded(Some(expires));
                    info!(expires = %shown(expires), "serving with the changed certificate files");
                }
            }
            Err(why) => {
                let news = told.as_ref().is_none_or(|(before, _)| *before != why);
                if news {
                    self.metrics.tls().reloaded(None);
                }
                if news || told.as_ref().is_some_and(|(_, at)| at.elapsed() >= SAID_AGAIN) {
                    let expires = self.accepts.expires();
                    error!(%why, expires = %shown(expires), "cannot use the changed certificate files; keeping the old ones");
                    *told = Some((why, Instant::now()));
                }
            }
        }
    }
}

fn shown(time: std::time::SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "never".to_owned(), |time| time.to_string())
}

/// Tells a client that does not speak TLS that it should.
async fn say_https(mut stream: BoxedStream, http2: bool) -> std::io::Result<()> {
    let words = if http2 { go_away() } else { bad_request(USE_HTTPS) };
    last_words(&mut stream, &words).await
}

/// Tells a client that speaks TLS to a port without it, within a timeout.
pub(crate) async fn say_http(mut stream: BoxedStream) {
    let words = bad_request("this port does not speak TLS; use http:// instead of https://");
    // The connection ends anyway, so an error does not matter.
    let _ = timeout(LAST_WORDS, last_words(&mut stream, &words)).await;
}

fn bad_request(detail: &str) -> Vec<u8> {
    rest::whole_answer(Failure::new(Reason::Invalid, detail.to_owned()))
}

/// Writes, and reads until the peer closes: closing with unread bytes would reset the connection, and the peer could
/// lose the words.
async fn last_words(stream: &mut BoxedStream, words: &[u8]) -> std::io::Result<()> {
    stream.write_all(words).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(u64::MAX), &mut tokio::io::sink()).await?;
    Ok(())
}

/// The end of an HTTP/2 connection, which clients of gRPC show: empty settings, and GOAWAY with the error
/// `INADEQUATE_SECURITY`, no stream processed, and words for people (RFC 9113, sections 6.5 and 6.8).
fn go_away() -> Vec<u8> {
    const INADEQUATE_SECURITY: u32 = 0xc;
    let mut frames = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    let length = u32::try_from(8 + USE_HTTPS.len()).unwrap_or(8).to_be_bytes();
    frames.extend(&length[1..]);
    frames.extend([7, 0, 0, 0, 0, 0]);
    frames.extend(0_u32.to_be_bytes());
    frames.extend(INADEQUATE_SECURITY.to_be_bytes());
    frames.extend(USE_HTTPS.as_bytes());
    frames
}

/// Connects to nodes whose addresses begin with `https://` by TLS, and to others without.
#[derive(Debug)]
pub(crate) struct TlsConnect {
    inner: Arc<dyn Connect>,
    files: ClientFiles,
    /// Made when the first address needs it: without files, it reads the authorities of the system.
    connector: OnceCell<Connector>,
}

impl TlsConnect {
    pub(crate) fn new(inner: Arc<dyn Connect>, files: ClientFiles) -> Self {
        Self { inner, files, connector: OnceCell::new() }
    }

    /// Checks the files, if there are some.
    pub(crate) fn check(files: &ClientFiles) -> Result<(), FileError> {
        if *files == ClientFiles::default() {
            return Ok(());
        }
        Connector::open(files.clone()).map(drop)
    }
}

impl Connect for TlsConnect {
    fn connect(&self, address: &http::Uri) -> Pending<'_, BoxedStream> {
        let connecting = self.inner.connect(address);
        if address.scheme() != Some(&http::uri::Scheme::HTTPS) {
            return connecting;
        }
        let host = address.host().unwrap_or_default().to_owned();
        Box::pin(async move {
            let open = || async {
                let files = self.files.clone();
                let opened = tokio::task::spawn_blocking(move || Connector::open(files)).await;
                opened.map_err(std::io::Error::other)?.map_err(std::io::Error::other)
            };
            let connector = self.connector.get_or_try_init(open).await?;
            let stream = connector.connect(&host, connecting.await?).await?;
            Ok(Box::new(stream) as BoxedStream)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn warnings_that_anyone_can_cause_are_seldom() {
        let seldom = Seldom::default();
        assert!(seldom.is_due() && !seldom.is_due());
        tokio::time::advance(SELDOM).await;
        assert!(seldom.is_due() && !seldom.is_due());
    }
}
