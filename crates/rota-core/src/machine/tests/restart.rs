//! Another process takes over: what is durable is taken up, what was on its way may be lost, and no
//! worker has to notice.

use super::{
    books,
    say::{Task, completed, ended, failed, name},
    world::{TTL, World},
};
use crate::{
    Assignment, AttemptOutcome, Command, Effect, FailureReason, Jitter, LeaseId, Machine, Millis,
    OpenSession, Refusal, Reply, Report, SessionId, Status, StopReason, Waiting,
};

fn open_again(world: &mut World, session: SessionId, leases: &[Assignment]) {
    let opening = world.opening(10, &[], &[]);
    let worker = world.workers[&session].name.clone();
    let held = leases.iter().map(|lease| LeaseId { task: lease.task, token: lease.token });
    let opening = OpenSession { session, worker, held: Some(held.collect()), ..opening };
    world.apply(Command::OpenSession(Box::new(opening))).unwrap();
}

/// A worker runs one task; then another process takes over.
fn taken_over(task: Task) -> (World, Assignment) {
    let mut world = World::new();
    let session = world.open(10, &[], &[]);
    world.submit(task);
    world.settle();
    let lease = world.has_one(session);
    world.report(lease, Report::Started { at: world.now.wall }).unwrap();
    world.settle();
    world.crash(true, Millis(2000));
    world.effects();
    (world, lease)
}

#[test]
fn a_running_task_goes_on_and_completes() {
    let (mut world, lease) = taken_over(Task::new("q", "k"));
    let session = world.machine.session(lease.session).unwrap();
    assert!(session.awaited && session.held == 1);
    assert_eq!(world.machine.queue("q").unwrap().created_total, 0, "by the leader before");
    assert_eq!(world.status(lease.task), Some(Status::Assigned), "that it runs was soft");
    open_again(&mut world, lease.session, &[lease]);
    world.report(lease, Report::Started { at: world.now.wall }).unwrap();
    world.settle();
    let opened = Effect::SessionOpened { session: lease.session, connection: 0 };
    assert_eq!(world.effects(), [opened]);
    assert!(!world.machine.session(lease.session).unwrap().awaited);
    world.end(lease, completed());
    world.settle();
    assert_eq!(world.stored(lease.task).unwrap().attempt, 1);
}

#[test]
fn a_session_has_its_own_time_to_come_back() {
    let mut world = World::new();
    let mut opening = world.opening(10, &[], &[]);
    opening.ttl = Millis(60_000);
    let session = opening.session;
    world.apply(Command::OpenSession(Box::new(opening))).unwrap();
    let task = world.submit(Task::new("q", "k"));
    world.settle();
    assert_eq!(world.view(task).status, Status::Assigned);
    world.crash(true, Millis(2000));
    world.after(59_999);
    assert!(world.machine.session(session).is_some());
    world.after(1);
    assert_eq!((world.machine.session(session), world.view(task).lost), (None, 1));
}

#[test]
fn a_longer_time_to_come_back_holds_for_what_a_session_has_already() {
    let mut world = World::new();
    let mut opening = world.opening(10, &[], &[]);
    let session = opening.session;
    world.apply(Command::OpenSession(Box::new(opening.clone()))).unwrap();
    let task = world.submit(Task::new("q", "k"));
    world.settle();
    let lease = world.has_one(session);
    opening.ttl = Millis(60_000);
    opening.held = Some(vec![LeaseId { task, token: lease.token }]);
    world.apply(Command::OpenSession(Box::new(opening))).unwrap();
    world.settle();
    world.crash(true, Millis(2000));
    world.after(59_999);
    assert!(world.machine.session(session).is_some());
    world.after(1);
    assert_eq!((world.machine.session(session), world.view(task).lost), (None, 1));
}

#[test]
fn a_report_is_accepted_before_its_worker_has_come_back() {
    let (mut world, lease) = taken_over(Task::new("q", "k"));
    world.end(lease, completed());
    world.settle();
    assert_eq!(world.stored(lease.task).unwrap().status, Status::Completed);
    assert_eq!(world.report(lease, ended(completed())), Ok(Reply::Done));
}

