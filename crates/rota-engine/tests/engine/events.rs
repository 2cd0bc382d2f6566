//! What listeners to events are told: everything, once, in order, and only what is durable.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rota_core::{
    AttemptOutcome, Failure, FailureReason, LeaseId, Pause, Priority, Report, Status, TaskId,
};
use rota_engine::{
    EndedReason, Engine, EngineError, EngineOptions, Event, EventFilter, EventId, EventLimits,
    EventListener, EventType, NewTask, ResetReason, Subject, TaskFacts, TaskFilter, TaskRef, Told,
    TypePattern,
};
use rota_metrics::{Format, Snapshot};
use tokio::time::timeout;

use crate::support::{Mood, MoodyStore, Node, completed, defined, name, task, until};

async fn listen(engine: &Engine, filter: EventFilter) -> (EventListener, EventId) {
    let mut listener = engine.watch(filter, None).await.expect("a place");
    match listener.next().await {
        Told::Ready(at) => (listener, at),
        other => panic!("{other:?}"),
    }
}

async fn all(node: &Node) -> EventListener {
    listen(&node.engine, EventFilter::default()).await.0
}

async fn told(listener: &mut EventListener) -> Told {
    timeout(Duration::from_secs(20), listener.next()).await.expect("something is told")
}

async fn next(listener: &mut EventListener) -> Arc<Event> {
    match told(listener).await {
        Told::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

/// The next event of this type; others are passed over.
async fn until_type(listener: &mut EventListener, kind: EventType) -> Arc<Event> {
    loop {
        let event = next(listener).await;
        if event.kind == kind {
            return event;
        }
    }
}

fn facts(event: &Event) -> &TaskFacts {
    match &event.subject {
        Subject::Task(facts) => facts,
        other => panic!("{other:?}"),
    }
}

fn kinds(words: &[&str]) -> EventFilter {
    let types = words.iter().map(|word| word.parse::<TypePattern>().expect("a type")).collect();
    EventFilter { types, ..EventFilter::default() }
}

fn failed() -> AttemptOutcome {
    let failure = Failure::new(FailureReason::Error, &"x".repeat(1000));
    AttemptOutcome::Failed { failure, retry_at: None }
}

fn limited(events: EventLimits) -> EngineOptions {
    EngineOptions { events, ..EngineOptions::default() }
}

#[tokio::test]
async fn each_listener_is_told_every_transition_once_and_in_order() {
    const TASKS: usize = 300;
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mut listeners = Vec::new();
    for _ in 0..3 {
        let mut listener = listen(&node.engine, kinds(&["task"])).await.0;
        listeners.push(tokio::spawn(async move {
            let mut told: BTreeMap<_, Vec<(EventType, u32)>> = BTreeMap::new();
            let (mut ended, mut last) = (0, EventId::default());
            while ended < TASKS {
                let event = next(&mut listener).await;
                assert!(event.id > last, "{} after {last}", event.id);
                last = event.id;
                let task = facts(&event);
                ended += usize::from(task.status.is_terminal());
                told.entry(task.id).or_default().push((event.kind, task.attempt));
            }
            told
        }));
    }
    let engine = node.engine.clone();
    let submitting = tokio::spawn(async move {
        for _ in 0..TASKS / 10 {
            let tasks = (0..10).map(|_| task("k")).collect();
            engine.submit(tasks).await.expect("an answer");
        }
    });
    let mut done = 0;
    while done < TASKS {
        for (at, leased) in node.lease(50).await.iter().enumerate() {
            let outcome = if at % 2 == 0 { completed("") } else { failed() };
            assert!(node.report(leased, outcome).await);
            done += 1;
        }
    }
    submitting.await.expect("no panic");
    let mut first = None;
    for listener in listeners {
        let told = listener.await.expect("no panic");
        assert_eq!(told.len(), TASKS);
        for events in told.values() {
            let [(created, 0), (started, 1), (ended, 1)] = events[..] else { panic!("{events:?}") };
            assert_eq!((created, started), (EventType::TaskCreated, EventType::TaskStarted));
            assert!(matches!(ended, EventType::TaskCompleted | EventType::TaskFailed));
        }
        assert_eq!(first.get_or_insert_with(|| told.clone()), &told);
    }
    node.stop().await;
}

#[tokio::test]
async fn nothing_is_told_before_it_is_durable() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mut listener = all(&node).await;
    let entered = node.store.entered.load(Ordering::Relaxed);
    node.store.set(Mood::Holding);
    let engine = node.engine.clone();
    let submitted = tokio::spawn(async move { engine.submit(vec![task("k")]).await });
    until(|| node.store.entered.load(Ordering::Relaxed) > entered).await;
    let early = timeout(Duration::from_millis(100), listener.next()).await;
    assert!(early.is_err(), "told before it was durable: {early:?}");
    node.store.set(Mood::Well);
    assert_eq!(next(&mut listener).await.kind, EventType::TaskCreated);
    assert!(submitted.await.expect("no panic").expect("an answer")[0].is_ok());
    node.stop().await;
}

/// A step that is in flight when the first listener comes is not recorded. So the listener is only told that it
/// listens when the step has landed: a state that it reads then includes it.
#[tokio::test]
async fn a_first_listener_waits_for_the_step_in_flight() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    node.engine.queues().await.expect("it leads");
    let entered = node.store.entered.load(Ordering::Relaxed);
    node.store.set(Mood::Holding);
    let engine = node.engine.clone();
    let submitted = tokio::spawn(async move { engine.submit(vec![task("k")]).await });
    until(|| node.store.entered.load(Ordering::Relaxed) > entered).await;
    let engine = node.engine.clone();
    let listening = tokio::spawn(async move { listen(&engine, EventFilter::default()).await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!listening.is_finished(), "it would miss the task");
    node.store.set(Mood::Well);
    let (mut listener, _) = listening.await.expect("no panic");
    assert!(submitted.is_finished() || submitted.await.is_ok());
    assert_eq!(node.engine.queues().await.expect("an answer")[0].pending, 1);
    node.engine.pause_queue(&name("q"), Some(Pause::default())).await.expect("an answer");
    assert_eq!(next(&mut listener).await.kind, EventType::QueuePaused);
    node.stop().await;
}

#[tokio::test]
async fn a_listener_comes_back_without_a_gap_or_a_repeat() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mut listener = all(&node).await;
    let before = node.submit(task("before")).await;
    let seen = next(&mut listener).await;
    assert_eq!(TaskRef::Id(facts(&seen).id), before);
    drop(listener);
    // Nobody listens meanwhile.
    let mut missed = Vec::new();
    for _ in 0..20 {
        missed.push(node.submit(task("k")).await);
    }
    let filter = EventFilter::default();
    let mut listener = node.engine.watch(filter.clone(), Some(seen.id)).await.expect("a place");
    assert_eq!(told(&mut listener).await, Told::Ready(seen.id));
    let mut last = seen.id;
    for task in &missed {
        let event = next(&mut listener).await;
        assert_eq!(TaskRef::Id(facts(&event).id), *task);
        assert_eq!(listener.position(), event.id);
        last = event.id;
    }
    // After the last one there is nothing to repeat.
    let mut again = node.engine.watch(filter, Some(last)).await.expect("a place");
    assert_eq!(told(&mut again).await, Told::Ready(last));
    let after = node.submit(task("after")).await;
    assert_eq!(TaskRef::Id(facts(next(&mut again).await.as_ref()).id), after);
    node.stop().await;
}

