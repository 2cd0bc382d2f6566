//! Nodes of different versions work together: a cluster is upgraded and downgraded node by node under load,
//! and the embedded store of one version is opened by another. `make upgrade` runs these tests; they are not
//! among the others, as the older binaries have to be built first.

#![expect(clippy::print_stdout, reason = "how a run went belongs to its report")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rota_client::{
    Client, task,
    v1::{ListQueuesRequest, PauseQueueRequest, TaskStatus, TransferLeadershipRequest},
};
use rota_tests::{
    audit::{Ack, audit},
    cluster::{Cluster, Shape},
    history,
    load::{self, BATCH, Kind, Load},
    older::{Use, older},
    process::{LOOK, PATIENCE, Server, command, rota},
    store::Backend,
};
use tokio::{process::Command, time::timeout};

/// How often each of the clients submits a batch.
const PERIOD: Duration = Duration::from_millis(200);
/// Batches that are acknowledged between two restarts.
const BATCHES: usize = 10;
const DAY: Duration = Duration::from_secs(86_400);

fn worker() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_effect-worker"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds an older version: make upgrade"]
async fn a_cluster_is_upgraded_node_by_node_under_load() {
    let Some(from) = older(Use::UpgradeFrom) else { return };
    let cluster = roll(&from, &rota()).await;
    // The last node of the older version is gone.
    let mut look = tokio::time::interval(LOOK);
    let risen = async {
        for node in 0..cluster.nodes.len() {
            while cluster.server_info(node).await.is_none_or(|info| info.cluster_feature_level == 0)
            {
                look.tick().await;
            }
        }
    };
    timeout(PATIENCE, risen).await.expect("the feature level rises");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds an older version: make upgrade"]
async fn a_cluster_is_downgraded_node_by_node_under_load() {
    let Some(to) = older(Use::DowngradeTo) else { return };
    roll(&rota(), &to).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds an older version: make upgrade"]
async fn the_embedded_store_of_an_older_version_is_opened() {
    let Some(from) = older(Use::UpgradeFrom) else { return };
    carry_over(&from, &rota()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds an older version: make upgrade"]
async fn the_embedded_store_is_opened_by_an_older_version() {
    let Some(to) = older(Use::DowngradeTo) else { return };
    carry_over(&rota(), &to).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds an older version: make upgrade"]
async fn the_embedded_store_of_an_older_version_is_copied() {
    let Some(from) = older(Use::UpgradeFrom) else { return };
    let server = Server::start_as(&from, &[]).await;
    server.ready().await;
    for task in named() {
        server.client().create_task(task).await.expect("accepted");
    }
    let home = tempfile::tempdir().expect("a directory");
    let data = home.path().join("data");
    // The server's own directory goes with it.
    let moved = server.stop_and_keep(&data).await;
    assert!(moved.success());
    for arguments in [["check", "file:data"].as_slice(), &["copy", "file:data", "file:copy"]] {
        let arguments = [&["store"], arguments].concat();
        let output = command(&arguments, home.path()).output().await.expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

/// Exchanges the nodes of a cluster under load, one after the other; nothing is lost and nothing ends twice.
async fn roll(from: &Path, to: &Path) -> Cluster {
    let shape = Shape { backend: Backend::Etcd, servers: 1, nodes: 3, workers: 2 };
    let mut cluster = Cluster::start_as(from, shape, worker()).await;
    let first_keys: Vec<String> = (1_000_000..1_000_050).map(|key| format!("k{key}")).collect();
    let first = load::submit(&cluster.client(0), Kind::Effect, &first_keys).await;
    let clients = (0..shape.nodes).map(|first| cluster.client(first)).collect();
    let load = Load::start(clients, Kind::Effect, PERIOD);
    for node in 0..shape.nodes {
        goes_on(&load).await;
        cluster.nodes[node].restart_as(to).await;
        cluster.ready(node).await;
        goes_on(&load).await;
        // So that each version leads the other. A hand-over that fails leaves the leader as it is.
        let leader = cluster.leader().await;
        let anybody = TransferLeadershipRequest::default();
        if let Err(error) = cluster.client(leader).transfer_leadership(anybody).await {
            println!("node {leader} still leads: {error}");
        }
    }
    goes_on(&load).await;
    let again = load::submit(&cluster.client(0), Kind::Effect, &first_keys).await;
    assert_eq!(again, first, "a repeat is known as one by the other version");
    let mut acks = load.end().await;
    acks.extend(first);
    load::settle(&cluster.client(0)).await;
    judge(&cluster, &acks).await;
    cluster
}

/// Waits until more is acknowledged.
async fn goes_on(load: &Load) {
    let enough = load.acknowledged() + BATCHES * BATCH;
    let mut look = tokio::time::interval(LOOK);
    let wait = async {
        while load.acknowledged() < enough {
            look.tick().await;
        }
    };
    timeout(PATIENCE * 2, wait).await.expect("work goes on");
}

async fn judge(cluster: &Cluster, acks: &[Ack]) {
    let records = load::records(&cluster.client(0)).await;
    let verdict = audit(acks, &cluster.effects(), &records, &cluster.expected_losses);
    println!(
        "{} tasks, {} effects, {} attempts lost",
        verdict.tasks, verdict.effects, verdict.lost
    );
    assert_eq!(verdict.faults, [], "{} faults", verdict.faults.len());
    let written = history::judge(&cluster.history_until_now().await, &records);
    assert_eq!(written.faults, [], "{} faults", written.faults.len());
}

/// What is asked for again after the change of version: all that has a key or an id.
fn named() -> Vec<rota_client::NewTask> {
    let effect = |key: &str| task("effect").payload_json(key);
    vec![
        effect("k1").idempotency_key("plain"),
        effect("k2").id("order-2").queue("other").label("for", "someone").priority(9),
        effect("k3").idempotency_key("later").delay(DAY),
        effect("k4").idempotency_key("policy").max_attempts(7).timeout(DAY).retention(DAY).backoff(
            Duration::from_secs(1),
            3.0,
            DAY,
        ),
        task("nobody").payload(b"\xff\x00".to_vec()).idempotency_key("binary"),
    ]
}

/// One version writes all sorts of records, and the other goes on from them.
async fn carry_over(from: &Path, to: &Path) {
    let mut server = Server::start_as(from, &["--session-ttl", "2s"]).await;
    server.ready().await;
    let client = server.client();
    let mut created = Vec::new();
    for task in named() {
        created.push(client.create_task(task).await.expect("accepted").id);
    }
    let keys: Vec<String> = (100..150).map(|key| format!("k{key}")).collect();
    let done = load::submit(&client, Kind::Effect, &keys).await;
    let effects = server.home().join("w1.effects");
    let mut worker = start_worker(&server, &effects);
    for ack in &done {
        client.wait_task(&ack.id).await.expect("it ends");
    }
    let cancelled =
        client.create_task(task("nobody").payload_json("x")).await.expect("accepted").id;
    client.cancel_task(&cancelled).await.expect("it waits");
    let pause = PauseQueueRequest { queue: "paused".to_owned(), ..Default::default() };
    client.pause_queue(pause).await.expect("an answer");
    // A lease that nobody holds any more.
    worker.kill().await.expect("it runs");
    let before = statuses(&client).await;

    server.restart_as(to).await;
    server.ready().await;
    let client = server.client();
    assert_eq!(statuses(&client).await, before);
    for (task, id) in named().into_iter().zip(&created) {
        let again = client.create_task(task).await.expect("a repeat is no conflict");
        assert_eq!(again.id, *id);
    }
    let queues = client.list_queues(ListQueuesRequest::default()).await.expect("queues").queues;
    assert!(queues.iter().any(|queue| queue.name == "paused" && queue.paused));
    client.retry_task(&cancelled).await.expect("it can be retried");
    client.cancel_task(&cancelled).await.expect("it waits again");
    let _worker = start_worker(&server, &effects);
    let more = load::submit(&client, Kind::Effect, &["k200".to_owned()]).await;
    let last = client.wait_task(&more[0].id).await.expect("it ends");
    assert_eq!(last.status(), TaskStatus::Completed);
    for ack in &done {
        client.delete_task(&ack.id).await.expect("it ended");
    }
}

fn start_worker(server: &Server, effects: &PathBuf) -> tokio::process::Child {
    let mut worker = Command::new(worker());
    worker.args([&server.url(), "w1"]).arg(effects).arg("16");
    worker.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    worker.kill_on_drop(true).spawn().expect("a worker")
}

async fn statuses(client: &Client) -> BTreeMap<String, TaskStatus> {
    let records = load::records(client).await;
    let all: BTreeMap<_, _> =
        records.iter().map(|record| (record.id.clone(), record.status)).collect();
    let ids: BTreeSet<_> = records.iter().map(|record| &record.id).collect();
    assert_eq!(ids.len(), records.len());
    all
}
