//! The standby: while another node leads, a node keeps a copy of the backlog up to date by watching the
//! store, so that a takeover does not begin with reading the whole backlog.
//!
//! The copy is only an optimisation. It is used only if it certainly includes the last durable batch.
//! Otherwise the backlog is read again.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use rota_core::TaskId;
use rota_store::{
    BatchSeq, Change, ChangeStream, Epoch, Head, Mutation, Revision, Store, StoreError,
};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use crate::{
    host::Host,
    layout,
    load::{self, LiveRecords, Loaded, MachineOptions, Records},
    planted::Planted,
    prepared::Prepared,
    records::{self, Entry, Live, Queue, own},
    schedule_records::ScheduleRecords,
    shared::Shared,
};

/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);
/// Interval at which the whole copy is read again.
const RECONCILE: Duration = Duration::from_secs(600);
/// Time that a new leader waits for the last changes before it reads everything.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The copy.
#[derive(Default)]
pub(crate) struct Standby {
    live: LiveRecords,
    queues: BTreeMap<Bytes, Bytes>,
    schedules: Arc<ScheduleRecords>,
    newest: Option<TaskId>,
    /// The last batch that it certainly includes.
    seq: BatchSeq,
    revision: Revision,
    changes: Option<ChangeStream>,
    /// The last request to prepare to take over: the leadership, and the node that it asked.
    asked: Option<(Epoch, Bytes)>,
    prepared: Option<Prepared>,
}

/// Logs an outage of the store as a warning only once, so that the log does not get a line for every attempt.
#[derive(Default)]
struct Outage {
    told: bool,
}

impl Outage {
    fn tell(&mut self, error: &StoreError, what: &'static str) {
        if self.told {
            debug!(%error, "{what}");
        } else {
            warn!(%error, "{what}; further failures are logged as debug until it works again");
        }
        self.told = true;
    }
}

