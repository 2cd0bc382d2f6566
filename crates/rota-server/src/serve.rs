//! The server: its options, start, and shutdown.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rota_engine::{Engine, IDEMPOTENCY_KEY_BYTES_MAX};
use rota_tls::{ClientFiles, FileError, ServerTls};
use rota_trace::Tracer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Access, Tokens},
    connection::Connections,
    forward::Forwarder,
    gateway,
    limits::Limits,
    log::LogControl,
    net::{Connect, Listen, TcpConnect},
    services::Services,
    tls::{Tls, TlsConnect},
};

/// Time for requests in progress to end when the server stops.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// Timeout of a TCP connection to another node.
const CONNECT: Duration = Duration::from_secs(1);

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The server cannot listen on the address.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The underlying error.
        source: io::Error,
    },
    /// Other machines can reach the address, and neither API tokens nor certificates of clients protect it.
    #[error(
        "other machines can reach {0} without authentication: no API token is set, and no client certificate is \
         demanded; set api_tokens or tls_client_ca_file, or allow this explicitly"
    )]
    Unprotected(SocketAddr),
    /// The limits allow more than the store accepts.
    #[error(
        "the limits (payload_bytes and labels, or result_bytes and output_tail_bytes) allow tasks of {wanted} bytes, \
         but the store accepts at most {taken}"
    )]
    LimitsTooLarge {
        /// Bytes of a task that the limits allow.
        wanted: usize,
        /// Bytes of a task that the store accepts.
        taken: usize,
    },
    /// The limits allow longer idempotency keys than the store accepts.
    #[error(
        "idempotency_key_bytes is {0}, but a store accepts at most {IDEMPOTENCY_KEY_BYTES_MAX}"
    )]
    KeysTooLong(usize),
    /// A file for connections to other nodes cannot be used.
    #[error("cannot connect to other nodes by TLS: {0}")]
    Tls(#[from] FileError),
    /// The setup of the server failed.
    #[error("cannot set up the server: {0}")]
    Setup(String),
}

/// Options of a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Limits on requests.
    pub limits: Limits,
    /// API tokens. Without any, everyone who reaches the server can use it.
    pub tokens: Tokens,
    /// Allows a server without tokens to listen on addresses that other machines can reach.
    pub insecure_no_auth: bool,
    /// Lets clients show and change the log filter. Without it, they cannot.
    pub log: Option<Arc<dyn LogControl>>,
    /// Tracer for spans of submissions and waits.
    pub tracer: Tracer,
    /// Tokens for `/metrics` only.
    pub metrics_tokens: Tokens,
    /// Serves `/metrics` without a token.
    pub metrics_open: bool,
    /// Origin of the URL by which browsers reach the server through a proxy, such as `https://rota.example.com`.
    pub public_origin: Option<String>,
    /// The address of a trace for the pages of tasks, with `{trace_id}` in the place of its id.
    pub trace_url: Option<String>,
    /// TLS of the port. Without it, connections are plain.
    pub tls: Option<Arc<ServerTls>>,
    /// Files for TLS to other nodes, whose addresses begin with `https://`.
    pub peer_tls: ClientFiles,
    /// Connects to other nodes.
    pub connect: Arc<dyn Connect>,
    /// Adds the header `date` to responses.
    pub date_header: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7420)),
            limits: Limits::default(),
            tokens: Tokens::default(),
            insecure_no_auth: false,
            log: None,
            tracer: Tracer::default(),
            metrics_tokens: Tokens::default(),
            metrics_open: false,
            public_origin: None,
            trace_url: None,
            tls: None,
            peer_tls: ClientFiles::default(),
            connect: Arc::new(TcpConnect::within(CONNECT)),
            date_header: true,
        }
    }
}

/// A server that listens. [`run`](Server::run) serves.
pub struct Server {
    listener: Box<dyn Listen>,
    local: SocketAddr,
    options: ServerOptions,
    engine: Engine,
}

