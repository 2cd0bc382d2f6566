//! What `rota worker` and `rota dev` show of themselves where `--metrics-listen` says so.

use std::{path::Path, process::Stdio};

use rota_client::{Client, task};
use rota_tests::{
    process::{LOOK, PATIENCE, Server, command, end},
    scrape::{scrape, sum},
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    time::timeout,
};

/// A process that works, and the addresses that it told of: the server's if it is one too, and that of
/// its own metrics.
struct Working {
    process: Child,
    server: Option<String>,
    metrics: String,
}

async fn start(arguments: &[&str], home: &Path) -> Working {
    let listen = ["--metrics-listen", "127.0.0.1:0", "--allow-command", "--log-format", "json"];
    let mut process = command(&[arguments, &listen].concat(), home)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    let mut lines = BufReader::new(process.stderr.take().expect("it was piped")).lines();
    let mut server = None;
    let told = async {
        loop {
            let line = lines.next_line().await.expect("text").expect("it goes on");
            let entry: serde_json::Value = serde_json::from_str(&line).expect("one event a line");
            match entry["message"].as_str() {
                Some("serving") => server = entry["url"].as_str().map(str::to_owned),
                Some("serving metrics") => {
                    let address = entry["address"].as_str().expect("an address");
                    return format!("http://{address}");
                }
                _ => {}
            }
        }
    };
    let metrics = timeout(PATIENCE, told).await.expect("it tells where it listens");
    // Read to the end: who writes to a closed pipe fails.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Working { process, server, metrics }
}

/// Runs a program as a task, and waits until the worker has counted it.
async fn work(client: &Client, metrics: &str) {
    let payload = json!({ "argv": ["true"] });
    let created = client.create_task(task("command").payload_json(&payload)).await.expect("taken");
    client.wait_task(&created.id).await.expect("it ends");
    let mut look = tokio::time::interval(LOOK);
    let counted = async {
        loop {
            look.tick().await;
            let shown = scrape(metrics).await;
            if sum(&shown, "rota_worker_attempts_total") > 0.0 {
                return shown;
            }
        }
    };
    let shown = timeout(PATIENCE, counted).await.expect("it is counted");
    for (series, value) in [
        ("rota_worker_attempts_total{kind=\"command\",outcome=\"completed\"}", 1.0),
        ("rota_worker_attempt_duration_seconds_count{kind=\"command\"}", 1.0),
        ("rota_worker_slots", 3.0),
        ("rota_worker_connected", 1.0),
    ] {
        assert_eq!(shown.get(series), Some(&value), "{series} in {shown:#?}");
    }
    assert!(sum(&shown, "process_resident_memory_bytes") > 1e6);
}

#[tokio::test]
async fn a_worker_of_the_command_line_shows_its_metrics() {
    let server = Server::start(&[]).await;
    server.ready().await;
    let url = server.url();
    let mut worker = start(&["worker", "--url", &url, "--slots", "3"], server.home()).await;
    work(&server.client(), &worker.metrics).await;
    assert!(end(&mut worker.process).await.success());
}

#[tokio::test]
async fn a_server_with_a_worker_in_it_shows_both() {
    let home = tempfile::tempdir().expect("a directory");
    let arguments = ["dev", "--listen", "127.0.0.1:0", "--slots", "3"];
    let mut dev = start(&arguments, home.path()).await;
    let url = dev.server.expect("it is a server");
    let client = Client::builder([url.clone()]).patience(PATIENCE).build().expect("an address");
    work(&client, &dev.metrics).await;
    let shown = scrape(&url).await;
    assert!((sum(&shown, "rota_tasks_completed_total") - 1.0).abs() < f64::EPSILON, "{shown:#?}");
    assert!(end(&mut dev.process).await.success());
}
