//! What clients do with schedules and calendars.

use super::clockwork::{Clockwork, End, Plan, START};
use crate::{
    CalendarRecord, Change, Command, Overlap, Pause, Refusal, Reply, WallTime,
    machine::tests::say::name,
};

const SCHEDULE: &str = "s";

fn expect(clockwork: &Clockwork, outcomes: &[(i64, &str)], what: &str) {
    let seen = clockwork.outcomes(SCHEDULE);
    let seen: Vec<_> = seen.iter().map(|(at, outcome)| (*at, outcome.as_str())).collect();
    assert_eq!(seen, outcomes, "{what}");
}

fn at(seconds: i64) -> WallTime {
    WallTime((START + seconds) * 1000)
}

fn schedule(change: Change, version: u32) -> Result<Reply, Refusal> {
    Ok(Reply::Schedule { version, change })
}

#[test]
fn a_schedule_begins_at_its_creation_and_the_same_again_changes_nothing() {
    let mut clockwork = Clockwork::new();
    let plan = Plan::cron("* * * * *").overlap(Overlap::Allow);
    assert_eq!(clockwork.put(SCHEDULE, &plan), schedule(Change::Created, 1));
    clockwork.run(90);
    assert_eq!(clockwork.put(SCHEDULE, &plan), schedule(Change::None, 1));
    clockwork.run(40);
    expect(&clockwork, &[(60, "fired"), (120, "fired")], "");
    assert_eq!(clockwork.view(SCHEDULE).next, Some(at(180)));
}

#[test]
fn other_times_begin_now_and_other_rules_keep_the_cursor() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *")).unwrap();
    clockwork.settle();
    // The tick is due in the step in which the times change.
    clockwork.pass(60_500);
    let other = Plan::cron("*/2 * * * *");
    assert_eq!(clockwork.put(SCHEDULE, &other), schedule(Change::Replaced, 2));
    clockwork.settle();
    expect(&clockwork, &[(60, "by_request")], "the old times give way");
    clockwork.run(60);
    expect(&clockwork, &[(60, "by_request"), (120, "fired")], "the new times hold");
    // Other rules only: the tick that is due is decided by them.
    clockwork.pass(120_000);
    clockwork.put(SCHEDULE, &other.overlap(Overlap::Allow)).unwrap();
    clockwork.settle();
    expect(&clockwork, &[(60, "by_request"), (120, "fired"), (240, "fired")], "");
}

#[test]
fn versions_are_compared() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *")).unwrap();
    let delete =
        |version| Command::DeleteSchedule { schedule: name(SCHEDULE), if_version: Some(version) };
    let refusal = Refusal::ScheduleVersion { wanted: 2, version: 1 };
    assert_eq!(clockwork.apply(delete(2)), Err(refusal));
    assert_eq!(clockwork.apply(delete(1)), Ok(Reply::Done));
    assert_eq!(clockwork.apply(delete(1)), Err(Refusal::UnknownSchedule));
}

#[test]
fn nothing_fires_late_after_a_pause() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *").overlap(Overlap::QueueAll)).unwrap();
    clockwork.run(130);
    expect(&clockwork, &[(60, "fired"), (120, "queued")], "one waits");
    clockwork.pause(SCHEDULE, true).unwrap();
    clockwork.end_tick(SCHEDULE, START + 60, End::Completed);
    clockwork.run(120);
    clockwork.pause(SCHEDULE, false).unwrap();
    clockwork.run(60);
    expect(
        &clockwork,
        &[(60, "fired"), (120, "paused"), (180, "paused x2"), (300, "fired")],
        "what waited is over, too",
    );
    assert_eq!(clockwork.pause(SCHEDULE, false), schedule(Change::None, 1));
}