#[tokio::test]
async fn the_place_moves_past_events_that_do_not_match() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let (mut listener, began) = listen(&node.engine, kinds(&["worker"])).await;
    let mut everything = all(&node).await;
    node.submit(task("k")).await;
    let other = next(&mut everything).await;
    assert!(timeout(Duration::from_millis(50), listener.next()).await.is_err());
    assert!(listener.position() > began);
    assert_eq!(listener.position(), other.id);
    node.stop().await;
}

#[tokio::test]
async fn another_leadership_resets_those_who_come_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let options = |name: &str| EngineOptions { node: name.to_owned(), ..EngineOptions::default() };
    let first = Node::start_on(store.clone(), options("first"));
    let mut listener = all(&first).await;
    first.submit(task("k")).await;
    let seen = next(&mut listener).await.id;
    first.leave().await;
    assert_eq!(told(&mut listener).await, Told::Ended(EndedReason::LeaderChanged));
    assert_eq!(EndedReason::LeaderChanged.as_str(), "leader_changed");
    let second = Node::start_on(store.clone(), options("second"));
    let mut listener =
        second.engine.watch(EventFilter::default(), Some(seen)).await.expect("a place");
    let Told::Reset { at, reason: ResetReason::LeaderChanged } = told(&mut listener).await else {
        panic!("no reset")
    };
    assert!(at > seen && at.epoch > seen.epoch);
    second.submit(task("k")).await;
    assert_eq!(next(&mut listener).await.kind, EventType::TaskCreated);
    second.stop().await;
}

