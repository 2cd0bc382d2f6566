//! What the services of both protocols work with.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rota_engine::{Check, Engine, Health};
use rota_trace::Tracer;
use tokio_util::sync::CancellationToken;

use crate::{forward::Forwarder, limits::Limits, log::LogControl};

/// What every service needs.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) engine: Engine,
    pub(crate) limits: Arc<Limits>,
    /// The way to other nodes, where there may be some.
    pub(crate) peers: Option<Arc<Forwarder>>,
    /// Ends the streams of workers, so that they go elsewhere.
    pub(crate) stop: CancellationToken,
    pub(crate) log: Option<Arc<dyn LogControl>>,
    pub(crate) tracer: Tracer,
    /// The OpenAPI document with the limits of this server, made when it is first asked for.
    pub(crate) contract: Arc<OnceLock<Bytes>>,
}

impl Services {
    /// How this node is: its engine, and its way to the leader.
    pub(crate) fn health(&self) -> Health {
        let mut health = self.engine.health();
        health.checks.extend(self.forwarding());
        health
    }

    /// Whether requests get through to the leader, where there may be other nodes.
    pub(crate) fn forwarding(&self) -> Option<Check> {
        let peers = self.peers.as_ref()?;
        Some(Check::needed("forwarding", peers.problem()))
    }
}
