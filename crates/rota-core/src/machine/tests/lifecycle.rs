//! The life of one task: its ends, its retries and their budgets, cancelling, expiring.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    say::{Task, completed, ended, failed},
    world::{START, World},
};
use crate::{
    Assignment, AttemptOutcome, Command, Effect, Failure, FailureReason, Jitter, Machine,
    MachineLimits, Millis, Mutation, Refusal, Reply, Report, Retention, RetryPolicy, RunAt, Status,
    StopReason, TaskCommand, TaskId, UnknownFields, Waiting, WallTime,
};

/// Retries of which each comes after exactly twice the time of the one before: 1 s, 2 s, 4 s.
fn steady(task: Task, max_attempts: u32) -> Task {
    task.policy(|policy| {
        policy.retry = RetryPolicy { max_attempts, jitter: Jitter::None, ..policy.retry };
    })
}

/// A world in which one worker has one task.
fn running(task: Task) -> (World, TaskId, Assignment) {
    let mut world = World::new();
    let session = world.open(10, &[], &[]);
    let id = world.submit(task);
    world.settle();
    let lease = world.has_one(session);
    world.report(lease, Report::Started { at: world.now.wall }).unwrap();
    (world, id, lease)
}

fn end_of(world: &World, task: TaskId) -> (Status, Option<FailureReason>, u32, u32) {
    let done = world.stored(task).expect("it ended");
    (done.status, done.failure.as_ref().map(|failure| failure.reason), done.attempt, done.lost)
}

#[test]
fn completes_with_its_result_and_its_last_attempt() {
    let (mut world, task, lease) = running(Task::new("q", "k"));
    assert_eq!(world.status(task), Some(Status::Running));
    let started_at = Some(WallTime(START.wall.0 - 1));
    let outcome = AttemptOutcome::Completed { result: Bytes::from_static(b"42") };
    let output_tail = Bytes::from_static(b"out");
    world.report(lease, Report::Ended { started_at, output_tail, outcome }).unwrap();
    world.settle();
    assert_eq!(end_of(&world, task), (Status::Completed, None, 1, 0));
    let done = world.stored(task).unwrap();
    let last = done.last.as_ref().unwrap();
    assert_eq!((last.attempt, last.token, last.started_at), (1, lease.token, started_at));
    assert!(last.output_tail.is_empty() && done.has_output && done.has_result);
    assert_eq!(world.durable.attempts[&(task, 1)].output_tail, "out");
    assert_eq!(world.durable.results[&task], "42");
    assert_eq!(done.retain_until, world.now.wall + Millis::from_secs(24 * 3600));
    let effects = world.effects();
    assert!(effects.contains(&Effect::Finished { task, status: Status::Completed }));
}

#[test]
fn a_whole_life_with_backoff() {
    let mut world = World::new();
    let session = world.open(1, &[], &[]);
    let task = world.submit(steady(Task::new("q", "k").delay(5000), 3));
    world.settle();
    let due = START.wall + Millis(5000);
    assert_eq!(world.view(task).waiting, Some(Waiting::DueLater { until: due }));
    world.after(4999);
    assert_eq!(world.status(task), Some(Status::Scheduled));
    world.after(1);
    for (attempt, backoff) in [(1, 1000), (2, 2000)] {
        let lease = world.has_one(session);
        assert_eq!(lease.attempt, attempt);
        world.end(lease, failed("no"));
        world.settle();
        let until = world.now.wall + Millis(backoff);
        assert_eq!(world.view(task).waiting, Some(Waiting::BackingOff { attempt, until }));
        world.heartbeat(session);
        world.after(backoff - 1);
        assert_eq!(world.status(task), Some(Status::Scheduled));
        world.after(1);
    }
    world.end(world.has_one(session), completed());
    world.settle();
    assert_eq!(end_of(&world, task), (Status::Completed, None, 3, 0));
    let attempts: Vec<_> = world.durable.attempts.keys().map(|key| key.1).collect();
    assert_eq!(attempts, [1, 2], "the last one is in the record of the end");
}

