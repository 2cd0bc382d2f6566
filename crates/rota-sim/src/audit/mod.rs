//! The auditor: checks at every step what must hold, and shares no code with the core.
//!
//! It learns what happened in two ways: from every batch that lands in the store, whose records it
//! reads by messages of its own ([`records`]), and from what the engine answers to clients and workers.
//! Of each task it keeps a small state, and says which [`Rule`] was broken, where and when.

mod asked;
mod causes;
mod clocks;
mod edits;
mod histories;
mod intake;
mod memory;
mod queues;
mod records;
mod rules;
mod schedules;
mod sessions;
mod snoozes;
mod task;
mod ticks;
mod weather;

use std::collections::{BTreeSet, VecDeque};

use rota_store::Change;
use rustc_hash::{FxHashMap, FxHashSet};

pub use self::rules::{Rule, Violation};
pub(crate) use self::{
    asked::Intent,
    causes::Subject,
    clocks::SetWhile,
    edits::{Answer, Edit, stamp_of},
    histories::{Begun, Histories, Op, Told},
    schedules::Timetable,
    sessions::Heard,
    snoozes::Snooze,
    task::{Class, tag_of},
    weather::Weather,
};
use self::{
    asked::Moment,
    causes::Causes,
    clocks::Clocks,
    edits::Edits,
    memory::MemoryBounds,
    queues::QueueStates,
    schedules::Schedules,
    sessions::{Sent, Session},
    task::Task,
};
use crate::{machine::WALL_AT_START, scenario::Scenario, world::Endpoint};

