//! Every change has a cause: a call that asked for it and was not told that it changed nothing.
//!
//! So "nothing was changed" is checked for whatever a client can ask of a task or a queue. A call is a
//! possible cause from the moment at which it reaches a node until it is answered; one without an
//! answer stays one for ever. A call about many tasks states how many, and causes no more changes.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::{Auditor, Op, Rule, Told};

/// Changes that are remembered, to judge answers that come after them.
const CHANGES_MAX: usize = 512;

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// Something is to be done to one task.
    Task(u64, Op),
    /// Something is to be done to tasks of a queue.
    Tasks(String, Op),
    /// A queue is to be paused, or not.
    Queue(String, bool),
}

/// A call under way.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    subject: Subject,
    since_us: u64,
    /// Changes that there were before.
    before: u64,
}

/// A change that had one possible cause.
#[derive(Debug)]
struct Change {
    number: u64,
    cause: Subject,
}

/// The possible causes of changes.
#[derive(Debug, Default)]
pub(super) struct Causes {
    counts: FxHashMap<Subject, u32>,
    /// How many more changes calls about many tasks may have caused.
    room: FxHashMap<Subject, usize>,
    changes: VecDeque<Change>,
    noted: u64,
}

impl Causes {
    /// Notes a change. False: there is no call that may have caused it.
    fn note(&mut self, subjects: &[Subject]) -> bool {
        let has_room = |subject: &Subject| self.room.get(subject).is_none_or(|room| *room > 0);
        let counts = |subject: &Subject| self.counts.get(subject).copied().unwrap_or(0);
        let count = |subject: &Subject| if has_room(subject) { counts(subject) } else { 0 };
        let possible: Vec<_> = subjects.iter().filter(|subject| count(subject) > 0).collect();
        let all: u32 = possible.iter().map(|subject| count(subject)).sum();
        if let ([only], 1) = (possible.as_slice(), all) {
            let cause = Subject::clone(only);
            if self.changes.len() == CHANGES_MAX {
                self.changes.pop_front();
            }
            self.noted += 1;
            self.changes.push_back(Change { number: self.noted, cause });
        }
        // One task alone is asked about by name, so that is the likelier cause.
        let cause = possible.first().copied();
        if let Some(room) = cause.and_then(|cause| self.room.get_mut(cause)) {
            *room -= 1;
        }
        all > 0
    }

    /// Whether somebody may have caused that.
    pub(super) fn may(&self, id: u64, queue: &str, op: Op) -> bool {
        self.counts.contains_key(&Subject::Task(id, op))
            || self.counts.contains_key(&Subject::Tasks(queue.to_owned(), op))
    }

    /// A call is no cause any more of what is still to come.
    fn rule_out(&mut self, call: &Call) {
        if let Some(count) = self.counts.get_mut(&call.subject) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&call.subject);
                self.room.remove(&call.subject);
            }
        }
    }
}

impl Auditor {
    /// A call reaches a node.
    pub(crate) fn asks(&mut self, now_us: u64, subject: Subject) -> Call {
        *self.causes.counts.entry(subject.clone()).or_default() += 1;
        Call { subject, since_us: now_us, before: self.causes.noted }
    }

    /// A call about so many tasks at most reaches a node.
    pub(crate) fn asks_many(&mut self, now_us: u64, subject: Subject, most: usize) -> Call {
        *self.causes.room.entry(subject.clone()).or_default() += most;
        self.asks(now_us, subject)
    }

    /// It is answered there.
    pub(crate) fn told(&mut self, now_us: u64, call: &Call, told: Told) {
        if told == Told::Unknown {
            return;
        }
        self.causes.rule_out(call);
        if told == Told::Done {
            self.check_done(now_us, call);
            return;
        }
        let changes = self.causes.changes.iter().rev();
        let mut since = changes.take_while(|change| change.number > call.before);
        if since.any(|change| change.cause == call.subject) {
            let what = format!("{:?} was told {told:?}, and changed something", call.subject);
            self.broken(Rule::Unchanged, now_us, what);
        }
    }

    /// What was acknowledged is durable.
    fn check_done(&mut self, now_us: u64, call: &Call) {
        let lost = match &call.subject {
            Subject::Task(id, op) => {
                let task = self.tasks.get(id);
                task.and_then(|task| task.lacks(*op, call.since_us))
            }
            Subject::Queue(name, paused) => {
                let stood = self.queues.was_paused(name, *paused, call.since_us);
                (!stood).then_some("the queue does not stand so")
            }
            Subject::Tasks(..) => None,
        };
        if let Some(lost) = lost {
            let what = format!("{:?} was acknowledged, and is not durable: {lost}", call.subject);
            self.broken(Rule::Lost, now_us, what);
        }
    }

    /// A task changed in a way that somebody must have asked for.
    pub(super) fn changed(&mut self, now_us: u64, id: u64, queue: &str, op: Op) {
        let subjects = [Subject::Task(id, op), Subject::Tasks(queue.to_owned(), op)];
        let found = self.causes.note(&subjects);
        let rule = match op {
            Op::Retry => Rule::Ends,
            Op::Delete => Rule::Lost,
            // Other clients are not heard one by one.
            _ if self.by_wire => return,
            _ => Rule::Unchanged,
        };
        // A task that was ended and tried again within a batch may look postponed.
        let found = found || op == Op::Postpone && self.causes.may(id, queue, Op::Retry);
        if !found {
            let what = format!(
                "task {id:x}: {op:?}, though nobody asked, or all who did were told that nothing \
                 was changed"
            );
            self.broken(rule, now_us, what);
        }
    }

    /// A queue was paused, or is no more.
    pub(super) fn queue_changed(&mut self, now_us: u64, queue: &str, paused: bool) {
        let found = self.causes.note(&[Subject::Queue(queue.to_owned(), paused)]);
        if !found && !self.by_wire {
            let what = format!(
                "queue {queue}: paused is {paused}, though nobody asked, or all who did were told \
                 that nothing was changed"
            );
            self.broken(Rule::Unchanged, now_us, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_about_many_tasks_explains_no_more_changes_than_it_asked_for() {
        let mut audit = Auditor::default();
        let all = || Subject::Tasks("q".to_owned(), Op::Delete);
        let unanswered = audit.asks_many(0, all(), 2);
        audit.told(1, &unanswered, Told::Unknown);
        let one = audit.asks(2, Subject::Task(7, Op::Delete));
        for id in [7, 8, 9] {
            audit.changed(3, id, "q", Op::Delete);
        }
        assert!(audit.is_content());
        audit.changed(4, 10, "q", Op::Delete);
        assert!(!audit.is_content());
        audit.told(5, &one, Told::Unknown);
    }
}
