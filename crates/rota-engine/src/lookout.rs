//! Looks at the store now and then, on every node, whatever it does: whether the store answers, and
//! whether it should get no new work. A node with nothing to commit would not learn of it otherwise.

use std::{sync::Arc, time::Duration};

use rota_store::Store;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

/// How often it looks: a store that fills up fast is to be noticed between near its limit and full.
const PERIOD: Duration = Duration::from_secs(1);
/// So many looks in a row must find a problem before it counts: one answer may be late.
const LOOKS: u32 = 3;

/// Looks until `stop` is cancelled.
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
        // One that does not say how full it is may be as full as before.
        if status.bytes_used.is_some() {
            shared.set_pressure(status.pressure);
        }
        troubled = if status.problem.is_some() { troubled + 1 } else { 0 };
        shared.set_seen_problem(status.problem.filter(|_| troubled >= LOOKS));
    }
}