#[test]
fn reports_are_judged_as_before() {
    for report in [ended(completed()), ended(failed("no")), Report::Released] {
        for landed in [false, true] {
            let mut world = World::new();
            let session = world.open(10, &[], &[]);
            world.submit(Task::new("q", "k"));
            world.settle();
            let lease = world.has_one(session);
            world.report(lease, report.clone()).unwrap();
            world.step();
            world.crash(landed, Millis(10));
            // Told again, as its worker was not answered: it is accepted whether or not it landed.
            assert_eq!(world.report(lease, report.clone()), Ok(Reply::Done), "{report:?}");
            let other =
                if report == Report::Released { ended(completed()) } else { Report::Released };
            let stale = Err(Refusal::StaleLease { token: lease.token });
            for other in [other, ended(failed("otherwise"))] {
                assert_eq!(world.report(lease, other), stale, "{report:?} {landed}");
            }
        }
    }
}

#[test]
fn a_worker_that_does_not_come_back_in_time_has_lost_its_task() {
    let (mut world, lease) = taken_over(Task::new("q", "k"));
    let other = world.open(1, &[], &[]);
    world.settle();
    world.after(TTL.0 - 1);
    assert!(world.has(other).is_empty(), "its time is not over");
    world.heartbeat(other);
    world.after(1);
    let next = world.has_one(other);
    assert_eq!((next.task, next.attempt), (lease.task, 2));
    assert!(next.token > lease.token);
    assert!(world.report(lease, ended(completed())).is_err());
}

#[test]
fn a_batch_that_was_lost_was_never_seen() {
    let mut world = World::new();
    let session = world.open(1, &[], &[]);
    let task = world.submit(Task::new("q", "k"));
    world.pause("q", true);
    world.settle();
    world.pause("q", false);
    world.step();
    assert_eq!(world.status(task), Some(Status::Assigned));
    world.crash(false, Millis(10));
    let view = world.view(task);
    assert_eq!((view.status, view.attempt), (Status::Pending, 0));
    assert!(world.machine.queue("q").unwrap().paused);
    assert!(world.has(session).is_empty());
}

#[test]
fn an_assignment_that_landed_and_was_not_sent_is_sent_when_the_worker_returns() {
    let mut world = World::new();
    let session = world.open(1, &[], &[]);
    world.submit(Task::new("q", "k"));
    world.step();
    world.crash(true, Millis(10));
    assert!(world.has(session).is_empty());
    open_again(&mut world, session, &[]);
    world.settle();
    assert_eq!(world.has_one(session).attempt, 1);
}

#[test]
fn what_is_left_of_a_backoff_is_waited_for() {
    let mut world = World::new();
    let session = world.open(1, &[], &[]);
    let task = world.submit(Task::new("q", "k").policy(|policy| {
        policy.retry.jitter = Jitter::None;
        policy.retry.initial = Millis(10_000);
    }));
    world.settle();
    world.end(world.has_one(session), failed("no"));
    world.settle();
    world.crash(true, Millis(4000));
    assert!(matches!(world.view(task).waiting, Some(Waiting::BackingOff { attempt: 1, .. })));
    world.settle();
    world.after(5999);
    assert_eq!(world.status(task), Some(Status::Scheduled));
    world.after(1);
    assert_eq!(world.status(task), Some(Status::Pending));
    assert_eq!(world.view(task).lost, 0);
}

#[test]
fn what_became_due_meanwhile_is_due_and_what_expired_expires() {
    let mut world = World::new();
    let due = world.submit(Task::new("q", "k").delay(1000));
    let over = world.submit(Task::new("q", "k").delay(1499).expires_in(1500));
    world.settle();
    world.crash(true, Millis(2000));
    world.settle();
    assert_eq!(world.status(due), Some(Status::Pending));
    assert_eq!(world.status(over), Some(Status::Expired));
}

