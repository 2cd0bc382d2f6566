//! The listener: one port for both protocols, bounded in connections and time.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request, response::IntoResponse};
use http::Response;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use rota_engine::Engine;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{debug, error, warn};

use crate::{
    auth::{self, Tokens},
    failure::Failure,
    grpc::{self, Services},
    limits::Limits,
    rest,
};

/// When the server stops, requests under way get so long to end.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// After a failed accept (out of file descriptors, say) it rests so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The address can be reached from elsewhere and nothing protects it.
    #[error(
        "{0} can be reached from other machines, and no API token is set: set one, or say that \
         this is meant"
    )]
    Unprotected(SocketAddr),
    /// The parts do not fit together.
    #[error("cannot set up the server: {0}")]
    Setup(String),
}

/// How a server is to run.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What clients can send.
    pub limits: Limits,
    /// Tokens that open the API; none: everybody who reaches it may use it.
    pub tokens: Tokens,
    /// The operator said in plain words that a server without tokens may be reached from other
    /// machines.
    pub insecure_no_auth: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7420)),
            limits: Limits::default(),
            tokens: Tokens::default(),
            insecure_no_auth: false,
        }
    }
}

/// A server that listens, and serves once [`run`](Server::run).
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
    options: ServerOptions,
    engine: Engine,
}

impl Server {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the address is taken or not this machine's, or when it can be reached from elsewhere
    /// and nothing protects it.
    pub async fn bind(engine: Engine, options: ServerOptions) -> Result<Self, ServeError> {
        let address = options.listen;
        let open = options.tokens.is_empty() && !options.insecure_no_auth;
        if open && !address.ip().is_loopback() {
            return Err(ServeError::Unprotected(address));
        }
        let refused = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let local = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, local, options, engine })
    }

    /// Where it listens: the port that was chosen, if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `stop` is cancelled; then requests under way get some time to end.
    ///
    /// # Errors
    /// When the parts do not fit together. What goes wrong with one connection ends that one.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ServeError> {
        let limits = Arc::new(self.options.limits);
        let services =
            Services { engine: self.engine.clone(), limits: limits.clone(), stop: stop.clone() };
        let app = app(services, self.options.tokens.clone(), self.local).await?;
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(limits.connections));
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &places) => accepted,
                () = stop.cancelled() => break,
            };
            let Some((stream, place)) = accepted else { continue };
            let service = TowerToHyperService::new(app.clone());
            let connection = builder(&limits)
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .into_owned();
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    debug!(error, "a connection ended badly");
                }
                drop(place);
            });
        }
        drop(self.listener);
        if tokio::time::timeout(LAST_REQUESTS, graceful.shutdown()).await.is_err() {
            warn!("requests were still under way when the server stopped");
        }
        Ok(())
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, Place)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Small messages must not wait for more.
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "a connection was gone at once");
            }
            Some((stream, place))
        }
        Err(error) => {
            warn!(%error, "accepting a connection failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(32 << 10)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20);
    builder
}

/// Both protocols behind one door.
async fn app(services: Services, tokens: Tokens, local: SocketAddr) -> Result<Router, ServeError> {
    let grpc = grpc::routes(services.clone()).await?.prepare().into_axum_router();
    let rest = rest::routes(services);
    let both = tower::service_fn(move |request: Request| {
        let (grpc, rest, tokens) = (grpc.clone(), rest.clone(), tokens.clone());
        async move {
            let is_grpc = is_grpc(&request);
            let (path, headers) = (request.uri().path(), request.headers());
            if let Err(failure) = auth::check(&tokens, request.method(), path, headers, local) {
                return Ok(refuse(failure, is_grpc));
            }
            if is_grpc { grpc.oneshot(request).await } else { rest.oneshot(request).await }
        }
    });
    let guarded = ServiceBuilder::new().layer(CatchPanicLayer::custom(panicked)).service(both);
    Ok(Router::new().fallback_service(guarded))
}

fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn refuse(failure: Failure, is_grpc: bool) -> Response<Body> {
    if is_grpc { tonic::Status::from(failure).into_http() } else { failure.into_response() }
}

#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response<Body> {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
    error!(panic = words.unwrap_or("without words"), "a request handler panicked");
    rest::internal_error()
}
