//! Workers: coming, coming back, falling silent, draining and going.

use super::{
    say::{Task, completed, ended, failed, name},
    world::{TTL, World},
};
use crate::{
    Assignment, AttemptOutcome, Command, Credit, Effect, EndReason, LeaseId, MachineLimits, Millis,
    MonoTime, Mutation, Orders, Refusal, Reply, Report, SessionEnd, SessionId, Status, StopReason,
    TaskId,
};

/// A worker that has some of some tasks.
fn with_tasks(count: usize) -> (World, SessionId, Vec<Assignment>) {
    let mut world = World::new();
    let session = world.open(10, &[], &[]);
    for _ in 0..count {
        world.submit(Task::new("q", "k"));
    }
    world.settle();
    let leases = world.has(session);
    assert_eq!(leases.len(), count);
    world.effects();
    (world, session, leases)
}

fn held(leases: &[Assignment]) -> Vec<LeaseId> {
    leases.iter().map(|lease| LeaseId { task: lease.task, token: lease.token }).collect()
}

/// The worker comes back and says what it holds.
fn come_back(world: &mut World, session: SessionId, says: Option<&[Assignment]>) -> Vec<LeaseId> {
    let mut opening = world.opening(10, &[], &[]);
    opening.worker = world.workers[&session].name.clone();
    opening.session = session;
    opening.held = says.map(held);
    match world.apply(Command::OpenSession(Box::new(opening))).unwrap() {
        Reply::Session { revoked, .. } => revoked,
        other => panic!("{other:?}"),
    }
}

fn dispatched(world: &mut World) -> Vec<Assignment> {
    let effects = world.effects().into_iter();
    let leases = effects.filter_map(|effect| match effect {
        Effect::Dispatch(leased) => Some(leased),
        _ => None,
    });
    leases.collect()
}

#[test]
fn what_a_worker_does_not_know_of_is_sent_again() {
    let (mut world, session, leases) = with_tasks(3);
    assert_eq!(come_back(&mut world, session, Some(&leases[..1])), []);
    world.settle();
    assert_eq!(dispatched(&mut world), leases[1..]);
    // It cannot say: nothing is sent again.
    assert_eq!(come_back(&mut world, session, None), []);
    world.settle();
    assert_eq!(dispatched(&mut world), []);
}

#[test]
fn what_is_reported_right_after_coming_back_is_not_sent_again() {
    let (mut world, session, leases) = with_tasks(2);
    come_back(&mut world, session, Some(&[]));
    world.end(leases[0], completed());
    world.report(leases[1], Report::Released).unwrap();
    world.settle();
    // The second one was given anew, by another lease.
    let sent = dispatched(&mut world);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].task == leases[1].task && sent[0].token > leases[1].token);
}

#[test]
fn what_is_not_a_workers_any_more_is_revoked() {
    let (mut world, session, leases) = with_tasks(4);
    world.report(leases[0], Report::Released).unwrap();
    world.end(leases[1], completed());
    let never = Assignment { task: TaskId::from_u64(7).unwrap(), ..leases[2] };
    let older = Assignment { token: crate::LeaseToken(0), ..leases[3] };
    let says = [leases[0], leases[1], leases[2], never, older];
    let revoked = come_back(&mut world, session, Some(&says));
    assert_eq!(revoked, held(&[leases[0], leases[1], never, older]));
    // Another worker's lease is not this one's.
    let other = world.open(10, &[], &[]);
    let revoked = come_back(&mut world, other, Some(&leases[2..3]));
    assert_eq!(revoked, held(&leases[2..3]));
}

#[test]
fn a_stop_that_did_not_arrive_is_sent_again() {
    let (mut world, session, leases) = with_tasks(1);
    let Assignment { task, token, .. } = leases[0];
    world.cancel(task).unwrap();
    world.settle();
    world.effects();
    come_back(&mut world, session, Some(&leases));
    world.settle();
    let stop = Effect::Stop { session, task, token, reason: StopReason::Cancelled };
    let opened = Effect::SessionOpened { session, connection: 0 };
    assert_eq!(world.effects(), [opened, stop]);
}

