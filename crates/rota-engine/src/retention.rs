//! Removes what has been kept long enough, a little at a time, through the same door as all else.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::TaskId;
use rota_store::{Direction, KeyRange, Store, StoreError};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    codec,
    inbox::InboxSender,
    layout,
    load::behind,
    request::{Answer, PurgeEntry, Request},
    shared::{Phase, Shared},
};

/// Between two looks at the log.
const PERIOD: Duration = Duration::from_secs(5);
/// Entries of the log read at a time.
const ENTRIES: usize = 16;
/// How long a request waits for a place in the inbox; then the rest is left to the next pass.
const INBOX_WAIT: Duration = Duration::from_secs(10);
/// Tasks removed in one request.
const TASKS: usize = 500;

/// Runs until `stop` is cancelled. A pass that fails is tried again with the next period.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
    inbox: InboxSender,
    stop: CancellationToken,
) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = period.tick() => {}
        }
        if *shared.phase.borrow() != Phase::Leading {
            continue;
        }
        shared.timekeeper.look(shared.host.now());
        if shared.timekeeper.doubts() {
            continue;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            result = pass(&store, &shared, &inbox) => if let Err(error) = result {
                warn!(%error, "removing old tasks was interrupted");
            },
        }
    }
}

async fn pass(
    store: &Arc<dyn Store>,
    shared: &Shared,
    inbox: &InboxSender,
) -> Result<(), StoreError> {
    let end = layout::retain_from(shared.host.now().wall);
    let snapshot = store.snapshot().await?;
    let mut range = KeyRange { space: layout::RETAIN, start: Bytes::new(), end: Some(end) };
    loop {
        let page = snapshot.scan(range.clone(), Direction::Ascending, ENTRIES).await?;
        for (key, value) in &page.entries {
            let tasks = match codec::decode_retain(value) {
                Ok(tasks) => tasks,
                Err(error) => {
                    let entry = String::from_utf8_lossy(key);
                    debug!(%entry, %error, "what it names is not removed: this version cannot read it");
                    continue;
                }
            };
            debug!(tasks = tasks.len(), "removing old tasks");
            if !remove(shared, inbox, &tasks, key).await {
                return Ok(());
            }
        }
        match page.entries.last() {
            Some((last, _)) if page.more => range.start = behind(last),
            _ => return Ok(()),
        }
    }
}

/// Removes the tasks of one entry, and with the last of them the entry, unless one has to be kept: the
/// wall clock was set back. False: the engine did not answer, so the pass is over.
async fn remove(shared: &Shared, inbox: &InboxSender, tasks: &[TaskId], entry: &Bytes) -> bool {
    let chunks = tasks.len().div_ceil(TASKS).max(1);
    let mut done = true;
    for at in 0..chunks {
        let tasks = tasks.chunks(TASKS).nth(at).unwrap_or_default().to_vec();
        let entry = PurgeEntry { key: entry.clone(), is_last: done && at + 1 == chunks };
        let (answer, answered) = Answer::new(None);
        let request = Request::Purge { tasks, entry, answer };
        if inbox.send(request, shared.host.now().mono, INBOX_WAIT).await.is_err() {
            return false;
        }
        match answered.await {
            Ok(Ok(removed)) => done &= removed,
            Ok(Err(error)) => {
                warn!(%error, "removing old tasks failed");
                return false;
            }
            Err(_) => return false,
        }
    }
    true
}