#[test]
fn fails_when_its_attempts_are_spent() {
    let (mut world, task, mut lease) = running(steady(Task::new("q", "k"), 3));
    for attempt in 1..=3 {
        assert_eq!(lease.attempt, attempt);
        world.end(lease, failed("no"));
        world.settle();
        if attempt < 3 {
            world.after(1000 << (attempt - 1));
            lease = world.has_one(lease.session);
        }
    }
    assert_eq!(end_of(&world, task), (Status::Failed, Some(FailureReason::Error), 3, 0));
    assert_eq!(world.machine.queue("q").unwrap().failed_total, 1);
}

#[test]
fn a_permanent_failure_is_not_tried_again() {
    let (mut world, task, lease) = running(Task::new("q", "k"));
    let failure = Failure::new(FailureReason::Permanent, "never");
    let retry_at = Some(world.now.wall + Millis(10));
    world.end(lease, AttemptOutcome::Failed { failure, retry_at });
    world.settle();
    assert_eq!(end_of(&world, task), (Status::Failed, Some(FailureReason::Permanent), 1, 0));
}

#[test]
fn a_handler_may_say_when_to_try_again() {
    for (delay, waits) in [(7000, true), (0, false), (-7000, false)] {
        let (mut world, task, lease) = running(Task::new("q", "k"));
        let failure = Failure::new(FailureReason::Error, "busy");
        let retry_at = WallTime(world.now.wall.0 + delay);
        world.end(lease, AttemptOutcome::Failed { failure, retry_at: Some(retry_at) });
        world.settle();
        if waits {
            let waiting = Waiting::BackingOff { attempt: 1, until: retry_at };
            assert_eq!(world.view(task).waiting, Some(waiting));
            world.after(7000);
        }
        assert_eq!(world.has_one(lease.session).attempt, 2);
    }
}

#[test]
fn lost_workers_have_a_budget_of_their_own() {
    let task = Task::new("q", "poison").policy(|policy| {
        policy.retry = RetryPolicy { max_attempts: 1, max_lost: 2, ..policy.retry };
    });
    let mut world = World::new();
    let task = world.submit(task);
    for lost in 1..=3 {
        let session = world.open(1, &[], &[]);
        world.settle();
        let lease = world.has_one(session);
        assert_eq!(lease.attempt, lost);
        world.report(lease, Report::Started { at: world.now.wall }).unwrap();
        // It is not heard of again.
        world.after(10_000);
        if lost < 3 {
            let view = world.view(task);
            assert_eq!((view.status, view.lost), (Status::Pending, lost));
            assert_eq!(view.waiting, Some(Waiting::NoWorker));
        }
    }
    assert_eq!(end_of(&world, task), (Status::Failed, Some(FailureReason::WorkerLost), 3, 3));
    assert!(
        world.stored(task).unwrap().failure.as_ref().unwrap().message.contains("sent no heartbeat")
    );
}

#[test]
fn failures_and_losses_are_counted_apart() {
    let (mut world, task, lease) = running(steady(Task::new("q", "k"), 2));
    world.end(lease, failed("no"));
    world.settle();
    world.after(1000);
    for _ in 0..3 {
        // Three losses are allowed; a started attempt is lost when its worker leaves.
        let session = *world.workers.keys().last().unwrap();
        world.report(world.has_one(session), Report::Started { at: world.now.wall }).unwrap();
        world.apply(Command::CloseSession { session, connection: None }).unwrap();
        world.open(1, &[], &[]);
        world.settle();
    }
    let session = *world.workers.keys().last().unwrap();
    assert_eq!(world.view(task).lost, 3);
    world.end(world.has_one(session), failed("again"));
    world.settle();
    assert_eq!(end_of(&world, task), (Status::Failed, Some(FailureReason::Error), 5, 3));
}

#[test]
fn without_a_worker_it_waits_and_spends_nothing() {
    let mut world = World::new();
    let task = world.submit(Task::new("q", "rare"));
    world.open(10, &[], &["common"]);
    for _ in 0..100 {
        world.pass(Millis::from_secs(9));
        world.heartbeat(crate::SessionId(1));
        world.settle();
    }
    let view = world.view(task);
    assert_eq!((view.status, view.attempt, view.lost), (Status::Pending, 0, 0));
    assert_eq!(view.waiting, Some(Waiting::NoWorker));
    let session = world.open(1, &["q"], &["rare"]);
    world.settle();
    assert_eq!(world.has_one(session).attempt, 1);
}

