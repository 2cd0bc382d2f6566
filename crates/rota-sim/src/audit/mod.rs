//! The auditor: checks at every step what must hold, and shares no code with the core.
//!
//! It learns what happened in two ways: from every batch that lands in the store, whose records it
//! reads by messages of its own ([`records`]), and from what the engine answers to clients and workers.
//! Of each task it keeps a small state, and says which [`Rule`] was broken, where and when.

mod records;
mod rules;
mod task;

use rota_store::{Change, Mutation};
use rustc_hash::{FxHashMap, FxHashSet};

pub use self::rules::{Rule, Violation};
use self::task::Task;
pub(crate) use self::task::{Class, tag_of};
use crate::world::Place;

/// The first step of a leadership may have been open for so long.
const FIRST_STEP_US: u64 = 10_000_000;
/// Violations that are kept.
const VIOLATIONS_MAX: usize = 20;

/// What is known of a session's worker.
#[derive(Debug, Default)]
struct Session {
    /// By which nodes it was heard of.
    heard: Vec<Contact>,
    ttl_us: u64,
    /// Where its worker runs.
    worker: Option<Place>,
    /// It said goodbye, or gave up.
    over: bool,
}

/// How one node hears of a worker. Times are those in which the node could listen.
#[derive(Debug, Clone, Copy)]
struct Contact {
    place: Place,
    last_us: u64,
    /// Since when no silence was longer than half the TTL.
    steady_since_us: u64,
}

/// How a worker was heard of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    /// By which node, and for how long that one had listened by then.
    pub(crate) place: Place,
    pub(crate) listened_us: u64,
    pub(crate) worker: Place,
    pub(crate) ttl_us: u64,
}

/// A batch on its way.
#[derive(Debug, Clone, Copy)]
struct Sent {
    epoch: u64,
    listened_us: u64,
    /// When the one before it was sent: what it says was decided after that.
    former_us: u64,
}

/// The auditor.
#[derive(Default)]
pub(crate) struct Auditor {
    tasks: FxHashMap<u64, Task>,
    /// Tasks by the key of their records.
    keys: FxHashMap<bytes::Bytes, u64>,
    by_tag: FxHashMap<u64, u64>,
    /// Submissions of which was said that they changed nothing.
    never: FxHashSet<u64>,
    names: FxHashMap<String, u64>,
    sessions: FxHashMap<u64, Session>,
    sent: FxHashMap<(u64, u64), Sent>,
    last_sent: FxHashMap<Place, Sent>,
    epoch: u64,
    paused: FxHashMap<bytes::Bytes, bool>,
    /// The furthest that any machine's wall clock is.
    pub(crate) wall_max_ms: i64,
    /// The workers are the shipped ones, so what they send cannot be seen one by one.
    pub(crate) by_wire: bool,
    /// Until when workers may lose leases by what is wrong with machines and the network.
    pub(crate) troubled_until_us: u64,
    excused: Vec<Rule>,
    violations: Vec<Violation>,
    broken: u64,
    pub(crate) counts: Counts,
    /// Tasks to look at in the batch at hand.
    touched: Vec<u64>,
}

/// What the run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Batches that landed.
    pub batches: u64,
    /// Tasks that clients were told of as accepted.
    pub accepted: u64,
    /// Tasks that ended.
    pub ended: u64,
    /// Leases that were given.
    pub leases: u64,
    /// Leases that were lost.
    pub lost: u64,
    /// Those of them whose worker's process had ended.
    pub lost_over: u64,
    /// Those of them whose worker was not heard of by that node.
    pub lost_unheard: u64,
    /// Those of them whose worker was silent for half its TTL.
    pub lost_silent: u64,
    /// Changes of leadership.
    pub elections: u64,
    /// Reads that were checked.
    pub reads: u64,
}

impl Auditor {
    pub(crate) fn new(excused: Vec<Rule>) -> Self {
        Self { excused, ..Self::default() }
    }

    pub(crate) fn violations(&self) -> &[Violation] {
        &self.violations
    }

    pub(crate) fn is_content(&self) -> bool {
        self.broken == 0
    }

