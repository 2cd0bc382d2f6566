//! Checks the store at intervals on every node: whether it answers, and whether it should get no new tasks.
//! Otherwise a node without commits would not notice problems.

use std::{sync::Arc, time::Duration};

use rota_store::Store;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

/// Interval of the checks. A store that fills up fast must be noticed before it is full.
const PERIOD: Duration = Duration::from_secs(1);
/// Number of consecutive checks that must find a problem before it counts, because a single answer can be
/// late.
const LOOKS: u32 = 3;

/// Checks until `stop` is cancelled.
pub(crate) async fn run(store: Arc<dyn Store>, shared: Arc<Shared>, stop: CancellationToken) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut troubled = 0;
    loop {
        let look = async {
            period.tick().await;
            store.status().await
        };
        let status = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            status = look => status,
        };
        // A store that does not answer may still be as full as before.
        if status.bytes_used.is_some() {
            shared.set_pressure(status.pressure);
        }
        troubled = if status.problem.is_some() { troubled + 1 } else { 0 };
        shared.set_seen_problem(status.problem.filter(|_| troubled >= LOOKS));
    }
}
