//! The totals that metrics show are exactly what happened, through everything that can happen to a
//! leader, and their labels are few whatever users send.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};

use rota_core::{
    AttemptOutcome, Failure, FailureReason, LeaseId, Millis, Pause, Report, RetryPolicy, Status,
};
use rota_engine::{
    Dispatched, Engine, EngineError, EngineOptions, LeaseRequest, Role, RunAt, TaskRef,
};
use rota_metrics::{Format, NodeMetrics, Snapshot};

use crate::support::{Mood, MoodyStore, Node, completed, defined, name, task};

const QUEUES: [&str; 3] = ["orders", "mail", "images"];
/// What becomes of a task, by its kind. Those that a worker gets come first.
const KINDS: [&str; 9] = [
    "completes",
    "fails",
    "fails-for-good",
    "times-out",
    "retries",
    "is-given-back",
    "is-lost",
    "is-lost-once",
    "is-revived",
];

/// Totals by name and labels. What never happened is left out.
type Totals = BTreeMap<String, u64>;

/// What this test knows to have happened.
#[derive(Default)]
struct Ledger(Totals);

impl Ledger {
    fn note(&mut self, what: &str, queue: &str, kind: &str) {
        let line = match what.strip_prefix("failed/") {
            Some(reason) => format!(
                "rota_tasks_failed_total{{queue=\"{queue}\",kind=\"{kind}\",reason=\"{reason}\"}}"
            ),
            None => format!("rota_tasks_{what}_total{{queue=\"{queue}\",kind=\"{kind}\"}}"),
        };
        *self.0.entry(line).or_default() += 1;
    }

    fn note_task(&mut self, what: &str, task: &Dispatched) {
        self.note(what, task.spec.definition.queue.as_str(), task.spec.definition.kind.as_str());
    }
}

fn text(engine: &Engine) -> String {
    let shown = engine.metrics().show(Snapshot::default(), Format::Text);
    String::from_utf8(shown.body).expect("text")
}

/// The totals that a node shows.
fn shown(engine: &Engine) -> Totals {
    let text = text(engine);
    let lines = text.lines().filter(|line| line.starts_with("rota_tasks_"));
    let numbers = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        let value: f64 = value.parse().expect("a number");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "few happened")]
        (name.to_owned(), value as u64)
    });
    numbers.filter(|(_, value)| *value > 0).collect()
}

/// Does to tasks what their kinds say, and notes it.
struct Shift<'a> {
    engine: &'a Engine,
    ledger: &'a mut Ledger,
}

