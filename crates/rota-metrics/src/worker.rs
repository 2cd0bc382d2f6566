//! The metrics of a worker.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    catalogue::{self as all, Buckets},
    exposition::{self, Exposition, Format},
    process,
    registrar::{histogram, register},
    snapshot::{Labels, Shown, Snapshot},
};

/// The outcome of an attempt on a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The handler succeeded.
    Completed,
    /// The handler failed.
    Failed,
    /// Stopped, because a client cancelled the task.
    Cancelled,
    /// Snoozed by the handler.
    Snoozed,
    /// Returned unprocessed.
    Released,
    /// The lease had ended, so nothing was reported.
    Dropped,
}

impl AttemptEnd {
    const ALL: [Self; 6] = [
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Snoozed,
        Self::Released,
        Self::Dropped,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Snoozed => "snoozed",
            Self::Released => "released",
            Self::Dropped => "dropped",
        }
    }
}

/// The metrics of one kind, looked up once, because building labels for each attempt would cost more than the
/// counting.
#[derive(Debug)]
struct Attempts {
    /// By [`AttemptEnd`].
    ended: [Counter; AttemptEnd::ALL.len()],
    took: Histogram,
}

type HistogramFamily = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// The metrics of a worker. Cheap to clone; all clones share the metrics. The label `kind` has only kinds
/// with a handler, so its values are limited.
#[derive(Debug, Clone)]
pub struct WorkerMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    shown: Shown,
    version: &'static str,
    connected: Gauge<u64, AtomicU64>,
    connects: Counter,
    refusals: Counter,
    slots: Gauge<u64, AtomicU64>,
    used: Gauge<u64, AtomicU64>,
    attempts: Family<Labels<2>, Counter>,
    durations: HistogramFamily,
    kinds: RwLock<HashMap<Box<str>, Arc<Attempts>>>,
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self::new("")
    }
}

impl WorkerMetrics {
    /// Metrics of a worker of this version.
    #[must_use]
    pub fn new(version: &'static str) -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        let durations: HistogramFamily =
            Family::new_with_constructor((|| histogram(Buckets::Task)) as fn() -> Histogram);
        let shown = Shown::default();
        let connected = register(r, &all::WORKER_CONNECTED, Gauge::default());
        let connects = register(r, &all::WORKER_CONNECTS, Counter::default());
        let refusals = register(r, &all::WORKER_REFUSALS, Counter::default());
        let slots = register(r, &all::WORKER_SLOTS, Gauge::default());
        let used = register(r, &all::WORKER_SLOTS_USED, Gauge::default());
        let attempts = register(r, &all::WORKER_ATTEMPTS, Family::default());
        let durations = register(r, &all::WORKER_ATTEMPT, durations);
        registry.register_collector(Box::new(shown.clone()));
        let inner = Inner {
            registry,
            shown,
            version,
            connected,
            connects,
            refusals,
            slots,
            used,
            attempts,
            durations,
            kinds: RwLock::default(),
        };
        Self(Arc::new(inner))
    }

    /// Sets the number of slots.
    pub fn set_slots(&self, slots: u32) {
        self.0.slots.set(slots.into());
    }

    /// Records that the worker is connected, or not.
    pub fn set_connected(&self, connected: bool) {
        self.0.connected.set(connected.into());
        if connected {
            self.0.connects.inc();
        }
    }

    /// Counts a refusal of the worker or its messages by a server, or by a proxy in front of it.
    pub fn refused(&self) {
        self.0.refusals.inc();
    }

    /// Whether the worker is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.connected.get() > 0
    }

    /// Counts the start of an attempt.
    pub fn began(&self) {
        self.0.used.inc();
    }

    /// Counts the end of an attempt, with its duration.
    pub fn ended(&self, kind: &str, end: AttemptEnd, took: Duration) {
        self.0.used.inner().fetch_sub(1, Ordering::Relaxed);
        let attempts = self.attempts(kind);
        attempts.ended[end as usize].inc();
        attempts.took.observe(took.as_secs_f64());
    }

    fn attempts(&self, kind: &str) -> Arc<Attempts> {
        // A map is consistent between two calls of its methods.
        let known = self.0.kinds.read().unwrap_or_else(PoisonError::into_inner).get(kind).cloned();
        known.unwrap_or_else(|| {
            let labels = |end: AttemptEnd| Labels::new(&all::WORKER_ATTEMPTS, [kind, end.as_str()]);
            let counter = |end| self.0.attempts.get_or_create_owned(&labels(end));
            let took = Labels::new(&all::WORKER_ATTEMPT, [kind]);
            let attempts = Arc::new(Attempts {
                ended: AttemptEnd::ALL.map(counter),
                took: self.0.durations.get_or_create_owned(&took),
            });
            let mut kinds = self.0.kinds.write().unwrap_or_else(PoisonError::into_inner);
            kinds.entry(kind.into()).or_insert(attempts).clone()
        })
    }

    /// Exposes all metrics.
    #[must_use]
    pub fn show(&self, format: Format) -> Exposition {
        let mut snapshot = Snapshot::default();
        snapshot.set(&all::BUILD, [self.0.version], 1.0);
        process::collect(&mut snapshot);
        self.0.shown.replace(snapshot);
        exposition::write(&self.0.registry, format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_and_slots_given_back() {
        let metrics = WorkerMetrics::new("1");
        metrics.set_slots(4);
        metrics.set_connected(true);
        metrics.began();
        metrics.began();
        metrics.ended("resize", AttemptEnd::Failed, Duration::from_millis(20));
        let text = String::from_utf8(metrics.show(Format::Text).body).expect("text");
        for line in [
            "rota_worker_connected 1",
            "rota_worker_connects_total 1",
            "rota_worker_slots 4",
            "rota_worker_slots_used 1",
            "rota_worker_attempts_total{kind=\"resize\",outcome=\"failed\"} 1",
            "rota_worker_attempts_total{kind=\"resize\",outcome=\"completed\"} 0",
            "rota_worker_attempts_total{kind=\"resize\",outcome=\"dropped\"} 0",
            "rota_worker_attempt_duration_seconds_count{kind=\"resize\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
