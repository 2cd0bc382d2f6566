//! The totals of the last hour, for the curves of the overview: one point every ten seconds, in the memory of the node.
//!
//! The node asks for totals while somebody has looked within the last hour, so a cluster without readers pays nothing. A
//! point costs one call of the API. The leader counts from zero when it takes over, so a step back is a gap of the curve.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rota_proto::v1::{ListQueuesRequest, Queue};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::api::Api;

/// Time between two points.
pub(crate) const STEP: Duration = Duration::from_secs(10);
/// Points to keep: an hour.
pub(crate) const POINTS: usize = 360;
/// The node goes on for so long after the last look.
const WATCHED: Duration = Duration::from_secs(3600);
/// Two points that are further apart have a gap between them.
const GAP: Duration = Duration::from_secs(25);
/// Pages of queues to sum.
const PAGES: usize = 10;

/// Totals at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) at: SystemTime,
    pub(crate) waiting: u64,
    pub(crate) created: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
}

/// What happened between two points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Beat {
    pub(crate) at: SystemTime,
    /// Tasks that waited at its end.
    pub(crate) waiting: u64,
    /// Tasks a minute. `None` in a gap.
    pub(crate) rates: Option<Rates>,
}

/// Tasks a minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rates {
    pub(crate) created: f64,
    pub(crate) completed: f64,
    pub(crate) failed: f64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    points: Mutex<VecDeque<Totals>>,
    looked: Mutex<Option<Instant>>,
    wanted: Notify,
}

impl Pulse {
    /// Takes points while somebody looks, until the stop of the server.
    pub(crate) async fn run(&self, api: Api, stop: &CancellationToken) {
        loop {
            let next = if self.is_watched() { STEP } else { Duration::MAX };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(next) => {}
                () = self.wanted.notified() => {}
            }
            // A node without a leader has a gap.
            if let Ok(Some(totals)) = timeout(STEP, read(&api)).await {
                self.add(totals);
            }
        }
    }

    /// Says that somebody looks, and what is known. The oldest is first.
    pub(crate) fn look(&self) -> Vec<Beat> {
        if !self.is_watched() {
            self.wanted.notify_one();
        }
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        beats(points.iter().copied())
    }

    fn is_watched(&self) -> bool {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.is_some_and(|at| at.elapsed() < WATCHED)
    }

    fn add(&self, totals: Totals) {
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        if points.len() >= POINTS {
            points.pop_front();
        }
        points.push_back(totals);
    }
}

async fn read(api: &Api) -> Option<Totals> {
    let at = SystemTime::now();
    let mut totals = Totals { at, waiting: 0, created: 0, completed: 0, failed: 0 };
    let mut request = ListQueuesRequest::default();
    for _ in 0..PAGES {
        let list = api.queues().list_queues(request.clone()).await.ok()?.into_inner();
        let sum = |of: fn(&Queue) -> u64| list.queues.iter().map(of).sum::<u64>();
        totals.waiting += sum(|queue| queue.pending);
        totals.created += sum(|queue| queue.created_total);
        totals.completed += sum(|queue| queue.completed_total);
        totals.failed += sum(|queue| queue.failed_total);
        match list.next_page_token {
            Some(next) => request.page_token = next,
            None => break,
        }
    }
    Some(totals)
}

fn beats(points: impl Iterator<Item = Totals>) -> Vec<Beat> {
    let mut before: Option<Totals> = None;
    let beat = |now: Totals| {
        let rates = before.replace(now).and_then(|before| rates(before, now));
        Beat { at: now.at, waiting: now.waiting, rates }
    };
    points.map(beat).collect()
}

/// `None` if the points are too far apart, or the leader changed between them.
fn rates(before: Totals, now: Totals) -> Option<Rates> {
    let time = now.at.duration_since(before.at).ok().filter(|time| *time <= GAP)?;
    let minutes = (time > Duration::ZERO).then(|| time.as_secs_f64() / 60.0)?;
    #[expect(clippy::cast_precision_loss, reason = "differences within ten seconds are small")]
    let rate = |now: u64, before: u64| Some(now.checked_sub(before)? as f64 / minutes);
    Some(Rates {
        created: rate(now.created, before.created)?,
        completed: rate(now.completed, before.completed)?,
        failed: rate(now.failed, before.failed)?,
    })
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::ListQueuesResponse;

    use super::*;
    use crate::fake::Fake;

    /// The clock is paused, so this takes no time.
    async fn pass(time: Duration) {
        let forever = timeout(time, std::future::pending::<()>());
        assert!(forever.await.is_err());
    }

    fn at(seconds: u64, completed: u64, failed: u64) -> Totals {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Totals { at, waiting: seconds, created: 2 * completed, completed, failed }
    }

    #[test]
    fn totals_become_rates_and_gaps() {
        let points = [at(0, 5, 0), at(10, 15, 1), at(70, 20, 1), at(80, 3, 0), at(90, 3, 0)];
        let rates: Vec<_> = beats(points.into_iter()).into_iter().map(|beat| beat.rates).collect();
        let rate = |completed, failed| Some(Rates { created: 2.0 * completed, completed, failed });
        // None before the first, none after a minute without a point, and none over a change of the leader.
        assert_eq!(rates, [None, rate(60.0, 6.0), None, None, rate(0.0, 0.0)]);
    }

    #[test]
    fn an_hour_is_kept() {
        let pulse = Pulse::default();
        for second in 0..1000 {
            pulse.add(at(second, second, 0));
        }
        let beats = pulse.look();
        assert_eq!((beats.len(), beats[0].waiting), (POINTS, 640));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_asked_before_somebody_looks_and_long_after() {
        let queue = Queue { completed_total: 7, pending: 2, ..Queue::default() };
        let list = ListQueuesResponse { queues: vec![queue], ..ListQueuesResponse::default() };
        let fake = Fake::default().with("ListQueues", &list);
        let (pulse, stop) = (Pulse::default(), CancellationToken::new());
        let api = fake.visit("", "").api;
        let look = async {
            pass(WATCHED).await;
            assert_eq!(fake.methods().len(), 0);
            assert_eq!(pulse.look(), []);
            pass(STEP * 3 + STEP / 2).await;
            assert_eq!(fake.methods().len(), 4, "at once, and then every ten seconds");
            assert_eq!(pulse.look().last().map(|beat| beat.waiting), Some(2));
            pass(WATCHED * 2).await;
            let asked = fake.methods().len();
            pass(WATCHED).await;
            assert_eq!(fake.methods().len(), asked, "nobody looks any more");
            stop.cancel();
        };
        tokio::join!(pulse.run(api, &stop), look);
    }
}
