//! What is shown is what happened: a real Prometheus scrapes a real cluster in which tasks fail, a
//! worker is killed and then the leader, and what panels, rules and alerts say is compared with books
//! that clients and workers kept.
//!
//! Each process runs on a network of its own, so this needs root. Rules and windows are ten times as
//! fast as they are in `deploy/prometheus`; nothing else of them is changed.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::print_stdout, reason = "what was compared belongs to the report of a run")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use rota_client::{
    Client, task,
    v1::{FailureReason, ListTasksRequest, TaskError, TaskStatus},
};
use rota_tests::{
    book::{self, ATTEMPTS, Entry, SteadyLoad, WORKER_METRICS_PORT},
    cluster::{Cluster, NODE_PORT, Process, Shape},
    dashboards::{Dashboard, Query},
    load,
    process::{LOOK, PATIENCE},
    prometheus::{Prometheus, Series},
    promql::{Selector, selectors},
    store::Backend,
};
use tokio::time::{sleep_until, timeout};

/// So much faster than in the files.
const TIMES: u64 = 10;
/// The window of panels, Grafana's `$__rate_interval`.
const WINDOW: Duration = Duration::from_secs(30);
/// The same where another node leads at its end than at its beginning: each is scraped at a time of its
/// own, so the window is off by as much as an interval, and must be long beside it.
const LONG_WINDOW: Duration = Duration::from_secs(60);
/// Rates are looked at so many times, a second apart: a scrape that was late makes one of them wrong,
/// and the next one as much in the other direction.
const LOOKS: u32 = 8;
/// Nothing is scheduled here. These have no values before the first tick, the first miss and the first failure.
const OF_SCHEDULES: [&str; 4] = [
    "rota_schedule_next_tick_timestamp_seconds",
    "rota_schedule_lateness_seconds",
    "rota_schedule_missed_timestamp_seconds",
    "rota_schedule_failures",
];
/// A rate may be off by so much of itself.
const TOLERANCE: f64 = 0.05;
/// Tasks that no worker serves: those that are cancelled in the end, and those that expire.
const LONELY: usize = 5;
const EXPIRING: usize = 3;

type Lane = (String, String);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panels_rules_and_alerts_tell_the_truth() {
    let shape = Shape { backend: Backend::Etcd, servers: 3, nodes: 3, workers: 3 };
    let mut cluster = Cluster::start(shape, Path::new(env!("CARGO_BIN_EXE_book-worker"))).await;
    let nodes: Vec<_> = cluster.nodes.iter().map(|node| address(node, NODE_PORT)).collect();
    let workers = cluster.workers.values();
    let workers: Vec<_> = workers.map(|worker| address(worker, WORKER_METRICS_PORT)).collect();
    let prometheus = Prometheus::start(&nodes, &workers, TIMES).await;
    let witness = Witness { prometheus, boards: Dashboard::all(), began: SystemTime::now() };
    let client = cluster.client(0);
    let lonely = submit_lonely(&client).await;
    let load = SteadyLoad::start(cluster.client(1));

    wait(WINDOW + Duration::from_secs(15)).await;
    witness.rates_are_those_of("steady", WINDOW, &books(&cluster, load.book())).await;

    let mut worker = cluster.workers.remove("w1").unwrap();
    worker.kill().await;
    let expired = r#"sum(rota_sessions_ended_total{reason="expired"})"#;
    witness.wait_for("the session is over", expired, |value| value >= 1.0).await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].kill().await;
    wait(WINDOW - Duration::from_secs(10)).await;
    witness.rates_are_those_of("another leads", LONG_WINDOW, &books(&cluster, load.book())).await;

    let expected = BTreeSet::from([
        ("RotaTargetDown".to_owned(), nodes[leader].clone()),
        ("RotaTargetDown".to_owned(), workers[0].clone()),
        ("RotaTasksFailing".to_owned(), "flaky".to_owned()),
        ("RotaQueueUnserved".to_owned(), "orphans".to_owned()),
    ]);
    witness.alerts_become(&expected).await;
    witness.overview_counts(expected.len()).await;

    let submitted = load.end().await;
    for id in &lonely {
        client.cancel_task(id).await.unwrap();
    }
    let truth = Truth::of(&client, &submitted).await;
    witness.totals_become(&truth).await;
    witness.every_panel_shows_something().await;
    witness.every_rule_works().await;
    assert_eq!(witness.fired().await, expected, "alerts that fired at any time");
}

/// Nodes here have no TLS.
fn is_of_tls(selector: &Selector) -> bool {
    selector.name.starts_with("rota_tls_")
}

fn is_of_schedules(selector: &Selector) -> bool {
    OF_SCHEDULES.iter().any(|metric| selector.name.contains(metric))
}

