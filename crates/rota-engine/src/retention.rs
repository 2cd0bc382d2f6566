//! Removes what has been kept long enough, a little at a time, through the same door as all else.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::TaskId;
use rota_store::{Direction, KeyRange, Store, StoreError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    codec, layout,
    load::behind,
    request::{Answer, Request},
    shared::{Phase, Shared},
};

/// Between two looks at the log.
const PERIOD: Duration = Duration::from_secs(5);
/// Entries of the log read at a time.
const ENTRIES: usize = 16;
/// Tasks removed in one request.
const TASKS: usize = 500;

/// Runs until `stop` is cancelled. A pass that fails is tried again with the next period.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
    inbox: mpsc::Sender<Request>,
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
    inbox: &mpsc::Sender<Request>,
) -> Result<(), StoreError> {
    let snapshot = store.snapshot().await?;
    let end = layout::retain_from(shared.host.now().wall);
    let mut range = KeyRange { space: layout::RETAIN, start: Bytes::new(), end: Some(end) };
    loop {
        let page = snapshot.scan(range.clone(), Direction::Ascending, ENTRIES).await?;
        for (key, value) in &page.entries {
            let tasks = codec::decode_retain(value)
                .map_err(|error| StoreError::Corrupt(format!("retain: {error}")))?;
            debug!(tasks = tasks.len(), "removing old tasks");
            if !remove(inbox, &tasks, key).await {
                return Ok(());
            }
        }
        match page.entries.last() {
            Some((last, _)) if page.more => range.start = behind(last),
            _ => return Ok(()),
        }
    }
}

/// Removes the tasks of one entry, and with the last of them the entry. False: the engine did not
/// answer, so the pass is over.
async fn remove(inbox: &mpsc::Sender<Request>, tasks: &[TaskId], entry: &Bytes) -> bool {
    let chunks = tasks.len().div_ceil(TASKS).max(1);
    for at in 0..chunks {
        let part = tasks.chunks(TASKS).nth(at).unwrap_or_default().to_vec();
        let entries = if at + 1 == chunks { vec![entry.clone()] } else { Vec::new() };
        let (answer, done) = Answer::new(None);
        if inbox.send(Request::Purge { tasks: part, entries, answer }).await.is_err() {
            return false;
        }
        match done.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(%error, "removing old tasks failed");
                return false;
            }
            Err(_) => return false,
        }
    }
    true
}
