//! The server: what it needs to run, where it listens, and how it stops.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rota_engine::{Engine, IDEMPOTENCY_KEY_BYTES_MAX};
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
};

/// When the server stops, requests under way get so long to end.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// Another node that cannot be reached by TCP within this time is tried again.
const CONNECT: Duration = Duration::from_secs(1);

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The underlying error.
        source: io::Error,
    },
    /// The address can be reached from elsewhere and nothing protects it.
    #[error(
        "{0} can be reached from other machines, and no API token is set: set one, or say that \
         this is meant"
    )]
    Unprotected(SocketAddr),
    /// Clients may send more than the store takes.
    #[error(
        "a task may come to {wanted} bytes by the limits (payload_bytes and labels, or result_bytes and \
         output_tail_bytes), and the store takes {taken}"
    )]
    LimitsTooLarge {
        /// By the limits.
        wanted: usize,
        /// By the store.
        taken: usize,
    },
    /// Clients may send longer idempotency keys than the store takes.
    #[error("idempotency_key_bytes is {0}, and a store takes {IDEMPOTENCY_KEY_BYTES_MAX}")]
    KeysTooLong(usize),
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
    /// Through which clients see and change what is logged; without, they cannot.
    pub log: Option<Arc<dyn LogControl>>,
    /// Writes spans of submissions and waits.
    pub tracer: Tracer,
    /// Tokens that open `/metrics` and nothing else.
    pub metrics_tokens: Tokens,
    /// `/metrics` is open to everybody who reaches the port.
    pub metrics_open: bool,
    /// Connects to other nodes.
    pub connect: Arc<dyn Connect>,
    /// Responses carry the date.
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
            connect: Arc::new(TcpConnect::within(CONNECT)),
            date_header: true,
        }
    }
}

/// A server that listens, and serves once [`run`](Server::run).
pub struct Server {
    listener: Box<dyn Listen>,
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
        Self::check(&engine, &options, address)?;
        let refused = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        Self::on(Box::new(listener), engine, options)
    }

    /// Serves what comes through this listener. `options.listen` has no meaning then.
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

    /// Whether a server may run so at this address.
    fn check(
        engine: &Engine,
        options: &ServerOptions,
        address: SocketAddr,
    ) -> Result<(), ServeError> {
        let open = options.tokens.is_empty() && !options.insecure_no_auth;
        if open && !address.ip().is_loopback() {
            return Err(ServeError::Unprotected(address));
        }
        let (wanted, taken) = (options.limits.task_bytes(), engine.task_bytes_max());
        if wanted > taken {
            return Err(ServeError::LimitsTooLarge { wanted, taken });
        }
        if options.limits.idempotency_key_bytes > IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(ServeError::KeysTooLong(options.limits.idempotency_key_bytes));
        }
        Ok(())
    }

    /// Where it listens: the port that was chosen, if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `stop` is cancelled; then requests under way get some time to end, and after it
    /// are ended. The engine is to stop after the server, so that they are still answered. Not cancel safe: dropped, it leaves the connections it has.
    ///
    /// # Errors
    /// When the parts do not fit together. What goes wrong with one connection ends that one.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ServeError> {
        let limits = Arc::new(self.options.limits);
        let engine = self.engine;
        let access = Access {
            tokens: self.options.tokens,
            metrics: self.options.metrics_tokens,
            metrics_open: self.options.metrics_open,
        };
        let connect = self.options.connect;
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
        let app = gateway::app(services, access, self.local).await;
        let app = app.map_err(|error| ServeError::Setup(error.to_string()))?;
        if let Some(peers) = peers {
            tokio::spawn(async move { peers.watch().await });
        }
        let date_header = self.options.date_header;
        let connections = Connections::new(app, limits, date_header, stop.clone());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = connections.accept(self.listener.as_mut()) => {}
            }
        }
        drop(self.listener);
        connections.shut_down(LAST_REQUESTS).await;
        Ok(())
    }
}