#[test]
fn a_session_belongs_to_its_worker() {
    let (mut world, session, leases) = with_tasks(1);
    let mut opening = world.opening(10, &[], &[]);
    opening.session = session;
    let opened = world.apply(Command::OpenSession(Box::new(opening)));
    assert_eq!(opened, Err(Refusal::ForeignSession));
    world.settle();
    assert_eq!(world.has(session), leases);
}

#[test]
fn coming_back_may_change_what_is_served() {
    let mut world = World::new();
    let session = world.open(1, &["a"], &[]);
    let task = world.submit(Task::new("b", "k"));
    world.settle();
    assert!(world.has(session).is_empty());
    let mut opening = world.opening(1, &["b"], &[]);
    (opening.session, opening.worker) = (session, name("w1"));
    world.apply(Command::OpenSession(Box::new(opening))).unwrap();
    world.submit(Task::new("a", "k"));
    world.settle();
    assert_eq!(world.has_one(session).task, task);
    assert_eq!(world.machine.sessions().len(), 1);
}

#[test]
fn time_in_which_nobody_could_be_heard_does_not_count() {
    let (mut world, session, leases) = with_tasks(1);
    world.pass(Millis(3_600_000));
    world.machine.extend_deadlines(Millis(3_600_000));
    world.settle();
    assert!(world.machine.session(session).is_some());
    world.report(leases[0], ended(completed())).unwrap();
    world.after(9_999);
    assert!(world.machine.session(session).is_some());
    world.after(1);
    assert!(world.machine.session(session).is_none());
}

#[test]
fn who_could_not_be_answered_gets_the_time_again_and_who_is_gone_is_found_out() {
    let (mut world, session, _) = with_tasks(1);
    let credit = Credit::Take(0);
    world.apply(Command::SetCredit { session, connection: None, credit }).unwrap();
    let most = Millis(15_000);
    // A commit took longer than the TTL of ten seconds.
    world.pass(Millis(12_000));
    world.machine.extend_waiting(world.now.mono, Millis(12_000), most);
    world.settle();
    assert!(world.machine.session(session).is_some());
    let at = world.now.mono;
    world.apply(Command::Heartbeat { session, connection: None, at }).unwrap();
    // It is heard of no more, and commits stay slow: the TTL, and what a call may wait at most.
    let mut lived = 0;
    while world.machine.session(session).is_some() {
        world.pass(Millis(1_000));
        world.machine.extend_waiting(world.now.mono, Millis(1_000), most);
        world.settle();
        lived += 1;
    }
    assert_eq!(lived, 25);
    // One with a stream can say that it lives whatever the store does.
    let (mut world, session, _) = with_tasks(1);
    world.pass(Millis(12_000));
    world.machine.extend_waiting(world.now.mono, Millis(12_000), most);
    world.settle();
    assert!(world.machine.session(session).is_none());
}

#[test]
fn only_who_waits_for_an_answer_gets_more_time() {
    let most = Millis(5000);
    for (credit, detached, pauses, extended) in [
        // A worker with a stream can say that it lives.
        (Credit::Hold(3), false, &[4000][..], 0),
        (Credit::Hold(3), true, &[4000], 4000),
        (Credit::Take(0), false, &[4000], 4000),
        (Credit::Take(2), false, &[4000], 4000),
        (Credit::Take(2), true, &[4000], 4000),
        // No more than the longest wait for an answer, in all.
        (Credit::Take(2), false, &[5001], 5000),
        (Credit::Take(2), false, &[4000, 900], 4900),
        (Credit::Take(2), false, &[4000, 900, 900], 5000),
    ] {
        let mut world = World::new();
        let session = world.open(10, &[], &[]);
        world.apply(Command::SetCredit { session, connection: None, credit }).unwrap();
        if detached {
            world.apply(Command::Detach { session, connection: 0 }).unwrap();
        }
        world.pass(Millis(6000));
        world.machine.begin(world.now, world.batch);
        for pause in pauses {
            world.machine.extend_waiting(world.now.mono, Millis(*pause), most);
        }
        let age = world.machine.session(session).unwrap().heartbeat_age;
        assert_eq!(age, Millis(6000 - extended), "{credit:?} {detached} {pauses:?}");
    }
}

