//! What is counted of all schedules is what they are.

use super::clockwork::{Clockwork, End, Plan, START};
use crate::{Millis, ScheduleStats, WallTime};

fn stats(clockwork: &Clockwork) -> ScheduleStats {
    clockwork.machine.stats().schedules
}

/// The states, and seconds until the next tick since the clockwork began.
fn counts(clockwork: &Clockwork) -> (u64, u64, u64, Option<i64>) {
    let stats = stats(clockwork);
    let next = stats.next_due.map(|at| at.0 / 1000 - START);
    (stats.active, stats.paused, stats.completed, next)
}

fn failing(clockwork: &Clockwork) -> Vec<(String, u32)> {
    let failing = stats(clockwork).failing;
    failing.into_iter().map(|(name, failures)| (name.to_string(), failures)).collect()
}

#[test]
fn states_and_the_next_tick_are_counted_through_all_that_happens_to_schedules() {
    let mut clockwork = Clockwork::new();
    assert_eq!(counts(&clockwork), (0, 0, 0, None));
    clockwork.put("minutely", &Plan::cron("* * * * *")).expect("it is accepted");
    clockwork.put("hourly", &Plan::cron("0 * * * *")).expect("it is accepted");
    clockwork.put("once", &Plan::cron("* * * * *").runs(1)).expect("it is accepted");
    clockwork.settle();
    assert_eq!(counts(&clockwork), (3, 0, 0, Some(60)));
    clockwork.run(60);
    assert_eq!(counts(&clockwork), (2, 0, 1, Some(120)));
    clockwork.pause("minutely", true).expect("it is accepted");
    clockwork.settle();
    assert_eq!(counts(&clockwork), (1, 1, 1, Some(3600)), "a paused schedule has no next tick");
    clockwork.run(200);
    clockwork.crash(true, 1);
    assert_eq!(counts(&clockwork), (1, 1, 1, Some(3600)));
    clockwork.pause("minutely", false).expect("it is accepted");
    clockwork.settle();
    assert_eq!(counts(&clockwork), (2, 0, 1, Some(300)));
    clockwork.put("minutely", &Plan::cron("30 * * * *")).expect("it is accepted");
    clockwork.settle();
    assert_eq!(counts(&clockwork), (2, 0, 1, Some(1800)));
    clockwork.delete("minutely").expect("it is deleted");
    clockwork.delete("once").expect("it is deleted");
    clockwork.settle();
    assert_eq!(counts(&clockwork), (1, 0, 0, Some(3600)));
    clockwork.delete("hourly").expect("it is deleted");
    assert_eq!(counts(&clockwork), (0, 0, 0, None));
}

#[test]
fn a_tick_that_is_due_and_not_decided_is_behind_after_some_seconds() {
    let mut clockwork = Clockwork::new();
    clockwork.put("minutely", &Plan::cron("* * * * *")).expect("it is accepted");
    clockwork.put("hourly", &Plan::cron("0 * * * *")).expect("it is accepted");
    clockwork.settle();
    let begin = |clockwork: &mut Clockwork| {
        clockwork.machine.begin(clockwork.now, 1_000);
        let stats = stats(clockwork);
        (stats.behind, stats.next_due)
    };
    let due = WallTime((START + 60) * 1000);
    clockwork.pass(70_000);
    assert_eq!(begin(&mut clockwork), (0, Some(due)));
    clockwork.pass(2_000);
    assert_eq!(begin(&mut clockwork), (1, Some(due)));
    clockwork.settle();
    assert_eq!(begin(&mut clockwork), (0, Some(due + Millis::from_secs(60))));
}

#[test]
fn failing_schedules_are_named_until_a_task_completes_or_somebody_pauses_them() {
    let mut clockwork = Clockwork::new();
    for name in ["a", "b", "paused"] {
        clockwork.put(name, &Plan::cron("* * * * *")).expect("it is accepted");
    }
    clockwork
        .put("stops", &Plan::cron("* * * * *").rules(|rules| rules.pause_on_failure = 1))
        .expect("it is accepted");
    clockwork.run(60);
    for name in ["a", "paused", "stops"] {
        clockwork.end_tick(name, START + 60, End::Failed);
    }
    clockwork.end_tick("b", START + 60, End::Completed);
    clockwork.run(60);
    clockwork.end_tick("a", START + 120, End::Failed);
    clockwork.pause("paused", true).expect("it is accepted");
    clockwork.settle();
    let expected = [("a".to_owned(), 2), ("stops".to_owned(), 1)];
    assert_eq!(failing(&clockwork), expected);
    assert_eq!(stats(&clockwork).failing_beyond, None);
    clockwork.crash(true, 1);
    assert_eq!(failing(&clockwork), expected);
    clockwork.run(60);
    clockwork.end_tick("a", START + 180, End::Completed);
    clockwork.settle();
    assert_eq!(failing(&clockwork), expected[1..]);
    clockwork.delete("stops").expect("it is deleted");
    assert_eq!(failing(&clockwork), []);
}

#[test]
fn few_of_many_failing_schedules_are_named() {
    let mut clockwork = Clockwork::new();
    let names: Vec<_> = (0..1002).map(|number| format!("s{number}")).collect();
    for name in &names {
        clockwork.put(name, &Plan::cron("* * * * *")).expect("it is accepted");
    }
    clockwork.run(60);
    for name in &names {
        clockwork.end_tick(name, START + 60, End::Failed);
    }
    clockwork.settle();
    let stats = stats(&clockwork);
    assert_eq!((stats.failing.len(), stats.failing_beyond), (1000, Some(1)));
}