#[test]
fn failures_in_a_row_pause_a_schedule() {
    for (ends, paused) in [
        ([End::Failed, End::Failed, End::Failed], true),
        ([End::Failed, End::Completed, End::Failed], false),
        ([End::Failed, End::Cancelled, End::Failed], false),
        ([End::Cancelled, End::Failed, End::Failed], true),
    ] {
        let mut clockwork = Clockwork::new();
        let plan = Plan::cron("* * * * *").rules(|rules| rules.pause_on_failure = 2);
        clockwork.put(SCHEDULE, &plan).unwrap();
        for (number, end) in (1..).zip(ends) {
            clockwork.run(60);
            if clockwork.view(SCHEDULE).state.pause.is_none() {
                clockwork.end_tick(SCHEDULE, START + 60 * number, end);
            }
        }
        clockwork.run(1);
        let state = clockwork.view(SCHEDULE).state;
        // A cancelled task is neither a failure nor a success.
        let paused = paused || ends == [End::Failed, End::Cancelled, End::Failed];
        assert_eq!(state.pause.is_some(), paused, "{ends:?}");
        clockwork.pause(SCHEDULE, false).unwrap();
        clockwork.run(1);
        let failures = clockwork.view(SCHEDULE).state.failures;
        assert_eq!(failures, if paused { 0 } else { 1 }, "{ends:?}");
    }
}

#[test]
fn one_coming_tick_is_skipped() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *").overlap(Overlap::Allow)).unwrap();
    for none in [at(0), at(61), WallTime(at(60).0 + 1), WallTime(i64::MIN), WallTime(i64::MAX)] {
        assert_eq!(clockwork.skip(SCHEDULE, none), Err(Refusal::NoSuchTick { nominal: none }));
    }
    assert_eq!(clockwork.skip(SCHEDULE, at(60)), schedule(Change::Replaced, 1));
    assert_eq!(clockwork.skip(SCHEDULE, at(60)), schedule(Change::None, 1));
    assert_eq!(clockwork.view(SCHEDULE).next, Some(at(120)));
    clockwork.run(125);
    expect(&clockwork, &[(60, "by_request"), (120, "fired")], "");
    assert!(clockwork.view(SCHEDULE).state.to_skip.is_empty());
    // What is skipped for another reason is forgotten as well.
    clockwork.skip(SCHEDULE, at(180)).unwrap();
    clockwork.pause(SCHEDULE, true).unwrap();
    clockwork.run(200);
    assert!(clockwork.view(SCHEDULE).state.to_skip.is_empty());
}

#[test]
fn a_schedule_completes_with_its_last_run() {
    for (overlap, outcomes) in [
        (Overlap::Allow, &[(60, "fired"), (120, "fired")][..]),
        (Overlap::QueueAll, &[(60, "fired"), (120, "fired"), (180, "overlap x3")]),
        (Overlap::Skip, &[(60, "fired"), (120, "overlap x4")]),
    ] {
        let mut clockwork = Clockwork::new();
        let plan = Plan::cron("* * * * *").overlap(overlap).runs(2);
        clockwork.put(SCHEDULE, &plan).unwrap();
        clockwork.run(330);
        if overlap == Overlap::QueueAll {
            clockwork.end_tick(SCHEDULE, START + 60, End::Completed);
            clockwork.run(1);
        }
        expect(&clockwork, outcomes, &format!("{overlap:?}"));
        let state = clockwork.view(SCHEDULE).state;
        let left = u64::from(overlap == Overlap::Skip);
        assert_eq!((state.completed, state.runs_left), (left == 0, Some(left)));
    }
}

#[test]
fn a_completed_schedule_with_more_runs_begins_now() {
    let mut clockwork = Clockwork::new();
    let plan = Plan::cron("* * * * *").overlap(Overlap::Allow);
    clockwork.put(SCHEDULE, &plan.clone().runs(1)).unwrap();
    clockwork.run(600);
    assert_eq!(clockwork.view(SCHEDULE).next, None);
    clockwork.put(SCHEDULE, &plan.runs(2)).unwrap();
    clockwork.run(200);
    expect(&clockwork, &[(60, "fired"), (660, "fired"), (720, "fired")], "");
    assert!(clockwork.view(SCHEDULE).state.completed);
}