fn address(process: &Process, port: u16) -> String {
    format!("{}:{port}", process.host.address())
}

async fn wait(time: Duration) {
    sleep_until((Instant::now() + time).into()).await;
}

/// Tasks of a queue without workers. Gives those that will not expire.
async fn submit_lonely(client: &Client) -> Vec<String> {
    let new = || task("nobody").queue("orphans").payload_json(&());
    let soon = SystemTime::now() + Duration::from_secs(2);
    let tasks = (0..LONELY).map(|_| new());
    let tasks = tasks.chain((0..EXPIRING).map(|_| new().expires_at(soon)));
    let results = client.create_tasks(tasks.collect()).await.unwrap();
    let ids = results.into_iter().map(|result| result.unwrap().id);
    ids.take(LONELY).collect()
}

/// What was submitted, and what the workers wrote down.
fn books(cluster: &Cluster, mut submitted: Vec<Entry>) -> Vec<Entry> {
    for worker in ["w1", "w2", "w3"] {
        submitted.extend(book::read(&cluster.effects_of(worker)));
    }
    submitted
}

/// What became of all tasks, by lane, once nothing is left to be done.
#[derive(Debug, Default, PartialEq)]
struct Truth(BTreeMap<&'static str, BTreeMap<Lane, f64>>);

impl Truth {
    /// From the clients' book, and from the history of each task.
    async fn of(client: &Client, submitted: &[Entry]) -> Self {
        let mut truth = Self::default();
        for entry in submitted {
            truth.add("submitted", (entry.queue.clone(), entry.kind.clone()), 1);
            // Every one of them ends as its kind says.
            let end = if entry.kind == "bad" { "failed" } else { "completed" };
            truth.add(end, (entry.queue.clone(), entry.kind.clone()), 1);
        }
        let lonely = || ("orphans".to_owned(), "nobody".to_owned());
        truth.add("submitted", lonely(), LONELY + EXPIRING);
        truth.add("cancelled", lonely(), LONELY);
        truth.add("expired", lonely(), EXPIRING);
        for (lane, attempts) in histories(client).await {
            let lost = |reason: &Option<FailureReason>| *reason == Some(FailureReason::WorkerLost);
            truth.add("started", lane.clone(), attempts.len());
            truth.add("lost", lane.clone(), attempts.iter().filter(|reason| lost(reason)).count());
            let followed = &attempts[..attempts.len().saturating_sub(1)];
            let retried = followed.iter().filter(|reason| reason.is_some() && !lost(reason));
            truth.add("retried", lane, retried.count());
        }
        truth
    }

    fn add(&mut self, what: &'static str, lane: Lane, count: usize) {
        let lanes = self.0.entry(what).or_default();
        *lanes.entry(lane).or_default() += f64::from(u32::try_from(count).unwrap());
    }

    fn sum(&self, what: &str) -> f64 {
        self.0[what].values().sum()
    }
}

/// Waits until all tasks have ended; then the attempts of each, and how they failed if they did.
async fn histories(client: &Client) -> Vec<(Lane, Vec<Option<FailureReason>>)> {
    load::settle(client).await;
    let (mut tasks, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListTasksRequest { page_size: 1000, page_token, ..Default::default() };
        let page = client.list_tasks(request).await.unwrap();
        tasks.extend(page.tasks);
        match page.next_page_token {
            Some(next) => page_token = next,
            None => break,
        }
    }
    let mut histories = Vec::new();
    for task in tasks {
        let lane = (task.queue.clone(), task.kind.clone());
        // What completed at the first attempt has no more to tell.
        let attempts = if task.status() == TaskStatus::Completed && task.attempt == 1 {
            vec![None]
        } else {
            let attempts = client.list_attempts(&task.id).await.unwrap();
            attempts.iter().map(|of| of.error.as_ref().map(TaskError::reason)).collect()
        };
        histories.push((lane, attempts));
    }
    histories
}

/// Prometheus, and what is asked of it.
struct Witness {
    prometheus: Prometheus,
    boards: Vec<Dashboard>,
    began: SystemTime,
}

impl Witness {
    fn board(&self, uid: &str) -> &Dashboard {
        self.boards.iter().find(|board| board.uid == uid).unwrap()
    }

    /// What Grafana would ask.
    fn substituted(&self, expression: &str, window: Duration) -> String {
        let range = self.began.elapsed().unwrap().as_secs();
        let mut expression = expression.replace("$cluster", "test");
        for variable in ["$queue", "$kind", "$worker", "$node"] {
            expression = expression.replace(variable, ".*");
        }
        expression = expression.replace("$__rate_interval", &format!("{}s", window.as_secs()));
        expression = expression.replace("$__range", &format!("{range}s"));
        assert!(!expression.contains('$'), "{expression}");
        // What the files say of minutes, rules of their own in panels, passes faster here.
        expression.replace("[5m]", "[30s]")
    }

    async fn now(&self, query: &Query) -> Vec<Series> {
        let expression = self.substituted(&query.expression, WINDOW);
        self.prometheus.query(&expression, SystemTime::now()).await.unwrap()
    }

    async fn number(&self, expression: &str, at: SystemTime) -> Option<f64> {
        let found = self.prometheus.query(expression, at).await.unwrap();
        found.first().map(Series::last)
    }

    async fn wait_for(&self, what: &str, expression: &str, holds: impl Fn(f64) -> bool) {
        let mut look = tokio::time::interval(LOOK * 10);
        let waited = async {
            while !self.number(expression, SystemTime::now()).await.is_some_and(&holds) {
                look.tick().await;
            }
        };
        timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("not within time: {what}"));
    }

    /// The panel of speeds, against the books of the same time.
    async fn rates_are_those_of(&self, when: &str, window: Duration, book: &[Entry]) {
        // What is scraped and recorded by now is what happened up to then.
        let to = SystemTime::now() - Duration::from_secs(3);
        let panel = self.board("rota-overview").panel("Tasks per second");
        let failures = f64::from(ATTEMPTS);
        for (legend, what, of) in [
            ("submitted", "submitted", 1.0),
            ("completed", "completed", 1.0),
            ("failed", "failed", failures),
            ("retried", "failed", failures),
        ] {
            let times: Vec<_> =
                (0..LOOKS).map(|before| to - Duration::from_secs(before.into())).collect();
            let happened: usize =
                times.iter().map(|&to| book::count(book, what, to - window, to)).sum();
            let happened = f64::from(u32::try_from(happened).unwrap())
                / f64::from(LOOKS)
                / of
                / window.as_secs_f64();
            let expression = self.substituted(&panel.query(legend).expression, window);
            let mut shown = 0.0;
            for &to in &times {
                let now = self.number(&expression, to).await.expect(legend);
                shown += now / f64::from(LOOKS);
            }
            let off = (shown - happened).abs() / happened;
            println!("{when}: {legend}: {shown:.2}/s shown, {happened:.2}/s happened");
            assert!(off < TOLERANCE, "{when}: {legend}: {shown} shown, {happened} happened");
        }
    }

    /// Alerts that fire, each with what it is about.
    async fn firing(&self, found: Result<Vec<Series>, String>) -> BTreeSet<(String, String)> {
        let about = |series: &Series| {
            let about = ["queue", "instance", "cluster"].map(|label| series.label(label));
            about.into_iter().find(|label| !label.is_empty()).unwrap_or_default().to_owned()
        };
        let found = found.unwrap();
        found.iter().map(|series| (series.label("alertname").to_owned(), about(series))).collect()
    }

    /// At any time.
    async fn fired(&self) -> BTreeSet<(String, String)> {
        let alerts = r#"ALERTS{alertstate="firing"}"#;
        self.firing(self.prometheus.range(alerts, self.began, SystemTime::now()).await).await
    }

    async fn alerts_become(&self, expected: &BTreeSet<(String, String)>) {
        let mut look = tokio::time::interval(LOOK * 10);
        let alerts = r#"ALERTS{alertstate="firing"}"#;
        let mut fire = BTreeSet::new();
        let waited = async {
            while fire != *expected {
                look.tick().await;
                fire = self.firing(self.prometheus.query(alerts, SystemTime::now()).await).await;
            }
        };
        let within = timeout(PATIENCE, waited).await;
        assert!(within.is_ok(), "{fire:?} fire, and not {expected:?}");
    }

    /// The numbers at the top of the overview, after a worker and the leader were killed.
    async fn overview_counts(&self, alerts: usize) {
        let alerts = f64::from(u32::try_from(alerts).unwrap());
        for (title, expected) in [("Alerts", alerts), ("Leader", 1.0), ("Workers", 2.0)] {
            let query = &self.board("rota-overview").panel(title).queries[0];
            let shown = self.now(query).await.first().map(Series::last);
            assert_eq!(shown, Some(expected), "{title}");
        }
        // Its colour goes by the share, and its legend names both numbers.
        let query =
            self.board("rota-overview").panel("Nodes ready").query("{{ready}} of {{nodes}}");
        let shown = self.now(query).await;
        let [shown] = &shown[..] else { panic!("Nodes ready: {shown:?}") };
        assert_eq!((shown.label("ready"), shown.label("nodes")), ("2", "3"));
        assert!((shown.last() - 2.0 / 3.0).abs() < 1e-9, "{shown:?}");
    }

    /// Totals are exact, as soon as they have been scraped: by queue and kind as recorded, and in the
    /// panels.
    async fn totals_become(&self, truth: &Truth) {
        let mut look = tokio::time::interval(LOOK * 10);
        let mut shown = BTreeMap::new();
        let waited = async {
            while shown != truth.0 {
                look.tick().await;
                for what in truth.0.keys() {
                    shown.insert(*what, self.total(what, &truth.0[what]).await);
                }
            }
        };
        if timeout(PATIENCE / 3, waited).await.is_err() {
            assert_eq!(shown, truth.0, "what is shown, and what happened");
        }
        for (title, what) in [
            ("Submitted", "submitted"),
            ("Started", "started"),
            ("Completed", "completed"),
            ("Failed", "failed"),
            ("Retried", "retried"),
            ("Lost", "lost"),
            ("Cancelled", "cancelled"),
            ("Expired", "expired"),
        ] {
            let panel = self.board("rota-queues").panels.iter().find(|panel| panel.title == title);
            let shown = self.now(&panel.unwrap().queries[0]).await.first().map(Series::last);
            println!("{title}: {shown:?}");
            assert_eq!(shown, Some(truth.sum(what)), "{title}");
        }
    }

    /// Lanes of which nothing happened are there, as 0, and left out where the truth has none.
    async fn total(&self, what: &str, truth: &BTreeMap<Lane, f64>) -> BTreeMap<Lane, f64> {
        let expression =
            format!("sum by (queue, kind) (max without (instance) (rota_tasks_{what}_total))");
        let found = self.prometheus.query(&expression, SystemTime::now()).await.unwrap();
        let lane =
            |series: &Series| (series.label("queue").to_owned(), series.label("kind").to_owned());
        let found = found.iter().map(|series| (lane(series), series.last()));
        found.filter(|(lane, value)| *value != 0.0 || truth.contains_key(lane)).collect()
    }

    /// No panel is empty or wrong, no list of a variable, no mark.
    async fn every_panel_shows_something(&self) {
        let (mut empty, mut asked, now) = (Vec::new(), 0, SystemTime::now());
        for board in &self.boards {
            let mut queries = Vec::new();
            for panel in &board.panels {
                for query in &panel.queries {
                    queries.push((panel.title.as_str(), query.expression.clone(), query.instant));
                }
            }
            for (name, series, label) in &board.variables {
                queries.push((name, format!("count by ({label}) ({series})"), true));
            }
            for annotation in &board.annotations {
                queries.push(("annotation", annotation.clone(), false));
            }
            for (title, expression, instant) in queries {
                if selectors(&expression).iter().any(|it| is_of_schedules(it) || is_of_tls(it)) {
                    continue;
                }
                let expression = self.substituted(&expression, WINDOW);
                let found = if instant {
                    self.prometheus.query(&expression, now).await
                } else {
                    self.prometheus.range(&expression, self.began, now).await
                };
                asked += 1;
                let something = found.as_ref().is_ok_and(|found| {
                    found.iter().any(|series| series.values.iter().any(|value| !value.is_nan()))
                });
                if !something {
                    empty.push(format!("{}: {title}: {expression}: {found:?}", board.uid));
                }
            }
        }
        println!("{asked} queries of dashboards");
        assert!(empty.is_empty(), "{empty:#?}");
    }

    /// Each rule was evaluated without an error, records something, and what it asks for is there.
    async fn every_rule_works(&self) {
        let (rules, now) = (self.prometheus.rules().await, SystemTime::now());
        assert!(rules.len() > 30, "{} rules", rules.len());
        for rule in rules {
            assert_eq!(rule.health, "ok", "{rule:?}");
            let mut asked: Vec<_> = selectors(&rule.expression).into_iter().collect();
            // Certificates are another exporter's, nodes here have no TLS, and nothing was lost.
            asked.retain(|selector| {
                !selector.name.starts_with("probe_")
                    && !is_of_tls(selector)
                    && selector.name != "rota_store_loss_timestamp_seconds"
                    && !is_of_schedules(selector)
            });
            let mut asked: Vec<_> =
                asked.iter().map(|asked| format!("{}{}", asked.name, asked.matchers)).collect();
            if !rule.alert && !OF_SCHEDULES.iter().any(|metric| rule.name.contains(metric)) {
                asked.push(rule.name.clone());
            }
            for series in asked {
                let found = self.prometheus.range(&series, self.began, now).await.unwrap();
                assert!(!found.is_empty(), "{}: there is no {series}", rule.name);
            }
        }
    }
}
