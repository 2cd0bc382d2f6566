//! Submits a job and waits for its result.
//!
//! The job is an HTTP request, which every `rota worker` can make: its kind is `http`. With a server and a worker on
//! this machine (`rota dev`): `cargo run -p rota-client --example submit_and_wait`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Duration};

use rota_client::{Client, Job, ResultError, Retry};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Get {
    url: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Page {
    status: u16,
    body: String,
}

impl Job for Get {
    const KIND: &'static str = "http";
    type Output = Page;
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::var("ROTA_SERVER");
    let server = server.as_deref().unwrap_or("http://127.0.0.1:7420");
    // The client takes any number of nodes, and fails over between them.
    let client = Client::connect([server])?;
    let url = std::env::args().nth(1).unwrap_or_else(|| "https://example.org/".to_owned());
    let sent = client
        .submit(&Get { url })
        .label("example", "submit-and-wait")
        .timeout(Duration::from_secs(30))
        .retry(Retry::new().max_attempts(3))
        .await?;
    // From here on the task is durable: it runs even if this program is killed.
    println!("submitted {}", sent.id());

    match sent.result_within(Duration::from_secs(120)).await {
        Ok(page) => println!("{}: {}", page.status, page.body),
        Err(ResultError::Failed { message, attempt, .. }) => {
            println!("failed after {attempt} attempts: {message}");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