#[test]
fn nobody_gets_time_into_the_future() {
    let (mut world, session, _) = with_tasks(0);
    let credit = Credit::Take(0);
    world.apply(Command::SetCredit { session, connection: None, credit }).unwrap();
    world.pass(Millis(100));
    world.machine.extend_waiting(world.now.mono, Millis(7000), Millis(15_000));
    world.after(9_999);
    assert!(world.machine.session(session).is_some());
    world.after(1);
    assert!(world.machine.session(session).is_none());
}

#[test]
fn coming_back_writes_a_record_only_where_its_worker_may_be_silent_for_longer() {
    for (ttl, writes) in [(TTL.0 - 1, false), (TTL.0, false), (TTL.0 + 1, true)] {
        let (mut world, session, leases) = with_tasks(1);
        let mut opening = world.opening(10, &[], &[]);
        (opening.session, opening.worker) = (session, world.workers[&session].name.clone());
        (opening.ttl, opening.held) = (Millis(ttl), Some(held(&leases)));
        world.apply(Command::OpenSession(Box::new(opening))).unwrap();
        let batch = world.batch;
        world.settle();
        assert_eq!(world.batch > batch, writes, "{ttl}");
    }
}

#[test]
fn a_silent_worker_loses_its_tasks() {
    let (mut world, session, leases) = with_tasks(2);
    let worker = world.workers[&session].name.clone();
    world.report(leases[0], Report::Started { at: world.now.wall }).unwrap();
    for _ in 0..5 {
        world.after(9999);
        assert!(world.machine.session(session).is_some());
        // A heartbeat, credit or a report: all are signs of life.
        world.report(leases[0], Report::Progress { message: "on".into() }).unwrap();
    }
    world.after(10_000);
    let end = SessionEnd { session, worker, reason: EndReason::Expired, tasks: 2 };
    assert!(world.effects().contains(&Effect::SessionEnded(end)));
    assert_eq!(world.machine.session(session), None);
    for lease in &leases {
        let view = world.view(lease.task);
        assert_eq!((view.status, view.attempt, view.lost), (Status::Pending, 1, 1));
        let stale = world.report(*lease, ended(completed()));
        assert_eq!(stale, Err(Refusal::StaleLease { token: lease.token }));
    }
    assert_eq!(
        world.apply(Command::Heartbeat { session, connection: None, at: world.now.mono }),
        Err(Refusal::UnknownSession),
        "it must open a new one"
    );
}

#[test]
fn a_worker_whose_connection_broke_is_given_no_more_until_it_comes_back() {
    let (mut world, session, leases) = with_tasks(2);
    world.end(leases[0], completed());
    world.settle();
    world.apply(Command::Detach { session, connection: 0 }).unwrap();
    world.submit(Task::new("q", "k"));
    world.settle();
    assert_eq!(world.has(session), leases[1..], "it keeps what it has");
    come_back(&mut world, session, Some(&leases[1..]));
    world.settle();
    assert_eq!(world.has(session).len(), 2);
    // The end of a connection that is not its last one any more comes too late.
    world.end(leases[1], completed());
    world.apply(Command::Detach { session, connection: 7 }).unwrap();
    world.submit(Task::new("q", "k"));
    world.settle();
    assert_eq!(world.has(session).len(), 2);
}

