//! Schedules of jobs: what is defined, and what a handler is told of its tick.

use std::time::{Duration, SystemTime};

use rota_client::{Overlap, Reason, TickOutcome, task, v1};
use rota_worker::{HandlerError, Job, TaskContext, Tick, Worker};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{in_time, node::Node};

#[derive(Debug, Serialize, Deserialize)]
struct Report {
    team: String,
}

impl Job for Report {
    const KIND: &'static str = "report";
    type Output = String;
}

#[tokio::test]
async fn a_handler_knows_the_tick_of_its_schedule() {
    let node = Node::start().await;
    let client = node.client();
    let (sender, mut ticks) = mpsc::unbounded_channel();
    let handler = move |report: Report, context: TaskContext| {
        let tick = context.tick().cloned();
        let told = sender.send((context.task_id().to_owned(), tick));
        async move { told.map(|()| report.team).map_err(HandlerError::from) }
    };
    let worker = Worker::builder(client.clone()).job(handler).build().unwrap();
    let drain = worker.drain();
    let running = tokio::spawn(worker.run());

    let schedule = client.schedule("reports");
    let report = Report { team: "sales".to_owned() };
    let draft = || {
        let draft = schedule.every(Duration::from_secs(1)).overlap(Overlap::QueueAll).max_runs(2);
        draft.job(&report)
    };
    let preview = draft().preview(3).await.unwrap();
    assert_eq!(preview.upcoming.len(), 3);
    let put = draft().expected_version(0).put().await.unwrap();
    assert!(put.created && put.changed);
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(in_time(ticks.recv()).await.expect("a task"));
    }
    let [(first, Some(one)), (_, Some(two))] = seen.as_slice() else { panic!("{seen:?}") };
    let Tick { nominal_time, previous_time, last_success_time, actual_time, .. } = one;
    assert_eq!(
        (one.schedule.as_str(), *previous_time, *last_success_time),
        ("reports", None, None)
    );
    assert!(nominal_time.is_some_and(|at| at <= *actual_time && *actual_time <= SystemTime::now()));
    assert_eq!(two.previous_time, *nominal_time);
    let result = client.handle::<Report>(first.as_str()).result().await.unwrap();
    assert_eq!(result, "sales");

    let triggered = schedule.trigger::<Report>().await.unwrap();
    assert_eq!(in_time(triggered.result()).await.unwrap(), "sales");
    let (id, tick) = in_time(ticks.recv()).await.expect("a task");
    assert_eq!((id.as_str(), tick.and_then(|tick| tick.nominal_time)), (triggered.id(), None));
    let decided = schedule.ticks(10).await.unwrap();
    assert!(decided.iter().all(|tick| tick.outcome() == TickOutcome::Fired), "{decided:?}");
    drain.start();
    in_time(running).await.unwrap().unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_schedule_is_steered_by_its_handle() {
    let node = Node::start().await;
    let client = node.client();
    let schedule = client.schedule("yearly");
    let draft = || schedule.cron("@yearly").kind("nobody").payload_json(&[1]).label("team", "docs");
    draft().put().await.unwrap();
    assert!(!draft().put().await.unwrap().changed, "the same definition changes nothing");
    let stale = draft().jitter(Duration::from_secs(1)).expected_version(9).put().await;
    assert_eq!(stale.unwrap_err().reason(), Some(Reason::VersionConflict));
    let paused = schedule.pause("migration").await.unwrap();
    assert_eq!(paused.pause.map(|pause| pause.note).as_deref(), Some("migration"));
    assert_eq!(schedule.resume().await.unwrap().state(), v1::ScheduleState::Active);
    let next = schedule.get().await.unwrap().next_time.expect("it runs");
    assert_eq!(schedule.skip(next.into()).await.unwrap().skip_times, [next]);
    assert!(schedule.unskip(next.into()).await.unwrap().skip_times.is_empty());
    let now = SystemTime::now();
    let year = Duration::from_secs(366 * 24 * 3600);
    let counted = schedule.backfill(now - year, now).count().await.unwrap();
    assert!((1..=2).contains(&counted.to_create), "{counted:?}");
    let labelled = v1::ScheduleFilter {
        labels: [("team".to_owned(), "docs".to_owned())].into(),
        ..v1::ScheduleFilter::default()
    };
    assert_eq!(client.all_schedules(labelled).await.unwrap().len(), 1);
    assert!(client.all_calendars().await.unwrap().is_empty());
    schedule.delete().await.unwrap();
    assert_eq!(schedule.get().await.unwrap_err().reason(), Some(Reason::UnknownSchedule));
    // Tasks without a schedule have no tick.
    let created = client.create_task(task("nobody")).await.unwrap();
    assert_eq!(created.tick, None);
    node.stop().await;
}
