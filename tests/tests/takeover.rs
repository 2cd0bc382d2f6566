//! A node that takes over has every task, and soon, on each shared store: the leader is killed while a hundred thousand
//! tasks live, and the time until another node runs a task is printed.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rota_client::{
    Client, task,
    v1::{ListQueuesRequest, TaskStatus},
};
use rota_tests::{
    cluster::{Cluster, Shape},
    process::LOOK,
    store::Backend,
};

const LIVE: usize = 100_000;
const BATCH: usize = 1000;
/// What a takeover may take beyond the time after which a dead leader's lease is over.
const TAKEOVER: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Fewer where the test has less time, or each node reads more.
const FEW: usize = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_live_tasks_are_taken_over_in_time() {
    take_over(Backend::Etcd, LIVE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_tasks_are_taken_over_in_time_on_etcd_3_5() {
    take_over(Backend::Etcd35, FEW).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_tasks_are_taken_over_in_time_on_redis() {
    take_over(Backend::ReplicatedRedis, LIVE).await;
}

/// With sessions as short as Consul grants them by default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_tasks_are_taken_over_in_time_on_consul() {
    take_over(Backend::Consul, FEW).await;
}

#[expect(clippy::print_stdout, reason = "how long it took belongs to the report of a run")]
async fn take_over(backend: Backend, tasks: usize) {
    let shape = Shape { backend, servers: 3, nodes: 3, workers: 1 };
    let mut cluster = Cluster::start(shape, Path::new(env!("CARGO_BIN_EXE_effect-worker"))).await;
    let leader = cluster.leader().await;
    let client = cluster.client(leader + 1);
    for batch in 0..tasks / BATCH {
        submit(&client, batch).await;
    }
    // It runs when the leader is killed, and goes on until after the takeover.
    let running = client.create_task(task("effect").payload_json("k7")).await.expect("accepted");
    runs(&client, &running.id).await;
    assert_eq!(live(&client).await, tasks as u64 + 1);

    cluster.nodes[leader].kill().await;
    let killed = Instant::now();
    let created = client.create_task(task("effect").payload_json("k1")).await.expect("accepted");
    let accepted = killed.elapsed();
    client.wait_task(&created.id).await.expect("it ends");
    let done = killed.elapsed();

    println!(
        "{backend:?}, {tasks} live tasks: a task accepted {accepted:.1?} after the leader was killed, done after {done:.1?}"
    );
    let ended = client.wait_task(&running.id).await.expect("it ends");
    assert_eq!((ended.status(), ended.attempt), (TaskStatus::Completed, 1), "its worker lost it");
    assert_eq!(live(&client).await, tasks as u64, "what the former leader had");
    // A busy machine is given as much again.
    let expected = backend.seat_is_free_within() + TAKEOVER;
    assert!(done < expected * 2, "another node works only after {done:?}");
}

/// Half wait for tomorrow, half for a worker of theirs.
async fn submit(client: &Client, batch: usize) {
    let later = |number: usize| {
        let new = task("nobody").queue("later").payload_json(&number);
        if number.is_multiple_of(2) { new.delay(DAY) } else { new }
    };
    let tasks = (batch * BATCH..(batch + 1) * BATCH).map(later).collect();
    for created in client.create_tasks(tasks).await.expect("accepted") {
        assert!(created.is_ok(), "{created:?}");
    }
}

/// Waits until a worker has begun with a task.
async fn runs(client: &Client, id: &str) {
    let mut look = tokio::time::interval(LOOK);
    while client.get_task(id).await.expect("it is there").status() != TaskStatus::Running {
        look.tick().await;
    }
}

/// How many tasks there are that have not ended.
async fn live(client: &Client) -> u64 {
    let queues = client.list_queues(ListQueuesRequest::default()).await.expect("queues").queues;
    queues.iter().map(|queue| queue.scheduled + queue.pending + queue.running).sum()
}
