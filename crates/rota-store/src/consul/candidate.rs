//! The steps of a campaign in Consul. Each round has a session of its own, on which the node's entry and the leader's
//! key hang. [`remote::election`](crate::remote::election) puts them together.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};

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
    model::{Epoch, Member},
    remote::{
        background::Background,
        election::{Candidate, Remote, becomes},
        moment::Moment,
    },
    store::StoreError,
    watch,
};

/// For so long others let a named successor go first.
const DEFERENCE: Duration = Duration::from_secs(2);

/// How often a campaign looks at the seat though it heard nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Remote for Shared {
    fn background(&self) -> &Background {
        &self.background
    }

    fn check_open(&self) -> Result<(), StoreError> {
        self.check_open()
    }

    fn end(&self, epoch: Epoch) {
        self.end(epoch);
        self.lead.send_if_modified(|lead| lead.take_if(|(leading, _)| *leading == epoch).is_some());
    }
}

/// See the module.
pub(super) struct ConsulCandidate {
    pub(super) shared: Arc<Shared>,
    pub(super) me: Member,
}

impl Candidate for ConsulCandidate {
    type Store = Shared;
    type Fault = Fault;
    type Hold = Session;
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
        let is_hopeless = matches!(fault, Fault::Namesake(_) | Fault::Foreign(_));
        is_hopeless.then(|| self.shared.explain(fault.clone()))
    }

    async fn hold(&self) -> Result<Session, Fault> {
        Session::create(&self.shared, &self.me.name).await
    }

    async fn keep(&self, session: &Session) -> Fault {
        session.keep().await
    }

    fn until(&self, session: &Session) -> watch::Receiver<Moment> {
        session.until()
    }

    async fn enter(&self, session: &Session) -> Result<(), Fault> {
        registration::enter(&self.shared, &self.me, &session.id).await
    }

    async fn stay(&self, session: &Session, _: Option<Epoch>) -> Fault {
        match registration::stay(&self.shared, &self.me, &session.id).await {}
    }

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
                    let over = since + DEFERENCE;
                    tokio::select! {
                        biased;
                        () = until(&mut seen, |seen| seen.seat.is_some()) => {}
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

    fn epoch(taken: &Taken) -> Epoch {
        taken.epoch
    }

    fn begin(&self, session: &Session, taken: &Taken) {
        self.shared.saw_epoch(taken.epoch);
        self.shared.lead.send_replace(Some((taken.epoch, session.until())));
    }

    async fn deposed(&self, taken: &Taken) {
        becomes(self.shared.seen.subscribe(), |seen| {
            let is_ours = seen.seat.as_ref().is_some_and(|seat| seat.epoch == taken.epoch);
            seen.index >= taken.index && !is_ours
        })
        .await;
    }

    async fn maintain(&self, taken: &Taken) {
        match upkeep::run(&self.shared, taken.epoch).await {}
    }

    async fn give_up(
        &self,
        session: &Session,
        _: &Taken,
        successor: Option<&str>,
    ) -> Result<(), Fault> {
        seat::give_up(&self.shared, &session.id, successor).await
    }

    async fn let_go(&self, session: Session) {
        session.destroy().await;
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
