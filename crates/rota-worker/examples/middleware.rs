//! A function around every handler, here to log and measure attempts.
//!
//! With a server on this machine (`rota server`): `cargo run -p rota-worker --example middleware`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Instant};

use rota_client::{Client, Job};
use rota_worker::{Done, HandlerError, Next, TaskContext, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct CountWords {
    text: String,
}

impl Job for CountWords {
    const KIND: &'static str = "count-words";
    type Output = usize;
}

async fn log(context: TaskContext, next: Next) -> Result<Done, HandlerError> {
    let began = Instant::now();
    let outcome = next.run(context.clone()).await;
    let word = if outcome.is_ok() { "completed" } else { "failed" };
    let (kind, task, attempt) = (context.kind(), context.task_id(), context.attempt());
    println!("{kind} {task}: attempt {attempt} {word} after {:?}", began.elapsed());
    outcome
}

pub(crate) async fn run(server: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect([server])?;
    let worker =
        Worker::builder(client.clone())
            .queues(["examples.middleware"])
            .wrap(log)
            .job(|job: CountWords, _: TaskContext| async move {
                Ok(job.text.split_whitespace().count())
            })
            .build()?;
    let drain = worker.drain();
    let working = tokio::spawn(worker.run());

    let job = CountWords { text: "to be or not to be".to_owned() };
    let sent = client.submit(&job).queue("examples.middleware").await?;
    assert_eq!(sent.result().await?, 6);

    drain.start();
    working.await??;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::var("ROTA_SERVER");
    run(server.as_deref().unwrap_or("http://127.0.0.1:7420")).await
}