#[test]
fn giving_back_spends_no_attempt() {
    let (mut world, task, mut lease) = running(Task::new("q", "k"));
    for _ in 0..50 {
        assert_eq!(lease.attempt, 1);
        let token = lease.token;
        world.report(lease, Report::Released).unwrap();
        world.settle();
        lease = world.has_one(lease.session);
        assert!(lease.token > token);
    }
    world.end(lease, completed());
    world.settle();
    assert_eq!(end_of(&world, task), (Status::Completed, None, 1, 0));
}

#[test]
fn snoozing_spends_no_attempt_and_keeps_its_record() {
    let (mut world, task, mut lease) = running(steady(Task::new("q", "k"), 1));
    for attempt in 1..=3 {
        assert_eq!(lease.attempt, attempt);
        let until = world.now.wall + Millis(2000);
        world.end(lease, AttemptOutcome::Snoozed { until: RunAt::At(until) });
        world.settle();
        let view = world.view(task);
        assert_eq!((view.status, view.run_at), (Status::Scheduled, until));
        assert_eq!(view.waiting, Some(Waiting::Snoozed { attempt, until }));
        assert_eq!((view.failures, view.snoozes), (0, attempt));
        let record = world.newest.attempts[&(task, attempt)].clone();
        assert_eq!((record.snoozed_until, record.failure), (Some(until), None));
        world.heartbeat(lease.session);
        world.after(1999);
        assert_eq!(world.status(task), Some(Status::Scheduled));
        world.heartbeat(lease.session);
        world.after(1);
        lease = world.has_one(lease.session);
    }
    world.end(lease, failed("no"));
    world.settle();
    assert_eq!(end_of(&world, task), (Status::Failed, Some(FailureReason::Error), 4, 0));
    let done = world.stored(task).expect("it ended");
    assert_eq!((done.failures, done.snoozes), (1, 3));
}

#[test]
fn who_snoozes_too_often_has_failed() {
    let few = steady(Task::new("q", "k"), 1).policy(|policy| policy.retry.max_snoozes = 1);
    let (mut world, task, lease) = running(few);
    world.end(lease, AttemptOutcome::Snoozed { until: RunAt::Now });
    world.settle();
    world.end(world.has_one(lease.session), AttemptOutcome::Snoozed { until: RunAt::Now });
    world.settle();
    assert_eq!(end_of(&world, task), (Status::Failed, Some(FailureReason::Error), 2, 0));
    let message =
        world.stored(task).expect("it ended").failure.as_ref().expect("why").message.clone();
    assert!(message.contains("retry.max_snoozes"), "{message}");
}

#[test]
fn a_task_that_is_to_be_cancelled_cannot_be_snoozed() {
    let (mut world, task, lease) = running(Task::new("q", "k"));
    world.cancel(task).unwrap();
    let until = world.now.wall + Millis(60_000);
    world.end(lease, AttemptOutcome::Snoozed { until: RunAt::At(until) });
    world.settle();
    assert_eq!(end_of(&world, task), (Status::Cancelled, Some(FailureReason::Cancelled), 1, 0));
}

#[test]
fn a_worker_that_stops_unasked_has_failed() {
    let (mut world, task, lease) = running(steady(Task::new("q", "k"), 1));
    world.end(lease, AttemptOutcome::Cancelled);
    world.settle();
    assert_eq!(end_of(&world, task), (Status::Failed, Some(FailureReason::Error), 1, 0));
}

// ---- cancelling

#[test]
fn what_waits_is_cancelled_at_once() {
    for delay in [0, 60_000] {
        let mut world = World::new();
        let task = world.submit(Task::new("q", "k").delay(delay));
        world.settle();
        let status = Status::Cancelled;
        assert_eq!(world.cancel(task), Ok(Reply::Task { task, status }));
        world.settle();
        assert_eq!(end_of(&world, task), (Status::Cancelled, Some(FailureReason::Cancelled), 0, 0));
        assert_eq!(world.cancel(task), Ok(Reply::Unchanged { task, status }), "again is the same");
    }
}

