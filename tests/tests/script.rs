//! A shell script is a worker: `docs/examples/worker.sh`, exactly as users get it, over the pull
//! interface.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rota_client::{
    task,
    v1::{self, FailureReason, ListWorkersRequest, TaskStatus},
};
use rota_tests::process::{LOOK, PATIENCE, Server, end};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::Command,
    time::{interval, timeout},
};

fn script() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    root.join("docs/examples/worker.sh")
}

/// The script, serving a kind with a program.
fn worker(server: &Server, kind: &str, program: &[&str]) -> Command {
    let mut command = Command::new(script());
    command.arg(kind).args(program).env("ROTA_URL", server.url()).env("ROTA_NAME", "script");
    command.env_remove("ROTA_TOKEN").stdin(Stdio::null()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn tasks_are_done_fail_and_are_done_after_all() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let program = r#"
        jq -r '"hello \(.name), attempt \(env.ROTA_ATTEMPT)"'
        [ "$ROTA_ATTEMPT" = 2 ] || { echo "not at the first attempt" >&2; exit 1; }
    "#;
    let mut worker = worker(&server, "greet", &["sh", "-c", program]).spawn().expect("a worker");
    let new = task("greet").payload_json(&json!({ "name": "Ada" }));
    let new = new.backoff(Duration::from_millis(10), 1.0, Duration::from_millis(10));
    let created = client.create_task(new).await.expect("created");
    let ended = timeout(PATIENCE, client.wait_task(&created.id)).await.expect("in time");
    let ended = ended.expect("a task");
    assert_eq!((ended.status(), ended.attempt), (TaskStatus::Completed, 2), "{ended:?}");
    assert_eq!(ended.worker(), "script");
    let result = client.get_result(&created.id).await.expect("a result");
    assert_eq!(result, json!("hello Ada, attempt 2\n").to_string());
    let attempts = client.list_attempts(&created.id).await.expect("a history");
    assert_eq!(attempts[0].error.as_ref().expect("it failed").message, "exit code 1");
    assert_eq!(attempts[0].output_tail, "not at the first attempt\n");

    let status = end(&mut worker).await;
    assert!(status.success(), "{status}");
    let workers =
        client.list_workers(ListWorkersRequest::default()).await.expect("workers").workers;
    assert_eq!(workers, [], "the session is over when the script is");
}

#[tokio::test]
async fn the_task_of_a_schedule_tells_its_nominal_time() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let program = r#"
        case $ROTA_ACTUAL_TIME in ????-??-??T??:??:??Z) actual=known ;; esac
        echo "$ROTA_KIND $ROTA_QUEUE $ROTA_SCHEDULE $ROTA_NOMINAL_TIME $ROTA_PREVIOUS_TIME $actual""#;
    let mut worker = worker(&server, "tell", &["sh", "-c", program]).spawn().expect("a worker");
    let definition = v1::ScheduleDefinition {
        name: Some("a/b".to_owned()),
        expressions: vec!["* * * * * *".to_owned()],
        template: Some(v1::TaskTemplate { kind: "tell".to_owned(), ..Default::default() }),
        max_runs: Some(1),
        ..Default::default()
    };
    let put = v1::PutScheduleRequest { definition: Some(definition), expected_version: None };
    let mut look = interval(LOOK);
    // The first batch of the leader raises the feature level that schedules need.
    while client.put_schedule(put.clone()).await.is_err() {
        look.tick().await;
    }
    let of = v1::TaskFilter { schedule: Some("a/b".to_owned()), ..Default::default() };
    let request = v1::ListTasksRequest { filter: Some(of), ..Default::default() };
    let created = async {
        loop {
            let list = client.list_tasks(request.clone()).await.expect("a list");
            if let Some(task) = list.tasks.into_iter().next() {
                return task;
            }
            look.tick().await;
        }
    };
    let created = timeout(PATIENCE, created).await.expect("in time");
    let ended = client.wait_task(&created.id).await.expect("a task");
    let nominal = ended.tick.expect("a schedule created it").nominal_time.expect("its time");
    let result = client.get_result(&created.id).await.expect("a result");
    assert_eq!(result, json!(format!("tell default a/b {nominal}  known\n")).to_string());
    assert!(end(&mut worker).await.success());
}

