//! Campaigns and what is won by them.
//!
//! A campaign is a task of its own with a session of its own. While it waits, its node is among the
//! members; when the leader's key is gone it tries to set it, which only one can. The task goes
//! on through the leadership and ends by destroying the session, whatever became of those who wait for
//! it: that is how a dropped campaign leaves no leader behind.

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
    Shared,
    fault::Fault,
    observer::Seen,
    registration,
    seat::{self, Taken, Try},
    session::Session,
    upkeep,
};
use crate::{
    model::{Epoch, Fence, Member},
    remote::{backoff::Backoff, moment::Moment},
    store::{Leadership, StoreError},
    watch,
};

/// For so long others let a named successor go first.
const DEFERENCE: Duration = Duration::from_secs(2);

/// How long giving up the seat may take; then it is left to the session.
const RESIGNATION: Duration = Duration::from_secs(1);

/// How often a leader looks whether its session expired while the machine was suspended.
const LOOK: Duration = Duration::from_millis(500);

/// How often a campaign looks at the seat though it heard nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Where the outcome of a campaign goes.
type Outcome = oneshot::Sender<Result<ConsulLeadership, StoreError>>;

/// Waits for the seat. Cancel safe.
pub(super) async fn campaign(
    shared: &Arc<Shared>,
    me: &Member,
) -> Result<ConsulLeadership, StoreError> {
    shared.check_open()?;
    let (outcome, answer) = oneshot::channel();
    let dropped = CancellationToken::new();
    let campaign =
        Campaign { shared: Arc::clone(shared), me: me.clone(), dropped: dropped.clone() };
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
    /// Cancelled when nobody waits for the outcome or holds the leadership any more.
    dropped: CancellationToken,
}

/// How a session's time ended.
enum End {
    /// There is nothing more to do.
    Over,
    /// The campaign begins anew with another session.
    Again(Fault),
}

