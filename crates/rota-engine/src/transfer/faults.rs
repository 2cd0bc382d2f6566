//! Judges the records of one task, for a check.

use bytes::Bytes;
use rota_core::{
    AttemptRecord, ClientKeys, DoneRecord, LiveRecord, Name, Status, TaskId, TaskSpec,
};
use rota_store::BatchSeq;

use super::kinds::record_name;
use crate::{
    layout,
    records::{Attempt, Done, Found, Kind, Live, Spec},
};

/// A fault of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The record, as `SPACE/KEY`.
    pub record: String,
    /// What is wrong with it.
    pub what: String,
}

impl Fault {
    pub(super) fn at(record: impl Into<String>, what: impl Into<String>) -> Self {
        Self { record: record.into(), what: what.into() }
    }

    pub(super) fn of(kind: usize, key: &[u8], what: impl Into<String>) -> Self {
        Self::at(record_name(kind, key), what)
    }
}

/// Everything that a store has under the id of one task.
#[derive(Debug, Default)]
pub(super) struct TaskRecords {
    pub(super) live: Option<Bytes>,
    pub(super) done: Option<Bytes>,
    pub(super) dead: Option<Bytes>,
    pub(super) spec: Option<Bytes>,
    pub(super) has_result: bool,
    /// By number.
    pub(super) attempts: Vec<(u32, Bytes)>,
}

/// What other records must agree with.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) faults: Vec<Fault>,
    /// Queue and kind, if it is live.
    pub(super) lane: Option<(Name, Name)>,
    /// Its client keys, if known.
    pub(super) keys: Option<ClientKeys>,
    /// The span in which its retention ends, if it has ended.
    pub(super) span: Option<i64>,
    /// Whether a record of its state cannot be read, so that others cannot be held against it.
    pub(super) is_unclear: bool,
}

/// The state of a task: queue, kind, attempts, client keys, of one that is live or has ended.
struct State {
    space: &'static str,
    lane: (Name, Name),
    attempt: u32,
    keys: ClientKeys,
}

/// Judges the records of a task of a store with this head.
pub(super) fn judge(task: TaskId, records: &TaskRecords, head: BatchSeq) -> Verdict {
    let mut judge = Judge { task, head, verdict: Verdict::default() };
    let live = judge.read::<Live>(layout::LIVE.name, &task, records.live.as_ref());
    let done = judge.read::<Done>(layout::DONE.name, &task, records.done.as_ref());
    let dead = judge.read::<Done>(layout::DEAD.name, &task, records.dead.as_ref());
    judge.verdict.is_unclear = !judge.verdict.faults.is_empty();
    let spec = judge.read::<Spec>(layout::SPEC.name, &task, records.spec.as_ref());
    let states = [&records.live, &records.done, &records.dead];
    let states = states.into_iter().filter(|state| state.is_some()).count();
    judge.places(records, states);
    let mut state = None;
    if let Some(live) = &live {
        judge.live(live);
        state = Some(State {
            space: layout::LIVE.name,
            lane: (live.queue.clone(), live.kind.clone()),
            attempt: live.attempt,
            keys: live.client_keys.clone(),
        });
        judge.verdict.lane = Some((live.queue.clone(), live.kind.clone()));
    }
    for (space, ended) in [(layout::DONE, &done), (layout::DEAD, &dead)] {
        let Some(ended) = ended else { continue };
        judge.ended(space.name, ended, records);
        judge.verdict.span = Some(layout::retain_span(ended.retain_until));
        state = Some(State {
            space: space.name,
            lane: (ended.queue.clone(), ended.kind.clone()),
            attempt: ended.attempt,
            keys: ended.client_keys.clone(),
        });
    }
    if let (Some(state), Some(spec)) = (&state, &spec) {
        judge.agree(state, spec);
    }
    judge.attempts(&records.attempts, state.as_ref());
    let of_spec = spec.map(|spec| spec.client_keys.clone());
    judge.verdict.keys = state.map(|state| state.keys).or(of_spec);
    judge.verdict
}

struct Judge {
    task: TaskId,
    head: BatchSeq,
    verdict: Verdict,
}

impl Judge {
    fn fault(&mut self, space: &str, what: impl Into<String>) {
        self.verdict.faults.push(Fault::at(format!("{space}/{}", self.task), what));
    }

    fn read<K: Kind>(
        &mut self,
        space: &str,
        key: &K::Key,
        value: Option<&Bytes>,
    ) -> Option<K::Record> {
        let found = Found::decoded(K::decode(key, value?));
        match &found {
            Found::Damaged(why) => self.fault(space, format!("it is damaged: {why}")),
            Found::Newer(why) => {
                self.fault(space, format!("only a newer version can read it: {why}"));
            }
            Found::Record(_) | Found::Missing => {}
        }
        found.record()
    }

