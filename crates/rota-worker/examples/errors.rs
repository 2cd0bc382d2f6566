//! Errors of handlers. Rota retries an error by the policy of the task, unless the error is permanent or sets the
//! time of the retry.
//!
//! With a server on this machine (`rota server`): `cargo run -p rota-worker --example errors`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Duration};

use rota_client::{Client, Job, Retry, TaskStatus};
use rota_worker::{HandlerError, TaskContext, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Deliver {
    address: String,
}

impl Job for Deliver {
    const KIND: &'static str = "deliver";
    type Output = String;
}

async fn deliver(job: Deliver, context: TaskContext) -> Result<String, HandlerError> {
    // `?` converts any error. Rota retries it by the policy of the task.
    let house: u32 = job.address.rsplit(' ').next().unwrap_or_default().parse()?;
    match house {
        // No retry can help.
        0 => Err(HandlerError::permanent("there is no house number 0")),
        // The handler sets the time of the retry.
        13 if context.attempt() == 1 => {
            Err(HandlerError::retry_after("nobody at home", Duration::from_millis(50)))
        }
        _ => Ok(format!("delivered at attempt {}", context.attempt())),
    }
}

pub(crate) async fn run(server: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect([server])?;
    let worker =
        Worker::builder(client.clone()).queues(["examples.errors"]).job(deliver).build()?;
    let drain = worker.drain();
    let working = tokio::spawn(worker.run());

    for (address, status, attempts) in [
        ("Main Street 7", TaskStatus::Completed, 1),
        ("Main Street 13", TaskStatus::Completed, 2),
        ("Main Street 0", TaskStatus::Failed, 1),
        ("Main Street", TaskStatus::Failed, 3),
    ] {
        let retry = Retry::new().max_attempts(3).initial(Duration::from_millis(20));
        let job = Deliver { address: address.to_owned() };
        let sent = client.submit(&job).queue("examples.errors").retry(retry).await?;
        let ended = sent.ended().await?;
        println!("{address}: {}", ended.status());
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