impl Shift<'_> {
    async fn submit(&mut self, queue: &str, kind: &str) -> TaskRef {
        let mut new = defined(task(kind), |it| it.queue = name(queue));
        new.definition.policy.retry = RetryPolicy {
            max_attempts: if kind == "retries" { 2 } else { 1 },
            max_lost: if kind == "is-lost-once" { 1 } else { 0 },
            ..RetryPolicy::default()
        };
        match kind {
            "expires" => {
                new.definition.expires_at = Some(self.engine.info().now + Millis(500));
            }
            "is-cancelled" => new.run_at = RunAt::After(Millis::from_secs(3600)),
            _ => {}
        }
        let results = self.engine.submit(vec![new]).await.expect("an answer");
        self.ledger.note("submitted", queue, kind);
        TaskRef::Id(results[0].as_ref().expect("accepted").task)
    }

    async fn lease(&mut self, ttl: Duration) -> Vec<Dispatched> {
        let request = LeaseRequest {
            session: None,
            worker: name("w"),
            queues: Vec::new(),
            kinds: KINDS.iter().map(|kind| name(kind)).collect(),
            max: 1000,
            wait: Duration::from_secs(10),
            ttl,
            held: None,
        };
        let tasks = self.engine.lease(request).await.expect("an answer").tasks;
        for task in &tasks {
            self.ledger.note_task("started", task);
        }
        tasks
    }

    async fn report(&mut self, task: &Dispatched, report: Report) {
        let lease = LeaseId { task: task.spec.id, token: task.token };
        let results = self.engine.report(vec![(lease, report)]).await.expect("an answer");
        assert!(results[0].is_ok(), "{results:?}");
    }

    async fn end(&mut self, task: &Dispatched, outcome: AttemptOutcome) {
        let report = Report::Ended { started_at: None, output_tail: bytes::Bytes::new(), outcome };
        self.report(task, report).await;
    }

    async fn fail(&mut self, task: &Dispatched, reason: FailureReason) {
        let failure = Failure::new(reason, "as its kind says");
        let retry_at = Some(rota_core::WallTime(1));
        self.end(task, AttemptOutcome::Failed { failure, retry_at }).await;
    }

    /// Does what the kind says. `false`: its worker is to be lost.
    async fn work(&mut self, task: &Dispatched) -> bool {
        match (task.spec.definition.kind.as_str(), task.attempt) {
            ("is-lost", _) | ("is-lost-once", 1) => return false,
            ("retries", 1) => {
                self.fail(task, FailureReason::Error).await;
                self.ledger.note_task("retried", task);
            }
            ("is-given-back", 1) => {
                // It is the same attempt when it comes back, so it would be given back for ever.
                self.report(task, Report::Released).await;
                self.ledger.note_task("released", task);
                let again = self.lease(Duration::from_secs(60)).await;
                for task in again {
                    self.end(&task, completed("")).await;
                    self.ledger.note_task("completed", &task);
                }
            }
            ("fails", _) => {
                self.fail(task, FailureReason::Error).await;
                self.ledger.note_task("failed/error", task);
            }
            ("fails-for-good", _) => {
                self.fail(task, FailureReason::Permanent).await;
                self.ledger.note_task("failed/permanent", task);
            }
            ("times-out", _) => {
                self.fail(task, FailureReason::Timeout).await;
                self.ledger.note_task("failed/timeout", task);
            }
            ("is-revived", _) => {
                self.fail(task, FailureReason::Error).await;
                self.ledger.note_task("failed/error", task);
                self.engine.retry(&TaskRef::Id(task.spec.id)).await.expect("it ended");
                self.ledger.note_task("revived", task);
                for again in self.lease(Duration::from_secs(60)).await {
                    self.end(&again, completed("")).await;
                    self.ledger.note_task("completed", &again);
                }
            }
            _ => {
                self.end(task, completed("")).await;
                self.ledger.note_task("completed", task);
            }
        }
        true
    }

    /// Submits some of every kind in every queue, and works until all have ended.
    async fn whole(&mut self) {
        for queue in QUEUES {
            for kind in ["is-cancelled", "expires"] {
                let id = self.submit(queue, kind).await;
                if kind == "is-cancelled" {
                    self.engine.cancel(&id).await.expect("it waits");
                    self.ledger.note("cancelled", queue, kind);
                } else {
                    let ended = self.engine.wait(&id, Duration::from_secs(20)).await;
                    let view = ended.expect("an answer").expect("known");
                    assert_eq!(view.status, Status::Expired);
                    self.ledger.note("expired", queue, kind);
                }
            }
            for kind in KINDS {
                self.submit(queue, kind).await;
                for task in self.lease(Duration::from_millis(200)).await {
                    self.see_through(&task).await;
                }
            }
        }
    }

    async fn see_through(&mut self, task: &Dispatched) {
        if self.work(task).await {
            if task.spec.definition.kind.as_str() == "retries" && task.attempt == 1 {
                for again in self.lease(Duration::from_secs(60)).await {
                    assert!(self.work(&again).await);
                }
            }
            return;
        }
        // Nobody is heard of any more in its session.
        self.ledger.note_task("lost", task);
        if task.spec.definition.kind.as_str() == "is-lost" {
            let id = TaskRef::Id(task.spec.id);
            let ended = self.engine.wait(&id, Duration::from_secs(20)).await;
            let view = ended.expect("an answer").expect("known");
            assert_eq!(view.status, Status::Failed);
            self.ledger.note_task("failed/worker_lost", task);
        } else {
            for again in self.lease(Duration::from_secs(60)).await {
                assert!(self.work(&again).await);
            }
        }
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    let mut period = tokio::time::interval(Duration::from_millis(10));
    let wait = async {
        while !holds() {
            period.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes to hold");
}

#[tokio::test]
async fn totals_are_what_happened_through_restarts_and_lost_answers() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let mut ledger = Ledger::default();
    let node = Node::start(&data);
    Shift { engine: &node.engine, ledger: &mut ledger }.whole().await;
    assert_eq!(shown(&node.engine), ledger.0);
    for mood in [Mood::LandsAmbiguously, Mood::FailsAmbiguously] {
        node.store.set(mood);
        Shift { engine: &node.engine, ledger: &mut ledger }.submit("orders", "completes").await;
        assert_eq!(shown(&node.engine), ledger.0, "{mood:?}");
    }
    node.stop().await;

    let node = Node::start(&data);
    until(|| node.engine.health().is_ready()).await;
    assert_eq!(shown(&node.engine), ledger.0, "after a restart");
    // What does not fit into one batch is counted in the one that it lands in.
    node.store.mutations_max.store(7, Ordering::Relaxed);
    let mut shift = Shift { engine: &node.engine, ledger: &mut ledger };
    let many =
        (0..50).map(|_| defined(task("completes"), |it| it.queue = name("orders"))).collect();
    let accepted = shift.engine.submit(many).await.expect("an answer");
    accepted.iter().for_each(|_| shift.ledger.note("submitted", "orders", "completes"));
    for task in shift.lease(Duration::from_secs(60)).await {
        assert!(shift.work(&task).await);
    }
    shift.whole().await;
    assert_eq!(shown(&node.engine), ledger.0, "in many batches");
    node.stop().await;
}

#[tokio::test]
async fn what_did_not_land_is_not_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mut ledger = Ledger::default();
    Shift { engine: &node.engine, ledger: &mut ledger }.submit("orders", "completes").await;
    let epoch = node.engine.info().epoch;
    node.store.set(Mood::Deposes);
    let lost = node.engine.submit(vec![task("lost")]).await;
    assert!(matches!(lost, Err(EngineError::LeadershipLost)), "{lost:?}");
    until(|| node.engine.info().epoch > epoch && node.engine.health().is_ready()).await;
    assert_eq!(shown(&node.engine), ledger.0);
    let text = text(&node.engine);
    for line in ["rota_stale_writes_refused_total 1", "rota_store_errors_total{kind=\"fenced\"} 1"]
    {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    node.stop().await;
}

#[tokio::test]
async fn totals_go_on_where_the_last_leader_ended_and_only_the_leader_shows_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MoodyStore::open(&directory.path().join("data"));
    let start = |name: &str| {
        let options = EngineOptions {
            node: name.to_owned(),
            address: Some(format!("http://{name}:7420")),
            ..EngineOptions::default()
        };
        Node::start_on(store.clone(), options)
    };
    let first = start("first");
    until(|| first.engine.role() == Role::Leader && first.engine.health().is_ready()).await;
    let second = start("second");
    until(|| second.engine.health().is_ready()).await;
    let mut ledger = Ledger::default();
    for (leader, follower) in [(&first, &second), (&second, &first), (&first, &second)] {
        Shift { engine: &leader.engine, ledger: &mut ledger }.whole().await;
        assert_eq!(shown(&leader.engine), ledger.0);
        assert_eq!(shown(&follower.engine), Totals::new());
        leader.engine.transfer(None).await.expect("handed over");
        until(|| follower.engine.role() == Role::Leader && follower.engine.health().is_ready())
            .await;
        assert_eq!(shown(&follower.engine), ledger.0);
        until(|| leader.engine.health().is_ready() && shown(&leader.engine).is_empty()).await;
    }
    first.leave().await;
    second.stop().await;
}

