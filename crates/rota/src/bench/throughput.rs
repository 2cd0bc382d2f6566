//! Measures tasks per second, from the first submission to the last completion.

use std::{sync::Arc, time::Instant};

use clap::Args;
use rota_client::task;
use serde_json::{Value, json};

use super::{
    Subject,
    ledger::{Ledger, Workers, submit, verify_left},
};
use crate::{exit::Failure, manage::fresh_key};

const QUEUE: &str = "bench-throughput";

/// The load.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// Number of tasks.
    #[arg(long, default_value_t = 300_000)]
    tasks: u64,
    /// Payload size in bytes.
    #[arg(long, default_value_t = 256)]
    payload_bytes: usize,
    /// Number of concurrent clients.
    #[arg(long, default_value_t = 2)]
    clients: u32,
    /// Number of tasks in one request.
    #[arg(long, default_value_t = 500)]
    batch: usize,
    /// Number of workers.
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Number of slots of each worker.
    #[arg(long, default_value_t = 2000)]
    slots: u32,
    /// Give each task an idempotency key, so that submission survives failures of nodes. This adds a record
    /// for each task.
    #[arg(long)]
    keys: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            tasks: 300_000,
            payload_bytes: 256,
            clients: 2,
            batch: 500,
            workers: 2,
            slots: 2000,
            keys: false,
        }
    }
}

/// A payload that begins with the number of the task.
pub(super) fn payload(index: u64, bytes: usize) -> Vec<u8> {
    let mut payload = index.to_le_bytes().to_vec();
    payload.resize(bytes.max(8), b'x');
    payload
}

/// The number of the task at the start of a payload.
pub(super) fn index_of(payload: &[u8]) -> u64 {
    payload.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}

#[expect(clippy::cast_precision_loss, reason = "counts of tasks fit 52 bits")]
pub(super) async fn run(subject: &Subject, load: &Load) -> Result<Value, Failure> {
    let nodes = &subject.nodes;
    let ledger = Arc::new(Ledger::new(load.tasks));
    let noted = ledger.clone();
    let workers =
        Workers::start(nodes, "bench-throughput", load.workers, load.slots, move |_, payload| {
            noted.note(index_of(payload), 0);
        })?;
    let bytes = load.payload_bytes;
    let began = Instant::now();
    let key = load.keys.then(fresh_key);
    let new = move |index| {
        let task = task("bench-throughput").queue(QUEUE).payload(payload(index, bytes));
        match &key {
            Some(key) => task.idempotency_key(format!("{key}-{index}")),
            None => task,
        }
    };
    submit(nodes, load.clients, load.batch, load.tasks, new).await?;
    let submitted = began.elapsed();
    ledger.complete().await;
    workers.end().await?;
    // The drain waited for the answer to the last report: all is durable.
    let took = began.elapsed();
    ledger.verify()?;
    verify_left(&subject.client, QUEUE, 0).await?;
    Ok(json!({
        "tasks": load.tasks,
        "seconds": took.as_secs_f64(),
        "tasks_per_second": load.tasks as f64 / took.as_secs_f64(),
        "submitted_per_second": load.tasks as f64 / submitted.as_secs_f64(),
        "server": subject.usage(),
    }))
}
