//! `rota store` between real stores: copies that are killed, and nodes on what was copied.

use std::{path::Path, process::Stdio, time::Duration};

use rota_client::{
    Client, TimeSpan, task,
    v1::{
        CompleteRequest, Dispatch, FailRequest, Failed, FailureReason, LeaseRequest,
        PauseQueueRequest, TaskStatus, worker_service_client::WorkerServiceClient,
    },
};
use rota_tests::{
    local_stores::LocalStore,
    process::{PATIENCE, command, end},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    time::timeout,
};

const DAY: Duration = Duration::from_secs(86_400);
/// Tasks that wait.
const WAITING: usize = 60;

/// A node on a store.
struct Node {
    child: Child,
    client: Client,
}

impl Node {
    async fn start(home: &Path, store: &str) -> Self {
        let arguments = [
            "server",
            "--listen",
            "127.0.0.1:0",
            "--node",
            "n1",
            "--store",
            store,
            "--leader-ttl",
            "1s",
            "--log-format",
            "json",
        ];
        let mut child =
            command(&arguments, home).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut log = BufReader::new(child.stderr.take().expect("it was piped")).lines();
        let url = async {
            loop {
                let line = log.next_line().await.expect("text").expect("the node ended");
                let said: Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(url) = said["url"].as_str() {
                    return url.to_owned();
                }
            }
        };
        let url = timeout(PATIENCE, url).await.expect("it serves");
        // Somebody must read it, or the node would wait.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        let client = Client::builder([url]).patience(PATIENCE).build().expect("an address");
        Self { child, client }
    }

    async fn lease(&self, kind: &str) -> Dispatch {
        let request = LeaseRequest {
            worker: "w".to_owned(),
            kinds: vec![kind.to_owned()],
            max: Some(1),
            wait: Some(TimeSpan { seconds: 20, nanos: 0 }),
            ttl: Some(TimeSpan { seconds: 3600, nanos: 0 }),
            ..LeaseRequest::default()
        };
        let answer = WorkerServiceClient::new(self.client.connection()).lease(request).await;
        answer.expect("an answer").into_inner().tasks.pop().expect("a task")
    }

    async fn complete(&self, leased: &Dispatch) {
        let (id, lease_token) = (leased.task_id.clone(), leased.lease_token);
        let result = b"{\"done\": true}".to_vec().into();
        let request = CompleteRequest { id, lease_token, result, ..CompleteRequest::default() };
        let mut service = WorkerServiceClient::new(self.client.connection());
        service.complete(request).await.expect("its lease holds");
    }

    async fn stop(mut self) {
        assert!(end(&mut self.child).await.success());
    }
}

/// Tasks in every state. Returns the lease that is still held.
async fn fill(node: &Node) -> Dispatch {
    let client = &node.client;
    let create = async |task| client.create_task(task).await.expect("accepted").id;
    create(task("k").id("finished").label("for", "someone")).await;
    let leased = node.lease("k").await;
    node.complete(&leased).await;
    create(task("k").idempotency_key("broken")).await;
    let leased = node.lease("k").await;
    let failed = Failed {
        message: "no".to_owned(),
        reason: FailureReason::Permanent.into(),
        ..Failed::default()
    };
    let request = FailRequest {
        id: leased.task_id.clone(),
        lease_token: leased.lease_token,
        failed: Some(failed),
        output_tail: b"\xffout".to_vec().into(),
    };
    let mut service = WorkerServiceClient::new(client.connection());
    service.fail(request).await.expect("its lease holds");
    let cancelled = create(task("k").payload(b"\xff\x00".to_vec())).await;
    client.cancel_task(&cancelled).await.expect("it waits");
    for number in 0..WAITING {
        let id = format!("later-{number}");
        create(task("later").id(id).payload_json(&number).delay(DAY).queue("other")).await;
    }
    create(task("held").id("held")).await;
    let held = node.lease("held").await;
    client
        .pause_queue(PauseQueueRequest { queue: "paused".to_owned(), ..Default::default() })
        .await
        .expect("an answer");
    held
}

/// What a command said, as JSON, and its exit code.
async fn store(home: &Path, arguments: &[&str], fail_point: &str) -> (Option<i32>, Value) {
    let arguments = [&["store"], arguments, &["--leader-ttl", "1s", "-o", "json"]].concat();
    let mut command = command(&arguments, home);
    if !fail_point.is_empty() {
        command.env("ROTA_FAIL_POINT", fail_point);
    }
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts");
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let json = serde_json::from_slice(&said);
    let text = String::from_utf8_lossy(&said).into_owned();
    (output.status.code(), json.unwrap_or(Value::String(text)))
}

