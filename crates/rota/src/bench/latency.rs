//! Measures the latency from submission to the start of the handler, in an open loop: a slow answer does not
//! delay the next submission, and latency counts from the planned time of submission.

use std::{
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use clap::Args;
use rota_client::{Client, task};
use serde_json::{Value, json};
use tokio::{runtime::Handle, task::spawn_blocking};

use super::{
    Subject,
    ledger::{Ledger, Workers, verify_left},
    micros, quantiles,
    throughput::{index_of, payload},
};
use crate::exit::Failure;

const QUEUE: &str = "bench-latency";
/// Warm-up tasks, which are not counted.
const WARM_UP: u64 = 500;

/// The load.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// Tasks per second.
    #[arg(long, default_value_t = 500)]
    rate: u64,
    /// Duration of the measurement.
    #[arg(long, default_value = "20s", value_parser = super::span)]
    duration: Duration,
    /// Payload size in bytes.
    #[arg(long, default_value_t = 256)]
    payload_bytes: usize,
}

impl Default for Load {
    fn default() -> Self {
        Self { rate: 500, duration: Duration::from_secs(20), payload_bytes: 256 }
    }
}

pub(super) async fn run(subject: &Subject, load: &Load) -> Result<Value, Failure> {
    let nodes = subject.nodes.clone();
    let rate = load.rate.max(1);
    let counted = rate * load.duration.as_secs().max(1);
    let tasks = WARM_UP + counted;
    let ledger = Arc::new(Ledger::new(counted));
    let warm = Arc::new(Ledger::new(WARM_UP));
    // The handler runs in this process, so both times are from the same clock.
    let began = Instant::now() + Duration::from_millis(200);
    let gap = Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX);
    let due = move |index: u64| began + gap * u32::try_from(index).unwrap_or(u32::MAX);
    let (noted, warmed) = (ledger.clone(), warm.clone());
    let workers = Workers::start(&nodes, "bench-latency", 1, 1000, move |_, payload| {
        let index = index_of(payload);
        let late = micros(due(index).elapsed());
        if index < WARM_UP { warmed.note(index, late) } else { noted.note(index, late) }
    })?;
    let client = Client::connect(nodes)?;
    client.get_server_info(rota_client::v1::GetServerInfoRequest {}).await?;
    let (runtime, payload_bytes) = (Handle::current(), load.payload_bytes);
    // On its own thread: the timers of the runtime have a resolution of 1 ms, which would count as latency.
    let sent = spawn_blocking(move || {
        let send = |index| {
            sleep(due(index).saturating_duration_since(Instant::now()));
            let client = client.clone();
            let new = task("bench-latency").queue(QUEUE).payload(payload(index, payload_bytes));
            runtime.spawn(async move { client.create_task(new).await })
        };
        (0..tasks).map(send).collect::<Vec<_>>()
    });
    for sent in sent.await.map_err(Failure::failed)? {
        sent.await.map_err(Failure::failed)??;
    }
    ledger.complete().await;
    workers.end().await?;
    warm.verify()?;
    let (histogram, _) = ledger.verify()?;
    verify_left(&subject.client, QUEUE, 0).await?;
    Ok(json!({
        "rate_per_second": rate,
        "submit_to_start": quantiles(&histogram),
        "server": subject.usage(),
    }))
}
