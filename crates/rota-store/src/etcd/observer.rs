//! Observes the leader: a watch on the leader's key, on every node while the store is open. It tells
//! campaigns when the seat is free, leaders that they were replaced, and other nodes where to forward
//! requests.

use std::sync::Arc;

use super::{
    Shared,
    fault::Fault,
    layout,
    link::{Client, Effect},
    subscription::Subscription,
    wire::{self, EventType, TxnRequest},
};
use crate::{
    model::{Epoch, Seat},
    remote::backoff::Backoff,
};

/// The leader's key at a revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The revision. 0 before anything is known.
    pub(super) revision: i64,
    /// The leader.
    pub(super) seat: Option<Seat>,
}

/// Observes until the store closes.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    loop {
        tokio::select! {
            biased;
            () = shared.background.stop.cancelled() => return,
            fault = observe(&shared, &mut backoff) => {
                tracing::debug!(reason = fault.reason(), "restarting the observation of the leader");
            }
        }
        tokio::select! {
            biased;
            () = shared.background.stop.cancelled() => return,
            () = backoff.wait() => {}
        }
    }
}

/// Reads the key, and then follows it until an error.
async fn observe(shared: &Shared, backoff: &mut Backoff) -> Fault {
    match follow(shared, backoff).await {
        Ok(never) => match never {},
        Err(fault) => fault,
    }
}

enum Never {}

async fn follow(shared: &Shared, backoff: &mut Backoff) -> Result<Never, Fault> {
    let from = read(shared).await? + 1;
    let key = shared.layout.leader.clone();
    let patience = shared.options.timeout;
    let mut events = Subscription::open(&shared.control, patience, key, None, from).await?;
    loop {
        let answer = events.next(&shared.control).await?;
        backoff.reset();
        for event in answer.events {
            let deleted = event.r#type() == EventType::Delete;
            let Some(key) = event.kv else { continue };
            let revision = key.mod_revision;
            let seat = (!deleted).then(|| seat(&key.value, key.create_revision));
            publish(shared, &Seen { revision, seat });
        }
    }
}

/// Reads the key and checks the format. Returns the revision of the read.
async fn read(shared: &Shared) -> Result<i64, Fault> {
    let layout = &shared.layout;
    let request = |client: Client| {
        let success = vec![wire::get(&layout.leader, 0), wire::get(&layout.format, 0)];
        let transaction = TxnRequest { success, ..TxnRequest::default() };
        async move { client.kv().txn(transaction).await }
    };
    let answer = shared.control.call(Effect::Harmless, request).await?;
    let revision = wire::revision(answer.header.as_ref());
    let mut keys = wire::found(answer);
    let leader = keys.next().flatten();
    if let Some(format) = keys.next().flatten() {
        shared.check_format(&format.value);
    }
    let seat = leader.map(|key| seat(&key.value, key.create_revision));
    publish(shared, &Seen { revision, seat });
    Ok(revision)
}

fn seat(value: &[u8], created: i64) -> Seat {
    Seat { member: layout::decode_member(value), epoch: Epoch(layout::unsigned(created)) }
}

/// Publishes the state. Ignores older revisions, which a lagging member of etcd can return.
fn publish(shared: &Shared, seen: &Seen) {
    shared.seen.send_if_modified(|last| {
        let newer = seen.revision > last.revision;
        if newer {
            if let Some(seat) = &seen.seat {
                shared.saw_epoch(seat.epoch);
            }
            shared.leader.send_if_modified(|leader| {
                let changed = *leader != seen.seat;
                leader.clone_from(&seen.seat);
                changed
            });
            *last = seen.clone();
        }
        newer
    });
}