#[tokio::test]
async fn a_slow_listener_is_reset_while_others_go_on() {
    const TASKS: usize = 200;
    let directory = tempfile::tempdir().expect("a directory");
    let options = limited(EventLimits { ring_bytes: 8 << 10, ..EventLimits::default() });
    let node = Node::start_with(&directory.path().join("data"), options);
    let mut slow = all(&node).await;
    let mut quick = all(&node).await;
    let mut told_quick = Vec::new();
    for _ in 0..TASKS {
        // The loop answers although one listener reads nothing.
        let id = node.submit(task("k")).await;
        let event = next(&mut quick).await;
        assert_eq!(TaskRef::Id(facts(&event).id), id);
        told_quick.push(event.id);
    }
    let Told::Reset { at, reason: ResetReason::TooSlow } = told(&mut slow).await else {
        panic!("no reset")
    };
    assert_eq!((at, slow.position()), (told_quick[TASKS - 1], at));
    node.engine.pause_queue(&name("q"), Some(Pause::default())).await.expect("an answer");
    assert_eq!(next(&mut slow).await.kind, EventType::QueuePaused);
    let filter = EventFilter::default();
    let mut late = node.engine.watch(filter, Some(told_quick[0])).await.expect("a place");
    assert!(matches!(told(&mut late).await, Told::Reset { reason: ResetReason::HistoryGone, .. }));
    let shown = node.engine.metrics().show(Snapshot::default(), Format::Text);
    let shown = String::from_utf8(shown.body).expect("text");
    for line in [
        "rota_event_listeners 3",
        "rota_event_resets_total{reason=\"too_slow\"} 1",
        "rota_event_resets_total{reason=\"history_gone\"} 1",
        &format!("rota_events_sent_total {}", TASKS + 1),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in {shown}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_listener_that_stops_reading_holds_few_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = limited(EventLimits { ring_bytes: 1 << 20, ..EventLimits::default() });
    let node = Node::start_with(&directory.path().join("data"), options);
    let mut slow = all(&node).await;
    let submit = async |count: usize| {
        for _ in 0..count {
            node.submit(labelled("k", &"x".repeat(40 << 10))).await;
        }
    };
    submit(20).await;
    next(&mut slow).await;
    // The ring forgets all that this listener has not taken out of it.
    submit(40).await;
    let mut taken = 1;
    while let Told::Event(_) = told(&mut slow).await {
        taken += 1;
    }
    assert!(taken <= 3, "{taken} events of 40 KiB were taken at once");
    node.stop().await;
}

#[tokio::test]
async fn history_is_kept_for_some_time_only_while_nobody_listens() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = limited(EventLimits { keep: Duration::ZERO, ..EventLimits::default() });
    let node = Node::start_with(&directory.path().join("data"), options);
    let (listener, at) = listen(&node.engine, EventFilter::default()).await;
    drop(listener);
    node.submit(task("missed")).await;
    let mut back = node.engine.watch(EventFilter::default(), Some(at)).await.expect("a place");
    assert!(matches!(told(&mut back).await, Told::Reset { reason: ResetReason::HistoryGone, .. }));
    let invented = EventId { revision: u64::MAX, ..at };
    let filter = EventFilter::default();
    let mut other = node.engine.watch(filter, Some(invented)).await.expect("a place");
    assert!(matches!(told(&mut other).await, Told::Reset { reason: ResetReason::UnknownId, .. }));
    node.stop().await;
}

#[tokio::test]
async fn no_history_is_kept_for_one_who_does_not_come_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let brief = EventFilter { brief: true, ..EventFilter::default() };
    let (listener, at) = listen(&node.engine, brief.clone()).await;
    drop(listener);
    node.submit(task("missed")).await;
    let mut back = node.engine.watch(brief.clone(), Some(at)).await.expect("a place");
    assert!(matches!(told(&mut back).await, Told::Reset { reason: ResetReason::HistoryGone, .. }));
    node.submit(task("told")).await;
    assert_eq!(next(&mut back).await.kind, EventType::TaskCreated);
    // Another one does come back, so what it misses is kept although the brief one leaves after it.
    let (other, at) = listen(&node.engine, EventFilter::default()).await;
    drop(other);
    drop(back);
    node.submit(task("kept")).await;
    let mut other = node.engine.watch(EventFilter::default(), Some(at)).await.expect("a place");
    assert!(matches!(told(&mut other).await, Told::Ready(_)), "nothing is missed");
    assert_eq!(next(&mut other).await.kind, EventType::TaskCreated);
    node.stop().await;
}