#[test]
fn a_lower_limit_ends_ticks_that_wait() {
    let mut clockwork = Clockwork::new();
    let plan = Plan::cron("* * * * *").overlap(Overlap::QueueAll);
    clockwork.put(SCHEDULE, &plan).unwrap();
    clockwork.run(250);
    clockwork.put(SCHEDULE, &plan.runs(1)).unwrap();
    clockwork.end_tick(SCHEDULE, START + 60, End::Completed);
    clockwork.run(1);
    expect(
        &clockwork,
        &[(60, "fired"), (120, "fired"), (180, "by_request"), (240, "by_request")],
        "",
    );
    assert!(clockwork.view(SCHEDULE).state.completed);
}

#[test]
fn a_schedule_completes_at_the_end_of_its_times() {
    let mut clockwork = Clockwork::new();
    let mut plan = Plan::cron("* * * * *").overlap(Overlap::Allow);
    plan.spec.end = Some("2026-11-27T09:02:00Z".into());
    clockwork.put(SCHEDULE, &plan).unwrap();
    clockwork.run(200);
    expect(&clockwork, &[(60, "fired"), (120, "fired")], "");
    assert!(clockwork.view(SCHEDULE).state.completed);
    // Other times begin now, and not where it ended.
    plan.spec.end = Some("2026-11-27T09:05:00Z".into());
    clockwork.put(SCHEDULE, &plan).unwrap();
    clockwork.run(200);
    expect(&clockwork, &[(60, "fired"), (120, "fired"), (240, "fired"), (300, "fired")], "");
}

#[test]
fn no_tick_of_a_deleted_schedule_waits_forever() {
    let mut clockwork = Clockwork::new();
    let plan = Plan::cron("* * * * *").overlap(Overlap::QueueAll);
    clockwork.put(SCHEDULE, &plan).unwrap();
    clockwork.run(190);
    clockwork.delete(SCHEDULE).unwrap();
    clockwork.run(5);
    let outcomes = [(60, "fired"), (120, "by_request"), (180, "by_request")];
    expect(&clockwork, &outcomes, "deleted");
    assert_eq!(clockwork.trigger(SCHEDULE), Err(Refusal::UnknownSchedule));
    // Its last task ends after another schedule took the name.
    let plan = plan.rules(|rules| rules.pause_on_failure = 1);
    clockwork.put(SCHEDULE, &plan).unwrap();
    clockwork.end_tick(SCHEDULE, START + 60, End::Failed);
    clockwork.run(1);
    assert_eq!(clockwork.view(SCHEDULE).state.failures, 0);
}

#[test]
fn no_task_is_triggered_with_an_id_whose_owner_is_not_known() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("0 0 1 1 *")).unwrap();
    clockwork.settle();
    let before = clockwork.view(SCHEDULE).state.manual;
    let Clockwork { machine, ids, .. } = &mut clockwork;
    assert_eq!(machine.trigger(&name(SCHEDULE), ids, |_| None), Ok(None));
    assert_eq!(clockwork.view(SCHEDULE).state.manual, before);
    assert!(clockwork.trigger(SCHEDULE).is_ok());
}

#[test]
fn numbers_of_triggered_tasks_go_on_after_those_of_a_deleted_schedule() {
    let mut clockwork = Clockwork::new();
    let plan = Plan::cron("0 0 1 1 *");
    clockwork.put(SCHEDULE, &plan).unwrap();
    for _ in 0..10 {
        clockwork.trigger(SCHEDULE).unwrap();
        clockwork.settle();
    }
    clockwork.delete(SCHEDULE).unwrap();
    clockwork.put(SCHEDULE, &plan).unwrap();
    clockwork.settle();
    let reason = crate::RefusedReason::Conflict;
    assert_eq!(clockwork.machine.manual_ids(&name(SCHEDULE)).len(), 8);
    assert_eq!(clockwork.trigger(SCHEDULE), Err(Refusal::CannotTrigger { reason }));
    clockwork.settle();
    assert!(clockwork.trigger(SCHEDULE).is_ok(), "it goes on behind the ids that are taken");
    clockwork.settle();
    assert_eq!(clockwork.view(SCHEDULE).state.manual, 11);
}