impl Server {
    /// Starts listening.
    ///
    /// # Errors
    /// When the server cannot listen on the address, or when other machines can reach it and no token
    /// protects it.
    pub async fn bind(engine: Engine, options: ServerOptions) -> Result<Self, ServeError> {
        let address = options.listen;
        Self::check(&engine, &options, address)?;
        let refused = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        Self::on(Box::new(listener), engine, options)
    }

    /// Serves connections of this listener. Ignores `options.listen`.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn on(
        listener: Box<dyn Listen>,
        engine: Engine,
        options: ServerOptions,
    ) -> Result<Self, ServeError> {
        let address = options.listen;
        let local = listener.local_addr();
        let local = local.map_err(|source| ServeError::Bind { address, source })?;
        Self::check(&engine, &options, local)?;
        Ok(Self { listener, local, options, engine })
    }

    /// Checks the options for this address.
    fn check(
        engine: &Engine,
        options: &ServerOptions,
        address: SocketAddr,
    ) -> Result<(), ServeError> {
        // TLS alone lets everyone in. A certificate that it demands of clients does not.
        let certified = options.tls.as_ref().is_some_and(|tls| tls.demands_certificate());
        let open = options.tokens.is_empty() && !options.insecure_no_auth && !certified;
        if open && !address.ip().is_loopback() {
            return Err(ServeError::Unprotected(address));
        }
        TlsConnect::check(&options.peer_tls)?;
        let (wanted, taken) = (options.limits.task_bytes(), engine.task_bytes_max());
        if wanted > taken {
            return Err(ServeError::LimitsTooLarge { wanted, taken });
        }
        if options.limits.idempotency_key_bytes > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(ServeError::KeysTooLong(options.limits.idempotency_key_bytes));
        }
        Ok(())
    }

    /// The address it listens on, with the actual port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `stop` is cancelled. Then requests in progress have some time to end. Stop the engine
    /// after the server, so that they still get answers. Not cancel safe: if dropped, it leaves its
    /// connections open.
    ///
    /// # Errors
    /// When the setup of the server failed. An error of one connection ends only that connection.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ServeError> {
        let limits = Arc::new(self.options.limits);
        let engine = self.engine;
        let access = Access {
            tokens: self.options.tokens,
            metrics: self.options.metrics_tokens,
            metrics_open: self.options.metrics_open,
            public_origin: self.options.public_origin,
        };
        let pages = rota_dashboard::Options {
            tokens: access.tokens.all().map(Into::into).collect(),
            secure: self.options.tls.is_some(),
            public_origin: access.public_origin.clone(),
            trace_url: self.options.trace_url,
        };
        let connect = Arc::new(TlsConnect::new(self.options.connect, self.options.peer_tls));
        let metrics = engine.metrics().clone();
        let tls = self.options.tls.map(|tls| Arc::new(Tls::new(tls, metrics)));
        let forwarder = || Forwarder::new(engine.clone(), &limits, connect, stop.clone());
        let peers = engine.has_peers().then(|| Arc::new(forwarder()));
        let services = Services {
            engine,
            limits: limits.clone(),
            peers: peers.clone(),
            stop: stop.clone(),
            log: self.options.log,
            tracer: self.options.tracer,
            contract: Arc::default(),
        };
        let app = gateway::app(services, access, self.local, pages).await;
        let (app, dashboard) = app.map_err(|error| ServeError::Setup(error.to_string()))?;
        let pages = tokio::spawn(async move { dashboard.run().await });
        if let Some(peers) = peers {
            tokio::spawn(async move { peers.watch().await });
        }
        let date_header = self.options.date_header;
        let files = tls.clone().map(|tls| {
            let stop = stop.clone();
            tokio::spawn(async move { tls.watch(stop).await })
        });
        let connections = Connections::new(app, limits, date_header, tls, stop.clone());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = connections.accept(self.listener.as_mut()) => {}
            }
        }
        drop(self.listener);
        connections.shut_down(LAST_REQUESTS).await;
        // It ends at the stop. If it panicked, only open pages went without news.
        let _ = pages.await;
        if let Some(files) = files {
            // It ends at the stop. If it panicked, only changes of files went unnoticed.
            let _ = files.await;
        }
        Ok(())
    }
}
