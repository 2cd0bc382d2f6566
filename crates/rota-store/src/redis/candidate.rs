//! The steps of a campaign in Redis. The node's entry and the leader's key belong to a random id of the campaign, and live
//! by the server's clock. [`remote::election`](crate::remote::election) puts the steps together.
//!
//! How long the leader's key lasts is counted here, suspension of the machine included, from the moment at which a renewal
//! was *sent*, and a fifth of its time is kept as a margin for the rates of the clocks.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::{
    Shared,
    fault::Fault,
    seat::{self, Former, Stay, Try},
    server::Held,
};
use crate::{
    model::{BatchSeq, Epoch, Member},
    remote::{
        background::Background,
        backoff::Backoff,
        election::{Candidate, RESIGNATION, Remote},
        moment::Moment,
    },
    store::StoreError,
    watch,
};

/// So many renewals of another's entry show that its owner lives.
const RENEWALS: u32 = 2;

/// Renewals in the time to live.
const RATE: u32 = 5;

impl Remote for Shared {
    fn background(&self) -> &Background {
        &self.background
    }

    fn check_open(&self) -> Result<(), StoreError> {
        self.check_open()
    }

    fn end(&self, epoch: Epoch) {
        self.server.end(epoch);
    }
}

/// See the module.
pub(super) struct RedisCandidate {
    shared: Arc<Shared>,
    me: Member,
    /// The random id under which this node enters and leads.
    holder: String,
    /// Until when the leadership surely lasts.
    until: watch::Sender<Moment>,
}

/// A seat that was taken, and when the request was sent that did.
pub(super) struct Taken {
    held: Held,
    sent: Moment,
}

impl RedisCandidate {
    pub(super) fn new(shared: &Arc<Shared>, me: &Member) -> Self {
        Self {
            shared: Arc::clone(shared),
            me: me.clone(),
            holder: format!("{:032x}", fastrand::u128(..)),
            until: watch::Sender::new(Moment::now()),
        }
    }

    fn ttl(&self) -> Duration {
        self.shared.server.options.leader_ttl
    }

    /// Renews the entry and the leadership, again and again.
    async fn renew(&self, leads: Option<Epoch>) -> Fault {
        let interval = self.ttl() / RATE;
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
            let epoch = leads.unwrap_or(Epoch(0));
            match seat::stay(&self.shared, &me, &self.holder, Former::default(), epoch).await {
                Ok(stay) => {
                    let (Stay::Entered { leads: leads_there }
                    | Stay::Taken { leads: leads_there, .. }) = stay;
                    if leads.is_some() && !leads_there {
                        return Fault::Refused("the seat is not ours any more".to_owned());
                    }
                    let taken = matches!(stay, Stay::Taken { .. });
                    if taken && !troubled {
                        tracing::warn!(node = me.name, "another node uses the name of this one");
                    }
                    troubled = taken;
                    self.until.send_replace(sent.plus(reliable(self.ttl())));
                    pause = interval;
                }
                Err(fault) => {
                    tracing::debug!(reason = fault.reason(), "could not renew the seat");
                    if self.until.borrow().has_passed_at(Moment::now()) {
                        return fault;
                    }
                    pause = interval / 8;
                }
            }
        }
    }
}

impl Candidate for RedisCandidate {
    type Store = Shared;
    type Fault = Fault;
    /// The random id serves all rounds.
    type Hold = ();
    type Taken = Taken;

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
        matches!(fault, Fault::Namesake(_) | Fault::Unfit(_))
            .then(|| StoreError::from(fault.clone()))
    }

    async fn hold(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn keep(&self, (): &()) -> Fault {
        std::future::pending().await
    }

    fn until(&self, (): &()) -> watch::Receiver<Moment> {
        self.until.subscribe()
    }

    /// Waits while the entry of a former holder runs out: one that is renewed meanwhile has an owner who lives. With the first
    /// entry of this process the leadership of a former process at its address ends. Only with the first one: of two nodes with
    /// one address, which is a mistake, each would end the other's leadership again and again.
    async fn enter(&self, (): &()) -> Result<(), Fault> {
        let mut backoff = Backoff::default();
        let mut former = String::new();
        let mut known: Option<(String, u64)> = None;
        let mut renewals = 0;
        loop {
            let is_deposed = !former.is_empty() && !self.shared.has_entered.load(Ordering::Relaxed);
            let replaced = Former { holder: &former, is_deposed };
            let stay = seat::stay(&self.shared, &self.me, &self.holder, replaced, Epoch(0)).await?;
            let Stay::Taken { member, holder, ends, .. } = stay else {
                self.shared.has_entered.store(true, Ordering::Relaxed);
                return Ok(());
            };
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

    async fn stay(&self, (): &(), leads: Option<Epoch>) -> Fault {
        let fault = self.renew(leads).await;
        if leads.is_some() {
            tracing::warn!(reason = fault.reason(), "the leadership is lost");
        }
        fault
    }

    async fn compete(&self, (): &()) -> Result<Taken, Fault> {
        let mut seen = self.shared.seen.subscribe();
        loop {
            seen.mark_unchanged();
            let sent = Moment::now();
            match seat::take(&self.shared, &self.me, &self.holder).await? {
                Try::Taken(held) => return Ok(Taken { held, sent }),
                Try::Wait(left) => {
                    let left = left.min(self.ttl()) + Duration::from_millis(2);
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

    fn epoch(taken: &Taken) -> Epoch {
        taken.held.epoch
    }

    fn seq_floor(taken: &Taken) -> BatchSeq {
        taken.held.least
    }

    fn begin(&self, (): &(), Taken { held, sent }: &Taken) {
        self.until.send_replace(sent.plus(reliable(self.ttl())));
        self.shared.server.hold(held.clone());
    }

    async fn deposed(&self, Taken { held, .. }: &Taken) {
        let mut seen = self.shared.seen.subscribe();
        let other = seen.wait_for(|seat| seat.as_ref().is_some_and(|seat| seat.epoch > held.epoch));
        tokio::select! {
            biased;
            () = self.shared.server.abandoned(held.epoch) => {}
            // An error means that nobody observes any more, so there is nothing to be seen.
            Ok(_) = other => {}
        }
    }

    async fn give_up(&self, (): &(), _: &Taken, successor: Option<&str>) -> Result<(), Fault> {
        seat::leave(&self.shared, &self.me, &self.holder, successor).await
    }

    async fn let_go(&self, (): ()) {}

    /// Gives up what is under this campaign's id, in the background where Redis cannot be reached now: until it expires by
    /// itself at the latest.
    async fn leave(&self) {
        let (shared, me) = (Arc::clone(&self.shared), self.me.clone());
        let holder = self.holder.clone();
        if let Ok(Ok(())) = timeout(RESIGNATION, seat::leave(&shared, &me, &holder, None)).await {
            return;
        }
        let later = async move {
            let mut backoff = Backoff::default();
            let left = async {
                while seat::leave(&shared, &me, &holder, None).await.is_err() {
                    backoff.wait().await;
                }
            };
            tokio::select! {
                biased;
                () = shared.background.stop.cancelled() => {}
                _ = timeout(shared.server.options.leader_ttl, left) => {}
            }
        };
        self.shared.background.spawn_control(later);
    }
}

/// What of the time to live can be relied on.
fn reliable(ttl: Duration) -> Duration {
    ttl - ttl / 5
}
