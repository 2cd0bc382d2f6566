//! What a new leader starts from: the live tasks and the queues' settings, read at one revision.

use std::{
    collections::{BTreeMap, btree_map},
    iter::Peekable,
    sync::{Arc, mpsc::sync_channel},
    thread,
};

use bytes::Bytes;
use rota_core::{LiveRecord, Machine, MachineLimits, Name, Now, Retention, TaskId, TaskIdSequence};
use rota_store::{BatchSeq, Direction, KeyRange, Snapshot, Space, Store, StoreError};

use crate::{codec, host::Parallel, layout, planted::Planted};

/// Records read at a time.
const PAGE: usize = 10_000;
/// Records decoded at a time, and how many times that many may wait to be taken up.
const DECODED: usize = 1_000;
const DECODED_AHEAD: usize = 16;

/// The machine as the store knows it.
pub(crate) struct Loaded {
    pub(crate) machine: Machine,
    pub(crate) ids: TaskIdSequence,
    /// The last batch that landed.
    pub(crate) head: BatchSeq,
}

/// What the machine is made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MachineOptions {
    pub(crate) limits: MachineLimits,
    pub(crate) retention: Retention,
}

/// Reads the backlog.
pub(crate) async fn load(
    store: &Arc<dyn Store>,
    options: MachineOptions,
    now: Now,
) -> Result<Loaded, StoreError> {
    let head = store.head().await?.seq;
    let snapshot = store.snapshot().await?;
    let mut machine = Machine::new(options.limits, options.retention, now);
    let snapshot = snapshot.as_ref();
    each(snapshot, layout::QUEUE, |key, value| restore_queue(&mut machine, key, value)).await?;
    each(snapshot, layout::LIVE, |key, value| {
        let record = codec::decode_live(value).map_err(|error| unreadable("live", key, &error))?;
        if !Planted::ForgetsTasks.is_made_once_in(50) {
            machine.restore_task(&record);
        }
        Ok(())
    })
    .await?;
    let ids = TaskIdSequence::after(newest_task(snapshot).await?);
    Ok(Loaded { machine, ids, head })
}

/// The records of a backlog, read before.
pub(crate) struct Records {
    pub(crate) queues: BTreeMap<Bytes, Bytes>,
    pub(crate) live: BTreeMap<TaskId, Bytes>,
    pub(crate) newest: Option<TaskId>,
    /// The last batch that they hold.
    pub(crate) head: BatchSeq,
}

/// Makes the same of records that were read before. Blocks: it takes a microsecond for each task.
pub(crate) fn restore(
    records: Records,
    options: MachineOptions,
    now: Now,
    parallel: Parallel,
) -> Result<Loaded, StoreError> {
    let Records { queues, live, newest, head } = records;
    let mut machine = Machine::new(options.limits, options.retention, now);
    for (key, value) in &queues {
        restore_queue(&mut machine, key, value)?;
    }
    let mut decoded = Decoded(live.into_iter().peekable());
    let mut restore = |records: Result<Vec<LiveRecord>, StoreError>| {
        records?.iter().for_each(|record| machine.restore_task(record));
        Ok::<_, StoreError>(())
    };
    match parallel {
        Parallel::Inline => decoded.try_for_each(&mut restore)?,
        Parallel::Threads => beside(decoded, restore)?,
    }
    Ok(Loaded { machine, ids: TaskIdSequence::after(newest), head })
}

/// Decodes on a thread of its own. Clients wait meanwhile, and decoding takes as long as taking up.
#[expect(clippy::disallowed_methods, reason = "called only where the host has threads")]
fn beside(
    mut decoded: Decoded,
    restore: impl FnMut(Result<Vec<LiveRecord>, StoreError>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    thread::scope(|scope| {
        let (sender, records) = sync_channel(DECODED_AHEAD);
        // Nobody takes more after one that could not be decoded.
        scope.spawn(move || decoded.try_for_each(|records| sender.send(records)));
        records.into_iter().try_for_each(restore)
    })
}

/// Records decoded some at a time. What cannot be decoded is given as an error.
struct Decoded(Peekable<btree_map::IntoIter<TaskId, Bytes>>);

impl Iterator for Decoded {
    type Item = Result<Vec<LiveRecord>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.peek()?;
        let some = self.0.by_ref().take(DECODED);
        let records = some.map(|(task, value)| {
            codec::decode_live(&value)
                .map_err(|error| unreadable("live", &layout::task(task), &error))
        });
        Some(records.collect())
    }
}

fn restore_queue(machine: &mut Machine, key: &Bytes, value: &Bytes) -> Result<(), StoreError> {
    let text = std::str::from_utf8(key).unwrap_or("");
    let name = Name::new(text).map_err(|error| unreadable("queue", key, &error))?;
    let record = codec::decode_queue(value).map_err(|error| unreadable("queue", key, &error))?;
    machine.restore_queue(&name, record);
    Ok(())
}

pub(crate) async fn newest_task(snapshot: &dyn Snapshot) -> Result<Option<TaskId>, StoreError> {
    let all = KeyRange::all(layout::SPEC);
    let page = snapshot.scan(all, Direction::Descending, 1).await?;
    Ok(page.entries.first().and_then(|(key, _)| layout::parse_task(key)))
}

pub(crate) async fn each(
    snapshot: &dyn Snapshot,
    space: Space,
    mut visit: impl FnMut(&Bytes, &Bytes) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut range = KeyRange::all(space);
    loop {
        let page = snapshot.scan(range.clone(), Direction::Ascending, PAGE).await?;
        for (key, value) in &page.entries {
            visit(key, value)?;
        }
        match page.entries.last() {
            Some((last, _)) if page.more => range.start = behind(last),
            _ => return Ok(()),
        }
    }
}

/// The first key after this one.
pub(crate) fn behind(key: &Bytes) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

fn unreadable(space: &str, key: &Bytes, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("{space}/{}: {error}", String::from_utf8_lossy(key)))
}