#[tokio::test]
async fn there_is_a_limit_of_listeners() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = limited(EventLimits { listeners: 2, ..EventLimits::default() });
    let node = Node::start_with(&directory.path().join("data"), options);
    let (first, _second) = (all(&node).await, all(&node).await);
    let refused = node.engine.watch(EventFilter::default(), None).await;
    let Err(EngineError::Overloaded { reason, .. }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("event_listeners") && reason.contains('2'), "{reason}");
    drop(first);
    all(&node).await;
    node.stop().await;
}

fn labelled(kind: &str, value: &str) -> NewTask {
    defined(task(kind), |definition| {
        definition.labels = vec![(name("team"), value.into())];
    })
}

#[tokio::test]
async fn labels_select_also_events_that_do_not_carry_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    // Created before anybody listens, so that their labels must be read.
    let wanted = node.submit(labelled("k", "a")).await;
    node.submit(labelled("k", "b")).await;
    node.submit(task("k")).await;
    let properties =
        TaskFilter { labels: vec![(name("team"), "a".into())], ..TaskFilter::default() };
    let filter = EventFilter { properties, ..EventFilter::default() };
    let (mut listener, began) = listen(&node.engine, filter.clone()).await;
    let leased = node.lease(10).await;
    for task in &leased {
        assert!(node.report(task, completed("")).await);
    }
    let created = node.submit(labelled("late", "a")).await;
    let mut late = TaskId::MAX;
    for (kind, task, labels) in [
        (EventType::TaskStarted, &wanted, 0),
        (EventType::TaskCompleted, &wanted, 0),
        (EventType::TaskCreated, &created, 1),
    ] {
        let event = next(&mut listener).await;
        let facts = facts(&event);
        assert_eq!((event.kind, &TaskRef::Id(facts.id)), (kind, task));
        late = facts.id;
        assert_eq!(facts.spec.as_ref().map_or(0, |spec| spec.labels.len()), labels);
    }
    // What was read for one listener is not read again for the next.
    let read = node.store.specs.load(Ordering::Relaxed);
    assert!(read >= 3, "{read}");
    let mut other = node.engine.watch(filter, Some(began)).await.expect("a place");
    let is_last = |told: &Told| matches!(told, Told::Event(event) if facts(event).id == late);
    while !is_last(&told(&mut other).await) {}
    assert_eq!(node.store.specs.load(Ordering::Relaxed), read);
    node.stop().await;
}

#[tokio::test]
async fn a_task_is_told_with_its_attempts_and_errors() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mut listener = all(&node).await;
    let id = node
        .submit(defined(task("k"), |definition| {
            let retry = &mut definition.policy.retry;
            retry.max_attempts = 2;
            retry.initial = rota_core::Millis(1);
        }))
        .await;
    for outcome in [failed(), failed()] {
        let leased = node.lease(1).await;
        assert!(node.report(&leased[0], outcome).await);
    }
    node.engine.retry(&id).await.expect("an answer");
    node.engine.set_priority(&id, Priority::new(9).expect("in range")).await.expect("an answer");
    let leased = node.lease(1).await;
    node.engine.cancel(&id).await.expect("an answer");
    assert!(node.report(&leased[0], AttemptOutcome::Cancelled).await);
    node.engine.delete(&id).await.expect("an answer");
    let mut told = Vec::new();
    loop {
        let event = next(&mut listener).await;
        let Subject::Task(facts) = &event.subject else { continue };
        told.push((event.kind.as_str(), facts.attempt, facts.status));
        match event.kind {
            EventType::TaskRetrying | EventType::TaskFailed => {
                let failure = facts.failure.as_ref().expect("a failure");
                assert_eq!(failure.message.len(), TaskFacts::MESSAGE_BYTES_MAX);
                assert_eq!(facts.worker.as_deref(), Some("w"));
            }
            EventType::TaskStarted => assert_eq!(facts.worker.as_deref(), Some("w")),
            EventType::TaskUpdated => assert_eq!(facts.priority, 9),
            EventType::TaskDeleted => break,
            _ => {}
        }
    }
    assert_eq!(
        told,
        [
            ("task.created", 0, Status::Pending),
            ("task.started", 1, Status::Assigned),
            ("task.retrying", 1, Status::Scheduled),
            ("task.due", 1, Status::Pending),
            ("task.started", 2, Status::Assigned),
            ("task.failed", 2, Status::Failed),
            ("task.revived", 2, Status::Pending),
            ("task.updated", 2, Status::Pending),
            ("task.started", 3, Status::Assigned),
            ("task.cancelling", 3, Status::Assigned),
            ("task.cancelled", 3, Status::Cancelled),
            ("task.deleted", 3, Status::Cancelled),
        ]
    );
    node.stop().await;
}

