//! Pages of live tasks: complete, in order, none twice, and bounded work for each.

use super::{
    say::{Task, failed, name},
    world::World,
};
use crate::{LiveCounts, LiveFilter, Status, TaskId, Waiting};

fn all(world: &World, filter: &LiveFilter, limit: usize) -> (Vec<TaskId>, usize) {
    let (mut seen, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = world.machine.live_page(filter, before, limit);
        pages += 1;
        assert!(pages <= 1000, "pages do not end");
        assert!(page.tasks.len() <= limit);
        seen.extend(page.tasks.iter().map(|view| view.id));
        match page.down_to {
            Some(down_to) => before = Some(down_to),
            None => return (seen, pages),
        }
    }
}

#[test]
fn pages_show_each_live_task_once_newest_first() {
    let mut world = World::new();
    let mut expected: Vec<_> = (0..500).map(|_| world.submit(Task::new("q", "k"))).collect();
    expected.reverse();
    for limit in [1, 7, 128, 500, 1000] {
        assert_eq!(all(&world, &LiveFilter::default(), limit).0, expected, "{limit}");
    }
    let other = LiveFilter { queue: Some(name("other")), ..LiveFilter::default() };
    assert!(all(&world, &other, 10).0.is_empty());
}

#[test]
fn leased_tasks_are_found_at_once_beside_many_that_wait() {
    let mut world = World::bare();
    world.open(3, &[], &[]);
    for _ in 0..30_000 {
        world.submit(Task::new("q", "k"));
    }
    world.step_bare();
    let statuses = vec![Status::Assigned, Status::Running];
    let (leased, pages) = all(&world, &LiveFilter { statuses, ..LiveFilter::default() }, 10);
    assert_eq!((leased.len(), pages), (3, 1));
    assert!(leased.is_sorted_by(|a, b| a > b));
    let running = LiveFilter { statuses: vec![Status::Running], ..LiveFilter::default() };
    assert!(all(&world, &running, 10).0.is_empty());
    let waiting = LiveFilter { statuses: vec![Status::Pending], ..LiveFilter::default() };
    assert_eq!(world.machine.live_page(&waiting, None, 3).tasks.len(), 3);
    // Where nothing is found, a page ends all the same.
    let scheduled = LiveFilter { statuses: vec![Status::Scheduled], ..LiveFilter::default() };
    assert_eq!(all(&world, &scheduled, 10), (Vec::new(), 3));
}

#[test]
fn pages_of_leased_tasks_show_each_once_newest_first() {
    let mut world = World::new();
    world.open(4, &["a"], &[]);
    let tasks: Vec<_> = (0..4).map(|_| world.submit(Task::new("a", "k"))).collect();
    world.submit(Task::new("b", "k"));
    world.settle();
    let newest: Vec<_> = tasks.iter().rev().copied().collect();
    let leased = |queue: Option<&str>| LiveFilter {
        statuses: vec![Status::Assigned, Status::Running],
        queue: queue.map(name),
        ..LiveFilter::default()
    };
    // No page follows the one that shows the last of them.
    for (limit, pages) in [(1, 4), (2, 2), (3, 2), (4, 1), (5, 1)] {
        assert_eq!(all(&world, &leased(None), limit), (newest.clone(), pages), "{limit}");
    }
    assert_eq!(all(&world, &leased(Some("a")), 9).0, newest);
    assert_eq!(all(&world, &leased(Some("b")), 9), (Vec::new(), 1));
}

/// The count of a filter, and the number of parts.
fn counted(world: &World, filter: &LiveFilter) -> (u64, u32) {
    let (mut count, mut before, mut parts) = (0, None, 0);
    loop {
        let part = world.machine.count_part(filter, before);
        parts += 1;
        count += part.count;
        match part.down_to {
            Some(down_to) => before = Some(down_to),
            None => return (count, parts),
        }
    }
}

