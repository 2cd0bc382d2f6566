//! What the services of both protocols work with.

use std::sync::Arc;

use rota_engine::Engine;
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
}
