//! Timeouts of answers, and the meaning of a missing answer.
//!
//! The duration of a large answer says nothing about the health of a member. So a request fails when nothing
//! arrives for a while, not when the whole answer takes long. Before a member without answers is marked as
//! silent, which makes all connections leave it, it gets a small request on another connection. A member that
//! is busy with a large request answers that one.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::BodyExt;
use tokio::time::{Instant, timeout};
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, http},
    transport::Channel,
};

/// Minimum speed of connections for which large requests get enough time, in bytes per second.
const SLOWEST_LINE: u64 = 128 * 1024;

/// Maximum duration of an answer of unknown size that keeps arriving, as a multiple of the timeout.
const LARGE_ANSWER: u32 = 10;

/// The timeouts of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// Maximum time in which nothing of the answer arrives.
    pub(super) quiet: Duration,
    /// Maximum total time.
    pub(super) all: Duration,
}

impl Patience {
    /// For a small request with a small answer.
    pub(super) fn brief(timeout: Duration) -> Self {
        Self { quiet: timeout, all: timeout }
    }

    /// For a request of this many bytes, with a small answer.
    pub(super) fn for_request(timeout: Duration, bytes: usize) -> Self {
        let sending = Duration::from_millis(bytes as u64 * 1000 / SLOWEST_LINE);
        Self::brief(timeout + sending)
    }

    /// For an answer that can be large.
    pub(super) fn for_answer(timeout: Duration) -> Self {
        Self { quiet: timeout, all: timeout * LARGE_ANSWER }
    }

    /// For a range: etcd can walk its index for seconds before it sends the first byte.
    pub(super) fn for_range(timeout: Duration) -> Self {
        Self { quiet: timeout * 3, all: timeout * LARGE_ANSWER }
    }
}

/// Why an answer is missing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The member does not answer at all.
    Silent,
    /// The member answers, but not this request in time.
    Slow,
}

/// Length of a slice of time. Each slice counts once, however late it ends, because a paused process cannot
/// receive answers.
const SLICE: Duration = Duration::from_millis(250);

/// Awaits a future with a timeout, without counting pauses of this process.
pub(super) async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut left = time;
    let mut future = pin!(future);
    while !left.is_zero() {
        let slice = left.min(SLICE);
        if let Ok(value) = timeout(slice, &mut future).await {
            return Some(value);
        }
        left -= slice;
    }
    None
}

/// Awaits an answer whose bytes `pulse` counts. When nothing arrives for half of the `timeout`, checks with
/// `lives` whether the member answers at all, within the other half.
pub(super) async fn receive<T, L: Future<Output = bool>>(
    answer: impl Future<Output = T>,
    pulse: &Pulse,
    patience: Patience,
    timeout: Duration,
    lives: impl Fn() -> L,
) -> Result<T, Missing> {
    let half = timeout / 2;
    let mut answer = pin!(answer);
    let mut beats = pulse.beats();
    // Time since the start, since the last bytes of the answer, and since the member was last known to be
    // alive.
    let [mut all, mut quiet, mut unknown] = [Duration::ZERO; 3];
    while all < patience.all && quiet < patience.quiet {
        let left = (patience.all - all).min(patience.quiet - quiet);
        let step = left.min(half.saturating_sub(unknown));
        if !step.is_zero() {
            let step = step.min(SLICE);
            if let Some(answer) = within(step, &mut answer).await {
                return Ok(answer);
            }
            (all, quiet, unknown) = (all + step, quiet + step, unknown + step);
        } else {
            let asked = Instant::now();
            let alive = tokio::select! {
                biased;
                answer = &mut answer => return Ok(answer),
                alive = within(half, lives()) => alive.unwrap_or(false),
            };
            let took = asked.elapsed().min(half);
            (all, quiet) = (all + took, quiet + took);
            if !alive && pulse.beats() == beats {
                return Err(Missing::Silent);
            }
            unknown = Duration::ZERO;
        }
        if pulse.beats() != beats {
            beats = pulse.beats();
            (quiet, unknown) = (Duration::ZERO, Duration::ZERO);
        }
    }
    Err(Missing::Slow)
}

