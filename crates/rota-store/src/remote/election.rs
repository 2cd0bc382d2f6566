//! Campaigns and leaderships, the same for every backend on another machine. A backend gives the steps
//! ([`Candidate`]).
//!
//! A campaign is a task of its own on the control thread. It holds something that ends by itself when the process is
//! gone: a lease, a session, a key with a time to live. While it waits, its node is among the members. When the seat of
//! the leader is free, it tries to take it, which only one node can. The task continues during the leadership, and ends
//! by giving up what it holds, even if nobody waits for it any more. So a dropped campaign leaves no leader behind.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    background::{Background, closed},
    backoff::Backoff,
    moment::Moment,
};
use crate::{
    model::{BatchSeq, Epoch, Fence, Member},
    store::{Leadership, StoreError},
    watch,
};

/// Timeout for giving up the seat. Then what the campaign holds must expire.
pub(crate) const RESIGNATION: Duration = Duration::from_secs(1);

/// Interval at which a leader checks whether its time ran out while the machine was suspended.
const LOOK: Duration = Duration::from_millis(500);

/// What a campaign needs of the store that it is for.
pub(crate) trait Remote: Send + Sync + 'static {
    fn background(&self) -> &Background;

    /// Whether the store can be used at all.
    fn check_open(&self) -> Result<(), StoreError>;

    /// Records that a leadership of this store has ended.
    fn end(&self, epoch: Epoch);
}

/// The steps of a campaign for one node. All of them are cancel safe.
pub(crate) trait Candidate: Send + Sync + 'static {
    type Store: Remote;
    type Fault: Send + Sync;
    /// What the node's entry and the seat depend on.
    type Hold: Send + Sync;
    /// A seat that was taken.
    type Taken: Send + Sync;

    fn store(&self) -> &Self::Store;

    fn me(&self) -> &Member;

    /// The fault, for people.
    fn reason(fault: &Self::Fault) -> String;

    /// The error of the campaign, if another attempt cannot help.
    fn hopeless(&self, fault: &Self::Fault) -> Option<StoreError>;

    /// Begins a round of the campaign.
    fn hold(&self) -> impl Future<Output = Result<Self::Hold, Self::Fault>> + Send;

    /// Keeps what it holds from now until the round ends. Returns the reason when it is no longer reliable.
    fn keep(&self, hold: &Self::Hold) -> impl Future<Output = Self::Fault> + Send;

    /// Until when what it holds is certainly valid.
    fn until(&self, hold: &Self::Hold) -> watch::Receiver<Moment>;

    /// Enters the node among the members.
    fn enter(&self, hold: &Self::Hold) -> impl Future<Output = Result<(), Self::Fault>> + Send;

    /// Keeps the node among the members once it has entered, with the epoch in which it leads. Returns the reason when
    /// the round must end.
    fn stay(
        &self,
        hold: &Self::Hold,
        leads: Option<Epoch>,
    ) -> impl Future<Output = Self::Fault> + Send;

    /// Waits until the seat is free, and takes it.
    fn compete(
        &self,
        hold: &Self::Hold,
    ) -> impl Future<Output = Result<Self::Taken, Self::Fault>> + Send;

    fn epoch(taken: &Self::Taken) -> Epoch;

    /// As [`Leadership::seq_floor`].
    fn seq_floor(_: &Self::Taken) -> BatchSeq {
        BatchSeq(0)
    }

    /// Records a leadership that begins.
    fn begin(&self, hold: &Self::Hold, taken: &Self::Taken);

    /// Waits until another node is seen to lead, or the store itself gives the leadership up.
    fn deposed(&self, taken: &Self::Taken) -> impl Future<Output = ()> + Send;

    /// Maintains the store while this node leads. Never returns.
    fn maintain(&self, _: &Self::Taken) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Gives up the seat at once, to this successor if it is named.
    fn give_up(
        &self,
        hold: &Self::Hold,
        taken: &Self::Taken,
        successor: Option<&str>,
    ) -> impl Future<Output = Result<(), Self::Fault>> + Send;

    /// Ends a round.
    fn let_go(&self, hold: Self::Hold) -> impl Future<Output = ()> + Send;

    /// Ends the campaign.
    fn leave(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Waits for the seat. Cancel safe.
pub(crate) async fn campaign<C: Candidate>(
    candidate: C,
) -> Result<Box<dyn Leadership>, StoreError> {
    candidate.store().check_open()?;
    let candidate = Arc::new(candidate);
    let (reply, answer) = oneshot::channel();
    let dropped = CancellationToken::new();
    let campaign = Campaign { candidate: Arc::clone(&candidate), dropped: dropped.clone() };
    let guard = dropped.drop_guard();
    candidate.store().background().spawn_control(campaign.run(reply));
    let leadership = answer.await.map_err(|_| closed())??;
    // From here on the guard of the leadership is in charge.
    guard.disarm();
    Ok(Box::new(leadership))
}

/// Where the result of a campaign goes.
type Reply<C> = oneshot::Sender<Result<RemoteLeadership<C>, StoreError>>;

struct Campaign<C> {
    candidate: Arc<C>,
    /// Cancelled when nobody waits for the result or holds the leadership any more.
    dropped: CancellationToken,
}

/// How a round ended.
enum Round<F> {
    /// The campaign is finished.
    Over,
    /// The campaign needs another round.
    Again(F),
}

impl<C: Candidate> Campaign<C> {
    async fn run(self, reply: Reply<C>) {
        let mut reply = Some(reply);
        let mut backoff = Backoff::default();
        let mut warned = false;
        let store = self.candidate.store();
        while let Some(Round::Again(fault)) = self.round(&mut reply).await {
            let hopeless = match self.candidate.hopeless(&fault) {
                Some(error) => Err(error),
                None => store.check_open(),
            };
            if let Err(error) = hopeless {
                store.background().note_campaign(Some(error.to_string()));
                if let Some(reply) = reply.take() {
                    let _ = reply.send(Err(error));
                }
                break;
            }
            let reason = C::reason(&fault);
            if !warned {
                tracing::warn!(
                    node = self.candidate.me().name,
                    reason,
                    "cannot campaign yet; retrying"
                );
                warned = true;
            }
            store.background().note_campaign(Some(reason));
            if self.unless_over(backoff.wait()).await.is_none() {
                break;
            }
        }
        self.candidate.leave().await;
    }

    /// Awaits it unless the store closes or nobody wants the result any more.
    async fn unless_over<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.candidate.store().background().stop.cancelled() => None,
            () = self.dropped.cancelled() => None,
            value = future => Some(value),
        }
    }

    /// Campaigns and leads with one hold.
    async fn round(&self, reply: &mut Option<Reply<C>>) -> Option<Round<C::Fault>> {
        let hold = match self.unless_over(self.candidate.hold()).await? {
            Ok(hold) => hold,
            Err(fault) => return Some(Round::Again(fault)),
        };
        let end = self.with_hold(&hold, reply).await;
        self.candidate.let_go(hold).await;
        Some(end)
    }

    async fn with_hold(&self, hold: &C::Hold, reply: &mut Option<Reply<C>>) -> Round<C::Fault> {
        let candidate = &self.candidate;
        let mut kept = pin!(candidate.keep(hold));
        let competing = async {
            candidate.enter(hold).await?;
            // Earlier problems are over.
            candidate.store().background().note_campaign(None);
            tokio::select! {
                biased;
                won = candidate.compete(hold) => won,
                fault = candidate.stay(hold, None) => Err(fault),
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
            (Some(Ok(taken)), Some(reply)) => {
                self.lead(&taken, hold, kept, reply).await;
                Round::Over
            }
            (Some(Err(fault)), waiting) => {
                *reply = waiting;
                Round::Again(fault)
            }
            _ => Round::Over,
        }
    }

    /// Leads until leadership is lost or given up.
    async fn lead(
        &self,
        taken: &C::Taken,
        hold: &C::Hold,
        kept: Pin<&mut impl Future<Output = C::Fault>>,
        reply: Reply<C>,
    ) {
        let candidate = &self.candidate;
        let (epoch, node) = (C::epoch(taken), &candidate.me().name);
        let (resign, mut resignation) = oneshot::channel::<Resignation>();
        let (over, is_over) = watch::channel(false);
        candidate.store().background().begin(epoch);
        candidate.begin(hold, taken);
        let leadership = RemoteLeadership {
            candidate: Arc::clone(candidate),
            epoch,
            seq_floor: C::seq_floor(taken),
            until: candidate.until(hold),
            is_over,
            resign,
            guard: self.dropped.clone().drop_guard(),
        };
        tracing::debug!(node, epoch = epoch.0, "leading");
        // If nobody takes the leadership, its guard ends this at once.
        let _ = reply.send(Ok(leadership));
        let ended = self
            .unless_over(async {
                tokio::select! {
                    biased;
                    asked = &mut resignation => asked.ok(),
                    _ = kept => None,
                    () = candidate.deposed(taken) => None,
                    () = candidate.maintain(taken) => None,
                    _ = candidate.stay(hold, Some(epoch)) => None,
                }
            })
            .await;
        candidate.store().end(epoch);
        candidate.store().background().end(epoch);
        over.send_replace(true);
        if let Some(Some(Resignation { successor, done })) = ended {
            let given_up = candidate.give_up(hold, taken, successor.as_deref());
            match timeout(RESIGNATION, given_up).await {
                Ok(Ok(())) => tracing::debug!(epoch = epoch.0, successor, "resigned"),
                Ok(Err(fault)) => {
                    tracing::warn!(reason = C::reason(&fault), "cannot give up the seat");
                }
                Err(_) => tracing::warn!("cannot give up the seat within the timeout"),
            }
            let _ = done.send(());
        }
    }
}