#[test]
fn what_was_due_stays_due_where_the_next_clock_is_behind() {
    let mut world = World::new();
    let due = world.submit(Task::new("q", "k"));
    let later = world.submit(Task::new("q", "k").delay(1000));
    world.settle();
    world.set_wall_by(-3_600_000);
    world.crash(true, Millis(2000));
    world.settle();
    assert_eq!(world.status(due), Some(Status::Pending));
    assert_eq!(world.status(later), Some(Status::Scheduled), "a date is a date");
}

#[test]
fn a_stop_is_asked_for_again_and_does_not_wait_for_the_timeout() {
    let mut world = World::new();
    let session = world.open(1, &[], &[]);
    let task = world.submit(Task::new("q", "k"));
    world.settle();
    let lease = world.has_one(session);
    world.cancel(task).unwrap();
    world.settle();
    world.crash(true, Millis(1000));
    world.effects();
    open_again(&mut world, session, &[lease]);
    world.settle();
    let (token, reason) = (lease.token, StopReason::Cancelled);
    let opened = Effect::SessionOpened { session, connection: 0 };
    assert_eq!(world.effects(), [opened, Effect::Stop { session, task, token, reason }]);
    // It does not answer, and is given what it is given in any case; not half an hour.
    for _ in 0..29 {
        world.heartbeat(session);
        world.after(1000);
    }
    assert!(world.stored(task).is_none());
    world.after(1000);
    let done = world.stored(task).unwrap();
    assert_eq!(done.failure.as_ref().unwrap().reason, FailureReason::Cancelled);
    assert!(world.report(lease, ended(AttemptOutcome::Cancelled)).is_err());
}

#[test]
fn order_and_names_and_counts_are_as_before() {
    let mut world = World::new();
    let tasks: Vec<_> = [(5, "a"), (9, "b"), (5, "c")]
        .map(|(level, id)| world.submit(Task::new("q", "k").priority(level).id(id)))
        .to_vec();
    world.submit(Task::new("later", "k").delay(60_000));
    world.settle();
    world.crash(true, Millis(10));
    assert_eq!(world.view(tasks[1]).client_keys.id, Some(name("b")));
    let counts = world.machine.queues();
    let counts: Vec<_> = counts.iter().map(|q| (&*q.name, q.scheduled, q.pending)).collect();
    assert_eq!(counts, [("later", 1, 0), ("q", 0, 3)]);
    let session = world.open(3, &[], &[]);
    world.settle();
    let order: Vec<_> = world.has(session).iter().map(|lease| lease.task).collect();
    assert_eq!(order, [tasks[1], tasks[0], tasks[2]]);
}

#[test]
fn a_batch_number_that_was_lost_may_be_used_again() {
    let mut world = World::new();
    let session = world.open(1, &[], &[]);
    world.submit(Task::new("q", "k"));
    world.step();
    let lost = world.batch;
    world.crash(false, Millis(10));
    assert_eq!(world.batch, lost - 1);
    open_again(&mut world, session, &[]);
    world.submit(Task::new("q", "k"));
    world.settle();
    assert_eq!(world.has_one(session).token.0, lost - 1);
}

#[test]
fn what_was_taken_up_can_be_forgotten_and_taken_up_again() {
    let mut world = World::new();
    let session = world.open(2, &[], &["leased"]);
    for task in [
        Task::new("q", "leased"),
        Task::new("q", "leased").expires_in(60_000),
        Task::new("q", "k").id("mine"),
        Task::new("q", "k").delay(60_000),
    ] {
        world.submit(task);
    }
    world.settle();
    let records: Vec<_> = world.durable.live.values().cloned().collect();
    let mut machine = world.restored_from_newest();
    let held = |machine: &Machine| machine.session(session).map(|view| view.held);
    for (record, left) in records.iter().zip([Some(1), None, None, None]) {
        machine.forget_task(record.id);
        machine.forget_task(record.id);
        books::recount(&machine);
        assert_eq!((machine.task(record.id), held(&machine)), (None, left));
    }
    machine.assert_no_leftovers();
    for (record, held_then) in records.iter().zip([Some(1), Some(2), Some(2), Some(2)]) {
        machine.restore_task(record);
        books::recount(&machine);
        assert_eq!(held(&machine), held_then);
    }
    assert_eq!(machine.queue("q"), world.restored_from_newest().queue("q"));
}
