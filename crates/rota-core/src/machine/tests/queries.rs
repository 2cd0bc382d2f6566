//! What those who look are told: sessions and what they hold, repeats, whether something can be
//! assigned, the stats.

use super::{
    super::{Lease, live::LiveTask},
    say::{Task, completed, failed, name},
    world::{START, World},
};
use crate::{
    ClientKeys, Command, LeaseToken, Millis, Now, Priority, Report, SessionId, SessionState,
    TaskCommand, WallTime,
};

/// Opens a session of a worker of that name.
fn open(world: &mut World, worker: &str, connection: u64) -> SessionId {
    let mut opening = world.opening(3, &[], &[]);
    (opening.worker, opening.connection) = (name(worker), connection);
    let session = opening.session;
    world.apply(Command::OpenSession(Box::new(opening))).unwrap();
    session
}

#[test]
fn sessions_are_listed_by_worker_and_id_whatever_the_order_in_which_they_came() {
    let mut world = World::new();
    let workers = ["e", "b", "d", "a", "c", "b"];
    let opened = workers.map(|worker| open(&mut world, worker, 0));
    let sorted = [3, 1, 5, 4, 2, 0].map(|at: usize| opened[at]);
    let ids = |views: Vec<crate::SessionView>| views.iter().map(|view| view.id).collect::<Vec<_>>();
    assert_eq!(ids(world.machine.sessions()), sorted);
    for most in 0..=7 {
        let page = ids(world.machine.sessions_after(None, most, 0));
        assert_eq!(page, sorted[..most.min(6)], "{most}");
        let after = (name("b"), opened[1]);
        let page = ids(world.machine.sessions_after(Some(&after), most, 0));
        assert_eq!(page, sorted[2..][..most.min(4)], "{most} after the first b");
    }
    assert_eq!(ids(world.machine.sessions_of(&name("b"))), [opened[1], opened[5]]);
    assert_eq!(ids(world.machine.sessions_of(&name("x"))), []);
}

#[test]
fn all_sessions_are_named_with_their_last_connections() {
    let mut world = World::new();
    let [a, b, c] = [("a", 7), ("b", 8), ("c", 0)].map(|(worker, on)| open(&mut world, worker, on));
    world.apply(Command::CloseSession { session: b, connection: None }).unwrap();
    let mut opening = world.opening(1, &[], &[]);
    (opening.session, opening.worker, opening.connection) = (c, name("c"), 9);
    world.apply(Command::OpenSession(Box::new(opening))).unwrap();
    assert_eq!(world.machine.session_ids().collect::<Vec<_>>(), [(a, 7), (c, 9)]);
}

#[test]
fn a_session_is_told_what_it_holds_and_need_not_stop() {
    let mut world = World::new();
    let session = world.open(10, &[], &[]);
    world.submit(Task::new("q", "k"));
    let cancelled = world.submit(Task::new("q", "k"));
    world.submit(Task::new("q", "k").id("order-1").key("a"));
    world.settle();
    world.cancel(cancelled).unwrap();
    let leases = world.has(session);
    let named = ClientKeys { id: Some(name("order-1")), key: Some("a".into()) };
    let expected = vec![(leases[0], ClientKeys::default()), (leases[2], named)];
    assert_eq!(world.machine.held(session), Some(expected));
    assert_eq!(world.machine.held(SessionId(99)), None);
}

#[test]
fn a_submission_is_a_repeat_if_it_would_create_no_task() {
    let mut world = World::new();
    let is_repeat = |world: &mut World, task| match world.submission(task) {
        Command::Submit(submit) => world.machine.is_repeat(&submit),
        other => panic!("{other:?}"),
    };
    world.submit(Task::new("q", "k"));
    world.submit(Task::new("q", "k").id("mine").key("a"));
    for (task, repeats) in [
        (Task::new("q", "k"), false),
        (Task::new("q", "k").id("other").key("b"), false),
        (Task::new("q", "k").id("mine"), true),
        (Task::new("q", "k").key("a"), true),
        (Task::new("q", "k").key("a").body(1), true),
    ] {
        assert_eq!(is_repeat(&mut world, task.clone()), repeats, "{task:?}");
    }
}