    pub(crate) fn broken(&mut self, rule: Rule, at_us: u64, what: String) {
        if self.excused.contains(&rule) {
            return;
        }
        self.broken += 1;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { rule, at_us, what });
        }
    }

    /// A leader was elected.
    pub(crate) fn elected(&mut self, now_us: u64, epoch: u64) {
        if epoch <= self.epoch {
            self.broken(Rule::Tokens, now_us, format!("epoch {epoch} after {}", self.epoch));
        }
        self.epoch = epoch;
        self.counts.elections += 1;
    }

    /// A node sends a batch to the store. The first time counts.
    pub(crate) fn sent(&mut self, place: Place, seq: u64, epoch: u64, listened_us: u64) {
        if self.sent.contains_key(&(epoch, seq)) {
            return;
        }
        let former = self.last_sent.get(&place).filter(|former| former.epoch == epoch);
        let former_us =
            former.map_or(listened_us.saturating_sub(FIRST_STEP_US), |former| former.listened_us);
        let sent = Sent { epoch, listened_us, former_us };
        self.last_sent.insert(place, sent);
        self.sent.insert((epoch, seq), sent);
    }

    /// A worker's message was handed to the engine of a node.
    pub(crate) fn heard(&mut self, session: u64, heard: Heard) {
        let Heard { place, worker, ttl_us, listened_us } = heard;
        let session = self.sessions.entry(session).or_default();
        session.ttl_us = ttl_us;
        session.worker = Some(worker);
        match session.heard.iter_mut().find(|contact| contact.place == place) {
            Some(contact) => {
                if listened_us - contact.last_us > ttl_us / 2 {
                    contact.steady_since_us = listened_us;
                }
                contact.last_us = listened_us;
            }
            None => session.heard.push(Contact {
                place,
                last_us: listened_us,
                steady_since_us: listened_us,
            }),
        }
    }

    /// A machine's process ended: what it heard is gone, and so are the sessions of its workers.
    pub(crate) fn crashed(&mut self, place: Place) {
        for session in self.sessions.values_mut() {
            session.heard.retain(|contact| contact.place != place);
            session.over |= session.worker == Some(place);
        }
    }

    /// A worker's session is over by its own will, or its process ended.
    pub(crate) fn gave_up(&mut self, session: u64) {
        self.sessions.entry(session).or_default().over = true;
    }

    /// A batch landed.
    pub(crate) fn landed(&mut self, now_us: u64, place: Place, change: &Change) {
        self.counts.batches += 1;
        let (epoch, seq) = (change.head.epoch.0, change.head.seq.0);
        if epoch != self.epoch {
            let what = format!("batch {seq} of epoch {epoch} landed in epoch {}", self.epoch);
            self.broken(Rule::Fences, now_us, what);
        }
        let sent = self.sent.remove(&(epoch, seq));
        self.touched.clear();
        for mutation in change.mutations.iter() {
            self.take_in(now_us, mutation);
        }
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for id in &touched {
            self.judge(now_us, *id, place, seq, sent);
        }
        self.touched = touched;
    }

    /// Checks a task after a batch that changed it.
    fn judge(&mut self, now_us: u64, id: u64, place: Place, seq: u64, sent: Option<Sent>) {
        let wall_max_ms = self.wall_max_ms;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let judged = task.settle(now_us, seq, wall_max_ms);
        self.counts.leases += u64::from(judged.leased);
        self.counts.ended += u64::from(judged.ended);
        for (rule, what) in judged.broken {
            self.broken(rule, now_us, format!("task {id:x}: {what}"));
        }
        if let Some(session) = judged.lost_by {
            self.counts.lost += 1;
            self.check_loss(now_us, id, session, place, sent);
        }
    }

    /// No healthy worker loses a lease.
    fn check_loss(&mut self, now_us: u64, id: u64, session: u64, place: Place, sent: Option<Sent>) {
        if self.by_wire {
            if now_us > self.troubled_until_us {
                let what = format!(
                    "task {id:x}: session {session:x} lost its lease, though nothing but the store \
                     was troubled since {} µs",
                    self.troubled_until_us
                );
                self.broken(Rule::Healthy, now_us, what);
            }
            return;
        }
        let Some(known) = self.sessions.get(&session).filter(|known| !known.over) else {
            self.counts.lost_over += 1;
            return;
        };
        let heard = known.heard.iter().find(|contact| contact.place == place);
        let (Some(contact), Some(sent)) = (heard, sent) else {
            self.counts.lost_unheard += 1;
            return;
        };
        let silent_us = sent.listened_us.saturating_sub(contact.last_us);
        let steady = contact.steady_since_us + known.ttl_us <= sent.former_us;
        if !steady {
            self.counts.lost_silent += 1;
            return;
        }
        self.counts.lost_silent += u64::from(silent_us >= known.ttl_us / 2);
        if silent_us < known.ttl_us / 2 {
            let ttl_us = known.ttl_us;
            let what = format!(
                "task {id:x}: session {session:x} lost its lease after {silent_us} µs without a \
                 message, of a TTL of {ttl_us} µs"
            );
            self.broken(Rule::Healthy, now_us, what);
        }
    }

    fn take_in(&mut self, now_us: u64, mutation: &Mutation) {
        let (space, key) = (mutation.space().name, mutation.key());
        let value = match mutation {
            Mutation::Put { value, .. } => Some(value),
            Mutation::Delete { .. } => None,
        };
        match space {
            "spec" => self.take_spec(now_us, key, value),
            "live" => {
                let live = value.map(read::<records::Live>);
                let id = live.as_ref().map(|live| live.id).or_else(|| self.keys.get(key).copied());
                self.change(now_us, id, |task| task.live = live);
            }
            "done" | "dead" => {
                let done = value.map(read::<records::Done>);
                let id = done.as_ref().map(|done| done.id).or_else(|| self.keys.get(key).copied());
                self.change(now_us, id, |task| task.put_done(space == "done", done));
            }
            "result" => {
                let id = self.keys.get(key).copied();
                let value = value.cloned();
                self.change(now_us, id, |task| task.result = value);
            }
            "queue" => {
                let paused = value.is_some_and(|value| read::<records::Queue>(value).paused);
                self.paused.insert(key.clone(), paused);
            }
            _ => {}
        }
    }

    fn take_spec(&mut self, now_us: u64, key: &bytes::Bytes, value: Option<&bytes::Bytes>) {
        let Some(value) = value else {
            let id = self.keys.get(key).copied();
            self.change(now_us, id, |task| task.has_spec = false);
            return;
        };
        let spec: records::Spec = read(value);
        self.keys.insert(key.clone(), spec.id);
        let tag = tag_of(&spec.payload);
        let task = self.tasks.entry(spec.id).or_default();
        task.has_spec = true;
        self.touched.push(spec.id);
        let Some(tag) = tag else { return };
        if self.never.contains(&tag) {
            let what =
                format!("submission {tag:x} landed after it was said that it changed nothing");
            self.broken(Rule::Unchanged, now_us, what);
        }
        if let Some(other) = self.by_tag.insert(tag, spec.id)
            && other != spec.id
            && self.tasks.get(&other).is_some_and(Task::exists)
        {
            let what = format!("submission {tag:x} made two tasks, {other:x} and {:x}", spec.id);
            self.broken(Rule::Names, now_us, what);
        }
    }

    fn change(&mut self, now_us: u64, id: Option<u64>, change: impl FnOnce(&mut Task)) {
        match id.and_then(|id| self.tasks.get_mut(&id).map(|task| (id, task))) {
            Some((id, task)) => {
                change(task);
                self.touched.push(id);
            }
            None => self.broken(Rule::Lost, now_us, "a record of an unknown task".to_owned()),
        }
    }

    /// Live tasks, some of them described.
    pub(crate) fn unended(&self, show: usize) -> (usize, Vec<String>) {
        let mut live: Vec<_> = self.tasks.iter().filter(|(_, task)| task.live.is_some()).collect();
        live.sort_unstable_by_key(|(id, _)| **id);
        let describe = |(id, task): &(&u64, &Task)| {
            let live = task.live.as_ref();
            live.map_or_else(String::new, |live| format!("{id:x}: {live:?}"))
        };
        (live.len(), live.iter().take(show).map(describe).collect())
    }

    /// Checks at the end, when all faults are long healed, that everything has run.
    pub(crate) fn finish(&mut self, now_us: u64) {
        let (count, shown) = self.unended(3);
        if count > 0 {
            let what = format!("{count} tasks have not ended: {}", shown.join("; "));
            self.broken(Rule::Progress, now_us, what);
        }
    }
}

/// Reads a record. One that is not of the layout has all its fields at nothing, which breaks rules.
fn read<M: prost::Message + Default>(bytes: &bytes::Bytes) -> M {
    M::decode(bytes.clone()).unwrap_or_default()
}
