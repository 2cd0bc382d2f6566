//! Settings of a client.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use rota_tls::{ClientFiles, Connector as Tls};
use tonic::{
    metadata::AsciiMetadataValue,
    transport::{Endpoint, Uri},
};

use crate::{
    client::Client,
    connect::{Connect, Dialer},
    error::ClientError,
    nodes::{CallHeaders, Nodes},
};

/// Timeout of a ping, after which the client fails over to another node. It is short enough for a worker to
/// reconnect within the TTL of its session (10 s by default).
const PING_EVERY: Duration = Duration::from_secs(3);
const PING_WAIT: Duration = Duration::from_secs(3);

/// Timeout of a connection attempt. A machine without power does not answer at all. The first packet of a
/// connection is sent again after a second if it was lost.
const CONNECT: Duration = Duration::from_millis(1500);

/// Settings of a [`Client`].
#[derive(Clone)]
pub struct Builder {
    addresses: Vec<String>,
    token: Option<Result<AsciiMetadataValue, ClientError>>,
    request_timeout: Duration,
    patience: Duration,
    connect: Option<Arc<dyn Connect>>,
    tls: ClientFiles,
    seed: Option<u64>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("addresses", &self.addresses)
            .field("token", &self.token.as_ref().map(|_| "hidden"))
            .field("request_timeout", &self.request_timeout)
            .field("patience", &self.patience)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(addresses: Vec<String>) -> Self {
        Self {
            addresses,
            token: None,
            request_timeout: Duration::from_secs(20),
            patience: Duration::from_secs(10),
            connect: None,
            tls: ClientFiles::default(),
            seed: None,
        }
    }

    /// Bearer token for the API. [`Builder::build`] refuses a token that a header cannot carry.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        let header = AsciiMetadataValue::try_from(format!("Bearer {token}"));
        self.token = Some(header.map_err(|_| ClientError::Token).map(|mut header| {
            header.set_sensitive(true);
            header
        }));
        self
    }

    /// Maximum duration of one try of a request. A call that waits has its wait on top. Default: 20 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Time to retry a call after its first failure, on all nodes. Default: 10 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// File with the certificates of the authorities to trust, in PEM format, for addresses that begin with `https://`.
    /// Default: the authorities of the system.
    ///
    /// The client looks at this file and those of [`Builder::client_certificate`] before each connection, and uses
    /// changed ones.
    #[must_use]
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(file.into());
        self
    }

    /// Files with a certificate and its key, in PEM format, for servers that demand certificates of clients.
    #[must_use]
    pub fn client_certificate(
        mut self,
        cert_file: impl Into<PathBuf>,
        key_file: impl Into<PathBuf>,
    ) -> Self {
        (self.tls.cert, self.tls.key) = (Some(cert_file.into()), Some(key_file.into()));
        self
    }

    /// Uses `connect` instead of TCP to open connections.
    #[must_use]
    pub fn connector(mut self, connect: impl Connect) -> Self {
        self.connect = Some(Arc::new(connect));
        self
    }

    /// Seed of the jitter between retries, for repeatable runs. Default: random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Builds the client. It connects at the first call.
    ///
    /// # Errors
    /// If there is no address, an address is not a URL, the token cannot be sent, or a file for TLS cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime, to which connections belong.
    pub fn build(self) -> Result<Client, ClientError> {
        if self.addresses.is_empty() {
            return Err(wrong("", &"at least one address is required"));
        }
        let endpoints: Result<Vec<_>, _> =
            self.addresses.iter().map(|address| endpoint(address)).collect();
        let endpoints = endpoints?;
        let tls =
            if endpoints.iter().any(|(_, is_tls)| *is_tls) { Some(self.tls()?) } else { None };
        let dialer = |(endpoint, is_tls)| {
            let tls = tls.clone().filter(|_| is_tls);
            Dialer::new(endpoint, self.connect.clone(), tls)
        };
        let dialers = endpoints.into_iter().map(dialer).collect();
        let addresses = self.addresses.join(", ");
        let random = self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let headers = CallHeaders::new(self.token.transpose()?);
        let nodes = Nodes::new(dialers, addresses, headers, self.patience, random);
        Ok(Client { nodes: Arc::new(nodes), request_timeout: self.request_timeout })
    }

    /// Reads the files for TLS.
    fn tls(&self) -> Result<Tls, ClientError> {
        let opened = Tls::open(self.tls.clone());
        opened.map_err(|error| ClientError::Tls { reason: error.to_string() })
    }
}

const HTTP: &str = "http://";
const HTTPS: &str = "https://";

/// Whether the address has this scheme.
fn starts_with(address: &str, scheme: &str) -> bool {
    address.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

fn wrong(address: &str, reason: &dyn fmt::Display) -> ClientError {
    ClientError::Address { address: address.to_owned(), reason: reason.to_string() }
}

/// The endpoint of an address, and whether it needs TLS. That is not the business of the endpoint, but of the
/// [`Dialer`].
fn endpoint(address: &str) -> Result<(Endpoint, bool), ClientError> {
    let endpoint =
        Endpoint::from_shared(address.to_owned()).map_err(|error| wrong(address, &error))?;
    // Checked in the text, because the transport would accept the address of a Unix socket.
    let is_tls = starts_with(address, HTTPS);
    if !is_tls && !starts_with(address, HTTP) {
        return Err(wrong(address, &"it must begin with http:// or https://"));
    }
    check(address, endpoint.uri())?;
    let endpoint = if is_tls { under_tls(address, endpoint.uri())? } else { endpoint };
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(8 << 20);
    Ok((endpoint, is_tls))
}

/// The endpoint of an `https` address, for a transport that does not know of the TLS. Requests name the address as it
/// is.
fn under_tls(address: &str, uri: &Uri) -> Result<Endpoint, ClientError> {
    let host = uri.host().unwrap_or_default();
    let inner = format!("http://{host}:{}", uri.port_u16().unwrap_or(443));
    let endpoint = Endpoint::from_shared(inner).map_err(|error| wrong(address, &error))?;
    Ok(endpoint.origin(uri.clone()))
}

/// Checks that an address has a host and a port, and nothing else. Calls use only these, and the rest would be ignored.
fn check(address: &str, uri: &Uri) -> Result<(), ClientError> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(ClientError::Address {
            address: "(hidden)".to_owned(),
            reason: "it has a user; set the API token separately".to_owned(),
        });
    }
    if uri.host().unwrap_or_default().is_empty() {
        return Err(wrong(address, &"it has no host"));
    }
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    if after_host.contains(':') && uri.port_u16().is_none_or(|port| port == 0) {
        return Err(wrong(address, &"its port is not a number from 1 to 65535"));
    }
    if uri.query().is_some() {
        return Err(wrong(address, &"it has a query; use only the host and port"));
    }
    if !matches!(uri.path(), "" | "/") {
        return Err(wrong(address, &"it has a path; use only the host and port"));
    }
    Ok(())
}
