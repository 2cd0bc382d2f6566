//! The network of a node: it accepts byte streams, and connects to other nodes. TCP is the default. A
//! simulator uses a network in memory.

use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin, time::Duration};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tower::ServiceExt;
use tracing::debug;

/// A byte stream in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A boxed byte stream.
pub type BoxedStream = Box<dyn ByteStream>;

/// A pending operation of a network.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Accepts byte streams from clients and from other nodes.
pub trait Listen: Send {
    /// The address that clients connect to.
    ///
    /// # Errors
    /// When the listener has no address.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Accepts the next stream. Returns it with the address of the peer. Must be cancel safe.
    fn accept(&mut self) -> Pending<'_, (BoxedStream, SocketAddr)>;
}

/// Connects to other nodes.
pub trait Connect: fmt::Debug + Send + Sync {
    /// Opens a stream to the node at this address, such as `http://10.0.0.7:7420`.
    fn connect(&self, address: &Uri) -> Pending<'_, BoxedStream>;
}

impl Listen for TcpListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    fn accept(&mut self) -> Pending<'_, (BoxedStream, SocketAddr)> {
        Box::pin(async move {
            let (stream, peer) = Self::accept(self).await?;
            without_delay(&stream);
            Ok((Box::new(stream) as BoxedStream, peer))
        })
    }
}

/// Connects by TCP.
#[derive(Debug, Clone)]
pub struct TcpConnect(HttpConnector);

impl TcpConnect {
    /// Timeout for one address.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(limit));
        // `https` is for the TLS above this connection.
        connector.enforce_http(false);
        Self(connector)
    }
}

impl Connect for TcpConnect {
    fn connect(&self, address: &Uri) -> Pending<'_, BoxedStream> {
        let connecting = self.0.clone().oneshot(address.clone());
        Box::pin(async move {
            let stream = connecting.await.map_err(io::Error::other)?;
            let stream = TokioIo::into_inner(stream);
            without_delay(&stream);
            Ok(Box::new(stream) as BoxedStream)
        })
    }
}

/// Small messages must be sent without delay.
fn without_delay(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "connection closed at once");
    }
}