/// Every value of a label, in all that a node shows.
async fn values(engine: &Engine, label: &str) -> BTreeSet<String> {
    let shown = engine.metrics().show(engine.collect_metrics().await, Format::Text);
    let text = String::from_utf8(shown.body).expect("text");
    let begin = format!("{label}=\"");
    let found = text
        .match_indices(&begin)
        .filter_map(|(at, begin)| text[at + begin.len()..].split('"').next().map(str::to_owned));
    found.collect()
}

#[tokio::test]
async fn ten_thousand_queues_and_kinds_make_few_labels_and_one_true_sum() {
    const NAMES: usize = 30;
    const QUEUES: u64 = 10_000;
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let options =
        || EngineOptions { metrics: NodeMetrics::new("", NAMES), ..EngineOptions::default() };
    let mut submitted = 0;
    // Each time other names come first.
    for round in 0..3_u64 {
        let node = Node::start_with(&data, options());
        for chunk in 0..QUEUES / 500 {
            let tasks = (0..500).map(|number| {
                let number = (chunk * 500 + number + round * 777) % QUEUES;
                let kind = format!("kind-{}", number % 1000);
                defined(task(&kind), |it| it.queue = name(&format!("queue-{number}")))
            });
            let results = node.engine.submit(tasks.collect()).await.expect("an answer");
            submitted += results.iter().filter(|result| result.is_ok()).count() as u64;
        }
        let sum: u64 = shown(&node.engine)
            .iter()
            .filter_map(|(name, count)| name.contains("submitted").then_some(count))
            .sum();
        assert_eq!(sum, submitted);
        for number in 0..2 * NAMES {
            let request = LeaseRequest {
                session: None,
                worker: name(&format!("worker-{round}-{number}")),
                queues: Vec::new(),
                kinds: Vec::new(),
                max: 1,
                wait: Duration::ZERO,
                ttl: Duration::from_secs(60),
                held: None,
            };
            node.engine.lease(request).await.expect("an answer");
        }
        for label in ["queue", "kind", "worker"] {
            let values = values(&node.engine, label).await;
            // The kinds of errors of a store are five more.
            assert!(values.len() <= NAMES + 1 + 5, "{label} has {} values", values.len());
            assert!(values.contains("other"));
        }
        let series = text(&node.engine).lines().count();
        assert!(series < 6_000, "{series} lines");
        node.stop().await;
    }
    assert_eq!(submitted, 3 * QUEUES);
}

