//! Settings of a client.

use std::{fmt, sync::Arc, time::Duration};

use tonic::{metadata::AsciiMetadataValue, transport::Endpoint};

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
    seed: Option<u64>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("addresses", &self.addresses)
            .field("token", &self.token.as_ref().map(|_| "hidden"))
            .field("request_timeout", &self.request_timeout)
            .field("patience", &self.patience)
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
    /// If there is no address, an address is not a URL, or the token cannot be sent.
    ///
    /// # Panics
    /// Outside of a tokio runtime, to which connections belong.
    pub fn build(self) -> Result<Client, ClientError> {
        if self.addresses.is_empty() {
            return Err(wrong("", &"at least one address is required"));
        }
        let dialer = |address: &String| -> Result<Dialer, ClientError> {
            Ok(Dialer::new(endpoint(address)?, self.connect.clone()))
        };
        let dialers: Result<Vec<_>, _> = self.addresses.iter().map(dialer).collect();
        let addresses = self.addresses.join(", ");
        let random = self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let headers = CallHeaders::new(self.token.transpose()?);
        let nodes = Nodes::new(dialers?, addresses, headers, self.patience, random);
        Ok(Client { nodes: Arc::new(nodes), request_timeout: self.request_timeout })
    }
}

fn wrong(address: &str, reason: &dyn fmt::Display) -> ClientError {
    ClientError::Address { address: address.to_owned(), reason: reason.to_string() }
}

fn endpoint(address: &str) -> Result<Endpoint, ClientError> {
    let endpoint =
        Endpoint::from_shared(address.to_owned()).map_err(|error| wrong(address, &error))?;
    // Checked in the text, because the transport would accept the address of a Unix socket.
    let is_http = address.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
    if !is_http {
        return Err(wrong(address, &"it must begin with http://"));
    }
    // Calls use only the host and port. Everything else would be ignored.
    let uri = endpoint.uri();
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
    Ok(endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(8 << 20))
}
