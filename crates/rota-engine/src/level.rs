//! The feature level of a cluster: the formats and behaviours that its nodes can use.
//!
//! The member record of each node has the highest level that the node supports (0 for versions without
//! levels). The leader raises the level of the cluster, a durable record, when every present node supports
//! the next one, and never lowers it. Features that an older version could not read or would handle wrongly
//! are used only from their level on. So nodes can be upgraded one after the other, and downgraded until the
//! last one is upgraded. A node that does not support the level of the cluster does not lead; it still
//! forwards.
//!
//! | level | adds |
//! |---|---|
//! | 1 | nodes have feature levels, and keep unknown fields of records |
//! | 2 | schedules and calendars |

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rota_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    inbox::InboxSender,
    layout,
    request::Request,
    rounds::Rounds,
    shared::{Phase, Shared},
};

/// The highest level that this version supports.
pub(crate) const FEATURE_LEVEL: u32 = 2;

/// The level from which on schedules can be used.
pub(crate) const SCHEDULES: u32 = 2;

/// Interval of checks of the nodes and the level of the cluster.
pub(crate) const PERIOD: Duration = Duration::from_secs(2);

/// Counts as the level of a store with half of a copy or of an import in it. No version supports it.
const UNFINISHED: u32 = u32::MAX - 1;

/// The level of a cluster, from its record. 0 without a record. An invalid record counts as a future level.
pub(crate) async fn of_cluster(store: &dyn Store) -> Result<u32, StoreError> {
    let keys = [layout::FEATURE_LEVEL, layout::UNFINISHED].map(|key| (layout::CLUSTER, key));
    let mut found = store.get(&keys).await?.into_iter();
    let (level, unfinished) = (found.next().flatten(), found.next().flatten());
    if unfinished.is_some() {
        return Ok(UNFINISHED);
    }
    let Some(record) = level else { return Ok(0) };
    let level = std::str::from_utf8(&record).ok().and_then(|text| text.parse().ok());
    Ok(level.unwrap_or(u32::MAX))
}

/// The problem of a node that does not support the level of the cluster.
pub(crate) fn outdated(known: u32, cluster: u32) -> Option<String> {
    if cluster == UNFINISHED {
        return Some(
            "the store holds an unfinished copy or import, so this node does not lead; run the same `rota store copy` \
             or `rota store import` again"
                .to_owned(),
        );
    }
    (known < cluster).then(|| {
        format!(
            "this node supports feature level {known}, but the cluster uses {cluster}; the node does not lead and \
             only forwards; upgrade it"
        )
    })
}

/// Follows the level of the cluster, and raises it if this node is the leader, until `stop` is cancelled.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
    inbox: InboxSender,
    stop: CancellationToken,
) {
    let mut rounds = Rounds::every(PERIOD, stop);
    let mut asked = None;
    while rounds.next().await.is_some() {
        let wanted = rounds.unless_stopped(wanted(store.as_ref(), &shared)).await;
        let Some(wanted) = wanted else { return };
        let wanted = wanted.unwrap_or_else(|error| {
            warn!(%error, "cannot read the feature level");
            None
        });
        if let Some(level) = wanted {
            // At first only together with the next batch of other changes.
            let raise = Request::RaiseLevel { level, alone: asked == wanted };
            // If the inbox is full, the next check tries again.
            let _ = inbox.send(raise, shared.host.now().mono, PERIOD).await;
        }
        asked = wanted;
    }
}

/// The level to which this node must raise the level of the cluster, if it is the leader and all nodes
/// support a higher one.
async fn wanted(store: &dyn Store, shared: &Shared) -> Result<Option<u32>, StoreError> {
    let level = of_cluster(store).await?;
    let before = shared.cluster_level.swap(level, Ordering::Relaxed);
    if before != level {
        info!(level, "feature level of the cluster changed");
    }
    if *shared.phase.borrow() != Phase::Leading {
        return Ok(None);
    }
    above(store, shared, level).await
}

/// The level that all present nodes support, if it is above this one.
pub(crate) async fn above(
    store: &dyn Store,
    shared: &Shared,
    level: u32,
) -> Result<Option<u32>, StoreError> {
    if shared.known_level <= level {
        return Ok(None);
    }
    let members = store.members().await?;
    let known = members.iter().map(|member| member.level).min().unwrap_or(0);
    Ok(Some(known.min(shared.known_level)).filter(|known| *known > level))
}
