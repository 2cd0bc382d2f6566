//! Counts of the ticks of schedules.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    catalogue::{self as all, Buckets},
    names::Names,
    registrar::{histogram, register},
    snapshot::Labels,
};

/// The counts of the ticks of schedules.
///
/// All schedules share the series of ticks. Only a schedule with ticks that should have created a task, and
/// did not, has series of its own, because there can be a million schedules.
#[derive(Debug)]
pub struct Ticks {
    decided: Family<Labels<2>, Counter>,
    lateness: Histogram,
    missed: Family<Labels<1>, Counter>,
    missed_at: Family<Labels<1>, Gauge<f64, AtomicU64>>,
    names: Names,
}

impl Ticks {
    /// Registers the metrics. They name up to this many schedules.
    pub(crate) fn register(r: &mut Registry, names: usize) -> Self {
        Self {
            decided: register(r, &all::SCHEDULE_TICKS, Family::default()),
            lateness: register(r, &all::SCHEDULE_LATENESS, histogram(Buckets::Task)),
            missed: register(r, &all::SCHEDULE_MISSED, Family::default()),
            missed_at: register(r, &all::SCHEDULE_MISSED_TIME, Family::default()),
            names: Names::new(names),
        }
    }

    /// Counts ticks with this outcome and reason; an empty reason for none. A count of 0 shows the series, so
    /// that the first tick is visible as an increase.
    pub fn decided(&self, outcome: &str, reason: &str, count: u64) {
        let labels = Labels::new(&all::SCHEDULE_TICKS, [outcome, reason]);
        self.decided.get_or_create(&labels).inc_by(count);
    }

    /// Counts the lateness of a tick that created its task.
    pub fn fired(&self, late: Duration) {
        self.lateness.observe(late.as_secs_f64());
    }

    /// Counts ticks of a schedule that should have created a task and did not. They were decided at this time.
    pub fn missed(&self, schedule: &str, count: u64, at: SystemTime) {
        let name = self.names.fold(schedule);
        let labels = Labels::new(&all::SCHEDULE_MISSED, [&name]);
        self.missed.get_or_create(&labels).inc_by(count);
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let labels = Labels::new(&all::SCHEDULE_MISSED_TIME, [&name]);
        self.missed_at.get_or_create(&labels).set(since.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, NodeMetrics, Snapshot};

    fn lines(metrics: &NodeMetrics) -> Vec<String> {
        let shown = metrics.show(Snapshot::default(), Format::Text);
        let text = String::from_utf8(shown.body).expect("text");
        let lines = text.lines().filter(|line| line.starts_with("rota_schedule"));
        lines.map(ToOwned::to_owned).collect()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn ticks_count_by_outcome_and_lateness_counts_once_for_each_task() {
        let metrics = NodeMetrics::default();
        metrics.ticks().decided("fired", "", 0);
        assert!(
            lines(&metrics).contains(
                &"rota_schedule_ticks_total{outcome=\"fired\",reason=\"\"} 0".to_owned()
            )
        );
        metrics.ticks().decided("fired", "", 2);
        metrics.ticks().decided("skipped", "overlap", 7);
        metrics.ticks().fired(Duration::from_millis(4));
        let lines = lines(&metrics);
        for expected in [
            "rota_schedule_ticks_total{outcome=\"fired\",reason=\"\"} 2",
            "rota_schedule_ticks_total{outcome=\"skipped\",reason=\"overlap\"} 7",
            "rota_schedule_lateness_seconds_bucket{le=\"0.0025\"} 0",
            "rota_schedule_lateness_seconds_bucket{le=\"0.005\"} 1",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected} is not in {lines:#?}");
        }
    }

    #[test]
    fn only_schedules_that_missed_ticks_are_named_and_not_too_many() {
        let metrics = NodeMetrics::new("", 2);
        assert!(!lines(&metrics).iter().any(|line| line.contains("schedule=")));
        metrics.ticks().missed("nightly", 3, at(100));
        metrics.ticks().missed("nightly", 1, at(200));
        metrics.ticks().missed("hourly", 1, at(150));
        metrics.ticks().missed("c", 1, at(150));
        metrics.ticks().missed("d", 1, at(160));
        let mut named = lines(&metrics);
        named.retain(|line| line.contains("schedule="));
        named.sort();
        assert_eq!(
            named,
            [
                "rota_schedule_missed_timestamp_seconds{schedule=\"hourly\"} 150.0",
                "rota_schedule_missed_timestamp_seconds{schedule=\"nightly\"} 200.0",
                "rota_schedule_missed_timestamp_seconds{schedule=\"other\"} 160.0",
                "rota_schedule_missed_total{schedule=\"hourly\"} 1",
                "rota_schedule_missed_total{schedule=\"nightly\"} 4",
                "rota_schedule_missed_total{schedule=\"other\"} 2",
            ]
        );
    }
}
