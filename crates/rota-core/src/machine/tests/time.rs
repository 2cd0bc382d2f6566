//! Time: dates and durations, clocks that jump, timeouts, bounded steps, idle timers.

use super::{
    super::{TaskIndex, index::Index as _},
    say::{Task, completed, ended, failed},
    world::{START, World},
};
use crate::{
    Command, Effect, FailureReason, Jitter, Millis, MonoTime, Refusal, Report, Status, StopReason,
    TaskCommand, Waiting, WallTime,
};

#[test]
fn a_date_follows_the_wall_clock_forwards() {
    let mut world = World::new();
    let task = world.submit(Task::new("q", "k").delay(3_600_000));
    world.settle();
    world.set_wall_by(3_600_000);
    world.settle();
    assert_eq!(world.status(task), Some(Status::Pending));
}

#[test]
fn a_date_follows_the_wall_clock_back() {
    let mut world = World::new();
    let task = world.submit(Task::new("q", "k").delay(60_000));
    let dying = world.submit(Task::new("q", "k").delay(60_999).expires_in(61_000));
    world.settle();
    world.after(59_000);
    world.set_wall_by(-3_600_000);
    world.settle();
    world.after(3_600_999);
    let state = |world: &World| (world.status(task), world.status(dying));
    assert_eq!(state(&world), (Some(Status::Scheduled), Some(Status::Scheduled)));
    world.after(1);
    assert_eq!(state(&world), (Some(Status::Pending), Some(Status::Scheduled)));
    world.after(1000);
    assert_eq!(state(&world), (Some(Status::Pending), Some(Status::Expired)));
}

#[test]
fn a_wall_clock_set_back_a_little_is_waited_for() {
    // What is submitted then is never early, and at most a second late.
    for (set_back, waits) in [(50, 100), (900, 900), (1000, 1000), (1001, 100), (3_600_000, 100)] {
        let mut world = World::new();
        world.submit(Task::new("q", "k").delay(500));
        world.after(500);
        world.set_wall_by(-set_back);
        let task = world.submit(Task::new("q", "k").delay(100));
        world.settle();
        world.after(waits - 1);
        assert_eq!(world.status(task), Some(Status::Scheduled), "{set_back}");
        world.after(1);
        assert_eq!(world.status(task), Some(Status::Pending), "{set_back}");
    }
}

#[test]
fn a_wall_clock_set_back_sets_the_timers_that_are_needed_and_no_others() {
    let mut world = World::new();
    let session = world.open(1, &[], &["fails"]);
    world.submit(Task::new("q", "fails"));
    world.settle();
    world.end(world.has_one(session), failed("no"));
    world.submit(Task::new("q", "k"));
    world.submit(Task::new("q", "k").delay(60_000));
    world.submit(Task::new("q", "k").expires_in(60_000));
    world.settle();
    world.set_wall_by(-3_600_000);
    world.settle();
    assert_eq!(world.machine.dates.len(), 2, "one task has a date and one expires");
}

#[test]
fn a_backoff_does_not_follow_the_wall_clock() {
    for jump in [-3_600_000, 3_600_000] {
        let mut world = World::new();
        let session = world.open(1, &[], &[]);
        let task = world.submit(Task::new("q", "k").policy(|policy| {
            policy.retry.jitter = Jitter::None;
        }));
        world.settle();
        world.end(world.has_one(session), failed("no"));
        world.settle();
        world.set_wall_by(jump);
        world.after(999);
        assert_eq!(world.status(task), Some(Status::Scheduled), "{jump}");
        world.after(1);
        assert_eq!(world.has_one(session).attempt, 2, "{jump}");
    }
}

#[test]
fn a_backoff_that_was_loaded_with_a_clock_behind_is_over_when_the_clock_is_set() {
    const DAY: i64 = 86_400_000;
    let mut world = World::new();
    let session = world.open(1, &[], &[]);
    let task = world.submit(Task::new("q", "k"));
    world.settle();
    world.end(world.has_one(session), failed("no"));
    world.settle();
    let right = world.now;
    world.now.wall = WallTime(right.wall.0 - DAY);
    let mut machine = world.restored_from_newest();
    let mut status_after = |span: u64, behind: i64| {
        let wall = WallTime(right.wall.0 + span.cast_signed() - behind);
        let now = crate::Now { wall, mono: right.mono + Millis(span) };
        machine.begin(now, world.batch);
        machine.tick(now.mono);
        machine.task(task).expect("it is live").status
    };
    assert_eq!(status_after(2000, DAY), Status::Scheduled);
    assert_eq!(status_after(3000, 0), Status::Pending);
}

