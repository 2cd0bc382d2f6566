//! Ticks that could not be decided in time, and clocks that jump.

use super::clockwork::{Clockwork, End, Plan, START};
use crate::{CatchUp, Command, Millis, Overlap, WallTime};

const SCHEDULE: &str = "s";

fn expect(clockwork: &Clockwork, outcomes: &[(i64, &str)], what: &str) {
    let seen = clockwork.outcomes(SCHEDULE);
    let seen: Vec<_> = seen.iter().map(|(at, outcome)| (*at, outcome.as_str())).collect();
    assert_eq!(seen, outcomes, "{what}");
}

/// A schedule without a leader for some time, from the start.
fn down(plan: &Plan, seconds: u64) -> Clockwork {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, plan).unwrap();
    clockwork.settle();
    clockwork.crash(true, seconds * 1000);
    clockwork.settle();
    clockwork
}

#[test]
fn each_policy_decides_what_is_caught_up_on() {
    use CatchUp::{All, Last, None};
    // A tick each minute, and no leader for five and a half minutes.
    for (catch_up, window, most, outcomes) in [
        (Last, 86_400, 100, &[(60, "coalesced x4"), (300, "fired")][..]),
        (None, 86_400, 100, &[(60, "missed x5")]),
        (
            All,
            86_400,
            100,
            &[(60, "fired"), (120, "fired"), (180, "fired"), (240, "fired"), (300, "fired")],
        ),
        (All, 86_400, 2, &[(60, "missed x3"), (240, "fired"), (300, "fired")]),
        (All, 86_400, 0, &[(60, "missed x5")]),
        (All, 100, 100, &[(60, "missed x3"), (240, "fired"), (300, "fired")]),
        (Last, 100, 100, &[(60, "missed x3"), (240, "coalesced"), (300, "fired")]),
        (Last, 20, 100, &[(60, "missed x5")]),
    ] {
        let plan = Plan::cron("* * * * *").overlap(Overlap::Allow).rules(|rules| {
            rules.catch_up = catch_up;
            rules.catch_up_window = Millis(window * 1000);
            rules.catch_up_max = most;
        });
        let clockwork = down(&plan, 330);
        expect(&clockwork, outcomes, &format!("{catch_up:?}, {window} s, {most}"));
    }
}

#[test]
fn the_last_missed_tick_is_kept_through_a_crash_and_until_a_newer_one() {
    let missed = |clockwork: &Clockwork| {
        let missed = clockwork.view(SCHEDULE).state.last_missed;
        missed.map(|missed| (missed.nominal.0 / 1000 - START, missed.outcome().to_string()))
    };
    let plan = Plan::cron("* * * * *").rules(|rules| {
        rules.catch_up = CatchUp::All;
        rules.catch_up_max = 2;
    });
    let mut clockwork = down(&plan, 330);
    assert_eq!(missed(&clockwork), Some((180, "missed".into())));
    clockwork.crash(true, 1000);
    clockwork.pause(SCHEDULE, true).unwrap();
    clockwork.run(120);
    clockwork.pause(SCHEDULE, false).unwrap();
    clockwork.run(120);
    assert_eq!(missed(&clockwork), Some((180, "missed".into())), "skipped ticks do not count");
    clockwork.live().into_iter().for_each(|task| clockwork.end(task, End::Completed));
    clockwork.machine.note_store_full(true);
    clockwork.run(60);
    let full = missed(&clockwork).unwrap();
    assert_eq!(full, (600, "refused (store_full)".into()));
    clockwork.crash(true, 1000);
    assert_eq!(missed(&clockwork), Some(full));
}

#[test]
fn a_tick_within_ten_seconds_is_not_late() {
    for (catch_up, outcomes) in [
        (CatchUp::None, [(60, "fired")]),
        (CatchUp::Last, [(60, "fired")]),
        (CatchUp::All, [(60, "fired")]),
    ] {
        let plan = Plan::cron("* * * * *").rules(|rules| {
            rules.catch_up = catch_up;
            rules.catch_up_window = Millis(0);
            rules.catch_up_max = 0;
        });
        expect(&down(&plan, 70), &outcomes, &format!("{catch_up:?}"));
    }
}

#[test]
fn only_the_last_of_many_ticks_fires_although_the_newest_are_in_time() {
    let clockwork = down(&Plan::cron("* * * * * *").overlap(Overlap::Allow), 3000);
    expect(&clockwork, &[(1, "coalesced x2999"), (3000, "fired")], "each second");
    let plan = Plan::cron("* * * * * *").overlap(Overlap::Allow).rules(|rules| {
        rules.catch_up = CatchUp::All;
        rules.catch_up_max = 3;
    });
    let clockwork = down(&plan, 300);
    let outcomes = clockwork.outcomes(SCHEDULE);
    // The last three are among those that are in time.
    assert_eq!(outcomes[0], (1, "missed x289".into()));
    assert!(outcomes[1..].iter().all(|(_, outcome)| outcome == "fired"), "{outcomes:?}");
    assert_eq!(outcomes.len(), 12);
}

#[test]
fn a_tick_to_skip_stands_for_no_other() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *")).unwrap();
    clockwork.skip(SCHEDULE, WallTime((START + 180) * 1000)).unwrap();
    clockwork.settle();
    clockwork.crash(true, 200_000);
    clockwork.settle();
    expect(&clockwork, &[(60, "coalesced"), (120, "fired"), (180, "by_request")], "");
}

