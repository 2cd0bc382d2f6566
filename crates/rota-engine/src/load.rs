//! Loads the backlog of a new leader: the live tasks, the settings of queues, and the schedules, read at one
//! revision.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc::sync_channel},
    thread,
};

use bytes::Bytes;
use rota_core::{
    LiveRecord, Machine, MachineLimits, Name, Now, QueueRecord, Retention, TaskId, TaskIdSequence,
};
use rota_store::{BatchSeq, Direction, KeyRange, Snapshot, Store, StoreError};
use tokio::sync::mpsc;

use crate::{
    codec::{self, CodecError},
    host::{Host, Parallel},
    layout,
    planted::Planted,
    records::{Calendar, Entry, Kind, Live, Queue, Scan, Spec, each},
    schedule_records::{
        self, DecodedSchedule, ScheduleRecords, ScheduleScan, StoredSchedule, UnreadableSchedule,
        restore_calendar,
    },
    unreadable::Unreadable,
};

/// Number of records to decode at a time, and number of such portions that can wait to be loaded.
const DECODED: usize = 1_000;
const DECODED_AHEAD: usize = 16;
/// Number of pages of schedules that can wait to be loaded.
const PAGES_AHEAD: usize = 4;

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
    host: &Host,
) -> Result<Loaded, StoreError> {
    let head = store.head().await?.seq;
    let snapshot = store.snapshot().await?;
    let mut machine = Machine::new(options.limits, options.retention, host.now());
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
    each(snapshot, |entry: &Entry<Calendar>| {
        restore_calendar(&mut machine, &entry.key, &entry.value, &mut unreadable);
    })
    .await?;
    let (machine, unreadable) = load_schedules(snapshot, machine, unreadable, host).await?;
    let ids = TaskIdSequence::after(newest_task(snapshot).await?);
    Ok(Loaded { machine, ids, head, unreadable })
}

/// Loads the schedules, on a thread of its own while others are read, if the host has threads.
async fn load_schedules(
    snapshot: &dyn Snapshot,
    mut machine: Machine,
    mut unreadable: Unreadable,
    host: &Host,
) -> Result<(Machine, Unreadable), StoreError> {
    let mut scan = ScheduleScan::new();
    if host.parallel() == Parallel::Inline {
        while let Some(page) = scan.next(snapshot).await? {
            restore_page(&mut machine, page, &mut unreadable);
        }
        return Ok((machine, unreadable));
    }
    let (sender, mut pages) = mpsc::channel(PAGES_AHEAD);
    let restoring = host.block_on(move || {
        while let Some(page) = pages.blocking_recv() {
            restore_page(&mut machine, page, &mut unreadable);
        }
        (machine, unreadable)
    });
    // It drops the sender, which ends the thread.
    let reading = async move {
        while let Some(page) = scan.next(snapshot).await? {
            // The receiver is gone if loading panicked.
            let _ = sender.send(page).await;
        }
        Ok(())
    };
    let (read, restored) = tokio::join!(biased; reading, restoring);
    read.map(|()| restored)
}

fn restore_page(machine: &mut Machine, page: Vec<StoredSchedule>, unreadable: &mut Unreadable) {
    for schedule in page {
        restore_schedule(machine, schedule.decode(), unreadable);
    }
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
    let decoded = live.iter().map(|(task, value)| decode(*task, value));
    decode_ahead(decoded, parallel, |record| restore_task(&mut machine, record, &mut unreadable));
    schedules.restore_calendars(&mut machine, &mut unreadable);
    decode_ahead(schedules.decoded(), parallel, |schedule| {
        restore_schedule(&mut machine, schedule, &mut unreadable);
    });
    Loaded { machine, ids: TaskIdSequence::after(*newest), head: *head, unreadable }
}

/// Decodes records on a thread of its own, if the host has threads, because clients wait meanwhile, and decoding takes
/// as long as loading.
#[expect(clippy::disallowed_methods, reason = "called only where the host has threads")]
fn decode_ahead<T: Send>(
    mut decoded: impl Iterator<Item = T> + Send,
    parallel: Parallel,
    mut restore: impl FnMut(T),
) {
    if parallel == Parallel::Inline {
        return decoded.for_each(restore);
    }
    thread::scope(|scope| {
        let (sender, portions) = sync_channel(DECODED_AHEAD);
        scope.spawn(move || {
            loop {
                let portion: Vec<T> = decoded.by_ref().take(DECODED).collect();
                // The receiver is gone if loading panicked.
                if portion.is_empty() || sender.send(portion).is_err() {
                    return;
                }
            }
        });
        portions.into_iter().flatten().for_each(&mut restore);
    });
}

/// A live task, or why its record cannot be read, with its queue if that can be read.
type DecodedTask = Result<LiveRecord, (TaskId, CodecError, Option<Name>)>;

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

/// Loads a schedule. The ticks of one that cannot be read are not decided.
fn restore_schedule(machine: &mut Machine, schedule: DecodedSchedule, unreadable: &mut Unreadable) {
    match schedule {
        Ok(schedule) => schedule_records::restore_schedule(machine, schedule),
        Err(UnreadableSchedule { space, key, why }) => unreadable.add(space, &key, &why),
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
