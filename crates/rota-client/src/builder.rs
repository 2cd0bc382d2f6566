//! Settings of a client.

use std::{sync::Arc, time::Duration};

use tonic::{
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};

use crate::{
    client::Client,
    error::ClientError,
    nodes::{Nodes, Said},
};

/// A node that answers no ping for so long is left for another: soon enough for a worker to come
/// back within the TTL of its session (10 s by default).
const PING_EVERY: Duration = Duration::from_secs(3);
const PING_WAIT: Duration = Duration::from_secs(3);

/// A machine without power answers nothing, and the next node waits to be tried. The first packet
/// of a connection, when it is lost, is sent again after a second.
const CONNECT: Duration = Duration::from_millis(1500);

/// How a client is to behave.
#[derive(Debug, Clone)]
pub struct Builder {
    addresses: Vec<String>,
    token: Option<AsciiMetadataValue>,
    request_timeout: Duration,
    patience: Duration,
}

impl Builder {
    pub(crate) fn new(addresses: Vec<String>) -> Self {
        Self {
            addresses,
            token: None,
            request_timeout: Duration::from_secs(20),
            patience: Duration::from_secs(10),
        }
    }

    /// A bearer token for the API. One that cannot stand in a header is refused by the server as
    /// unknown.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        let header = AsciiMetadataValue::try_from(format!("Bearer {token}")).ok();
        self.token = header.map(|mut header| {
            header.set_sensitive(true);
            header
        });
        self
    }

    /// Longest time for one try of a request; long polls have their wait on top. Default 20 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long to go on trying after the first failure, over all nodes. Default 10 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The client. Connects with the first call.
    ///
    /// # Errors
    /// When there is no address, or one is not a URL.
    ///
    /// # Panics
    /// Outside of a tokio runtime: connections belong to one.
    pub fn build(self) -> Result<Client, ClientError> {
        if self.addresses.is_empty() {
            return Err(wrong("", &"there is none"));
        }
        let channels: Result<Vec<_>, _> =
            self.addresses.iter().map(|address| channel(address)).collect();
        let addresses = self.addresses.join(", ");
        let nodes = Nodes::new(channels?, addresses, Said::new(self.token), self.patience);
        Ok(Client { nodes: Arc::new(nodes), request_timeout: self.request_timeout })
    }
}

fn wrong(address: &str, reason: &dyn std::fmt::Display) -> ClientError {
    ClientError::Address { address: address.to_owned(), reason: reason.to_string() }
}

fn channel(address: &str) -> Result<Channel, ClientError> {
    let endpoint =
        Endpoint::from_shared(address.to_owned()).map_err(|error| wrong(address, &error))?;
    match endpoint.uri().scheme_str() {
        Some("http") => {}
        _ => return Err(wrong(address, &"it must begin with http://")),
    }
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(8 << 20);
    Ok(endpoint.connect_lazy())
}
