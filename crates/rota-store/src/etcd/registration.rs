//! The entry of a node among the members: one node for each name, while its lease lasts.
//!
//! A name that another node uses is refused. Otherwise the second node would remove the entry of the first
//! one when it leaves. The entry of a crashed node stays until its lease expires. A node that restarts at the
//! same address replaces it at once, and revokes that lease, so that the seat of the leader is free too. Only its
//! first entry does so: if two nodes had the same address, which is a mistake, each would end the leadership of
//! the other again and again. At another address it waits, because a lease that is renewed meanwhile has a live
//! owner.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Shared,
    fault::Fault,
    lease,
    link::{Client, Effect},
    seat::{self, Join},
    wire::RangeRequest,
};
use crate::{model::Member, remote::backoff::Backoff};

/// Number of renewals of another node's lease that show that its owner is alive. A change of etcd's leader
/// restarts the time of each lease, which looks like one renewal.
const RENEWALS: u32 = 2;

/// Interval at which a node checks its entry.
const LOOK_MAX: Duration = Duration::from_secs(1);

pub(super) enum Never {}

/// Registers this node under its name. Waits while the lease of a former holder expires.
pub(super) async fn enter(shared: &Shared, me: &Member, lease: i64) -> Result<(), Fault> {
    let mut backoff = Backoff::default();
    let mut holder: Option<Holder> = None;
    loop {
        let (member, other) = match seat::join(shared, me, lease).await? {
            joined @ (Join::Entered | Join::Replaced(_)) => {
                let is_first = !shared.has_entered.swap(true, Ordering::Relaxed);
                if let Join::Replaced(former) = joined
                    && is_first
                {
                    end_former(shared, former).await;
                }
                return Ok(());
            }
            Join::Taken { member, lease } => (member, lease),
        };
        if let Some(left) = lease::time_left(shared, other).await? {
            let now = Instant::now();
            let known = holder.take().filter(|known| known.lease == other);
            let mut known = known.unwrap_or_else(|| Holder::new(other, now, left));
            known.observe_ttl(now, left);
            if known.renewals >= RENEWALS {
                return Err(Fault::Namesake(member));
            }
            holder = Some(known);
        }
        backoff.wait().await;
    }
}

/// Revokes the lease of this node's former process. If that fails, it expires by itself.
async fn end_former(shared: &Shared, former: i64) {
    match lease::revoke(shared, former).await {
        Ok(()) => tracing::info!("revoked the lease of the former process of this node"),
        Err(fault) => {
            tracing::debug!(reason = fault.reason(), "the lease of the former process expires");
        }
    }
}

/// Registers this node again whenever its entry is gone, and writes its announcements into the entry. Cancel
/// safe.
pub(super) async fn stay(shared: &Shared, me: &Member, lease: i64) -> Never {
    let mut ready = shared.ready.subscribe();
    let mut me = me.clone();
    let mut troubled = false;
    loop {
        let announced = tokio::select! {
            biased;
            // This cannot fail, because the sender is in `shared`.
            _ = ready.changed() => true,
            () = sleep((shared.options.leader_ttl / 4).min(LOOK_MAX)) => false,
        };
        if announced {
            let (name, leadership) = ready.borrow_and_update().clone();
            if name == me.name {
                me.ready_for = leadership;
                if let Err(fault) = seat::join(shared, &me, lease).await {
                    tracing::debug!(
                        reason = fault.reason(),
                        "cannot announce that this node is ready"
                    );
                }
            }
            continue;
        }
        let me = &me;
        let entered = match is_there(shared, me, lease).await {
            Ok(true) => Ok(Join::Entered),
            Ok(false) => seat::join(shared, me, lease).await.inspect(|joined| {
                if matches!(joined, Join::Entered | Join::Replaced(_)) {
                    tracing::warn!(
                        node = me.name,
                        "entry among the members was missing; registered again"
                    );
                }
            }),
            Err(fault) => Err(fault),
        };
        match entered {
            Ok(Join::Entered | Join::Replaced(_)) => troubled = false,
            Ok(Join::Taken { member, .. }) => {
                if !troubled {
                    let address = member.address.as_deref();
                    tracing::warn!(
                        node = me.name,
                        address,
                        "another node uses the name of this node"
                    );
                }
                troubled = true;
            }
            Err(fault) => {
                tracing::debug!(reason = fault.reason(), "cannot read the entry of this node");
            }
        }
    }
}

/// Whether the entry of this node exists with its lease.
async fn is_there(shared: &Shared, me: &Member, lease: i64) -> Result<bool, Fault> {
    let request = |client: Client| {
        let key = shared.layout.node(&me.name);
        let range = RangeRequest { key, ..RangeRequest::default() };
        async move { client.kv().range(range).await }
    };
    let found = shared.control.call(Effect::Harmless, request).await?;
    Ok(found.kvs.first().is_some_and(|entry| entry.lease == lease))
}

/// The holder of a name, by its lease.
struct Holder {
    lease: i64,
    /// Latest time at which the lease expires, unless it is renewed.
    expiry: Instant,
    renewals: u32,
}

impl Holder {
    fn new(lease: i64, now: Instant, left: Duration) -> Self {
        Self { lease, expiry: latest(now, left), renewals: 0 }
    }

    /// Notes that this much time is left to the lease.
    fn observe_ttl(&mut self, now: Instant, left: Duration) {
        if now + left > self.expiry {
            self.renewals += 1;
            self.expiry = latest(now, left);
        }
    }
}

/// etcd returns whole seconds, rounded down.
fn latest(now: Instant, left: Duration) -> Instant {
    now + left + Duration::from_secs(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What etcd tells of a lease of that many milliseconds.
    fn told(left: u64) -> Duration {
        Duration::from_secs(left / 1000)
    }

    #[test]
    fn a_lease_that_is_renewed_is_told_from_one_that_runs_out() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut running_out = Holder::new(1, begin, told(4900));
        for passed in (0..4900).step_by(100) {
            running_out.observe_ttl(at(passed), told(4900 - passed));
        }
        assert_eq!(running_out.renewals, 0);
        let mut kept = Holder::new(1, begin, told(4900));
        for passed in (0..3000).step_by(100) {
            kept.observe_ttl(at(passed), told(5000 - (100 + passed) % 1000));
        }
        assert!(kept.renewals >= RENEWALS, "{}", kept.renewals);
    }
}