#[test]
fn a_draining_worker_is_given_no_more_and_ends_what_it_has() {
    let (mut world, session, leases) = with_tasks(2);
    world.submit(Task::new("q", "k"));
    world.apply(Command::Drain { session }).unwrap();
    world.settle();
    assert!(world.effects().contains(&Effect::Drain { session }));
    world.end(leases[0], completed());
    world.settle();
    assert_eq!(world.has(session), leases[1..]);
    // Neither credit nor coming back changes that.
    world.apply(Command::SetCredit { session, connection: None, credit: Credit::Hold(9) }).unwrap();
    come_back(&mut world, session, Some(&leases[1..]));
    world.settle();
    assert_eq!(world.has(session), leases[1..]);
    assert!(world.effects().contains(&Effect::Drain { session }), "it is told again");
    assert!(world.machine.session(session).unwrap().draining);
}

#[test]
fn a_worker_that_goes_gives_back_what_it_had_not_begun() {
    let (mut world, session, leases) = with_tasks(3);
    let worker = world.workers[&session].name.clone();
    world.report(leases[0], Report::Started { at: world.now.wall }).unwrap();
    world.cancel(leases[2].task).unwrap();
    world.apply(Command::CloseSession { session, connection: None }).unwrap();
    world.settle();
    let state = |task| {
        let view = world.view(task);
        (view.status, view.attempt, view.lost)
    };
    assert_eq!(state(leases[0].task), (Status::Pending, 1, 1));
    assert_eq!(state(leases[1].task), (Status::Pending, 0, 0));
    assert_eq!(world.status(leases[2].task), Some(Status::Cancelled));
    let end = SessionEnd { session, worker, reason: EndReason::Closed, tasks: 3 };
    assert!(world.effects().contains(&Effect::SessionEnded(end)));
}

#[test]
fn a_repeated_report_is_acknowledged_and_a_stale_one_refused() {
    let other_result = AttemptOutcome::Completed { result: bytes::Bytes::from_static(b"2") };
    let reports = [
        ended(completed()),
        ended(other_result),
        ended(failed("no")),
        ended(failed("no, and why")),
        Report::Released,
    ];
    for report in &reports {
        for other in &reports {
            let (mut world, _, leases) = with_tasks(1);
            let lease = leases[0];
            world.report(lease, report.clone()).unwrap();
            for steps in 0..4 {
                let expected = if report == other {
                    Ok(Reply::Done)
                } else {
                    Err(Refusal::StaleLease { token: lease.token })
                };
                assert_eq!(world.report(lease, other.clone()), expected, "{steps} steps later");
                world.step();
            }
            let late = world.report(lease, Report::Progress { message: "on".into() });
            assert!(late.is_err(), "nothing to be repeated");
        }
    }
}

#[test]
fn a_repeat_is_known_although_the_task_has_gone_to_another() {
    let (mut world, session, leases) = with_tasks(1);
    world.report(leases[0], Report::Released).unwrap();
    world.settle();
    let next = world.has_one(session);
    assert!(next.token > leases[0].token);
    assert_eq!(world.report(leases[0], Report::Released), Ok(Reply::Done));
    assert_eq!(world.has_one(session), next, "and the other is not disturbed");
    world.end(next, completed());
    world.settle();
    assert!(world.report(leases[0], Report::Released).is_err(), "the last end counts");
    assert_eq!(world.report(next, ended(completed())), Ok(Reply::Done));
}

#[test]
fn the_end_of_what_was_to_be_stopped_is_acknowledged_again() {
    for report in [Report::Released, ended(AttemptOutcome::Cancelled), ended(failed("killed"))] {
        let (mut world, _, leases) = with_tasks(1);
        world.cancel(leases[0].task).unwrap();
        for steps in 0..4 {
            assert_eq!(world.report(leases[0], report.clone()), Ok(Reply::Done), "{steps} later");
            world.step();
        }
        assert_eq!(world.status(leases[0].task), Some(Status::Cancelled));
    }
}