#[tokio::test]
async fn bad_data_fails_for_good_and_what_is_json_is_a_json_result() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let program = "jq -e '.n * 2' || exit 65";
    let mut worker = worker(&server, "double", &["sh", "-c", program]).spawn().expect("a worker");
    let good = client.create_task(task("double").payload_json(&json!({ "n": 21 }))).await;
    let bad = client.create_task(task("double").payload_json(&json!("no number"))).await;
    let (good, bad) = (good.expect("created").id, bad.expect("created").id);
    let ended = client.wait_task(&bad).await.expect("a task");
    assert_eq!((ended.status(), ended.attempt), (TaskStatus::Failed, 1), "{ended:?}");
    assert_eq!(ended.error.expect("why").reason(), FailureReason::Permanent);
    assert_eq!(client.wait_task(&good).await.expect("a task").status(), TaskStatus::Completed);
    assert_eq!(client.get_result(&good).await.expect("a result"), "42");
    assert!(end(&mut worker).await.success());
}

#[tokio::test]
async fn a_cancelled_task_is_stopped_with_all_that_it_started() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let noted = server.home().join("started");
    let program = r#"sleep 1000 & echo $! >"$1"; echo begun >&2; wait"#;
    let noted_as = noted.to_str().expect("a path of text");
    let mut worker = worker(&server, "long", &["sh", "-c", program, "sh", noted_as]);
    let mut worker = worker.env("ROTA_TTL", "5s").spawn().expect("a worker");
    let created = client.create_task(task("long")).await.expect("created");
    let mut look = interval(LOOK);
    let started = loop {
        look.tick().await;
        let text = std::fs::read_to_string(&noted).unwrap_or_default();
        if let Ok(started) = text.trim().parse::<u32>() {
            break started;
        }
    };
    client.cancel_task(&created.id).await.expect("cancelled");
    let ended = timeout(PATIENCE, client.wait_task(&created.id)).await.expect("in time");
    assert_eq!(ended.expect("a task").status(), TaskStatus::Cancelled);
    let attempts = client.list_attempts(&created.id).await.expect("a history");
    assert_eq!(attempts[0].error.as_ref().expect("why").message, "cancelled", "it said so");
    let tail = &attempts[0].output_tail;
    assert!(tail.starts_with(b"begun\n"), "{tail:?}");
    while Path::new(&format!("/proc/{started}")).exists() {
        look.tick().await;
    }
    assert!(end(&mut worker).await.success());
}

#[tokio::test]
async fn odd_answers_of_a_proxy_do_not_end_it() {
    let server = Server::start(&[]).await;
    let address = server.url().trim_start_matches("http://").to_owned();
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", proxy.local_addr().expect("an address"));
    let odd = [
        "200 OK\r\ncontent-length: 6\r\n\r\n<html>",
        "200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "200 OK\r\ncontent-length: 0\r\n\r\n",
        "204 No Content\r\n\r\n",
    ];
    let proxying = tokio::spawn(async move {
        let mut odd = odd.into_iter();
        while let Ok((mut script, _)) = proxy.accept().await {
            if let Some(answer) = odd.next() {
                let mut asked = [0; 4096];
                let _ = script.read(&mut asked).await;
                let _ = script.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await;
                continue;
            }
            let mut server = TcpStream::connect(&address).await.expect("the server");
            tokio::spawn(async move { copy_bidirectional(&mut script, &mut server).await });
        }
    });
    let mut worker = worker(&server, "echo", &["cat"]);
    let mut worker = worker.env("ROTA_URL", url).spawn().expect("a worker");
    let created =
        server.client().create_task(task("echo").payload_json(&1)).await.expect("created");
    let ended = timeout(PATIENCE, server.client().wait_task(&created.id)).await.expect("in time");
    assert_eq!(ended.expect("a task").status(), TaskStatus::Completed);
    assert!(end(&mut worker).await.success());
    proxying.abort();
}

