//! Schedules through the engine: ticks become tasks, once, through restarts, hand-overs and clocks that jump.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rota_core::{
    AttemptOutcome, Change, Definition, Failure, FailureReason, Millis, Outcome, Pause, Priority,
    Refusal, Retention, ScheduleDefinition, SkipReason, TaskSpec, Template, TickRecord, TickRules,
    Trace, WallTime,
};
use rota_cron::{Calendar, CalendarEntry, CalendarRule, ExclusionSpec, Recurrence, RecurrenceSpec};
use rota_engine::{
    EngineError, EngineOptions, ScheduleFilter, ScheduleStatus, TaskRef, TickTraces, TimeRange,
};
use rota_metrics::Format;

use crate::support::{MoodyStore, Node, SetClock, completed, name, time_passes, until};

/// A schedule with this expression.
pub(crate) fn schedule(expression: &str) -> ScheduleDefinition {
    of_times(RecurrenceSpec {
        expressions: vec![expression.to_owned()],
        ..RecurrenceSpec::default()
    })
}

pub(crate) fn of_times(times: RecurrenceSpec) -> ScheduleDefinition {
    let mut definition = Definition::new(name("q"), name("k"));
    definition.payload = Bytes::from_static(b"{}");
    ScheduleDefinition {
        recurrence: Arc::new(Recurrence::new(&times, "s").expect("a recurrence")),
        times: Arc::new(times),
        rules: TickRules { overlap: rota_core::Overlap::Allow, ..TickRules::default() },
        template: Arc::new(Template {
            definition,
            priority: Priority::default(),
            expires_after: None,
        }),
        labels: Vec::new(),
        description: None,
        max_runs: None,
    }
}

fn refusal<T>(result: Result<T, EngineError>) -> Option<Refusal> {
    if let Err(EngineError::Refused(refusal)) = result { Some(refusal) } else { None }
}

/// The same schedule, as a request with a trace puts it.
fn traced(mut schedule: ScheduleDefinition) -> ScheduleDefinition {
    let trace = Trace { parent: "parent".into(), state: "state".into() };
    Arc::make_mut(&mut schedule.template).definition.trace = Some(trace.into());
    schedule
}

const EACH_SECOND: &str = "* * * * * *";
pub(crate) const NEVER_SOON: &str = "0 0 1 1 *";

pub(crate) async fn put(node: &Node, definition: ScheduleDefinition) {
    node.engine.put_schedule(name("s"), definition, None).await.expect("it is accepted");
}

/// A schedule `s` with a tick each second.
pub(crate) async fn put_each_second(node: &Node) {
    put(node, schedule(EACH_SECOND)).await;
}

/// A schedule of that name whose next tick is not soon.
pub(crate) async fn put_yearly(node: &Node, schedule_name: &str) {
    let put = node.engine.put_schedule(name(schedule_name), schedule(NEVER_SOON), None);
    put.await.expect("it is accepted");
}

pub(crate) async fn ticks(node: &Node) -> Vec<TickRecord> {
    let range = TimeRange::default();
    node.engine.ticks(&name("s"), range, None, 10_000).await.expect("an answer").ticks
}

pub(crate) async fn until_ticks(node: &Node, wanted: usize) -> Vec<TickRecord> {
    let mut period = tokio::time::interval(Duration::from_millis(50));
    loop {
        let found = ticks(node).await;
        if found.len() >= wanted {
            return found;
        }
        period.tick().await;
    }
}

/// All ticks from the first to the last fired, one each second, and none twice.
fn assert_each_second_once(ticks: &[TickRecord]) {
    for pair in ticks.windows(2) {
        assert_eq!(pair[0].run.first.0 - pair[1].run.first.0, 1000, "{ticks:#?}");
        assert!(matches!(pair[0].run.outcome, Outcome::Fired(_)), "{ticks:#?}");
        assert_eq!(pair[0].run.count, 1);
    }
}

#[tokio::test]
async fn a_tick_becomes_a_task_that_knows_its_nominal_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    put(&node, schedule(EACH_SECOND)).await;
    let leased = node.lease(1).await;
    let spec = &leased[0].spec;
    let tick = spec.tick.as_ref().expect("a tick made it");
    let nominal = tick.nominal.expect("a tick has a nominal time");
    let id = format!("s/{}", rota_core::nominal_text(nominal));
    assert_eq!(spec.client_keys.id.as_deref(), Some(id.as_str()));
    assert_eq!((tick.schedule.as_str(), tick.previous, tick.last_success), ("s", None, None));
    assert_eq!(nominal.0 % 1000, 0);
    assert!(spec.created_at >= nominal, "never early");
    assert!(node.report(&leased[0], completed("")).await);
    let later = until_ticks(&node, 3).await;
    assert_each_second_once(&later);
    let read = node.engine.schedule(&name("s")).await.expect("an answer").expect("known");
    assert_eq!(read.view.state.last_success, Some(nominal));
    assert_eq!(read.status(), ScheduleStatus::Active);
    node.stop().await;
}

