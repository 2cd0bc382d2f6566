//! Campaigns and the leadership that they win.
//!
//! A campaign is a task of its own under a random id. While it waits, its node is among the members; when the leader's key is
//! gone it tries to create it, which only one can. The task goes on through the leadership and ends by giving up whatever is
//! under its id, also when nobody waits for it any more: that is how a dropped campaign leaves no leader behind.
//!
//! The leader's key lives by the server's clock. How long it lasts is counted here, suspension of the machine included, from
//! the moment at which a renewal was *sent*, and a fifth of its time is kept as a margin for the rates of the clocks.

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
    seat::{self, Stay, Try},
    server::Held,
};
use crate::{
    model::{BatchSeq, Epoch, Fence, Member},
    remote::{backoff::Backoff, moment::Moment},
    store::{Leadership, StoreError},
};

/// How long giving up the seat may take; then it is done in the background.
const RESIGNATION: Duration = Duration::from_secs(1);

/// How often a leader looks whether its time ran out while the machine was suspended.
const LOOK: Duration = Duration::from_millis(500);

/// So many renewals of another's entry show that its owner lives.
const RENEWALS: u32 = 2;

/// Renewals in the time to live.
const RATE: u32 = 5;

/// Where the outcome of a campaign goes.
type Outcome = oneshot::Sender<Result<RedisLeadership, StoreError>>;

/// Waits for the seat. Cancel safe.
pub(super) async fn campaign(
    shared: &Arc<Shared>,
    me: &Member,
) -> Result<RedisLeadership, StoreError> {
    shared.check_open()?;
    let (outcome, answer) = oneshot::channel();
    let dropped = CancellationToken::new();
    let campaign = Campaign {
        shared: Arc::clone(shared),
        me: me.clone(),
        holder: format!("{:032x}", fastrand::u128(..)),
        until: watch::Sender::new(Moment::now()),
        dropped: dropped.clone(),
    };
    let guard = dropped.drop_guard();
    shared.spawn_control(campaign.run(outcome));
    let leadership = answer.await.map_err(|_| shared.closed())??;
    // From here on the leadership's own guard holds.
    guard.disarm();
    Ok(leadership)
}

struct Campaign {
    shared: Arc<Shared>,
    me: Member,
    /// The random id under which this node enters and leads.
    holder: String,
    /// Until when the leadership surely lasts.
    until: watch::Sender<Moment>,
    /// Cancelled when nobody waits for the outcome or holds the leadership any more.
    dropped: CancellationToken,
}

enum Never {}

impl Campaign {
    async fn run(self, outcome: Outcome) {
        let mut outcome = Some(outcome);
        let mut backoff = Backoff::default();
        let mut warned = false;
        while let Some(fault) = self.attempt(&mut outcome).await {
            let hopeless = match &fault {
                Fault::Namesake(_) | Fault::Unfit(_) => Err(StoreError::from(fault.clone())),
                _ => self.shared.check_open(),
            };
            if let Err(error) = hopeless {
                self.shared.note_trouble(Some(error.to_string()));
                if let Some(outcome) = outcome.take() {
                    let _ = outcome.send(Err(error));
                }
                break;
            }
            if !warned {
                tracing::warn!(node = self.me.name, reason = fault.reason(), "cannot campaign yet");
                warned = true;
            }
            self.shared.note_trouble(Some(fault.reason()));
            if self.unless_over(backoff.wait()).await.is_none() {
                break;
            }
        }
        self.leave().await;
    }

    /// Campaigns and leads until there is nothing more to do, or a fault asks for another attempt.
    async fn attempt(&self, outcome: &mut Option<Outcome>) -> Option<Fault> {
        let won = self.unless_over(async {
            self.enter().await?;
            // What hindered it before is over.
            self.shared.note_trouble(None);
            let mut kept = pin!(self.keep(Epoch(0)));
            tokio::select! {
                biased;
                won = self.compete() => won,
                fault = &mut kept => Err(fault),
            }
        });
        match (won.await, outcome.take()) {
            (Some(Ok((held, sent))), Some(outcome)) => {
                self.lead(held, sent, outcome).await;
                None
            }
            (Some(Err(fault)), waiting) => {
                *outcome = waiting;
                Some(fault)
            }
            _ => None,
        }
    }

