//! The transactions by which nodes join, take the leader's seat and give it up.

use super::{
    Shared,
    fault::Fault,
    layout::{self, FORMAT},
    link::{Client, Effect},
    wire::{self, KeyValue, TxnRequest, TxnResponse},
};
use crate::model::{Epoch, Member};

/// What came of trying to take the seat.
pub(super) enum Try {
    /// It is ours, with that epoch.
    Taken(Epoch),
    /// Another has it, at that revision.
    Occupied {
        /// When this was so.
        revision: i64,
    },
    /// It is free, but a successor is named.
    Promised {
        /// Who is to go first.
        to: String,
        /// The revision at which it was named.
        named: i64,
        /// When this was so.
        revision: i64,
    },
    /// It is free, but who is to go first has changed meanwhile: try again.
    Changed,
}

/// What came of entering a node among the members.
pub(super) enum Join {
    /// It is there, with its lease.
    Entered,
    /// Another lease holds the name.
    Taken {
        /// The node that entered with it.
        member: Member,
        /// That lease.
        lease: i64,
    },
}

/// Lets this node be seen among the members as `me` says, unless its name is taken; the first one to come
/// writes the format.
pub(super) async fn join(shared: &Shared, me: &Member, lease: i64) -> Result<Join, Fault> {
    let layout = &shared.layout;
    let node = layout.node(&me.name);
    let value = layout::encode_member(me);
    let entry = wire::put(&node, value.clone(), lease);
    let format = FORMAT.to_string();
    // What is there, as far as is known: nothing at first.
    let mut known: [Option<KeyValue>; 2] = [None, None];
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
            return Ok(Join::Entered);
        }
        known = keys(answer);
        if let Some(found) = known[0].as_ref().filter(|key| key.value != format.as_bytes()) {
            shared.check_format(&found.value);
            let found = String::from_utf8_lossy(&found.value);
            return Err(Fault::Invalid(format!("format {found}")));
        }
        match &known[1] {
            Some(key) if key.lease == lease && key.value == value => return Ok(Join::Entered),
            // An entry without a lease is no node's; one with this lease says what this node said before.
            Some(key) if key.lease != 0 && key.lease != lease => {
                let member = layout::decode_member(&key.value);
                // Nobody else can serve at this node's address: a former process of it wrote the entry.
                if member.address.is_none() || member.address != me.address {
                    return Ok(Join::Taken { member, lease: key.lease });
                }
            }
            _ => {}
        }
    }
}

/// Tries to take the seat, past a successor who was named at the revision `ignored` (0 for none).
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
        // By an earlier attempt whose answer did not arrive.
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

/// Gives the seat up. A successor is named only if it is there to hear of it.
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
    // Where the seat is not ours any more, that is just as well.
    let transaction =
        TxnRequest { compare: vec![ours], success: vec![vacate], failure: Vec::new() };
    transact(shared, transaction).await.map(drop)
}

/// Each of these transactions can be done twice: the second time its condition fails, and what is
/// there shows what the first one did.
async fn transact(shared: &Shared, transaction: TxnRequest) -> Result<TxnResponse, Fault> {
    let request = |client: Client| {
        let transaction = transaction.clone();
        async move { client.kv().txn(transaction).await }
    };
    shared.control.call(Effect::Harmless, request).await
}

/// What was read, one key for each question.
fn keys<const N: usize>(answer: TxnResponse) -> [Option<KeyValue>; N] {
    let mut keys = wire::found(answer);
    std::array::from_fn(|_| keys.next().flatten())
}
