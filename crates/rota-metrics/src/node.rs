//! The metrics of a node.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    catalogue::{self as all, Buckets},
    exposition::{self, Exposition, Format},
    names::Names,
    process,
    registrar::{histogram, register},
    schedules::Ticks,
    snapshot::{Labels, Shown, Snapshot},
    tasks::{self, Row},
    tls::Tls,
};

/// Default maximum number of queues, and of kinds, workers and schedules, that metrics name.
const NAMES: usize = 200;

/// The kinds of failed commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitError {
    /// The store was full.
    Full,
    /// The store was unreachable, or refused.
    Unavailable,
    /// The outcome was unknown.
    Ambiguous,
    /// Another node is the leader.
    Fenced,
    /// The store is unusable.
    Broken,
}

impl CommitError {
    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Unavailable => "unavailable",
            Self::Ambiguous => "ambiguous",
            Self::Fenced => "fenced",
            Self::Broken => "broken",
        }
    }
}

/// The connections to other nodes that a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardLane {
    /// For requests that are answered at once.
    Short,
    /// For long polls and streams.
    Long,
}

impl ForwardLane {
    fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
        }
    }
}

/// Why forwarding a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardLoss {
    /// The other node was unreachable, or did not accept the request.
    Unreachable,
    /// All streams to it were in use.
    NoRoom,
    /// It did not answer in time.
    Late,
    /// The connection broke before the answer.
    Unknown,
}

impl ForwardLoss {
    const ALL: [Self; 4] = [Self::Unreachable, Self::NoRoom, Self::Late, Self::Unknown];

    fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::NoRoom => "no_room",
            Self::Late => "late",
            Self::Unknown => "unknown",
        }
    }
}

/// The memory budgets of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InFlight {
    /// Request bodies.
    Bodies,
    /// Large answers.
    Answers,
}

/// A request to the API.
#[derive(Debug, Clone, Copy)]
pub struct ApiCall<'a> {
    /// `rest` or `grpc`.
    pub protocol: &'static str,
    /// Template of its route, from a limited set.
    pub route: &'a str,
    /// HTTP status, or name of the gRPC code.
    pub code: &'a str,
    /// Time until the headers of the answer. `None` for a stream.
    pub took: Option<Duration>,
}

/// The leaders that a node has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Standing {
    /// Number of the newest leadership.
    pub epoch: u64,
    /// Number of changes of leader after the first.
    pub changes: u64,
    /// Time without a leader.
    pub leaderless: Duration,
    /// Whether a leader is known now.
    pub known: bool,
}

#[derive(Debug)]
struct Leaders {
    standing: Standing,
    /// Since when no leader is known.
    without_since: Option<Instant>,
}

type HistogramFamily<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// The metrics of a node: counts of the engine and the API, and the registry. Cheap to clone; all clones
/// share the metrics.
#[derive(Debug, Clone)]
pub struct NodeMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    shown: Shown,
    version: &'static str,
    queues: Names,
    kinds: Names,
    names: usize,
    totals: Mutex<Vec<Row>>,
    leaders: Mutex<Leaders>,
    schedule_to_start: HistogramFamily<1>,
    execution: HistogramFamily<1>,
    timer_lateness: Histogram,
    ticks: Ticks,
    batches: Counter,
    batch_mutations: Histogram,
    commit: Histogram,
    store_errors: Family<Labels<1>, Counter>,
    stale_writes: Counter,
    stale_reports: Counter,
    damaged_records: Family<Labels<1>, Counter>,
    sessions_opened: Counter,
    sessions_ended: Family<Labels<1>, Counter>,
    event_listeners: Gauge,
    events_sent: Counter,
    event_resets: Family<Labels<1>, Counter>,
    api_requests: Family<Labels<3>, Counter>,
    api_duration: HistogramFamily<2>,
    api_bodies: Gauge,
    api_answers: Gauge,
    forward_connections: Family<Labels<1>, Gauge>,
    forward_streams: Family<Labels<1>, Gauge>,
    forward_failures: Family<Labels<1>, Counter>,
    tls: Tls,
}

