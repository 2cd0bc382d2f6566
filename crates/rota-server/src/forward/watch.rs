//! Checks whether forwarding to the leader works. Sends a short request every second in the same way as
//! requests of clients, so that a node whose forwarding fails becomes unready.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{body::Body, extract::Request};
use rota_engine::Role;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Forwarder, Travel, after, answer, pool::Lane, pool::Lost};

/// Interval of the checks.
const PERIOD: Duration = Duration::from_secs(1);
/// Timeout of a check.
const WITHIN: Duration = Duration::from_secs(2);
/// Time of failures before they count as a problem. A change of leadership takes less.
const PATIENCE: Duration = Duration::from_secs(10);

/// Since when checks fail, and why.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<(Instant, String)>>);

impl Trouble {
    fn set(&self, why: Option<String>) {
        let mut trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = why.map(|why| (trouble.as_ref().map_or_else(Instant::now, |it| it.0), why));
    }
}

impl Forwarder {
    /// The problem, if checks have failed for a while.
    pub(crate) fn problem(&self) -> Option<String> {
        let trouble = self.trouble.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, why) = trouble.as_ref()?;
        let passed = since.elapsed();
        let secs = passed.as_secs();
        (passed >= PATIENCE)
            .then(|| format!("forwarding to the leader has failed for {secs} s: {why}"))
    }

    /// Checks the connection to the leader until the server stops, and closes unused connections.
    pub(crate) async fn watch(&self) {
        let mut period = interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                _ = period.tick() => {}
            }
            self.pool.prune();
            let why = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                why = self.try_the_way() => why,
            };
            self.trouble.set(why);
        }
    }

    /// Sends a check. Returns the error if it fails.
    async fn try_the_way(&self) -> Option<String> {
        let Role::Follower(seat) = self.engine.role() else { return None };
        let address = seat.member.address.as_deref()?;
        // This path needs no token, and any answer shows that forwarding works. The body is read too, because
        // bodies share the window of a connection.
        let request = Request::get("/healthz").body(Body::empty()).ok()?;
        let travel = Travel { lane: Lane::Short, until: after(WITHIN) };
        let answer = match self.send(address, request, travel).await {
            Ok(answer) => self.noted(address, answer::small(answer, travel.until).await),
            Err(lost) => Err(lost),
        };
        let why = match answer {
            Ok(_) => return None,
            Err(Lost::NotSent(why)) => why,
            Err(Lost::NoRoom) => "all streams to it are in use".to_owned(),
            Err(Lost::Late) => format!("no answer within {WITHIN:?}"),
            Err(Lost::Unknown) => "the connection broke".to_owned(),
        };
        Some(format!("{} ({address}): {why}", seat.member.name))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn since(trouble: &Trouble) -> Option<Duration> {
        trouble.0.lock().unwrap().as_ref().map(|(since, _)| since.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_lasts_from_its_first_failure_to_the_next_success() {
        let trouble = Trouble::default();
        trouble.set(Some("a".to_owned()));
        advance(Duration::from_secs(3)).await;
        trouble.set(Some("b".to_owned()));
        assert_eq!(since(&trouble), Some(Duration::from_secs(3)));
        trouble.set(None);
        assert_eq!(since(&trouble), None);
    }
}
