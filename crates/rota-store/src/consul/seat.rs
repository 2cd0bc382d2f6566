//! The transactions by which nodes join, take the leader's seat and give it up.
//!
//! The leader's key is held by a session and goes with it. The index at which it was set is the fence of all
//! writes: a key that is set again has another index. The epoch is counted apart, so that it also grows where
//! Consul's indexes do not, such as after keys were exported and imported.

use super::{
    Shared,
    fault::Fault,
    layout,
    link::Effect,
    replica,
    txn::{self, Entry, Operation, Outcome},
};
use crate::model::{Epoch, Member};

/// What came of trying to take the seat.
pub(super) enum Try {
    /// It is ours.
    Taken(Taken),
    /// Another has it.
    Occupied,
    /// It is free, but a successor is named.
    Promised {
        /// Who is to go first.
        to: String,
        /// The index at which it was named.
        named: u64,
    },
    /// It is free, but something has changed meanwhile: try again.
    Changed,
}

/// A seat that was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) epoch: Epoch,
    /// The index at which it was. What is seen of the leader's key from then on is newer.
    pub(super) index: u64,
}

/// What came of entering a node among the members.
pub(super) enum Join {
    /// It is there, with its session.
    Entered,
    /// The same, in the place of a former process at its address, which had this session.
    Replaced(String),
    /// Another session holds the name.
    Taken {
        /// The node that entered with it.
        member: Member,
        /// That session.
        session: String,
    },
}

/// Each of these transactions can be done twice: the second time a condition fails, and what is there shows what the
/// first one did.
async fn perform(shared: &Shared, operations: &[Operation]) -> Result<Outcome, Fault> {
    txn::perform(&shared.control, operations, Effect::Harmless).await
}

/// Lets this node be seen among the members as `me` says, unless its name is taken.
pub(super) async fn join(shared: &Shared, me: &Member, session: &str) -> Result<Join, Fault> {
    let key = shared.layout.node(&me.name);
    let value = layout::encode_member(me, None);
    let entry = Operation::lock(&key, &value, session);
    loop {
        if let Outcome::Done(_) = perform(shared, std::slice::from_ref(&entry)).await? {
            return Ok(Join::Entered);
        }
        let found = txn::read(&shared.control, &[Operation::get_tree(&key)]).await?;
        let Some(other) = found.key(&key) else { continue };
        let Some(holder) = other.session.clone().filter(|holder| holder != session) else {
            continue;
        };
        let member = layout::decode_member(&other.value()?);
        // Nobody else can serve at this node's address: a former process of it wrote the entry.
        if member.address.is_none() || member.address != me.address {
            return Ok(Join::Taken { member, session: holder });
        }
        let replace = [
            Operation::unchanged(&key, other.modify_index),
            Operation::delete(&key),
            entry.clone(),
        ];
        if let Outcome::Done(_) = perform(shared, &replace).await? {
            return Ok(Join::Replaced(holder));
        }
    }
}

/// Tries to take the seat, past a successor who was named at the index `ignored` (0 for none).
pub(super) async fn take(
    shared: &Shared,
    me: &Member,
    session: &str,
    ignored: u64,
) -> Result<Try, Fault> {
    let layout = &shared.layout;
    let keys = [&layout.leader, &layout.epoch, &layout.successor, &layout.head];
    let found = txn::read(&shared.control, &keys.map(|key| Operation::get_tree(key))).await?;
    if let Some(leader) = found.key(&layout.leader).filter(|leader| leader.session.is_some()) {
        // By an earlier attempt whose answer did not arrive.
        return Ok(if leader.session.as_deref() == Some(session) {
            let epoch = layout::decode_seat(&leader.value()?).epoch;
            Try::Taken(Taken { epoch, index: leader.modify_index })
        } else {
            Try::Occupied
        });
    }
    let successor = found.key(&layout.successor);
    let named = successor.map_or(0, |successor| successor.modify_index);
    if let Some(successor) = successor.filter(|_| named != ignored) {
        let to = String::from_utf8_lossy(&successor.value()?).into_owned();
        return Ok(Try::Promised { to, named });
    }
    // Not below that of the head, should the count have been lost.
    let head = replica::decode_tip(found.key(&layout.head))?;
    let counted = found.key(&layout.epoch);
    let epoch = Epoch(counted.map_or(Ok(0), epoch)?.max(head.epoch) + 1);
    let index = |entry: Option<&Entry>| entry.map_or(0, |entry| entry.modify_index);
    let mut operations = vec![
        Operation::unchanged(&layout.leader, index(found.key(&layout.leader))),
        Operation::cas(&layout.epoch, epoch.0.to_string().as_bytes(), index(counted)),
        Operation::unchanged(&layout.successor, named),
    ];
    if named > 0 {
        operations.push(Operation::delete(&layout.successor));
    }
    let value = layout::encode_member(me, Some(epoch));
    operations.push(Operation::lock(&layout.leader, &value, session));
    Ok(match perform(shared, &operations).await? {
        Outcome::Done(done) => Try::Taken(Taken { epoch, index: index(done.key(&layout.leader)) }),
        Outcome::Refused(_) => Try::Changed,
    })
}

fn epoch(counted: &Entry) -> Result<u64, Fault> {
    let text = counted.value()?;
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
    let said = || String::from_utf8_lossy(&text).into_owned();
    number.ok_or_else(|| Fault::Corrupt(format!("the epoch says `{}`", said())))
}

/// Gives the seat up. A successor is named only if it is there to hear of it.
pub(super) async fn give_up(
    shared: &Shared,
    session: &str,
    successor: Option<&str>,
) -> Result<(), Fault> {
    let layout = &shared.layout;
    let found = txn::read(&shared.control, &[Operation::get_tree(&layout.leader)]).await?;
    let leader = found.key(&layout.leader);
    let Some(leader) = leader.filter(|leader| leader.session.as_deref() == Some(session)) else {
        // Not ours any more, which is just as well.
        return Ok(());
    };
    let vacate = [
        Operation::unchanged(&layout.leader, leader.modify_index),
        Operation::delete(&layout.leader),
    ];
    if let Some(name) = successor {
        let named = [
            Operation::get(&layout.node(name)),
            Operation::set(&layout.successor, name.as_bytes()),
        ];
        let operations = [&named[..], &vacate[..]].concat();
        if let Outcome::Done(_) = perform(shared, &operations).await? {
            return Ok(());
        }
    }
    perform(shared, &vacate).await.map(drop)
}
