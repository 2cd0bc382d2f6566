//! Who gets what: priority and order, queues and kinds and workers side by side, pausing.

use std::collections::BTreeMap;

use super::{
    say::{Task, completed, name},
    world::World,
};
use crate::{
    Command, Credit, Millis, Pause, Priority, SessionId, Status, TaskCommand, TaskId, Waiting,
};

/// One worker takes one task at a time, completes it and takes the next: the order in which they
/// came.
fn order_of_service(world: &mut World, session: SessionId) -> Vec<TaskId> {
    let mut order = Vec::new();
    loop {
        world.settle();
        let Some(lease) = world.has(session).first().copied() else { return order };
        order.push(lease.task);
        world.end(lease, completed());
    }
}

#[test]
fn the_highest_priority_goes_first_and_then_who_came_first() {
    let mut world = World::new();
    let priorities = [5, 0, 9, 5, 9, 0, 5];
    let tasks: Vec<_> =
        priorities.iter().map(|level| world.submit(Task::new("q", "k").priority(*level))).collect();
    let session = world.open(1, &[], &[]);
    let expected = [2, 4, 0, 3, 6, 1, 5].map(|at: usize| tasks[at]);
    assert_eq!(order_of_service(&mut world, session), expected);
}

#[test]
fn kinds_of_a_queue_are_served_in_one_order() {
    // Few kinds of many, many kinds of few, all: each way of looking finds the same.
    for kinds in [&[][..], &["k0", "k1"], &["k0", "k1", "k2", "k3", "x", "y"]] {
        let mut world = World::new();
        let tasks: Vec<_> = (0..12u32)
            .map(|at| {
                let task = Task::new("q", &format!("k{}", at % 4)).priority(at / 4 % 2);
                (world.submit(task), at)
            })
            .collect();
        let session = world.open(1, &[], kinds);
        let served = |at: u32| kinds.is_empty() || kinds.contains(&&*format!("k{}", at % 4));
        let mut expected: Vec<_> = tasks.into_iter().filter(|(_, at)| served(*at)).collect();
        expected.sort_by_key(|(_, at)| (u32::from(at / 4 % 2 == 0), *at));
        let expected: Vec<_> = expected.into_iter().map(|(task, _)| task).collect();
        assert_eq!(order_of_service(&mut world, session), expected, "{kinds:?}");
    }
}

#[test]
fn another_priority_takes_the_last_place_of_its_new_level() {
    let mut world = World::new();
    let [a, b, c] = [5, 5, 9].map(|level| world.submit(Task::new("q", "k").priority(level)));
    let priority = Priority::new(9).unwrap();
    world.apply(TaskCommand::SetPriority(priority).on(b)).unwrap();
    let session = world.open(1, &[], &[]);
    assert_eq!(order_of_service(&mut world, session), [c, b, a]);
}

#[test]
fn a_flood_in_one_queue_does_not_hold_up_another() {
    let mut world = World::new();
    for _ in 0..200 {
        world.submit(Task::new("flood", "k").priority(9));
    }
    let calm: Vec<_> = (0..5).map(|_| world.submit(Task::new("calm", "k").priority(0))).collect();
    let session = world.open(1, &[], &[]);
    let order = order_of_service(&mut world, session);
    for (at, task) in calm.iter().enumerate() {
        let served = order.iter().position(|other| other == task).unwrap();
        assert!(served <= 2 * at + 1, "number {at} came as number {served}");
    }
}

#[test]
fn workers_are_given_tasks_in_turn() {
    let mut world = World::new();
    let sessions: Vec<_> = (0..4).map(|_| world.open(100, &[], &[])).collect();
    for _ in 0..40 {
        world.submit(Task::new("q", "k"));
    }
    world.settle();
    let held: Vec<_> = sessions.iter().map(|session| world.has(*session).len()).collect();
    assert_eq!(held, [10; 4]);
    // And over many steps with one task each.
    for _ in 0..40 {
        world.submit(Task::new("q", "k"));
        world.settle();
    }
    let held: Vec<_> = sessions.iter().map(|session| world.has(*session).len()).collect();
    assert_eq!(held, [20; 4]);
}

#[test]
fn no_subscription_is_preferred_by_its_number() {
    // Each worker serves another set; all of them serve the kind that there is.
    let mut world = World::new();
    let own: Vec<_> = (0..20).map(|at| format!("own-{at}")).collect();
    let sessions: Vec<_> = own.iter().map(|kind| world.open(100, &[], &["k", kind])).collect();
    for _ in 0..60 {
        world.submit(Task::new("q", "k"));
        world.settle();
    }
    let held: Vec<_> = sessions.iter().map(|session| world.has(*session).len()).collect();
    assert_eq!(held, [3; 20]);
}

