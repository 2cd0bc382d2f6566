//! A campaign and a leadership, as the process sees them: by messages and its own monotonic clock.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rota_store::{Epoch, Fence, Leadership, Member, StoreError};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    election::{self, Standing},
    handle::Link,
};

/// Tells the store that the candidate goes, when it is dropped.
struct Candidacy {
    link: Link,
    number: u64,
    successor: Option<String>,
}

impl Drop for Candidacy {
    fn drop(&mut self) {
        let (number, successor) = (self.number, self.successor.take());
        self.link.tell(move |inner| election::leave(inner, number, successor));
    }
}

/// What is known of the lease on this side.
struct Lease {
    /// Until when it is surely held.
    until: Mutex<Instant>,
    lost: CancellationToken,
}

impl Lease {
    fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, link: &Link, until: Instant) {
        hold(link, until);
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn is_held(&self) -> bool {
        !self.lost.is_cancelled() && Instant::now() < self.until()
    }
}

struct SimLeadership {
    fence: Fence,
    lease: Arc<Lease>,
    candidacy: Candidacy,
    /// Ends the task that keeps the lease alive.
    _upkeep: DropGuard,
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}

pub(super) async fn campaign(link: &Link, me: &Member) -> Result<Box<dyn Leadership>, StoreError> {
    if link.closed.is_cancelled() {
        return Err(closed());
    }
    let ttl = Duration::from_micros(link.world.lock().store.limits.leader_ttl_us);
    loop {
        let number = link.world.lock().store.election.number();
        let candidacy = Candidacy { link: link.clone(), number, successor: None };
        let (won, mut wins) = oneshot::channel();
        let (endpoint, member) = (link.endpoint, me.clone());
        let (mut heard, mut listens) = (Instant::now(), true);
        link.tell(move |inner| election::enter(inner, endpoint, number, member, won));
        let epoch = loop {
            tokio::select! {
                biased;
                () = link.closed.cancelled() => return Err(closed()),
                // If the message that it came in was lost, the next sign of life tells.
                won = &mut wins, if listens => match won {
                    Ok(epoch) => break Some(epoch),
                    Err(_) => {
                        listens = false;
                        continue;
                    }
                },
                () = sleep(ttl / 4) => {}
            }
            let sent = Instant::now();
            let asked = link.call(ttl / 4, move |inner| election::keep_alive(inner, number));
            match asked.await {
                Ok(Standing::Leads(epoch)) => {
                    heard = sent;
                    break Some(epoch);
                }
                Ok(Standing::Waits) => heard = sent,
                Ok(Standing::Gone) => break None,
                Err(_) => {}
            }
        };
        if let Some(epoch) = epoch {
            return Ok(Box::new(lead(candidacy, epoch, heard + ttl, ttl)));
        }
    }
}

/// Tells the auditor until when this node knows that it leads.
fn hold(link: &Link, until: Instant) {
    let left = until.saturating_duration_since(Instant::now()).as_micros();
    let mut inner = link.world.lock();
    let now_us = inner.now_us;
    let until_us = now_us + u64::try_from(left).unwrap_or(u64::MAX);
    inner.audit.holds(now_us, link.endpoint, until_us);
}

fn lead(candidacy: Candidacy, epoch: Epoch, until: Instant, ttl: Duration) -> SimLeadership {
    hold(&candidacy.link, until);
    let lease = Arc::new(Lease { until: Mutex::new(until), lost: CancellationToken::new() });
    let stop = CancellationToken::new();
    let (link, number) = (candidacy.link.clone(), candidacy.number);
    tokio::spawn(upkeep(link, number, epoch, lease.clone(), ttl, stop.clone()));
    let fence = Fence { epoch };
    SimLeadership { fence, lease, candidacy, _upkeep: stop.drop_guard() }
}

/// Keeps the lease alive until it is lost or nobody needs it any more.
async fn upkeep(
    link: Link,
    number: u64,
    epoch: Epoch,
    lease: Arc<Lease>,
    ttl: Duration,
    stop: CancellationToken,
) {
    let mut beat = tokio::time::interval(ttl / 4);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let ask = async {
            beat.tick().await;
            let sent = Instant::now();
            let asked = link.call(ttl / 2, move |inner| election::keep_alive(inner, number));
            (sent, asked.await)
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = link.closed.cancelled() => break,
            () = tokio::time::sleep_until(lease.until()) => break,
            (sent, answer) = ask => match answer {
                Ok(Standing::Leads(now)) if now == epoch => lease.extend(&link, sent + ttl),
                Ok(_) => break,
                Err(_) => {}
            },
        }
    }
    lease.lost.cancel();
}

#[async_trait]
impl Leadership for SimLeadership {
    fn fence(&self) -> Fence {
        self.fence
    }

    fn is_held(&self) -> bool {
        self.lease.is_held()
    }

    async fn lost(&self) {
        self.lease.lost.cancelled().await;
    }

    async fn resign(mut self: Box<Self>, successor: Option<&str>) {
        self.candidacy.successor = successor.map(str::to_owned);
        let Self { candidacy, _upkeep: upkeep, .. } = *self;
        // Otherwise an answer that is under way would say that it leads for longer.
        drop(upkeep);
        let link = candidacy.link.clone();
        link.world.lock().audit.lets_go(link.endpoint);
        drop(candidacy);
        // Resolves when the store has it, or soon.
        let _ = link.call(Duration::from_secs(1), |_| ()).await;
    }
}