fn by_task() -> Histogram {
    histogram(Buckets::Task)
}

fn by_answer() -> Histogram {
    histogram(Buckets::Answer)
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under these locks can panic halfway through a change.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for NodeMetrics {
    fn default() -> Self {
        Self::new("", NAMES)
    }
}

impl NodeMetrics {
    /// Metrics of a node of this version, which name up to this many queues, kinds, workers and schedules.
    ///
    /// # Panics
    /// Never: a test checks that all registered metrics are declared.
    #[must_use]
    pub fn new(version: &'static str, names: usize) -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        let tasks = || HistogramFamily::<1>::new_with_constructor(by_task as fn() -> Histogram);
        let answers = HistogramFamily::<2>::new_with_constructor(by_answer as fn() -> Histogram);
        let shown = Shown::default();
        let mut inner = Inner {
            version,
            queues: Names::new(names),
            kinds: Names::new(names),
            names,
            totals: Mutex::default(),
            leaders: Mutex::new(Leaders {
                standing: Standing::default(),
                without_since: Some(Instant::now()),
            }),
            schedule_to_start: register(r, &all::SCHEDULE_TO_START, tasks()),
            execution: register(r, &all::EXECUTION, tasks()),
            timer_lateness: register(r, &all::TIMER_LATENESS, by_task()),
            ticks: Ticks::register(r, names),
            batches: register(r, &all::BATCHES, Counter::default()),
            batch_mutations: register(r, &all::BATCH_MUTATIONS, histogram(Buckets::Size)),
            commit: register(r, &all::COMMIT, by_answer()),
            store_errors: register(r, &all::STORE_ERRORS, Family::default()),
            stale_writes: register(r, &all::STALE_WRITES, Counter::default()),
            stale_reports: register(r, &all::STALE_REPORTS, Counter::default()),
            damaged_records: register(r, &all::DAMAGED_RECORDS, Family::default()),
            sessions_opened: register(r, &all::SESSIONS_OPENED, Counter::default()),
            sessions_ended: register(r, &all::SESSIONS_ENDED, Family::default()),
            event_listeners: register(r, &all::EVENT_LISTENERS, Gauge::default()),
            events_sent: register(r, &all::EVENTS_SENT, Counter::default()),
            event_resets: register(r, &all::EVENT_RESETS, Family::default()),
            api_requests: register(r, &all::API_REQUESTS, Family::default()),
            api_duration: register(r, &all::API_DURATION, answers),
            api_bodies: register(r, &all::API_BODIES, Gauge::default()),
            api_answers: register(r, &all::API_ANSWERS, Gauge::default()),
            forward_connections: register(r, &all::FORWARD_CONNECTIONS, Family::default()),
            forward_streams: register(r, &all::FORWARD_STREAMS, Family::default()),
            forward_failures: register(r, &all::FORWARD_FAILURES, Family::default()),
            tls: Tls::register(r),
            shown: shown.clone(),
            registry,
        };
        inner.registry.register_collector(Box::new(shown));
        // Created at the start, so that the first increment is visible as one.
        for kind in ["full", "unavailable", "ambiguous", "fenced", "broken"] {
            inner.store_errors.get_or_create_owned(&Labels::new(&all::STORE_ERRORS, [kind]));
        }
        for space in ["live", "done", "dead", "spec", "attempt"] {
            let labels = Labels::new(&all::DAMAGED_RECORDS, [space]);
            inner.damaged_records.get_or_create_owned(&labels);
        }
        for reason in ["closed", "expired"] {
            inner.sessions_ended.get_or_create_owned(&Labels::new(&all::SESSIONS_ENDED, [reason]));
        }
        for reason in ["leader_changed", "history_gone", "too_slow", "unknown_id"] {
            inner.event_resets.get_or_create_owned(&Labels::new(&all::EVENT_RESETS, [reason]));
        }
        for lane in [ForwardLane::Short, ForwardLane::Long] {
            let labels = |metric| Labels::new(metric, [lane.as_str()]);
            let connections = labels(&all::FORWARD_CONNECTIONS);
            inner.forward_connections.get_or_create_owned(&connections);
            inner.forward_streams.get_or_create_owned(&labels(&all::FORWARD_STREAMS));
        }
        for loss in ForwardLoss::ALL {
            let labels = Labels::new(&all::FORWARD_FAILURES, [loss.as_str()]);
            inner.forward_failures.get_or_create_owned(&labels);
        }
        Self(Arc::new(inner))
    }

    /// Queues as values of labels.
    #[must_use]
    pub fn queues(&self) -> &Names {
        &self.0.queues
    }

    /// Kinds as values of labels.
    #[must_use]
    pub fn kinds(&self) -> &Names {
        &self.0.kinds
    }

    /// Maximum number of queues, of kinds, of workers and of schedules that are named.
    #[must_use]
    pub fn names_max(&self) -> usize {
        self.0.names
    }

    /// The histogram of waits in a queue, in seconds.
    #[must_use]
    pub fn schedule_to_start(&self, queue: &str) -> Histogram {
        let labels = Labels::new(&all::SCHEDULE_TO_START, [queue]);
        self.0.schedule_to_start.get_or_create_owned(&labels)
    }

    /// The histogram of execution times in a queue, in seconds.
    #[must_use]
    pub fn execution(&self, queue: &str) -> Histogram {
        self.0.execution.get_or_create_owned(&Labels::new(&all::EXECUTION, [queue]))
    }

    /// The histogram of the lateness of timers, in seconds.
    #[must_use]
    pub fn timer_lateness(&self) -> &Histogram {
        &self.0.timer_lateness
    }

    /// The counts of the ticks of schedules.
    #[must_use]
    pub fn ticks(&self) -> &Ticks {
        &self.0.ticks
    }

    /// Counts a committed batch with its number of changes and its duration.
    pub fn committed(&self, mutations: usize, took: Duration) {
        self.0.batches.inc();
        self.0.batch_mutations.observe(f64::from(u32::try_from(mutations).unwrap_or(u32::MAX)));
        self.0.commit.observe(took.as_secs_f64());
    }

    /// Counts a failed commit, which may be retried.
    pub fn commit_failed(&self, error: CommitError) {
        let labels = Labels::new(&all::STORE_ERRORS, [error.as_str()]);
        self.0.store_errors.get_or_create(&labels).inc();
        if error == CommitError::Fenced {
            self.0.stale_writes.inc();
        }
    }

    /// Counts a report that was refused because its lease had ended.
    pub fn stale_report(&self) {
        self.0.stale_reports.inc();
    }

    /// Counts an unreadable record of a task.
    pub fn damaged_record(&self, space: &'static str) {
        let labels = Labels::new(&all::DAMAGED_RECORDS, [space]);
        self.0.damaged_records.get_or_create(&labels).inc();
    }

    /// Counts a session that was opened or resumed.
    pub fn session_opened(&self) {
        self.0.sessions_opened.inc();
    }

    /// Counts an ended session: `closed` or `expired`.
    pub fn session_ended(&self, reason: &'static str) {
        let labels = Labels::new(&all::SESSIONS_ENDED, [reason]);
        self.0.sessions_ended.get_or_create(&labels).inc();
    }

    /// Changes the number of listeners to events.
    pub fn event_listeners(&self, by: i64) {
        self.0.event_listeners.inc_by(by);
    }

    /// Counts an event that a listener was sent.
    pub fn event_sent(&self) {
        self.0.events_sent.inc();
    }

    /// Counts a listener that has missed events, by reason.
    pub fn event_reset(&self, reason: &'static str) {
        let labels = Labels::new(&all::EVENT_RESETS, [reason]);
        self.0.event_resets.get_or_create(&labels).inc();
    }

    /// Counts an answered request.
    pub fn answered(&self, call: ApiCall<'_>) {
        let ApiCall { protocol, route, code, took } = call;
        let labels = Labels::new(&all::API_REQUESTS, [protocol, route, code]);
        self.0.api_requests.get_or_create(&labels).inc();
        if let Some(took) = took {
            let labels = Labels::new(&all::API_DURATION, [protocol, route]);
            self.0.api_duration.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    /// Changes the bytes that the API holds.
    pub fn in_flight(&self, what: InFlight, bytes: i64) {
        match what {
            InFlight::Bodies => self.0.api_bodies.inc_by(bytes),
            InFlight::Answers => self.0.api_answers.inc_by(bytes),
        };
    }

    /// Changes the number of connections of a lane to one node.
    pub fn forward_connections(&self, lane: ForwardLane, before: usize, now: usize) {
        let labels = Labels::new(&all::FORWARD_CONNECTIONS, [lane.as_str()]);
        let step =
            i64::try_from(now).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX);
        self.0.forward_connections.get_or_create(&labels).inc_by(step);
    }

    /// Counts the start or end of a request to another node.
    pub fn forwarding(&self, lane: ForwardLane, begins: bool) {
        let labels = Labels::new(&all::FORWARD_STREAMS, [lane.as_str()]);
        self.0.forward_streams.get_or_create(&labels).inc_by(if begins { 1 } else { -1 });
    }

    /// Counts a failed forwarding.
    pub fn forward_lost(&self, loss: ForwardLoss) {
        let labels = Labels::new(&all::FORWARD_FAILURES, [loss.as_str()]);
        self.0.forward_failures.get_or_create(&labels).inc();
    }

    /// The counts of TLS.
    #[must_use]
    pub fn tls(&self) -> &Tls {
        &self.0.tls
    }

    /// Sets durable totals of tasks, by their index in the list. The next free index adds a row.
    pub fn set_totals(&self, rows: impl IntoIterator<Item = (usize, Row)>) {
        let mut totals = locked(&self.0.totals);
        for (place, row) in rows {
            if place < totals.len() {
                totals[place] = row;
            } else {
                totals.push(row);
            }
        }
    }

    /// Stops showing totals, because this node is no longer the leader.
    pub fn clear_totals(&self) {
        locked(&self.0.totals).clear();
    }

    /// Records that the leader became known (with the number of the leadership) or unknown.
    pub fn leader_seen(&self, epoch: Option<u64>) {
        let mut leaders = locked(&self.0.leaders);
        let now = Instant::now();
        let Leaders { standing, without_since } = &mut *leaders;
        if let (Some(since), Some(_)) = (*without_since, epoch) {
            standing.leaderless += now.duration_since(since);
            *without_since = None;
        }
        match epoch {
            Some(epoch) => {
                standing.changes += u64::from(standing.epoch != 0 && epoch > standing.epoch);
                standing.epoch = standing.epoch.max(epoch);
            }
            None => *without_since = without_since.or(Some(now)),
        }
    }

    /// The leaders that this node has seen so far.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let leaders = locked(&self.0.leaders);
        let without = leaders.without_since;
        let open = without.map_or(Duration::ZERO, |since| since.elapsed());
        let leaderless = leaders.standing.leaderless + open;
        Standing { leaderless, known: without.is_none(), ..leaders.standing }
    }

    /// Exposes all metrics: counts, totals of tasks, and the current values in `snapshot`.
    #[must_use]
    pub fn show(&self, mut snapshot: Snapshot, format: Format) -> Exposition {
        tasks::show(&locked(&self.0.totals), &mut snapshot);
        self.show_standing(&mut snapshot);
        self.0.tls.show(&mut snapshot);
        snapshot.set(&all::BUILD, [self.0.version], 1.0);
        process::collect(&mut snapshot);
        self.0.shown.replace(snapshot);
        exposition::write(&self.0.registry, format)
    }

    #[expect(clippy::cast_precision_loss, reason = "the exposition format has no other numbers")]
    fn show_standing(&self, snapshot: &mut Snapshot) {
        let standing = self.standing();
        snapshot.put(&all::LEADER_KNOWN, f64::from(u8::from(standing.known)));
        snapshot.put(&all::LEADER_EPOCH, standing.epoch as f64);
        snapshot.put(&all::LEADER_CHANGES, standing.changes as f64);
        snapshot.put(&all::LEADERLESS, standing.leaderless.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &NodeMetrics) -> String {
        let shown = metrics.show(Snapshot::default(), Format::Text);
        String::from_utf8(shown.body).expect("text")
    }

    #[test]
    fn what_is_counted_is_shown_and_nothing_undeclared() {
        let metrics = NodeMetrics::new("1.2.3", 10);
        metrics.committed(17, Duration::from_millis(3));
        metrics.commit_failed(CommitError::Fenced);
        metrics.schedule_to_start("q\"\n").observe(0.004);
        let call = ApiCall { protocol: "rest", route: "/v1/tasks/{id}", code: "200", took: None };
        metrics.answered(call);
        let mut counts = Counts::default();
        counts[Count::FailedTimeout as usize] = 7;
        let row = Row { queue: "q".into(), kind: "k".into(), counts };
        metrics.set_totals([(0, row)]);
        let text = text(&metrics);
        for line in [
            "rota_batches_total 1",
            "rota_batch_mutations_bucket{le=\"64.0\"} 1",
            "rota_store_errors_total{kind=\"fenced\"} 1",
            "rota_stale_writes_refused_total 1",
            "rota_task_schedule_to_start_seconds_bucket{le=\"0.005\",queue=\"q\\\"\\n\"} 1",
            "rota_api_requests_total{protocol=\"rest\",route=\"/v1/tasks/{id}\",code=\"200\"} 1",
            "rota_tasks_failed_total{queue=\"q\",kind=\"k\",reason=\"timeout\"} 7.0",
            "rota_tasks_completed_total{queue=\"q\",kind=\"k\"} 0.0",
            "rota_build_info{version=\"1.2.3\"} 1.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').expect("a name and a type");
            let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            assert!(all::ALL.iter().any(|metric| metric.name == name), "{name} is not declared");
        }
        metrics.clear_totals();
        assert!(!tests::text(&metrics).contains("rota_tasks_failed_total"));
    }

    #[test]
    fn the_same_can_be_had_as_protobuf_with_native_histograms() {
        let metrics = NodeMetrics::default();
        metrics.timer_lateness().observe(0.25);
        let shown = metrics.show(Snapshot::default(), Format::Protobuf);
        assert!(shown.content_type.contains("encoding=delimited"));
        let name = b"rota_timer_lateness_seconds";
        assert!(shown.body.windows(name.len()).any(|window| window == name));
    }

    #[test]
    fn leaders_are_counted_after_the_first() {
        let metrics = NodeMetrics::default();
        assert!(!metrics.standing().known);
        metrics.leader_seen(Some(3));
        metrics.leader_seen(Some(3));
        let standing = metrics.standing();
        assert_eq!((standing.epoch, standing.changes, standing.known), (3, 0, true));
        let without = standing.leaderless;
        metrics.leader_seen(None);
        metrics.leader_seen(None);
        metrics.leader_seen(Some(5));
        let standing = metrics.standing();
        assert_eq!((standing.epoch, standing.changes, standing.known), (5, 1, true));
        assert!(standing.leaderless > without);
    }

    use crate::tasks::{Count, Counts};
}
