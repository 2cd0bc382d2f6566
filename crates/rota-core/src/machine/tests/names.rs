//! Names: idempotency, conflicts, and how many there may be.

use super::{
    books,
    say::{Task, completed, name},
    world::World,
};
use crate::{Command, MachineLimits, Millis, Refusal, TaskCommand};

#[test]
fn a_repeat_is_the_same_task_and_another_body_a_conflict() {
    let named = [
        ("id", Task::new("q", "k").id("order-1")),
        ("idempotency_key", Task::new("q", "k").key("order-1")),
    ];
    for (field, task) in named {
        for steps_between in 0..4 {
            for reads_ahead in [false, true] {
                let mut world = World::new();
                world.reads_ahead = reads_ahead;
                let (first, created) = world.try_submit(task.clone()).unwrap();
                assert!(created);
                for _ in 0..steps_between {
                    world.step();
                }
                assert_eq!(world.try_submit(task.clone()), Ok((first, false)));
                let other = world.try_submit(task.clone().body(1));
                assert_eq!(other, Err(Refusal::Conflict { field, task: first }));
            }
        }
    }
}

#[test]
fn a_name_holds_while_its_task_is_kept_and_is_free_when_it_is_deleted() {
    for steps_between in 0..4 {
        for reads_ahead in [false, true] {
            let mut world = World::new();
            world.reads_ahead = reads_ahead;
            let task = Task::new("q", "k").id("order-1").key("a");
            let first = world.submit(task.clone());
            world.cancel(first).unwrap();
            assert_eq!(world.try_submit(task.clone()), Ok((first, false)), "it has only ended");
            for _ in 0..steps_between {
                world.step();
            }
            world.delete(first).unwrap();
            let (second, created) = world.try_submit(task.clone().body(1)).unwrap();
            assert!(created && second != first);
            for _ in 0..steps_between {
                world.step();
                assert_eq!(world.try_submit(task.clone().body(1)), Ok((second, false)));
            }
        }
    }
}

#[test]
fn names_survive_a_restart_if_the_client_was_told_of_the_task() {
    let mut world = World::new();
    let task = Task::new("q", "k").key("a");
    let first = world.submit(task.clone());
    world.settle();
    let lost = world.submit(Task::new("q", "k").key("b"));
    world.step();
    world.crash(false, Millis(100));
    assert_eq!(world.try_submit(task), Ok((first, false)));
    assert_eq!(world.status(lost).map(|_| ()), None);
    assert!(world.try_submit(Task::new("q", "k").key("b")).unwrap().1);
}

#[test]
fn a_full_queue_takes_no_more_until_there_is_room() {
    let mut world =
        World::with_limits(MachineLimits { queue_length_max: 2, ..MachineLimits::default() });
    let session = world.open(1, &[], &[]);
    let cancelled = world.submit(Task::new("q", "k").delay(1000));
    world.cancel(cancelled).unwrap();
    world.submit(Task::new("q", "k"));
    world.submit(Task::new("q", "k").delay(1000));
    let full = Err(Refusal::QueueFull { queue: name("q"), limit: 2 });
    assert_eq!(world.try_submit(Task::new("q", "k")), full);
    assert_eq!(world.retry(cancelled).map(|_| ()), full.map(|(_, _): (_, bool)| ()));
    world.submit(Task::new("other", "k"));
    world.settle();
    world.end(world.has_one(session), completed());
    world.submit(Task::new("q", "k"));
}

fn few() -> World {
    let limits = MachineLimits { queues_max: 3, kinds_max: 3, ..MachineLimits::default() };
    World::with_limits(limits)
}

#[test]
fn queues_that_were_resumed_but_never_used_make_room() {
    let mut world = few();
    for queue in ["a", "b", "c"] {
        world.pause(queue, false);
    }
    world.submit(Task::new("new", "k"));
}

#[test]
fn there_are_no_more_names_than_may_be() {
    let mut world = few();
    for at in 0..3 {
        world.submit(Task::new(&format!("q{at}"), "k"));
    }
    let queues = Refusal::TooManyNames { what: "queues", limit: 3 };
    assert_eq!(world.try_submit(Task::new("q3", "k")), Err(queues.clone()));
    let paused =
        world.apply(Command::PauseQueue { queue: name("q3"), pause: Some(Box::default()) });
    assert_eq!(paused, Err(queues.clone()));
    let opening = world.opening(1, &["q0", "q3"], &[]);
    let opened = world.apply(Command::OpenSession(Box::new(opening)));
    assert_eq!(opened, Err(queues));
    world.submit(Task::new("q0", "k1"));
    world.submit(Task::new("q0", "k2"));
    let kinds = Refusal::TooManyNames { what: "kinds", limit: 3 };
    assert_eq!(world.try_submit(Task::new("q0", "k3")), Err(kinds));
    world.submit(Task::new("q2", "k2"));
    world.settle();
    assert_eq!(world.machine.queues().len(), 3);
}

#[test]
fn names_that_nothing_needs_make_room() {
    let mut world = few();
    for round in 0..100 {
        let task = world.submit(Task::new(&format!("q{round}"), &format!("k{round}")));
        world.cancel(task).unwrap();
        world.settle();
    }
    assert!(world.machine.queues().len() <= 3);
    assert!(world.machine.roster.queues.len() <= 3 && world.machine.roster.kinds.len() <= 3);
    assert!(world.machine.roster.lanes.len() <= 4);
}

