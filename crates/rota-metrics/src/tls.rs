//! Counts of TLS on a node's port. Without TLS, there are no series.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::{
    catalogue::{self as all},
    registrar::register,
    snapshot::{Labels, Snapshot},
};

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// Both ends agreed.
    Done,
    /// The two ends did not agree, or the connection broke.
    Failed,
    /// The client took too long.
    Late,
    /// The client does not speak TLS.
    Plain,
}

impl Handshake {
    const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Late, Self::Plain];

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Plain => "plain",
        }
    }
}

/// The counts of TLS.
#[derive(Debug)]
pub struct Tls {
    handshakes: Family<Labels<1>, Counter>,
    reloads: Family<Labels<1>, Counter>,
    /// In seconds of Unix time. 0 without TLS.
    expiry: AtomicU64,
}

impl Tls {
    pub(crate) fn register(r: &mut Registry) -> Self {
        Self {
            handshakes: register(r, &all::TLS_HANDSHAKES, Family::default()),
            reloads: register(r, &all::TLS_RELOADS, Family::default()),
            expiry: AtomicU64::default(),
        }
    }

    /// Shows all series, so that the first increment is visible as one.
    pub fn start(&self, expires: SystemTime) {
        for end in Handshake::ALL {
            let labels = Labels::new(&all::TLS_HANDSHAKES, [end.as_str()]);
            self.handshakes.get_or_create_owned(&labels);
        }
        for outcome in ["done", "failed"] {
            self.reloads.get_or_create_owned(&Labels::new(&all::TLS_RELOADS, [outcome]));
        }
        self.certificate(expires);
    }

    /// Counts a handshake.
    pub fn handshake(&self, end: Handshake) {
        let labels = Labels::new(&all::TLS_HANDSHAKES, [end.as_str()]);
        self.handshakes.get_or_create(&labels).inc();
    }

    /// Counts an attempt to use changed files. `None` if they cannot be used.
    pub fn reloaded(&self, expires: Option<SystemTime>) {
        let outcome = if expires.is_some() { "done" } else { "failed" };
        self.reloads.get_or_create(&Labels::new(&all::TLS_RELOADS, [outcome])).inc();
        if let Some(expires) = expires {
            self.certificate(expires);
        }
    }

    fn certificate(&self, expires: SystemTime) {
        let seconds = expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.expiry.store(seconds, Ordering::Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "the exposition format has no other numbers")]
    pub(crate) fn show(&self, snapshot: &mut Snapshot) {
        let seconds = self.expiry.load(Ordering::Relaxed);
        snapshot.put_known(&all::TLS_EXPIRY, (seconds > 0).then_some(seconds as f64));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Format, NodeMetrics};

    fn text(metrics: &NodeMetrics) -> String {
        let shown = metrics.show(Snapshot::default(), Format::Text);
        let text = String::from_utf8(shown.body).expect("text");
        let lines = text.lines().filter(|line| line.starts_with("rota_tls_"));
        lines.map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn there_are_series_of_tls_only_with_tls() {
        let metrics = NodeMetrics::default();
        assert_eq!(text(&metrics), "");
        metrics.tls().start(UNIX_EPOCH + Duration::from_secs(1000));
        metrics.tls().handshake(Handshake::Plain);
        metrics.tls().reloaded(None);
        for line in [
            "rota_tls_handshakes_total{outcome=\"plain\"} 1",
            "rota_tls_handshakes_total{outcome=\"done\"} 0",
            "rota_tls_reloads_total{outcome=\"failed\"} 1",
            "rota_tls_certificate_expiry_timestamp_seconds 1000.0",
        ] {
            assert!(
                text(&metrics).lines().any(|found| found == line),
                "{line}: {}",
                text(&metrics)
            );
        }
        metrics.tls().reloaded(Some(UNIX_EPOCH + Duration::from_secs(2000)));
        assert!(text(&metrics).contains("expiry_timestamp_seconds 2000"));
    }
}
