//! What becomes of a tick while the task of an earlier one runs.

use super::clockwork::{Clockwork, End, Plan, START};
use crate::{Overlap, Priority, Status, TaskCommand, WallTime, machine::tests::say::name, tick_id};

const SCHEDULE: &str = "s";

/// Plays a schedule with a tick each minute. Tasks end as said: when, the tick, and how.
fn play(plan: &Plan, ends: &[(u64, i64, End)], seconds: u64) -> Clockwork {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, plan).unwrap();
    let mut now = 0;
    for (at, tick, end) in ends {
        clockwork.run(at - now);
        clockwork.end_tick(SCHEDULE, START + tick, *end);
        now = *at;
    }
    clockwork.run(seconds - now);
    clockwork
}

fn expect(clockwork: &Clockwork, outcomes: &[(i64, &str)], what: &str) {
    let seen = clockwork.outcomes(SCHEDULE);
    let seen: Vec<_> = seen.iter().map(|(at, outcome)| (*at, outcome.as_str())).collect();
    assert_eq!(seen, outcomes, "{what}");
}

#[test]
fn each_policy_decides_what_happens_while_a_task_runs() {
    use End::{Completed as Done, Failed};
    // A tick each minute, and nothing ends by itself.
    for (overlap, ends, outcomes) in [
        (Overlap::Skip, &[][..], &[(60, "fired"), (120, "overlap x4")][..]),
        (
            Overlap::Skip,
            &[(150, 60, Done), (200, 180, Failed)],
            &[(60, "fired"), (120, "overlap"), (180, "fired"), (240, "fired"), (300, "overlap")],
        ),
        (Overlap::QueueOne, &[], &[(60, "fired"), (120, "queued"), (180, "overlap x3")]),
        (
            Overlap::QueueOne,
            &[(190, 60, Done), (250, 120, Done)],
            &[(60, "fired"), (120, "fired"), (180, "overlap"), (240, "fired"), (300, "queued")],
        ),
        (
            Overlap::QueueAll,
            &[],
            &[(60, "fired"), (120, "queued"), (180, "queued"), (240, "queued"), (300, "queued")],
        ),
        (
            Overlap::QueueAll,
            &[(200, 60, Done), (201, 120, Failed), (310, 180, Done)],
            &[(60, "fired"), (120, "fired"), (180, "fired"), (240, "fired"), (300, "queued")],
        ),
        // The worker stops at once.
        (
            Overlap::CancelRunning,
            &[],
            &[(60, "fired"), (120, "fired"), (180, "fired"), (240, "fired"), (300, "fired")],
        ),
        (
            Overlap::Allow,
            &[],
            &[(60, "fired"), (120, "fired"), (180, "fired"), (240, "fired"), (300, "fired")],
        ),
    ] {
        let clockwork = play(&Plan::cron("* * * * *").overlap(overlap), ends, 330);
        expect(&clockwork, outcomes, &format!("{overlap:?} {ends:?}"));
    }
}

#[test]
fn a_running_task_is_cancelled_for_the_next_tick_and_counts_as_no_failure() {
    let plan = Plan::cron("* * * * *").overlap(Overlap::CancelRunning);
    let plan = plan.rules(|rules| rules.pause_on_failure = 1);
    let clockwork = play(&plan, &[], 200);
    let statuses: Vec<_> = clockwork.tasks().map(|spec| clockwork.status(spec.id)).collect();
    let cancelled = Some(Status::Cancelled);
    assert_eq!(statuses, [cancelled, cancelled, Some(Status::Assigned)]);
    assert_eq!(clockwork.view(SCHEDULE).state.failures, 0);
}