fn is_told_to_stop(world: &mut World, lease: Assignment, why: StopReason) -> bool {
    world.effects().contains(&Effect::Stop {
        session: lease.session,
        task: lease.task,
        token: lease.token,
        reason: why,
    })
}

#[test]
fn what_runs_is_stopped_by_its_worker() {
    let ends = [ended(AttemptOutcome::Cancelled), ended(failed("killed")), Report::Released];
    for report in ends {
        let (mut world, task, lease) = running(Task::new("q", "k"));
        assert_eq!(world.cancel(task), Ok(Reply::Task { task, status: Status::Running }));
        world.settle();
        assert!(is_told_to_stop(&mut world, lease, StopReason::Cancelled));
        assert!(world.view(task).cancel_requested);
        let again = Reply::Unchanged { task, status: Status::Running };
        assert_eq!(world.cancel(task), Ok(again));
        world.settle();
        assert!(!is_told_to_stop(&mut world, lease, StopReason::Cancelled), "told once");
        world.report(lease, report.clone()).unwrap();
        world.settle();
        assert_eq!(end_of(&world, task).0, Status::Cancelled, "{report:?}");
    }
}

#[test]
fn completing_wins_the_race_with_cancelling() {
    let (mut world, task, lease) = running(Task::new("q", "k"));
    world.cancel(task).unwrap();
    world.end(lease, completed());
    world.settle();
    assert_eq!(end_of(&world, task).0, Status::Completed);
    assert!(matches!(world.cancel(task), Err(Refusal::Illegal(_))));
}

#[test]
fn a_stop_that_is_not_confirmed_ends_after_a_grace() {
    let (mut world, task, lease) = running(Task::new("q", "k"));
    world.cancel(task).unwrap();
    for _ in 0..7 {
        world.heartbeat(lease.session);
        // Not even a late start gives it more time.
        world.report(lease, Report::Started { at: world.now.wall }).unwrap();
        world.after(4000);
        assert_eq!(world.status(task), Some(Status::Running));
    }
    world.after(3000);
    assert_eq!(end_of(&world, task), (Status::Cancelled, Some(FailureReason::Cancelled), 1, 0));
    assert!(is_told_to_stop(&mut world, lease, StopReason::Timeout));
    let stale = world.report(lease, ended(completed()));
    assert_eq!(stale, Err(Refusal::StaleLease { token: lease.token }));
}

// ---- expiring

#[test]
fn what_was_not_started_in_time_expires() {
    for delay in [0, 2000, 2999] {
        let mut world = World::new();
        let task = world.submit(Task::new("q", "k").delay(delay).expires_in(3000));
        world.settle();
        world.after(2999);
        assert!(!world.status(task).unwrap().is_terminal());
        world.after(1);
        assert_eq!(end_of(&world, task), (Status::Expired, Some(FailureReason::Expired), 0, 0));
    }
}

#[test]
fn what_would_expire_before_it_could_run_is_refused() {
    let refused = |field, at: u64| {
        Err(Refusal::DueAfterExpiry { field, expires_at: START.wall + Millis(at) })
    };
    let too_early = |at: WallTime| Err(Refusal::ExpiresBeforeDue { expires_at: at });
    let mut world = World::new();
    for (delay, expires_in) in [(3001, 3000), (3000, 3000), (0, 0), (0, -1)] {
        let late = Task::new("q", "k").delay(delay).expires_in(expires_in);
        let expires_at = WallTime(START.wall.0 + expires_in);
        assert_eq!(world.try_submit(late), too_early(expires_at), "{delay} {expires_in}");
    }
    let task = world.submit(Task::new("q", "k").delay(2000).expires_in(3000));
    assert_eq!(world.reschedule(task, 3000), refused("run_at", 3000));
    assert_eq!(world.reschedule(task, 3001), refused("run_at", 3000));
    assert_eq!(world.status(task), Some(Status::Scheduled), "and nothing has changed");
    world.after(2000);
    assert_eq!(world.status(task), Some(Status::Pending));
    world.reschedule(task, 999).unwrap();
    // A repeat is known all the same.
    let named = Task::new("q", "k").id("mine").delay(1000).expires_in(3000);
    let first = world.submit(named.clone());
    world.after(500);
    assert_eq!(world.try_submit(named.clone().delay(9000)), Ok((first, false)));
    world.after(9000);
    assert_eq!(world.try_submit(named.delay(0)), Ok((first, false)), "its expiry has passed");
}

