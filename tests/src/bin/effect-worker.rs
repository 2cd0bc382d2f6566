//! A worker to be killed, with three handlers. `effect` writes down that it ran, in a file that only
//! grows, and then says that it is done. `linger` runs until it is told to stop. `fails-first` fails for
//! good at the first attempt, and succeeds later.
//!
//! `effect-worker URLS NAME LOG SLOTS`. With `ROTA_TEST_LONG_EVERY` in the environment, one `effect` in so many
//! takes longer than most faults last. A line is `KEY TASK ATTEMPT LEASE_TOKEN`, in one write.

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
/// How long a task takes that outlasts most faults, and a session whose worker is silent.
const LONG: Duration = Duration::from_secs(7);
/// Which of each `LONG_EVERY` tasks that is.
const LONG_ONE: usize = 7;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, name, log, slots] = arguments.as_slice() else {
        return Err("usage: effect-worker URLS NAME LOG SLOTS".into());
    };
    let long_every = std::env::var("ROTA_TEST_LONG_EVERY").ok();
    let long_every = long_every.map(|text| text.parse()).transpose()?;
    let log = Arc::new(OpenOptions::new().append(true).create(true).open(log)?);
    let worker = Worker::builder(Client::connect(url.split(','))?)
        .name(name)
        .slots(slots.parse()?)
        .handler("effect", move |context: TaskContext, key: String| {
            let log = log.clone();
            async move { run(&context, &key, &log, long_every).await }
        })
        .handler("linger", |context: TaskContext, (): ()| async move {
            context.stopped().await;
            Err::<(), _>(HandlerError::new("told to stop"))
        })
        .handler("fails-first", |context: TaskContext, (): ()| async move {
            if context.attempt() == 1 {
                return Err(HandlerError::permanent("the first attempt fails"));
            }
            Ok(())
        });
    worker.build()?.run().await?;
    Ok(())
}

async fn run(
    context: &TaskContext,
    key: &str,
    mut log: &File,
    long_every: Option<usize>,
) -> Result<(), HandlerError> {
    let number: usize = key.trim_start_matches('k').parse()?;
    if number.is_multiple_of(SLOW_EVERY) {
        linger(context, SLOW).await?;
    }
    if long_every.is_some_and(|every| number % every == LONG_ONE) {
        linger(context, LONG).await?;
    }
    let (id, attempt, token) = (context.task_id(), context.attempt(), context.lease_token());
    log.write_all(format!("{key} {id} {attempt} {token}\n").as_bytes())?;
    if number % SLOW_EVERY == SLOW_EVERY / 2 {
        linger(context, SLOW).await?;
    }
    Ok(())
}

/// Takes a while, unless it is told to stop.
async fn linger(context: &TaskContext, time: Duration) -> Result<(), HandlerError> {
    match tokio::time::timeout(time, context.stopped()).await {
        Ok(_) => Err(HandlerError::new("told to stop")),
        Err(_) => Ok(()),
    }
}
