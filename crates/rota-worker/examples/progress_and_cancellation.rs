//! A handler that reports progress, and stops when it should: because a client cancelled the task, its timeout is
//! over, the worker drains, or the lease was lost.
//!
//! With a server on this machine (`rota server`):
//! `cargo run -p rota-worker --example progress_and_cancellation`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Duration};

use rota_client::{Client, Job, TaskStatus};
use rota_worker::{HandlerError, TaskContext, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Copy {
    parts: u32,
}

impl Job for Copy {
    const KIND: &'static str = "copy";
    type Output = u32;
}

/// Copies parts until there are no more or the handler should stop.
async fn copy(Copy { parts }: Copy, context: TaskContext) -> Result<u32, HandlerError> {
    for part in 1..=parts {
        tokio::select! {
            biased;
            // The work. Dropping it must leave nothing half done.
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            reason = context.stopped() => {
                // Clean up here, within a few seconds. The error is for people.
                return Err(HandlerError::new(format!("stopped at part {part}: {reason:?}")));
            }
        }
        // Call it as often as you like. The last message is shown.
        context.progress(format!("{part} of {parts}"));
    }
    Ok(parts)
}

pub(crate) async fn run(server: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect([server])?;
    let worker = Worker::builder(client.clone()).queues(["examples.progress"]).job(copy).build()?;
    let drain = worker.drain();
    let working = tokio::spawn(worker.run());

    let endless = Copy { parts: 1_000_000 };
    let sent = client.submit(&endless).queue("examples.progress").await?;
    let mut shown = String::new();
    while !shown.starts_with("5 ") {
        let seen = sent.task().await?;
        if seen.progress() != shown {
            println!("{}: {}", seen.status(), seen.progress());
            shown = seen.progress().to_owned();
        }
    }
    sent.cancel().await?;
    let ended = sent.ended().await?;
    println!("{}", ended.status());
    assert_eq!(ended.status(), TaskStatus::Cancelled);

    drain.start();
    working.await??;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::var("ROTA_SERVER");
    run(server.as_deref().unwrap_or("http://127.0.0.1:7420")).await
}
