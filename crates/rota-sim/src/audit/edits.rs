//! Edits of waiting tasks: which of them may be made, and what becomes of each.
//!
//! Every simulated edit writes a stamp of its own into the description of the task. So the auditor knows
//! which edit made the definition that is in the store, that a reader was shown or that a worker was
//! given. A version counts edits, so what readers are told of it must lie between two counts.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::{Auditor, Intent, Moment, Rule, records::Spec, task::Judged};

/// Versions of a task that are remembered, to judge reads by.
const VERSIONS: usize = 12;

/// What an edit asks for.
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    pub(crate) task: u64,
    /// How many edits the task had when this one was made up.
    pub(crate) base: u32,
    /// The definition that it asks for.
    pub(crate) payload: bytes::Bytes,
    pub(crate) intent: Intent,
    /// Another priority and another true date, if it asks for any.
    pub(crate) priority: Option<u32>,
    pub(crate) run_at_ms: Option<i64>,
}

/// What an edit was told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// It was made.
    Done,
    /// The task has had so many edits, which are not those that it was made up for.
    Conflict(u32),
    /// It changed nothing.
    Nothing,
    /// It is not known.
    Unknown,
}

/// An edit, and what is known of it.
#[derive(Debug)]
struct Asked {
    edit: Edit,
    since_us: u64,
    landed: bool,
    /// Its client was told that it changed nothing.
    refused: bool,
}

/// All edits, by their stamp, and which of them was made of which version of a task.
#[derive(Debug, Default)]
pub(super) struct Edits {
    asked: FxHashMap<u64, Asked>,
    made: FxHashMap<(u64, u32), u64>,
}

/// What edits made of one task.
#[derive(Debug, Default)]
pub(super) struct Edited {
    /// The last one whose definition landed, and what it asked for.
    pub(super) stamp: u64,
    base: u32,
    pub(super) priority: Option<u32>,
    pub(super) run_at_ms: Option<i64>,
    /// A definition was written in the batch at hand.
    pub(super) written: bool,
    /// How many edits there were after the last batch.
    was: u32,
    /// From when on there were so many.
    versions: VecDeque<(u64, u32)>,
}

impl Edited {
    /// Checks what a batch made of the count of edits. Says how many edits it made.
    pub(super) fn settle(&mut self, now: Option<u32>, at: &Moment, judged: &mut Judged) -> u32 {
        let mut broken = |what: String| judged.broken.push((Rule::Versions, what));
        let written = std::mem::take(&mut self.written);
        let Some(now) = now else { return 0 };
        let was = self.was;
        if now < was {
            broken(format!("had {was} edits and has {now}"));
        }
        if written != (now > was) {
            broken(format!("had {was} edits and has {now}; definition written: {written}"));
        }
        if now > was && written && self.base + 1 != now {
            broken(format!("edit {:x} of version {} became version {now}", self.stamp, self.base));
        }
        self.was = now;
        if now != was {
            if self.versions.len() == VERSIONS {
                self.versions.pop_front();
            }
            self.versions.push_back((at.now_us, now));
        }
        now.saturating_sub(was)
    }

    /// How many edits there were at that time, at least.
    fn at(&self, at_us: u64) -> u32 {
        let mut before = self.versions.iter().rev().filter(|(since_us, _)| *since_us <= at_us);
        before.next().map_or(0, |(_, count)| *count)
    }
}

/// The stamp in a description; 0 for none.
pub(crate) fn stamp_of(description: &str) -> u64 {
    u64::from_str_radix(description, 16).unwrap_or(0)
}

impl Auditor {
    /// An edit reaches a node.
    pub(crate) fn asks_edit(&mut self, now_us: u64, stamp: u64, edit: Edit) {
        let asked = Asked { edit, since_us: now_us, landed: false, refused: false };
        self.edits.asked.insert(stamp, asked);
    }

    /// It is answered there.
    pub(crate) fn told_edit(&mut self, now_us: u64, stamp: u64, answer: Answer) {
        let Some(asked) = self.edits.asked.get_mut(&stamp) else { return };
        let (id, base) = (asked.edit.task, asked.edit.base);
        let (landed, since_us) = (asked.landed, asked.since_us);
        asked.refused = matches!(answer, Answer::Conflict(_) | Answer::Nothing);
        if asked.refused && landed {
            let what = format!("edit {stamp:x} of task {id:x} was told {answer:?}, and was made");
            self.broken(Rule::Unchanged, now_us, what);
        }
        let task = self.tasks.get(&id);
        let (from, to) = task.map_or((0, 0), |task| {
            let edited = task.edited.as_ref();
            edited.map_or((0, 0), |edited| (edited.at(since_us), edited.was))
        });
        let gone = task.is_none_or(|task| !task.exists());
        match answer {
            Answer::Done => {
                // Another edit of the same batch may have followed it.
                if to <= base && !gone {
                    let what = format!("edit {stamp:x} of task {id:x} was acknowledged");
                    self.broken(Rule::Lost, now_us, what + ", and is not durable");
                }
                self.made(now_us, id, base, stamp);
            }
            Answer::Conflict(count) => {
                self.counts.conflicts += 1;
                if count == base || !(from..=to).contains(&count) {
                    let what = format!(
                        "edit {stamp:x} of task {id:x} after {base} edits was told that there are \
                         {count}; there were {from} to {to}"
                    );
                    self.broken(Rule::Versions, now_us, what);
                }
            }
            Answer::Nothing | Answer::Unknown => {}
        }
    }

