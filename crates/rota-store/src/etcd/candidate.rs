//! The steps of a campaign in etcd. Each round has a lease of its own, on which the node's entry and the key of the
//! leader depend. [`remote::election`](crate::remote::election) puts them together.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    Shared,
    fault::Fault,
    layout,
    lease::Lease,
    registration,
    seat::{self, Try},
    upkeep,
};
use crate::{
    model::{Epoch, Member},
    remote::{
        background::Background,
        election::{Candidate, Remote, becomes},
        moment::Moment,
    },
    store::StoreError,
    watch,
};

/// Time that other candidates wait for a named successor.
const DEFERENCE: Duration = Duration::from_secs(2);

impl Remote for Shared {
    fn background(&self) -> &Background {
        &self.background
    }

    fn check_open(&self) -> Result<(), StoreError> {
        self.check_open()
    }

    fn end(&self, epoch: Epoch) {
        self.end(epoch);
    }
}

/// See the module.
pub(super) struct EtcdCandidate {
    pub(super) shared: Arc<Shared>,
    pub(super) me: Member,
}

impl Candidate for EtcdCandidate {
    type Store = Shared;
    type Fault = Fault;
    type Hold = Lease;
    type Taken = Epoch;

    fn store(&self) -> &Shared {
        &self.shared
    }

    fn me(&self) -> &Member {
        &self.me
    }

    fn reason(fault: &Fault) -> String {
        fault.reason()
    }

    fn hopeless(&self, fault: &Fault) -> Option<StoreError> {
        matches!(fault, Fault::Namesake(_)).then(|| StoreError::from(fault.clone()))
    }

    async fn hold(&self) -> Result<Lease, Fault> {
        Lease::grant(&self.shared).await
    }

    async fn keep(&self, lease: &Lease) -> Fault {
        lease.keep().await
    }

    fn until(&self, lease: &Lease) -> watch::Receiver<Moment> {
        lease.until()
    }

    async fn enter(&self, lease: &Lease) -> Result<(), Fault> {
        registration::enter(&self.shared, &self.me, lease.id).await
    }

    async fn stay(&self, lease: &Lease, _: Option<Epoch>) -> Fault {
        match registration::stay(&self.shared, &self.me, lease.id).await {}
    }

    async fn compete(&self, lease: &Lease) -> Result<Epoch, Fault> {
        let mut seen = self.shared.seen.subscribe();
        // The revision of a named successor for which we no longer wait.
        let mut ignored = 0;
        let mut deferring: Option<(i64, Instant)> = None;
        loop {
            let tried = match seat::take(&self.shared, &self.me, lease.id, ignored).await {
                // A full etcd does not allow taking the seat, but the campaign continues, because it would
                // not get another lease.
                Err(Fault::Full(_)) => {
                    sleep(self.shared.options.leader_ttl).await;
                    continue;
                }
                tried => tried?,
            };
            match tried {
                Try::Taken(epoch) => return Ok(epoch),
                Try::Occupied { revision } => {
                    let free =
                        seen.wait_for(|seen| seen.revision > revision && seen.seat.is_none());
                    // Retries after a while even without a notification, at the cost of one read.
                    let _ = timeout(self.shared.options.leader_ttl, free).await;
                }
                Try::Promised { to, named, .. } if to == self.me.name => ignored = named,
                Try::Promised { named, revision, .. } => {
                    let since = match deferring {
                        Some((known, since)) if known == named => since,
                        _ => Instant::now(),
                    };
                    deferring = Some((named, since));
                    let taken =
                        seen.wait_for(|seen| seen.revision > revision && seen.seat.is_some());
                    let over = since + DEFERENCE;
                    tokio::select! {
                        biased;
                        _ = taken => {}
                        // A leadership that begins and ends at once may go unseen, so it looks again meanwhile.
                        () = sleep_until(over.min(Instant::now() + DEFERENCE / 4)) => {}
                    }
                    if Instant::now() >= over {
                        ignored = named;
                    }
                }
                Try::Changed => ignored = 0,
            }
        }
    }

    fn epoch(epoch: &Epoch) -> Epoch {
        *epoch
    }

    fn begin(&self, _: &Lease, epoch: &Epoch) {
        self.shared.saw_epoch(*epoch);
    }

    async fn deposed(&self, epoch: &Epoch) {
        let ours = layout::signed(epoch.0);
        let replaced = becomes(self.shared.seen.subscribe(), |seen| {
            seen.revision > ours && seen.seat.as_ref().is_none_or(|seat| seat.epoch != *epoch)
        });
        tokio::select! {
            biased;
            () = replaced => {}
            () = becomes(self.shared.abandoned.subscribe(), |newest| newest >= epoch) => {}
        }
    }

    async fn maintain(&self, _: &Epoch) {
        match upkeep::run(&self.shared).await {}
    }

    async fn give_up(
        &self,
        _: &Lease,
        epoch: &Epoch,
        successor: Option<&str>,
    ) -> Result<(), Fault> {
        seat::give_up(&self.shared, *epoch, successor).await
    }

    async fn let_go(&self, lease: Lease) {
        lease.revoke().await;
    }
}
