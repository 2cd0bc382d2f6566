//! Turns the changes of a step into batches of the store.
//!
//! A step is one batch if the store accepts it as a whole. Otherwise (some stores accept only about a hundred
//! changes at a time) it is cut between tasks and schedules, never within one. A task whose tick is decided, or
//! whose end its schedule notes, goes with the schedule. Otherwise they do not depend on each other, so every
//! prefix of the batches is a state that the core could have had.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use rota_core::{
    DoneRecord, Event, KeyOwner, Mutation, Name, Outcome, Refusal, TaskId, TickRecord,
};
use rota_metrics::{Count, Counts};
use rota_store::{Batch, BatchLimits, BatchSeq, Space, VALUE_BYTES_MAX};
use rustc_hash::FxHashMap;

use crate::{
    codec::{self, Expiring},
    layout,
    ledger::{Ledger, TotalIndex},
    planted::Planted,
};

/// Maximum bytes that one task or tick adds to an entry of the retention log, and an entry to a batch.
const RETAIN_TASK_BYTES: usize = 12;
const RETAIN_TICK_BYTES: usize = 128;
const RETAIN_ENTRY_BYTES: usize = 64;
/// Maximum bytes that a total adds to a batch.
const TOTAL_BYTES: usize = 512;

/// An upper bound of the records that one step of one task writes, including those of the batch.
const TASK_MUTATIONS: usize = 16;
/// Bytes of a task's records without its payload and labels, or its result and output: names, policy, error
/// messages.
const RECORD_BYTES: usize = 32 << 10;

/// Maximum bytes that one step of one task can write. A task is never divided.
pub(crate) fn task_bytes_max(limits: BatchLimits) -> usize {
    let rest = TASK_MUTATIONS * limits.mutation_bytes;
    limits.bytes_max.saturating_sub(rest).min(VALUE_BYTES_MAX)
}

/// Refuses a record that is too large for the store, because a batch with it would never be accepted. The
/// limits on clients are checked at the start of a node, but a store can turn out to accept less than
/// configured.
pub(crate) fn check_size(
    what: &'static str,
    bytes: usize,
    limits: BatchLimits,
) -> Result<(), Refusal> {
    let limit = task_bytes_max(limits).saturating_sub(RECORD_BYTES);
    if bytes <= limit {
        return Ok(());
    }
    Err(Refusal::TooLarge { what, bytes: bytes as u64, limit: limit as u64 })
}

/// The changes of a step.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The mutations of the core, in order.
    pub(crate) mutations: Vec<Mutation>,
    /// Entries of the retention log to remove.
    pub(crate) dealt_with: Vec<Bytes>,
    /// The new feature level of the cluster.
    pub(crate) level: Option<u32>,
    /// The record of marks, if it must be written. It becomes durable no later than the mutations.
    pub(crate) marks: Option<Bytes>,
    /// The node that must prepare to take over.
    pub(crate) successor: Option<String>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.mutations.is_empty()
            && self.dealt_with.is_empty()
            && self.level.is_none()
            && self.successor.is_none()
    }

    /// Builds the batches, in order and numbered from `first`. None is larger than the store accepts, unless
    /// the changes of a single task are. The counts of `events` are added to the totals in the batch that
    /// makes them durable.
    pub(crate) fn into_batches(
        self,
        events: &[Event],
        ledger: &mut Ledger,
        first: BatchSeq,
        limits: BatchLimits,
    ) -> Vec<Batch> {
        let mut whole = self.marks();
        // Most changes are one record, and few are two.
        whole.batch.reserve(self.mutations.len() + self.mutations.len() / 4);
        for event in events {
            whole.count(ledger.count(event));
        }
        for mutation in &self.mutations {
            whole.delete_early_attempts(mutation);
            whole.add(mutation);
        }
        for entry in &self.dealt_with {
            whole.delete(layout::RETAIN, entry.clone());
        }
        whole.set_level(self.level);
        if whole.fits(&Piece::default(), limits) {
            return vec![whole.finish(first, ledger)];
        }
        let mut seq = first;
        let mut batches = Vec::new();
        let mut open = self.marks();
        for piece in self.pieces(events, ledger) {
            if !open.fits(&piece, limits) {
                batches.push(std::mem::take(&mut open).finish(seq, ledger));
                seq = seq.next();
            }
            open.join(piece);
        }
        batches.push(open.finish(seq, ledger));
        batches
    }

    fn marks(&self) -> Piece {
        let mut marks = Piece::default();
        if let Some(record) = &self.marks {
            marks.put(layout::MARK, layout::marks(), record.clone());
        }
        if let Some(name) = &self.successor {
            marks.put(layout::MARK, layout::SUCCESSOR, name.clone());
        }
        marks
    }

    /// Groups of changes that can be in separate batches, in a valid order.
    fn pieces(&self, events: &[Event], ledger: &mut Ledger) -> Vec<Piece> {
        let mut places: FxHashMap<Subject<'_>, usize> = FxHashMap::default();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut attempts = Piece::default();
        let schedules = self.schedules_of_tasks();
        for mutation in &self.mutations {
            // Early attempts can be many. The other records of the task are valid without them, so they can
            // be removed first, each in its own group.
            attempts.delete_early_attempts(mutation);
            let place = *places.entry(Subject::of(mutation, &schedules)).or_insert_with(|| {
                pieces.push(Piece::default());
                pieces.len() - 1
            });
            pieces[place].add(mutation);
        }
        for event in events {
            if let Some(place) = places.get(&Subject::of_task(event.task, &schedules)) {
                pieces[*place].count(ledger.count(event));
            }
        }
        for entry in &self.dealt_with {
            let mut piece = Piece::default();
            piece.delete(layout::RETAIN, entry.clone());
            pieces.push(piece);
        }
        // What needs the level must not be durable before it.
        let mut level = Piece::default();
        level.set_level(self.level);
        let level = self.level.map(|_| level).into_iter();
        level.chain(attempts.split()).chain(pieces).collect()
    }

    /// The schedules of tasks that must be in the batch of their schedule.
    fn schedules_of_tasks(&self) -> FxHashMap<TaskId, &Name> {
        let linked = self.mutations.iter().filter_map(|mutation| match mutation {
            Mutation::PutScheduleState { schedule, with, .. } => Some((schedule, with)),
            _ => None,
        });
        linked.flat_map(|(schedule, with)| with.iter().map(move |task| (*task, schedule))).collect()
    }
}

