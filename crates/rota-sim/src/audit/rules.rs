//! The rules, and those of them that concern what the engine answers.

use std::fmt;

use super::{Auditor, Class, Intent, Task};

/// Who waits for a task's end is told of it within this time, where nothing else is wrong.
const WOKEN_WITHIN_US: u64 = 700_000;
/// So long after the last fault the engine may be busy with what it left.
const RECOVERY_US: u64 = 5_000_000;
/// Tasks of a queue of which is checked whether a list leaves them out.
const LISTED_MAX: usize = 64;

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Nothing acknowledged is lost, and no record goes before its time.
    Lost,
    /// Each task ends once, unless a client asks for it to be tried again.
    Ends,
    /// Lease tokens of a task grow, and a lease has one holder.
    Tokens,
    /// No batch of an earlier epoch lands.
    Fences,
    /// A worker gets a task only when its lease is durable.
    Dispatch,
    /// What is acknowledged to a worker is durable.
    Reports,
    /// A worker that is heard of within half its TTL loses no lease.
    Healthy,
    /// When all faults are healed, every task that can run does and every tick is decided, within a stated time.
    Progress,
    /// "Nothing was changed" is true, and nothing changes that nobody asked for.
    Unchanged,
    /// A read tells how a task or a queue stood between the question and the answer, and a list leaves none out.
    Reads,
    /// A definition changes only by an edit of its newest version, and each edit raises the version by one.
    Versions,
    /// A name stands for one task, and is free when that is gone.
    Names,
    /// What clients and workers were told of one task is linearizable.
    Linear,
    /// A task is what its client asked for, and is tried as often as it asked.
    Asked,
    /// No task runs before it is due, nor after it expired, and no tick is decided before its time.
    Dates,
    /// Within a queue the highest priority goes first, and nothing starts while the queue is paused.
    Order,
    /// A session that drains gets no task.
    Drain,
    /// No session holds more than its slots, no call gets more than it asked for, and no step takes more bytes than
    /// it may.
    Bounds,
    /// No part of a node holds more bytes than the documentation says.
    Memory,
    /// Who waits for the end of a task is told when it ends.
    Wakes,
    /// A heartbeat of an open session is answered at once, whatever the store does.
    Signs,
    /// Each instant of a schedule has one outcome, in the batch that moves the cursor over it, and one that fires has
    /// one task.
    Ticks,
    /// A machine has done all that it can do at a moment, sooner or later.
    Rest,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 23] = [
        Self::Lost,
        Self::Ends,
        Self::Tokens,
        Self::Fences,
        Self::Dispatch,
        Self::Reports,
        Self::Healthy,
        Self::Progress,
        Self::Unchanged,
        Self::Reads,
        Self::Versions,
        Self::Names,
        Self::Linear,
        Self::Asked,
        Self::Dates,
        Self::Order,
        Self::Drain,
        Self::Bounds,
        Self::Memory,
        Self::Wakes,
        Self::Signs,
        Self::Ticks,
        Self::Rest,
    ];
}

/// A rule was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// When, in simulated microseconds.
    pub at_us: u64,
    /// What it names.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, at_us, what } = self;
        write!(f, "{rule:?} at {}.{:03} ms: {what}", at_us / 1000, at_us % 1000)
    }
}

impl Auditor {
    /// A client was told that its task exists.
    pub(crate) fn accepted(&mut self, now_us: u64, tag: u64, id: u64, name: Option<&str>) {
        self.counts.accepted += 1;
        let known = self.tasks.get_mut(&id);
        let durable = known.is_some_and(|task| {
            task.accepted = true;
            task.exists() || task.may_go
        });
        if !durable {
            let what =
                format!("submission {tag:x} was acknowledged as task {id:x}, which is not there");
            self.broken(Rule::Lost, now_us, what);
        }
        if self.never.contains(&tag) {
            let what = format!("submission {tag:x} was refused before");
            self.broken(Rule::Unchanged, now_us, what);
        }
        let Some(name) = name else { return };
        if let Some(other) = self.names.insert(name.to_owned(), id)
            && other != id
            && self.tasks.get(&other).is_some_and(|task| task.exists() && !task.may_go)
        {
            let what = format!("{name} stands for task {other:x} and for task {id:x}");
            self.broken(Rule::Names, now_us, what);
        }
    }

    /// A client was told that its submission is a task.
    pub(crate) fn accepted_tag(&mut self, now_us: u64, tag: u64) {
        match self.by_tag.get(&tag).copied() {
            Some(id) => self.accepted(now_us, tag, id, None),
            None => {
                let what = format!("submission {tag:x} was acknowledged, and is not there");
                self.broken(Rule::Lost, now_us, what);
            }
        }
    }

    /// The task of a submission, as far as it landed.
    pub(crate) fn id_of_tag(&self, tag: u64) -> Option<u64> {
        self.by_tag.get(&tag).copied()
    }

    /// A worker's handler begins.
    pub(crate) fn started(&mut self, now_us: u64, tag: u64, token: u64) {
        match self.by_tag.get(&tag).copied() {
            Some(id) => self.dispatched(now_us, id, token, None),
            None => {
                let what = format!("submission {tag:x} runs, and is not there");
                self.broken(Rule::Dispatch, now_us, what);
            }
        }
    }

