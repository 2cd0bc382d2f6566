//! A worker to be killed: its handler writes down that it ran, in a file that only grows, and then
//! says that it is done.
//!
//! `effect-worker URLS NAME LOG SLOTS`. A line is `KEY TASK ATTEMPT LEASE_TOKEN`, in one write.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::Arc,
    time::Duration,
};

use rota_client::Client;
use rota_worker::{HandlerError, TaskContext, Worker};

/// One task in so many takes a while before its effect, and one after it, so that kills find some on
/// both sides.
const SLOW_EVERY: usize = 32;
const SLOW: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, name, log, slots] = arguments.as_slice() else {
        return Err("usage: effect-worker URLS NAME LOG SLOTS".into());
    };
    let log = Arc::new(OpenOptions::new().append(true).create(true).open(log)?);
    let worker = Worker::builder(Client::connect(url.split(','))?)
        .name(name)
        .slots(slots.parse()?)
        .handler("effect", move |context: TaskContext, key: String| {
            let log = log.clone();
            async move { run(&context, &key, &log).await }
        });
    worker.build()?.run().await?;
    Ok(())
}

async fn run(context: &TaskContext, key: &str, mut log: &File) -> Result<(), HandlerError> {
    let number: usize = key.trim_start_matches('k').parse()?;
    if number.is_multiple_of(SLOW_EVERY) {
        linger(context).await?;
    }
    let (id, attempt, token) = (context.task_id(), context.attempt(), context.lease_token());
    log.write_all(format!("{key} {id} {attempt} {token}\n").as_bytes())?;
    if number % SLOW_EVERY == SLOW_EVERY / 2 {
        linger(context).await?;
    }
    Ok(())
}

/// Takes a while, unless it is told to stop.
async fn linger(context: &TaskContext) -> Result<(), HandlerError> {
    match tokio::time::timeout(SLOW, context.stopped()).await {
        Ok(_) => Err(HandlerError::new("told to stop")),
        Err(_) => Ok(()),
    }
}
