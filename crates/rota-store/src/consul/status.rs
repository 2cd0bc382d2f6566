//! How Consul is, asked when somebody wants to know.

use std::time::Duration;

use super::{Shared, link::Request};
use crate::store::StoreStatus;

/// How long Consul has for its answer.
const PATIENCE: Duration = Duration::from_millis(900);

pub(super) async fn status(shared: &Shared) -> StoreStatus {
    let mut status = StoreStatus {
        backend: "consul",
        location: shared.options.location(),
        epoch: shared.epoch(),
        revision: shared.revision(),
        bytes_max: Some(shared.options.size_bytes_max),
        ..StoreStatus::default()
    };
    if let Err(error) = shared.check_open() {
        status.problem = Some(error.to_string());
        return status;
    }
    if let Some((bytes, live)) = shared.replica.with(|state| (state.bytes(), state.live())) {
        let max = shared.options.size_bytes_max;
        status.bytes_used = Some(bytes.min(max));
        // What is dead is let go when room is needed, so what is live counts.
        status.pressure = (live > max / 100 * 70).then(|| {
            format!("the store is near its limit in Consul: {live} bytes are live of {max}")
        });
    }
    status.problem = problem(shared).await.or_else(|| shared.background.trouble());
    status
}

/// Why Consul cannot take writes now.
async fn problem(shared: &Shared) -> Option<String> {
    let request = Request::get("status/leader", "");
    match tokio::time::timeout(PATIENCE, shared.inquiries.call(request)).await {
        Err(_) => Some(format!("Consul did not answer within {PATIENCE:?}")),
        Ok(Err(fault)) => Some(fault.reason()),
        Ok(Ok(answer)) => match answer.with(&[200]) {
            Ok(answer) if answer.body.trim_ascii() == b"\"\"" => {
                Some("Consul has no leader: most of its servers are away".to_owned())
            }
            Ok(_) => None,
            Err(fault) => Some(fault.reason()),
        },
    }
}