    /// Whether each record is where it belongs.
    fn places(&mut self, records: &TaskRecords, states: usize) {
        if states > 1 {
            let held = [("live", &records.live), ("done", &records.done), ("dead", &records.dead)];
            let held = held.iter().filter(|(_, record)| record.is_some()).map(|(name, _)| *name);
            let held = held.collect::<Vec<_>>().join(" and ");
            self.fault(layout::LIVE.name, format!("the task has more than one state: {held}"));
        }
        if states == 0 {
            let held = [
                (layout::SPEC.name, records.spec.is_some()),
                (layout::RESULT.name, records.has_result),
                (layout::ATTEMPT.name, !records.attempts.is_empty()),
            ];
            for (space, _) in held.into_iter().filter(|(_, held)| *held) {
                self.fault(space, "it belongs to no task: there is no record of its state");
            }
        } else if records.spec.is_none() {
            let space = if records.live.is_some() { "live" } else { "done" };
            self.fault(space, "the task has no definition (no record in `spec`)");
        }
    }

    fn live(&mut self, live: &LiveRecord) {
        let space = layout::LIVE.name;
        match (&live.lease, live.status) {
            (Some(lease), Status::Assigned) => self.token(space, lease.token.0, "its lease"),
            (None, Status::Assigned) => self.fault(space, "it is assigned, but has no lease"),
            (Some(_), status) => {
                self.fault(space, format!("it has a lease, but is {}", status.as_str()));
            }
            (None, _) => {}
        }
        if let Some(end) = &live.last_end {
            self.token(space, end.token.0, "its last end");
        }
    }

    fn ended(&mut self, space: &'static str, ended: &DoneRecord, records: &TaskRecords) {
        if ended.id != self.task {
            self.fault(space, format!("it is the record of another task, {}", ended.id));
        }
        if !ended.status.is_terminal() || layout::ended(ended.status).name != space {
            self.fault(
                space,
                format!("a task that is {} belongs elsewhere", ended.status.as_str()),
            );
        }
        if ended.has_result != records.has_result {
            let what = if ended.has_result { "is missing" } else { "is there, but unknown to it" };
            self.fault(space, format!("its result {what}"));
        }
        let last = records.attempts.iter().any(|(number, _)| *number == ended.attempt);
        if ended.has_output && !last {
            self.fault(space, "the record of its last attempt is missing");
        }
        if let Some(end) = &ended.last_end {
            self.token(space, end.token.0, "its last end");
        }
    }

    fn agree(&mut self, state: &State, spec: &TaskSpec) {
        if spec.id != self.task {
            self.fault(
                layout::SPEC.name,
                format!("it is the definition of another task, {}", spec.id),
            );
        }
        let definition = &spec.definition;
        if state.lane != (definition.queue.clone(), definition.kind.clone()) {
            let what = format!("its queue or kind is not that in `{}`", state.space);
            self.fault(layout::SPEC.name, what);
        }
        if state.keys != spec.client_keys {
            let what = format!("its id or idempotency key is not that in `{}`", state.space);
            self.fault(layout::SPEC.name, what);
        }
    }

    fn attempts(&mut self, attempts: &[(u32, Bytes)], state: Option<&State>) {
        for (number, value) in attempts {
            let key = (self.task, *number);
            let place = format!("{}/{}/{number:010}", layout::ATTEMPT.name, self.task);
            let record: AttemptRecord = match Found::decoded(Attempt::decode(&key, value)) {
                Found::Record(record) => record,
                Found::Damaged(why) | Found::Newer(why) => {
                    let what = format!("it cannot be read: {why}");
                    self.verdict.faults.push(Fault::at(place, what));
                    continue;
                }
                Found::Missing => continue,
            };
            if record.attempt != *number {
                let what = format!("it is the record of attempt {}", record.attempt);
                self.verdict.faults.push(Fault::at(&place, what));
            }
            if let Some(state) = state.filter(|state| *number > state.attempt) {
                let what = format!("the task has had {} attempts", state.attempt);
                self.verdict.faults.push(Fault::at(&place, what));
            }
            if record.token.0 > self.head.0 {
                let what = above(record.token.0, self.head);
                self.verdict.faults.push(Fault::at(&place, what));
            }
        }
    }

    /// A token is the number of a batch, so none is above the head.
    fn token(&mut self, space: &str, token: u64, of: &str) {
        if token > self.head.0 {
            let what = above(token, self.head);
            self.fault(space, format!("{of}: {what}"));
        }
    }
}

fn above(token: u64, head: BatchSeq) -> String {
    format!("the lease token {token} is above the number of the last batch, {head}")
}