#[tokio::test]
async fn a_report_that_is_refused_for_now_is_repeated_and_one_that_is_not_valid_fails_the_task() {
    let server = Server::start(&[]).await;
    let address = server.url().trim_start_matches("http://").to_owned();
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", proxy.local_addr().expect("an address"));
    // The script has a connection for each request. The first report is refused.
    let proxying = tokio::spawn(async move {
        let mut is_refused = false;
        while let Ok((mut script, _)) = proxy.accept().await {
            let mut asked = [0; 4096];
            let read = script.read(&mut asked).await.unwrap_or(0);
            let is_report = String::from_utf8_lossy(&asked[..read]).contains("/complete");
            if is_report && !is_refused {
                is_refused = true;
                let problem = r#"{"status":429,"reason":"overloaded","detail":"busy"}"#;
                let head = format!("HTTP/1.1 429 Busy\r\ncontent-length: {}\r\n", problem.len());
                let answer = format!("{head}connection: close\r\n\r\n{problem}");
                let _ = script.write_all(answer.as_bytes()).await;
                continue;
            }
            let mut server = TcpStream::connect(&address).await.expect("the server");
            tokio::spawn(async move {
                server.write_all(&asked[..read]).await?;
                copy_bidirectional(&mut script, &mut server).await
            });
        }
    });
    let program =
        r#"if [ "$(cat)" = 1 ]; then echo done; else head -c 2097152 /dev/zero | tr '\0' x; fi"#;
    let mut worker = worker(&server, "print", &["sh", "-c", program]);
    let mut worker = worker.env("ROTA_URL", url).spawn().expect("a worker");
    let client = server.client();
    let small = client.create_task(task("print").payload_json(&1)).await.expect("created");
    let large = client.create_task(task("print").payload_json(&2)).await.expect("created");
    let ended = timeout(PATIENCE, client.wait_task(&small.id)).await.expect("in time");
    let ended = ended.expect("a task");
    assert_eq!((ended.status(), ended.attempt), (TaskStatus::Completed, 1), "{ended:?}");
    let ended = timeout(PATIENCE, client.wait_task(&large.id)).await.expect("in time");
    let ended = ended.expect("a task");
    assert_eq!((ended.status(), ended.attempt), (TaskStatus::Failed, 1), "{ended:?}");
    let why = ended.error.expect("why");
    assert_eq!(why.reason(), FailureReason::Permanent, "{why:?}");
    assert!(why.message.contains("result"), "{why:?}");
    assert!(end(&mut worker).await.success());
    proxying.abort();
}

#[tokio::test]
async fn ended_while_it_waits_for_its_first_task_it_leaves_nothing_behind() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let mut worker = worker(&server, "none", &["true"]).spawn().expect("a worker");
    let workers =
        async || client.list_workers(ListWorkersRequest::default()).await.expect("workers").workers;
    let mut look = interval(LOOK);
    while workers().await.is_empty() {
        look.tick().await;
    }
    assert!(end(&mut worker).await.success());
    assert_eq!(workers().await, []);
}

#[tokio::test]
async fn it_beats_while_it_works_and_survives_a_killed_server() {
    let mut server = Server::start(&[]).await;
    let client = server.client();
    let mut worker = worker(&server, "slow", &["sleep", "7"]);
    let mut worker = worker.env("ROTA_TTL", "5s").spawn().expect("a worker");
    // Longer than the session's TTL: without a heartbeat it would be lost.
    let first = client.create_task(task("slow")).await.expect("created");
    let ended = timeout(PATIENCE, client.wait_task(&first.id)).await.expect("in time");
    let ended = ended.expect("a task");
    assert_eq!((ended.status(), ended.attempt), (TaskStatus::Completed, 1), "{ended:?}");

    // The server is killed while the script works for it.
    let second = client.create_task(task("slow")).await.expect("created");
    let mut look = interval(LOOK);
    while client.get_task(&second.id).await.expect("a task").worker.is_none() {
        look.tick().await;
    }
    server.kill_and_restart().await;
    let ended = timeout(PATIENCE, client.wait_task(&second.id)).await.expect("in time");
    let ended = ended.expect("a task");
    assert_eq!((ended.status(), ended.attempt), (TaskStatus::Completed, 1), "{ended:?}");
    assert!(end(&mut worker).await.success());
}
