//! Who leads, as seen from here: blocking queries for the leader's key, on every node for as long as the store
//! is open. They tell campaigns when the seat is free, leaders that they were replaced, and everyone
//! else whom to forward to.

use std::sync::Arc;

use super::{Shared, fault::Fault, layout, txn};
use crate::{model::Seat, remote::backoff::Backoff};

/// The leader's key at some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The index of that moment; 0 before anything is known.
    pub(super) index: u64,
    /// Who has the seat.
    pub(super) seat: Option<Seat>,
}

/// Observes until the store closes.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    let mut index = 0;
    loop {
        let followed = tokio::select! {
            biased;
            () = shared.background.stop.cancelled() => return,
            followed = follow(&shared, index) => followed,
        };
        match followed {
            Ok(next) => {
                index = next;
                backoff.reset();
            }
            Err(fault) => {
                tracing::debug!(reason = fault.reason(), "looks for the leader anew");
                index = 0;
                tokio::select! {
                    biased;
                    () = shared.background.stop.cancelled() => return,
                    () = backoff.wait() => {}
                }
            }
        }
    }
}

async fn follow(shared: &Shared, index: u64) -> Result<u64, Fault> {
    let (leader, next) = txn::follow(&shared.control, &shared.layout.leader, index).await?;
    let leader = leader.filter(|leader| leader.session.is_some());
    let seat = match leader {
        Some(leader) => Some(layout::decode_seat(&leader.value()?)),
        None => None,
    };
    if next != index || index == 0 {
        publish(shared, Seen { index: next, seat });
    }
    Ok(next)
}

/// Tells it to all who wait for it; time does not go back, even where an agent lags behind.
fn publish(shared: &Shared, seen: Seen) {
    if let Some(seat) = &seen.seat {
        if seat.epoch < shared.epoch() {
            return;
        }
        shared.saw_epoch(seat.epoch);
    }
    shared.leader.send_if_modified(|leader| {
        let changed = *leader != seen.seat;
        leader.clone_from(&seen.seat);
        changed
    });
    shared.seen.send_replace(seen);
}
