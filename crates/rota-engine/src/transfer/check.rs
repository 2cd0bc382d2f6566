//! Checks a store: every record can be read, and no two contradict each other.
//!
//! The check reads one snapshot, so it can run while nodes use the store. Spaces whose keys begin with a task id are
//! read side by side, so memory grows only with the names and the ended tasks: some 16 bytes for each.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use rota_core::{Name, TaskId};
use rota_metrics::{Count, OTHER};
use rota_store::{BatchSeq, Snapshot, Space, StoreError};
use xxhash_rust::xxh3::xxh3_64;

pub use super::faults::Fault;
use super::{
    copy::check_level,
    digest::{Contents, Digest},
    error::TransferError,
    faults::{TaskRecords, Verdict, judge},
    kinds::{KINDS, Readable, position_of},
    side::{OnProgress, Progress, Side, Stage},
    unfinished::Unfinished,
    walk::{Ahead, Walk, patiently},
};
use crate::{
    layout::{self, ClientKey},
    records::{Kind, Owner, Retain, Total},
};

/// What a check found.
#[derive(Debug, Clone)]
pub struct CheckReport {
    pub contents: Contents,
    /// The number of the last batch.
    pub head: BatchSeq,
    pub faults: u64,
}

/// Checks a store, and tells each fault. Changes nothing.
///
/// # Errors
/// When the store cannot be read, or holds nothing.
pub async fn check(
    side: &Side,
    on_fault: &mut (dyn FnMut(Fault) + Send),
    progress: OnProgress<'_>,
) -> Result<CheckReport, TransferError> {
    let read = || TransferError::read(&side.name);
    let store = side.store.as_ref();
    let snapshot = patiently(|| store.snapshot()).await.map_err(read())?;
    // Read after the snapshot, so that no token in it is above the head.
    let head = patiently(|| store.head()).await.map_err(read())?.seq;
    if head == BatchSeq(0) {
        return Err(TransferError::Empty { store: side.name.clone() });
    }
    let mut faults = 0;
    let mut tell = |fault| {
        faults += 1;
        on_fault(fault);
    };
    let mark = patiently(|| Unfinished::read(store)).await.map_err(read())?;
    if let Some(mark) = &mark {
        let what = format!("the store holds an unfinished {}", mark.in_words());
        tell(Fault::at("cluster/unfinished", what));
    } else {
        let key = (layout::CLUSTER, layout::FEATURE_LEVEL);
        let level = snapshot.get(&[key]).await.map_err(read())?.into_iter().next().flatten();
        if let Err(error) = check_level(&side.name, level.as_ref()) {
            tell(Fault::at("cluster/level", error.to_string()));
        }
    }
    let mut check = Check { digest: Digest::new(), known: Known::default(), head, progress };
    check.tasks(&snapshot, &mut tell).await.map_err(read())?;
    check.others(&snapshot, &mut tell).await.map_err(read())?;
    check.known.judge(&mut tell);
    Ok(CheckReport { contents: check.digest.finish(), head, faults })
}

struct Check<'a> {
    digest: Digest,
    known: Known,
    head: BatchSeq,
    progress: OnProgress<'a>,
}

/// The records of a space, one after the other.
struct Cursor {
    kind: usize,
    ahead: Ahead,
    waiting: VecDeque<(Bytes, Bytes)>,
}

impl Cursor {
    fn new(snapshot: &Arc<dyn Snapshot>, space: Space) -> Self {
        let kind = position_of(space.name).unwrap_or_default();
        let walk = Walk::new(snapshot.clone()).within(kind);
        Self { kind, ahead: walk.ahead(), waiting: VecDeque::new() }
    }

    async fn peek(&mut self) -> Result<Option<&(Bytes, Bytes)>, StoreError> {
        if self.waiting.is_empty()
            && let Some(portion) = self.ahead.next().await?
        {
            self.waiting = portion.entries.into();
        }
        Ok(self.waiting.front())
    }

    /// The task of the next record. Tells of records whose keys name none.
    async fn task(
        &mut self,
        digest: &mut Digest,
        tell: &mut (dyn FnMut(Fault) + Send),
    ) -> Result<Option<TaskId>, StoreError> {
        loop {
            let kind = self.kind;
            let Some((key, _)) = self.peek().await? else { return Ok(None) };
            let task = match layout::parse_attempt(key) {
                Some((task, _)) if KINDS[kind].space == layout::ATTEMPT => Some(task),
                None if KINDS[kind].space != layout::ATTEMPT => layout::parse_task(key),
                _ => None,
            };
            if task.is_some() {
                return Ok(task);
            }
            tell(Fault::of(kind, key, "the key names no task"));
            self.take(digest);
        }
    }

    fn take(&mut self, digest: &mut Digest) -> Option<(Bytes, Bytes)> {
        let (key, value) = self.waiting.pop_front()?;
        digest.add(self.kind, &key, &value);
        Some((key, value))
    }
}