    /// A client was told that its submission changed nothing. One that `repeats` may have made a task before
    /// that is gone again, or its first message may still be on its way.
    pub(crate) fn unchanged(&mut self, now_us: u64, tag: u64, repeats: bool, why: &str) {
        let made = self.by_tag.get(&tag);
        let exists = |id: &&u64| self.tasks.get(id).is_some_and(Task::exists);
        if let Some(id) = made.filter(|id| !repeats || exists(id)) {
            let what = format!("submission {tag:x} made task {id:x}, and was told: {why}");
            self.broken(Rule::Unchanged, now_us, what);
        }
        if !repeats {
            self.never.insert(tag);
        }
    }

    /// A client asks for a task to be deleted.
    pub(crate) fn may_go(&mut self, id: u64) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.may_go = true;
        }
    }

    /// A client asks for tasks of a queue to be deleted.
    pub(crate) fn may_all_go(&mut self, queue: &str) {
        for id in self.queues.newest(queue, 0) {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.may_go = true;
            }
        }
    }

    /// A client is about to ask for a task.
    pub(crate) fn intends(&mut self, tag: u64, intent: Intent) {
        // What was asked again is as it was asked first.
        self.intents.entry(tag).or_insert(intent);
    }

    /// A worker is given a task, in the name of a session if that is known.
    pub(crate) fn dispatched(&mut self, now_us: u64, id: u64, token: u64, session: Option<u64>) {
        let task = self.tasks.get(&id);
        let holder = task.and_then(|task| task.holder(token));
        if task.is_none_or(|task| !task.had(token)) {
            let what = format!("task {id:x} was sent with lease {token}, which is not durable");
            self.broken(Rule::Dispatch, now_us, what);
        } else if let (Some(holder), Some(session)) = (holder, session)
            && holder != session
        {
            let what =
                format!("lease {token} of task {id:x} is {holder:x}'s and went to {session:x}");
            self.broken(Rule::Dispatch, now_us, what);
        }
    }

    /// A worker was told that its report of an end is accepted.
    pub(crate) fn reported(&mut self, now_us: u64, id: u64, token: u64) {
        if !self.tasks.get(&id).is_some_and(|task| task.has_ended(token)) {
            let what = format!(
                "the end of lease {token} of task {id:x} was acknowledged, and is not durable"
            );
            self.broken(Rule::Reports, now_us, what);
        }
    }

    /// A client asked how a task stands, and was told.
    pub(crate) fn read(&mut self, id: u64, class: Class, from_us: u64, to_us: u64) {
        self.counts.reads += 1;
        let Some(task) = self.tasks.get(&id) else {
            if class != Class::Absent {
                let what = format!("task {id:x} was {class:?} by a read, and has never landed");
                self.broken(Rule::Reads, to_us, what);
            }
            return;
        };
        if !task.stood_so(class, from_us, to_us) {
            let what = format!(
                "task {id:x} was {class:?} by a read that began at {from_us} µs; it was {:?}",
                task.history
            );
            self.broken(Rule::Reads, to_us, what);
        }
    }

    /// A client waited for the end of a task, and was told how it stands.
    pub(crate) fn waited(&mut self, id: u64, from_us: u64, to_us: u64) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Some((ended_us, Class::Ended(_))) = task.history.back() else { return };
        let woken_us = from_us.max(*ended_us);
        if to_us > woken_us + WOKEN_WITHIN_US
            && self.weather.was_calm(woken_us.saturating_sub(RECOVERY_US))
        {
            let what = format!(
                "task {id:x} ended at {ended_us} µs; who waited since {from_us} µs heard it now"
            );
            self.broken(Rule::Wakes, to_us, what);
        }
    }

    /// A client asked how a queue stands, and was told.
    pub(crate) fn counted(
        &mut self,
        queue: &str,
        (live, paused): (u64, bool),
        (from_us, to_us): (u64, u64),
    ) {
        self.counts.reads += 1;
        // What a step that was cut stood at between its batches is not known.
        if self.whole_steps && !self.queues.so_many_lived(queue, live, (from_us, to_us)) {
            let what = format!("{queue} was told to have {live} live tasks, and never had");
            self.broken(Rule::Reads, to_us, what);
        }
        if !self.queues.was_paused(queue, paused, from_us) {
            let what = format!("{queue} was told to stand at paused {paused}, and never did");
            self.broken(Rule::Reads, to_us, what);
        }
    }

    /// A client listed the tasks of a queue, and was told of these, newest first. `down_to` is the
    /// oldest that was looked at; nothing where all were.
    pub(crate) fn listed(
        &mut self,
        queue: &str,
        told: &[(u64, Class)],
        down_to: Option<u64>,
        (from_us, to_us): (u64, u64),
    ) {
        for (id, class) in told {
            self.read(*id, *class, from_us, to_us);
        }
        let newest = self.queues.newest(queue, down_to.unwrap_or(0)).take(LISTED_MAX);
        let left_out = newest.filter(|id| {
            let there = self.tasks.get(id).is_some_and(|task| task.rests_since(from_us));
            there && !told.iter().any(|(other, _)| other == id)
        });
        let left_out: Vec<_> = left_out.collect();
        if let Some(id) = left_out.first() {
            let what = format!("a list of {queue} since {from_us} µs leaves out task {id:x}");
            self.broken(Rule::Reads, to_us, what);
        }
    }
}
