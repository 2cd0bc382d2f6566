//! The session that a node's keys hang on: created, renewed, destroyed.
//!
//! Consul promises to keep a session for its TTL, and lets it expire after up to twice that: its leader gives each
//! session double time, and its whole time anew whenever Consul's own leader changes. Here it is counted, suspension
//! of the machine included, from the moment at which a renewal was *sent*, and for four fifths of the TTL. So this
//! node ceases to believe in it well before another can take the seat.
//!
//! The session has no checks: it must not end because the agent restarts, and it must end when this process is gone.
//! It has no lock delay either. A lock delay protects writes that nothing else fences; here each write demands that
//! the leader's key is unchanged.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Shared,
    fault::Fault,
    link::{Effect, Link, Request},
};
use crate::{
    remote::{backoff::Backoff, moment::Moment},
    watch,
};

/// Renewals in the time for which a session can be relied on: all of them but one may fail.
const RENEWALS: u32 = 4;

/// Who destroys it waits no longer for it.
const DESTRUCTION: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Session {
    shared: Arc<Shared>,
    pub(super) id: String,
    ttl: Duration,
    /// Until when it surely lasts.
    until: watch::Sender<Moment>,
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

impl Session {
    /// A new session.
    pub(super) async fn create(shared: &Arc<Shared>, name: &str) -> Result<Self, Fault> {
        let ttl = shared.options.leader_ttl;
        let body = serde_json::json!({
            "Name": format!("{}: {name}", shared.options.prefix),
            "TTL": format!("{}ms", ttl.as_millis()),
            // Documentation of later versions asks for more than nothing. Below a microsecond, Consul takes seconds.
            "LockDelay": "1us",
            "Behavior": "delete",
            "NodeChecks": [],
            "Checks": [],
        });
        let asked = Moment::now();
        // One that is created without our knowing has no keys, and expires.
        let request = Request::put("session/create", body.to_string(), Effect::Harmless);
        let answer = shared.control.call(request).await?.with(&[200]).map_err(refused)?;
        let Created { id } = serde_json::from_slice(&answer.body)
            .map_err(|_| Fault::Unknown("Consul named no session".to_owned()))?;
        let until = watch::Sender::new(asked.plus(reliable(ttl)));
        Ok(Self { shared: Arc::clone(shared), id, ttl, until })
    }

    /// Until when it surely lasts, as that moves on.
    pub(super) fn until(&self) -> watch::Receiver<Moment> {
        self.until.subscribe()
    }

    /// Keeps it alive. Returns when it can no longer be relied on, with the reason.
    pub(super) async fn keep(&self) -> Fault {
        let interval = self.ttl / (RENEWALS + 1);
        let link = self.shared.control.with_timeout(interval.min(self.shared.options.timeout));
        let mut next = Instant::now() + interval;
        let fault = loop {
            let expiry = *self.until.borrow();
            sleep_until(next.min(expiry.running)).await;
            let sent = Moment::now();
            if expiry.has_passed_at(sent) {
                break Fault::Silent(reliable(self.ttl));
            }
            match self.renew(&link).await {
                Ok(()) => {
                    let until = sent.plus(reliable(self.ttl));
                    self.until.send_replace(until);
                    next = Instant::now() + interval;
                }
                Err(fault) if fault.is_passing() => {
                    tracing::warn!(reason = fault.reason(), "could not renew the session");
                    next = Instant::now() + interval / 8;
                }
                Err(fault) => break fault,
            }
        };
        tracing::warn!(reason = fault.reason(), "the session is lost");
        fault
    }

    async fn renew(&self, link: &Link) -> Result<(), Fault> {
        let path = format!("session/renew/{}", self.id);
        let answer = link.call(Request::put(path, "", Effect::Harmless)).await?;
        if answer.status == 404 {
            return Err(Fault::NoSession);
        }
        answer.with(&[200]).map(drop)
    }

    /// Gives it back, and with it all keys that it holds. Where Consul cannot be reached now, that is done as
    /// soon as it can.
    pub(super) async fn destroy(self) {
        match timeout(DESTRUCTION, self.try_destroy()).await {
            Ok(Ok(())) => return,
            Ok(Err(fault)) => tracing::debug!(reason = fault.reason(), "a session ends later"),
            Err(_) => tracing::debug!("a session ends later"),
        }
        let shared = Arc::clone(&self.shared);
        let later = async move {
            let mut backoff = Backoff::default();
            let destroyed = async {
                while self.try_destroy().await.is_err() {
                    backoff.wait().await;
                }
            };
            tokio::select! {
                biased;
                () = self.shared.background.stop.cancelled() => {}
                () = destroyed => {}
            }
        };
        shared.background.spawn_control(later);
    }

    async fn try_destroy(&self) -> Result<(), Fault> {
        destroy(&self.shared.control, &self.id).await
    }
}

/// Ends a session, and with it all keys that it holds.
pub(super) async fn destroy(link: &Link, id: &str) -> Result<(), Fault> {
    let request = Request::put(format!("session/destroy/{id}"), "", Effect::Harmless);
    link.call(request).await?.with(&[200, 404]).map(drop)
}

/// What of a session's time can be relied on.
fn reliable(ttl: Duration) -> Duration {
    ttl - ttl / 5
}

/// Consul says of a TTL that is too short what it takes.
fn refused(fault: Fault) -> Fault {
    match fault {
        Fault::Unknown(why) if why.contains("Missing node registration") => {
            Fault::Refused(format!("{why}: the agent has not joined yet"))
        }
        fault => fault,
    }
}
