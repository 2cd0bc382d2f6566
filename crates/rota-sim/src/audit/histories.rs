//! Histories of single tasks, as clients and workers saw them, and whether they are linearizable.
//!
//! The check is the one of Wing and Gong with the memory of Lowe, as porcupine has it: search for an
//! order of the operations that keeps their order in real time and that one task could have gone
//! through. A task also moves by itself (it fails, expires, is removed), so the model is not
//! deterministic; its states are sets of states, as porcupine does it too.
//!
//! Written here because the crates that have such a check (`stateright`) bring a model checker with a
//! web server along, and want a deterministic model.

use rustc_hash::{FxHashMap, FxHashSet};

use super::Class;

/// Histories that are kept at a time, and operations in each; a full one is checked and forgotten.
const HISTORIES_MAX: usize = 400;
const OPERATIONS_MAX: usize = 40;
/// One task in so many is sampled.
const ONE_IN: u64 = 8;
/// An operation on many tasks is carried out within this time, or never.
const MANY_US: u64 = 60_000_000;
/// A check that takes more steps than this is given up.
const STEPS_MAX: usize = 200_000;

/// What is asked of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Op {
    Create,
    Get,
    Cancel,
    Retry,
    Postpone,
    Priority,
    Edit,
    Delete,
    /// A worker says that it is done.
    Complete,
}

/// What was told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was done.
    Done,
    /// The task stands so.
    Seen(Class),
    /// It cannot be done to a task that stands so.
    Illegal(Class),
    /// There is no such task.
    Missing,
    /// It changed nothing, for a reason that says nothing of the task.
    Nothing,
    /// There was no answer, or none that says what was done.
    Unknown,
}

/// An operation that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    task: u64,
    at: usize,
    serial: u64,
}

#[derive(Debug, Clone, Copy)]
struct Operation {
    op: Op,
    call_us: u64,
    /// `None`: it may take effect at any time from its call on, or never.
    told: Option<(u64, Told)>,
}

#[derive(Debug)]
struct History {
    queue: String,
    serial: u64,
    /// It is removed soon after its end.
    is_short_lived: bool,
    operations: Vec<Operation>,
}

/// The histories of a sample of tasks.
#[derive(Debug, Default)]
pub(crate) struct Histories {
    tasks: FxHashMap<u64, History>,
    /// Their ids, oldest first.
    order: Vec<u64>,
    serial: u64,
    /// Operations on many tasks that may still be under way: since when, in which queue.
    many: Vec<(u64, String, Op)>,
    pub(super) checked: u64,
    failed: Vec<(u64, String)>,
}

impl Histories {
    /// A new task is durable: begins its history, if it is one of the sample.
    /// A task of a schedule can be cancelled at any time, because the next tick is due.
    pub(super) fn sample(
        &mut self,
        task: u64,
        queue: &str,
        (is_short_lived, of_schedule): (bool, bool),
        now_us: u64,
    ) {
        let chosen = (task.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).is_multiple_of(ONE_IN);
        if !chosen || self.tasks.len() >= HISTORIES_MAX {
            return;
        }
        self.serial += 1;
        let created = Operation { op: Op::Create, call_us: 0, told: Some((now_us, Told::Done)) };
        let queue = queue.to_owned();
        let serial = self.serial;
        let mut operations = vec![created];
        if of_schedule {
            operations.push(Operation { op: Op::Cancel, call_us: 0, told: None });
        }
        self.many.retain(|(since_us, ..)| since_us + MANY_US > now_us);
        for (_, _, op) in self.many.iter().filter(|(_, other, _)| *other == queue) {
            if !operations.iter().any(|operation| operation.op == *op) {
                operations.push(Operation { op: *op, call_us: 0, told: None });
            }
        }
        let history = History { queue, serial, is_short_lived, operations };
        if self.tasks.insert(task, history).is_none() {
            self.order.push(task);
        }
    }

    /// A task of the sample, for whoever wants to meet others there.
    pub(crate) fn some(&self, draw: impl FnOnce(usize) -> usize) -> Option<u64> {
        // The newest: they are still alive.
        let newest = &self.order[self.order.len().saturating_sub(24)..];
        if newest.is_empty() { None } else { newest.get(draw(newest.len())).copied() }
    }

