//! Campaigns and leaderships.
//!
//! A campaign is a task with its own lease. While it waits, its node is among the members. When the leader's
//! key is gone, it tries to create it, which only one node can. The task continues during the leadership, and
//! ends by revoking the lease, even if nobody waits for it any more. So a dropped campaign leaves no leader
//! behind.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Shared,
    fault::Fault,
    lease::Lease,
    registration,
    seat::{self, Try},
    upkeep,
};
use crate::{
    model::{Epoch, Fence, Member},
    remote::{backoff::Backoff, moment::Moment},
    store::{Leadership, StoreError},
};

/// Time that other candidates wait for a named successor.
const DEFERENCE: Duration = Duration::from_secs(2);

/// Timeout for giving up the seat. Then the lease must expire.
const RESIGNATION: Duration = Duration::from_secs(1);

/// Interval at which a leader checks whether its lease expired while the machine was suspended.
const LOOK: Duration = Duration::from_millis(500);

/// Where the result of a campaign goes.
type CampaignReply = oneshot::Sender<Result<EtcdLeadership, StoreError>>;

/// Waits for the seat. Cancel safe.
pub(super) async fn campaign(
    shared: &Arc<Shared>,
    me: &Member,
) -> Result<EtcdLeadership, StoreError> {
    shared.check_open()?;
    let (reply, answer) = oneshot::channel();
    let dropped = CancellationToken::new();
    let campaign =
        Campaign { shared: Arc::clone(shared), me: me.clone(), dropped: dropped.clone() };
    let guard = dropped.drop_guard();
    shared.spawn_control(campaign.run(reply));
    let leadership = answer.await.map_err(|_| shared.closed())??;
    // From here on the guard of the leadership is in charge.
    guard.disarm();
    Ok(leadership)
}

struct Campaign {
    shared: Arc<Shared>,
    me: Member,
    /// Cancelled when nobody waits for the result or holds the leadership any more.
    dropped: CancellationToken,
}

/// How the time of a lease ended.
enum CampaignRound {
    /// The campaign is finished.
    Over,
    /// The campaign begins again with another lease.
    Again(Fault),
}

impl Campaign {
    async fn run(self, reply: CampaignReply) {
        let mut reply = Some(reply);
        let mut backoff = Backoff::default();
        let mut warned = false;
        while let Some(lease) = self.unless_over(Lease::grant(&self.shared)).await {
            let fault = match lease {
                Ok(lease) => {
                    let end = self.with_lease(&lease, &mut reply).await;
                    lease.revoke().await;
                    match end {
                        CampaignRound::Over => return,
                        CampaignRound::Again(fault) => fault,
                    }
                }
                Err(fault) => fault,
            };
            let hopeless = match &fault {
                Fault::Namesake(_) => Err(StoreError::from(fault.clone())),
                _ => self.shared.check_open(),
            };
            if let Err(error) = hopeless {
                self.shared.note_trouble(Some(error.to_string()));
                if let Some(reply) = reply.take() {
                    let _ = reply.send(Err(error));
                }
                return;
            }
            if !warned {
                tracing::warn!(
                    node = self.me.name,
                    reason = fault.reason(),
                    "cannot campaign yet; retrying"
                );
                warned = true;
            }
            self.shared.note_trouble(Some(fault.reason()));
            if self.unless_over(backoff.wait()).await.is_none() {
                return;
            }
        }
    }

