//! Leaders that are lost, and those that take over.

use super::clockwork::{Clockwork, End, Plan, START};
use crate::{CatchUp, Millis, Overlap};

const SCHEDULE: &str = "s";

fn outcomes(clockwork: &Clockwork) -> Vec<(i64, String)> {
    clockwork.outcomes(SCHEDULE)
}

#[test]
fn a_tick_whose_batch_was_lost_is_decided_again_and_one_that_landed_is_not() {
    for landed in [false, true] {
        let mut clockwork = Clockwork::new();
        clockwork.put(SCHEDULE, &Plan::cron("* * * * *").overlap(Overlap::Allow)).unwrap();
        clockwork.settle();
        clockwork.pass(60_000);
        clockwork.step();
        clockwork.crash(landed, 500);
        clockwork.settle();
        assert_eq!(outcomes(&clockwork), [(60, "fired".into())], "landed: {landed}");
        assert_eq!(clockwork.tasks().count(), 1);
    }
}

#[test]
fn a_new_leader_knows_what_runs_and_what_waits() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *").overlap(Overlap::QueueOne)).unwrap();
    clockwork.run(130);
    clockwork.crash(true, 1000);
    clockwork.run(60);
    let expected = [(60, "fired".into()), (120, "queued".into()), (180, "overlap".into())];
    assert_eq!(outcomes(&clockwork), expected);
    let running = clockwork.view(SCHEDULE).running;
    assert_eq!(running, clockwork.tasks().next().map(|spec| spec.id));
    // The task ends, and the leader is lost before the tick that waited is decided.
    clockwork.end_tick(SCHEDULE, START + 60, End::Completed);
    clockwork.step();
    clockwork.crash(true, 1000);
    clockwork.settle();
    assert_eq!(outcomes(&clockwork)[1], (120, "fired".into()));
}

#[test]
fn catching_up_goes_on_where_the_last_leader_was_lost() {
    let mut clockwork = Clockwork::new();
    let plan = Plan::cron("* * * * *").overlap(Overlap::Allow);
    clockwork.put(SCHEDULE, &plan.rules(|rules| rules.catch_up = CatchUp::All)).unwrap();
    clockwork.settle();
    clockwork.crash(true, 600_000);
    for landed in [true, false, true, false, false, true] {
        clockwork.step();
        clockwork.step();
        clockwork.step();
        clockwork.crash(landed, 10);
    }
    clockwork.settle();
    let fired: Vec<_> = (1..=10).map(|minute| (minute * 60, "fired".to_owned())).collect();
    assert_eq!(outcomes(&clockwork), fired);
    assert_eq!(clockwork.tasks().count(), 10);
}

#[test]
fn a_leader_without_anything_to_do_sleeps_until_the_next_tick() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("0 10 * * *")).unwrap();
    clockwork.settle();
    clockwork.crash(true, 0);
    clockwork.settle();
    let left = clockwork.machine.next_wakeup().unwrap();
    assert!(left <= Millis(3_600_000) && left > Millis(1000), "{left:?}");
    // Ends of tasks, triggers and pauses set no more timers.
    for _ in 0..100 {
        clockwork.trigger(SCHEDULE).unwrap();
        clockwork.pause(SCHEDULE, true).unwrap();
        clockwork.settle();
        clockwork.pause(SCHEDULE, false).unwrap();
        clockwork.settle();
    }
    assert!(clockwork.machine.dates.len() < 10, "{} timers", clockwork.machine.dates.len());
}

#[test]
fn a_tick_that_waits_is_decided_when_its_predecessor_expires_at_the_end_of_a_step() {
    let mut clockwork = Clockwork::new();
    let mut plan = Plan::cron("* * * * *").overlap(Overlap::QueueOne);
    plan.expires_after = Some(Millis(90_000));
    plan.queue = crate::machine::tests::say::name("nobody");
    clockwork.put(SCHEDULE, &plan).unwrap();
    clockwork.run(160);
    assert_eq!(outcomes(&clockwork), [(60, "fired".into()), (120, "fired".into())]);
}
