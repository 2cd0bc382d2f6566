//! Measures the lateness of delayed tasks, the memory and the time of a restart with a backlog.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use clap::Args;
use rota_client::{NewTask, task};
use serde_json::{Value, json};

use super::{
    Subject,
    child::Usage,
    ledger::{Ledger, Workers, submit, verify_left},
    micros, quantiles,
    throughput::{index_of, payload},
};
use crate::exit::Failure;

const QUEUE: &str = "bench-delay";
const BACKLOG: &str = "bench-backlog";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Time from the start of submission until the first delayed task is due.
const LEAD: Duration = Duration::from_secs(5);

/// The load.
#[derive(Debug, Clone, Args)]
pub(crate) struct DelayLoad {
    /// Number of delayed tasks.
    #[arg(long, default_value_t = 5000)]
    tasks: u64,
    /// Number of tasks in the backlog, all due tomorrow.
    #[arg(long, default_value_t = 1_000_000)]
    pub(super) backlog: u64,
    /// Time span over which the delayed tasks are due.
    #[arg(long, default_value = "10s", value_parser = super::span)]
    spread: Duration,
}

impl Default for DelayLoad {
    fn default() -> Self {
        Self { tasks: 5000, backlog: 1_000_000, spread: Duration::from_secs(10) }
    }
}

/// Submits tasks for tomorrow. Returns their cost for the server.
async fn fill(subject: &Subject, backlog: u64) -> Result<Value, Failure> {
    let before = subject.child.as_ref().and_then(super::Child::usage);
    let began = Instant::now();
    let nodes = &subject.nodes;
    let new = |index| task(BACKLOG).queue(BACKLOG).delay(DAY).payload(payload(index, 256));
    submit(nodes, 2, 1000, backlog, new).await?;
    let seconds = began.elapsed().as_secs_f64();
    let after = subject.child.as_ref().and_then(super::Child::usage);
    Ok(
        json!({ "tasks": backlog, "seconds": seconds, "bytes_a_task": per_task(before, after, backlog) }),
    )
}

#[expect(clippy::cast_precision_loss, reason = "bytes and tasks fit 52 bits")]
pub(super) fn per_task(before: Option<Usage>, after: Option<Usage>, tasks: u64) -> Value {
    match (before, after) {
        (Some(before), Some(after)) if tasks > 0 => {
            let grown = after.anonymous_bytes.saturating_sub(before.anonymous_bytes);
            json!(grown as f64 / tasks as f64)
        }
        _ => Value::Null,
    }
}

/// Lateness of delayed tasks.
pub(super) async fn delay(subject: &Subject, load: &DelayLoad) -> Result<Value, Failure> {
    let backlog = fill(subject, load.backlog).await?;
    let nodes = subject.nodes.clone();
    let ledger = Arc::new(Ledger::new(load.tasks));
    let noted = ledger.clone();
    let workers = Workers::start(&nodes, QUEUE, 1, 1000, move |context, payload| {
        // The server runs on this machine, so both times are from the same clock.
        let late = SystemTime::now().duration_since(context.run_at()).unwrap_or_default();
        noted.note(index_of(payload), micros(late));
    })?;
    let (tasks, spread) = (load.tasks, load.spread);
    let first = SystemTime::now() + LEAD;
    let new = move |index: u64| -> NewTask {
        let share = spread.mul_f64(fraction(index, tasks));
        task(QUEUE).queue(QUEUE).run_at(first + share).payload(payload(index, 64))
    };
    submit(&nodes, 1, 500, load.tasks, new).await?;
    ledger.complete().await;
    workers.end().await?;
    let (histogram, _) = ledger.verify()?;
    verify_left(&subject.client, QUEUE, 0).await?;
    verify_left(&subject.client, BACKLOG, load.backlog).await?;
    Ok(json!({
        "backlog": backlog,
        "lateness": quantiles(&histogram),
        "server": subject.usage(),
    }))
}

#[expect(clippy::cast_precision_loss, reason = "counts of tasks fit 52 bits")]
fn fraction(index: u64, of: u64) -> f64 {
    index as f64 / of.max(1) as f64
}

/// Measures a restart with a backlog: from SIGKILL and start to the first task.
pub(super) async fn restart(mut subject: Subject, backlog: u64) -> Result<Value, Failure> {
    let filled = fill(&subject, backlog).await?;
    let nodes = subject.nodes.clone();
    let Some(child) = &mut subject.child else {
        return Err(Failure::usage(
            "cannot measure the restart of a running server; omit --url to start one",
        ));
    };
    let began = Instant::now();
    let ready = child.restart().await?;
    let ledger = Arc::new(Ledger::new(1));
    let noted = ledger.clone();
    let workers = Workers::start(&nodes, QUEUE, 1, 1, move |_, payload| {
        noted.note(index_of(payload), 0);
    })?;
    submit(&nodes, 1, 1, 1, |index| task(QUEUE).queue(QUEUE).payload(payload(index, 8))).await?;
    ledger.complete().await;
    let first = began.elapsed();
    workers.end().await?;
    ledger.verify()?;
    verify_left(&subject.client, BACKLOG, backlog).await?;
    Ok(json!({
        "backlog": filled,
        "ready_seconds": ready.as_secs_f64(),
        "first_dispatch_seconds": first.as_secs_f64(),
        "server": subject.usage(),
    }))
}
