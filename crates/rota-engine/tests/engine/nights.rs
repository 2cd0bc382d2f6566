//! Schedules through the nights in which clocks change, while nodes are restarted around 02:00.

use std::{sync::Arc, time::Duration};

use rota_core::{
    Definition, Outcome, Overlap, Priority, ScheduleDefinition, Template, TickRules, WallTime,
    nominal_text,
};
use rota_cron::{Recurrence, RecurrenceSpec};
use rota_engine::{Clock, EngineOptions, TimeRange};

use crate::support::{MoodyStore, Node, SetClock, name};

/// The clock goes on by so much at a time, which is less than a jump.
const STEP: Duration = Duration::from_secs(240);

/// Nodes are restarted at each step that is so near to the change of clocks.
const NEAR_MS: i64 = 900_000;

/// A schedule that shows which time a node has seen.
const MINUTES: &str = "minutes";

/// A night: its first minute, the time of the change, the last minute, and the ticks of each schedule between them.
struct Night {
    begins: &'static str,
    changes: &'static str,
    ends: &'static str,
    ticks: [(&'static str, &'static str, Vec<&'static str>); 3],
}

fn date(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().expect("a date").as_millisecond()
}

fn schedule(expression: &str) -> ScheduleDefinition {
    let times = RecurrenceSpec {
        expressions: vec![expression.to_owned()],
        time_zone: Some("America/New_York".to_owned()),
        ..RecurrenceSpec::default()
    };
    ScheduleDefinition {
        recurrence: Arc::new(Recurrence::new(&times, "s").expect("a recurrence")),
        times: Arc::new(times),
        rules: TickRules { overlap: Overlap::Allow, ..TickRules::default() },
        template: Arc::new(Template {
            definition: Definition::new(name("q"), name("k")),
            priority: Priority::default(),
            expires_after: None,
        }),
        labels: Vec::new(),
        description: None,
        max_runs: None,
    }
}

/// The ticks of a schedule, oldest first, each of which created a task.
async fn fired(node: &Node, schedule: &str) -> Vec<String> {
    let page = node.engine.ticks(&name(schedule), TimeRange::default(), None, 1000).await;
    let Ok(mut page) = page else { return Vec::new() };
    page.ticks.reverse();
    for tick in &page.ticks {
        assert!(matches!(tick.run.outcome, Outcome::Fired(_)), "{schedule}: {tick:?}");
    }
    page.ticks.iter().map(|tick| nominal_text(tick.run.first)).collect()
}

/// Waits until a node has decided the tick of the last minute before this date.
async fn sees(node: &Node, now: WallTime) {
    let minute = now.0.div_euclid(60_000) * 60_000;
    let mut look = tokio::time::interval(Duration::from_millis(10));
    loop {
        let page = node.engine.ticks(&name(MINUTES), TimeRange::default(), None, 1).await;
        let last = page.ok().and_then(|page| page.ticks.first().map(|tick| tick.run.last.0));
        if last.is_some_and(|last| last >= minute) {
            return;
        }
        look.tick().await;
    }
}

/// Lets the night pass. A node is stopped before a step of the clock and started after it: at each step near
/// the change, and at each third of the others.
async fn pass(night: Night) {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = SetClock::new();
    let start = || {
        let store = MoodyStore::open(&directory.path().join("data"));
        Node::start_at(clock.host(), store, EngineOptions::default())
    };
    let began = date("2027-01-15T08:00:00Z") - date(night.begins);
    clock.set_by(Duration::from_millis(began.unsigned_abs()), began < 0);
    let mut node = start();
    let all =
        night.ticks.iter().map(|(schedule_name, expression, _)| (*schedule_name, *expression));
    for (schedule_name, expression) in all.chain([(MINUTES, "* * * * *")]) {
        let put = node.engine.put_schedule(name(schedule_name), schedule(expression), None);
        put.await.expect("accepted");
    }
    for step in 1.. {
        let is_near = (clock.now().wall.0 - date(night.changes)).abs() < NEAR_MS;
        if is_near || step % 3 == 0 {
            node.stop().await;
            clock.set_by(STEP, true);
            node = start();
        } else {
            clock.set_by(STEP, true);
        }
        let now = clock.now().wall;
        // Two steps that it sees as one would be a jump.
        let seen = tokio::time::timeout(Duration::from_secs(30), sees(&node, now)).await;
        seen.expect("it sees the time");
        for (schedule_name, _, ticks) in &night.ticks {
            let count = |now: WallTime| ticks.iter().filter(|tick| date(tick) <= now.0).count();
            let decided = async {
                let mut look = tokio::time::interval(Duration::from_millis(10));
                loop {
                    let found = fired(&node, schedule_name).await;
                    if found.len() >= count(now) {
                        return found;
                    }
                    look.tick().await;
                }
            };
            let found = tokio::time::timeout(Duration::from_secs(30), decided).await;
            let at = nominal_text(now);
            let found = found.unwrap_or_else(|_| panic!("{schedule_name} has no tick at {at}"));
            // Time has gone on since.
            let due = count(clock.now().wall);
            assert!(found.len() <= due, "{schedule_name} at {at}: {found:?}");
            assert_eq!(found, ticks[..found.len()], "{schedule_name} at {at}");
        }
        if now.0 >= date(night.ends) {
            break;
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn restarts_in_the_night_that_is_an_hour_shorter_lose_and_repeat_nothing() {
    pass(Night {
        begins: "2026-03-08T06:28:00Z",
        changes: "2026-03-08T07:00:00Z",
        ends: "2026-03-08T08:02:00Z",
        ticks: [
            // Its time does not exist, so it runs at the end of the gap.
            ("half-past-two", "30 2 * * *", vec!["2026-03-08T07:00:00Z"]),
            (
                "quarters",
                "*/15 * * * *",
                vec![
                    "2026-03-08T06:30:00Z",
                    "2026-03-08T06:45:00Z",
                    "2026-03-08T07:00:00Z",
                    "2026-03-08T07:15:00Z",
                    "2026-03-08T07:30:00Z",
                    "2026-03-08T07:45:00Z",
                    "2026-03-08T08:00:00Z",
                ],
            ),
            ("half-past-one", "30 1 * * *", vec!["2026-03-08T06:30:00Z"]),
        ],
    })
    .await;
}

#[tokio::test]
async fn restarts_in_the_night_that_is_an_hour_longer_lose_and_repeat_nothing() {
    pass(Night {
        begins: "2026-11-01T05:28:00Z",
        changes: "2026-11-01T06:00:00Z",
        ends: "2026-11-01T08:02:00Z",
        ticks: [
            ("half-past-two", "30 2 * * *", vec!["2026-11-01T07:30:00Z"]),
            (
                "quarters",
                "*/15 * * * *",
                vec![
                    "2026-11-01T05:30:00Z",
                    "2026-11-01T05:45:00Z",
                    "2026-11-01T06:00:00Z",
                    "2026-11-01T06:15:00Z",
                    "2026-11-01T06:30:00Z",
                    "2026-11-01T06:45:00Z",
                    "2026-11-01T07:00:00Z",
                    "2026-11-01T07:15:00Z",
                    "2026-11-01T07:30:00Z",
                    "2026-11-01T07:45:00Z",
                    "2026-11-01T08:00:00Z",
                ],
            ),
            // The clock shows it twice; the first time counts.
            ("half-past-one", "30 1 * * *", vec!["2026-11-01T05:30:00Z"]),
        ],
    })
    .await;
}
