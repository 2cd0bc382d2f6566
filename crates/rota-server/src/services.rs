//! The shared parts of the services of both protocols.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rota_engine::{Check, Engine, Health};
use rota_trace::Tracer;
use tokio_util::sync::CancellationToken;

use crate::{forward::Forwarder, limits::Limits, log::LogControl};

/// The shared parts of all services.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) engine: Engine,
    pub(crate) limits: Arc<Limits>,
    /// Connections to other nodes, in a cluster.
    pub(crate) peers: Option<Arc<Forwarder>>,
    /// Ends the streams of workers, so that they reconnect to other nodes.
    pub(crate) stop: CancellationToken,
    pub(crate) log: Option<Arc<dyn LogControl>>,
    pub(crate) tracer: Tracer,
    /// The OpenAPI document with the limits of this server, built on first use.
    pub(crate) contract: Arc<OnceLock<Bytes>>,
}

impl Services {
    /// The checks of this node: those of the engine, and forwarding.
    pub(crate) fn health(&self) -> Health {
        let mut health = self.engine.health();
        health.checks.extend(self.forwarding());
        health
    }

    /// Whether forwarding to the leader works, in a cluster.
    pub(crate) fn forwarding(&self) -> Option<Check> {
        let peers = self.peers.as_ref()?;
        Some(Check::needed("forwarding", peers.problem()))
    }
}