#[test]
fn a_task_that_is_not_rescheduled_keeps_its_place() {
    let mut world = World::new();
    let tasks = [1000, 2000].map(|span| world.submit(Task::new("q", "k").expires_in(span)));
    let expires_at = START.wall + Millis(1000);
    let refused = Err(Refusal::DueAfterExpiry { field: "run_at", expires_at });
    assert_eq!(world.reschedule(tasks[0], 1000), refused);
    let session = world.open(1, &[], &[]);
    world.settle();
    assert_eq!(world.has_one(session).task, tasks[0]);
}

#[test]
fn what_expires_at_this_moment_can_still_be_asked_to_run_now() {
    let mut world = World::new();
    let task = world.submit(Task::new("q", "k").delay(500).expires_in(1000));
    world.settle();
    world.pass(Millis(1000));
    assert_eq!(world.reschedule(task, 0), Ok(Reply::Task { task, status: Status::Pending }));
    world.settle();
    assert_eq!(end_of(&world, task).0, Status::Expired);
}

#[test]
fn what_is_over_when_a_worker_comes_is_never_started() {
    let mut world = World::new();
    let task = world.submit(Task::new("q", "k").expires_in(1));
    world.settle();
    world.after(1);
    let session = world.open(1, &[], &[]);
    world.settle();
    assert_eq!(end_of(&world, task).0, Status::Expired);
    assert!(world.has(session).is_empty());
}

#[test]
fn what_runs_does_not_expire_but_is_not_tried_again_after_its_date() {
    let (mut world, task, lease) = running(steady(Task::new("q", "k").expires_in(3000), 5));
    world.after(3500);
    assert_eq!(world.status(task), Some(Status::Running));
    world.end(lease, failed("no"));
    world.settle();
    assert_eq!(end_of(&world, task), (Status::Expired, Some(FailureReason::Expired), 1, 0));
    assert!(world.durable.attempts.contains_key(&(task, 1)), "the attempt is not forgotten");
}

#[test]
fn expires_in_the_middle_of_a_backoff() {
    let (mut world, task, lease) = running(steady(Task::new("q", "k").expires_in(500), 5));
    world.end(lease, failed("no"));
    world.settle();
    world.after(499);
    assert_eq!(world.status(task), Some(Status::Scheduled));
    world.after(1);
    assert_eq!(end_of(&world, task).0, Status::Expired);
    let message = world.stored(task).unwrap().failure.as_ref().unwrap().message.clone();
    assert!(message.contains("expires_at") && message.ends_with(": no"), "{message}");
    // Nothing but the date of the task itself was touched: its attempts go with it.
    world.delete(task).unwrap();
    world.settle();
    assert!(world.durable.attempts.is_empty());
}

#[test]
fn is_still_to_expire_when_it_is_given_back_while_the_clock_is_set_back() {
    let (mut world, task, lease) = running(Task::new("q", "k").expires_in(1000));
    world.after(1200);
    world.set_wall_by(-900);
    world.pause("q", true);
    world.report(lease, Report::Released).unwrap();
    world.settle();
    assert_eq!(world.status(task), Some(Status::Pending));
    world.after(1000);
    assert_eq!(end_of(&world, task).0, Status::Expired);
}

// ---- what clients do to ended tasks

#[test]
fn only_what_ended_badly_is_retried_and_with_fresh_budgets() {
    let (mut world, task, lease) = running(steady(Task::new("q", "k").id("mine"), 1));
    assert!(matches!(world.retry(task), Err(Refusal::Illegal(_))), "it runs");
    world.end(lease, failed("no"));
    world.settle();
    assert_eq!(world.retry(task), Ok(Reply::Task { task, status: Status::Pending }));
    world.settle();
    let lease = world.has_one(lease.session);
    let view = world.view(task);
    assert_eq!((lease.attempt, view.client_keys.id.as_deref()), (2, Some("mine")));
    assert!(world.durable.attempts.contains_key(&(task, 1)), "the history is kept");
    world.end(lease, completed());
    world.settle();
    assert!(matches!(world.retry(task), Err(Refusal::Illegal(_))), "it completed");
    assert_eq!(world.durable.done.len(), 1);
    let counts = world.machine.queue("q").unwrap();
    assert_eq!((counts.created_total, counts.failed_total, counts.completed_total), (1, 1, 1));
}