#[tokio::test]
async fn no_tick_is_lost_or_made_twice_by_restarts() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let mut node = Node::start(&data);
    let mut rules = schedule(EACH_SECOND);
    rules.rules.catch_up = rota_core::CatchUp::All;
    put(&node, rules).await;
    for restart in 1..4 {
        until_ticks(&node, restart * 2).await;
        node.stop().await;
        node = Node::start(&data);
    }
    let found = until_ticks(&node, 8).await;
    assert_each_second_once(&found);
    node.stop().await;
}

#[tokio::test]
async fn another_node_goes_on_where_the_former_leader_stopped() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let options = |node: &str| EngineOptions { node: node.to_owned(), ..EngineOptions::default() };
    let first = Node::start_on(store.clone(), options("first"));
    until(|| first.engine.health().is_ready()).await;
    let second = Node::start_on(store.clone(), options("second"));
    let mut rules = schedule(EACH_SECOND);
    rules.rules.catch_up = rota_core::CatchUp::All;
    put(&first, rules).await;
    until_ticks(&first, 2).await;
    let before = ticks(&first).await.len();
    first.leave().await;
    until(|| second.engine.health().is_ready()).await;
    let found = until_ticks(&second, before + 2).await;
    assert_each_second_once(&found);
    let read = second.engine.schedule(&name("s")).await.expect("an answer").expect("known");
    assert_eq!(read.record.version, 1);
    second.stop().await;
}

#[tokio::test]
async fn a_tick_is_whole_in_a_store_that_takes_few_changes_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_on(store.clone(), EngineOptions::default());
    until(|| node.engine.health().is_ready()).await;
    store.mutations_max.store(12, Ordering::Relaxed);
    for number in 0..20 {
        let name = name(&format!("s{number}"));
        node.engine.put_schedule(name, schedule(EACH_SECOND), None).await.expect("accepted");
    }
    put(&node, schedule(EACH_SECOND)).await;
    assert_each_second_once(&until_ticks(&node, 3).await);
    node.stop().await;
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_and_back_within_a_minute_fires_nothing_early() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = SetClock::new();
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_at(clock.host(), store, EngineOptions::default());
    put(&node, schedule(EACH_SECOND)).await;
    until_ticks(&node, 1).await;
    let day = Duration::from_secs(24 * 3600);
    clock.set_by(day, true);
    time_passes(Duration::from_secs(2)).await;
    clock.set_by(day, false);
    let found = until_ticks(&node, 5).await;
    assert_each_second_once(&found);
    node.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_repeats_no_tick() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = SetClock::new();
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_at(clock.host(), store, EngineOptions::default());
    put(&node, schedule(EACH_SECOND)).await;
    let before = until_ticks(&node, 3).await;
    clock.set_by(Duration::from_secs(5), false);
    let found = until_ticks(&node, before.len() + 2).await;
    assert_each_second_once(&found);
    node.stop().await;
}

#[tokio::test]
async fn the_same_definition_changes_nothing_and_another_version_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let put = |definition, if_version| node.engine.put_schedule(name("s"), definition, if_version);
    let (created, change) = put(schedule(NEVER_SOON), Some(0)).await.expect("new");
    assert_eq!((created.record.version, change), (1, Change::Created));
    let cursor = created.view.state.cursor;
    let (same, change) = put(schedule(NEVER_SOON), None).await.expect("the same");
    assert_eq!((same.record.version, change), (1, Change::None));
    assert_eq!(same.view.state.cursor, cursor);
    // Each request has its own trace, also one that is repeated.
    let (same, change) = put(traced(schedule(NEVER_SOON)), None).await.expect("the same");
    assert_eq!((same.record.version, change), (1, Change::None));
    let refused = put(schedule("0 1 1 1 *"), Some(0)).await;
    let version = Refusal::ScheduleVersion { wanted: 0, version: 1 };
    assert_eq!(refusal(refused), Some(version));
    // The cursor is in milliseconds.
    time_passes(Duration::from_millis(2)).await;
    let (other, change) = put(schedule("0 1 1 1 *"), Some(1)).await.expect("another");
    assert_eq!((other.record.version, change), (2, Change::Replaced));
    let (again, change) = put(schedule("0 1 1 1 *"), Some(1)).await.expect("a repeat");
    assert_eq!((again.record.version, change), (2, Change::None));
    assert!(other.view.state.cursor > cursor, "it begins anew");
    node.engine.delete_schedule(&name("s"), None).await.expect("it was there");
    assert_eq!(node.engine.schedule(&name("s")).await.expect("an answer"), None);
    node.stop().await;
}

