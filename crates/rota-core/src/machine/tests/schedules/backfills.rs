//! Tasks of past ticks.

use super::clockwork::{Clockwork, End, Plan, START};
use crate::{
    Backfill, BackfillOrder, BackfillScope, Command, Millis, Name, Overlap, Priority, Refusal,
    Reply, TaskId, WallTime, backfill_id, machine::tests::say::name,
};

const SCHEDULE: &str = "s";

fn at(seconds: i64) -> WallTime {
    WallTime((START + seconds) * 1000)
}

fn backfill(from: i64, to: i64) -> Backfill {
    Backfill {
        from: at(from),
        to: at(to),
        cursor: WallTime(0),
        priority: None,
        order: BackfillOrder::Parallel,
        interval: Millis(0),
        next_at: WallTime(0),
        scope: BackfillScope::Missing,
        last_task: None,
        created: 0,
        present: 0,
        refused: 0,
    }
}

fn begin(clockwork: &mut Clockwork, backfill: Option<Backfill>) -> Result<Reply, Refusal> {
    let backfill = backfill.map(Box::new);
    clockwork.apply(Command::Backfill { schedule: name(SCHEDULE), backfill })
}

/// The seconds of the ticks that were backfilled, with their tasks.
fn backfilled(clockwork: &Clockwork) -> Vec<(i64, TaskId)> {
    let schedule = name(SCHEDULE);
    let tasks = clockwork.tasks().filter_map(|spec| {
        let nominal = spec.tick.as_ref()?.nominal?;
        let is_own = spec.client_keys.id == Some(backfill_id(&schedule, nominal));
        is_own.then_some((nominal.0 / 1000 - START, spec.id))
    });
    tasks.collect()
}

fn times(clockwork: &Clockwork) -> Vec<i64> {
    backfilled(clockwork).into_iter().map(|(at, _)| at).collect()
}

/// A schedule with a tick each minute that was down from 60 s on: the ticks at 60 and 300 have tasks.
fn with_missing() -> Clockwork {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *").overlap(Overlap::Allow)).unwrap();
    clockwork.run(65);
    clockwork.crash(true, 240_000);
    clockwork.settle();
    let expected = [(60, "fired".into()), (120, "coalesced x3".into()), (300, "fired".into())];
    assert_eq!(clockwork.outcomes(SCHEDULE), expected);
    clockwork
}

#[test]
fn missing_ticks_get_tasks_and_all_ticks_if_asked() {
    for (range, scope, expected) in [
        ((60, 300), BackfillScope::Missing, &[120, 180, 240][..]),
        ((121, 239), BackfillScope::Missing, &[180]),
        ((60, 300), BackfillScope::All, &[60, 120, 180, 240, 300]),
        // Before it was created, and never beyond now.
        ((-120, 0), BackfillScope::Missing, &[-120, -60, 0]),
        ((240, 10_000), BackfillScope::Missing, &[240]),
        ((301, 302), BackfillScope::All, &[]),
        ((300, 60), BackfillScope::All, &[]),
    ] {
        let mut clockwork = with_missing();
        let wanted = Backfill { scope, ..backfill(range.0, range.1) };
        begin(&mut clockwork, Some(wanted)).unwrap();
        clockwork.settle();
        assert_eq!(times(&clockwork), expected, "{range:?} {scope:?}");
        assert_eq!(clockwork.view(SCHEDULE).state.backfill, None);
        // Again: all are there.
        begin(&mut clockwork, Some(Backfill { scope, ..backfill(range.0, range.1) })).unwrap();
        clockwork.settle();
        assert_eq!(times(&clockwork), expected, "{range:?} {scope:?}, again");
    }
}

#[test]
fn a_backfill_leaves_the_schedule_alone() {
    let mut clockwork = with_missing();
    let before = clockwork.view(SCHEDULE).state;
    let outcomes = clockwork.outcomes(SCHEDULE);
    let priority = Priority::new(9);
    begin(&mut clockwork, Some(Backfill { priority, ..backfill(-60, 240) })).unwrap();
    clockwork.settle();
    for (_, task) in backfilled(&clockwork) {
        assert_eq!(clockwork.durable.live[&task].priority.level(), 9);
        clockwork.end(task, End::Failed);
    }
    clockwork.settle();
    assert_eq!(clockwork.view(SCHEDULE).state, before);
    assert_eq!(clockwork.outcomes(SCHEDULE), outcomes);
    let told: Vec<_> = backfilled(&clockwork)
        .iter()
        .map(|(_, task)| clockwork.durable.specs[task].tick.as_ref().unwrap().previous)
        .collect();
    let expected = [None, Some(at(-60)), Some(at(60)), Some(at(120)), Some(at(180))];
    assert_eq!(told, expected, "the tick before in the range");
}