#[test]
fn a_tick_that_cancels_waits_until_the_task_has_ended_and_gives_way_to_newer_ones() {
    let mut clockwork = Clockwork::new();
    clockwork.obeys = false;
    let plan = Plan::cron("* * * * *").overlap(Overlap::CancelRunning);
    clockwork.put(SCHEDULE, &plan).unwrap();
    // The worker confirms the end after some 30 s of grace, or it is ended without it.
    clockwork.run(125);
    expect(&clockwork, &[(60, "fired"), (120, "queued")], "the task goes on");
    clockwork.run(40);
    expect(&clockwork, &[(60, "fired"), (120, "fired")], "the task was ended");
    // Under another policy the next tick finds two that wait.
    let plan = Plan::cron("* * * * *").overlap(Overlap::QueueAll);
    clockwork.put(SCHEDULE, &plan).unwrap();
    clockwork.run(140);
    expect(
        &clockwork,
        &[(60, "fired"), (120, "fired"), (180, "queued"), (240, "queued"), (300, "queued")],
        "three wait",
    );
    let plan = Plan::cron("* * * * *").overlap(Overlap::CancelRunning);
    clockwork.put(SCHEDULE, &plan).unwrap();
    clockwork.run(60);
    expect(
        &clockwork,
        &[
            (60, "fired"),
            (120, "fired"),
            (180, "overlap"),
            (240, "overlap"),
            (300, "overlap"),
            (360, "queued"),
        ],
        "one takes the place of three",
    );
}

#[test]
fn a_schedule_that_is_created_again_while_it_was_due_creates_one_task_in_a_step() {
    let mut clockwork = Clockwork::new();
    let plan = Plan::cron("* * * * * *").overlap(Overlap::CancelRunning);
    clockwork.put(SCHEDULE, &plan).unwrap();
    for _ in 0..3 {
        // The steps are late, so that each leaves ticks to decide.
        clockwork.pass(5000);
        clockwork.step();
        clockwork.delete(SCHEDULE).unwrap();
        clockwork.put(SCHEDULE, &plan).unwrap();
        clockwork.pass(5000);
        clockwork.step();
    }
    assert_eq!(clockwork.most_fired, 1);
}

#[test]
fn ticks_that_wait_fire_at_once_when_tasks_may_overlap() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *").overlap(Overlap::QueueAll)).unwrap();
    clockwork.run(190);
    expect(&clockwork, &[(60, "fired"), (120, "queued"), (180, "queued")], "two wait");
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *").overlap(Overlap::Allow)).unwrap();
    clockwork.run(1);
    expect(&clockwork, &[(60, "fired"), (120, "fired"), (180, "fired")], "none waits");
}

#[test]
fn the_queue_of_ticks_is_bounded() {
    let plan = Plan::cron("* * * * *").overlap(Overlap::QueueAll);
    let clockwork = play(&plan, &[], 60 * 105);
    let outcomes = clockwork.outcomes(SCHEDULE);
    let queued = outcomes.iter().filter(|(_, outcome)| outcome == "queued");
    assert_eq!(queued.count(), 100);
    assert_eq!(outcomes.last(), Some(&(60 * 102, "overlap x4".into())));
}

#[test]
fn a_triggered_task_is_not_running_for_the_policy() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *")).unwrap();
    clockwork.run(30);
    clockwork.trigger(SCHEDULE).unwrap();
    clockwork.run(40);
    expect(&clockwork, &[(60, "fired")], "the tick fires beside the triggered task");
    let manual = clockwork.tasks().next().unwrap();
    assert_eq!(manual.client_keys.id, Some(name("s/manual-1")));
    let tick = manual.tick.as_ref().unwrap();
    assert_eq!((tick.nominal, tick.previous), (None, None));
    clockwork.end(manual.id, End::Failed);
    clockwork.run(1);
    let state = clockwork.view(SCHEDULE).state;
    assert_eq!((state.failures, state.manual), (0, 1));
}