#[tokio::test]
async fn what_clients_ask_of_a_schedule_is_done() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    put(&node, schedule(NEVER_SOON)).await;
    let engine = &node.engine;
    let task = engine.trigger_schedule(&name("s")).await.expect("a task");
    assert_eq!(task.spec.client_keys.id.as_deref(), Some("s/manual-1"));
    let again = engine.trigger_schedule(&name("s")).await.expect("a task");
    assert_eq!(again.spec.client_keys.id.as_deref(), Some("s/manual-2"));
    let named = TaskRef::Named(name("s/manual-1"));
    assert!(engine.task(&named).await.expect("an answer").is_some());

    let read = engine.schedule(&name("s")).await.expect("an answer").expect("known");
    let next = read.view.next.expect("it has one");
    let read = engine.skip_tick(&name("s"), next, true).await.expect("it comes");
    assert_eq!(read.view.state.to_skip, [next]);
    assert!(read.view.next > Some(next));
    let wrong = engine.skip_tick(&name("s"), WallTime(next.0 + 1000), true).await;
    assert!(matches!(wrong, Err(EngineError::Refused(Refusal::NoSuchTick { .. }))), "{wrong:?}");

    let pause = Pause { at: next, by: "me".into(), note: "n".into(), on_failure: false };
    let read = engine.pause_schedule(&name("s"), Some(pause.clone())).await.expect("known");
    assert_eq!(read.status(), ScheduleStatus::Paused);
    let paused =
        ScheduleFilter { state: Some(ScheduleStatus::Paused), ..ScheduleFilter::default() };
    let page = engine.schedules(&paused, None, 10).await.expect("an answer");
    assert_eq!(page.schedules.len(), 1);
    let resumed = engine.pause_schedules(&paused, None, 10).await.expect("an answer");
    assert_eq!(resumed, 1);
    let page = engine.schedules(&paused, None, 10).await.expect("an answer");
    assert_eq!(page.schedules.len(), 0);
    // An action on many changes as many as it may.
    for other in ["s1", "s2", "s3"] {
        put_yearly(&node, other).await;
    }
    let any = ScheduleFilter::default();
    let changed = engine.pause_schedules(&any, Some(pause), 2).await.expect("an answer");
    let page = engine.schedules(&paused, None, 10).await.expect("an answer");
    assert_eq!((changed, page.schedules.len()), (2, 2));
    node.stop().await;
}

#[tokio::test]
async fn schedules_are_listed_page_by_page() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    for number in 0..150 {
        let mut definition = schedule(NEVER_SOON);
        if number % 2 == 0 {
            definition.labels.push((name("team"), "a".into()));
        }
        let name = name(&format!("s{number:03}"));
        node.engine.put_schedule(name, definition, None).await.expect("accepted");
    }
    let filter = ScheduleFilter {
        prefix: Some("s0".into()),
        labels: vec![(name("team"), "a".into())],
        ..ScheduleFilter::default()
    };
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = node.engine.schedules(&filter, after.as_ref(), 7).await.expect("an answer");
        names.extend(page.schedules.into_iter().map(|read| read.record.name));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let wanted: Vec<_> = (0..100).step_by(2).map(|number| name(&format!("s{number:03}"))).collect();
    assert_eq!(names, wanted);
    node.stop().await;
}

#[tokio::test]
async fn a_page_of_large_schedules_has_fewer() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    for number in 0..70 {
        let mut definition = schedule(NEVER_SOON);
        let template = Arc::make_mut(&mut definition.template);
        template.definition.payload = vec![b'1'; 80 << 10].into();
        let name = name(&format!("s{number:03}"));
        node.engine.put_schedule(name, definition, None).await.expect("accepted");
    }
    let filter = ScheduleFilter::default();
    let page = node.engine.schedules(&filter, None, 100).await.expect("an answer");
    assert!((1..70).contains(&page.schedules.len()), "{}", page.schedules.len());
    let rest = node.engine.schedules(&filter, page.next.as_ref(), 100).await.expect("an answer");
    assert_eq!((page.schedules.len() + rest.schedules.len(), rest.next), (70, None));
    node.stop().await;
}

