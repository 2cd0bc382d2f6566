//! The lease that a node's keys hang on: granted, kept alive, revoked.
//!
//! How long it lasts is counted here, suspension of the machine included, from the moment at which a
//! renewal was *sent*. etcd counts from a later one, so it never lets the lease expire before this node has
//! ceased to believe in it; a fifth of its time is kept as a margin, for the clocks' rates and for
//! what a change of etcd's own leader may cost.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    Shared,
    answer::Patience,
    fault::Fault,
    layout,
    link::{Client, Effect, Used},
    wire::{
        LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
        LeaseTimeToLiveRequest,
    },
};
use crate::remote::{backoff::Backoff, moment::Moment};

/// Renewals in the time for which a lease can be relied on: all of them but one may fail.
const RENEWALS: u32 = 4;

/// Who revokes waits no longer for it.
const REVOCATION: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Lease {
    shared: Arc<Shared>,
    pub(super) id: i64,
    ttl: Duration,
    /// Until when it surely lasts.
    until: watch::Sender<Moment>,
}

impl Lease {
    /// A new lease.
    pub(super) async fn grant(shared: &Arc<Shared>) -> Result<Self, Fault> {
        let seconds = shared.options.leader_ttl.as_millis().div_ceil(1000);
        let ttl = i64::try_from(seconds).unwrap_or(i64::MAX);
        let asked = Moment::now();
        let request = |client: Client| async move {
            client.lease().lease_grant(LeaseGrantRequest { ttl }).await
        };
        // One that is granted without our knowing has no keys, and expires.
        let granted = shared.control.call(Effect::Harmless, request).await?;
        let ttl = Duration::from_secs(layout::unsigned(granted.ttl));
        let until = watch::Sender::new(asked.plus(reliable(ttl)));
        Ok(Self { shared: Arc::clone(shared), id: granted.id, ttl, until })
    }

    /// Until when it surely lasts, as that moves on.
    pub(super) fn until(&self) -> watch::Receiver<Moment> {
        self.until.subscribe()
    }

    /// Keeps it alive. Returns when it can no longer be relied on, with the reason.
    pub(super) async fn keep(&self) -> Fault {
        let fault = loop {
            let expiry = *self.until.borrow();
            let renewing = timeout_at(expiry.running, self.renew_until_a_fault());
            let Ok(fault) = renewing.await else {
                // It may have been renewed in the meantime.
                if !self.until.borrow().has_passed_at(Moment::now()) {
                    continue;
                }
                break Fault::Silent(reliable(self.ttl));
            };
            if !fault.is_passing() {
                break fault;
            }
            tracing::warn!(reason = fault.reason(), "could not renew the lease");
            // Where etcd answers at once that it can't, asking without end would not help it.
            let pause = Instant::now() + self.interval() / 8;
            sleep_until(pause.min(expiry.running)).await;
        };
        tracing::warn!(reason = fault.reason(), "the lease is lost");
        fault
    }

    async fn renew_until_a_fault(&self) -> Fault {
        match self.renew().await {
            Ok(never) => match never {},
            Err(fault) => fault,
        }
    }

    /// Renews it again and again over one stream.
    async fn renew(&self) -> Result<Never, Fault> {
        let sent = Moment::now();
        let (mut renewals, used) = self.open().await?;
        let renewed = self.renew_over(&mut renewals, sent).await;
        if let Err(fault) = &renewed {
            self.shared.control.renew(&used, fault);
        }
        renewed
    }

    async fn renew_over(
        &self,
        (requests, answers): &mut Renewals,
        mut sent: Moment,
    ) -> Result<Never, Fault> {
        let interval = self.interval();
        loop {
            let ended = || Fault::Unknown("the stream of renewals ended".to_owned());
            let answer = timeout(interval, answers.message()).await;
            let answer = answer.map_err(|_| Fault::Silent(interval))??.ok_or_else(ended)?;
            self.renewed(sent, answer.ttl)?;
            // Not an interval of tokio's: after a pause of the process, one renewal is enough.
            sleep_until(Instant::now() + interval).await;
            sent = Moment::now();
            requests.try_send(self.request()).map_err(|_| ended())?;
        }
    }

    /// Opens a stream with a first renewal on it.
    async fn open(&self) -> Result<(Renewals, Used), Fault> {
        let request = |client: Client| {
            let (requests, outgoing) = mpsc::channel(1);
            let first = requests.try_send(self.request());
            async move {
                first.map_err(|error| tonic::Status::internal(error.to_string()))?;
                let answers =
                    client.lease().lease_keep_alive(ReceiverStream::new(outgoing)).await?;
                Ok(answers.map(|answers| (requests, answers)))
            }
        };
        // A member that is silent must not take the time in which another can be asked.
        self.shared.control.open(Patience::brief(self.interval()), Effect::Harmless, request).await
    }

    fn request(&self) -> LeaseKeepAliveRequest {
        LeaseKeepAliveRequest { id: self.id }
    }

    fn renewed(&self, sent: Moment, ttl: i64) -> Result<(), Fault> {
        if ttl <= 0 {
            return Err(Fault::Invalid("the lease has expired".to_owned()));
        }
        let until = sent.plus(reliable(Duration::from_secs(layout::unsigned(ttl))));
        self.until.send_replace(until);
        Ok(())
    }

    fn interval(&self) -> Duration {
        self.ttl / (RENEWALS + 1)
    }

    /// Gives it back, and with it all keys that hang on it. Where etcd cannot be reached now, that is
    /// done as soon as it can: when its members come back, they give each lease its whole time anew.
    pub(super) async fn revoke(self) {
        match timeout(REVOCATION, self.try_revoke()).await {
            Ok(Ok(())) => return,
            Ok(Err(fault)) => tracing::debug!(reason = fault.reason(), "a lease is revoked later"),
            Err(_) => tracing::debug!("a lease is revoked later"),
        }
        let shared = Arc::clone(&self.shared);
        let later = async move {
            let mut backoff = Backoff::default();
            let revoked = async {
                while self.try_revoke().await.is_err() {
                    backoff.wait().await;
                }
            };
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => {}
                () = revoked => {}
            }
        };
        shared.spawn_control(later);
    }

    async fn try_revoke(&self) -> Result<(), Fault> {
        let id = self.id;
        let request = |client: Client| async move {
            client.lease().lease_revoke(LeaseRevokeRequest { id }).await
        };
        match self.shared.control.call(Effect::Harmless, request).await {
            // Revoked before, or expired.
            Ok(_) | Err(Fault::Invalid(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}

/// How much time another's lease has left; `None` when it has expired.
pub(super) async fn time_left(shared: &Shared, id: i64) -> Result<Option<Duration>, Fault> {
    let request = |client: Client| async move {
        client.lease().lease_time_to_live(LeaseTimeToLiveRequest { id }).await
    };
    match shared.control.call(Effect::Harmless, request).await {
        Ok(left) => Ok(u64::try_from(left.ttl).ok().map(Duration::from_secs)),
        Err(Fault::Invalid(_)) => Ok(None),
        Err(fault) => Err(fault),
    }
}

enum Never {}

/// Where renewals go, and where the answers to them come from.
type Renewals = (mpsc::Sender<LeaseKeepAliveRequest>, Streaming<LeaseKeepAliveResponse>);

/// What of a lease's time can be relied on.
fn reliable(ttl: Duration) -> Duration {
    ttl - ttl / 5
}
