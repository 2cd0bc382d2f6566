//! The options of an engine.

use std::{sync::Arc, time::Duration};

use rota_core::{MachineLimits, Retention};
use rota_metrics::NodeMetrics;

use crate::{
    events::EventLimits, level::FEATURE_LEVEL, output::OutputLimits, tick_traces::TickTraces,
};

/// Options of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Name of the node.
    pub node: String,
    /// URL at which other nodes reach its API, such as `http://10.0.0.7:7420`.
    pub address: Option<String>,
    /// Limits of the machine.
    pub machine: MachineLimits,
    /// TTL of the sessions of workers with a stream.
    pub session_ttl: Duration,
    /// Default retention of ended tasks.
    pub retention: Retention,
    /// Time without removal of ended tasks after the wall clock has jumped forward.
    pub clock_grace: Duration,
    /// Memory in bytes to cache payloads of tasks that will run soon.
    pub payload_cache_bytes: usize,
    /// Memory in bytes for new tasks that wait for their step, and as much for reports of workers.
    pub request_bytes_max: u32,
    /// Timeout of a call.
    pub call_timeout: Duration,
    /// Time without progress of the engine's loop after which the node is not ready. The loop makes progress
    /// every second.
    pub stalled_after: Duration,
    /// Highest feature level that this node supports. Tests can set another one.
    pub feature_level: u32,
    /// Metrics of the node.
    pub metrics: NodeMetrics,
    /// Begins traces of tasks that schedules create. `None`: such tasks belong to no trace.
    pub tick_traces: Option<Arc<dyn TickTraces>>,
    /// Limits on events and their listeners.
    pub events: EventLimits,
    /// Limits on the output of running tasks and its listeners.
    pub output: OutputLimits,
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
            request_bytes_max: 64 << 20,
            call_timeout: Duration::from_secs(15),
            stalled_after: Duration::from_secs(10),
            feature_level: FEATURE_LEVEL,
            metrics: NodeMetrics::default(),
            tick_traces: None,
            events: EventLimits::default(),
            output: OutputLimits::default(),
        }
    }
}
