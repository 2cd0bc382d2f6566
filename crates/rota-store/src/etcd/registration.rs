//! A node's entry among the members: one node for each name, and for as long as its lease lasts.
//!
//! A name that another node holds is refused, or the second one would take the entry of the first
//! away when it leaves. The entry of a node that crashed stays until its lease expires. A node that comes
//! back at the same address replaces it at once; at another address it waits, since a lease that is
//! renewed meanwhile has an owner who lives.

use std::time::Duration;

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

/// So many renewals of another's lease show that its owner lives. A change of etcd's own leader gives
/// each lease its whole time anew, which looks like one.
const RENEWALS: u32 = 2;

/// How often a node looks whether its entry is still there.
const LOOK_MAX: Duration = Duration::from_secs(1);

pub(super) enum Never {}

/// Enters this node under its name. Waits while the lease of a former holder runs out.
pub(super) async fn enter(shared: &Shared, me: &Member, lease: i64) -> Result<(), Fault> {
    let mut backoff = Backoff::default();
    let mut holder: Option<Holder> = None;
    loop {
        let (member, other) = match seat::join(shared, me, lease).await? {
            Join::Entered => return Ok(()),
            Join::Taken { member, lease } => (member, lease),
        };
        if let Some(left) = lease::time_left(shared, other).await? {
            let now = Instant::now();
            let known = holder.take().filter(|known| known.lease == other);
            let mut known = known.unwrap_or_else(|| Holder::new(other, now, left));
            known.look(now, left);
            if known.renewals >= RENEWALS {
                return Err(Fault::Namesake(member));
            }
            holder = Some(known);
        }
        backoff.wait().await;
    }
}

/// Enters this node again whenever its entry is gone, and writes what it announces into its entry. Cancel safe.
pub(super) async fn stay(shared: &Shared, me: &Member, lease: i64) -> Never {
    let mut ready = shared.ready.subscribe();
    let mut me = me.clone();
    let mut troubled = false;
    loop {
        let announced = tokio::select! {
            biased;
            // An error cannot be: the sender is in `shared`.
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
                        "could not announce that this node is ready"
                    );
                }
            }
            continue;
        }
        let me = &me;
        let entered = match is_there(shared, me, lease).await {
            Ok(true) => Ok(Join::Entered),
            Ok(false) => seat::join(shared, me, lease).await.inspect(|joined| {
                if matches!(joined, Join::Entered) {
                    tracing::warn!(
                        node = me.name,
                        "entry among the members was gone; entered again"
                    );
                }
            }),
            Err(fault) => Err(fault),
        };
        match entered {
            Ok(Join::Entered) => troubled = false,
            Ok(Join::Taken { member, .. }) => {
                if !troubled {
                    let address = member.address.as_deref();
                    tracing::warn!(
                        node = me.name,
                        address,
                        "another node uses the name of this one"
                    );
                }
                troubled = true;
            }
            Err(fault) => {
                tracing::debug!(
                    reason = fault.reason(),
                    "could not look for the entry of this node"
                );
            }
        }
    }
}

/// Whether this node's entry is there, with its lease.
async fn is_there(shared: &Shared, me: &Member, lease: i64) -> Result<bool, Fault> {
    let request = |client: Client| {
        let key = shared.layout.node(&me.name);
        let range = RangeRequest { key, ..RangeRequest::default() };
        async move { client.kv().range(range).await }
    };
    let found = shared.control.call(Effect::Harmless, request).await?;
    Ok(found.kvs.first().is_some_and(|entry| entry.lease == lease))
}

/// Who holds a name, by its lease.
struct Holder {
    lease: i64,
    /// When the lease expires at the latest, unless it is renewed.
    expiry: Instant,
    renewals: u32,
}

impl Holder {
    fn new(lease: i64, now: Instant, left: Duration) -> Self {
        Self { lease, expiry: latest(now, left), renewals: 0 }
    }

    /// Looks again, with that much time left to the lease.
    fn look(&mut self, now: Instant, left: Duration) {
        if now + left > self.expiry {
            self.renewals += 1;
            self.expiry = latest(now, left);
        }
    }
}

/// etcd tells whole seconds, and leaves out the rest.
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
            running_out.look(at(passed), told(4900 - passed));
        }
        assert_eq!(running_out.renewals, 0);
        let mut kept = Holder::new(1, begin, told(4900));
        for passed in (0..3000).step_by(100) {
            kept.look(at(passed), told(5000 - (100 + passed) % 1000));
        }
        assert!(kept.renewals >= RENEWALS, "{}", kept.renewals);
    }
}