impl Campaign {
    async fn run(self, outcome: Outcome) {
        let mut outcome = Some(outcome);
        let mut backoff = Backoff::default();
        let mut warned = false;
        while let Some(session) =
            self.unless_over(Session::create(&self.shared, &self.me.name)).await
        {
            let fault = match session {
                Ok(session) => {
                    let end = self.with_session(&session, &mut outcome).await;
                    session.destroy().await;
                    match end {
                        End::Over => return,
                        End::Again(fault) => fault,
                    }
                }
                Err(fault) => fault,
            };
            let hopeless = match &fault {
                Fault::Namesake(_) | Fault::Foreign(_) => Err(self.shared.explain(fault.clone())),
                _ => self.shared.check_open(),
            };
            if let Err(error) = hopeless {
                self.shared.note_trouble(Some(error.to_string()));
                if let Some(outcome) = outcome.take() {
                    let _ = outcome.send(Err(error));
                }
                return;
            }
            if !warned {
                tracing::warn!(node = self.me.name, reason = fault.reason(), "cannot campaign yet");
                warned = true;
            }
            self.shared.note_trouble(Some(fault.reason()));
            if self.unless_over(backoff.wait()).await.is_none() {
                return;
            }
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

    async fn with_session(&self, session: &Session, outcome: &mut Option<Outcome>) -> End {
        let mut kept = pin!(session.keep());
        let competing = async {
            registration::enter(&self.shared, &self.me, &session.id).await?;
            // What hindered it before is over.
            self.shared.note_trouble(None);
            tokio::select! {
                biased;
                won = self.compete(session) => won,
                never = registration::stay(&self.shared, &self.me, &session.id) => match never {},
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
        match (won, outcome.take()) {
            (Some(Ok(taken)), Some(outcome)) => {
                self.lead(taken, session, kept, outcome).await;
                End::Over
            }
            (Some(Err(fault)), waiting) => {
                *outcome = waiting;
                End::Again(fault)
            }
            _ => End::Over,
        }
    }

    /// Waits until the seat is free and takes it.
    async fn compete(&self, session: &Session) -> Result<Taken, Fault> {
        let mut seen = self.shared.seen.subscribe();
        // The index at which a successor was named whom we need not wait for (any more).
        let mut ignored = 0;
        let mut deferring: Option<(u64, Instant)> = None;
        loop {
            seen.mark_unchanged();
            match seat::take(&self.shared, &self.me, &session.id, ignored).await? {
                Try::Taken(taken) => return Ok(taken),
                Try::Occupied => {
                    let free = until(&mut seen, |seen| seen.seat.is_none());
                    // Tried again after a while even if nothing was seen: it costs one read.
                    let _ = timeout(LOOK_AGAIN, free).await;
                }
                Try::Promised { to, named, .. } if to == self.me.name => ignored = named,
                Try::Promised { named, .. } => {
                    let since = match deferring {
                        Some((known, since)) if known == named => since,
                        _ => Instant::now(),
                    };
                    deferring = Some((named, since));
                    tokio::select! {
                        biased;
                        () = until(&mut seen, |seen| seen.seat.is_some()) => {}
                        () = sleep_until(since + DEFERENCE) => ignored = named,
                    }
                }
                Try::Changed => ignored = 0,
            }
        }
    }

    /// Leads until that is lost or given up.
    async fn lead(
        &self,
        Taken { epoch, index }: Taken,
        session: &Session,
        kept: Pin<&mut impl Future<Output = Fault>>,
        outcome: Outcome,
    ) {
        let (resign, mut resignation) = oneshot::channel::<Resignation>();
        let (over, is_over) = watch::channel(false);
        self.shared.note_trouble(None);
        self.shared.saw_epoch(epoch);
        self.shared.lead.send_replace(Some((epoch, session.until())));
        let leadership = ConsulLeadership {
            shared: Arc::clone(&self.shared),
            epoch,
            until: session.until(),
            is_over,
            resign,
            _guard: self.dropped.clone().drop_guard(),
        };
        tracing::debug!(node = self.me.name, epoch = epoch.0, "leading");
        // If nobody takes it, its guard ends this at once.
        let _ = outcome.send(Ok(leadership));
        let ended = self
            .unless_over(async {
                tokio::select! {
                    biased;
                    asked = &mut resignation => asked.ok(),
                    _ = kept => None,
                    () = self.replaced(epoch, index) => None,
                    never = upkeep::run(&self.shared, epoch) => match never {},
                    never = registration::stay(&self.shared, &self.me, &session.id) => match never {},
                }
            })
            .await;
        self.shared.end(epoch);
        self.shared
            .lead
            .send_if_modified(|lead| lead.take_if(|(leading, _)| *leading == epoch).is_some());
        over.send_replace(true);
        if let Some(Some(Resignation { successor, done })) = ended {
            let given_up = seat::give_up(&self.shared, &session.id, successor.as_deref());
            match timeout(RESIGNATION, given_up).await {
                Ok(Ok(())) => tracing::debug!(epoch = epoch.0, successor, "resigned"),
                Ok(Err(fault)) => {
                    tracing::warn!(reason = fault.reason(), "could not give up the seat");
                }
                Err(_) => tracing::warn!("could not give up the seat in time"),
            }
            let _ = done.send(());
        }
    }

    /// Waits until the seat, which was taken at that index, is seen to be free or another's.
    async fn replaced(&self, epoch: Epoch, index: u64) {
        let mut seen = self.shared.seen.subscribe();
        let other = seen.wait_for(|seen| {
            let is_ours = seen.seat.as_ref().is_some_and(|seat| seat.epoch == epoch);
            seen.index >= index && !is_ours
        });
        if other.await.is_err() {
            // Nobody observes any more, so there is nothing to be seen.
            std::future::pending::<()>().await;
        }
    }
}

/// Waits until what is seen next is as wanted.
async fn until(seen: &mut watch::Receiver<Seen>, mut wanted: impl FnMut(&Seen) -> bool) {
    loop {
        if seen.changed().await.is_err() {
            // Nobody observes any more, so there is nothing to be seen.
            std::future::pending::<()>().await;
        }
        if wanted(&seen.borrow()) {
            return;
        }
    }
}

/// The wish to give the seat up.
struct Resignation {
    successor: Option<String>,
    done: oneshot::Sender<()>,
}

/// A won election, as its winner holds it.
pub(super) struct ConsulLeadership {
    shared: Arc<Shared>,
    epoch: Epoch,
    until: watch::Receiver<Moment>,
    is_over: watch::Receiver<bool>,
    resign: oneshot::Sender<Resignation>,
    _guard: DropGuard,
}

#[async_trait]
impl Leadership for ConsulLeadership {
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
        shared.end(epoch);
        let (done, answer) = oneshot::channel();
        if resign.send(Resignation { successor: successor.map(str::to_owned), done }).is_ok() {
            // An error means that the task ended for another reason.
            let _ = answer.await;
        }
        drop(guard);
    }
}
