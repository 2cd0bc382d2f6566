//! What goes wrong with Consul only: values at the limit of what a task may carry.

use rota_client::task;
use tokio::time::{Instant, timeout};

use crate::{
    cluster::Cluster,
    process::{LOOK, PATIENCE},
};

/// The largest payload that a task may have, less its quotes.
const PAYLOAD_BYTES: usize = (1 << 20) - 2;
/// Tasks that have it at once.
const TASKS: usize = 4;

/// Tasks whose payloads are as large as can be: several times what a transaction of Consul holds.
pub(super) async fn large_values(cluster: &mut Cluster, random: &mut fastrand::Rng) {
    let payload = "x".repeat(PAYLOAD_BYTES);
    let client = cluster.client(random.usize(..cluster.nodes.len()));
    let mut look = tokio::time::interval(LOOK);
    for number in 0..TASKS {
        let id = format!("probe-large-{}-{number}", random.u64(..));
        let new = || task("nobody").queue("large").id(&id).payload_json(&payload);
        let done = async {
            while client.create_task(new()).await.is_err() {
                look.tick().await;
            }
            while client.cancel_task(&id).await.is_err() {
                look.tick().await;
            }
        };
        timeout(PATIENCE, done).await.expect("a task of the largest size is taken and cancelled");
    }
    cluster.healed = Instant::now();
}
