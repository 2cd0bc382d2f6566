//! What is counted: how late tasks were due, how long they waited and ran, how they ended.

use super::{
    say::{Task, completed, failed},
    world::World,
};
use crate::{
    Assignment, AttemptOutcome, Command, Failure, FailureReason, Happened, Jitter, Millis, Report,
    SessionId, TaskId,
};

/// Lets time pass, then ends a step.
fn after(world: &mut World, span: u64) -> Vec<Happened> {
    world.after(span);
    world.happened()
}

/// A worker that has had one task for 400 ms.
fn with_one(task: Task) -> (World, SessionId, Assignment) {
    let mut world = World::new();
    let session = world.open(1, &[], &[]);
    world.submit(task);
    let waited = Some(Millis(0));
    assert_eq!(after(&mut world, 0), [Happened::Submitted, Happened::Started { waited }]);
    assert_eq!(after(&mut world, 400), []);
    let lease = world.has_one(session);
    (world, session, lease)
}

#[test]
fn timers_tell_how_late_they_were_and_attempts_how_long_they_waited_and_ran() {
    let mut world = World::new();
    world.submit(Task::new("q", "k").delay(500).policy(|policy| {
        policy.retry.max_attempts = 2;
        policy.retry.jitter = Jitter::None;
    }));
    assert_eq!(after(&mut world, 0), [Happened::Submitted]);
    assert_eq!(after(&mut world, 650), [Happened::Due { late: Millis(150) }]);
    assert_eq!(after(&mut world, 1000), []);
    let session = world.open(1, &[], &[]);
    let waited = Some(Millis(1150));
    assert_eq!(after(&mut world, 0), [Happened::Started { waited }]);
    world.pass(Millis(700));
    world.end(world.has_one(session), failed("no"));
    assert_eq!(after(&mut world, 0), [Happened::Retried { ran: Millis(700) }]);
    // It backs off for a second.
    let (late, waited) = (Millis(200), Some(Millis(200)));
    let again = [Happened::Due { late }, Happened::Started { waited }];
    assert_eq!(after(&mut world, 1200), again);
    world.pass(Millis(300));
    world.end(world.has_one(session), failed("no"));
    let (reason, ran) = (FailureReason::Error, Some(Millis(300)));
    assert_eq!(after(&mut world, 0), [Happened::Failed { reason, ran, attempt: 2 }]);
}

#[test]
fn a_task_that_came_back_does_not_count_as_waiting() {
    let (mut world, session, lease) = with_one(Task::new("q", "k"));
    world.report(lease, Report::Released).unwrap();
    let started = Happened::Started { waited: None };
    assert_eq!(after(&mut world, 0), [Happened::Released, started]);
    let lease = world.has_one(session);
    world.report(lease, Report::Started { at: world.now.wall }).unwrap();
    world.apply(Command::CloseSession { session, connection: None }).unwrap();
    assert_eq!(after(&mut world, 100), [Happened::Lost]);
    let session = world.open(1, &[], &[]);
    assert_eq!(after(&mut world, 0), [started]);
    world.pass(Millis(250));
    world.end(world.has_one(session), completed());
    assert_eq!(after(&mut world, 0), [Happened::Completed { ran: Millis(250) }]);
}

#[test]
fn each_end_is_counted_as_what_it_was() {
    fn fail_for_good(world: &mut World, lease: Assignment) {
        let failure = Failure::new(FailureReason::Permanent, "never");
        world.end(lease, AttemptOutcome::Failed { failure, retry_at: None });
    }
    fn cancel(world: &mut World, lease: Assignment) {
        world.cancel(lease.task).unwrap();
        world.end(lease, AttemptOutcome::Cancelled);
    }
    type EndOfAttempt = fn(&mut World, Assignment);
    let ran = Some(Millis(400));
    let permanent = Happened::Failed { reason: FailureReason::Permanent, ran, attempt: 1 };
    let lost = Happened::Failed { reason: FailureReason::WorkerLost, ran: None, attempt: 1 };
    let cases: [(EndOfAttempt, &[Happened]); 4] = [
        (|world, lease| world.end(lease, completed()), &[Happened::Completed { ran: Millis(400) }]),
        (fail_for_good, &[permanent]),
        (cancel, &[Happened::Cancelled]),
        (|world, _| world.pass(Millis(9_600)), &[Happened::Lost, lost]),
    ];
    for (end, expected) in cases {
        let task = Task::new("q", "k").policy(|policy| policy.retry.max_lost = 0);
        let (mut world, _, lease) = with_one(task);
        end(&mut world, lease);
        assert_eq!(after(&mut world, 0), expected);
    }
}

#[test]
fn tasks_that_never_ran_are_counted_as_cancelled_or_expired() {
    let mut world = World::new();
    let cancelled = world.submit(Task::new("q", "k"));
    world.submit(Task::new("q", "k").expires_in(100));
    world.cancel(cancelled).unwrap();
    let both = [Happened::Submitted, Happened::Submitted, Happened::Cancelled];
    assert_eq!(after(&mut world, 0), both);
    assert_eq!(after(&mut world, 100), [Happened::Expired]);
    world.retry(cancelled).unwrap();
    assert_eq!(after(&mut world, 0), [Happened::Revived]);
}

#[test]
fn events_name_their_task_and_its_queue_and_kind() {
    let mut world = World::new();
    let tasks = [("a", "k"), ("b", "l")].map(|(queue, kind)| {
        let task = world.submit(Task::new(queue, kind));
        (task, queue.to_owned(), kind.to_owned())
    });
    let events = world.machine.seal().events;
    let named: Vec<(TaskId, String, String)> = events
        .iter()
        .map(|event| (event.task, event.lane.queue.to_string(), event.lane.kind.to_string()))
        .collect();
    assert_eq!(named, tasks);
}