#[tokio::test]
async fn a_paused_queue_does_not_hide_others_that_share_its_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = EngineOptions { metrics: NodeMetrics::new("", 1), ..EngineOptions::default() };
    let node = Node::start_with(&directory.path().join("data"), options);
    for queue in ["named", "paused", "paused", "waits"] {
        node.submit(defined(task("k"), |it| it.queue = name(queue))).await;
    }
    for (queue, unserved, paused) in [("paused", 1, 0), ("waits", 0, 1)] {
        node.engine.pause_queue(&name(queue), Some(Pause::default())).await.expect("an answer");
        let shown = node.engine.metrics().show(node.engine.collect_metrics().await, Format::Text);
        let shown = String::from_utf8(shown.body).expect("text");
        for line in [
            "rota_tasks{queue=\"other\",state=\"pending\"} 3".to_owned(),
            format!("rota_tasks_unserved{{queue=\"other\"}} {unserved}"),
            format!("rota_queue_paused{{queue=\"other\"}} {paused}"),
        ] {
            let found = shown.lines().any(|found| found.trim_end_matches(".0") == line);
            assert!(found, "{line} is not in\n{shown}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn waits_and_executions_are_measured_once_for_each_task_that_was_not_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(&directory.path().join("data"));
    let mut ledger = Ledger::default();
    let mut shift = Shift { engine: &node.engine, ledger: &mut ledger };
    for kind in ["completes", "fails", "is-lost-once", "is-given-back"] {
        shift.submit("orders", kind).await;
        for task in shift.lease(Duration::from_millis(200)).await {
            shift.see_through(&task).await;
        }
    }
    let text = text(&node.engine);
    for line in [
        "rota_task_schedule_to_start_seconds_count{queue=\"orders\"} 4",
        "rota_task_execution_seconds_count{queue=\"orders\"} 4",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    node.stop().await;
}