#[test]
fn the_store_is_asked_for_tasks_that_ended_before_the_last_two_steps() {
    let mut world = World::new();
    let live = world.submit(Task::new("q", "k"));
    let ended = world.submit(Task::new("q", "k"));
    let never = world.ids.next(world.now.wall);
    let token = LeaseToken(1);
    let commands = |task| {
        let (stored, spec, priority, run_at) = (None, None, Priority::MAX, START.wall);
        let report = Report::Released;
        [
            TaskCommand::Cancel.on(task),
            TaskCommand::Retry { spec }.on(task),
            TaskCommand::Reschedule { run_at }.on(task),
            TaskCommand::SetPriority(priority).on(task),
            TaskCommand::Delete.on(task),
            TaskCommand::Purge.on(task),
            Command::Report { task, token, report, fingerprint: 0, random: 0, stored },
        ]
    };
    let wanted = |world: &World, task| {
        let wanted = commands(task).map(|command| world.machine.wants_stored(&command));
        assert!(wanted.iter().all(|other| *other == wanted[0]), "{wanted:?}");
        wanted[0]
    };
    world.cancel(ended).unwrap();
    for step in 0..3 {
        assert_eq!(wanted(&world, live), None);
        assert_eq!(wanted(&world, never), Some(never));
        assert_eq!(wanted(&world, ended), (step == 2).then_some(ended), "{step} steps later");
        // A step with changes.
        world.submit(Task::new("q", "k"));
        world.step();
        world.machine.begin(world.now, world.batch);
    }
    let pause = Command::PauseQueue { queue: name("q"), pause: Some(Box::default()) };
    assert_eq!(world.machine.wants_stored(&pause), None);
}

#[test]
fn there_is_something_to_assign_while_tasks_wait_and_sessions_have_room() {
    let mut world = World::new();
    let ended = world.submit(Task::new("q", "k"));
    world.cancel(ended).unwrap();
    assert!(!world.machine.has_assignments(), "nobody is there");
    let session = world.open(1, &[], &[]);
    assert!(!world.machine.has_assignments(), "nothing waits");
    world.submit(Task::new("q", "k"));
    assert!(world.machine.has_assignments());
    world.settle();
    assert!(!world.machine.has_assignments(), "it is given");
    world.submit(Task::new("q", "k"));
    assert!(!world.machine.has_assignments(), "nobody has room");
    world.end(world.has_one(session), completed());
    assert!(world.machine.has_assignments());
}

#[test]
fn the_time_is_the_one_that_was_told_last_and_durations_never_go_back() {
    let mut world = World::new();
    assert_eq!(world.machine.now(), START);
    let later = Now { wall: WallTime(START.wall.0 - 50), mono: START.mono + Millis(100) };
    world.machine.begin(later, 1);
    assert_eq!(world.machine.now(), later);
    world.machine.begin(Now { wall: WallTime(7), mono: START.mono }, 2);
    assert_eq!(world.machine.now(), Now { wall: WallTime(7), mono: later.mono });
}

#[test]
fn the_survey_tells_what_sessions_do_and_what_nobody_serves() {
    let mut world = World::new();
    let session = world.open(3, &["a"], &["k"]);
    for (queue, kind) in [("a", "k"), ("a", "other"), ("a", "other"), ("b", "k")] {
        world.submit(Task::new(queue, kind));
    }
    world.settle();
    world.pass(Millis(300));
    world.machine.begin(world.now, world.batch);
    let stats = world.machine.stats();
    let mut queues: Vec<_> = stats
        .queues
        .iter()
        .map(|queue| (queue.counts.name.as_str(), queue.counts.pending, queue.unserved))
        .collect();
    queues.sort_unstable();
    assert_eq!(queues, [("a", 2, 2), ("b", 1, 1)]);
    let told = |world: &World| {
        let session = world.machine.stats().sessions.remove(0);
        (session.state, session.slots, session.held, session.heartbeat_age)
    };
    assert_eq!(told(&world), (SessionState::Serving, 3, 1, Millis(300)));
    world.apply(Command::Drain { session }).unwrap();
    assert_eq!(told(&world).0, SessionState::Draining);
    world.apply(Command::Detach { session, connection: 0 }).unwrap();
    assert_eq!(told(&world).0, SessionState::Awaited);
}

#[test]
fn memory_is_told_by_what_there_is_of_each_sort() {
    let memory = |world: &World| world.machine.stats().memory_bytes;
    let mut world = World::bare();
    assert_eq!(memory(&world), 0);
    // A whole chunk of the table.
    (0..4096).for_each(|_| _ = world.submit(Task::new("q", "k")));
    let waiting = 4096 * (size_of::<Option<LiveTask>>() + 2 * 16) as u64;
    assert_eq!(memory(&world), waiting);
    // A lease and its deadline take the place of a place.
    let session = world.open(1, &[], &[]);
    world.step_bare();
    let lease = size_of::<Lease>().next_multiple_of(16) as u64;
    assert_eq!(memory(&world), waiting + lease);
    let task = world.machine.session(session).unwrap().tasks[0].0;
    let token = world.machine.task(task).unwrap().lease.unwrap().token;
    let mut report = |report| {
        let (fingerprint, random, stored) = (0, u64::MAX, None);
        let report = Command::Report { task, token, report, fingerprint, random, stored };
        world.machine.apply(report).unwrap();
    };
    // The end of the lease, of a backoff, and a timer for it; the idle deadline stays.
    report(super::say::ended(failed("no")));
    assert_eq!(memory(&world), waiting + (2 + 2 + 1) * 16);
}
