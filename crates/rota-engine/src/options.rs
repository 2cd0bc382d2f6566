//! What whoever starts an engine may choose.

use std::time::Duration;

use rota_core::{MachineLimits, Retention};
use rota_metrics::NodeMetrics;

use crate::level::FEATURE_LEVEL;

/// How an engine is to run.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// This node's name.
    pub node: String,
    /// Where other nodes reach its API, such as `http://10.0.0.7:7420`.
    pub address: Option<String>,
    /// Bounds on what the machine holds.
    pub machine: MachineLimits,
    /// How long a stream worker may stay silent.
    pub session_ttl: Duration,
    /// How long finished tasks are kept.
    pub retention: Retention,
    /// After the wall clock jumped forward, finished tasks are not removed for so long.
    pub clock_grace: Duration,
    /// Bytes of payloads kept in memory for tasks about to run.
    pub payload_cache_bytes: usize,
    /// How long a caller waits for an answer before it is told that there is none.
    pub call_timeout: Duration,
    /// When the engine's loop has given no sign of life for so long, the node is not ready. It gives
    /// one every second.
    pub stalled_after: Duration,
    /// The feature level that this node knows: that of this version, unless a test plays another.
    pub feature_level: u32,
    /// Where it counts.
    pub metrics: NodeMetrics,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            node: "rota".to_owned(),
            address: None,
            machine: MachineLimits::default(),
            session_ttl: Duration::from_secs(10),
            retention: Retention::default(),
            clock_grace: Duration::from_secs(3600),
            payload_cache_bytes: 64 << 20,
            call_timeout: Duration::from_secs(15),
            stalled_after: Duration::from_secs(10),
            feature_level: FEATURE_LEVEL,
            metrics: NodeMetrics::default(),
        }
    }
}
