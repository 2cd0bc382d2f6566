//! Loads the backlog of a new leader: the live tasks, the settings of queues, and the schedules, read at one
//! revision.

use std::{
    collections::{BTreeMap, btree_map},
    iter::Peekable,
    sync::{Arc, mpsc::sync_channel},
    thread,
};

use bytes::Bytes;
use rota_core::{
    LiveRecord, Machine, MachineLimits, Name, Now, QueueRecord, Retention, TaskId, TaskIdSequence,
};
use rota_store::{BatchSeq, Direction, KeyRange, Snapshot, Store, StoreError};

use crate::{
    codec::{self, CodecError},
    host::Parallel,
    layout,
    planted::Planted,
    records::{Entry, Kind, Live, Queue, Scan, Spec, each},
    schedule_records::ScheduleRecords,
    unreadable::Unreadable,
};

/// Number of records to decode at a time, and number of such portions that can wait to be loaded.
const DECODED: usize = 1_000;
const DECODED_AHEAD: usize = 16;

/// The machine with the state of the store.
pub(crate) struct Loaded {
    pub(crate) machine: Machine,
    pub(crate) ids: TaskIdSequence,
    /// The last durable batch.
    pub(crate) head: BatchSeq,
    /// Records that cannot be read.
    pub(crate) unreadable: Unreadable,
}

/// The options of the machine.
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
    let (snapshot, mut unreadable) = (snapshot.as_ref(), Unreadable::default());
    each(snapshot, |entry: &Entry<Queue>| {
        restore_queue(&mut machine, &entry.key, &entry.value, &mut unreadable);
    })
    .await?;
    each(snapshot, |entry: &Entry<Live>| match entry.typed_key() {
        Some(task) => restore_task(&mut machine, decode(task, &entry.value), &mut unreadable),
        None => unreadable.add(layout::LIVE, &entry.key, &"the key is not a task id"),
    })
    .await?;
    let schedules = ScheduleRecords::read(snapshot).await?;
    schedules.restore(&mut machine, &mut unreadable);
    let ids = TaskIdSequence::after(newest_task(snapshot).await?);
    Ok(Loaded { machine, ids, head, unreadable })
}

/// The live records that a machine is made of, shared with who goes on changing them.
pub(crate) type LiveRecords = Arc<BTreeMap<TaskId, Bytes>>;

/// The records of a backlog that were read before.
pub(crate) struct Records {
    pub(crate) queues: BTreeMap<Bytes, Bytes>,
    pub(crate) live: LiveRecords,
    pub(crate) schedules: Arc<ScheduleRecords>,
    pub(crate) newest: Option<TaskId>,
    /// The last batch that they include.
    pub(crate) head: BatchSeq,
}

/// Builds the machine from records that were read before. It blocks for about a microsecond for each task.
pub(crate) fn restore(
    records: &Records,
    options: MachineOptions,
    now: Now,
    parallel: Parallel,
) -> Loaded {
    let Records { queues, live, schedules, newest, head } = records;
    let mut machine = Machine::new(options.limits, options.retention, now);
    let mut unreadable = Unreadable::default();
    for (key, value) in queues {
        restore_queue(&mut machine, key, value, &mut unreadable);
    }
    let mut decoded = Decoded(live.iter().peekable());
    let restore = |records: Vec<DecodedTask>| {
        for record in records {
            restore_task(&mut machine, record, &mut unreadable);
        }
    };
    match parallel {
        Parallel::Inline => decoded.by_ref().for_each(restore),
        Parallel::Threads => beside(decoded, restore),
    }
    schedules.restore(&mut machine, &mut unreadable);
    Loaded { machine, ids: TaskIdSequence::after(*newest), head: *head, unreadable }
}

/// Decodes on its own thread, because clients wait meanwhile, and decoding takes as long as loading.
#[expect(clippy::disallowed_methods, reason = "called only where the host has threads")]
fn beside(mut decoded: Decoded<'_>, restore: impl FnMut(Vec<DecodedTask>)) {
    thread::scope(|scope| {
        let (sender, records) = sync_channel(DECODED_AHEAD);
        // The receiver is gone if loading panicked.
        scope.spawn(move || decoded.try_for_each(|records| sender.send(records)));
        records.into_iter().for_each(restore);
    });
}

/// A live task, or why its record cannot be read, with its queue if that can be read.
type DecodedTask = Result<LiveRecord, (TaskId, CodecError, Option<Name>)>;

/// Decodes records in portions.
struct Decoded<'a>(Peekable<btree_map::Iter<'a, TaskId, Bytes>>);

impl Iterator for Decoded<'_> {
    type Item = Vec<DecodedTask>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.peek()?;
        let some = self.0.by_ref().take(DECODED);
        Some(some.map(|(task, value)| decode(*task, value)).collect())
    }
}

fn decode(task: TaskId, value: &Bytes) -> DecodedTask {
    Live::decode(&task, value).map_err(|error| (task, error, codec::queue_of_live(value)))
}

fn restore_task(machine: &mut Machine, record: DecodedTask, unreadable: &mut Unreadable) {
    match record {
        Ok(_) if Planted::ForgetsTasks.is_made_once_in(50) => {}
        Ok(record) => machine.restore_task(&record),
        Err((task, error, queue)) => {
            unreadable.add(layout::LIVE, &layout::task(task), &error);
            machine.set_aside(task, queue.as_ref());
        }
    }
}

/// Loads settings of queues. A queue whose settings cannot be read is paused, because they may say so.
/// Resuming it writes new settings.
fn restore_queue(machine: &mut Machine, key: &Bytes, value: &Bytes, unreadable: &mut Unreadable) {
    let name = Name::new(std::str::from_utf8(key).unwrap_or_default());
    let name = match name {
        Ok(name) => name,
        Err(error) => return unreadable.add(layout::QUEUE, key, &format!("name {error}")),
    };
    let record = Queue::decode(&name, value).unwrap_or_else(|error| {
        unreadable.add(layout::QUEUE, key, &format!("{error}; the queue is paused"));
        QueueRecord { paused: true, ..QueueRecord::default() }
    });
    machine.restore_queue(&name, record);
}

pub(crate) async fn newest_task(snapshot: &dyn Snapshot) -> Result<Option<TaskId>, StoreError> {
    let mut scan = Scan::<Spec>::new(KeyRange::all(layout::SPEC), Direction::Descending, 1);
    let newest = scan.next(snapshot).await?.unwrap_or_default();
    Ok(newest.first().and_then(Entry::typed_key))
}