/// The owner of changes that must be in one batch.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Subject<'a> {
    Task(TaskId),
    Queue(&'a Name),
    Schedule(&'a Name),
    Calendar(&'a Name),
}

impl<'a> Subject<'a> {
    fn of(mutation: &'a Mutation, schedules: &FxHashMap<TaskId, &'a Name>) -> Self {
        match mutation {
            Mutation::PutSpec(spec) => Self::of_task(spec.id, schedules),
            Mutation::PutLive(record) => Self::of_task(record.id, schedules),
            Mutation::DeleteLive(task)
            | Mutation::PutAttempt(task, _)
            | Mutation::PutResult(task, _) => Self::of_task(*task, schedules),
            Mutation::PutDone(record)
            | Mutation::DeleteDone(record)
            | Mutation::DeleteTask(record) => Self::of_task(record.id, schedules),
            Mutation::PutQueue(name, _) | Mutation::DeleteQueue(name) => Self::Queue(name),
            Mutation::PutSchedule(record) => Self::Schedule(&record.name),
            Mutation::PutTick(record) => Self::Schedule(&record.schedule),
            Mutation::PutScheduleState { schedule, .. }
            | Mutation::DeleteSchedule(schedule)
            | Mutation::DeleteTick { schedule, .. } => Self::Schedule(schedule),
            Mutation::PutCalendar(record) => Self::Calendar(&record.name),
            Mutation::DeleteCalendar(name) => Self::Calendar(name),
        }
    }

    fn of_task(task: TaskId, schedules: &FxHashMap<TaskId, &'a Name>) -> Self {
        schedules.get(&task).map_or(Self::Task(task), |schedule| Self::Schedule(schedule))
    }
}

/// Changes that will form one batch, before it has a number.
#[derive(Default)]
struct Piece {
    batch: Batch,
    bytes: usize,
    /// Tasks and ticks to remove later, by the end of the span in which their retention ends.
    retain: BTreeMap<i64, Expiring>,
    /// Additions to the totals.
    totals: BTreeMap<TotalIndex, Counts>,
}

impl Piece {
    fn put(&mut self, space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.batch.put(space, key, value);
        self.bytes += self.batch.mutations.last().map_or(0, rota_store::Mutation::bytes);
    }

    fn delete(&mut self, space: Space, key: impl Into<Bytes>) {
        self.batch.delete(space, key);
        self.bytes += self.batch.mutations.last().map_or(0, rota_store::Mutation::bytes);
    }

    fn set_level(&mut self, level: Option<u32>) {
        if let Some(level) = level {
            self.put(layout::CLUSTER, layout::FEATURE_LEVEL, level.to_string());
        }
    }

    /// Whether the store accepts both together, or the first is empty.
    fn fits(&self, other: &Self, limits: BatchLimits) -> bool {
        let spans = other.retain.keys().filter(|span| !self.retain.contains_key(span)).count();
        let entries = self.retain.len() + spans;
        let new_totals =
            other.totals.keys().filter(|total| !self.totals.contains_key(total)).count();
        let totals = self.totals.len() + new_totals;
        let (mut tasks, mut ticks) = (0, 0);
        for expiring in self.retain.values().chain(other.retain.values()) {
            tasks += expiring.tasks.len();
            ticks += expiring.ticks.len();
        }
        let count = self.batch.mutations.len() + other.batch.mutations.len() + entries + totals;
        let retain_bytes =
            entries * RETAIN_ENTRY_BYTES + tasks * RETAIN_TASK_BYTES + ticks * RETAIN_TICK_BYTES;
        let bytes = self.bytes + other.bytes + retain_bytes + totals * TOTAL_BYTES;
        limits.take(count, bytes)
            || (self.batch.mutations.is_empty() && !other.batch.mutations.is_empty())
    }

    fn join(&mut self, other: Self) {
        self.batch.append(other.batch);
        self.bytes += other.bytes;
        for (span, expiring) in other.retain {
            let entry = self.retain.entry(span).or_default();
            entry.tasks.extend(expiring.tasks);
            entry.ticks.extend(expiring.ticks);
        }
        for (total, counts) in other.totals {
            let sums = self.totals.entry(total).or_default();
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }

    fn count(&mut self, counted: Option<(TotalIndex, Count)>) {
        if let Some((total, count)) = counted {
            self.totals.entry(total).or_default()[count as usize] += 1;
        }
    }

    /// Each change separately.
    fn split(self) -> impl Iterator<Item = Self> {
        let mutations = Arc::unwrap_or_clone(self.batch.mutations);
        mutations.into_iter().map(|mutation| {
            let bytes = mutation.bytes();
            let batch = Batch { mutations: Arc::new(vec![mutation]), ..Batch::default() };
            Self { batch, bytes, ..Self::default() }
        })
    }

    fn finish(mut self, seq: BatchSeq, ledger: &mut Ledger) -> Batch {
        self.batch.seq = seq;
        for (span, expiring) in std::mem::take(&mut self.retain) {
            self.put(layout::RETAIN, layout::retain(span, seq), codec::encode_retain(&expiring));
        }
        for (total, counts) in std::mem::take(&mut self.totals) {
            let (key, value) = ledger.add(total, &counts);
            self.put(layout::TOTAL, key, value);
        }
        self.batch
    }

    /// Adds a mutation of the core, without the early attempts that it removes.
    fn add(&mut self, mutation: &Mutation) {
        match mutation {
            Mutation::PutSpec(spec) => {
                self.put(layout::SPEC, layout::task(spec.id), codec::encode_spec(spec));
                let owner = KeyOwner { task: spec.id, fingerprint: spec.fingerprint };
                if let Some(id) = &spec.client_keys.id {
                    let value = codec::encode_key_owner(owner);
                    self.put(layout::CLIENT_KEY, layout::client_id(id), value);
                }
                if let Some(key) = &spec.client_keys.key {
                    let value = codec::encode_key_owner(owner);
                    self.put(layout::CLIENT_KEY, layout::idempotency_key(key), value);
                }
            }
            Mutation::PutLive(record) => {
                self.put(layout::LIVE, layout::task(record.id), codec::encode_live(record));
            }
            Mutation::DeleteLive(task) => self.delete(layout::LIVE, layout::task(*task)),
            Mutation::PutDone(record) => {
                let space = layout::ended(record.status);
                self.put(space, layout::task(record.id), codec::encode_done(record));
                let span = layout::retain_span(record.retain_until);
                self.retain.entry(span).or_default().tasks.push(record.id);
            }
            Mutation::DeleteDone(record) => {
                self.delete(layout::ended(record.status), layout::task(record.id));
            }
            Mutation::PutAttempt(_, record)
                if record.snoozed_until.is_some() && Planted::SnoozesLeaveNoRecord.is_made() => {}
            Mutation::PutAttempt(task, record) => {
                let key = layout::attempt(*task, record.attempt);
                self.put(layout::ATTEMPT, key, codec::encode_attempt(record));
            }
            Mutation::PutResult(..) if Planted::DropsResults.is_made_once_in(50) => {}
            Mutation::PutResult(task, result) => {
                self.put(layout::RESULT, layout::task(*task), result.clone());
            }
            Mutation::DeleteTask(record) => self.delete_task(record),
            Mutation::DeleteQueue(name) => self.delete(layout::QUEUE, name.to_string()),
            Mutation::PutQueue(name, record) => {
                self.put(layout::QUEUE, name.to_string(), codec::encode_queue(record));
            }
            Mutation::PutSchedule(record) => {
                let value = codec::encode_schedule(record);
                self.put(layout::SCHEDULE, layout::named(&record.name), value);
            }
            Mutation::PutScheduleState { schedule, state, .. } => {
                let value = codec::encode_schedule_state(state);
                self.put(layout::CURSOR, layout::named(schedule), value);
            }
            Mutation::DeleteSchedule(name) => {
                self.delete(layout::SCHEDULE, layout::named(name));
                self.delete(layout::CURSOR, layout::named(name));
            }
            Mutation::PutTick(record)
                if matches!(record.run.outcome, Outcome::Missed | Outcome::Coalesced)
                    && Planted::LosesMissedTicks.is_made() => {}
            Mutation::PutTick(record) => self.put_tick(record),
            Mutation::DeleteTick { schedule, first } => {
                self.delete(layout::TICK, layout::tick(schedule, *first));
            }
            Mutation::PutCalendar(record) => {
                let value = codec::encode_calendar(record);
                self.put(layout::CALENDAR, layout::named(&record.name), value);
            }
            Mutation::DeleteCalendar(name) => {
                self.delete(layout::CALENDAR, layout::named(name));
            }
        }
    }

    fn put_tick(&mut self, record: &TickRecord) {
        let key = layout::tick(&record.schedule, record.run.first);
        self.put(layout::TICK, key, codec::encode_tick(record));
        if let Some(until) = record.retain_until {
            let entry = self.retain.entry(layout::retain_span(until)).or_default();
            entry.ticks.push((record.schedule.clone(), record.run.first));
        }
    }

    fn delete_task(&mut self, record: &DoneRecord) {
        let task = layout::task(record.id);
        self.delete(layout::ended(record.status), task.clone());
        self.delete(layout::SPEC, task.clone());
        if record.has_result {
            self.delete(layout::RESULT, task);
        }
        // The records of the last attempts may have been written in the same step.
        for attempt in early_attempts(record)..=record.attempt {
            self.delete(layout::ATTEMPT, layout::attempt(record.id, attempt));
        }
        if Planted::KeepsNames.is_made() {
            return;
        }
        if let Some(id) = &record.client_keys.id {
            self.delete(layout::CLIENT_KEY, layout::client_id(id));
        }
        if let Some(key) = &record.client_keys.key {
            self.delete(layout::CLIENT_KEY, layout::idempotency_key(key));
        }
    }

    /// Removes the history of a deleted task, except its last attempts.
    fn delete_early_attempts(&mut self, mutation: &Mutation) {
        let Mutation::DeleteTask(record) = mutation else { return };
        for attempt in 1..early_attempts(record) {
            self.delete(layout::ATTEMPT, layout::attempt(record.id, attempt));
        }
    }
}

/// The first attempt that is not early. At most two attempts are not early. The last one has its own record
/// only if it has output, so a task that completed at the first attempt without output costs no delete here.
fn early_attempts(record: &DoneRecord) -> u32 {
    if record.attempt == 1 && !record.has_output {
        2
    } else {
        record.attempt.saturating_sub(1).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_spends_bytes_on_each_change_takes_smaller_tasks() {
        let limits = BatchLimits { mutations_max: 100, bytes_max: 1 << 20, mutation_bytes: 1000 };
        let most = (1 << 20) - TASK_MUTATIONS * 1000;
        assert_eq!(task_bytes_max(limits), most);
        check_size("a task", most - RECORD_BYTES, limits).expect("it fits");
        let refused = check_size("a task", most - RECORD_BYTES + 1, limits);
        assert!(matches!(refused, Err(Refusal::TooLarge { .. })), "{refused:?}");
        // No record can be larger than a store takes for one value.
        let limits = BatchLimits { bytes_max: VALUE_BYTES_MAX * 4, ..limits };
        assert_eq!(task_bytes_max(limits), VALUE_BYTES_MAX);
    }
}