#[test]
fn a_worker_with_a_kind_of_its_own_is_not_starved_by_those_without() {
    let mut world = World::new();
    let common = world.open(1, &[], &["common"]);
    let both = world.open(1, &[], &["common", "rare"]);
    for at in 0..60 {
        world.submit(Task::new("q", if at % 10 == 9 { "rare" } else { "common" }));
    }
    let mut done = BTreeMap::new();
    for _ in 0..30 {
        world.settle();
        for session in [common, both] {
            for lease in world.has(session) {
                let kind = world.view(lease.task).kind;
                *done.entry((session, kind)).or_insert(0) += 1;
                world.end(lease, completed());
            }
        }
    }
    assert_eq!(done[&(both, name("rare"))], 6, "{done:?}");
    assert_eq!(done.values().sum::<i32>(), 60, "{done:?}");
}

#[test]
fn a_worker_is_given_no_more_than_slots_and_credit() {
    for (slots, credit, given) in [
        (3, Credit::Hold(10), 3),
        (10, Credit::Hold(3), 3),
        (10, Credit::Take(3), 3),
        (2, Credit::Take(3), 2),
        (0, Credit::Hold(3), 0),
        (3, Credit::Hold(0), 0),
        (3, Credit::Take(0), 0),
    ] {
        let mut world = World::new();
        (0..20).for_each(|_| _ = world.submit(Task::new("q", "k")));
        let mut opening = world.opening(slots, &[], &[]);
        opening.credit = credit;
        let session = opening.session;
        world.apply(Command::OpenSession(Box::new(opening))).unwrap();
        world.settle();
        assert_eq!(world.has(session).len(), given, "{slots} {credit:?}");
        // What it ends makes room for more, unless it asked for a number of tasks once.
        for lease in world.has(session) {
            world.end(lease, completed());
        }
        world.settle();
        let again = match credit {
            Credit::Hold(_) => given,
            Credit::Take(asked) => (asked as usize - given).min(slots as usize),
        };
        assert_eq!(world.has(session).len(), again, "{slots} {credit:?}");
    }
}

#[test]
fn who_paused_a_queue_is_known_until_it_is_resumed() {
    let mut world = World::new();
    let pause = |world: &mut World, by: &str, note: &str| {
        world.pass(Millis(1000));
        let at = world.now.wall;
        let pause = Pause { at, by: by.into(), note: note.into(), on_failure: false };
        let command =
            Command::PauseQueue { queue: name("q"), pause: Some(Box::new(pause.clone())) };
        world.apply(command).unwrap();
        world.settle();
        Some(Box::new(pause))
    };
    let known = |world: &World| world.machine.queue("q").unwrap().pause;
    let ann = pause(&mut world, "ann", "migration");
    // A repeat of the same, and a pause that says nothing, tell nothing new.
    pause(&mut world, "ann", "migration");
    pause(&mut world, "", "");
    assert_eq!(known(&world), ann);
    let bob = pause(&mut world, "bob", "migration");
    world.crash(true, Millis(10));
    assert_eq!(known(&world), bob);
    world.pause("q", false);
    assert_eq!(known(&world), None);
    world.settle();
    assert!(world.durable.queues.is_empty());
}

#[test]
fn a_paused_queue_starts_nothing_and_goes_on_where_it_was() {
    let mut world = World::new();
    world.pause("q", true);
    let first = world.submit(Task::new("q", "k"));
    let session = world.open(1, &[], &[]);
    let other = world.submit(Task::new("other", "k"));
    assert_eq!(order_of_service(&mut world, session), [other]);
    assert_eq!(world.view(first).waiting, Some(Waiting::QueuePaused));
    let second = world.submit(Task::new("q", "k"));
    world.settle();
    world.crash(true, Millis(10));
    assert!(world.machine.queue("q").unwrap().paused, "it stays paused through a restart");
    let session = world.open(1, &[], &[]);
    world.settle();
    assert!(world.has(session).is_empty());
    world.pause("q", false);
    assert_eq!(order_of_service(&mut world, session), [first, second]);
    // What has begun is not stopped.
    let third = world.submit(Task::new("q", "k"));
    world.settle();
    world.pause("q", true);
    world.settle();
    assert_eq!(world.status(third), Some(Status::Assigned));
    assert_eq!(world.machine.queue("q").unwrap().leased, 1);
}

