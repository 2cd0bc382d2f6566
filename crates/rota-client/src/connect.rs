//! Opens the connections of a client, over TCP or by a function of the caller.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{
    codegen::Service,
    transport::{Channel, Endpoint, Uri},
};

/// A connection as a stream of bytes.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// A connection that is being opened.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send>>;

/// Opens connections to nodes instead of TCP, for example over a network in memory or through a tunnel.
pub trait Connect: Send + Sync + 'static {
    /// Opens a connection to `authority`, the host and port of one of the client's addresses. The client
    /// drops the future after its own timeout.
    fn connect(&self, authority: &str) -> Connecting;
}

/// Opens the channels of one address.
#[derive(Clone)]
pub(crate) struct Dialer {
    endpoint: Endpoint,
    connect: Option<Arc<dyn Connect>>,
}

impl Dialer {
    /// Uses TCP if there is no `connect`.
    pub(crate) fn new(endpoint: Endpoint, connect: Option<Arc<dyn Connect>>) -> Self {
        Self { endpoint, connect }
    }

    /// A channel with its own connection, which opens with the first call.
    pub(crate) fn channel(&self) -> Channel {
        match &self.connect {
            None => self.endpoint.connect_lazy(),
            Some(connect) => self.endpoint.connect_with_connector_lazy(Connector(connect.clone())),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("address", self.endpoint.uri()).finish_non_exhaustive()
    }
}

/// A [`Connect`] in the form that the transport needs.
struct Connector(Arc<dyn Connect>);

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn ByteStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let authority = address.authority().map(ToString::to_string).unwrap_or_default();
        let connecting = self.0.connect(&authority);
        Box::pin(async move { Ok(TokioIo::new(connecting.await?)) })
    }
}
