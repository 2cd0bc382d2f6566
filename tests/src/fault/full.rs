//! What nodes do while their store is full.

use std::sync::atomic::{AtomicU64, Ordering};

use rota_client::{ClientError, Reason, task};
use tokio::time::timeout;

use crate::{cluster::Cluster, process::PATIENCE, unfinished};

/// Probes of this process. Each is a task of its own, because the repeat of a task is answered by a full store too.
static PROBES: AtomicU64 = AtomicU64::new(0);

/// Why the leader takes no new task, if it does not.
pub(super) async fn refusal(cluster: &Cluster, leader: usize) -> Option<String> {
    let client = cluster.client_of(leader);
    let name = format!("probe-full-{}", PROBES.fetch_add(1, Ordering::Relaxed));
    let ask = async {
        loop {
            let probe = task("effect").payload_json(&"k1").id(&name);
            match client.create_task(probe).await {
                Ok(_) => return None,
                Err(error) if error.reason() == Some(Reason::StoreFull) => {
                    return Some(error.to_string());
                }
                // On a busy machine an answer may be late. Its name makes it the same task again.
                Err(ClientError::OutcomeUnknown { .. }) => {}
                Err(error) => panic!("a full store is no reason for this: {error:?}"),
            }
        }
    };
    timeout(PATIENCE, ask).await.expect("an answer though the store is full")
}

/// Waits until nothing is left to be done.
pub(super) async fn drained(cluster: &Cluster, leader: usize) {
    if let Err(left) = unfinished::settled(cluster, leader, PATIENCE).await {
        panic!("running work does not end near the quota:\n{left}");
    }
}