#[test]
fn an_attempt_that_takes_too_long_is_ended_after_a_grace() {
    let mut world = World::new();
    let session = world.open(1, &[], &[]);
    let task = world.submit(Task::new("q", "k").policy(|policy| {
        policy.timeout = Millis(60_000);
        policy.retry.max_attempts = 2;
        policy.retry.jitter = Jitter::None;
    }));
    world.settle();
    let lease = world.has_one(session);
    // The time for the attempt runs from its beginning.
    world.after(5000);
    world.report(lease, Report::Started { at: world.now.wall }).unwrap();
    for _ in 0..69 {
        world.heartbeat(session);
        world.after(1000);
        assert_eq!(world.status(task), Some(Status::Running));
    }
    world.effects();
    world.after(2000);
    let Some(Waiting::BackingOff { attempt: 1, .. }) = world.view(task).waiting else {
        panic!("{:?}", world.view(task));
    };
    let (task, token) = (lease.task, lease.token);
    let stop = Effect::Stop { session, task, token, reason: StopReason::Timeout };
    assert!(world.effects().contains(&stop));
    let record = &world.durable.attempts[&(task, 1)];
    assert_eq!(record.failure.as_ref().unwrap().reason, FailureReason::Timeout);
    let stale = world.report(lease, ended(completed()));
    assert_eq!(stale, Err(Refusal::StaleLease { token }));
}

#[test]
fn a_timeout_spends_an_attempt() {
    let mut world = World::new();
    let session = world.open(1, &[], &[]);
    let task = world.submit(Task::new("q", "k").policy(|policy| {
        policy.timeout = Millis(1000);
        policy.retry.max_attempts = 1;
    }));
    world.settle();
    for _ in 0..12 {
        world.heartbeat(session);
        world.after(1000);
    }
    let done = world.stored(task).unwrap();
    assert_eq!(done.failure.as_ref().unwrap().reason, FailureReason::Timeout);
    assert_eq!((done.status, done.attempt, done.lost), (Status::Failed, 1, 0));
}

#[test]
fn rescheduling_moves_a_task_both_ways() {
    let mut world = World::new();
    let task = world.submit(Task::new("q", "k"));
    world.settle();
    world.reschedule(task, 5000).unwrap();
    world.settle();
    world.after(4999);
    assert_eq!(world.status(task), Some(Status::Scheduled));
    world.reschedule(task, 9000).unwrap();
    world.after(8999);
    assert_eq!(world.status(task), Some(Status::Scheduled));
    world.reschedule(task, -1).unwrap();
    assert_eq!(world.status(task), Some(Status::Pending));
}

#[test]
fn rescheduling_ends_a_backoff() {
    let mut world = World::new();
    let session = world.open(1, &[], &[]);
    let task = world.submit(Task::new("q", "k"));
    world.settle();
    world.end(world.has_one(session), failed("no"));
    world.reschedule(task, 30_000).unwrap();
    world.settle();
    let until = START.wall + Millis(30_000);
    assert_eq!(world.view(task).waiting, Some(Waiting::DueLater { until }));
    world.after(8000);
    world.heartbeat(session);
    assert_eq!(world.status(task), Some(Status::Scheduled), "the end of the backoff is void");
}

#[test]
fn many_timers_fire_in_portions() {
    let mut world = World::bare();
    for _ in 0..5000 {
        world.submit(Task::new("q", "k").delay(1000));
    }
    world.step_bare();
    world.pass(Millis(1000));
    world.step_bare();
    let counts = |world: &World| {
        let counts = world.machine.queue("q").unwrap();
        (counts.scheduled, counts.pending)
    };
    assert_eq!(counts(&world), (5000 - 4096, 4096));
    assert_eq!(world.machine.next_wakeup(), Some(Millis(0)));
    world.step_bare();
    assert_eq!(counts(&world), (0, 5000));
    assert_eq!(world.machine.next_wakeup(), None);
}

#[test]
fn what_is_over_is_not_started_though_its_timer_has_not_fired() {
    let mut world = World::bare();
    for _ in 0..5000 {
        world.submit(Task::new("q", "k").expires_in(1000));
    }
    world.step_bare();
    world.pass(Millis(1000));
    let session = world.open(10_000, &[], &[]);
    world.step_bare();
    assert_eq!(world.machine.session(session).unwrap().held, 0);
    assert_eq!(world.machine.live_tasks(), 0);
}

#[test]
fn many_tasks_are_assigned_in_portions() {
    let mut world = World::bare();
    let session = world.open(10_000, &[], &[]);
    for _ in 0..5000 {
        world.submit(Task::new("q", "k"));
    }
    for (held, wakeup) in [(4096, Millis(0)), (5000, super::world::TTL), (5000, super::world::TTL)]
    {
        world.step_bare();
        assert_eq!(world.machine.session(session).unwrap().held, held);
        assert_eq!(world.machine.next_wakeup(), Some(wakeup));
    }
}

