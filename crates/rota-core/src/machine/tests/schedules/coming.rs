//! Ids of ticks that are about to be due, and schedules that are removed before their turn.

use super::{
    super::say::name,
    clockwork::{Clockwork, Plan, START},
};
use crate::{CatchUp, WallTime, tick_id};

/// Short, because timers further ahead can be in a level of the wheel that is not looked at.
const AHEAD_MS: i64 = 3_000;

/// The ids of ticks that are due within [`AHEAD_MS`], sorted.
fn coming(clockwork: &mut Clockwork) -> Vec<String> {
    let now = clockwork.believed();
    let mut ids = clockwork.machine.coming_tick_ids(now, WallTime(now.0 + AHEAD_MS));
    ids.sort();
    ids.into_iter().map(|id| id.to_string()).collect()
}

fn id(schedule: &str, seconds: i64) -> String {
    let at = WallTime((START + seconds) * 1000);
    tick_id(&name(schedule), at).to_string()
}

#[test]
fn the_ids_of_ticks_that_are_due_soon_are_known_before() {
    let mut clockwork = Clockwork::new();
    assert_eq!(coming(&mut clockwork), [""; 0], "without schedules");
    for schedule in ["a", "b"] {
        clockwork.put(schedule, &Plan::cron("* * * * *")).unwrap();
    }
    clockwork.put("later", &Plan::cron("*/5 * * * *")).unwrap();
    clockwork.put("once", &Plan::cron("* * * * *").runs(1)).unwrap();
    clockwork.run(50);
    assert_eq!(coming(&mut clockwork), [""; 0], "ten seconds before");
    clockwork.run(8);
    assert_eq!(coming(&mut clockwork), [id("a", 60), id("b", 60), id("once", 60)]);
    clockwork.run(61);
    assert_eq!(coming(&mut clockwork), [id("a", 120), id("b", 120)], "one has completed");
    clockwork.delete("a").unwrap();
    assert_eq!(coming(&mut clockwork), [id("b", 120)]);
}

#[test]
fn a_schedule_that_is_removed_takes_no_other_out_of_the_queue_of_late_ones() {
    let mut clockwork = Clockwork::new();
    let plan = Plan::cron("* * * * *").rules(|rules| rules.catch_up = CatchUp::Last);
    for schedule in ["a", "b"] {
        clockwork.put(schedule, &plan).unwrap();
    }
    clockwork.settle();
    clockwork.crash(true, 330_000);
    clockwork.delete("a").unwrap();
    clockwork.settle();
    assert_eq!(clockwork.outcomes("b").last(), Some(&(300, "fired".to_owned())));
}
