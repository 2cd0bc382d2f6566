//! Opens the connections of a client: over TCP or by a function of the caller, with or without TLS.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rota_tls::Connector as Tls;
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
    tls: Option<Tls>,
}

impl Dialer {
    /// Uses TCP if there is no `connect`. With `tls`, the endpoint still has an `http` URL, because the transport does
    /// not know of the TLS.
    pub(crate) fn new(
        endpoint: Endpoint,
        connect: Option<Arc<dyn Connect>>,
        tls: Option<Tls>,
    ) -> Self {
        Self { endpoint, connect, tls }
    }

    /// A channel with its own connection, which opens with the first call.
    pub(crate) fn channel(&self) -> Channel {
        if self.connect.is_none() && self.tls.is_none() {
            return self.endpoint.connect_lazy();
        }
        let (connect, tls) = (self.connect.clone(), self.tls.clone());
        let connector = Connector { connect, tls, timeout: self.endpoint.get_connect_timeout() };
        self.endpoint.connect_with_connector_lazy(connector)
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("address", self.endpoint.uri()).finish_non_exhaustive()
    }
}

/// A [`Connect`], TLS or both in the form that the transport needs.
#[derive(Clone)]
struct Connector {
    connect: Option<Arc<dyn Connect>>,
    tls: Option<Tls>,
    /// Maximum time to open a connection.
    timeout: Option<Duration>,
}

impl Connector {
    async fn open(self, address: Uri) -> io::Result<Box<dyn ByteStream>> {
        let stream = match &self.connect {
            Some(connect) => {
                let authority = address.authority().map(ToString::to_string).unwrap_or_default();
                connect.connect(&authority).await?
            }
            None => tcp(address.clone(), self.timeout).await?,
        };
        match &self.tls {
            None => Ok(stream),
            Some(tls) => {
                let host = address.host().unwrap_or_default();
                Ok(Box::new(tls.connect(host, stream).await?))
            }
        }
    }
}

async fn tcp(address: Uri, timeout: Option<Duration>) -> io::Result<Box<dyn ByteStream>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    // Divided among the addresses of a name, so that one that does not answer leaves time for the others.
    connector.set_connect_timeout(timeout);
    std::future::poll_fn(|cx| connector.poll_ready(cx)).await.map_err(io::Error::other)?;
    let stream = connector.call(address).await.map_err(refused)?;
    Ok(Box::new(TokioIo::into_inner(stream)))
}

/// The error of the system, so that a refused connection is known as one.
fn refused(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    let kind = crate::fault::causes(&error)
        .find_map(|cause| cause.downcast_ref::<io::Error>())
        .map_or(io::ErrorKind::Other, io::Error::kind);
    let last = crate::fault::causes(&error).last().map(ToString::to_string);
    io::Error::new(kind, last.unwrap_or_default())
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn ByteStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(TokioIo::new(this.open(address).await?)) })
    }
}
