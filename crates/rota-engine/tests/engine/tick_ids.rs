//! Ids of tasks that schedules create: none is taken from another task.

use std::time::Duration;

use rota_core::{ClientKeys, Millis, Outcome, RefusedReason, TickRecord, WallTime};
use rota_engine::{Clock, EngineOptions, NewTask, TaskRef};

use crate::{
    schedules::{NEVER_SOON, put, put_each_second, schedule, ticks, until_ticks},
    sessions::block_the_loop,
    support::{MoodyStore, Node, SetClock, name, task, time_passes},
};

#[tokio::test]
async fn a_tick_gives_way_to_a_task_that_took_its_id_a_moment_before_and_has_ended() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = SetClock::new();
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_at(clock.host(), store, EngineOptions::default());
    put_each_second(&node).await;
    let until_before = |date: WallTime, ahead: u64| {
        let left = date.since(clock.now().wall).as_duration();
        time_passes(left.saturating_sub(Duration::from_millis(ahead)))
    };
    let mut next = until_ticks(&node, 1).await[0].run.last + Millis(1000);
    let mut refused = 0;
    while refused < 3 {
        // In a step shortly before the tick, the engine asks whether the id is free.
        until_before(next, 150).await;
        node.submit(task("k")).await;
        until_before(next, 60).await;
        let id = name(&format!("s/{}", rota_core::nominal_text(next)));
        let taken = ClientKeys { id: Some(id), key: None };
        let taken = NewTask { client_keys: taken, ..task("k") };
        let submitted = node.engine.submit(vec![taken]).await.expect("an answer");
        // Otherwise the tick was earlier.
        if let Ok(submitted) = &submitted[0]
            && submitted.created
        {
            node.engine.cancel(&TaskRef::Id(submitted.task)).await.expect("it waits");
            let is_next = |tick: &TickRecord| tick.run.first <= next && next <= tick.run.last;
            let mut period = tokio::time::interval(Duration::from_millis(50));
            let outcome = loop {
                if let Some(tick) = ticks(&node).await.into_iter().find(is_next) {
                    break tick.run.outcome;
                }
                period.tick().await;
            };
            assert_eq!(outcome, Outcome::Refused(RefusedReason::Conflict));
            refused += 1;
        }
        next = next + Millis(1000);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_triggered_task_takes_no_id_from_a_deleted_schedule_of_the_same_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    put(&node, schedule(NEVER_SOON)).await;
    let engine = &node.engine;
    let first = engine.trigger_schedule(&name("s")).await.expect("a task").spec.id;
    engine.cancel(&TaskRef::Id(first)).await.expect("it waits");
    // The engine takes these together, and reads at once the ids that the next task of the first schedule can get.
    let schedule_name = name("s");
    block_the_loop(&node).await;
    let (deleted, again, triggered, ()) = tokio::join!(
        engine.delete_schedule(&schedule_name, None),
        engine.put_schedule(name("s"), schedule(NEVER_SOON), None),
        engine.trigger_schedule(&schedule_name),
        async { node.store.hold_names(false) },
    );
    deleted.expect("it is deleted");
    again.expect("it is created");
    let triggered = triggered.expect("a task").spec;
    assert_eq!(triggered.client_keys.id.as_deref(), Some("s/manual-2"));
    let kept = engine.task(&TaskRef::Named(name("s/manual-1"))).await.expect("an answer");
    assert_eq!(kept.expect("it is kept").spec.id, first);
    node.stop().await;
}
