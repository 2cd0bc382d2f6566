//! Counts decided ticks of schedules for the metrics of the node.

use std::time::{Duration, UNIX_EPOCH};

use rota_core::{Outcome, RefusedReason, SkipReason, TickEvent, WallTime};
use rota_metrics::Ticks;

/// The words of the outcomes that have no reason.
const WITHOUT_REASON: [&str; 4] = ["fired", "queued", "coalesced", "missed"];

/// Shows all series of ticks from the start, so that the first tick is visible as an increase.
pub(crate) fn declare(ticks: &Ticks) {
    WITHOUT_REASON.into_iter().for_each(|outcome| ticks.decided(outcome, "", 0));
    let skipped = SkipReason::ALL.map(Outcome::Skipped);
    let refused = RefusedReason::ALL.map(Outcome::Refused);
    for outcome in skipped.into_iter().chain(refused) {
        ticks.decided(outcome.as_str(), outcome.reason().unwrap_or_default(), 0);
    }
}

/// Counts decided ticks, once they are durable.
pub(crate) fn count(ticks: &Ticks, events: &[TickEvent], now: WallTime) {
    // A step has many ticks with few outcomes.
    let mut counts: Vec<(&str, &str, u64)> = Vec::new();
    for TickEvent { schedule, outcome, late, was_queued, nominal: _ } in events {
        let (word, reason) = (outcome.as_str(), outcome.reason().unwrap_or_default());
        match counts.iter_mut().find(|count| (count.0, count.1) == (word, reason)) {
            Some(count) => count.2 += 1,
            None => counts.push((word, reason, 1)),
        }
        match outcome {
            // A tick that waited for an earlier task is late by the rules of its schedule.
            Outcome::Fired(_) if !was_queued => ticks.fired(late.as_duration()),
            Outcome::Missed | Outcome::Refused(_) => {
                let since = u64::try_from(now.0).unwrap_or(0);
                ticks.missed(schedule, 1, UNIX_EPOCH + Duration::from_millis(since));
            }
            _ => {}
        }
    }
    for (outcome, reason, count) in counts {
        ticks.decided(outcome, reason, count);
    }
}

#[cfg(test)]
mod tests {
    use rota_core::{Millis, Name, TaskId};
    use rota_metrics::{Format, NodeMetrics, Snapshot};

    use super::*;

    fn task(number: u64) -> TaskId {
        TaskId::from_u64(number).expect("an id")
    }

    fn event(schedule: &str, outcome: Outcome, late: u64) -> TickEvent {
        TickEvent {
            schedule: Name::new(schedule).expect("a name"),
            nominal: WallTime(0),
            outcome,
            late: Millis(late),
            was_queued: false,
        }
    }

    fn shown(metrics: &NodeMetrics) -> Vec<String> {
        let shown = metrics.show(Snapshot::default(), Format::Text);
        let text = String::from_utf8(shown.body).expect("text");
        let lines = text.lines().filter(|line| line.starts_with("rota_schedule"));
        lines.map(ToOwned::to_owned).collect()
    }

    #[test]
    fn each_outcome_has_a_series_from_the_start() {
        let metrics = NodeMetrics::default();
        declare(metrics.ticks());
        let before = shown(&metrics).len();
        let skipped = SkipReason::ALL.map(Outcome::Skipped);
        let refused = RefusedReason::ALL.map(Outcome::Refused);
        let others =
            [Outcome::Fired(task(1)), Outcome::Queued, Outcome::Coalesced, Outcome::Missed];
        let outcomes = skipped.into_iter().chain(refused).chain(others);
        let events: Vec<_> = outcomes.map(|outcome| event("s", outcome, 0)).collect();
        count(metrics.ticks(), &events, WallTime(5_000));
        let mut after = shown(&metrics);
        after.retain(|line| !line.contains("schedule="));
        assert_eq!(before, after.len(), "{after:#?}");
    }

    #[test]
    fn ticks_of_a_step_are_counted_and_only_late_fires_are_measured() {
        let metrics = NodeMetrics::default();
        let waited = TickEvent { was_queued: true, ..event("b", Outcome::Fired(task(2)), 90_000) };
        let events = [
            event("a", Outcome::Fired(task(1)), 3),
            waited,
            event("a", Outcome::Skipped(SkipReason::Gap), 90_000),
            event("a", Outcome::Missed, 90_000_000),
            event("a", Outcome::Refused(RefusedReason::QueueFull), 0),
            event("b", Outcome::Missed, 90_000_000),
        ];
        count(metrics.ticks(), &events, WallTime(7_500));
        let shown = shown(&metrics);
        for expected in [
            "rota_schedule_ticks_total{outcome=\"fired\",reason=\"\"} 2",
            "rota_schedule_ticks_total{outcome=\"missed\",reason=\"\"} 2",
            "rota_schedule_ticks_total{outcome=\"refused\",reason=\"queue_full\"} 1",
            "rota_schedule_lateness_seconds_count 1",
            "rota_schedule_lateness_seconds_sum 0.003",
            "rota_schedule_missed_total{schedule=\"a\"} 2",
            "rota_schedule_missed_total{schedule=\"b\"} 1",
            "rota_schedule_missed_timestamp_seconds{schedule=\"a\"} 7.5",
        ] {
            assert!(shown.iter().any(|line| line == expected), "{expected} is not in {shown:#?}");
        }
    }
}
