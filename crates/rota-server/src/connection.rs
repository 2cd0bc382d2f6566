//! Connections: their maximum number, their timeouts, and the answer to connections beyond the limit.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    failure::Failure,
    http_stream::{HttpStream, Late, Times},
    limits::Limits,
    net::{BoxedStream, Listen},
    rest,
    tls::{self, Seldom, Tls},
};

/// Pause after a failed accept, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Maximum number of refused connections that get an answer at the same time. Further ones are just closed.
const TURNED_AWAY: usize = 64;
/// Time for a refused connection to read the answer.
const TURNED_AWAY_FOR: Duration = Duration::from_secs(1);
/// Silence after which an HTTP/2 connection is pinged. It is closed after the same time without an answer.
const PING: Duration = Duration::from_secs(20);
/// Bytes that an HTTP/1 connection reads ahead, and maximum size of request headers.
const BUFFER_BYTES: usize = 128 << 10;
/// Window of an HTTP/2 stream. A body that waits for memory waits in this window.
const STREAM_WINDOW: u32 = 64 << 10;
/// Bytes of answers that each HTTP/2 stream buffers for a client that does not read.
const SEND_BYTES: usize = 64 << 10;
/// Window of an HTTP/2 connection: the maximum of the protocol.
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// The first bytes of an HTTP/2 connection.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// All connections of a server.
pub(crate) struct Connections {
    app: Router,
    limits: Arc<Limits>,
    places: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Cancelled when the server stops. Connections without a request are closed then.
    stop: CancellationToken,
    /// Ends the connections that did not end in time.
    end: CancellationToken,
    /// Asks connections, oldest first, to end when their requests are answered.
    drain: CancellationToken,
    date_header: bool,
    /// Without it, connections are plain.
    tls: Option<Arc<Tls>>,
    /// Limits warnings of clients that speak TLS to a plain port.
    hellos: Arc<Seldom>,
}

impl Connections {
    pub(crate) fn new(
        app: Router,
        limits: Arc<Limits>,
        date_header: bool,
        tls: Option<Arc<Tls>>,
        stop: CancellationToken,
    ) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections));
        Self {
            app,
            limits,
            places,
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
            tasks: TaskTracker::new(),
            stop,
            end: CancellationToken::new(),
            drain: CancellationToken::new(),
            date_header,
            tls,
            hellos: Arc::default(),
        }
    }

    /// Takes the next connection. Cancel safe.
    pub(crate) async fn accept(&self, listener: &mut dyn Listen) {
        match listener.accept().await {
            Ok((stream, peer)) => match self.places.clone().try_acquire_owned() {
                Ok(place) => self.serve(stream, peer, place),
                Err(_) => self.turn_away(stream, peer),
            },
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn serve(&self, stream: BoxedStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        let builder = builder(&self.limits, self.date_header);
        let service = TowerToHyperService::new(self.app.clone());
        let (drain, stop, end) = (self.drain.clone(), self.stop.clone(), self.end.clone());
        let times = Times { head: self.limits.header_timeout, write: self.limits.body_timeout };
        let (tls, hellos) = (self.tls.clone(), self.hellos.clone());
        self.tasks.spawn(async move {
            let served = async {
                let begun = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    begun = begin(stream, peer, tls.as_deref(), times) => begun,
                };
                let (stream, late) = match begun {
                    Ok(Some(begun)) => begun,
                    Ok(None) => {
                        if hellos.is_due() {
                            warn!(%peer, "a client speaks TLS to this port without TLS; it must use http://");
                        }
                        return;
                    }
                    Err(_) => return,
                };
                let connection = builder.serve_connection(TokioIo::new(stream), service);
                let mut connection = pin!(connection.into_owned());
                let ended = tokio::select! {
                    biased;
                    () = drain.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                    ended = connection.as_mut() => ended,
                };
                if let Err(error) = ended {
                    let ended = error.downcast_ref::<hyper::Error>();
                    if ended.is_some_and(hyper::Error::is_timeout) {
                        late.set();
                    }
                    debug!(error, "connection failed");
                }
            };
            tokio::select! {
                biased;
                () = end.cancelled() => {}
                () = served => {}
            }
            drop(place);
        });
    }

    /// Answers that there are too many connections, to a limited number of connections at once.
    fn turn_away(&self, stream: BoxedStream, peer: SocketAddr) {
        let Ok(place) = self.turned_away.clone().try_acquire_owned() else { return };
        let (limit, tls) = (self.limits.connections, self.tls.clone());
        self.tasks.spawn(async move {
            let stream = match tls {
                None => Some(stream),
                Some(tls) => tls.accept(stream, peer, TURNED_AWAY_FOR).await,
            };
            let Some(stream) = stream else { return };
            // The connection closes anyway, so an error does not matter.
            let _ = tokio::time::timeout(TURNED_AWAY_FOR, say_too_many(stream, limit)).await;
            drop(place);
        });
    }

    /// Asks all connections to end, and ends the rest after a timeout.
    pub(crate) async fn shut_down(self, within: Duration) {
        self.drain.cancel();
        self.tasks.close();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            warn!("some requests were still in progress when the server stopped");
        }
        self.end.cancel();
        self.tasks.wait().await;
    }
}