/// The spaces whose keys begin with a task id.
const OF_TASKS: [Space; 6] =
    [layout::LIVE, layout::DONE, layout::DEAD, layout::SPEC, layout::RESULT, layout::ATTEMPT];

impl Check<'_> {
    /// Reads everything of one task after the other.
    async fn tasks(
        &mut self,
        snapshot: &Arc<dyn Snapshot>,
        tell: &mut (dyn FnMut(Fault) + Send),
    ) -> Result<(), StoreError> {
        let mut cursors = OF_TASKS.map(|space| Cursor::new(snapshot, space));
        let mut tasks = 0_u64;
        loop {
            let mut next = None;
            let mut at = [None; OF_TASKS.len()];
            for (cursor, at) in cursors.iter_mut().zip(&mut at) {
                *at = cursor.task(&mut self.digest, tell).await?;
                next = match (next, *at) {
                    (Some(next), Some(task)) => Some(std::cmp::min(next, task)),
                    (next, task) => next.or(task),
                };
            }
            let Some(task) = next else { return Ok(()) };
            let mut records = TaskRecords::default();
            for (cursor, at) in cursors.iter_mut().zip(at) {
                let mut here = at;
                while here == Some(task) {
                    let Some((key, value)) = cursor.take(&mut self.digest) else { break };
                    records.add(KINDS[cursor.kind].space, &key, value);
                    here = cursor.task(&mut self.digest, tell).await?;
                }
            }
            let verdict = judge(task, &records, self.head);
            self.known.note(task, verdict, tell);
            tasks += 1;
            if tasks.is_multiple_of(1000) {
                let done = self.digest.records();
                (self.progress)(Progress { stage: Stage::Reading, done, total: None });
            }
        }
    }

    /// Reads all other spaces.
    async fn others(
        &mut self,
        snapshot: &Arc<dyn Snapshot>,
        tell: &mut (dyn FnMut(Fault) + Send),
    ) -> Result<(), StoreError> {
        for (row, kind) in KINDS.iter().enumerate() {
            if OF_TASKS.contains(&kind.space) {
                continue;
            }
            let mut records = Walk::new(snapshot.clone()).within(row).ahead();
            while let Some(portion) = records.next().await? {
                for (key, value) in &portion.entries {
                    self.digest.add(row, key, value);
                    self.other(row, key, value, tell);
                }
                let done = self.digest.records();
                (self.progress)(Progress { stage: Stage::Reading, done, total: None });
            }
        }
        Ok(())
    }

    fn other(
        &mut self,
        row: usize,
        key: &Bytes,
        value: &Bytes,
        tell: &mut (dyn FnMut(Fault) + Send),
    ) {
        let kind = &KINDS[row];
        let unreadable = match (kind.read)(key, value) {
            Readable::Record(_) => None,
            Readable::Damaged(why) => Some(format!("it is damaged: {why}")),
            Readable::Newer(why) => Some(format!("only a newer version can read it: {why}")),
            Readable::Foreign(wanted) => Some(format!("the key must be {wanted}")),
        };
        if let Some(what) = unreadable {
            self.known.totals_are_unclear |= kind.space == layout::TOTAL;
            // The level of a store with a mark is told of with the mark.
            if kind.space != layout::CLUSTER || *key != layout::FEATURE_LEVEL {
                tell(Fault::of(row, key, what));
            }
            return;
        }
        match kind.space {
            layout::CLIENT_KEY => self.known.name(row, key, value, tell),
            layout::RETAIN => self.known.retained(key, value),
            layout::TOTAL => self.known.total(key, value),
            _ => {}
        }
    }
}

impl TaskRecords {
    fn add(&mut self, space: Space, key: &Bytes, value: Bytes) {
        match space {
            layout::LIVE => self.live = Some(value),
            layout::DONE => self.done = Some(value),
            layout::DEAD => self.dead = Some(value),
            layout::SPEC => self.spec = Some(value),
            layout::RESULT => self.has_result = true,
            _ => {
                if let Some((_, number)) = layout::parse_attempt(key) {
                    self.attempts.push((number, value));
                }
            }
        }
    }
}

/// What is known of tasks, to hold other records against it.
#[derive(Default)]
struct Known {
    /// A hash of the client key, its task, and whether its record was seen. Sorted before the records are read.
    claims: Vec<(u64, TaskId, bool)>,
    /// An ended task, the span in which its retention ends, and whether the log has it there. Sorted by task.
    ended: Vec<(TaskId, i64, bool)>,
    /// Tasks whose state cannot be read.
    unclear: Vec<TaskId>,
    sorted: bool,
    lanes: BTreeMap<(Name, Name), u64>,
    totals: BTreeMap<(String, String), i128>,
    totals_are_unclear: bool,
}

fn hash(key: &ClientKey) -> u64 {
    xxh3_64(&Owner::encode_key(key))
}