#[test]
fn what_ended_a_moment_ago_can_be_retried_before_the_store_knows_of_it() {
    let mut world = World::new();
    let task = world.submit(Task::new("q", "k"));
    world.cancel(task).unwrap();
    world.retry(task).unwrap();
    world.step();
    world.cancel(task).unwrap();
    world.step();
    world.retry(task).unwrap();
    world.settle();
    assert_eq!(world.status(task), Some(Status::Pending));
}

#[test]
fn what_a_newer_version_wrote_of_a_task_is_kept_when_it_is_retried() {
    let mut world = World::new();
    let task = world.submit(Task::new("q", "k"));
    world.cancel(task).unwrap();
    world.settle();
    let (of_task, of_policy) = (Bytes::from_static(b"task"), Bytes::from_static(b"policy"));
    let fields = |task: &Bytes, policy: &Bytes| UnknownFields {
        task: task.clone(),
        policy: policy.clone(),
        ..UnknownFields::default()
    };
    let none = Bytes::new();
    for (of_done, of_spec, expected) in [
        (None, &none, None),
        (None, &of_policy, Some(fields(&none, &of_policy))),
        (Some(fields(&of_task, &none)), &none, Some(fields(&of_task, &none))),
        (Some(fields(&of_task, &none)), &of_policy, Some(fields(&of_task, &of_policy))),
    ] {
        let mut done = (*world.stored(task).unwrap()).clone();
        done.unknown = of_done.map(Box::new);
        let mut spec = (*world.durable.specs[&task]).clone();
        spec.unknown_policy = of_spec.clone();
        let (stored, spec) = (Some(Arc::new(done)), Some(Arc::new(spec)));
        let mut machine = Machine::new(MachineLimits::default(), Retention::default(), world.now);
        machine.begin(world.now, 1);
        machine
            .apply(Command::Task { task, command: TaskCommand::Retry { spec }, stored })
            .unwrap();
        let unknown = machine.seal().mutations.into_iter().find_map(|mutation| match mutation {
            Mutation::PutLive(record) => Some(record.unknown),
            _ => None,
        });
        assert_eq!(unknown, Some(expected.map(Box::new)));
    }
}

#[test]
fn a_deleted_task_is_gone() {
    let mut world = World::new();
    let task = world.submit(Task::new("q", "k"));
    assert!(matches!(world.delete(task), Err(Refusal::Illegal(_))), "it waits");
    world.cancel(task).unwrap();
    world.delete(task).unwrap();
    for again in 0..4 {
        assert_eq!(world.delete(task), Err(Refusal::UnknownTask), "{again} steps later");
        assert_eq!(world.cancel(task), Err(Refusal::UnknownTask), "{again} steps later");
        world.pause("q", again % 2 == 0);
        world.step();
    }
    assert!(world.durable.specs.is_empty());
}

#[test]
fn retention_removes_what_is_over_and_nothing_else() {
    let mut world = World::new();
    let task = world.submit(Task::new("q", "k").policy(|policy| {
        policy.retention = Some(Millis(5000));
    }));
    let purge = TaskCommand::Purge.on(task);
    world.apply(purge.clone()).unwrap();
    world.cancel(task).unwrap();
    world.settle();
    world.after(4999);
    world.apply(purge.clone()).unwrap();
    assert_eq!(world.status(task), Some(Status::Cancelled));
    world.after(1);
    // The clock is set back: the caller learns that the task is kept, and until when.
    world.set_wall_by(-2000);
    let until = START.wall + Millis(5000);
    assert_eq!(world.apply(purge.clone()), Ok(Reply::Kept { until }));
    world.set_wall_by(2000);
    world.apply(purge).unwrap();
    assert_eq!(world.status(task), None);
}
