//! What a leader clears away: parts of pieces that were staged and that no piece names, from commits that were
//! given up or whose process ended.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    Shared,
    fault::Fault,
    layout,
    link::{Effect, Request},
    replica,
    txn::{self, Operation},
};
use crate::model::Epoch;

const INTERVAL: Duration = Duration::from_secs(60);

/// Between attempts that failed, such as those of a node that is still reading the log.
const AGAIN: Duration = Duration::from_secs(2);

pub(super) enum Never {}

/// Clears away at once and then every minute, while that epoch lasts. Cancel safe.
pub(super) async fn run(shared: &Shared, epoch: Epoch) -> Never {
    loop {
        let pause = match clear(shared, epoch).await {
            Ok(count) => {
                if count > 0 {
                    tracing::info!(count, "removed parts of pieces that nothing names");
                }
                INTERVAL
            }
            Err(fault) => {
                tracing::debug!(reason = fault.reason(), "could not look for left parts");
                AGAIN
            }
        };
        sleep(pause).await;
    }
}

/// Removes what is left over; says of how many pieces.
async fn clear(shared: &Shared, epoch: Epoch) -> Result<usize, Fault> {
    let layout = &shared.layout;
    let prefix = layout.parts();
    // First what there is, then what is in use: what is staged meanwhile is not touched.
    let request = Request::get(format!("kv/{prefix}"), "keys&separator=/&consistent");
    let answer = shared.control.call(request).await?.with(&[200, 404])?;
    if answer.status == 404 {
        return Ok(0);
    }
    let keys: Vec<String> = serde_json::from_slice(&answer.body)
        .map_err(|_| Fault::Unknown("Consul's list of keys makes no sense".to_owned()))?;
    let trees = [&layout.leader, &layout.head].map(|key| Operation::get_tree(key));
    let found = txn::read(&shared.control, &trees).await?;
    let Some(leader) = found.key(&layout.leader) else { return Ok(0) };
    if layout::decode_seat(&leader.value()?).epoch != epoch {
        return Ok(0);
    }
    let tip = replica::decode_tip(found.key(&layout.head))?;
    if shared.replica.with(|state| state.next() > tip.last) != Some(true) {
        return Err(Fault::Refused("this node has not yet read the whole log".to_owned()));
    }
    let ids = keys.iter().filter_map(|key| key.strip_prefix(&prefix)?.split('/').next());
    let mut count = 0;
    for id in ids {
        let is_staged = shared.staging().contains(id);
        let is_named = shared.replica.with(|state| state.has_parts(id)).unwrap_or(true);
        if is_staged || is_named {
            continue;
        }
        let remove = [
            Operation::unchanged(&layout.leader, leader.modify_index),
            Operation::delete_tree(&layout.parts_of(id)),
        ];
        txn::perform(&shared.control, &remove, Effect::Harmless).await?;
        count += 1;
    }
    Ok(count)
}
