//! Output that is followed while an attempt runs.

use std::{path::Path, sync::Arc};

use rota_client::{TaskOutput, TaskOutputs, task};
use rota_worker::executor::command::{self, CommandPolicy};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::unix::pipe};

use crate::{
    desk::{Desk, KIND},
    in_time,
    node::Node,
    proxy::Proxy,
};

async fn next(outputs: &mut TaskOutputs) -> TaskOutput {
    in_time(outputs.next()).await.expect("it goes on").unwrap()
}

/// The output up to where it ends with this text. Fails if some is missing.
async fn until(outputs: &mut TaskOutputs, end: &str) -> String {
    let mut heard = String::new();
    while !heard.ends_with(end) {
        let message = next(outputs).await;
        assert!(!matches!(message.r#type.as_str(), "gap" | "end"), "{message:?} after {heard:?}");
        heard.push_str(std::str::from_utf8(&message.output).unwrap());
    }
    heard
}

/// A pipe with a name, from which a program can read what the test lets it do next.
fn fifo(path: &Path) -> pipe::Sender {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    pipe::OpenOptions::new().read_write(true).open_sender(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_heard_before_it_ends() {
    let node = Node::start().await;
    let policy = Arc::new(CommandPolicy::default());
    let desk = Desk::open_with("w", node.client().addresses(), |builder| {
        let policy = policy.clone();
        builder.raw_handler(command::KIND, move |context, payload| {
            command::run(policy.clone(), context, payload)
        })
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("go");
    let mut go = fifo(&path);
    let script = "echo first; read line < \"$1\"; echo \"second: $line\" >&2; exit 3";
    let payload = json!({"shell": "sh", "argv": [script, path]});
    let id = node.create(task(command::KIND).payload_json(&payload).max_attempts(1)).await;
    let client = node.client();
    let mut outputs = client.output(&id, true);
    assert_eq!(until(&mut outputs, "first\n").await, "first\n", "while the program waits");
    // One that comes later gets the same.
    let mut later = client.output(&id, false);
    assert_eq!(until(&mut later, "first\n").await, "first\n");
    assert_eq!(next(&mut later).await.reason(), "up_to_date");
    go.write_all(b"go\n").await.unwrap();
    assert_eq!(until(&mut outputs, "go\n").await, "second: go\n");
    let mut last = next(&mut outputs).await;
    while last.r#type != "end" {
        last = next(&mut outputs).await;
    }
    assert_eq!((last.reason(), last.status()), ("task_ended", rota_client::TaskStatus::Failed));
    assert!(in_time(outputs.next()).await.is_none());
    let attempts = client.list_attempts(&id).await.unwrap();
    assert_eq!(attempts[0].output_tail, "first\nsecond: go\n", "it is kept as before");
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_logs_lines_and_a_broken_connection_loses_none() {
    let node = Node::start().await;
    let proxy = Proxy::to(node.address).await;
    let mut desk = Desk::open("w", &proxy.url());
    let id = node.create(task(KIND)).await;
    let attempt = desk.next().await;
    attempt.context.log("before anybody listens");
    let mut outputs = node.client().output(&id, true);
    assert_eq!(until(&mut outputs, "\n").await, "before anybody listens\n");
    attempt.context.log("one");
    assert_eq!(until(&mut outputs, "\n").await, "one\n");
    proxy.cut();
    attempt.context.log("two");
    assert_eq!(until(&mut outputs, "\n").await, "two\n", "told over the next connection");
    attempt.context.log("three");
    attempt.end(Ok(Value::Null));
    assert_eq!(until(&mut outputs, "\n").await, "three\n");
    assert_eq!(next(&mut outputs).await.reason(), "task_ended");
    let attempts = node.client().list_attempts(&id).await.unwrap();
    assert_eq!(attempts[0].output_tail, "before anybody listens\none\ntwo\nthree\n");
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_comes_too_fast_leaves_a_gap_and_its_end() {
    const LINE: usize = 1 << 10;
    let node = Node::start().await;
    let mut desk = Desk::open("w", node.client().addresses());
    let id = node.create(task(KIND)).await;
    let attempt = desk.next().await;
    let mut outputs = node.client().output(&id, true);
    attempt.context.log("begin");
    until(&mut outputs, "begin\n").await;
    for _ in 0..1000 {
        attempt.context.log("x".repeat(LINE));
    }
    attempt.context.log("the end");
    let (mut heard, mut missing) = (0, 0);
    loop {
        let message = next(&mut outputs).await;
        heard += message.output.len() as u64;
        missing += message.missing_bytes.unwrap_or(0);
        if message.output.ends_with(b"the end\n") {
            break;
        }
    }
    assert_eq!(heard + missing, 1000 * (LINE as u64 + 1) + 8, "what is missing is said");
    assert!(missing > 0, "64 KiB are kept for a listener of 100 ms later");
    attempt.complete();
    node.ended(&id).await;
    desk.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_neither_loses_nor_repeats_output() {
    let node = Node::start().await;
    let mut desk = Desk::open("w", node.client().addresses());
    let id = node.create(task(KIND)).await;
    let attempt = desk.next().await;
    attempt.context.log("one");
    let mut outputs = node.client().output(&id, true);
    assert_eq!(until(&mut outputs, "\n").await, "one\n");
    let stopped = node.stop().await;
    attempt.context.log("two");
    let node = stopped.start().await;
    assert_eq!(until(&mut outputs, "\n").await, "two\n", "it goes on where it was");
    attempt.complete();
    let mut last = next(&mut outputs).await;
    while last.r#type != "end" {
        assert!(last.output.is_empty(), "{last:?}");
        last = next(&mut outputs).await;
    }
    desk.kill().await;
    node.stop().await;
}