#[test]
fn what_a_worker_is_to_do_is_said_until_it_is_done() {
    let (mut world, session, leases) = with_tasks(3);
    let orders = |world: &World| world.machine.orders(session).unwrap();
    assert_eq!(orders(&world), Orders::default());
    for lease in &leases[..2] {
        world.cancel(lease.task).unwrap();
    }
    world.settle();
    assert_eq!(orders(&world).stop, held(&leases[..2]));
    world.end(leases[0], AttemptOutcome::Cancelled);
    assert_eq!(orders(&world).stop, held(&leases[1..2]));
    world.apply(Command::Drain { session }).unwrap();
    assert!(orders(&world).draining);
    // Also to a worker that comes back after a change of leader, and cannot say what it holds.
    world.settle();
    world.crash(true, Millis(10));
    assert_eq!(orders(&world), Orders { stop: held(&leases[1..2]), draining: false });
    assert_eq!(world.machine.orders(SessionId(99)), None);
}

#[test]
fn there_are_no_more_sessions_than_may_be() {
    let limits = MachineLimits { sessions_max: 2, ..MachineLimits::default() };
    let mut world = World::with_limits(limits);
    let first = world.open(1, &[], &[]);
    world.open(1, &[], &[]);
    let opening = world.opening(1, &[], &[]);
    let refused = world.apply(Command::OpenSession(Box::new(opening)));
    assert_eq!(refused, Err(Refusal::TooManyNames { what: "sessions", limit: 2 }));
    come_back(&mut world, first, None);
    world.apply(Command::CloseSession { session: first, connection: None }).unwrap();
    world.open(1, &[], &[]);
}

#[test]
fn sessions_that_come_and_go_leave_nothing_behind() {
    let mut world = World::new();
    let stays = world.open(1, &[], &[]);
    for _ in 0..200 {
        let session = world.open(1, &[], &[]);
        world.apply(Command::CloseSession { session, connection: None }).unwrap();
        world.heartbeat(stays);
        world.after(100);
    }
    let subscription = world.machine.roster.subscriptions.values().next().expect("one");
    assert!(subscription.idle_len() <= 2);
    world.submit(Task::new("q", "k"));
    world.settle();
    assert_eq!(world.has(stays).len(), 1);
    assert!(world.now.mono > super::world::START.mono + Millis(1000));
}

#[test]
fn what_comes_by_a_former_connection_changes_nothing() {
    let (mut world, session, leases) = with_tasks(2);
    let mut opening = world.opening(10, &[], &[]);
    opening.worker = world.workers[&session].name.clone();
    (opening.session, opening.connection, opening.held) = (session, 7, Some(held(&leases)));
    world.apply(Command::OpenSession(Box::new(opening))).unwrap();
    let former = Some(0);
    let credit = Credit::Hold(0);
    world.machine.apply(Command::SetCredit { session, connection: former, credit }).unwrap();
    world.machine.apply(Command::CloseSession { session, connection: former }).unwrap();
    assert_eq!(world.machine.session(session).unwrap().credit, Credit::Hold(u32::MAX));
    world.after(9000);
    let at = world.now.mono;
    world.apply(Command::Heartbeat { session, connection: former, at }).unwrap();
    world.after(999);
    assert!(world.machine.session(session).is_some());
    world.after(1);
    assert!(world.machine.session(session).is_none(), "its own connection was silent");
}

#[test]
fn what_goes_down_to_a_session_comes_after_its_opening() {
    let (mut world, session, leases) = with_tasks(1);
    world.after(10_000);
    world.effects();
    // It ends and is opened again before anything has landed.
    world.submit(Task::new("q", "k"));
    world.settle();
    let mut opening = world.opening(10, &[], &[]);
    (opening.session, opening.held) = (session, Some(held(&leases)));
    world.apply(Command::OpenSession(Box::new(opening))).unwrap();
    world.settle();
    let effects = world.effects();
    let first = effects.iter().position(|effect| matches!(effect, Effect::SessionOpened { .. }));
    let sent = effects.iter().position(|effect| matches!(effect, Effect::Dispatch(_)));
    assert!(first < sent && first.is_some(), "{effects:?}");
}