fn calendar(days: &str) -> Command {
    let entry = rota_cron::CalendarEntry { days: days.into(), note: String::new() };
    let days = rota_cron::Calendar::new(&[entry]).expect("a calendar");
    let record = CalendarRecord {
        name: name("holidays"),
        calendar: days.into(),
        description: None,
        created_at: WallTime(0),
        updated_at: WallTime(0),
        version: 0,
    };
    Command::PutCalendar { record: Box::new(record), if_version: None }
}

#[test]
fn a_calendar_changes_the_ticks_to_come() {
    let mut clockwork = Clockwork::new();
    let mut plan = Plan::cron("0 10 * * *").overlap(Overlap::Allow);
    plan.spec
        .exclude
        .calendars
        .push(rota_cron::CalendarRule { name: "holidays".into(), ..Default::default() });
    let unknown = Refusal::UnknownCalendar { calendar: "holidays".into() };
    assert_eq!(clockwork.put(SCHEDULE, &plan), Err(unknown));
    assert_eq!(clockwork.apply(calendar("2026-11-28")), schedule(Change::Created, 1));
    assert_eq!(clockwork.apply(calendar("2026-11-28")), schedule(Change::None, 1));
    clockwork.put(SCHEDULE, &plan).unwrap();
    clockwork.run(2 * 86_400);
    expect(&clockwork, &[(3600, "fired"), (90_000, "exclusion")], "");
    assert_eq!(clockwork.apply(calendar("2026-11-29")), schedule(Change::Replaced, 2));
    let put_at = |days, version| match calendar(days) {
        Command::PutCalendar { record, .. } => {
            Command::PutCalendar { record, if_version: Some(version) }
        }
        other => other,
    };
    let conflict = |wanted| Err(Refusal::ScheduleVersion { wanted, version: 2 });
    // A client that got no answer says the same again.
    assert_eq!(clockwork.apply(put_at("2026-11-29", 1)), schedule(Change::None, 2));
    assert_eq!(clockwork.apply(put_at("2026-11-30", 1)), conflict(1), "this is another change");
    assert_eq!(clockwork.apply(put_at("2026-11-29", 0)), conflict(0), "it must not exist");
    clockwork.run(2 * 86_400);
    let outcomes = [(3600, "fired"), (90_000, "exclusion x2"), (262_800, "fired")];
    expect(&clockwork, &outcomes, "");
    let delete = Command::DeleteCalendar { calendar: name("holidays"), if_version: None };
    let in_use = Refusal::CalendarInUse { schedule: name(SCHEDULE) };
    assert_eq!(clockwork.apply(delete.clone()), Err(in_use));
    // A crash keeps it.
    clockwork.crash(true, 86_400_000);
    clockwork.settle();
    assert_eq!(clockwork.outcomes(SCHEDULE).last(), Some(&(349_200, "fired".into())));
    clockwork.delete(SCHEDULE).unwrap();
    assert_eq!(clockwork.apply(delete), Ok(Reply::Done));
}

#[test]
fn a_pause_says_who_and_why() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *")).unwrap();
    for note in ["upgrade", "upgrade, second day"] {
        let pause = Pause {
            at: clockwork.now.wall,
            by: "ada@host".into(),
            note: note.into(),
            on_failure: false,
        };
        let schedule = name(SCHEDULE);
        let command = Command::PauseSchedule { schedule, pause: Some(pause.clone()) };
        clockwork.apply(command).unwrap();
        clockwork.run(1);
        assert_eq!(clockwork.view(SCHEDULE).state.pause, Some(Box::new(pause)));
    }
}