#[test]
fn exclusions_count_as_no_tick_to_catch_up_on() {
    let mut plan = Plan::cron("* * * * *").overlap(Overlap::Allow);
    plan.spec.exclude.expressions.push("3-59 * * * *".into());
    let plan = plan.rules(|rules| {
        rules.catch_up = CatchUp::All;
        rules.catch_up_max = 2;
    });
    let clockwork = down(&plan, 3600);
    expect(
        &clockwork,
        &[(60, "missed"), (120, "fired"), (180, "exclusion x57"), (3600, "fired")],
        "",
    );
}

#[test]
fn thousands_of_missed_ticks_take_bounded_steps() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * * *")).unwrap();
    clockwork.settle();
    clockwork.crash(true, 20_000_000);
    let mut steps = 0;
    while clockwork.machine.next_wakeup() == Some(Millis(0)) {
        clockwork.step();
        steps += 1;
        assert!(clockwork.view(SCHEDULE).state.cursor.0 <= (START + steps * 1000) * 1000);
    }
    assert_eq!(steps, 21, "1000 ticks each, and one step to read the owner of the last");
    clockwork.settle();
    expect(&clockwork, &[(1, "coalesced x19999"), (20_000, "fired")], "");
}

#[test]
fn a_clock_that_is_set_back_repeats_nothing() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *").overlap(Overlap::Allow)).unwrap();
    clockwork.run(130);
    clockwork.set_wall_by(-300_000);
    clockwork.run(300);
    expect(&clockwork, &[(60, "fired"), (120, "fired")], "it is that time again");
    clockwork.run(60);
    expect(&clockwork, &[(60, "fired"), (120, "fired"), (180, "fired")], "");
}

#[test]
fn a_clock_that_jumps_a_day_ahead_moves_nothing_until_it_is_believed() {
    const DAY: u64 = 86_400_000;
    for believe in [false, true] {
        let mut clockwork = Clockwork::new();
        clockwork.put(SCHEDULE, &Plan::cron("0 * * * *").overlap(Overlap::Allow)).unwrap();
        clockwork.run(10);
        clockwork.ahead = DAY;
        clockwork.set_wall_by(DAY.cast_signed());
        clockwork.run(100);
        expect(&clockwork, &[], "nobody believes it");
        // Commands meanwhile do not believe it either.
        clockwork.put("other", &Plan::cron("0 * * * *")).unwrap();
        clockwork.pause(SCHEDULE, true).unwrap();
        clockwork.pause(SCHEDULE, false).unwrap();
        clockwork.run(1);
        clockwork.ahead = 0;
        if believe {
            // The next tick is due long before the timer that was set while it was not.
            clockwork.settle();
            expect(&clockwork, &[(3600, "coalesced x23"), (86_400, "fired")], "believed");
            continue;
        }
        clockwork.set_wall_by(-DAY.cast_signed());
        clockwork.run(7200);
        expect(&clockwork, &[(3600, "fired"), (7200, "fired")], "it was set right");
        assert_eq!(clockwork.outcomes("other").len(), 2);
    }
}

#[test]
fn jitter_delays_a_tick_by_the_same_time_and_never_past_the_next() {
    let plan = Plan::cron("* * * * *").overlap(Overlap::Allow);
    let plan = plan.rules(|rules| rules.jitter = Millis(3_600_000));
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut clockwork = Clockwork::new();
        clockwork.put(SCHEDULE, &plan).unwrap();
        clockwork.run(600);
        let delays: Vec<_> = clockwork
            .tasks()
            .map(|spec| {
                let nominal = spec.tick.as_ref().and_then(|tick| tick.nominal).unwrap();
                spec.created_at.0 - nominal.0
            })
            .collect();
        runs.push(delays);
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].iter().all(|delay| (0..60_000).contains(delay)), "{:?}", runs[0]);
    assert!(runs[0].iter().any(|delay| *delay > 10_000), "{:?}", runs[0]);
    assert!(runs[0].len() >= 9);
}

/// A new leader, or one whose process stood still, has 600 ticks before it that came meanwhile, and one that comes now.
#[test]
fn late_ticks_come_behind_those_in_time() {
    // The late ones are 59 minutes late, or 5 seconds.
    for (late, live, away, is_new) in [
        ("0 * * * *", "59 10 * * *", 3600 + 59 * 60, true),
        ("0 11 * * *", "5 0 11 * * *", 2 * 3600 + 5, true),
        ("0 11 * * *", "5 0 11 * * *", 2 * 3600 + 5, false),
    ] {
        let mut clockwork = Clockwork::new();
        for number in 0..600 {
            clockwork.put(&format!("late-{number}"), &Plan::cron(late)).unwrap();
        }
        clockwork.put("live", &Plan::cron(live)).unwrap();
        clockwork.settle();
        if is_new {
            clockwork.crash(true, away * 1000);
        } else {
            clockwork.pass(away * 1000);
        }
        // The first step reads the owner of its id before it decides.
        clockwork.step();
        clockwork.step();
        let fired = |clockwork: &Clockwork| {
            clockwork.durable.ticks.keys().filter(|(name, _)| name.starts_with("late")).count()
        };
        assert_eq!(clockwork.outcomes("live").len(), 1, "it is in time");
        assert!(fired(&clockwork) <= 256, "{} at once", fired(&clockwork));
        clockwork.run(1);
        assert_eq!(fired(&clockwork), 600);
        let command = Command::DeleteSchedule {
            schedule: crate::machine::tests::say::name("late-1"),
            if_version: Some(1),
        };
        clockwork.apply(command).unwrap();
    }
}
