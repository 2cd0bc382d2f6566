//! A handler that says how far it is, and stops when it is asked to: because a client cancelled the task,
//! its timeout is over, the worker drains, or the lease was lost.
//!
//! With a server on this machine (`rota server`):
//! `cargo run -p rota-worker --example progress_and_cancellation`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Duration};

use rota_client::{Client, task};
use rota_worker::{HandlerError, TaskContext, Worker};

/// Copies parts until there are no more or it is to stop.
async fn copy(context: TaskContext, parts: u32) -> Result<u32, HandlerError> {
    for part in 1..=parts {
        tokio::select! {
            biased;
            // The work. Dropping it must leave nothing half done.
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            reason = context.stopped() => {
                // Clean up here: there are some seconds for it. What is returned then is for people.
                return Err(HandlerError::new(format!("stopped at part {part}: {reason:?}")));
            }
        }
        // As often as one likes: only the last is kept.
        context.progress(format!("{part} of {parts}"));
    }
    Ok(parts)
}

pub(crate) async fn run(server: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect([server])?;
    let worker = Worker::builder(client.clone())
        .queues(["examples.progress"])
        .handler("copy", copy)
        .build()?;
    let drain = worker.drain();
    let working = tokio::spawn(worker.run());

    let endless = task("copy").queue("examples.progress").payload_json(&1_000_000);
    let created = client.create_task(endless).await?;
    let mut shown = String::new();
    while !shown.starts_with("5 ") {
        let seen = client.get_task(&created.id).await?;
        if seen.progress() != shown {
            println!("{}: {}", seen.status().as_str_name(), seen.progress());
            shown = seen.progress().to_owned();
        }
    }
    client.cancel_task(&created.id).await?;
    let ended = client.wait_task(&created.id).await?;
    println!("{}", ended.status().as_str_name());
    assert_eq!(ended.status(), rota_client::TaskStatus::Cancelled);

    drain.start();
    working.await??;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::var("ROTA_SERVER");
    run(server.as_deref().unwrap_or("http://127.0.0.1:7420")).await
}