/// A request to give up the seat.
struct Resignation {
    successor: Option<String>,
    done: oneshot::Sender<()>,
}

/// The leadership of the winner.
struct RemoteLeadership<C> {
    candidate: Arc<C>,
    epoch: Epoch,
    seq_floor: BatchSeq,
    until: watch::Receiver<Moment>,
    is_over: watch::Receiver<bool>,
    resign: oneshot::Sender<Resignation>,
    guard: DropGuard,
}

#[async_trait]
impl<C: Candidate> Leadership for RemoteLeadership<C> {
    fn fence(&self) -> Fence {
        Fence { epoch: self.epoch }
    }

    fn seq_floor(&self) -> BatchSeq {
        self.seq_floor
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
                // Also counted here, in case the other thread does not get to it.
                () = sleep_until(look) => {}
            }
        }
    }

    async fn resign(self: Box<Self>, successor: Option<&str>) {
        let Self { candidate, epoch, resign, guard, .. } = *self;
        // Later batches need not be sent.
        candidate.store().end(epoch);
        let (done, answer) = oneshot::channel();
        if resign.send(Resignation { successor: successor.map(str::to_owned), done }).is_ok() {
            // An error means that the task has ended for another reason.
            let _ = answer.await;
        }
        drop(guard);
    }
}

/// Waits until the value is as wanted. For ever, once nobody can change it any more.
pub(crate) async fn becomes<T>(mut value: watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
    if value.wait_for(wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}