#[tokio::test]
async fn a_calendar_that_a_schedule_uses_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Node::start(&data);
    let rule = CalendarRule { name: "holidays".to_owned(), ..CalendarRule::default() };
    let times = RecurrenceSpec {
        expressions: vec!["0 9 * * *".to_owned()],
        exclude: ExclusionSpec { calendars: vec![rule], ..ExclusionSpec::default() },
        ..RecurrenceSpec::default()
    };
    let refused = node.engine.put_schedule(name("s"), of_times(times.clone()), None).await;
    let unknown = Refusal::UnknownCalendar { calendar: "holidays".into() };
    assert_eq!(refusal(refused), Some(unknown));
    let calendar = |days: &str| {
        let days = days.to_owned();
        Calendar::new(&[CalendarEntry { days, note: String::new() }]).expect("a calendar")
    };
    let put = |days| node.engine.put_calendar(name("holidays"), calendar(days), None, None);
    put("12-25").await.expect("accepted");
    node.engine.put_schedule(name("s"), of_times(times), None).await.expect("accepted");
    let refused = node.engine.delete_calendar(&name("holidays"), None).await;
    let in_use = Refusal::CalendarInUse { schedule: name("s") };
    assert_eq!(refusal(refused), Some(in_use));
    node.stop().await;
    let node = Node::start(&data);
    let calendars = node.engine.calendars().await.expect("an answer");
    assert_eq!((calendars.len(), calendars[0].version), (1, 1));
    node.engine.delete_schedule(&name("s"), None).await.expect("it was there");
    node.engine.delete_calendar(&name("holidays"), None).await.expect("nobody uses it");
    node.stop().await;
}

#[tokio::test]
async fn ticks_are_removed_when_their_retention_is_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let retention = Retention { completed: Millis(0), other: Millis(0) };
    let options = EngineOptions { retention, ..EngineOptions::default() };
    let node = Node::start_with(&directory.path().join("data"), options);
    let mut rules = schedule(EACH_SECOND);
    rules.max_runs = Some(2);
    put(&node, rules).await;
    until_ticks(&node, 2).await;
    let gone = async {
        let mut period = tokio::time::interval(Duration::from_millis(100));
        while !ticks(&node).await.is_empty() {
            period.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(40), gone).await.expect("they are removed");
    let read = node.engine.schedule(&name("s")).await.expect("an answer").expect("known");
    assert_eq!(read.status(), ScheduleStatus::Completed, "it stays");
    node.stop().await;
}

#[tokio::test]
async fn a_paused_schedule_says_so_of_its_ticks_and_fires_none_late() {
    let directory = tempfile::tempdir().expect("a directory");
    let clock = SetClock::new();
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_at(clock.host(), store, EngineOptions::default());
    put(&node, schedule(EACH_SECOND)).await;
    until_ticks(&node, 1).await;
    let pause = Pause { at: WallTime(0), by: "me".into(), note: "".into(), on_failure: false };
    node.engine.pause_schedule(&name("s"), Some(pause)).await.expect("known");
    time_passes(Duration::from_secs(2)).await;
    node.engine.pause_schedule(&name("s"), None).await.expect("known");
    let paused = Outcome::Skipped(SkipReason::Paused);
    let is_paused = |tick: &&TickRecord| tick.run.outcome == paused;
    let found = until_ticks(&node, 4).await;
    let skipped: Vec<_> = found.iter().filter(is_paused).collect();
    assert_eq!(skipped.len(), 1, "{found:#?}");
    assert!((1..=3).contains(&skipped[0].run.count), "{found:#?}");
    let decided: u64 = found.iter().map(|tick| tick.run.count).sum();
    let (newest, oldest) = (found[0].run.last.0, found[found.len() - 1].run.first.0);
    assert_eq!(i64::try_from(decided), Ok((newest - oldest) / 1000 + 1), "{found:#?}");
    node.stop().await;
}

#[tokio::test]
async fn a_cluster_with_a_node_that_knows_no_schedules_takes_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = EngineOptions { feature_level: 1, ..EngineOptions::default() };
    let node = Node::start_with(&directory.path().join("data"), options);
    let refused = node.engine.put_schedule(name("s"), schedule(NEVER_SOON), None).await;
    let level = Refusal::FeatureLevel { needed: 2, level: 1 };
    assert_eq!(refusal(refused), Some(level));
    node.stop().await;
}

/// What the node shows to Prometheus, line by line.
async fn metrics(node: &Node) -> Vec<String> {
    let shown = node.engine.metrics().show(node.engine.collect_metrics().await, Format::Text);
    let text = String::from_utf8(shown.body).expect("text");
    text.lines().map(str::to_owned).collect()
}