/// Copies with a kill at each of these points, and then to the end. The destination must be as the source was.
async fn copy(home: &Path, from: &str, to: &str, kills: &[&str]) -> Value {
    for kill in kills {
        let (code, said) = store(home, &["copy", from, to], kill).await;
        assert_eq!(code, None, "{kill}: {said} (was it built with its fail points?)");
    }
    if kills.iter().any(|kill| kill.starts_with("after-commit")) {
        let (code, said) = store(home, &["export", "-", to], "").await;
        assert_eq!(code, Some(4), "half a copy is not exported: {said}");
    }
    let (code, copied) = store(home, &["copy", from, to], "").await;
    assert_eq!(code, Some(0), "{copied}");
    assert_eq!(copied["from"], copied["to"]);
    assert_eq!(copied["resumed"], !kills.is_empty());
    assert!(copied["to_head"].as_u64() > copied["from_head"].as_u64(), "{copied}");
    let (code, checked) = store(home, &["check", to], "").await;
    assert_eq!(code, Some(0), "{checked}");
    assert_eq!(checked["contents"], copied["from"]);
    copied
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_in_every_state_go_from_store_to_store_through_kills() {
    let home = tempfile::tempdir().expect("a directory");
    let home = home.path();
    let node = Node::start(home, "file:data").await;
    let held = fill(&node).await;
    node.stop().await;

    let (etcd, redis, consul) = (LocalStore::etcd(), LocalStore::redis(), LocalStore::consul());
    // Small transactions, so that there are several.
    let small = format!("{}/rota?txn_ops_max=8", etcd.url);
    let kills = [
        "after-commit:1",
        "before-commit:1",
        "after-commit:3",
        "before-commit:4",
        "after-commit:2",
    ];
    let first = copy(home, "file:data", &small, &kills).await;
    assert!(first["written"].as_u64() < first["to"]["records"].as_u64(), "{first}");
    copy(home, &etcd.url, &redis.url, &["after-commit:2"]).await;
    copy(home, &redis.url, &consul.url, &["after-commit:2"]).await;
    copy(home, &consul.url, "file:back", &[]).await;

    // A node on the copy goes on where the first one was.
    let node = Node::start(home, "file:back").await;
    let client = &node.client;
    let mut worker = WorkerServiceClient::new(client.connection());
    let (id, lease_token) = (held.task_id.clone(), held.lease_token);
    let request = CompleteRequest { id, lease_token, ..CompleteRequest::default() };
    worker.complete(request).await.expect("the lease went along");
    for (id, status) in [
        ("finished", TaskStatus::Completed),
        ("held", TaskStatus::Completed),
        ("later-7", TaskStatus::Scheduled),
    ] {
        assert_eq!(client.get_task(id).await.expect("it is there").status(), status, "{id}");
    }
    let again = client.create_task(task("k").idempotency_key("broken")).await.expect("a repeat");
    assert_eq!(again.status(), TaskStatus::Failed);
    client.create_task(task("k").id("new")).await.expect("accepted");
    let next = node.lease("k").await;
    assert!(
        next.lease_token > held.lease_token
            && next.lease_token > first["from_head"].as_u64().expect("a number")
    );
    node.complete(&next).await;
    node.stop().await;
    let (code, checked) = store(home, &["check", "file:back"], "").await;
    assert_eq!(code, Some(0), "{checked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_node_is_backed_up_and_not_copied() {
    let home = tempfile::tempdir().expect("a directory");
    let home = home.path();
    let redis = LocalStore::redis();
    let node = Node::start(home, &redis.url).await;
    fill(&node).await;
    let (code, checked) = store(home, &["check", &redis.url], "").await;
    assert_eq!(code, Some(0), "{checked}");
    let (code, exported) = store(home, &["export", "backup.jsonl", &redis.url], "").await;
    assert_eq!(code, Some(0), "{exported}");
    for copied in [["copy", &redis.url, "file:to"], ["copy", "file:to", &redis.url]] {
        let (code, said) = store(home, &copied, "").await;
        assert_eq!(code, Some(4), "{said}");
    }
    let (code, said) = store(home, &["import", "backup.jsonl", &redis.url], "").await;
    assert_eq!(code, Some(4), "{said}");
    assert!(said["error"].as_str().is_some_and(|error| error.contains("in use by n1")), "{said}");
    node.stop().await;

    let (code, imported) = store(home, &["import", "backup.jsonl", "file:restored"], "").await;
    assert_eq!(code, Some(0), "{imported}");
    assert_eq!(imported["contents"], exported["contents"]);
    let node = Node::start(home, "file:restored").await;
    let task = node.client.get_task("finished").await.expect("it is there");
    assert_eq!(task.status(), TaskStatus::Completed);
    node.stop().await;
}
