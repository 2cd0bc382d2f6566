//! The feature level of a cluster: which formats and behaviours its nodes may use.
//!
//! Each node says in its member record which level it knows (nodes from before there were levels: 0). The leader
//! raises the level of the cluster, a durable record, as soon as every node that is there knows the next one, and
//! never lowers it. What an older version could not read or would do wrong is used only from its level on. So
//! nodes can be upgraded one after the other, and until the last of them is, they can be downgraded as well. A node
//! that knows less than the cluster's level does not lead; it still forwards.
//!
//! | level | since then |
//! |---|---|
//! | 1 | nodes have feature levels, and keep fields of records that they do not know |

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

/// The level that this version knows.
pub(crate) const FEATURE_LEVEL: u32 = 1;

/// Between two looks at the nodes and the cluster's level.
pub(crate) const PERIOD: Duration = Duration::from_secs(2);

/// The level of a cluster, as its record says. Without one it is 0. One that makes no sense is that of a version
/// to come.
pub(crate) async fn of_cluster(store: &dyn Store) -> Result<u32, StoreError> {
    let found = store.get(&[(layout::CLUSTER, layout::FEATURE_LEVEL)]).await?;
    let Some(record) = found.into_iter().next().flatten() else { return Ok(0) };
    let level = std::str::from_utf8(&record).ok().and_then(|text| text.parse().ok());
    Ok(level.unwrap_or(u32::MAX))
}

/// Why a node that knows less than the cluster's level does not lead.
pub(crate) fn outdated(known: u32, cluster: u32) -> Option<String> {
    (known < cluster).then(|| {
        format!(
            "this node knows feature level {known} and the cluster uses {cluster}, so the node does not lead and \
             only forwards; upgrade it"
        )
    })
}

/// Follows the cluster's level, and raises it where this node leads, until `stop` is cancelled.
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
            warn!(%error, "reading the feature level failed");
            None
        });
        if let Some(level) = wanted {
            // At first with the next batch that is written anyway.
            let raise = Request::RaiseLevel { level, alone: asked == wanted };
            // Where there is no room for it, the next look asks again.
            let _ = inbox.send(raise, shared.host.now().mono, PERIOD).await;
        }
        asked = wanted;
    }
}

/// The level to which this node is to raise the cluster's, if it leads and all nodes know a higher one.
async fn wanted(store: &dyn Store, shared: &Shared) -> Result<Option<u32>, StoreError> {
    let level = of_cluster(store).await?;
    let before = shared.cluster_level.swap(level, Ordering::Relaxed);
    if before != level {
        info!(level, "the cluster uses another feature level");
    }
    if *shared.phase.borrow() != Phase::Leading || shared.known_level <= level {
        return Ok(None);
    }
    let members = store.members().await?;
    let known = members.iter().map(|member| member.level).min().unwrap_or(0);
    Ok(Some(known.min(shared.known_level)).filter(|known| *known > level))
}
