//! A node's entry among the members: one node for each name, and for as long as its session lasts.
//!
//! A name that another node holds is refused, or the second one would take the entry of the first
//! away when it leaves. The entry of a node that crashed stays until its session expires. A node that comes
//! back at the same address replaces it at once, and ends that session, so that the seat of the leader is free too. Only
//! its first entry does so: of two nodes with one address, which is a mistake, each would end the other's leadership
//! again and again. At another address it waits, and asks meanwhile whether the holder
//! lives: it sets a challenge, which a holder who lives removes. (Consul tells nobody whether a session is
//! renewed.)

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::sleep;

use super::{
    Shared,
    fault::Fault,
    layout,
    link::Effect,
    seat::{self, Join},
    session,
    txn::{self, Operation, Outcome},
};
use crate::{model::Member, remote::backoff::Backoff, store::StoreError};

/// How often a node looks whether its entry is still there, and whether it is challenged.
const LOOK: Duration = Duration::from_secs(1);

pub(super) enum Never {}

/// Enters this node under its name. Waits while the session of a former holder runs out.
pub(super) async fn enter(shared: &Shared, me: &Member, session: &str) -> Result<(), Fault> {
    let mut backoff = Backoff::default();
    // The session that was challenged.
    let mut challenged: Option<String> = None;
    loop {
        let (member, other) = match seat::join(shared, me, session).await? {
            joined @ (Join::Entered | Join::Replaced(_)) => {
                let is_first = !shared.has_entered.swap(true, Ordering::Relaxed);
                if let Join::Replaced(former) = joined
                    && is_first
                {
                    end_former(shared, &former).await;
                }
                withdraw(shared, me, session).await?;
                return Ok(());
            }
            Join::Taken { member, session } => (member, session),
        };
        let key = shared.layout.challenge(&me.name);
        if challenged.as_ref() == Some(&other) {
            let found = txn::read(&shared.control, &[Operation::get_tree(&key)]).await?;
            if found.key(&key).is_none() {
                return Err(Fault::Namesake(member));
            }
        } else {
            let challenge = [Operation::lock(&key, other.as_bytes(), session)];
            let set = txn::perform(&shared.control, &challenge, Effect::Harmless).await?;
            // Refused while a third node asks the same.
            challenged = matches!(set, Outcome::Done(_)).then_some(other);
        }
        backoff.wait().await;
    }
}

/// Ends the session of this node's former process. Where that fails, it expires by itself.
async fn end_former(shared: &Shared, former: &str) {
    match session::destroy(&shared.control, former).await {
        Ok(()) => tracing::info!("ended the session of the former process of this node"),
        Err(fault) => {
            tracing::debug!(reason = fault.reason(), "the session of the former process expires");
        }
    }
}

/// Removes this node's own challenge, should there be one.
async fn withdraw(shared: &Shared, me: &Member, session: &str) -> Result<(), Fault> {
    let key = shared.layout.challenge(&me.name);
    let found = txn::read(&shared.control, &[Operation::get_tree(&key)]).await?;
    let ours = found.key(&key).filter(|held| held.session.as_deref() == Some(session));
    if let Some(ours) = ours {
        let remove = [Operation::unchanged(&key, ours.modify_index), Operation::delete(&key)];
        txn::perform(&shared.control, &remove, Effect::Harmless).await?;
    }
    Ok(())
}

/// Enters this node again whenever its entry is gone, answers challenges, and writes what it announces into
/// its entry. Cancel safe.
pub(super) async fn stay(shared: &Shared, me: &Member, session: &str) -> Never {
    let mut ready = shared.ready.subscribe();
    let mut me = me.clone();
    loop {
        let announced = tokio::select! {
            biased;
            // An error cannot be: the sender is in `shared`.
            _ = ready.changed() => true,
            () = sleep(LOOK) => false,
        };
        let done = if announced {
            let (name, leadership) = ready.borrow_and_update().clone();
            if name != me.name {
                continue;
            }
            me.ready_for = leadership;
            seat::join(shared, &me, session).await.map(drop)
        } else {
            look(shared, &me, session).await
        };
        if let Err(fault) = done {
            tracing::debug!(reason = fault.reason(), "could not see to the entry of this node");
        }
    }
}

async fn look(shared: &Shared, me: &Member, session: &str) -> Result<(), Fault> {
    let (node, challenge) = (shared.layout.node(&me.name), shared.layout.challenge(&me.name));
    let trees = [&node, &challenge].map(|key| Operation::get_tree(key));
    let found = txn::read(&shared.control, &trees).await?;
    let is_ours = found.key(&node).is_some_and(|entry| entry.session.as_deref() == Some(session));
    if !is_ours {
        match seat::join(shared, me, session).await? {
            Join::Entered | Join::Replaced(_) => {
                tracing::warn!(node = me.name, "entry among the members was gone; entered again");
            }
            Join::Taken { member, .. } => {
                let address = member.address.as_deref();
                tracing::warn!(node = me.name, address, "another node uses the name of this one");
            }
        }
        return Ok(());
    }
    if let Some(asked) =
        found.key(&challenge).filter(|asked| asked.session.as_deref() != Some(session))
    {
        let remove =
            [Operation::unchanged(&challenge, asked.modify_index), Operation::delete(&challenge)];
        txn::perform(&shared.control, &remove, Effect::Harmless).await?;
    }
    Ok(())
}

/// The nodes that campaign or lead now, by name.
pub(super) async fn members(shared: &Shared) -> Result<Vec<Member>, StoreError> {
    shared.check_open()?;
    let nodes = Operation::get_tree(&shared.layout.node(""));
    let found = txn::read(&shared.reads, &[nodes]).await?;
    let held = found.keys().into_iter().filter(|node| node.session.is_some());
    held.map(|node| Ok(layout::decode_member(&node.value()?))).collect()
}
