//! Pages of live tasks: complete, in order, none twice, and bounded work for each.

use super::{
    say::{Task, name},
    world::World,
};
use crate::{LiveFilter, Status, TaskId};

fn all(world: &World, filter: &LiveFilter, limit: usize) -> (Vec<TaskId>, usize) {
    let (mut seen, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = world.machine.live_page(filter, before, limit);
        pages += 1;
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
    // Where nothing is found, a page ends all the same.
    let scheduled = LiveFilter { statuses: vec![Status::Scheduled], ..LiveFilter::default() };
    assert_eq!(all(&world, &scheduled, 10), (Vec::new(), 3));
}
