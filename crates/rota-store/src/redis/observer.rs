//! Who leads, as seen from here: on every node for as long as the store is open. It tells campaigns when the seat is free,
//! leaders that they were replaced, and everyone else whom to forward to. With each look it finds out whether the store
//! still has what this process saw in it (`lineage.rs`).
//!
//! Redis tells nobody that a key expired. So the observer waits for the bell (a stream that gets an entry whenever the seat
//! is taken or given up), but no longer than the leader's key has left to live.

use std::{sync::Arc, time::Duration};

use redis::Value;

use super::{
    Shared, answer,
    connection::Connected,
    fault::Fault,
    layout,
    link::{Effect, Link},
    script::Script,
};
use crate::{
    model::{Epoch, Seat},
    remote::backoff::Backoff,
};

/// The longest wait for the bell.
const WAIT: Duration = Duration::from_secs(1);

/// How often the Sentinels are asked.
const SENTINELS: Duration = Duration::from_secs(1);

/// Observes until the store closes.
pub(super) async fn run(shared: Arc<Shared>) {
    let link = Link::new(&shared.server);
    let mut backoff = Backoff::default();
    loop {
        let observed = tokio::select! {
            biased;
            () = shared.background.stop.cancelled() => return,
            observed = observe(&shared, &link) => observed,
        };
        match observed {
            Ok(()) => backoff.reset(),
            Err(fault) => {
                tracing::debug!(reason = fault.reason(), "could not look for the leader");
                tokio::select! {
                    biased;
                    () = shared.background.stop.cancelled() => return,
                    () = backoff.wait() => {}
                }
            }
        }
    }
}

/// Looks once, then waits until it is worth looking again.
async fn observe(shared: &Shared, link: &Link) -> Result<(), Fault> {
    let server = &shared.server;
    let [epoch, node, left, format, last] =
        answer::exactly(link.call(Script::Observe, |_| {}).await?)?;
    server.check_format(&answer::text(format)?)?;
    let (epoch, left) = (answer::text(epoch)?, answer::time_left(left)?);
    let seat = match epoch.parse() {
        Ok(epoch) => {
            let member = layout::decode_member(&answer::text(node)?);
            server.saw_epoch(Epoch(epoch));
            Some(Seat { member, epoch: Epoch(epoch) })
        }
        Err(_) => None,
    };
    // Others may have written so much since a loss that the head does not show it.
    let connected = link.connected().await?;
    if let Err(fault) = server.compare(&connected, false).await {
        link.failed(&connected, &fault).await;
        return Err(fault);
    }
    let wait = if seat.is_some() { left.min(WAIT) + Duration::from_millis(2) } else { WAIT };
    publish(shared, seat);
    let last = answer::text(last)?;
    let bell = |_: &Connected| {
        let mut read = redis::cmd("XREAD");
        read.arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(1).max(1));
        read.arg("COUNT").arg(1).arg("STREAMS");
        read.arg([&server.layout.root, "seats"].concat()).arg(&last);
        read
    };
    let _: (Value, _) = link.request(wait + server.options.timeout, Effect::Harmless, bell).await?;
    Ok(())
}

/// Tells it to all who wait for it: each look, also when it finds what was known.
fn publish(shared: &Shared, seat: Option<Seat>) {
    shared.leader.send_if_modified(|leader| {
        let changed = *leader != seat;
        leader.clone_from(&seat);
        changed
    });
    shared.seen.send_replace(seat);
}

/// Asks the Sentinels again and again, so that a failover is noticed also where the former master still answers.
pub(super) async fn follow_sentinels(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            biased;
            () = shared.background.stop.cancelled() => return,
            () = tokio::time::sleep(SENTINELS) => {}
        }
        let found = tokio::select! {
            biased;
            () = shared.background.stop.cancelled() => return,
            found = shared.server.find() => found,
        };
        if let Err(fault) = found {
            tracing::debug!(reason = fault.reason(), "could not ask the Sentinels");
        }
    }
}
