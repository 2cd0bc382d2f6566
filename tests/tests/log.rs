//! What a node logs, seen from outside: one event a line, about what it concerns, changed while it
//! runs.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use rota_client::{Client, task};
use rota_tests::process::{LOOK, PATIENCE, Server, command};
use rota_worker::{HandlerError, TaskContext, Worker};
use serde_json::Value;
use tokio::time::timeout;

/// Runs one task to its end.
async fn run(client: &Client, id: &str) {
    let worker = Worker::builder(client.clone())
        .handler("k", |_: TaskContext, (): ()| async { Ok::<_, HandlerError>(()) })
        .build()
        .unwrap();
    let drain = worker.drain();
    let worker = tokio::spawn(worker.run());
    client.create_task(task("k").id(id).queue("q").payload_json(&())).await.unwrap();
    client.wait_task(id).await.unwrap();
    drain.start();
    timeout(PATIENCE, worker).await.expect("it drains").unwrap().unwrap();
}

/// `rota log` with these arguments: its exit code, what it printed, and what it complained of.
async fn log(server: &Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let url = server.url();
    let arguments = [&["log", "--url", &url], arguments].concat();
    let output = command(&arguments, server.home()).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// All that was logged until this filter came into force.
async fn lines_up_to_filter(server: &Server, filter: &str) -> Vec<Value> {
    let mut look = tokio::time::interval(LOOK);
    let all = async {
        loop {
            look.tick().await;
            let logs = server.logs();
            let whole = logs.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let lines =
                whole.lines().map(|line| serde_json::from_str(line).expect("one event a line"));
            let lines: Vec<Value> = lines.collect();
            if lines.iter().any(|line| line["now"] == filter) {
                return lines;
            }
        }
    };
    timeout(PATIENCE, all).await.expect("the change of the filter is logged")
}

#[tokio::test]
async fn a_node_tells_of_tasks_when_it_is_asked_to_and_no_longer_when_it_is_not() {
    let server = Server::start(&["--node", "n1"]).await;
    server.ready().await;
    run(&server.client(), "quiet").await;
    let (code, said, _) = log(&server, &["info,rota_engine=debug"]).await;
    assert_eq!((code, said.as_str()), (Some(0), "NODE   LOG\nn1     info,rota_engine=debug\n"));
    run(&server.client(), "loud").await;
    let (code, _, complaint) = log(&server, &["rota_engine=nonsense"]).await;
    assert_eq!(code, Some(2), "{complaint}");
    let (_, said, _) = log(&server, &["-o", "json"]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said, serde_json::json!({ "node": "n1", "filter": "info,rota_engine=debug" }));
    log(&server, &["info"]).await;
    run(&server.client(), "quiet-again").await;
    log(&server, &["warn"]).await;
    let lines = lines_up_to_filter(&server, "warn").await;
    let about = |id: &str| lines.iter().filter(|line| line["shown_id"] == id).count();
    assert_eq!((about("quiet"), about("loud"), about("quiet-again")), (0, 1, 0));
    let submitted = lines.iter().find(|line| line["shown_id"] == "loud").unwrap();
    let task = &submitted["task"];
    let messages: Vec<_> = lines
        .iter()
        .filter(|line| line["task"] == *task)
        .map(|line| {
            assert_eq!((&line["node"], &line["level"]), (&"n1".into(), &"DEBUG".into()), "{line}");
            line["message"].as_str().unwrap()
        })
        .collect();
    let mut sorted = messages.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["task assigned", "task completed", "task submitted"], "{messages:?}");
    let assigned = lines.iter().find(|line| line["message"] == "task assigned").unwrap();
    assert_eq!((&assigned["attempt"], &assigned["queue"]), (&1.into(), &"q".into()));
    assert!(assigned["epoch"].as_u64().unwrap() >= 1);
    let sessions = lines.iter().filter(|line| line["message"] == "session opened");
    assert!(
        sessions.clone().count() > 0 && sessions.clone().all(|line| line["worker"].is_string())
    );
}