    /// Awaits it unless the store closes or nobody wants the outcome any more.
    async fn unless_over<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => None,
            () = self.dropped.cancelled() => None,
            value = future => Some(value),
        }
    }

    /// Enters this node under its name. Waits while the entry of a former holder runs out: one that is renewed meanwhile has
    /// an owner who lives.
    async fn enter(&self) -> Result<(), Fault> {
        let mut backoff = Backoff::default();
        let mut former = String::new();
        let mut known: Option<(String, u64)> = None;
        let mut renewals = 0;
        loop {
            let stay = seat::stay(&self.shared, &self.me, &self.holder, &former, Epoch(0)).await?;
            let Stay::Taken { member, holder, ends, .. } = stay else { return Ok(()) };
            // Nobody else can serve at this node's address: a former process of it made the entry.
            if member.address.is_some() && member.address == self.me.address && former != holder {
                former = holder;
                continue;
            }
            match &known {
                Some((other, until)) if *other == holder => renewals += u32::from(ends > *until),
                _ => renewals = 0,
            }
            if renewals >= RENEWALS {
                return Err(Fault::Namesake(member));
            }
            known = Some((holder, ends));
            backoff.wait().await;
        }
    }

    /// Keeps this node among the members, and the leadership of `epoch` if there is one (0: none). Returns when it can no
    /// longer be relied on. Cancel safe.
    async fn keep(&self, epoch: Epoch) -> Fault {
        match self.try_keep(epoch).await {
            Ok(never) => match never {},
            Err(fault) => fault,
        }
    }

    async fn try_keep(&self, epoch: Epoch) -> Result<Never, Fault> {
        let ttl = self.shared.server.options.leader_ttl;
        let interval = ttl / RATE;
        let mut ready = self.shared.ready.subscribe();
        ready.mark_unchanged();
        let mut me = self.me.clone();
        let mut pause = interval;
        let mut troubled = false;
        loop {
            let announced = tokio::select! {
                biased;
                // An error cannot be: the sender is in `shared`.
                _ = ready.changed() => true,
                () = sleep(pause) => false,
            };
            if announced {
                let (name, leadership) = ready.borrow_and_update().clone();
                if name != me.name {
                    continue;
                }
                me.ready_for = leadership;
            }
            let sent = Moment::now();
            match seat::stay(&self.shared, &me, &self.holder, "", epoch).await {
                Ok(stay) => {
                    let (Stay::Entered { leads } | Stay::Taken { leads, .. }) = stay;
                    if epoch > Epoch(0) && !leads {
                        return Err(Fault::Refused("the seat is not ours any more".to_owned()));
                    }
                    let taken = matches!(stay, Stay::Taken { .. });
                    if taken && !troubled {
                        tracing::warn!(node = me.name, "another node uses the name of this one");
                    }
                    troubled = taken;
                    self.until.send_replace(sent.plus(reliable(ttl)));
                    pause = interval;
                }
                Err(fault) => {
                    tracing::debug!(reason = fault.reason(), "could not renew the seat");
                    if self.until.borrow().has_passed_at(Moment::now()) {
                        return Err(fault);
                    }
                    pause = interval / 8;
                }
            }
        }
    }

    /// Waits until the seat is free and takes it. Says when the request was sent that did.
    async fn compete(&self) -> Result<(Held, Moment), Fault> {
        let mut seen = self.shared.seen.subscribe();
        let ttl = self.shared.server.options.leader_ttl;
        loop {
            seen.mark_unchanged();
            let sent = Moment::now();
            match seat::take(&self.shared, &self.me, &self.holder).await? {
                Try::Taken(held) => return Ok((held, sent)),
                Try::Wait(left) => {
                    let left = left.min(ttl) + Duration::from_millis(2);
                    // What was seen before does not count.
                    let free = async {
                        while seen.changed().await.is_ok() {
                            if seen.borrow_and_update().is_none() {
                                return;
                            }
                        }
                    };
                    let _ = timeout(left, free).await;
                }
            }
        }
    }

    /// Leads until that is lost or given up.
    async fn lead(&self, held: Held, sent: Moment, outcome: Outcome) {
        let epoch = held.epoch;
        let (resign, mut resignation) = oneshot::channel::<Resignation>();
        let (over, is_over) = watch::channel(false);
        self.until.send_replace(sent.plus(reliable(self.shared.server.options.leader_ttl)));
        self.shared.note_trouble(None);
        self.shared.server.hold(held.clone());
        let leadership = RedisLeadership {
            shared: Arc::clone(&self.shared),
            epoch,
            least: held.least,
            until: self.until.subscribe(),
            is_over,
            resign,
            _guard: self.dropped.clone().drop_guard(),
        };
        tracing::debug!(node = self.me.name, epoch = epoch.0, "leading");
        // If nobody takes it, its guard ends this at once.
        let _ = outcome.send(Ok(leadership));
        let kept: Pin<&mut _> = pin!(self.keep(epoch));
        let ended = self
            .unless_over(async {
                tokio::select! {
                    biased;
                    asked = &mut resignation => asked.ok(),
                    () = self.shared.server.abandoned(epoch) => None,
                    () = self.replaced(epoch) => None,
                    fault = kept => {
                        tracing::warn!(reason = fault.reason(), "the leadership is lost");
                        None
                    }
                }
            })
            .await;
        self.shared.server.end(epoch);
        over.send_replace(true);
        if let Some(Some(Resignation { successor, done })) = ended {
            let left = seat::leave(&self.shared, &self.me, &self.holder, successor.as_deref());
            match timeout(RESIGNATION, left).await {
                Ok(Ok(())) => tracing::debug!(epoch = epoch.0, successor, "resigned"),
                Ok(Err(fault)) => {
                    tracing::warn!(reason = fault.reason(), "could not give up the seat");
                }
                Err(_) => tracing::warn!("could not give up the seat in time"),
            }
            let _ = done.send(());
        }
    }

    /// Waits until the seat is seen to be another's.
    async fn replaced(&self, epoch: Epoch) {
        let mut seen = self.shared.seen.subscribe();
        let other = seen.wait_for(|seat| seat.as_ref().is_some_and(|seat| seat.epoch > epoch));
        if other.await.is_err() {
            // Nobody observes any more, so there is nothing to be seen.
            std::future::pending::<()>().await;
        }
    }

    /// Gives up what is under this campaign's id, in the background where Redis cannot be reached now: until it expires by
    /// itself at the latest.
    async fn leave(self) {
        if let Ok(Ok(())) =
            timeout(RESIGNATION, seat::leave(&self.shared, &self.me, &self.holder, None)).await
        {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let later = async move {
            let mut backoff = Backoff::default();
            let left = async {
                while seat::leave(&self.shared, &self.me, &self.holder, None).await.is_err() {
                    backoff.wait().await;
                }
            };
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => {}
                _ = timeout(self.shared.server.options.leader_ttl, left) => {}
            }
        };
        shared.spawn_control(later);
    }
}