#[test]
fn one_by_one_waits_for_the_end_of_each_and_an_interval_for_its_time() {
    let mut clockwork = with_missing();
    let order = BackfillOrder::OneByOne;
    begin(&mut clockwork, Some(Backfill { order, ..backfill(120, 240) })).unwrap();
    for number in 1..=3 {
        clockwork.run(5);
        let tasks = backfilled(&clockwork);
        assert_eq!(tasks.len(), number);
        let end = if number == 2 { End::Failed } else { End::Completed };
        if number == 1 {
            // A new leader waits as well.
            clockwork.crash(true, 1000);
            clockwork.run(5);
            assert_eq!(backfilled(&clockwork).len(), 1);
        }
        clockwork.end(tasks[number - 1].1, end);
    }
    clockwork.run(1);
    assert_eq!(clockwork.view(SCHEDULE).state.backfill, None);

    let mut clockwork = with_missing();
    let interval = Millis(10_000);
    begin(&mut clockwork, Some(Backfill { interval, ..backfill(120, 240) })).unwrap();
    for expected in [1, 2, 3] {
        clockwork.run(9);
        assert_eq!(backfilled(&clockwork).len(), expected);
        clockwork.run(1);
    }
    clockwork.run(1);
    assert_eq!(clockwork.view(SCHEDULE).state.backfill, None);
}

#[test]
fn only_one_at_a_time_and_it_can_be_cancelled() {
    let mut clockwork = with_missing();
    let order = BackfillOrder::OneByOne;
    let one_by_one = Backfill { order, ..backfill(120, 240) };
    assert_eq!(begin(&mut clockwork, None), Err(Refusal::NoBackfill));
    begin(&mut clockwork, Some(one_by_one.clone())).unwrap();
    clockwork.run(1);
    let under_way = clockwork.view(SCHEDULE).state.backfill.unwrap();
    assert_eq!((under_way.created, under_way.present, under_way.refused), (1, 0, 0));
    assert_eq!(begin(&mut clockwork, Some(one_by_one)), Err(Refusal::BackfillUnderWay));
    begin(&mut clockwork, None).unwrap();
    clockwork.end(backfilled(&clockwork)[0].1, End::Completed);
    clockwork.run(1);
    assert_eq!(times(&clockwork), [120], "the task that there was goes on, and no other begins");
}

#[test]
fn paused_and_completed_schedules_are_backfilled() {
    let mut clockwork = with_missing();
    clockwork.pause(SCHEDULE, true).unwrap();
    begin(&mut clockwork, Some(backfill(120, 240))).unwrap();
    clockwork.settle();
    assert_eq!(times(&clockwork), [120, 180, 240]);

    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *").overlap(Overlap::Allow).runs(1)).unwrap();
    clockwork.run(200);
    assert!(clockwork.view(SCHEDULE).state.completed);
    begin(&mut clockwork, Some(backfill(0, 180))).unwrap();
    clockwork.settle();
    assert_eq!(times(&clockwork), [0, 120, 180]);
}

#[test]
fn what_is_excluded_is_passed_over_and_what_waits_is_present() {
    let mut clockwork = Clockwork::new();
    let mut plan = Plan::cron("* * * * *").overlap(Overlap::QueueAll);
    plan.spec.exclude.expressions.push("1 * * * *".into());
    clockwork.put(SCHEDULE, &plan).unwrap();
    clockwork.run(190);
    let queued = clockwork.view(SCHEDULE).state.queued;
    assert_eq!(queued, [at(180)]);
    begin(&mut clockwork, Some(backfill(0, 180))).unwrap();
    clockwork.settle();
    assert_eq!(times(&clockwork), [0]);
}

#[test]
fn a_backfill_waits_for_room_in_the_queue() {
    let limits = crate::MachineLimits { queue_length_max: 1, ..Default::default() };
    let mut clockwork = Clockwork::with_limits(limits);
    clockwork.put(SCHEDULE, &Plan::cron("0 0 1 1 *")).unwrap();
    clockwork.trigger(SCHEDULE).unwrap();
    clockwork.settle();
    let year = 365 * 86_400;
    begin(&mut clockwork, Some(backfill(-year, 0))).unwrap();
    clockwork.run(5);
    assert_eq!(times(&clockwork), [] as [i64; 0]);
    let manual = clockwork.tasks().next().unwrap().id;
    clockwork.end(manual, End::Completed);
    clockwork.run(2);
    assert_eq!(backfilled(&clockwork).len(), 1);
}

#[test]
fn a_range_of_thousands_takes_bounded_steps_and_a_crash_repeats_none() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *").overlap(Overlap::Allow)).unwrap();
    clockwork.settle();
    begin(&mut clockwork, Some(backfill(-60 * 300, -60))).unwrap();
    for number in 0..40 {
        for _ in 0..9 {
            clockwork.step();
        }
        clockwork.crash(number % 3 > 0, 1);
    }
    clockwork.settle();
    let ids: Vec<Name> = clockwork.tasks().filter_map(|spec| spec.client_keys.id.clone()).collect();
    assert_eq!(ids.len(), 300);
    assert_eq!(times(&clockwork), (-300..0).map(|minute| minute * 60).collect::<Vec<_>>());
}
