//! Changes of a waiting task's definition.

use std::sync::Arc;

use super::{
    say::{Task, completed},
    world::World,
};
use crate::{
    Definition, Edit, Millis, Refusal, Reply, Status, TaskCommand, TaskId, TaskSpec, WallTime,
};

/// Changes a task as one who knows that it was changed so often.
fn edit(
    world: &mut World,
    task: TaskId,
    edits: u32,
    run_at: Option<WallTime>,
    change: impl FnOnce(&mut Definition),
) -> Result<Reply, Refusal> {
    let mut spec = TaskSpec::clone(&world.newest.specs[&task]);
    change(&mut spec.definition);
    let edit = Edit { spec: Arc::new(spec), edits, priority: None, run_at };
    world.apply(TaskCommand::Edit(Box::new(edit)).on(task))
}

#[test]
fn a_change_holds_for_the_next_attempt_and_needs_the_last_version() {
    let mut world = World::new();
    let task = world.submit(Task::new("q", "k").delay(60_000));
    world.settle();
    let longer = |definition: &mut Definition| definition.policy.timeout = Millis(7_000);
    assert!(edit(&mut world, task, 0, None, longer).is_ok());
    let stale = edit(&mut world, task, 0, None, longer);
    assert_eq!(stale, Err(Refusal::VersionConflict { version: 2 }));
    assert!(edit(&mut world, task, 1, None, longer).is_ok());
    world.settle();
    let view = world.view(task);
    assert_eq!(
        (view.edits, view.policy.timeout, view.status),
        (2, Millis(7_000), Status::Scheduled)
    );
    assert_eq!(world.newest.specs[&task].definition.policy.timeout, Millis(7_000));
    let session = world.open(1, &[], &[]);
    world.heartbeat(session);
    let now = Some(world.now.wall);
    assert!(edit(&mut world, task, 2, now, longer).is_ok());
    world.settle();
    let refused = edit(&mut world, task, 3, None, longer).unwrap_err();
    assert!(matches!(refused, Refusal::Illegal(_)), "a worker has it: {refused}");
    world.end(world.has_one(session), completed());
    world.settle();
    assert_eq!(world.stored(task).expect("it ended").edits, 3);
}

#[test]
fn a_change_of_the_start_deadline_holds_and_one_before_the_due_time_is_refused() {
    let mut world = World::new();
    let task = world.submit(Task::new("q", "k").delay(60_000).expires_in(70_000));
    world.settle();
    let at = |world: &World, span| Some(world.now.wall + Millis(span));
    let early = at(&world, 50_000);
    let refused = edit(&mut world, task, 0, None, |it| it.expires_at = early).unwrap_err();
    assert!(matches!(refused, Refusal::ExpiresBeforeDue { .. }), "{refused}");
    assert_eq!(world.view(task).edits, 0);
    assert!(edit(&mut world, task, 0, None, |it| it.expires_at = None).is_ok());
    world.after(80_000);
    assert_eq!(world.status(task), Some(Status::Pending));
    let soon = at(&world, 1000);
    assert!(edit(&mut world, task, 1, None, |it| it.expires_at = soon).is_ok());
    world.after(1000);
    assert_eq!(world.stored(task).expect("it ended").status, Status::Expired);
}

#[test]
fn a_changed_task_keeps_its_turn() {
    let mut world = World::new();
    let first = world.submit(Task::new("q", "k"));
    world.submit(Task::new("q", "k"));
    world.settle();
    assert!(edit(&mut world, first, 0, None, |it| it.policy.timeout = Millis(9_000)).is_ok());
    let session = world.open(1, &[], &[]);
    world.settle();
    assert_eq!(world.has_one(session).task, first);
}