#[test]
fn a_waiting_task_says_how_many_go_before_it() {
    let mut world = World::new();
    let session = world.open(1, &[], &[]);
    let tasks: Vec<_> =
        [5, 5, 5, 9, 0, 5].map(|level| world.submit(Task::new("q", "k").priority(level))).to_vec();
    world.settle();
    // The one of priority 9 went first.
    assert_eq!(world.has_one(session).task, tasks[3]);
    let ahead = |world: &World, at: usize| match world.view(tasks[at]).waiting {
        Some(Waiting::SlotsBusy { ahead }) => ahead,
        other => panic!("{other:?}"),
    };
    assert_eq!([0, 1, 2, 5, 4].map(|at| ahead(&world, at)), [0, 1, 2, 3, 4]);
    world.cancel(tasks[1]).unwrap();
    world.reschedule(tasks[0], 60_000).unwrap();
    assert_eq!([2, 5, 4].map(|at| ahead(&world, at)), [0, 1, 2]);
    // Of another kind, another lane.
    let other = world.submit(Task::new("q", "other"));
    assert_eq!(world.view(other).waiting, Some(Waiting::SlotsBusy { ahead: 0 }));
    let nobodys = world.open(1, &["x"], &[]);
    world.apply(Command::Drain { session }).unwrap();
    assert_eq!(world.view(other).waiting, Some(Waiting::NoWorker));
    assert_ne!(session, nobodys);
}

#[test]
fn a_task_says_when_workers_with_room_have_not_asked() {
    let mut world = World::new();
    let mut opening = world.opening(10_000, &[], &["k"]);
    opening.credit = Credit::Take(0);
    let session = opening.session;
    world.apply(Command::OpenSession(Box::new(opening))).unwrap();
    let ask = |world: &mut World, tasks| {
        let credit = Credit::Take(tasks);
        world.apply(Command::SetCredit { session, connection: None, credit }).unwrap();
        world.settle();
    };
    let slots = |world: &World| {
        let view = world.machine.session(session).unwrap();
        let stats = world.machine.stats().sessions.remove(0);
        assert_eq!((view.slots, view.held), (stats.slots, stats.held));
        (view.slots, view.held)
    };
    let tasks = [0, 1, 2].map(|_| world.submit(Task::new("q", "k")));
    let waiting = |world: &World, at: usize| world.view(tasks[at]).waiting;
    // It has just come: there is a worker, which has not said how much it takes.
    assert_eq!(waiting(&world, 1), Some(Waiting::NotAsked { ahead: 1 }));
    assert_eq!(slots(&world), (0, 0));
    ask(&mut world, 1);
    assert_eq!(
        (slots(&world), waiting(&world, 1)),
        ((1, 1), Some(Waiting::SlotsBusy { ahead: 0 }))
    );
    // What it did makes room, and it does not ask.
    let first = world.has_one(session);
    world.end(first, completed());
    assert_eq!((slots(&world), waiting(&world, 1)), ((1, 0), Some(Waiting::NotAsked { ahead: 0 })));
    // It takes one by one, and holds more than it asked for last.
    ask(&mut world, 1);
    ask(&mut world, 1);
    assert_eq!(slots(&world), (2, 2));
    let other = world.submit(Task::new("q", "other"));
    assert_eq!(world.view(other).waiting, Some(Waiting::NoWorker));
    // A worker that takes no more rests no more.
    world.has(session).into_iter().for_each(|lease| world.end(lease, completed()));
    let last = world.submit(Task::new("q", "k"));
    let busy = world.open(0, &[], &["k"]);
    assert_eq!(world.view(last).waiting, Some(Waiting::NotAsked { ahead: 0 }));
    world.apply(Command::Drain { session }).unwrap();
    assert_eq!(world.view(last).waiting, Some(Waiting::SlotsBusy { ahead: 0 }));
    assert_ne!(busy, session);
}

#[test]
fn a_queue_says_since_when_its_oldest_waits() {
    let mut world = World::new();
    let first = world.submit(Task::new("q", "k").priority(3));
    world.after(1000);
    world.submit(Task::new("q", "k").priority(4));
    world.after(1000);
    world.submit(Task::new("q", "other"));
    let oldest = |world: &World| world.machine.queue("q").unwrap().oldest_pending;
    assert_eq!(oldest(&world), Some(super::world::START.wall));
    world.cancel(first).unwrap();
    assert_eq!(oldest(&world), Some(super::world::START.wall + Millis(1000)));
    let counts = world.machine.queue("q").unwrap();
    assert_eq!((counts.pending, counts.scheduled, counts.leased), (2, 0, 0));
}
