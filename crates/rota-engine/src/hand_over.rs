//! What a leader does before it lets go, so that the next one leads at once: it has that node make its machine
//! while it still leads itself.
//!
//! The question goes through the store, with a batch that the other node follows; the answer is what that node
//! announces among the members. A node that does not answer in time costs no more than that time, during which
//! this one leads as before.

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

/// A leader waits so long for another node to get ready. A million tasks take about a second.
const WAIT: Duration = Duration::from_secs(3);
/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(10);

/// Has the node named `to`, or any other where none is named, get ready to take over. Says which one is.
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
            "no other node got ready in time; the next leader takes the backlog up after this one"
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
            debug!(successor, "ready to take over");
            return Some(successor);
        }
    }
}
