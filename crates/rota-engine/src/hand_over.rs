//! Preparation of a transfer: before a leader gives up leadership, it lets the next leader build its machine,
//! so that the next one leads at once.
//!
//! The request goes through the store, in a batch that the other node follows. The answer is an announcement
//! of that node among the members. Meanwhile this node leads as before, so a node that does not answer costs
//! only the timeout.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rota_store::{Epoch, Store};
use tokio::time::{interval, timeout};
use tracing::{debug, info};

use crate::{
    inbox::InboxSender,
    request::{Answer, Request},
    shared::Shared,
};

/// Time that a leader waits until another node is ready. A million tasks take about a second.
const WAIT: Duration = Duration::from_secs(3);
/// Interval of checks whether it is ready.
const LOOK: Duration = Duration::from_millis(10);

/// Lets the node `to`, or any other, prepare to take over. Returns the node that is ready.
pub(crate) async fn prepare(
    store: &Arc<dyn Store>,
    shared: &Shared,
    inbox: &InboxSender,
    own: &str,
    to: Option<&str>,
) -> Option<String> {
    let ready = timeout(WAIT, try_to_prepare(store, shared, inbox, own, to)).await;
    if ready.is_err() {
        info!(
            "no other node was ready in time; the next leader loads the backlog after this one has stopped"
        );
    }
    ready.ok().flatten()
}

async fn try_to_prepare(
    store: &Arc<dyn Store>,
    shared: &Shared,
    inbox: &InboxSender,
    own: &str,
    to: Option<&str>,
) -> Option<String> {
    let level = shared.cluster_level.load(Ordering::Relaxed);
    let members = store.members().await.ok()?;
    let successor = members.into_iter().find(|member| {
        let meant = to.is_none_or(|to| to == member.name);
        meant && member.name != own && member.level >= level
    });
    let successor = successor?.name;
    let (answer, asked) = Answer::new(None);
    let request = Request::Prepare { successor: successor.clone(), answer };
    inbox.send(request, shared.host.now().mono, WAIT).await.ok()?;
    asked.await.ok()?.ok()?;
    let epoch = Epoch(shared.epoch.load(Ordering::Relaxed));
    let mut look = interval(LOOK);
    loop {
        look.tick().await;
        let members = store.members().await.ok()?;
        let ready = members.iter().find(|member| member.name == successor)?.ready_for;
        if ready == epoch {
            debug!(successor, "node ready to take over");
            return Some(successor);
        }
    }
}
