//! The rules, and those of them that concern what the engine answers.

use std::fmt;

use super::{Auditor, Class};

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
    /// When all faults are healed, every task that can run does, within a stated time.
    Progress,
    /// "Nothing was changed" is true.
    Unchanged,
    /// A read tells how a task stood between the question and the answer.
    Reads,
    /// A name stands for one task.
    Names,
    /// A machine has done all that it can do at a moment, sooner or later.
    Rest,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 12] = [
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
        Self::Names,
        Self::Rest,
    ];
}

/// A rule was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// When, in simulated microseconds.
    pub at_us: u64,
    /// How.
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

    /// A worker's handler begins.
    pub(crate) fn started(&mut self, now_us: u64, tag: u64, token: u64) {
        match self.by_tag.get(&tag).copied() {
            Some(id) => self.dispatched(now_us, id, token),
            None => {
                let what = format!("submission {tag:x} runs, and is not there");
                self.broken(Rule::Dispatch, now_us, what);
            }
        }
    }

    /// A client was told that its submission changed nothing.
    pub(crate) fn unchanged(&mut self, now_us: u64, tag: u64, why: &str) {
        if let Some(id) = self.by_tag.get(&tag) {
            let what = format!("submission {tag:x} made task {id:x}, and was told: {why}");
            self.broken(Rule::Unchanged, now_us, what);
        }
        self.never.insert(tag);
    }

    /// A client asks for a task to be deleted.
    pub(crate) fn may_go(&mut self, id: u64) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.may_go = true;
        }
    }

    /// A client asks for a task to be tried again.
    pub(crate) fn may_return(&mut self, id: u64) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.may_return = true;
        }
    }

    /// A worker is given a task.
    pub(crate) fn dispatched(&mut self, now_us: u64, id: u64, token: u64) {
        if !self.tasks.get(&id).is_some_and(|task| task.had(token)) {
            let what = format!("task {id:x} was sent with lease {token}, which is not durable");
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
        let Some(task) = self.tasks.get(&id) else { return };
        if !task.stood_so(class, from_us, to_us) {
            let what = format!(
                "task {id:x} was {class:?} by a read that began at {from_us} µs; it was {:?}",
                task.history
            );
            self.broken(Rule::Reads, to_us, what);
        }
    }
}