/// Bytes of a step: a step takes requests of 8 MiB, and ends with the one that passes this bound. What it says of
/// tasks beside their payloads is small.
const STEP_BYTES_MAX: usize = 12 << 20;
/// Batches that a step may be cut into.
const PARTS_MAX: usize = 64;
/// What is due later than this is not waited for at the end of a run.
const FAR_MS: i64 = 60_000;
/// Violations that are kept.
const VIOLATIONS_MAX: usize = 20;

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
    /// The newest batches that each node sent.
    last_sent: FxHashMap<Endpoint, VecDeque<Sent>>,
    epoch: u64,
    /// The last batch that landed.
    seq: u64,
    /// Since when somebody leads.
    elected_us: u64,
    /// Which node surely leads, since when without a gap, and until when.
    held: Option<(Endpoint, u64, u64)>,
    /// Nodes that were told to stop, until their process ends.
    stopping: BTreeSet<Endpoint>,
    /// What clients are about to ask for.
    intents: FxHashMap<u64, Intent>,
    causes: Causes,
    edits: Edits,
    queues: QueueStates,
    /// Names that the batch at hand gave to other tasks, and the tasks that had them.
    renamed: Vec<(bytes::Bytes, u64)>,
    /// Names of the store's, and whom they stand for.
    bound: FxHashMap<bytes::Bytes, u64>,
    pub(crate) histories: Histories,
    pub(crate) weather: Weather,
    schedules: Schedules,
    pub(crate) clocks: Clocks,
    memory: MemoryBounds,
    /// A step is one batch, so rules on all of a step can be checked.
    whole_steps: bool,
    /// Sessions that gained a lease in the batch at hand, and what was given away, from which queue at
    /// which priority.
    gained: Vec<u64>,
    given: Vec<(String, u32)>,
    /// How far wall clocks ever were ahead or behind.
    pub(crate) ahead_ms: i64,
    pub(crate) behind_ms: i64,
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
    /// Attempts that were snoozed.
    pub snoozed: u64,
    /// Edits of tasks that were made.
    pub edits: u64,
    /// Edits that were refused because they were made up for another version.
    pub conflicts: u64,
    /// Changes of leadership.
    pub elections: u64,
    /// Reads that were checked.
    pub reads: u64,
    /// Histories of single tasks that were checked.
    pub histories: u64,
    /// Ticks of schedules that were decided.
    pub ticks: u64,
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

    /// A run of this scenario begins.
    pub(crate) fn begin(&mut self, scenario: &Scenario) {
        self.whole_steps = scenario.store.batch.mutations_max >= 100_000;
        self.memory = MemoryBounds::of(scenario);
    }

    /// A leader was elected.
    pub(crate) fn elected(&mut self, now_us: u64, epoch: u64) {
        if epoch <= self.epoch {
            self.broken(Rule::Tokens, now_us, format!("epoch {epoch} after {}", self.epoch));
        }
        self.epoch = epoch;
        self.elected_us = now_us;
        self.counts.elections += 1;
    }

    /// A node knows that its leadership is held until then.
    pub(crate) fn holds(&mut self, now_us: u64, endpoint: Endpoint, until_us: u64) {
        self.held = match self.held {
            Some((held, since_us, until)) if held == endpoint && now_us < until => {
                Some((endpoint, since_us, until_us))
            }
            _ => Some((endpoint, now_us, until_us)),
        };
    }

    /// A node gives its leadership up, which takes as long as the store does.
    pub(crate) fn lets_go(&mut self, endpoint: Endpoint) {
        self.held = self.held.filter(|(held, ..)| *held != endpoint);
    }

    /// The epoch of the newest leader.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A node sends a batch to the store. The first time counts.
    pub(crate) fn sent(
        &mut self,
        endpoint: Endpoint,
        seq: u64,
        epoch: u64,
        (at_us, listened_us): (u64, u64),
    ) {
        if self.sent.contains_key(&(epoch, seq)) {
            return;
        }
        let last = self.last_sent.entry(endpoint).or_default();
        if last.back().is_some_and(|last| last.epoch != epoch) {
            last.clear();
        }
        // A step may be cut into several batches, and which these are cannot be seen.
        let former = if self.whole_steps { last.back() } else { last.front() };
        let former = former.filter(|_| self.whole_steps || last.len() == PARTS_MAX);
        let elected_us = at_us - self.elected_us;
        let former_listened_us =
            former.map_or(listened_us.saturating_sub(elected_us), |former| former.listened_us);
        let former_us = former.map_or(self.elected_us, |former| former.at_us);
        let sent = Sent { epoch, at_us, listened_us, former_listened_us, former_us };
        if last.len() == PARTS_MAX {
            last.pop_front();
        }
        last.push_back(sent);
        self.sent.insert((epoch, seq), sent);
    }

    /// A batch landed.
    pub(crate) fn landed(&mut self, now_us: u64, endpoint: Endpoint, change: &Change) {
        self.counts.batches += 1;
        let (epoch, seq) = (change.head.epoch.0, change.head.seq.0);
        if epoch != self.epoch {
            let what = format!("batch {seq} of epoch {epoch} landed in epoch {}", self.epoch);
            self.broken(Rule::Fences, now_us, what);
        }
        self.seq = seq;
        let bytes: usize = change.mutations.iter().map(rota_store::Mutation::bytes).sum();
        if bytes > STEP_BYTES_MAX {
            let what =
                format!("batch {seq} has {bytes} bytes; a step has {STEP_BYTES_MAX} at most");
            self.broken(Rule::Bounds, now_us, what);
        }
        let sent = self.sent.remove(&(epoch, seq));
        let at = self.moment(now_us, seq, sent);
        self.touched.clear();
        for mutation in change.mutations.iter() {
            self.take_in(now_us, mutation);
        }
        let decided_us = sent.map_or((now_us, now_us), |sent| (sent.former_us, sent.at_us));
        self.judge_schedules(&at, endpoint, decided_us);
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for id in &touched {
            self.judge(&at, *id, endpoint, sent);
        }
        self.touched = touched;
        self.check_names(now_us);
        self.check_step(now_us);
        for (id, what) in self.histories.take_failed() {
            self.broken(Rule::Linear, now_us, format!("task {id:x}: {what}"));
        }
    }

    /// A name goes to another task only when the one that had it is gone.
    fn check_names(&mut self, now_us: u64) {
        for (key, former) in std::mem::take(&mut self.renamed) {
            if self.tasks.get(&former).is_some_and(Task::exists) {
                let name = String::from_utf8_lossy(&key);
                let what = format!("{name} of task {former:x} was given to another task");
                self.broken(Rule::Names, now_us, what);
            }
        }
    }

    /// When a batch was decided on.
    fn moment(&self, now_us: u64, seq: u64, sent: Option<Sent>) -> Moment {
        let date = |at_us: u64| WALL_AT_START + (at_us / 1000).cast_signed();
        let begun_us = sent.map_or(self.elected_us, |sent| sent.former_us);
        let sent_us = sent.map_or(now_us, |sent| sent.at_us);
        Moment {
            now_us,
            seq,
            begun_ms: date(begun_us) - self.behind_ms,
            sent_ms: date(sent_us) + self.ahead_ms,
            wall_max_ms: self.wall_max_ms,
            behind_ms: self.behind_ms,
            jumped: self.ahead_ms > 0 || self.behind_ms > 0,
        }
    }

    /// Checks what a whole step must keep to.
    fn check_step(&mut self, now_us: u64) {
        let given = std::mem::take(&mut self.given);
        if !self.whole_steps {
            self.gained.clear();
            return;
        }
        self.check_slots(now_us);
        for (queue, priority) in given {
            if self.queues.is_paused(&queue) {
                let what = format!("a task of {queue} was given away while it is paused");
                self.broken(Rule::Order, now_us, what);
            }
            if self.queues.waits_above(&queue, priority) {
                let what = format!(
                    "a task of {queue} at priority {priority} was given away before a higher one"
                );
                self.broken(Rule::Order, now_us, what);
            }
        }
    }

    /// Checks a task after a batch that changed it.
    fn judge(&mut self, at: &Moment, id: u64, endpoint: Endpoint, sent: Option<Sent>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let lived = task.lived();
        let judged = task.settle(at);
        let lives = task.live.is_some();
        let waits = task.waits();
        let counted = std::mem::replace(&mut task.counted, waits.clone());
        let queue = task.queue.clone();
        let given = task.live.as_ref().filter(|_| judged.leased);
        self.given.extend(given.map(|live| (live.queue.clone(), live.priority)));
        self.queues.moved(&counted, &waits);
        self.queues.lives(at.now_us, at.seq, &queue, (lived, lives));
        if judged.appeared {
            if let Some(intent) = &task.intent {
                let kind = (intent.is_short_lived, task.of_schedule);
                self.histories.sample(id, &queue, kind, at.now_us);
            }
            self.queues.add_task(&queue, id);
        }
        if judged.vanished {
            self.queues.drop_task(&queue, id);
        }
        self.counts.leases += u64::from(judged.leased);
        self.counts.ended += u64::from(judged.ended);
        self.counts.snoozed += u64::from(judged.snoozed);
        for (rule, what) in judged.broken {
            self.broken(rule, at.now_us, format!("task {id:x}: {what}"));
        }
        for (ops, rule, what) in judged.doubted {
            if !ops.iter().any(|op| self.causes.may(id, &queue, *op)) {
                self.broken(rule, at.now_us, format!("task {id:x}: {what}"));
            }
        }
        for op in judged.asked {
            if op != Op::Cancel || !self.is_replaced(id) {
                self.changed(at.now_us, id, &queue, op);
            }
        }
        self.lease_moved(at.now_us, judged.lease_moved, judged.token, endpoint);
        if let Some(session) = judged.taken_from {
            self.check_taken(at.now_us, id, session);
        }
        if let Some(session) = judged.lost_by {
            self.counts.lost += 1;
            self.check_loss(at.now_us, id, session, endpoint, sent);
        }
    }

    /// The key of the records of some task that waits: the newest.
    pub(crate) fn some_waiting(&self) -> Option<bytes::Bytes> {
        let waits = |id: &u64| self.tasks.get(id).is_some_and(|task| task.waits().is_some());
        let keys = self.keys.iter().filter(|(_, id)| waits(id));
        keys.max_by_key(|(_, id)| **id).map(|(key, _)| key.clone())
    }

    /// Whether no live task is left that can still end.
    pub(crate) fn all_ended(&self) -> bool {
        self.left().next().is_none()
    }

    /// The live tasks that can still end, in any order.
    fn left(&self) -> impl Iterator<Item = (u64, &records::Live)> {
        // Where a clock was far ahead, a delay from then ends in weeks.
        let until_ms = self.wall_max_ms + FAR_MS;
        let live = self.tasks.iter().filter_map(|(id, task)| Some((*id, task.live.as_ref()?)));
        live.filter(move |(_, live)| live.run_at_ms <= until_ms)
    }

    /// Checks at the end, when all faults are long healed, that everything has run.
    pub(crate) fn finish(&mut self, now_us: u64) {
        for (id, what) in self.histories.finish() {
            self.broken(Rule::Linear, now_us, format!("task {id:x}: {what}"));
        }
        self.counts.histories = self.histories.checked;
        let mut left: Vec<_> = self.left().collect();
        left.sort_unstable_by_key(|(id, _)| *id);
        if !left.is_empty() {
            let shown = left.iter().take(3).map(|(id, live)| format!("{id:x}: {live:?}"));
            let shown: Vec<_> = shown.collect();
            let what = format!("{} tasks have not ended: {}", left.len(), shown.join("; "));
            self.broken(Rule::Progress, now_us, what);
        }
    }
}