    /// An edit was made of a version: it is the only one.
    fn made(&mut self, now_us: u64, id: u64, base: u32, stamp: u64) {
        let other = self.edits.made.insert((id, base), stamp);
        if let Some(other) = other.filter(|other| *other != stamp) {
            let what = format!("edits {other:x} and {stamp:x} of task {id:x} both follow {base}");
            self.broken(Rule::Versions, now_us, what);
        }
    }

    /// The definition of an edited task is written.
    pub(super) fn take_edited(&mut self, now_us: u64, spec: &Spec, stamp: u64) {
        let id = spec.id;
        let Some(asked) = self.edits.asked.get_mut(&stamp) else {
            let what = format!("task {id:x} was given the definition {stamp:x} that nobody made");
            return self.broken(Rule::Versions, now_us, what);
        };
        asked.landed = true;
        self.counts.edits += 1;
        let (refused, edit) = (asked.refused, &asked.edit);
        let base = edit.base;
        let mut wrong = edit.intent.check_definition(spec);
        let label = spec.labels.iter().any(|label| stamp_of(&label.value) == stamp);
        if edit.task != id || edit.payload != spec.payload || !label {
            wrong = Some("its definition is not the one that was asked for".to_owned());
        }
        let task = self.tasks.entry(id).or_default();
        let edited = task.edited.get_or_insert_default();
        (edited.stamp, edited.base, edited.written) = (stamp, base, true);
        (edited.priority, edited.run_at_ms) = (edit.priority, edit.run_at_ms);
        task.intent = task.intent.take().map(|_| Box::new(edit.intent.clone()));
        if let Some(wrong) = wrong {
            self.broken(Rule::Asked, now_us, format!("task {id:x}, edit {stamp:x}: {wrong}"));
        }
        if refused {
            let what = format!("edit {stamp:x} of task {id:x} was made after it was refused");
            self.broken(Rule::Unchanged, now_us, what);
        }
        self.made(now_us, id, base, stamp);
    }

    /// A client read a task: after how many edits, and with the definition of which one.
    pub(crate) fn read_version(
        &mut self,
        id: u64,
        (count, stamp): (u32, u64),
        (from_us, to_us): (u64, u64),
    ) {
        let Some(task) = self.tasks.get(&id) else { return };
        let edited = task.edited.as_ref();
        let (from, to) = edited.map_or((0, 0), |edited| (edited.at(from_us), edited.was));
        // The definition is that of this version, or of a later one.
        let of = self.edits.asked.get(&stamp).map_or(0, |asked| asked.edit.base + 1);
        if !(from..=to).contains(&count) || of < count {
            let what = format!(
                "task {id:x} was read with {count} edits and the definition of edit {of} since \
                 {from_us} µs; there were {from} to {to}"
            );
            self.broken(Rule::Reads, to_us, what);
        }
    }

    /// A worker is given a task, with the definition of that edit.
    pub(crate) fn given_definition(&mut self, now_us: u64, id: u64, token: u64, stamp: u64) {
        let Some(task) = self.tasks.get(&id) else { return };
        let holds = |live: &super::records::Live| {
            live.lease.as_ref().is_some_and(|lease| lease.token == token)
        };
        let newest = task.edited.as_ref().map_or(0, |edited| edited.stamp);
        if task.live.as_ref().is_some_and(holds) && newest != stamp {
            let what = format!(
                "task {id:x} was sent with the definition of edit {stamp:x}, and has {newest:x}"
            );
            self.broken(Rule::Dispatch, now_us, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(base: u32) -> Edit {
        let intent = Intent {
            queue: "q".to_owned(),
            priority: 0,
            run_at_ms: 0,
            expires_at_ms: None,
            max_attempts: 1,
            max_snoozes: 0,
            initial_ms: 0,
            longest_ms: 0,
            jitters: false,
            is_short_lived: false,
        };
        Edit {
            task: 1,
            base,
            payload: bytes::Bytes::new(),
            intent,
            priority: None,
            run_at_ms: None,
        }
    }

    #[test]
    fn two_edits_of_one_version_are_not_both_acknowledged() {
        let mut audit = Auditor::default();
        for stamp in [7, 8] {
            assert!(audit.is_content());
            audit.asks_edit(0, stamp, edit(3));
            audit.told_edit(1, stamp, Answer::Done);
        }
        assert_eq!(audit.violations()[0].rule, Rule::Versions);
    }

    #[test]
    fn a_conflict_names_another_version_that_there_was() {
        for (told, is_true) in [(0, false), (1, false), (2, true), (3, false)] {
            let mut audit = Auditor::default();
            let edited = Edited {
                was: 2,
                versions: VecDeque::from([(10, 1), (20, 2)]),
                ..Edited::default()
            };
            let edited = Some(Box::new(edited));
            audit.tasks.entry(1).or_default().edited = edited;
            audit.asks_edit(15, 7, edit(1));
            audit.told_edit(30, 7, Answer::Conflict(told));
            assert_eq!(audit.is_content(), is_true, "{told}");
        }
    }

    #[test]
    fn what_became_of_an_edit_that_was_refused_is_a_violation() {
        let mut audit = Auditor::default();
        audit.asks_edit(0, 7, edit(0));
        audit.told_edit(1, 7, Answer::Nothing);
        let spec = Spec { id: 1, description: "7".to_owned(), ..Spec::default() };
        audit.take_edited(2, &spec, 7);
        assert!(audit.violations().iter().any(|violation| violation.rule == Rule::Unchanged));
    }
}