impl Standby {
    /// Keeps the copy up to date. Never returns. Cancel safe: a dropped call leaves an older but consistent
    /// copy.
    pub(crate) async fn follow(
        &mut self,
        store: &dyn Store,
        shared: &Shared,
        name: &str,
        options: MachineOptions,
    ) {
        let mut outage = Outage::default();
        loop {
            if let Err(error) = self.list(store).await {
                self.forget(shared);
                outage.tell(&error, "cannot copy the backlog");
                sleep(PAUSE).await;
                continue;
            }
            outage = Outage::default();
            info!(live = self.live.len(), revision = self.revision.0, "standing by");
            self.note(shared);
            let reconcile = Instant::now() + RECONCILE;
            while let Ok(watched) = timeout_at(reconcile, self.progress(store, name)).await {
                self.prepare(name, options, &shared.host);
                match watched {
                    Ok(()) => {
                        outage = Outage::default();
                        self.note(shared);
                    }
                    Err(error @ StoreError::Compacted) => {
                        debug!(%error, "reading the copy of the backlog again");
                        break;
                    }
                    Err(error) => {
                        outage.tell(&error, "cannot watch the backlog");
                        sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// Builds the machine of a new leader. Reads the backlog if the copy does not include `head` within a
    /// second.
    ///
    /// # Errors
    /// When the backlog cannot be read.
    pub(crate) async fn load(
        mut self,
        store: &Arc<dyn Store>,
        options: MachineOptions,
        host: &Host,
    ) -> Result<Loaded, StoreError> {
        let head = store.head().await?;
        if !self.catch_up(store.as_ref(), head).await {
            return load::load(store, options, host).await;
        }
        let Self { live, queues, schedules, newest, prepared, .. } = self;
        if let Some(prepared) = prepared
            && let Some(loaded) = prepared.finish(&live, &schedules, newest, head.seq).await
        {
            info!(live = live.len(), "taking over with a prepared machine");
            host.discard((live, queues, schedules));
            return Ok(loaded);
        }
        info!(live = live.len(), "taking over with the copy of the backlog");
        let records = Records { queues, live, schedules, newest, head: head.seq };
        let (now, parallel) = (host.now(), host.parallel());
        let restore = move || (load::restore(&records, options, now, parallel), records);
        let (loaded, records) = host.block_on(restore).await;
        // Clients wait, and freeing the memory of many records takes a while.
        host.discard(records);
        Ok(loaded)
    }

    /// Starts preparing a machine if the leader asked this node to, and drops an unused one.
    fn prepare(&mut self, name: &str, options: MachineOptions, host: &Host) {
        self.prepared.take_if(|prepared| prepared.kept_until <= Instant::now());
        let Some((asked_by, successor)) = self.asked.take() else { return };
        if successor == name.as_bytes() {
            let (queues, live) = (self.queues.clone(), self.live.clone());
            let (schedules, newest, head) = (self.schedules.clone(), self.newest, self.seq);
            let records = Records { queues, live, schedules, newest, head };
            self.prepared = Some(Prepared::begin(asked_by, records, options, host));
        }
    }

    /// Applies the next batch, and announces a machine that is ready. Cancel safe.
    async fn progress(&mut self, store: &dyn Store, name: &str) -> Result<(), StoreError> {
        let Some(prepared) = &mut self.prepared else { return self.next(store).await };
        let (asked_by, kept_until) = (prepared.asked_by, prepared.kept_until);
        let change = tokio::select! {
            biased;
            () = prepared.made() => {
                store.announce_ready(name, asked_by);
                return Ok(());
            }
            () = sleep_until(kept_until) => return Ok(()),
            change = receive(&mut self.changes, self.revision, store) => change?,
        };
        self.apply(&change);
        Ok(())
    }

    /// Whether the copy includes the head.
    async fn catch_up(&mut self, store: &dyn Store, head: Head) -> bool {
        if self.changes.is_none() {
            return false;
        }
        if Planted::TrustsOldCopy.is_made() {
            return true;
        }
        let deadline = Instant::now() + CATCH_UP;
        while self.seq < head.seq {
            if !matches!(timeout_at(deadline, self.next(store)).await, Ok(Ok(()))) {
                return false;
            }
        }
        // There is nothing after the head, because this node leads and has written nothing yet.
        self.seq == head.seq
    }

    async fn list(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        self.changes = None;
        let head = store.head().await?;
        let snapshot = store.snapshot().await?;
        let (mut live, mut queues) = (BTreeMap::new(), BTreeMap::new());
        records::each(snapshot.as_ref(), |entry: &Entry<Queue>| {
            queues.insert(own(&entry.key), own(&entry.value));
        })
        .await?;
        records::each(snapshot.as_ref(), |entry: &Entry<Live>| {
            if let Some(task) = entry.typed_key() {
                live.insert(task, own(&entry.value));
            }
        })
        .await?;
        let schedules = Arc::new(ScheduleRecords::read(snapshot.as_ref()).await?);
        let newest = load::newest_task(snapshot.as_ref()).await?;
        let revision = snapshot.revision();
        let changes = Some(store.watch(revision).await?);
        // The copy may include later batches; then the next batch of the watch shows it.
        let (seq, live) = (head.seq, Arc::new(live));
        let (asked, prepared) = (None, None);
        *self = Self { live, queues, schedules, newest, seq, revision, changes, asked, prepared };
        Ok(())
    }

    /// Applies the next batch.
    async fn next(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let change = receive(&mut self.changes, self.revision, store).await?;
        self.apply(&change);
        Ok(())
    }

    fn apply(&mut self, change: &Change) {
        self.revision = change.revision;
        self.seq = change.head.seq;
        for mutation in change.mutations.iter() {
            let space = mutation.space();
            if let Some(prepared) = &mut self.prepared {
                prepared.note(mutation);
            }
            match mutation {
                _ if Planted::MissesChanges.is_made_once_in(20) => {}
                Mutation::Put { .. } | Mutation::Delete { .. }
                    if space == layout::QUEUE && Planted::ForgetsPauses.is_made() => {}
                Mutation::Put { .. }
                    if space == layout::CURSOR && Planted::ForgetsCursors.is_made() => {}
                Mutation::Put { key, value, .. } if space == layout::LIVE => {
                    if let Some(task) = layout::parse_task(key) {
                        Arc::make_mut(&mut self.live).insert(task, own(value));
                    }
                }
                Mutation::Delete { key, .. } if space == layout::LIVE => {
                    if Planted::KeepsEndedInCopy.is_made() {
                        continue;
                    }
                    if let Some(task) = layout::parse_task(key) {
                        Arc::make_mut(&mut self.live).remove(&task);
                    }
                }
                Mutation::Put { key, value, .. } if space == layout::QUEUE => {
                    self.queues.insert(own(key), own(value));
                }
                Mutation::Delete { key, .. } if space == layout::QUEUE => {
                    self.queues.remove(key);
                }
                _ if ScheduleRecords::holds(space) => {
                    Arc::make_mut(&mut self.schedules).apply(mutation);
                }
                Mutation::Put { key, .. } if space == layout::SPEC => {
                    self.newest = self.newest.max(layout::parse_task(key));
                }
                Mutation::Put { key, value, .. }
                    if space == layout::MARK && *key == layout::SUCCESSOR =>
                {
                    self.asked = Some((change.head.epoch, own(value)));
                }
                Mutation::Put { .. } | Mutation::Delete { .. } => {}
            }
        }
    }

    fn note(&self, shared: &Shared) {
        shared.live_tasks.store(self.live.len(), Ordering::Relaxed);
        shared.revision.store(self.revision.0, Ordering::Relaxed);
        shared.stands_by.store(true, Ordering::Relaxed);
    }

    fn forget(&mut self, shared: &Shared) {
        *self = Self::default();
        shared.stands_by.store(false, Ordering::Relaxed);
    }
}

/// The next batch. A dropped call leaves the watch in place.
async fn receive(
    changes: &mut Option<ChangeStream>,
    after: Revision,
    store: &dyn Store,
) -> Result<Change, StoreError> {
    let stream = match changes {
        Some(stream) => stream,
        None => changes.insert(store.watch(after).await?),
    };
    let ended = || Err(StoreError::Unavailable("the watch ended".to_owned()));
    let change = stream.next().await.unwrap_or_else(ended);
    if change.is_err() {
        *changes = None;
    }
    change
}
