//! What a node knows of the others, and the hand-over of leadership.

use std::time::Duration;

use rota_store::{Seat, watch};
use tokio::time::{Instant, sleep};

use crate::{
    api::{ClusterView, EngineError, Role},
    engine::{Engine, Inner},
    hand_over,
    request::Request,
    shared::Phase,
};

/// A node that just handed over is there again within this time.
const COMES_BACK: Duration = Duration::from_millis(500);

/// Tells when a node's role may have changed.
#[derive(Debug)]
pub struct RoleChanges {
    phase: watch::Receiver<Phase>,
    leader: watch::Receiver<Option<Seat>>,
}

impl RoleChanges {
    /// Resolves at the next change after the last call, or after this value was made. Cancel safe.
    pub async fn changed(&mut self) {
        // An error means that the engine or the store is gone; then nothing changes any more.
        let gone = tokio::select! {
            biased;
            changed = self.phase.changed() => changed.is_err(),
            changed = self.leader.changed() => changed.is_err(),
        };
        if gone {
            std::future::pending::<()>().await;
        }
    }
}

impl Engine {
    /// Whether this node has an address for others, so that it may have peers.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        self.address().is_some()
    }

    /// Where other nodes reach this one.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.inner.options.address.as_deref()
    }

    /// What this node does now.
    #[must_use]
    pub fn role(&self) -> Role {
        self.inner.shared.role()
    }

    /// Tells of changes of [`Engine::role`]. Take it before asking for the role, so that no change
    /// in between is missed.
    #[must_use]
    pub fn role_changes(&self) -> RoleChanges {
        let shared = &self.inner.shared;
        let mut phase = shared.phase.subscribe();
        let mut leader = shared.leader.clone();
        phase.mark_unchanged();
        leader.mark_unchanged();
        RoleChanges { phase, leader }
    }

    /// All nodes, as the store tells; none while it does not, and then it is said of the store, and who
    /// leads is not known.
    pub async fn cluster(&self) -> ClusterView {
        let leader = self.inner.shared.known_leader();
        let (members, mut store) =
            tokio::join!(self.inner.store.members(), self.inner.store.status());
        if let Err(error) = &members {
            store.problem.get_or_insert_with(|| error.to_string());
        }
        ClusterView { leader, members: members.unwrap_or_default(), store }
    }

    /// Has this node hand its leadership to another, and says to which. What it was asked before is
    /// done before.
    ///
    /// # Errors
    /// [`EngineError::NoSuccessor`]: no such node is there. [`EngineError::NotLeader`].
    pub async fn transfer(&self, to: Option<&str>) -> Result<String, EngineError> {
        if self.role() != Role::Leader {
            return Err(EngineError::NotLeader);
        }
        let deadline = Instant::now() + COMES_BACK;
        let successor = loop {
            if let Some(found) = self.successor(to).await? {
                break found;
            }
            if Instant::now() >= deadline {
                return Err(EngineError::NoSuccessor { named: to.map(str::to_owned) });
            }
            sleep(COMES_BACK / 10).await;
        };
        let Inner { store, shared, inbox, options, .. } = self.inner.as_ref();
        // One that is not ready takes over as after a crash.
        let _ = hand_over::prepare(store, shared, inbox, &options.node, Some(&successor)).await;
        let named = Some(successor.clone());
        self.ask(|answer| Request::Resign { successor: named, answer }).await?;
        Ok(successor)
    }

    /// Another node: that of this name, or any.
    async fn successor(&self, to: Option<&str>) -> Result<Option<String>, EngineError> {
        let own = &self.inner.options.node;
        let members = self.inner.store.members().await?;
        let mut others = members.into_iter().map(|member| member.name).filter(|name| name != own);
        Ok(match to {
            Some(name) => others.find(|other| other == name),
            None => others.next(),
        })
    }
}
