//! The transactions by which nodes join, take the leader's seat, and give it up.

use super::{
    Shared,
    fault::Fault,
    layout::{self, FORMAT},
    link::{Client, Effect},
    wire::{self, KeyValue, TxnRequest, TxnResponse},
};
use crate::model::{Epoch, Member};

/// The result of trying to take the seat.
pub(super) enum Try {
    /// Taken, with this epoch.
    Taken(Epoch),
    /// Another node has it, at this revision.
    Occupied {
        /// The revision of this result.
        revision: i64,
    },
    /// It is free, but a successor is named.
    Promised {
        /// The named successor.
        to: String,
        /// The revision at which the successor was named.
        named: i64,
        /// The revision of this result.
        revision: i64,
    },
    /// It is free, but the successor has changed meanwhile. Retry.
    Changed,
}

/// The result of registering a node.
pub(super) enum Join {
    /// Registered, with its lease.
    Entered,
    /// Registered in the place of a former process at its address, which had this lease.
    Replaced(i64),
    /// Another lease holds the name.
    Taken {
        /// The node of that lease.
        member: Member,
        lease: i64,
    },
}

/// Registers this node as `me`, unless its name is taken. The first node writes the format.
pub(super) async fn join(shared: &Shared, me: &Member, lease: i64) -> Result<Join, Fault> {
    let layout = &shared.layout;
    let node = layout.node(&me.name);
    let value = layout::encode_member(me);
    let entry = wire::put(&node, value.clone(), lease);
    let format = FORMAT.to_string();
    // The known state. Nothing is known at first.
    let mut known: [Option<KeyValue>; 2] = [None, None];
    let mut former = None;
    loop {
        let revision = |key: &Option<KeyValue>| key.as_ref().map_or(0, |key| key.mod_revision);
        let mut operations = vec![entry.clone()];
        if known[0].is_none() {
            operations.push(wire::put(&layout.format, format.clone(), 0));
        }
        let transaction = TxnRequest {
            compare: vec![
                wire::changed_at(&layout.format, revision(&known[0])),
                wire::changed_at(&node, revision(&known[1])),
            ],
            success: operations,
            failure: vec![wire::get(&layout.format, 0), wire::get(&node, 0)],
        };
        let answer = transact(shared, transaction).await?;
        if answer.succeeded {
            return Ok(former.map_or(Join::Entered, Join::Replaced));
        }
        known = keys(answer);
        former = None;
        if let Some(found) = known[0].as_ref().filter(|key| key.value != format.as_bytes()) {
            shared.check_format(&found.value);
            let found = String::from_utf8_lossy(&found.value);
            return Err(Fault::Invalid(format!("format {found}")));
        }
        match &known[1] {
            Some(key) if key.lease == lease && key.value == value => return Ok(Join::Entered),
            // An entry without a lease belongs to no node. An entry with this lease is an earlier one of this
            // node.
            Some(key) if key.lease != 0 && key.lease != lease => {
                let member = layout::decode_member(&key.value);
                // An entry with the same address is from a former process of this node.
                if member.address.is_none() || member.address != me.address {
                    return Ok(Join::Taken { member, lease: key.lease });
                }
                former = Some(key.lease);
            }
            _ => {}
        }
    }
}

/// Tries to take the seat. Ignores a successor that was named at the revision `ignored` (0 for none).
pub(super) async fn take(
    shared: &Shared,
    me: &Member,
    lease: i64,
    ignored: i64,
) -> Result<Try, Fault> {
    let layout = &shared.layout;
    let mut operations = vec![wire::put(&layout.leader, layout::encode_member(me), lease)];
    if ignored > 0 {
        operations.push(wire::delete(&layout.successor));
    }
    let transaction = TxnRequest {
        compare: vec![
            wire::created_at(&layout.leader, 0),
            wire::changed_at(&layout.successor, ignored),
        ],
        success: operations,
        failure: vec![wire::get(&layout.leader, 0), wire::get(&layout.successor, 0)],
    };
    let answer = transact(shared, transaction).await?;
    let revision = wire::revision(answer.header.as_ref());
    let epoch = |created| Epoch(layout::unsigned(created));
    if answer.succeeded {
        return Ok(Try::Taken(epoch(revision)));
    }
    Ok(match keys(answer) {
        // By an earlier attempt whose answer was lost.
        [Some(leader), _] if leader.lease == lease => Try::Taken(epoch(leader.create_revision)),
        [Some(_), _] => Try::Occupied { revision },
        [None, Some(successor)] if successor.mod_revision != ignored => Try::Promised {
            to: String::from_utf8_lossy(&successor.value).into_owned(),
            named: successor.mod_revision,
            revision,
        },
        [None, _] => Try::Changed,
    })
}

/// Gives up the seat. Names a successor only if it is present.
pub(super) async fn give_up(
    shared: &Shared,
    epoch: Epoch,
    successor: Option<&str>,
) -> Result<(), Fault> {
    let layout = &shared.layout;
    let ours = wire::created_at(&layout.leader, layout::signed(epoch.0));
    let vacate = wire::delete(&layout.leader);
    if let Some(name) = successor {
        let there = wire::exists(&layout.node(name));
        let named = wire::put(&layout.successor, name.to_owned(), 0);
        let transaction = TxnRequest {
            compare: vec![ours.clone(), there],
            success: vec![named, vacate.clone()],
            failure: Vec::new(),
        };
        if transact(shared, transaction).await?.succeeded {
            return Ok(());
        }
    }
    // If this node no longer has the seat, there is nothing to do.
    let transaction =
        TxnRequest { compare: vec![ours], success: vec![vacate], failure: Vec::new() };
    transact(shared, transaction).await.map(drop)
}

/// Each of these transactions can be repeated: the second time its condition fails, and the state shows the
/// effect of the first.
async fn transact(shared: &Shared, transaction: TxnRequest) -> Result<TxnResponse, Fault> {
    let request = |client: Client| {
        let transaction = transaction.clone();
        async move { client.kv().txn(transaction).await }
    };
    shared.control.call(Effect::Harmless, request).await
}

/// The values that were read, in the order of the keys.
fn keys<const N: usize>(answer: TxnResponse) -> [Option<KeyValue>; N] {
    let mut keys = wire::found(answer);
    std::array::from_fn(|_| keys.next().flatten())
}