#[tokio::test]
async fn an_attempt_that_is_given_back_is_told_with_its_number() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mut listener = all(&node).await;
    node.submit(task("k")).await;
    for _ in 0..2 {
        let leased = node.lease(1).await.remove(0);
        let lease = LeaseId { task: leased.spec.id, token: leased.token };
        let results = node.engine.report(vec![(lease, Report::Released)]).await;
        assert_eq!(results.expect("an answer"), [Ok(())]);
        for kind in [EventType::TaskStarted, EventType::TaskReleased] {
            let event = until_type(&mut listener, kind).await;
            assert_eq!(facts(&event).attempt, 1, "it counts for nothing: {kind:?}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn queues_workers_and_schedules_are_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let (mut listener, _) = listen(&node.engine, kinds(&["queue", "worker", "schedule"])).await;
    for paused in [true, false] {
        node.engine.pause_queue(&name("q"), paused.then(Pause::default)).await.expect("an answer");
    }
    let session = crate::support::worker(&[]);
    let worker = node.engine.open_session(session).await.expect("an answer");
    node.engine.drain(&rota_engine::WorkerRef::Session(worker.session)).await.expect("an answer");
    let (session, connection) = (worker.session, worker.connection);
    node.engine.close_session(session, Some(connection)).await.expect("an answer");
    crate::schedules::put_each_second(&node).await;
    for kind in [
        EventType::QueuePaused,
        EventType::QueueResumed,
        EventType::WorkerConnected,
        EventType::WorkerDraining,
        EventType::WorkerDisconnected,
        EventType::ScheduleCreated,
    ] {
        let event = next(&mut listener).await;
        assert_eq!(event.kind, kind);
        match &event.subject {
            Subject::Queue(facts) => assert_eq!(facts.queue, name("q")),
            Subject::Worker(facts) => {
                assert_eq!((&facts.worker, facts.session), (&name("w"), session));
            }
            Subject::Schedule(facts) => assert_eq!(facts.version, Some(1)),
            Subject::Task(_) => panic!("{event:?}"),
        }
    }
    let tick = until_type(&mut listener, EventType::ScheduleTick).await;
    let Subject::Schedule(facts) = &tick.subject else { panic!("{tick:?}") };
    let tick = facts.tick.as_ref().expect("a tick");
    let id = format!("s/{}", rota_core::nominal_text(tick.nominal));
    assert_eq!(tick.task.as_deref(), Some(id.as_str()));
    let pause =
        Pause { at: rota_core::WallTime(0), by: "me".into(), note: "".into(), on_failure: false };
    for pause in [Some(pause), None] {
        node.engine.pause_schedule(&name("s"), pause).await.expect("an answer");
    }
    node.engine.delete_schedule(&name("s"), None).await.expect("an answer");
    for kind in [EventType::SchedulePaused, EventType::ScheduleResumed, EventType::ScheduleDeleted]
    {
        until_type(&mut listener, kind).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn a_schedule_selects_its_tasks_and_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let properties = TaskFilter { schedule: Some(name("s")), ..TaskFilter::default() };
    let filter = EventFilter { properties, ..EventFilter::default() };
    let (mut listener, _) = listen(&node.engine, filter).await;
    // A task whose id looks like one of the schedule.
    let mut other = task("k");
    other.client_keys.id = Some(name("s/manual-7"));
    node.submit(other).await;
    crate::schedules::put_each_second(&node).await;
    node.engine.trigger_schedule(&name("s")).await.expect("an answer");
    assert_eq!(next(&mut listener).await.kind, EventType::ScheduleCreated);
    let created = until_type(&mut listener, EventType::TaskCreated).await;
    assert_eq!(facts(&created).schedule(), Some("s"));
    let leased = node.lease(10).await;
    for task in leased {
        let is_other = task.spec.client_keys.id == Some(name("s/manual-7"));
        if is_other {
            assert!(node.report(&task, completed("")).await);
        }
    }
    node.engine.delete_schedule(&name("s"), None).await.expect("an answer");
    loop {
        let event = next(&mut listener).await;
        if event.kind == EventType::ScheduleDeleted {
            break;
        }
        if let Subject::Task(facts) = &event.subject {
            assert_ne!(facts.client_id, Some(name("s/manual-7")), "{event:?}");
        }
    }
    node.stop().await;
}