    /// An operation begins, as its caller sees it. `None`: the task is not of the sample.
    pub(crate) fn begin(&mut self, task: u64, op: Op, call_us: u64) -> Option<Begun> {
        let history = self.tasks.get_mut(&task)?;
        if history.operations.len() >= OPERATIONS_MAX {
            // What is on its way may yet take effect, so this is as far as it can be judged.
            self.close(task);
            return None;
        }
        history.operations.push(Operation { op, call_us, told: None });
        Some(Begun { task, at: history.operations.len() - 1, serial: history.serial })
    }

    /// It was answered, or will not be.
    pub(crate) fn end(&mut self, begun: Begun, told: Told, ret_us: u64) {
        let Some(history) = self.tasks.get_mut(&begun.task) else { return };
        if history.serial == begun.serial && told != Told::Unknown {
            history.operations[begun.at].told = Some((ret_us, told));
        }
    }

    /// An operation on many tasks begins, of which is not known which it meets.
    pub(crate) fn bulk(&mut self, queue: &str, op: Op, call_us: u64) {
        let mut met: Vec<_> =
            self.tasks.iter().filter(|(_, one)| one.queue == queue).map(|(id, _)| *id).collect();
        met.sort_unstable();
        self.many.push((call_us, queue.to_owned(), op));
        for task in met {
            self.begin(task, op, call_us);
        }
    }

    /// Checks all that are left, and gives those that fail, described.
    pub(super) fn finish(&mut self) -> Vec<(u64, String)> {
        for task in std::mem::take(&mut self.order) {
            self.close(task);
        }
        std::mem::take(&mut self.failed)
    }

    /// Those that failed since the last call.
    pub(super) fn take_failed(&mut self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.failed)
    }

    fn close(&mut self, task: u64) {
        let Some(history) = self.tasks.remove(&task) else { return };
        self.order.retain(|other| *other != task);
        self.checked += 1;
        if !history.is_linearizable() {
            let shown: Vec<_> = history.operations.iter().map(Operation::shown).collect();
            self.failed.push((task, shown.join("; ")));
        }
    }
}

impl Operation {
    fn shown(&self) -> String {
        let Self { op, call_us, told } = self;
        match told {
            Some((ret_us, told)) => format!("{op:?} {call_us}..{ret_us} {told:?}"),
            None => format!("{op:?} {call_us}.. no answer"),
        }
    }
}

/// Sets of states of a task, one bit each.
type States = u8;
const ABSENT: States = 1;
const LIVE: States = 2;
/// Live, and a client asked for it to be stopped.
const STOPPING: States = 4;
const COMPLETED: States = 8;
const FAILED: States = 16;
const CANCELLED: States = 32;
const EXPIRED: States = 64;
const GONE: States = 128;
const ENDED: States = COMPLETED | FAILED | CANCELLED | EXPIRED;

fn of_class(class: Class) -> States {
    match class {
        Class::Absent => ABSENT | GONE,
        Class::Waits | Class::Leased => LIVE | STOPPING,
        Class::Ended(4) => COMPLETED,
        Class::Ended(5) => FAILED,
        Class::Ended(6) => CANCELLED,
        Class::Ended(_) => EXPIRED,
    }
}

impl History {
    /// The states that the task may reach by itself.
    fn drift(&self, states: States) -> States {
        let mut states = states;
        if states & LIVE != 0 {
            states |= FAILED | EXPIRED;
        }
        if states & STOPPING != 0 {
            states |= CANCELLED;
        }
        if self.is_short_lived && states & ENDED != 0 {
            states |= GONE;
        }
        states
    }

    /// The states after an operation with that answer; none where it cannot have had it.
    fn after(&self, states: States, op: Op, told: Told) -> States {
        let from = self.drift(states);
        match (op, told) {
            (_, Told::Seen(class) | Told::Illegal(class)) => from & of_class(class),
            (_, Told::Missing) => from & (ABSENT | GONE),
            (_, Told::Nothing) | (Op::Get, _) => from,
            (_, Told::Done | Told::Unknown) => done(from, op),
        }
    }

