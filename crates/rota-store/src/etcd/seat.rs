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

/// Lets this node be seen among the members, with the first one to come writing the format.
pub(super) async fn join(shared: &Shared, me: &Member, lease: i64) -> Result<(), Fault> {
    let layout = &shared.layout;
    let me = wire::put(&layout.node(&me.name), layout::encode_member(me), lease);
    let format = FORMAT.to_string();
    let first = TxnRequest {
        compare: vec![wire::created_at(&layout.format, 0)],
        success: vec![wire::put(&layout.format, format.clone(), 0), me.clone()],
        failure: Vec::new(),
    };
    if transact(shared, first).await?.succeeded {
        return Ok(());
    }
    let joined = TxnRequest {
        compare: vec![wire::says(&layout.format, format)],
        success: vec![me],
        failure: vec![wire::get(&layout.format, 0)],
    };
    let joined = transact(shared, joined).await?;
    if joined.succeeded {
        return Ok(());
    }
    let [found] = keys(joined);
    let found = found.map(|key| key.value).unwrap_or_default();
    shared.check_format(&found);
    Err(Fault::Invalid(format!("format {}", String::from_utf8_lossy(&found))))
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