    /// Awaits it unless the store closes or nobody wants the result any more.
    async fn unless_over<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => None,
            () = self.dropped.cancelled() => None,
            value = future => Some(value),
        }
    }

    async fn with_lease(&self, lease: &Lease, reply: &mut Option<CampaignReply>) -> CampaignRound {
        let mut kept = pin!(lease.keep());
        let competing = async {
            registration::enter(&self.shared, &self.me, lease.id).await?;
            // Earlier problems are over.
            self.shared.note_trouble(None);
            tokio::select! {
                biased;
                won = self.compete(lease) => won,
                never = registration::stay(&self.shared, &self.me, lease.id) => match never {},
            }
        };
        let won = self
            .unless_over(async {
                tokio::select! {
                    biased;
                    fault = &mut kept => Err(fault),
                    won = competing => won,
                }
            })
            .await;
        match (won, reply.take()) {
            (Some(Ok(epoch)), Some(reply)) => {
                self.lead(epoch, lease, kept, reply).await;
                CampaignRound::Over
            }
            (Some(Err(fault)), waiting) => {
                *reply = waiting;
                CampaignRound::Again(fault)
            }
            _ => CampaignRound::Over,
        }
    }

    /// Waits until the seat is free, and takes it.
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
                    tokio::select! {
                        biased;
                        _ = taken => {}
                        () = sleep_until(since + DEFERENCE) => ignored = named,
                    }
                }
                Try::Changed => ignored = 0,
            }
        }
    }

    /// Leads until leadership is lost or given up.
    async fn lead(
        &self,
        epoch: Epoch,
        lease: &Lease,
        kept: Pin<&mut impl Future<Output = Fault>>,
        reply: CampaignReply,
    ) {
        let (resign, mut resignation) = oneshot::channel::<Resignation>();
        let (over, is_over) = watch::channel(false);
        self.shared.note_trouble(None);
        self.shared.saw_epoch(epoch);
        let leadership = EtcdLeadership {
            shared: Arc::clone(&self.shared),
            epoch,
            until: lease.until(),
            is_over,
            resign,
            _guard: self.dropped.clone().drop_guard(),
        };
        tracing::debug!(node = self.me.name, epoch = epoch.0, "leading");
        // If nobody takes the leadership, its guard ends this at once.
        let _ = reply.send(Ok(leadership));
        let ended = self
            .unless_over(async {
                tokio::select! {
                    biased;
                    asked = &mut resignation => asked.ok(),
                    _ = kept => None,
                    () = self.replaced(epoch) => None,
                    () = self.abandoned(epoch) => None,
                    never = upkeep::run(&self.shared) => match never {},
                    never = registration::stay(&self.shared, &self.me, lease.id) => match never {},
                }
            })
            .await;
        self.shared.end(epoch);
        over.send_replace(true);
        if let Some(Some(Resignation { successor, done })) = ended {
            let given_up = seat::give_up(&self.shared, epoch, successor.as_deref());
            match timeout(RESIGNATION, given_up).await {
                Ok(Ok(())) => tracing::debug!(epoch = epoch.0, successor, "resigned"),
                Ok(Err(fault)) => {
                    tracing::warn!(reason = fault.reason(), "cannot give up the seat");
                }
                Err(_) => tracing::warn!("cannot give up the seat within the timeout"),
            }
            let _ = done.send(());
        }
    }

    /// Waits until the store itself gives up the leadership.
    async fn abandoned(&self, epoch: Epoch) {
        let mut newest = self.shared.abandoned.subscribe();
        if newest.wait_for(|newest| *newest >= epoch).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the seat is free, or belongs to another node.
    async fn replaced(&self, epoch: Epoch) {
        let mut seen = self.shared.seen.subscribe();
        let ours = super::layout::signed(epoch.0);
        let other = seen.wait_for(|seen| {
            seen.revision > ours && seen.seat.as_ref().is_none_or(|seat| seat.epoch != epoch)
        });
        if other.await.is_err() {
            // The observer has ended, so there will be no more news.
            std::future::pending::<()>().await;
        }
    }
}

/// A request to give up the seat.
struct Resignation {
    successor: Option<String>,
    done: oneshot::Sender<()>,
}

/// The leadership of the winner.
pub(super) struct EtcdLeadership {
    shared: Arc<Shared>,
    epoch: Epoch,
    until: watch::Receiver<Moment>,
    is_over: watch::Receiver<bool>,
    resign: oneshot::Sender<Resignation>,
    _guard: DropGuard,
}

#[async_trait]
impl Leadership for EtcdLeadership {
    fn fence(&self) -> Fence {
        Fence { epoch: self.epoch }
    }

    fn is_held(&self) -> bool {
        !*self.is_over.borrow() && !self.until.borrow().has_passed_at(Moment::now())
    }

    async fn lost(&self) {
        let mut is_over = self.is_over.clone();
        let mut until = self.until.clone();
        loop {
            let expiry = *until.borrow_and_update();
            if expiry.has_passed_at(Moment::now()) {
                return;
            }
            // Timers stop while the machine is suspended, so this checks at intervals.
            let look = expiry.running.min(Instant::now() + LOOK);
            tokio::select! {
                biased;
                // An error means that the task of the campaign has ended.
                _ = is_over.wait_for(|over| *over) => return,
                renewed = until.changed() => if renewed.is_err() { return },
                // Also recorded here, in case the other thread does not get to it.
                () = sleep_until(look) => {}
            }
        }
    }

    async fn resign(self: Box<Self>, successor: Option<&str>) {
        let Self { shared, epoch, resign, _guard: guard, .. } = *self;
        // Later batches need not be sent.
        shared.end(epoch);
        let (done, answer) = oneshot::channel();
        if resign.send(Resignation { successor: successor.map(str::to_owned), done }).is_ok() {
            // An error means that the task has ended for another reason.
            let _ = answer.await;
        }
        drop(guard);
    }
}