    /// Whether there is an order of its operations in which they can have been carried out.
    fn is_linearizable(&self) -> bool {
        let mut seen = FxHashSet::default();
        let mut steps = 0;
        let mut open = vec![(0_u64, ABSENT)];
        while let Some((mask, states)) = open.pop() {
            steps += 1;
            if steps > STEPS_MAX {
                return true;
            }
            let left = |at: &usize| mask & (1 << at) == 0;
            let told = |at: usize| self.operations[at].told;
            let waiting = || (0..self.operations.len()).filter(left);
            // Nothing may come before what was answered before it was asked.
            let first = waiting().filter_map(|at| told(at).map(|(ret_us, _)| ret_us)).min();
            let Some(first) = first else { return true };
            for at in waiting() {
                let Operation { op, call_us, told } = self.operations[at];
                if call_us > first {
                    continue;
                }
                let told = told.map_or(Told::Unknown, |(_, told)| told);
                let after = self.after(states, op, told);
                let next = (mask | 1 << at, after);
                if after != 0 && seen.insert(next) {
                    open.push(next);
                }
            }
        }
        false
    }
}

/// The states after an operation that was carried out.
fn done(from: States, op: Op) -> States {
    let mut to = 0;
    let mut leads = |some: States, there: States| {
        if from & some != 0 {
            to |= there;
        }
    };
    match op {
        Op::Create => leads(ABSENT, LIVE),
        Op::Get | Op::Postpone | Op::Priority | Op::Edit => to = from & LIVE,
        Op::Cancel => {
            leads(LIVE, STOPPING | CANCELLED);
            leads(STOPPING, STOPPING);
            leads(CANCELLED, CANCELLED);
        }
        Op::Retry => leads(FAILED | CANCELLED | EXPIRED, LIVE),
        Op::Delete => leads(ENDED, GONE),
        Op::Complete => leads(LIVE | STOPPING | COMPLETED, COMPLETED),
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was asked, when, and what was told when.
    type Row = (Op, u64, Option<(u64, Told)>);

    fn history(operations: &[Row]) -> History {
        let operation =
            |(op, call_us, told): &Row| Operation { op: *op, call_us: *call_us, told: *told };
        History {
            queue: String::new(),
            serial: 1,
            is_short_lived: false,
            operations: operations.iter().map(operation).collect(),
        }
    }

    #[test]
    fn an_order_is_found_where_there_is_one() {
        let done = Told::Done;
        // The read overlaps the cancel and saw it; the one after it may not un-see it.
        let cancelled = Told::Seen(Class::Ended(6));
        let good = history(&[
            (Op::Create, 0, Some((10, done))),
            (Op::Cancel, 20, Some((50, done))),
            (Op::Get, 30, Some((40, cancelled))),
            (Op::Get, 60, Some((70, cancelled))),
        ]);
        assert!(good.is_linearizable());
        let live = Told::Seen(Class::Waits);
        let bad = history(&[
            (Op::Create, 0, Some((10, done))),
            (Op::Cancel, 20, Some((80, done))),
            (Op::Get, 30, Some((40, cancelled))),
            (Op::Get, 60, Some((70, live))),
        ]);
        assert!(!bad.is_linearizable());
    }

    #[test]
    fn what_has_no_answer_may_take_effect_late_or_never() {
        let (live, done) = (Told::Seen(Class::Leased), Told::Seen(Class::Ended(4)));
        for (first, second, is_good) in
            [(live, done, true), (live, live, true), (done, live, false)]
        {
            let one = history(&[
                (Op::Create, 0, Some((10, Told::Done))),
                (Op::Complete, 20, None),
                (Op::Get, 30, Some((40, first))),
                (Op::Get, 50, Some((60, second))),
            ]);
            assert_eq!(one.is_linearizable(), is_good, "{first:?} {second:?}");
        }
    }

    #[test]
    fn what_was_acknowledged_is_seen() {
        let created = (Op::Create, 0, Some((10, Told::Done)));
        let missing = history(&[created, (Op::Get, 20, Some((30, Told::Missing)))]);
        assert!(!missing.is_linearizable());
        let stopped = history(&[
            created,
            (Op::Cancel, 20, Some((30, Told::Done))),
            (Op::Complete, 40, None),
            (Op::Get, 50, Some((60, Told::Seen(Class::Ended(5))))),
        ]);
        assert!(!stopped.is_linearizable(), "a cancelled task does not fail");
    }
}