/// Makes the handshake of TLS, and waits for the bytes that tell the version of HTTP, each within a timeout. The HTTP
/// server would wait for them forever. `None` if the client speaks TLS and this port does not.
async fn begin(
    mut stream: BoxedStream,
    peer: SocketAddr,
    tls: Option<&Tls>,
    times: Times,
) -> io::Result<Option<(HttpStream, Late)>> {
    let within = times.head;
    if let Some(tls) = tls {
        let accepted = tls.accept(stream, peer, within).await;
        stream = accepted.ok_or(io::ErrorKind::ConnectionAborted)?;
    }
    let mut first = Vec::with_capacity(PREFACE.len());
    let read = tokio::time::timeout(within, read_first(&mut stream, &mut first)).await;
    if read.is_err() && !first.is_empty() {
        let words = rest::whole_answer(Failure::header_timeout(within));
        tokio::time::timeout(TURNED_AWAY_FOR, stream.write_all(&words)).await??;
    }
    read??;
    if first.first() == Some(&tls::TLS_HELLO) {
        tls::say_http(stream).await;
        return Ok(None);
    }
    let (late, plain) = (Late::default(), first != PREFACE);
    Ok(Some((HttpStream::new(first, stream, plain, late.clone(), times), late)))
}

async fn read_first(stream: &mut BoxedStream, first: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let room = PREFACE.len() - first.len();
        let count = (&mut *stream).take(room as u64).read_buf(first).await?;
        if !PREFACE.starts_with(first) || first.len() == PREFACE.len() {
            return Ok(());
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn say_too_many(mut stream: BoxedStream, limit: usize) -> io::Result<()> {
    stream.write_all(&rest::too_many_connections(limit)).await?;
    stream.shutdown().await?;
    // Closing with unread bytes would reset the connection, and the peer could lose the answer.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}

fn builder(limits: &Limits, date_header: bool) -> auto::Builder<TokioExecutor> {
    let (stream, connection) = windows(limits.streams_per_connection);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .auto_date_header(date_header)
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(date_header)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(32 << 10)
        .initial_stream_window_size(stream)
        .initial_connection_window_size(connection)
        .max_send_buf_size(SEND_BYTES);
    builder
}

/// The windows of a stream and of its connection. All streams together never use up the window of the
/// connection, so a heartbeat of a worker gets through even if all other streams are held back.
fn windows(streams: u32) -> (u32, u32) {
    let stream = STREAM_WINDOW.min(WINDOW_MAX / streams.max(1));
    (stream, stream.saturating_mul(streams.max(1)).max(STREAM_WINDOW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_of_a_connection_has_room_for_those_of_all_its_streams() {
        for streams in [1, 100, 1000, 32_768, 1_000_000] {
            let (stream, connection) = windows(streams);
            assert!(u64::from(stream) * u64::from(streams) <= u64::from(connection), "{streams}");
            assert!(stream > 2000 && connection <= WINDOW_MAX, "{streams}");
        }
    }
}