/// The value of a series of whole numbers.
fn value(metrics: &[String], series: &str) -> Option<f64> {
    let line = metrics.iter().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

#[tokio::test]
async fn metrics_count_ticks_and_name_only_schedules_with_a_problem() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    until(|| node.engine.health().is_ready()).await;
    let before = metrics(&node).await;
    assert_eq!(value(&before, "rota_schedules{state=\"active\"}"), Some(0.0));
    assert_eq!(value(&before, "rota_schedule_next_tick_timestamp_seconds"), None);
    let fired = "rota_schedule_ticks_total{outcome=\"fired\",reason=\"\"}";
    assert_eq!(value(&before, fired), Some(0.0));

    let mut failing = schedule(EACH_SECOND);
    let mut refused = schedule(EACH_SECOND);
    refused.template =
        Arc::new(Template { expires_after: Some(Millis(0)), ..Template::clone(&refused.template) });
    let template = Arc::make_mut(&mut failing.template);
    template.definition.policy.retry.max_attempts = 1;
    for (schedule, definition) in
        [("fails", failing), ("refused", refused), ("well", schedule(NEVER_SOON))]
    {
        node.engine.put_schedule(name(schedule), definition, None).await.expect("it is accepted");
    }
    let leased = node.lease(1).await;
    let failure = Failure::new(FailureReason::Permanent, "broken");
    let failed = AttemptOutcome::Failed { failure, retry_at: None };
    assert!(node.report(&leased[0], failed).await);
    let mut period = tokio::time::interval(Duration::from_millis(50));
    let shown = loop {
        period.tick().await;
        let shown = metrics(&node).await;
        if value(&shown, "rota_schedule_missed_total{schedule=\"refused\"}") > Some(1.0) {
            break shown;
        }
    };
    assert!(value(&shown, fired) >= Some(1.0), "{shown:#?}");
    let lateness = value(&shown, "rota_schedule_lateness_seconds_count");
    assert_eq!(lateness, value(&shown, fired));
    let expired = "rota_schedule_ticks_total{outcome=\"refused\",reason=\"expired\"}";
    let missed = "rota_schedule_missed_total{schedule=\"refused\"}";
    assert_eq!(value(&shown, expired), value(&shown, missed));
    let missed_at = value(&shown, "rota_schedule_missed_timestamp_seconds{schedule=\"refused\"}");
    let next = value(&shown, "rota_schedule_next_tick_timestamp_seconds");
    assert!(missed_at.zip(next).is_some_and(|(missed_at, next)| next - missed_at < 60.0));
    assert_eq!(value(&shown, "rota_schedule_failures{schedule=\"fails\"}"), Some(1.0));
    assert_eq!(value(&shown, "rota_schedules{state=\"active\"}"), Some(3.0));
    assert_eq!(value(&shown, "rota_schedules_behind"), Some(0.0));
    assert!(!shown.iter().any(|line| line.contains("schedule=\"well\"")), "{shown:#?}");
    node.stop().await;
}

/// Gives each task of a schedule a trace, and notes those that are durable.
#[derive(Debug, Default)]
struct Traces {
    begun: AtomicU64,
    durable: Arc<AtomicU64>,
}

impl TickTraces for Traces {
    fn begin(&self, task: &TaskSpec) -> Option<(Trace, Box<dyn FnOnce() + Send>)> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let tick = task.tick.as_ref().expect("only tasks of schedules");
        let trace =
            Trace { parent: format!("trace {number}").into(), state: (&*tick.schedule).into() };
        let durable = self.durable.clone();
        Some((
            trace,
            Box::new(move || {
                durable.fetch_add(1, Ordering::Relaxed);
            }),
        ))
    }
}

#[tokio::test]
async fn the_task_of_a_tick_begins_a_trace() {
    let directory = tempfile::tempdir().expect("a directory");
    let traces = Arc::new(Traces::default());
    let options = EngineOptions { tick_traces: Some(traces.clone()), ..EngineOptions::default() };
    let store = MoodyStore::open(&directory.path().join("data"));
    let node = Node::start_on(store, options);
    put(&node, schedule(EACH_SECOND)).await;
    node.engine.trigger_schedule(&name("s")).await.expect("a task");
    for number in 0..2 {
        let leased = node.lease(1).await;
        let trace = leased[0].spec.definition.trace.as_deref().expect("a trace");
        assert_eq!((&*trace.parent, &*trace.state), (format!("trace {number}").as_str(), "s"));
        assert!(node.report(&leased[0], completed("")).await);
    }
    assert!(traces.durable.load(Ordering::Relaxed) >= 2);
    node.stop().await;
}
