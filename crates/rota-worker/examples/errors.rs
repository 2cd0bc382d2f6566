//! What a handler's errors mean: any error is tried again as the task's policy says, one that is permanent
//! is not, and one may say itself when to try again.
//!
//! With a server on this machine (`rota server`): `cargo run -p rota-worker --example errors`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Duration};

use rota_client::{Client, task, v1::TaskStatus};
use rota_worker::{HandlerError, TaskContext, Worker};

async fn deliver(context: TaskContext, address: String) -> Result<String, HandlerError> {
    // `?` makes any error one that is tried again by the task's policy.
    let house: u32 = address.rsplit(' ').next().unwrap_or_default().parse()?;
    match house {
        // Nothing will change that: no further attempt.
        0 => Err(HandlerError::permanent("there is no house number 0")),
        // The other side knows when to come again.
        13 if context.attempt() == 1 => {
            Err(HandlerError::retry_after("nobody at home", Duration::from_millis(50)))
        }
        _ => Ok(format!("delivered at attempt {}", context.attempt())),
    }
}

pub(crate) async fn run(server: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect([server])?;
    let worker = Worker::builder(client.clone())
        .queues(["examples.errors"])
        .handler("deliver", deliver)
        .build()?;
    let drain = worker.drain();
    let working = tokio::spawn(worker.run());

    for (address, status, attempts) in [
        ("Main Street 7", TaskStatus::Completed, 1),
        ("Main Street 13", TaskStatus::Completed, 2),
        ("Main Street 0", TaskStatus::Failed, 1),
        ("Main Street", TaskStatus::Failed, 3),
    ] {
        let quick = Duration::from_millis(20);
        let deliver = task("deliver")
            .queue("examples.errors")
            .payload_json(address)
            .max_attempts(3)
            .backoff(quick, 2.0, quick * 10);
        let created = client.create_task(deliver).await?;
        let ended = client.wait_task(&created.id).await?;
        println!("{address}: {}", ended.status().as_str_name());
        for attempt in client.list_attempts(&ended.id).await? {
            let said = attempt.error.map_or("done".to_owned(), |error| error.message);
            println!("  attempt {}: {said}", attempt.attempt);
        }
        assert_eq!((ended.status(), ended.attempt), (status, attempts), "{address}");
    }

    drain.start();
    working.await??;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::var("ROTA_SERVER");
    run(server.as_deref().unwrap_or("http://127.0.0.1:7420")).await
}