/// What of the time to live can be relied on.
fn reliable(ttl: Duration) -> Duration {
    ttl - ttl / 5
}

/// The wish to give the seat up.
struct Resignation {
    successor: Option<String>,
    done: oneshot::Sender<()>,
}

/// A won election, as its winner holds it.
pub(super) struct RedisLeadership {
    shared: Arc<Shared>,
    epoch: Epoch,
    least: BatchSeq,
    until: watch::Receiver<Moment>,
    is_over: watch::Receiver<bool>,
    resign: oneshot::Sender<Resignation>,
    _guard: DropGuard,
}

#[async_trait]
impl Leadership for RedisLeadership {
    fn fence(&self) -> Fence {
        Fence { epoch: self.epoch }
    }

    fn seq_floor(&self) -> BatchSeq {
        self.least
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
            // Timers stand still while the machine is suspended, so it is looked now and then.
            let look = expiry.running.min(Instant::now() + LOOK);
            tokio::select! {
                biased;
                // An error means that the campaign's task has ended.
                _ = is_over.wait_for(|over| *over) => return,
                renewed = until.changed() => if renewed.is_err() { return },
                // Counted here as well, should the other thread not come to it.
                () = sleep_until(look) => {}
            }
        }
    }

    async fn resign(self: Box<Self>, successor: Option<&str>) {
        let Self { shared, epoch, resign, _guard: guard, .. } = *self;
        // Batches that come from now on need not be sent.
        shared.server.end(epoch);
        let (done, answer) = oneshot::channel();
        if resign.send(Resignation { successor: successor.map(str::to_owned), done }).is_ok() {
            // An error means that the task ended for another reason.
            let _ = answer.await;
        }
        drop(guard);
    }
}
