//! Says what is to be done, and waits until it is.
//!
//! The task is an HTTP request, which every `rota worker` makes. With a server and a worker on this machine
//! (`rota dev`): `cargo run -p rota-client --example submit_and_wait`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Duration};

use rota_client::{Client, task, v1::TaskStatus};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::var("ROTA_SERVER");
    let server = server.as_deref().unwrap_or("http://127.0.0.1:7420");
    // Any number of nodes may be named: the client goes on to the next when one fails.
    let client = Client::connect([server])?;
    let url = std::env::args().nth(1).unwrap_or_else(|| "https://example.org/".to_owned());
    let request = task("http")
        .payload_json(&json!({ "url": url }))
        .label("example", "submit-and-wait")
        .timeout(Duration::from_secs(30))
        .max_attempts(3);
    let created = client.create_task(request).await?;
    // From here on it is durable: whatever is killed now, the request is made.
    println!("{} is {}", created.id, created.status().as_str_name());

    let ended = client.wait_task(&created.id).await?;
    match ended.status() {
        TaskStatus::Completed => {
            let result = client.get_result(&ended.id).await?;
            println!("{}", String::from_utf8_lossy(&result));
        }
        other => {
            let error = ended.error.unwrap_or_default();
            println!("{}: {}", other.as_str_name(), error.message);
        }
    }
    Ok(())
}