#[test]
fn names_are_dropped_only_where_there_is_no_room() {
    // Two queues and kinds have no tasks any more; there may be three of each.
    for (queues, kinds, dropped) in [
        (&["new"][..], &[][..], false),
        (&[], &["new"], false),
        (&["new"], &["new"], false),
        (&["new", "newer"], &[], true),
        (&[], &["new", "newer"], true),
        (&["new", "newer", "newest"], &["new", "newer", "newest"], true),
        (&["q0", "q1", "new"], &["k0", "k1", "new"], false),
    ] {
        let mut world = few();
        for at in 0..2 {
            let task = world.submit(Task::new(&format!("q{at}"), &format!("k{at}")));
            world.cancel(task).unwrap();
        }
        world.open(1, queues, kinds);
        let left = ["q0", "q1"].map(|queue| world.machine.queue(queue).is_some());
        assert_eq!(left, [!dropped; 2], "{queues:?} {kinds:?}");
    }
    for (queues, kinds, what) in
        [(&["a", "b", "c", "d"][..], &[][..], "queues"), (&[], &["a", "b", "c", "d"], "kinds")]
    {
        let mut world = few();
        let opening = world.opening(1, queues, kinds);
        let refused = world.apply(Command::OpenSession(Box::new(opening)));
        assert_eq!(refused, Err(Refusal::TooManyNames { what, limit: 3 }));
    }
}

#[test]
fn names_in_use_are_kept() {
    let mut world = few();
    world.pause("paused", true);
    world.open(1, &["served"], &["served"]);
    world.submit(Task::new("busy", "busy").delay(1000));
    let ended = world.submit(Task::new("paused", "other"));
    world.cancel(ended).unwrap();
    world.settle();
    assert!(world.try_submit(Task::new("new", "busy")).is_err());
    world.submit(Task::new("busy", "new"));
    let names: Vec<_> = world.machine.queues().into_iter().map(|queue| queue.name).collect();
    assert_eq!(names, [name("busy"), name("paused"), name("served")]);
    // What held them lets go, one after the other.
    world.pause("paused", false);
    world.submit(Task::new("new", "busy"));
    assert!(world.try_submit(Task::new("newer", "busy")).is_err());
    world.apply(Command::CloseSession { session: crate::SessionId(1), connection: None }).unwrap();
    world.submit(Task::new("newer", "served"));
    assert!(world.machine.queue("served").is_none());
}

#[test]
fn lanes_and_subscriptions_do_not_grow_with_history() {
    let mut world = World::bare();
    for round in 0..5000 {
        let (queue, kind) = (format!("q{}", round % 60), format!("k{round}"));
        let session = world.open(1, &[], &[&kind]);
        let task = world.submit(Task::new(&queue, &kind));
        world.machine.apply(TaskCommand::Cancel.on(task)).unwrap();
        world.machine.apply(Command::CloseSession { session, connection: None }).unwrap();
        world.step_bare();
    }
    assert!(world.machine.roster.subscriptions.len() < 200);
    assert!(world.machine.roster.lanes.len() < 1500);
    assert_eq!(world.machine.queues().len(), 60, "but queues stay in sight");
    books::recount(&world.machine);
    world.machine.assert_no_leftovers();
}

#[test]
fn names_of_sessions_that_went_are_free_at_once() {
    let limits = MachineLimits { queues_max: 1000, kinds_max: 10_000, ..MachineLimits::default() };
    let mut world = World::with_limits(limits);
    for round in 0..10 {
        let names: Vec<_> = (0..100).map(|at| format!("q{round}-{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let session = world.open(1, &names, &[]);
        world.apply(Command::CloseSession { session, connection: None }).unwrap();
    }
    world.submit(Task::new("new", "k"));
}

#[test]
fn one_name_that_is_free_among_many_is_found_within_a_second() {
    let limits = MachineLimits { queues_max: 130, ..MachineLimits::default() };
    let mut world = World::with_limits(limits);
    let tasks: Vec<_> =
        (0..130).map(|at| world.submit(Task::new(&format!("q{at}"), "k"))).collect();
    let mut waited = 0;
    for (at, task) in tasks[..4].iter().enumerate() {
        world.cancel(*task).unwrap();
        if let Err(error) = world.try_submit(Task::new(&format!("new{at}"), "k")) {
            assert!(matches!(error, Refusal::TooManyNames { .. }));
            waited += 1;
            world.pass(Millis(1000));
            world.submit(Task::new(&format!("new{at}"), "k"));
        }
    }
    assert!(waited > 0, "names are not looked through for each that is wanted");
}

#[test]
fn a_queue_that_was_paused_and_resumed_holds_no_name_after_a_restart() {
    let mut world = few();
    for round in 0..10 {
        let queue = format!("q{round}");
        world.pause(&queue, true);
        world.settle();
        assert_eq!(world.durable.queues.len(), 1);
        world.pause(&queue, false);
        world.settle();
        assert!(world.durable.queues.is_empty());
    }
    world.pause("paused", true);
    world.settle();
    // As an earlier version wrote it.
    world.durable.queues.insert(name("old"), crate::QueueRecord::default());
    world.crash(true, Millis(100));
    let names: Vec<_> = world.machine.queues().into_iter().map(|queue| queue.name).collect();
    assert_eq!(names, [name("paused")]);
    world.settle();
    assert_eq!(world.durable.queues.keys().collect::<Vec<_>>(), [&name("paused")]);
}

#[test]
fn queues_are_listed_page_by_page() {
    let mut world = World::new();
    for at in 0..25 {
        world.submit(Task::new(&format!("q{at:02}"), "k"));
    }
    let all: Vec<_> = world.machine.queues().into_iter().map(|queue| queue.name).collect();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = world.machine.queues_after(after.as_ref(), 10);
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        seen.extend(page.into_iter().map(|queue| queue.name));
    }
    assert_eq!(seen, all);
}