impl Known {
    fn note(&mut self, task: TaskId, verdict: Verdict, tell: &mut (dyn FnMut(Fault) + Send)) {
        let Verdict { faults, lane, keys, span, is_unclear } = verdict;
        faults.into_iter().for_each(tell);
        if is_unclear {
            self.unclear.push(task);
        }
        if let Some(lane) = lane {
            *self.lanes.entry(lane).or_default() += 1;
        }
        let keys = keys.unwrap_or_default();
        let id = keys.id.map(ClientKey::Id);
        for key in id.into_iter().chain(keys.key.map(ClientKey::Idempotency)) {
            self.claims.push((hash(&key), task, false));
        }
        if let Some(span) = span {
            self.ended.push((task, span, false));
        }
    }

    fn sort(&mut self) {
        if !self.sorted {
            self.claims.sort_unstable();
            self.ended.sort_unstable();
            self.sorted = true;
        }
    }

    /// Holds the record of a client key against its task.
    fn name(
        &mut self,
        row: usize,
        key: &Bytes,
        value: &Bytes,
        tell: &mut (dyn FnMut(Fault) + Send),
    ) {
        self.sort();
        let Some(typed) = Owner::decode_key(key) else { return };
        let Ok(owner) = Owner::decode(&typed, value) else { return };
        match self.claims.binary_search(&(hash(&typed), owner.task, false)) {
            Ok(at) => self.claims[at].2 = true,
            Err(_) if self.unclear.binary_search(&owner.task).is_ok() => {}
            Err(_) => {
                let what = format!("it names the task {}, which has no such key", owner.task);
                tell(Fault::of(row, key, what));
            }
        }
    }

    fn retained(&mut self, key: &Bytes, value: &Bytes) {
        self.sort();
        let (Some(span), Ok(expiring)) =
            (layout::parse_retain_span(key), Retain::decode(key, value))
        else {
            return;
        };
        for task in expiring.tasks {
            // A task that was retried or deleted leaves its entry behind.
            if let Ok(at) = self.ended.binary_search_by_key(&task, |(task, ..)| *task) {
                self.ended[at].2 |= self.ended[at].1 == span;
            }
        }
    }

    fn total(&mut self, key: &Bytes, value: &Bytes) {
        let Some((queue, kind)) = layout::parse_total(key) else { return };
        let pair = (queue.into(), kind.into());
        let Ok((counts, _)) = Total::decode(&pair, value) else { return };
        let sum = |counted: &[Count]| -> i128 {
            counted.iter().map(|count| i128::from(counts[*count as usize])).sum()
        };
        let began = sum(&[Count::Submitted, Count::Revived]);
        let ended = sum(&[
            Count::Completed,
            Count::FailedError,
            Count::FailedPermanent,
            Count::FailedTimeout,
            Count::FailedWorkerLost,
            Count::Cancelled,
            Count::Expired,
        ]);
        self.totals.insert((queue.to_owned(), kind.to_owned()), began - ended);
    }

    /// Tells of what is missing once everything is read.
    fn judge(&mut self, tell: &mut (dyn FnMut(Fault) + Send)) {
        self.sort();
        for (_, task, seen) in &self.claims {
            if !seen {
                let what = "its id or idempotency key has no record in `name`, so a repeat is not recognised";
                tell(Fault::at(format!("spec/{task}"), what));
            }
        }
        for (task, _, seen) in &self.ended {
            if !seen {
                let what = "the retention log does not have it, so it is never removed";
                tell(Fault::at(format!("done/{task}"), what));
            }
        }
        // The state of a task that cannot be read may be any.
        if self.unclear.is_empty() && !self.totals_are_unclear {
            self.judge_totals(tell);
        }
    }

    /// By the totals, as many tasks must be live as there are.
    fn judge_totals(&self, tell: &mut (dyn FnMut(Fault) + Send)) {
        let mut live: BTreeMap<(String, String), i128> = BTreeMap::new();
        for ((queue, kind), count) in &self.lanes {
            live.insert((queue.to_string(), kind.to_string()), i128::from(*count));
        }
        // Names beyond a limit are counted together.
        if self.totals.keys().any(|(queue, kind)| queue == OTHER || kind == OTHER) {
            let (by_totals, there): (i128, i128) =
                (self.totals.values().sum(), live.values().sum());
            if by_totals != there {
                let what = format!("by the totals {by_totals} tasks are live, but {there} are");
                tell(Fault::at(
                    "total",
                    format!("{what} (metrics are wrong; tasks are not affected)"),
                ));
            }
            return;
        }
        for (pair, by_totals) in &self.totals {
            let there = live.remove(pair).unwrap_or_default();
            if *by_totals != there {
                let what = format!("by this record {by_totals} tasks are live, but {there} are");
                let record = format!("total/{} {}", pair.0, pair.1);
                tell(Fault::at(
                    record,
                    format!("{what} (metrics are wrong; tasks are not affected)"),
                ));
            }
        }
        for ((queue, kind), there) in live {
            let what = format!("the record is missing, but {there} of its tasks are live");
            tell(Fault::at(format!("total/{queue} {kind}"), what));
        }
    }
}
