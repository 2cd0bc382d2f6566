//! Polls the status of the store on every node: whether it answers, and whether it should get no new work. A node
//! with nothing to commit would not learn of it otherwise.

use std::{sync::Arc, time::Duration};

use rota_store::Store;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

/// Time between two polls. A store that fills up fast is noticed after it comes near its limit and before it is full.
const PERIOD: Duration = Duration::from_secs(1);
/// Polls in a row that must find a problem before it counts: one answer may be late.
const POLLS: u32 = 3;

/// Polls until `stop` is cancelled.
pub(crate) async fn run(store: Arc<dyn Store>, shared: Arc<Shared>, stop: CancellationToken) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut troubled = 0;
    loop {
        let poll = async {
            period.tick().await;
            store.status().await
        };
        let status = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            status = poll => status,
        };
        // A store that does not answer may still be as full as before.
        if status.bytes_used.is_some() {
            shared.set_pressure(status.pressure);
        }
        troubled = if status.problem.is_some() { troubled + 1 } else { 0 };
        shared.set_seen_problem(status.problem.filter(|_| troubled >= POLLS));
    }
}
