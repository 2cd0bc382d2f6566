//! The lease of a node's keys: granting, renewal and revocation.
//!
//! Its time is counted here from when a renewal was *sent*, including suspension of the machine. etcd counts
//! from a later moment, so the lease never expires before this node stops relying on it. A fifth of the time
//! is a margin for clock drift and for changes of etcd's leader.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
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
use crate::{
    remote::{backoff::Backoff, moment::Moment},
    watch,
};

/// Number of renewals in the reliable time of a lease. All but one can fail.
const RENEWALS: u32 = 4;

/// Timeout of a revocation.
const REVOCATION: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Lease {
    shared: Arc<Shared>,
    pub(super) id: i64,
    ttl: Duration,
    /// Until when it is certainly valid.
    until: watch::Sender<Moment>,
}

impl Lease {
    /// Grants a new lease.
    pub(super) async fn grant(shared: &Arc<Shared>) -> Result<Self, Fault> {
        let seconds = shared.options.leader_ttl.as_millis().div_ceil(1000);
        let ttl = i64::try_from(seconds).unwrap_or(i64::MAX);
        let asked = Moment::now();
        let request = |client: Client| async move {
            client.lease().lease_grant(LeaseGrantRequest { ttl }).await
        };
        // A lease whose grant was not received has no keys, and expires.
        let granted = shared.control.call(Effect::Harmless, request).await?;
        let ttl = Duration::from_secs(layout::unsigned(granted.ttl));
        let until = watch::Sender::new(asked.plus(reliable(ttl)));
        Ok(Self { shared: Arc::clone(shared), id: granted.id, ttl, until })
    }

    /// A receiver of the time until which it is certainly valid.
    pub(super) fn until(&self) -> watch::Receiver<Moment> {
        self.until.subscribe()
    }

    /// Keeps it alive. Returns the reason when it is no longer reliable.
    pub(super) async fn keep(&self) -> Fault {
        let fault = loop {
            let expiry = *self.until.borrow();
            let renewing = timeout_at(expiry.running, self.renew_until_a_fault());
            let Ok(fault) = renewing.await else {
                // It may have been renewed meanwhile.
                if !self.until.borrow().has_passed_at(Moment::now()) {
                    continue;
                }
                break Fault::Silent(reliable(self.ttl));
            };
            if !fault.is_passing() {
                break fault;
            }
            tracing::warn!(reason = fault.reason(), "cannot renew the lease");
            // If etcd refuses at once, endless requests would not help.
            let pause = Instant::now() + self.interval() / 8;
            sleep_until(pause.min(expiry.running)).await;
        };
        tracing::warn!(reason = fault.reason(), "lease lost");
        fault
    }

    async fn renew_until_a_fault(&self) -> Fault {
        match self.renew().await {
            Ok(never) => match never {},
            Err(fault) => fault,
        }
    }

    /// Renews it repeatedly over one stream.
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
            // Not a tokio interval, because one renewal is enough after a pause of the process.
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
        // A silent member must not use up the time for trying another one.
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

    /// Revokes the lease, and with it all its keys. If etcd is unreachable now, this is done later, because
    /// returning members restart the time of each lease.
    pub(super) async fn revoke(self) {
        match timeout(REVOCATION, revoke(&self.shared, self.id)).await {
            Ok(Ok(())) => return,
            Ok(Err(fault)) => {
                tracing::debug!(reason = fault.reason(), "lease will be revoked later");
            }
            Err(_) => tracing::debug!("lease will be revoked later"),
        }
        let shared = Arc::clone(&self.shared);
        let later = async move {
            let mut backoff = Backoff::default();
            let revoked = async {
                while revoke(&self.shared, self.id).await.is_err() {
                    backoff.wait().await;
                }
            };
            tokio::select! {
                biased;
                () = self.shared.background.stop.cancelled() => {}
                () = revoked => {}
            }
        };
        shared.background.spawn_control(later);
    }
}

/// Revokes a lease, and with it all its keys.
pub(super) async fn revoke(shared: &Shared, id: i64) -> Result<(), Fault> {
    let request = |client: Client| async move {
        client.lease().lease_revoke(LeaseRevokeRequest { id }).await
    };
    match shared.control.call(Effect::Harmless, request).await {
        // Already revoked, or expired.
        Ok(_) | Err(Fault::Invalid(_)) => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// The remaining time of another node's lease. `None` if it has expired.
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

/// The stream of renewals and of their answers.
type Renewals = (mpsc::Sender<LeaseKeepAliveRequest>, Streaming<LeaseKeepAliveResponse>);

/// The reliable part of a lease's time.
fn reliable(ttl: Duration) -> Duration {
    ttl - ttl / 5
}
