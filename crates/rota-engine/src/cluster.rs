//! What a node knows of the others, and the hand-over of leadership.

use rota_store::Seat;
use tokio::sync::watch;

use crate::{
    api::{ClusterView, EngineError, Role},
    engine::Engine,
    request::Request,
    shared::Phase,
};

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
            changed = self.phase.changed() => changed.is_err(),
            changed = self.leader.changed() => changed.is_err(),
        };
        if gone {
            std::future::pending::<()>().await;
        }
    }
}

impl Engine {
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

    /// All nodes, as the store tells.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn cluster(&self) -> Result<ClusterView, EngineError> {
        let members = self.inner.store.members().await?;
        let leader = self.inner.shared.leader.borrow().clone();
        Ok(ClusterView { leader, members, store: self.inner.store.status().await })
    }

    /// Has this node hand its leadership to another, and says to which. What it was asked before is
    /// done before.
    ///
    /// # Errors
    /// [`EngineError::NoSuccessor`]: no such node is there. [`EngineError::NotLeader`].
    pub async fn transfer(&self, to: Option<&str>) -> Result<String, EngineError> {
        let own = &self.inner.options.node;
        let members = self.inner.store.members().await?;
        let mut others = members.into_iter().map(|member| member.name).filter(|name| name != own);
        let successor = match to {
            Some(name) => others.find(|other| other == name),
            None => others.next(),
        };
        let Some(successor) = successor else {
            return Err(EngineError::NoSuccessor { named: to.map(str::to_owned) });
        };
        let named = Some(successor.clone());
        self.ask(|answer| Request::Resign { successor: named, answer }).await?;
        Ok(successor)
    }
}
