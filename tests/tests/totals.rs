//! What nodes show at `/metrics` of tasks is what happened to them: in a cluster whose leaders are killed and
//! handed over under load, and on a node whose users make up names without end.

use std::{path::Path, time::Duration};

use rota_client::{Client, task, v1};
use rota_tests::{
    audit::audit,
    cluster::{Cluster, Shape},
    load::{self, Kind, Load},
    process::{LOOK, PATIENCE, Server},
    scrape::{hold_totals, scrape, sum, values},
    store::Backend,
};
use tokio::time::timeout;

/// Submitted between two changes of leader, at least.
const BETWEEN: usize = 500;
const CLIENTS: usize = 2;
const PERIOD: Duration = Duration::from_millis(100);
/// Names that users make up, and those that have a label of their own where nothing else is set.
const MADE_UP: usize = 10_000;
const NAMED: usize = 200;
/// With all names taken: two histograms of twenty series for each queue, and thirteen totals for each pair.
const SERIES_MAX: usize = 15_000;
/// Tasks in one request.
const BATCH: usize = 1000;

/// How a leadership ends.
#[derive(Debug, Clone, Copy)]
enum LeaderChange {
    Killed,
    HandedOver,
}

/// Needs root: each process runs on a network of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_are_exact_through_changes_of_leader() {
    totals_are_exact(Backend::Etcd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_are_exact_through_changes_of_leader_on_redis() {
    totals_are_exact(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_are_exact_through_changes_of_leader_on_consul() {
    totals_are_exact(Backend::ConsulWithShortSessions).await;
}

#[expect(clippy::print_stdout, reason = "the figures belong to the report of a run")]
async fn totals_are_exact(backend: Backend) {
    let shape = Shape { backend, servers: 1, nodes: 3, workers: 2 };
    let mut cluster = Cluster::start(shape, Path::new(env!("CARGO_BIN_EXE_effect-worker"))).await;
    let clients = (0..CLIENTS).map(|first| cluster.client(first)).collect();
    let load = Load::start(clients, Kind::Effect, PERIOD);
    for end in [
        LeaderChange::Killed,
        LeaderChange::HandedOver,
        LeaderChange::Killed,
        LeaderChange::HandedOver,
    ] {
        go_on(&load).await;
        change_leader(&mut cluster, end).await;
    }
    let name = cluster.workers.keys().next().expect("a worker").clone();
    cluster.kill_worker(&name).await;
    cluster.start_worker();
    go_on(&load).await;
    let acks = load.end().await;
    let client = cluster.client(0);
    load::settle(&client).await;
    let records = load::records(&client).await;
    let verdict = audit(&acks, &cluster.effects(), &records, &cluster.expected_losses);
    assert_eq!(verdict.faults, []);
    for _ in 0..2 {
        let leader = cluster.leader().await;
        for node in 0..shape.nodes {
            cluster.ready(node).await;
            let shown = scrape(&cluster.url(node)).await;
            if node == leader {
                hold_totals(&shown, &verdict, &records);
            } else {
                let totals = shown.keys().find(|name| name.starts_with("rota_tasks_submitted"));
                assert_eq!(totals, None, "who sums over nodes must not count twice");
            }
        }
        // The next leader has them from the store.
        change_leader(&mut cluster, LeaderChange::HandedOver).await;
    }
    println!("{} tasks, {} attempts lost", verdict.tasks, verdict.lost);
}

/// Waits until so much more was acknowledged.
async fn go_on(load: &Load) {
    let (enough, mut look) = (load.acknowledged() + BETWEEN, tokio::time::interval(LOOK));
    let more = async {
        while load.acknowledged() < enough {
            look.tick().await;
        }
    };
    timeout(PATIENCE, more).await.expect("work goes on");
}

async fn change_leader(cluster: &mut Cluster, end: LeaderChange) {
    let leader = cluster.leader().await;
    match end {
        LeaderChange::Killed => {
            cluster.nodes[leader].kill().await;
            cluster.nodes[leader].start();
        }
        LeaderChange::HandedOver => {
            let request = v1::TransferLeadershipRequest::default();
            cluster.client(leader).transfer_leadership(request).await.expect("handed over");
        }
    }
    cluster.leader().await;
    cluster.ready(leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_names_make_few_series_and_lose_no_task() {
    let mut server = Server::start(&[]).await;
    server.ready().await;
    let mut named = None;
    for round in 1..=2 {
        submit_made_up(&server.client(), round).await;
        let shown = scrape(&server.url()).await;
        let tasks = f64::from(u32::try_from(MADE_UP * round).expect("a number of tasks"));
        for metric in ["rota_tasks_submitted_total", "rota_tasks", "rota_live_tasks"] {
            assert!((sum(&shown, metric) - tasks).abs() < f64::EPSILON, "{metric} of {tasks}");
        }
        let labels = [("rota_tasks", "queue"), ("rota_tasks", "kind"), ("rota_queue_", "queue")];
        let names = labels.map(|(metrics, label)| values(&shown, metrics, label));
        for names in &names {
            assert_eq!(names.len(), NAMED + 1);
            assert!(names.contains("other"));
        }
        // What was named stays named, and by the next process too.
        assert_eq!(*named.get_or_insert_with(|| names.clone()), names);
        assert!(shown.len() < SERIES_MAX, "{} series", shown.len());
        println!("{} series of {tasks} tasks", shown.len());
        server.kill_and_restart().await;
        server.ready().await;
    }
}

/// A task for each of so many queues and kinds; others in each round.
async fn submit_made_up(client: &Client, round: usize) {
    let names: Vec<_> = (0..MADE_UP).map(|number| number + (round - 1) * MADE_UP).collect();
    for batch in names.chunks(BATCH) {
        let made_up =
            |number: &usize| task(format!("kind-{number}")).queue(format!("queue-{number}"));
        let results =
            client.create_tasks(batch.iter().map(made_up).collect()).await.expect("taken");
        assert!(results.iter().all(Result::is_ok), "a task was refused");
    }
}
