//! Removes ended tasks and the records of ticks after their retention, in small portions, by requests to the coordinator.

use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rota_store::{Direction, KeyRange, Store, StoreError};
use rustc_hash::FxHashMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    codec::Expiring,
    inbox::InboxSender,
    layout,
    records::{Retain, Scan},
    request::{Answer, PurgeEntry, Purged, Request},
    rounds::Rounds,
    shared::{Phase, Shared},
};

/// Interval of passes over the log.
const PERIOD: Duration = Duration::from_secs(5);
/// Number of log entries to read at a time.
const ENTRIES: usize = 16;
/// Number of log entries to work on at once. The answer to a request comes with the next batch but one, and each batch can
/// add entries, so one at a time would never catch up under constant load.
const AT_ONCE: usize = 8;
/// Time that a request waits for a place in the inbox. Then the rest is left to the next pass.
const INBOX_WAIT: Duration = Duration::from_secs(10);
/// Maximum number of tasks and ticks to remove in one request.
const REMOVED: usize = 500;
/// Maximum pause before an entry is retried whose tasks could not all be removed.
const REST_MAX: Duration = Duration::from_secs(3600);

/// Entries of which not all could be removed, because a record is damaged or the clock was set back. The
/// pause before a retry doubles each time.
#[derive(Debug, Default)]
struct Resting(FxHashMap<Bytes, (Instant, Duration)>);

impl Resting {
    fn is_due(&self, entry: &Bytes, now: Instant) -> bool {
        self.0.get(entry).is_none_or(|(until, _)| *until <= now)
    }

    /// Records whether all tasks of an entry were removed.
    fn looked_at(&mut self, entry: &Bytes, done: bool, now: Instant) {
        if done {
            self.0.remove(entry);
            return;
        }
        let pause = self.0.get(entry).map_or(PERIOD, |(_, pause)| (*pause * 2).min(REST_MAX));
        self.0.insert(entry.clone(), (now + pause, pause));
    }
}

/// Runs until `stop` is cancelled. A failed pass is retried after the interval.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
    inbox: InboxSender,
    stop: CancellationToken,
) {
    let mut rounds = Rounds::every(PERIOD, stop);
    let mut resting = Resting::default();
    while rounds.next().await.is_some() {
        if *shared.phase.borrow() != Phase::Leading {
            resting = Resting::default();
            continue;
        }
        shared.timekeeper.check(shared.host.now());
        if shared.timekeeper.doubts() {
            continue;
        }
        let passed = rounds.unless_stopped(pass(&store, &shared, &inbox, &mut resting)).await;
        if let Some(Err(error)) = passed {
            warn!(%error, "retention pass interrupted");
        }
    }
}

async fn pass(
    store: &Arc<dyn Store>,
    shared: &Shared,
    inbox: &InboxSender,
    resting: &mut Resting,
) -> Result<(), StoreError> {
    let end = layout::retain_from(shared.host.now().wall);
    let snapshot = store.snapshot().await?;
    let range = KeyRange { space: layout::RETAIN, start: Bytes::new(), end: Some(end) };
    let mut scan = Scan::<Retain>::new(range, Direction::Ascending, ENTRIES);
    while let Some(page) = scan.next(snapshot.as_ref()).await? {
        let mut due = Vec::with_capacity(page.len());
        for entry in &page {
            let (key, now) = (&entry.key, Instant::now());
            if !resting.is_due(key, now) {
                continue;
            }
            let found = entry.decode(key);
            if let Some(error) = found.unreadable() {
                let entry = String::from_utf8_lossy(key);
                debug!(%entry, error, "retention entry skipped: this version cannot read it");
            }
            let Some(expiring) = found.record() else {
                resting.looked_at(key, false, now);
                continue;
            };
            due.push((key.clone(), expiring));
        }
        let removals = stream::iter(due).map(|(key, expiring)| async move {
            let (tasks, ticks) = (expiring.tasks.len(), expiring.ticks.len());
            debug!(tasks, ticks, "removing old tasks");
            let done = remove(shared, inbox, &expiring, &key).await;
            (key, done)
        });
        let mut removals = pin!(removals.buffered(AT_ONCE));
        while let Some((key, done)) = removals.next().await {
            let Some(done) = done else { return Ok(()) };
            resting.looked_at(&key, done, Instant::now());
        }
    }
    Ok(())
}

/// Removes the tasks and ticks of an entry, and then the entry, unless one must be kept because the wall clock
/// was set back. Returns whether all were removed. `None` if the engine did not answer, which ends the pass.
async fn remove(
    shared: &Shared,
    inbox: &InboxSender,
    expiring: &Expiring,
    entry: &Bytes,
) -> Option<bool> {
    let mut portions: VecDeque<_> = portions_of(expiring).collect();
    if portions.is_empty() {
        portions.push_back(Expiring::default());
    }
    let mut done = true;
    while let Some(expiring) = portions.pop_front() {
        let entry = PurgeEntry { key: entry.clone(), is_last: done && portions.is_empty() };
        let (answer, answered) = Answer::new(None);
        let request = Request::Purge { expiring, entry, answer };
        if inbox.send(request, shared.host.now().mono, INBOX_WAIT).await.is_err() {
            return None;
        }
        match answered.await {
            Ok(Ok(Purged { all, left })) => {
                done &= all;
                if left.len() > 0 {
                    portions.push_front(left);
                }
            }
            Ok(Err(error)) => {
                warn!(%error, "cannot remove old tasks");
                return None;
            }
            Err(_) => return None,
        }
    }
    Some(done)
}

fn portions_of(expiring: &Expiring) -> impl Iterator<Item = Expiring> {
    let tasks = expiring.tasks.chunks(REMOVED);
    let tasks = tasks.map(|tasks| Expiring { tasks: tasks.to_vec(), ..Expiring::default() });
    let ticks = expiring.ticks.chunks(REMOVED);
    tasks.chain(ticks.map(|ticks| Expiring { ticks: ticks.to_vec(), ..Expiring::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_cannot_be_dealt_with_is_looked_at_ever_more_rarely() {
        let (mut resting, mut now) = (Resting::default(), Instant::now());
        let (damaged, other) = (Bytes::from_static(b"damaged"), Bytes::from_static(b"other"));
        let mut looks = 0;
        for _ in 0..24 * 3600 / PERIOD.as_secs() {
            if resting.is_due(&damaged, now) {
                looks += 1;
                resting.looked_at(&damaged, false, now);
            }
            assert!(resting.is_due(&other, now));
            now += PERIOD;
        }
        assert!((24..40).contains(&looks), "{looks} in a day");
        resting.looked_at(&damaged, true, now);
        assert!(resting.is_due(&damaged, now), "mended");
    }
}