#[test]
fn sessions_are_judged_by_what_was_heard_and_not_by_the_time() {
    let (mut world, session, _) = with_tasks(1);
    let silent = world.open(1, &[], &[]);
    let before = world.now.mono;
    world.pass(Millis(60_000));
    world.machine.begin(world.now, world.batch);
    // Nothing that came after `before` has been looked at yet.
    world.machine.tick(before);
    assert_eq!(world.machine.sessions().len(), 2);
    // It spoke in time; that it is applied so late does not matter.
    let at = MonoTime(world.now.mono.0 - 9999);
    world.apply(Command::Heartbeat { session, connection: None, at }).unwrap();
    world.settle();
    assert!(world.machine.session(session).is_some() && world.machine.session(silent).is_none());
    // What is older than the last sign takes nothing back.
    world.apply(Command::Heartbeat { session, connection: None, at: before }).unwrap();
    world.settle();
    assert!(world.machine.session(session).is_some());
}

#[test]
fn a_report_that_waited_to_be_read_while_the_time_ran_out_counts() {
    let mut world = World::new();
    let session = world.open(1, &[], &[]);
    let task = world.submit(Task::new("q", "k").policy(|policy| policy.timeout = Millis(1000)));
    world.settle();
    let lease = world.has_one(session);
    world.pass(Millis(9000));
    world.heartbeat(session);
    world.pass(Millis(1999));
    let sent = world.now.mono;
    world.pass(Millis(5000));
    world.machine.begin(world.now, world.batch);
    world.machine.tick(sent);
    assert_eq!(world.status(task), Some(Status::Assigned));
    world.end(lease, completed());
    world.settle();
    assert_eq!(world.status(task), Some(Status::Completed));
}

#[test]
fn sessions_are_listed_page_by_page() {
    let mut world = World::new();
    let all: Vec<_> = (0..7).map(|_| world.open(3, &[], &[])).collect();
    for _ in 0..14 {
        world.submit(Task::new("q", "k"));
    }
    world.settle();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = world.machine.sessions_after(after.as_ref(), 3, 1);
        assert!(page.iter().all(|view| view.held == 2 && view.tasks.len() == 1));
        let Some(last) = page.last() else { break };
        after = Some((last.worker.clone(), last.id));
        seen.extend(page.into_iter().map(|view| view.id));
    }
    assert_eq!(seen, all);
}

#[test]
fn a_task_that_is_set_aside_waits_for_the_next_leader() {
    let mut world = World::new();
    let session = world.open(10, &[], &[]);
    let task = world.submit(Task::new("q", "k"));
    world.settle();
    let lease = world.has_one(session);
    world.machine.begin(world.now, world.batch);
    let reported = world.machine.apply(Command::Report {
        task,
        token: lease.token,
        report: Report::SetAside,
        fingerprint: 0,
        random: 0,
        stored: None,
    });
    assert_eq!(reported, Ok(Reply::Done));
    let step = world.machine.seal();
    let records: Vec<_> = step.mutations.iter().filter_map(written).collect();
    assert_eq!(records, [(task, Status::Pending, 0)]);
    assert!(world.machine.is_set_aside(task) && world.machine.task(task).is_none());
    let queue = world.machine.queue(&name("q")).unwrap();
    assert_eq!((queue.unreadable, queue.pending, queue.leased), (1, 0, 0));
    assert_eq!(world.machine.session(session).unwrap().held, 0);
}

/// The state of a live task as a mutation writes it, and its attempts.
fn written(mutation: &Mutation) -> Option<(TaskId, Status, u32)> {
    match mutation {
        Mutation::PutLive(record) => Some((record.id, record.status, record.attempt)),
        _ => None,
    }
}
