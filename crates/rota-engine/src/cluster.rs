//! Information about other nodes, and transfer of leadership.

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

/// Time within which a node that just transferred leadership is present again.
const COMES_BACK: Duration = Duration::from_millis(500);

/// Notifies of possible changes of a node's role.
#[derive(Debug)]
pub struct RoleChanges {
    phase: watch::Receiver<Phase>,
    leader: watch::Receiver<Option<Seat>>,
}

impl RoleChanges {
    /// Resolves at the next change after the last call, or after the creation of this value. Cancel safe.
    pub async fn changed(&mut self) {
        // An error means that the engine or the store is gone, so there will be no more changes.
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
    /// Whether this node has an address for other nodes, so that it can have peers.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        self.address().is_some()
    }

    /// The address at which other nodes reach this one.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.inner.options.address.as_deref()
    }

    /// The current role of this node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.inner.shared.role()
    }

    /// Notifies of changes of [`Engine::role`]. Create it before reading the role, so that no change in
    /// between is missed.
    #[must_use]
    pub fn role_changes(&self) -> RoleChanges {
        let shared = &self.inner.shared;
        let mut phase = shared.phase.subscribe();
        let mut leader = shared.leader.clone();
        phase.mark_unchanged();
        leader.mark_unchanged();
        RoleChanges { phase, leader }
    }

    /// All nodes, from the store. If the store does not answer, the list is empty, the leader is unknown, and
    /// the state of the store has the problem.
    pub async fn cluster(&self) -> ClusterView {
        let leader = self.inner.shared.known_leader();
        let (members, mut store) =
            tokio::join!(self.inner.store.members(), self.inner.store.status());
        if let Err(error) = &members {
            store.problem.get_or_insert_with(|| error.to_string());
        }
        ClusterView { leader, members: members.unwrap_or_default(), store }
    }

    /// Transfers the leadership of this node to another, and returns which one. Earlier requests are
    /// completed first.
    ///
    /// # Errors
    /// [`EngineError::NoSuccessor`] if there is no such node. [`EngineError::NotLeader`].
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
        // An unprepared node takes over as after a crash.
        let _ = hand_over::prepare(store, shared, inbox, &options.node, Some(&successor)).await;
        let named = Some(successor.clone());
        self.ask(|answer| Request::Resign { successor: named, answer }).await?;
        Ok(successor)
    }

    /// Another node: the one with this name, or any.
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