#[test]
fn a_task_that_a_client_runs_again_holds_up_ticks_and_fails_only_once() {
    let plan = Plan::cron("* * * * *").rules(|rules| rules.pause_on_failure = 2);
    let mut clockwork = play(&plan, &[(70, 60, End::Failed)], 80);
    let task = clockwork.tasks().next().unwrap().id;
    assert_eq!(clockwork.view(SCHEDULE).state.failures, 1);
    clockwork.apply(TaskCommand::Retry { spec: None }.on(task)).unwrap();
    clockwork.run(50);
    expect(&clockwork, &[(60, "fired"), (120, "overlap")], "it runs");
    clockwork.end(task, End::Failed);
    clockwork.run(60);
    assert_eq!(clockwork.view(SCHEDULE).state.failures, 1, "it is the same tick");
    expect(&clockwork, &[(60, "fired"), (120, "overlap"), (180, "fired")], "it has ended");
    clockwork.end_tick(SCHEDULE, START + 180, End::Failed);
    clockwork.run(60);
    let state = clockwork.view(SCHEDULE).state;
    assert!(state.pause.is_some_and(|pause| pause.on_failure && &*pause.by == "rota"));
}

#[test]
fn success_and_the_tick_before_are_told_to_the_next_task() {
    let ends = [(70, 60, End::Completed), (130, 120, End::Failed)];
    let clockwork = play(&Plan::cron("* * * * *"), &ends, 200);
    let at = |seconds: i64| Some(WallTime((START + seconds) * 1000));
    let told: Vec<_> = clockwork
        .tasks()
        .map(|spec| spec.tick.as_ref().unwrap())
        .map(|tick| (tick.nominal, tick.previous, tick.last_success))
        .collect();
    assert_eq!(told, [(at(60), None, None), (at(120), at(60), at(60)), (at(180), at(120), at(60))]);
}

#[test]
fn a_tick_without_room_or_with_a_foreign_id_is_refused() {
    let limits = crate::MachineLimits { queue_length_max: 2, ..Default::default() };
    let mut clockwork = Clockwork::with_limits(limits);
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *").overlap(Overlap::Allow)).unwrap();
    let mut spec = crate::TaskSpec::new(
        clockwork.ids.next(clockwork.now.wall),
        crate::Definition::new(name("other"), name("k")),
        clockwork.now.wall,
    );
    spec.client_keys.id = Some(tick_id(&name(SCHEDULE), WallTime((START + 120) * 1000)));
    spec.fingerprint = 7;
    let submit = crate::Submit {
        spec: spec.into(),
        priority: Priority::default(),
        run_at: clockwork.now.wall,
        key_owners: crate::KeyOwners::default(),
    };
    clockwork.apply(crate::Command::Submit(Box::new(submit))).unwrap();
    clockwork.run(310);
    expect(
        &clockwork,
        &[(60, "fired"), (120, "conflict"), (180, "fired"), (240, "queue_full x2")],
        "",
    );
}

#[test]
fn ticks_are_refused_while_the_store_has_no_room() {
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &Plan::cron("* * * * *").overlap(Overlap::Allow)).unwrap();
    clockwork.machine.note_store_full(true);
    clockwork.run(130);
    clockwork.machine.note_store_full(false);
    clockwork.run(60);
    expect(&clockwork, &[(60, "store_full x2"), (180, "fired")], "");
}

#[test]
fn a_start_deadline_counts_from_the_nominal_time() {
    let mut plan = Plan::cron("* * * * *");
    plan.expires_after = Some(crate::Millis(40_000));
    plan.queue = name("nobody");
    let clockwork = play(&plan, &[], 110);
    let spec = clockwork.tasks().next().unwrap();
    let expires_at = WallTime((START + 100) * 1000);
    assert_eq!(spec.definition.expires_at, Some(expires_at));
    assert_eq!(clockwork.status(spec.id), Some(Status::Expired));
    assert_eq!(clockwork.view(SCHEDULE).state.failures, 1);
    // A tick that is decided after its deadline gets no task.
    let mut clockwork = Clockwork::new();
    clockwork.put(SCHEDULE, &plan).unwrap();
    clockwork.settle();
    clockwork.pass(105_000);
    clockwork.settle();
    expect(&clockwork, &[(60, "expired")], "decided 45 s later");
}