#[test]
fn many_silent_workers_are_ended_in_portions() {
    let mut world = World::bare();
    for _ in 0..10 {
        world.open(1000, &[], &[]);
    }
    for _ in 0..10_000 {
        world.submit(Task::new("q", "k"));
    }
    while world.machine.queue("q").unwrap().pending > 0 {
        world.step_bare();
    }
    world.pass(super::world::TTL);
    for (open, more) in [(5, true), (0, false)] {
        world.step_bare();
        assert_eq!(world.machine.sessions().len(), open);
        assert_eq!(world.machine.next_wakeup() == Some(Millis(0)), more);
    }
    assert_eq!(world.machine.queue("q").unwrap().pending, 10_000);
}

#[test]
fn many_overdue_attempts_are_ended_in_portions() {
    let mut world = World::bare();
    let session = world.open(10_000, &[], &[]);
    for _ in 0..5000 {
        world.submit(Task::new("q", "k").policy(|policy| {
            policy.timeout = Millis(1);
            policy.retry.max_attempts = 1;
        }));
    }
    while world.machine.queue("q").unwrap().pending > 0 {
        world.step_bare();
    }
    world.pass(Millis(9000));
    world.heartbeat(session);
    world.pass(Millis(2000));
    for left in [5000 - 4096, 0] {
        world.step_bare();
        assert_eq!(world.machine.live_tasks(), left);
    }
}

#[test]
fn idle_timers_are_dropped() {
    let mut world = World::bare();
    let kept = world.submit(Task::new("q", "k").delay(1000));
    // One task that is put off again and again, and many that are cancelled long before their time.
    for round in 0..150_000 {
        world.reschedule(kept, 1000 + round).unwrap();
    }
    let mut most = 0;
    for _ in 0..60 {
        for _ in 0..1000 {
            let task = world.submit(Task::new("q", "k").delay(1 << 35).expires_in(1 << 36));
            world.machine.apply(TaskCommand::Cancel.on(task)).unwrap();
        }
        world.step_bare();
        most = most.max(world.machine.dates.len());
    }
    assert!(most < 110_000, "{most} timers for one task");
    assert_eq!(world.machine.next_wakeup().map(|wakeup| wakeup.0 > 0), Some(true));
    world.pass(Millis(200_000));
    world.step_bare();
    assert_eq!(world.machine.task(kept).unwrap().status, Status::Pending);
}

#[test]
fn idle_delays_are_dropped() {
    let mut world = World::bare();
    let session = world.open(1, &[], &[]);
    let task = world.submit(Task::new("q", "k").policy(|policy| {
        policy.retry.max_attempts = 1000;
        policy.retry.jitter = Jitter::None;
        policy.retry.initial = Millis(1 << 40);
        policy.retry.max = Millis(1 << 40);
    }));
    world.machine.delays = {
        // As if a hundred thousand backoffs had been given up.
        let mut delays = crate::wheel::Wheel::new(world.now.mono.0);
        let nobody = TaskIndex::new(0);
        (0..110_000u64).for_each(|at| delays.insert(MonoTime(at + (1 << 41)).0, nobody));
        delays
    };
    world.step_bare();
    assert_eq!(world.machine.delays.len(), 0);
    assert_eq!(world.machine.task(task).unwrap().status, Status::Assigned);
    assert!(world.machine.session(session).is_some());
    assert!(world.now.wall > WallTime(0));
}

#[test]
fn a_date_long_over_means_now() {
    let mut world = World::new();
    let session = world.open(3, &[], &[]);
    let long_ago = -i64::try_from(START.mono.0).unwrap() - 900_000_000;
    let submitted = world.submit(Task::new("q", "k").delay(long_ago));
    assert_eq!(world.view(submitted).run_at, world.now.wall);
    let put_off = world.submit(Task::new("q", "k").delay(60_000));
    world.after(5000);
    world.heartbeat(session);
    world.reschedule(put_off, long_ago).unwrap();
    assert_eq!(world.view(put_off).run_at, world.now.wall);
    world.settle();
    let leases = world.has(session);
    let failure = crate::Failure::new(FailureReason::Error, "no");
    let retry_at = Some(WallTime(1));
    world.end(leases[0], crate::AttemptOutcome::Failed { failure, retry_at });
    assert_eq!(world.view(leases[0].task).run_at, world.now.wall);
    assert_eq!(world.machine.queue("q").unwrap().oldest_pending, Some(world.now.wall));
}

#[test]
fn deadlines_of_attempts_that_ended_are_dropped() {
    let mut world = World::bare();
    world.open(10_000, &[], &[]);
    let mut most = 0;
    for _ in 0..35 {
        let tasks: Vec<_> = (0..4000).map(|_| world.submit(Task::new("q", "k"))).collect();
        world.step_bare();
        for task in tasks {
            let token = world.machine.task(task).unwrap().lease.unwrap().token;
            let report = ended(completed());
            let (fingerprint, random, stored) = (0, 0, None);
            let report = Command::Report { task, token, report, fingerprint, random, stored };
            world.machine.apply(report).unwrap();
        }
        world.step_bare();
        most = most.max(world.machine.deadlines.len());
    }
    assert!(most < 110_000, "{most} deadlines");
}