/// Counts the bytes of an answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A channel that reports all received bytes to a pulse.
#[derive(Clone)]
pub(super) struct Heard {
    pub(super) channel: Channel,
    pub(super) pulse: Pulse,
}

impl Service<http::Request<Body>> for Heard {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.channel.call(request);
        let pulse = self.pulse.clone();
        Box::pin(async move {
            let answer = answer.await?;
            pulse.beat();
            let heard = move |frame| {
                pulse.beat();
                frame
            };
            Ok(answer.map(|body| Body::new(body.map_frame(heard))))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::interval_at;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(3);

    async fn wait(
        answer: impl Future<Output = ()>,
        pulse: &Pulse,
        patience: Patience,
        lives: bool,
    ) -> (Result<(), Missing>, Duration) {
        let began = Instant::now();
        let received = receive(answer, pulse, patience, TIMEOUT, || async {
            if !lives {
                pending::<()>().await;
            }
            lives
        });
        (received.await, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_answers_nothing_is_silent_after_the_timeout() {
        for patience in [
            Patience::brief(TIMEOUT),
            Patience::for_request(TIMEOUT, 1 << 24),
            Patience::for_answer(TIMEOUT),
            Patience::for_range(TIMEOUT),
        ] {
            let waited = wait(pending(), &Pulse::default(), patience, false).await;
            assert_eq!(waited, (Err(Missing::Silent), TIMEOUT), "{patience:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_answers_small_questions_is_slow_but_not_silent() {
        for patience in [Patience::brief(TIMEOUT), Patience::for_answer(TIMEOUT)] {
            let waited = wait(pending(), &Pulse::default(), patience, true).await;
            assert_eq!(waited, (Err(Missing::Slow), TIMEOUT), "{patience:?}");
        }
        let patience = Patience::for_request(TIMEOUT, 1 << 20);
        let waited = wait(pending(), &Pulse::default(), patience, true).await;
        assert_eq!(waited, (Err(Missing::Slow), TIMEOUT + Duration::from_secs(8)));
    }

    /// A process that was stopped for a minute finds the answer when it goes on, though not at once.
    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_process_stood_still_does_not_count() {
        let answered = tokio::sync::Notify::new();
        let stopped = async {
            tokio::time::advance(20 * TIMEOUT).await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            answered.notify_one();
        };
        for patience in [Patience::brief(TIMEOUT), Patience::for_answer(TIMEOUT)] {
            let pulse = Pulse::default();
            let waiting = wait(answered.notified(), &pulse, patience, false);
            let stopped = async {
                tokio::task::yield_now().await;
                tokio::time::advance(20 * TIMEOUT).await;
                tokio::task::yield_now().await;
                answered.notify_one();
            };
            let ((received, _), ()) = tokio::join!(waiting, stopped);
            assert_eq!(received, Ok(()));
        }
        let (received, ()) = tokio::join!(within(TIMEOUT, answered.notified()), stopped);
        assert!(received.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_long_while_it_comes() {
        let pulse = Pulse::default();
        let often = || interval_at(Instant::now() + TIMEOUT / 3, TIMEOUT / 3);
        let coming = async {
            let mut often = often();
            for _ in 0..20 {
                often.tick().await;
                pulse.beat();
            }
        };
        let patience = Patience::for_answer(TIMEOUT);
        let (received, took) = wait(coming, &pulse, patience, false).await;
        assert_eq!((received, took), (Ok(()), TIMEOUT / 3 * 20));
        // But not for ever.
        let dripping = async {
            let mut often = often();
            loop {
                often.tick().await;
                pulse.beat();
            }
        };
        let (received, took) = wait(dripping, &pulse, patience, false).await;
        assert_eq!((received, took), (Err(Missing::Slow), TIMEOUT * LARGE_ANSWER));
    }
}