#[test]
fn counts_are_those_of_the_pages_and_need_few_parts() {
    let mut world = World::bare();
    world.open(3, &[], &[]);
    for at in 0..25_000 {
        let queue = if at % 2 == 0 { "even" } else { "odd" };
        world.submit(Task::new(queue, if at % 5 == 0 { "five" } else { "k" }));
    }
    world.submit(Task::new("even", "k").delay(60_000));
    world.step_bare();
    let kind = LiveFilter { kind: Some(name("five")), ..LiveFilter::default() };
    assert_eq!(counted(&world, &kind), (5_000, 3));
    let statuses = vec![Status::Assigned, Status::Running];
    assert_eq!(counted(&world, &LiveFilter { statuses, ..LiveFilter::default() }), (3, 1));
    let all = world.machine.live_counts(None);
    assert_eq!((all.scheduled, all.pending, all.leased), (1, 24_997, 3));
    let odd = world.machine.live_counts(Some(&name("odd")));
    assert_eq!((odd.scheduled, odd.pending + odd.leased), (0, 12_500));
    assert_eq!(world.machine.live_counts(Some(&name("none"))), LiveCounts::default());
}

#[test]
fn tasks_that_wait_for_another_attempt_are_told_from_new_ones() {
    let mut world = World::new();
    let session = world.open(10, &[], &[]);
    let tried = world.submit(Task::new("q", "k"));
    world.settle();
    let lease = world.has_one(session);
    world.submit(Task::new("q", "k").delay(60_000));
    let filter = LiveFilter { only_tried: true, ..LiveFilter::default() };
    assert!(all(&world, &filter, 10).0.is_empty(), "it runs");
    world.end(lease, failed("no"));
    world.settle();
    assert_eq!(all(&world, &filter, 10).0, [tried]);
    assert!(filter.selects_view(&world.view(tried)));
}

#[test]
fn places_of_those_that_left_do_not_count_as_ahead() {
    let mut world = World::new();
    world.open(0, &[], &[]);
    let tasks: Vec<_> = (0..6).map(|_| world.submit(Task::new("q", "k"))).collect();
    world.cancel(tasks[2]).unwrap();
    world.cancel(tasks[3]).unwrap();
    let page = world.machine.live_page(&LiveFilter::default(), None, 10);
    let ahead: Vec<_> = page.tasks.iter().rev().map(|view| view.waiting).collect();
    let expected = [0, 1, 2, 3].map(|ahead| Some(Waiting::SlotsBusy { ahead }));
    assert_eq!(ahead, expected);
}

#[test]
fn the_examined_tasks_of_all_pages_are_as_many_as_there_are() {
    let mut world = World::new();
    for number in 0..300 {
        world.submit(Task::new(if number % 3 == 0 { "rare" } else { "q" }, "k"));
    }
    let rare = LiveFilter { queue: Some(name("rare")), ..LiveFilter::default() };
    let (mut before, mut examined) = (None, 0);
    loop {
        let page = world.machine.live_page(&rare, before, 7);
        assert!(page.examined.is_sorted_by(|a, b| a > b));
        assert!(page.tasks.iter().all(|view| page.examined.contains(&view.id)));
        examined += page.examined.len();
        match page.down_to {
            Some(down_to) => before = Some(down_to),
            None => break,
        }
    }
    assert_eq!(examined, 300);
}

#[test]
fn a_worker_selects_the_tasks_that_it_holds() {
    let mut world = World::new();
    world.open(2, &["a"], &[]);
    world.open(2, &["b"], &[]);
    for queue in ["a", "b", "b", "c"] {
        world.submit(Task::new(queue, "k"));
    }
    world.settle();
    let all = world.machine.live_page(&LiveFilter::default(), None, 10);
    let holder = all.tasks.iter().find(|view| *view.queue == *"b").unwrap().lease.clone().unwrap();
    let of_worker = LiveFilter { worker: Some(holder.worker.clone()), ..LiveFilter::default() };
    let found = world.machine.live_page(&of_worker, None, 10).tasks;
    let expected = all
        .tasks
        .iter()
        .filter(|view| view.lease.as_ref().is_some_and(|lease| lease.worker == holder.worker));
    assert_eq!(found, expected.cloned().collect::<Vec<_>>());
    assert!(found.len() >= 2, "{found:?}");
}
