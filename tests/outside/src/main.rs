//! A worker and a client in one program, as a user writes them: submits a job, runs it and prints its result.

use std::{error::Error, time::Duration};

use rota_client::{Client, Job, Retry};
use rota_worker::{HandlerError, Next, TaskContext, Worker};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Greet {
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Greeting {
    text: String,
    attempt: u32,
}

impl Job for Greet {
    const KIND: &'static str = "greet";
    type Output = Greeting;
}

async fn greet(job: Greet, context: TaskContext) -> Result<Greeting, HandlerError> {
    let attempt = context.attempt();
    if attempt == 1 {
        return Err(HandlerError::new("the first attempt fails"));
    }
    Ok(Greeting { text: format!("hello, {}", job.name), attempt })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::args().nth(1).ok_or("usage: outside URL")?;
    let client = Client::connect([server])?;
    let worker = Worker::builder(client.clone())
        .job(greet)
        .wrap(|context: TaskContext, next: Next| async move {
            println!("attempt {}", context.attempt());
            next.run(context).await
        })
        .build()?;
    let drain = worker.drain();
    let working = tokio::spawn(worker.run());

    let retry = Retry::new().max_attempts(2).initial(Duration::from_millis(10));
    let sent = client.submit(&Greet { name: "Ada".to_owned() }).retry(retry).await?;
    let greeting = sent.result_within(Duration::from_secs(60)).await?;
    println!("{} ({})", greeting.text, greeting.attempt);

    drain.start();
    working.await??;
    Ok(())
}
