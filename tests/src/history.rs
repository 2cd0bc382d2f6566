//! The judge of what was written: whether every write was the leader's, and every task one worker's
//! at a time.
//!
//! It hears a single witness, which nobody can contradict: the store's own history, revision by revision.
//! It holds it to this:
//!
//! - What is written below `s/` is written by a batch: the head changes in the same revision, and
//!   its number is the one after the last, or a larger one if it is the first of its leadership. No batch is
//!   missing, none is there twice.
//! - A batch carries the epoch of who leads at that revision. So no accepted write is a former leader's.
//! - A task's leases follow one another: the attempt's number grows by one, the token grows and is no
//!   younger than the batch that writes it. That holds through a loss of Redis too: what is written after it has larger
//!   numbers than what was lost. A lease is one session's, from the revision that gives it
//!   to the revision that takes it, and no two overlap.
//! - A task ends once, in the revision in which it ceases to live, and under the lease that is valid
//!   then: no accepted end is a former attempt's. One that no worker has can be cancelled, but not
//!   completed. After its end it lives no more, unless a client retries it: then its end is removed in
//!   the revision in which it lives again.
//! - What the API tells of a task's attempts is what was written of them.

use std::collections::BTreeMap;

use crate::audit::Record;

/// All that one revision changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revision {
    /// Its number.
    pub number: i64,
    /// When it was written, as the store tells time; 0 where `number` says it already.
    pub at: i64,
    /// What it wrote at the head.
    pub head: Option<HeadWrite>,
    /// What became of the leader's key.
    pub seat: Option<SeatChange>,
    /// Whether it wrote below `s/`.
    pub data: bool,
    /// What it wrote of tasks.
    pub tasks: Vec<TaskWrite>,
    /// Tasks that it created.
    pub created: Vec<String>,
    /// Ids that clients gave the tasks of which it wrote.
    pub ids: Vec<String>,
    /// What it wrote of schedules.
    pub schedules: Vec<ScheduleWrite>,
}

/// What a store lost at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The batches that the former master had and the present one has not.
    pub batches: Vec<Revision>,
    /// The most that a node tells.
    pub told: u64,
    /// When that was found out, in milliseconds since 1970.
    pub found_at: i64,
}

/// What the head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadWrite {
    /// Whose batch it was.
    pub epoch: i64,
    /// The number of the batch.
    pub seq: u64,
    /// The number of the batch that it follows.
    pub prev: u64,
    /// Whether it was written again without a batch, to shut one out.
    pub sealed: bool,
}

/// What became of the leader's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeatChange {
    /// Somebody has it, in this epoch.
    Held(i64),
    /// It is gone.
    Left,
}

/// A write about one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskWrite {
    /// It lives, and is in these hands if in any.
    Live {
        /// The task.
        task: String,
        /// Who has it.
        lease: Option<Lease>,
        /// The lease that its worker gave back unprocessed, if the last end of a lease was that.
        released: Option<u64>,
    },
    /// It no longer lives.
    NoLonger {
        /// The task.
        task: String,
    },
    /// It has ended.
    Ended {
        /// The task.
        task: String,
        /// Whether by a success.
        completed: bool,
        /// Under which attempt and token, if any.
        under: Option<(u32, u64)>,
    },
    /// The record of its end is gone: it is retried, or removed.
    EndUndone {
        /// The task.
        task: String,
    },
}

impl TaskWrite {
    /// The task.
    #[must_use]
    pub fn task(&self) -> &str {
        match self {
            Self::Live { task, .. }
            | Self::NoLonger { task }
            | Self::Ended { task, .. }
            | Self::EndUndone { task } => task,
        }
    }
}

/// A write about one schedule. Dates are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleWrite {
    /// Its ticks up to this date are decided.
    Cursor {
        /// The schedule.
        schedule: String,
        /// The date.
        until_ms: i64,
    },
    /// Ticks have this outcome.
    Outcome(String, Ticks),
    /// A tick created a task.
    Task {
        /// The schedule.
        schedule: String,
        /// The number of the task.
        task: u64,
        /// Its id.
        id: String,
        /// The date of the tick.
        nominal_ms: i64,
    },
    /// A record of ticks is gone. It has this key.
    Removed(String),
}

impl ScheduleWrite {
    /// The schedule. A key begins with it.
    #[must_use]
    pub fn schedule(&self) -> &str {
        match self {
            Self::Cursor { schedule, .. }
            | Self::Outcome(schedule, _)
            | Self::Task { schedule, .. } => schedule,
            Self::Removed(key) => key.split(' ').next().unwrap_or_default(),
        }
    }
}

/// Ticks in a row with the same outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    /// The outcome: 1 for a tick that fired.
    pub outcome: u32,
    /// The task of one that fired.
    pub task: Option<u64>,
    /// The dates of the first and the last.
    pub first_ms: i64,
    /// See there.
    pub last_ms: i64,
    /// How many there are.
    pub count: u64,
}

/// Who has a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Which attempt.
    pub attempt: u32,
    /// Which lease.
    pub token: u64,
    /// The session.
    pub session: u64,
}

/// Something that must not be. The number is a revision's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Data was written without a batch.
    Unfenced(i64),
    /// A batch is of another epoch than the leader of that revision.
    OldEpoch(i64),
    /// A batch does not follow the one before it.
    Gap(i64),
    /// A head was written again, and says something else or came with data.
    Unsealed(i64),
    /// A lease does not follow the one before it, or changes hands.
    Overlap(i64, String),
    /// A lease's token is no larger than that of an earlier lease of the task.
    Shrinks(i64, String),
    /// A lease's token is younger than the batch that gives it.
    Early(i64, String),
    /// A task ended under another lease than the valid one.
    OldAttempt(i64, String),
    /// A task ended that had ended, or lives on.
    EndsTwice(i64, String),
    /// A task ceased to live and has not ended.
    Vanished(i64, String),
    /// The API tells other attempts than were written.
    Told(String),
    /// A number of a batch, and so of a lease, is no larger than that of a batch that was lost before it.
    Recurs(u64),
}

/// What the judge found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What must not be. Empty: the history is right.
    pub faults: Vec<Fault>,
    /// Batches.
    pub batches: usize,
    /// Leaderships under which there was one.
    pub leaderships: usize,
    /// Leases that were given.
    pub leases: usize,
    /// Tasks that ended.
    pub ended: usize,
}

/// Judges a history from its beginning, and what the API tells in the end: `told` may leave tasks out.
#[must_use]
pub fn judge(history: &[Revision], told: &[Record]) -> Verdict {
    let mut judge = Judge::default();
    for revision in history {
        judge.hear(revision);
    }
    for record in told {
        let told: Vec<_> = record.attempts.iter().map(|one| (one.number, one.token)).collect();
        if judge.tasks.get(&record.id).is_none_or(|task| task.leases != told) {
            judge.verdict.faults.push(Fault::Told(record.id.clone()));
        }
    }
    judge.verdict
}

#[derive(Default)]
struct Judge {
    /// The epoch of who leads, while somebody does.
    leader: Option<i64>,
    head: Option<HeadWrite>,
    tasks: BTreeMap<String, Task>,
    verdict: Verdict,
}

/// A task up to some revision.
#[derive(Default)]
struct Task {
    lease: Option<Lease>,
    /// All leases that it ever had: attempt and token.
    leases: Vec<(u32, u64)>,
    /// The token of the last lease that was given back unprocessed.
    given_back: u64,
    ended: bool,
}

impl Judge {
    fn hear(&mut self, revision: &Revision) {
        let number = revision.number;
        match revision.head {
            Some(head) if head.sealed => {
                let same =
                    self.head.is_some_and(|last| (last.epoch, last.seq) == (head.epoch, head.seq));
                if revision.data || (!same && (self.head.is_some() || head.seq > 0)) {
                    self.verdict.faults.push(Fault::Unsealed(number));
                }
            }
            Some(head) => self.batch(number, head),
            None if revision.data => self.verdict.faults.push(Fault::Unfenced(number)),
            None => {}
        }
        match revision.seat {
            Some(SeatChange::Held(created)) => self.leader = Some(created),
            Some(SeatChange::Left) => self.leader = None,
            None => {}
        }
        let ends = |name: &str| {
            revision
                .tasks
                .iter()
                .any(|write| matches!(write, TaskWrite::Ended { task, .. } if task == name))
        };
        let leaves = |name: &str| {
            revision
                .tasks
                .iter()
                .any(|write| matches!(write, TaskWrite::NoLonger { task } if task == name))
        };
        let undone = |name: &str| {
            revision
                .tasks
                .iter()
                .any(|write| matches!(write, TaskWrite::EndUndone { task } if task == name))
        };
        for write in &revision.tasks {
            match write {
                TaskWrite::Live { task, lease, released } => {
                    if undone(task) {
                        self.tasks.entry(task.clone()).or_default().ended = false;
                    }
                    self.lives(number, task, *lease, *released);
                }
                TaskWrite::EndUndone { .. } => {}
                TaskWrite::NoLonger { task } if !ends(task) => {
                    self.verdict.faults.push(Fault::Vanished(number, task.clone()));
                }
                TaskWrite::NoLonger { .. } => {}
                TaskWrite::Ended { task, completed, under } => {
                    self.ends(number, task, *under, *completed, leaves(task));
                }
            }
        }
    }

    fn batch(&mut self, number: i64, head: HeadWrite) {
        if self.leader != Some(head.epoch) {
            self.verdict.faults.push(Fault::OldEpoch(number));
        }
        let last = self.head.replace(head);
        let is_first = last.map(|last| last.epoch) != Some(head.epoch);
        let follows = head.prev == last.map_or(0, |last| last.seq) && head.seq > head.prev;
        if !follows || (head.seq > head.prev + 1 && !is_first) {
            self.verdict.faults.push(Fault::Gap(number));
        }
        self.verdict.batches += 1;
        self.verdict.leaderships += usize::from(is_first);
    }

    fn lives(&mut self, number: i64, name: &str, lease: Option<Lease>, released: Option<u64>) {
        let seq = self.head.map_or(0, |head| head.seq);
        let task = self.tasks.entry(name.to_owned()).or_default();
        if task.ended {
            self.verdict.faults.push(Fault::EndsTwice(number, name.to_owned()));
        }
        // An attempt that was given back unprocessed does not count, but no token comes again.
        if let Some((_, token)) = task.leases.pop_if(|(_, token)| released == Some(*token)) {
            task.given_back = token;
        }
        let before = std::mem::replace(&mut task.lease, lease);
        let Some(lease) = lease.filter(|_| before != lease) else { return };
        let (attempt, token) = task.leases.last().copied().unwrap_or_default();
        let token = token.max(task.given_back);
        if lease.token <= token {
            self.verdict.faults.push(Fault::Shrinks(number, name.to_owned()));
        }
        if lease.attempt != attempt + 1 {
            self.verdict.faults.push(Fault::Overlap(number, name.to_owned()));
        }
        if lease.token > seq {
            self.verdict.faults.push(Fault::Early(number, name.to_owned()));
        }
        task.leases.push((lease.attempt, lease.token));
        self.verdict.leases += 1;
    }

    fn ends(
        &mut self,
        number: i64,
        name: &str,
        under: Option<(u32, u64)>,
        completed: bool,
        leaves: bool,
    ) {
        let task = self.tasks.entry(name.to_owned()).or_default();
        if task.ended || !leaves {
            self.verdict.faults.push(Fault::EndsTwice(number, name.to_owned()));
        }
        task.ended = true;
        let valid = task.lease.take().map(|lease| (lease.attempt, lease.token));
        // What ends a task that no worker has is no attempt: its record shows the last one there was.
        let last = task.leases.last().copied();
        let waited = !completed && valid.is_none() && (under.is_none() || under == last);
        if valid != under && !waited {
            self.verdict.faults.push(Fault::OldAttempt(number, name.to_owned()));
        }
        self.verdict.ended += 1;
    }
}

#[cfg(test)]
mod tests {
    use rota_client::v1::TaskStatus;

    use super::*;
    use crate::audit::{Attempt, AttemptEnd};

    fn lease(attempt: u32, token: u64) -> Option<Lease> {
        Some(Lease { attempt, token, session: 70 + u64::from(attempt) })
    }

    fn live(task: &str, lease: Option<Lease>) -> TaskWrite {
        TaskWrite::Live { task: task.into(), lease, released: None }
    }

    fn end(task: &str, under: (u32, u64)) -> [TaskWrite; 2] {
        let task = || task.to_owned();
        [
            TaskWrite::Ended { task: task(), completed: true, under: Some(under) },
            TaskWrite::NoLonger { task: task() },
        ]
    }

    fn seat(number: i64, seat: SeatChange) -> Revision {
        Revision { number, seat: Some(seat), ..Revision::default() }
    }

    fn batch(number: i64, epoch: i64, seq: u64, tasks: impl Into<Vec<TaskWrite>>) -> Revision {
        let head = Some(HeadWrite { epoch, seq, prev: seq.saturating_sub(1), sealed: false });
        Revision { number, head, data: true, tasks: tasks.into(), ..Revision::default() }
    }

    /// Leader 2 gives `a` and `b` to workers; `a` ends. Leader 6 finds the worker of `b` lost, gives `b`
    /// to another, and it ends.
    fn right() -> (Vec<Revision>, Vec<Record>) {
        let sealed = Some(HeadWrite { epoch: 2, seq: 2, prev: 1, sealed: true });
        let history = vec![
            seat(2, SeatChange::Held(2)),
            batch(3, 2, 1, [live("a", lease(1, 1)), live("b", lease(1, 1))]),
            batch(4, 2, 2, end("a", (1, 1))),
            seat(5, SeatChange::Left),
            seat(6, SeatChange::Held(6)),
            Revision { number: 7, head: sealed, ..Revision::default() },
            batch(8, 6, 3, [live("b", None)]),
            batch(9, 6, 4, [live("b", lease(2, 4))]),
            batch(10, 6, 5, end("b", (2, 4))),
        ];
        let attempt = |number, token| {
            let end =
                if token == 1 && number == 2 { AttemptEnd::Lost } else { AttemptEnd::Completed };
            Attempt { number, worker: "w".into(), token, end }
        };
        let record =
            |id: &str, attempts| Record { id: id.into(), status: TaskStatus::Completed, attempts };
        let told =
            vec![record("a", vec![attempt(1, 1)]), record("b", vec![attempt(1, 1), attempt(2, 4)])];
        (history, told)
    }

    fn faults(plant: impl FnOnce(&mut Vec<Revision>)) -> Vec<Fault> {
        let (mut history, told) = right();
        plant(&mut history);
        judge(&history, &told).faults
    }

    #[test]
    fn a_right_history_has_no_fault() {
        let (history, told) = right();
        let expected = Verdict { faults: vec![], batches: 5, leaderships: 2, leases: 3, ended: 2 };
        assert_eq!(judge(&history, &told), expected);
        // Renewed without a change of hands, and given on in one revision.
        let again = faults(|history| {
            history[6].tasks = vec![live("b", lease(1, 1))];
        });
        assert_eq!(again, []);
    }

    #[test]
    fn a_write_of_a_former_leader_is_found() {
        let late = faults(|history| {
            history[6].head = Some(HeadWrite { epoch: 2, seq: 3, prev: 2, sealed: false });
        });
        assert_eq!(late, [Fault::OldEpoch(8)]);
        let between = faults(|history| {
            let seat = history.remove(4);
            history.insert(6, seat);
        });
        assert_eq!(between, [Fault::OldEpoch(8)]);
        let nobody = faults(|history| drop(history.remove(0)));
        assert_eq!(nobody, [Fault::OldEpoch(3), Fault::OldEpoch(4)]);
        let bare = faults(|history| {
            history[5] = Revision { number: 7, data: true, ..Revision::default() };
        });
        assert_eq!(bare, [Fault::Unfenced(7)]);
    }

    #[test]
    fn batches_follow_one_another() {
        let twice = faults(|history| {
            let again = Revision { tasks: vec![], ..history[6].clone() };
            history.insert(7, again);
        });
        assert_eq!(twice, [Fault::Gap(8)]);
        let missing = faults(|history| drop(history.remove(6)));
        assert_eq!(missing, [Fault::Gap(9)]);
        for head in [
            HeadWrite { epoch: 2, seq: 1, prev: 0, sealed: true },
            HeadWrite { epoch: 6, seq: 2, prev: 1, sealed: true },
        ] {
            assert_eq!(faults(|history| history[5].head = Some(head)), [Fault::Unsealed(7)]);
        }
        assert_eq!(faults(|history| history[5].data = true), [Fault::Unsealed(7)]);
    }

    #[test]
    fn leases_do_not_overlap() {
        let overlap = |lease: Option<Lease>| {
            let (mut history, _) = right();
            history[7].tasks = vec![live("b", lease)];
            history.truncate(8);
            judge(&history, &[]).faults
        };
        let b = || "b".to_owned();
        assert_eq!(overlap(lease(2, 4)), []);
        assert_eq!(overlap(lease(1, 4)), [Fault::Overlap(9, b())]);
        assert_eq!(overlap(lease(3, 4)), [Fault::Overlap(9, b())]);
        assert_eq!(overlap(lease(2, 1)), [Fault::Shrinks(9, b())]);
        assert_eq!(overlap(lease(2, 5)), [Fault::Early(9, b())]);
        // An attempt that was given back is the next one's number again. Only the last lease can be given back.
        let given_back = |released, lease| {
            let (mut history, _) = right();
            let task = "b".to_owned();
            history[7].tasks = vec![TaskWrite::Live { task, lease, released: Some(released) }];
            history.truncate(8);
            judge(&history, &[]).faults
        };
        assert_eq!(given_back(1, lease(1, 4)), []);
        assert_eq!(given_back(2, lease(1, 4)), [Fault::Overlap(9, b())]);
        assert_eq!(given_back(1, lease(2, 4)), [Fault::Overlap(9, b())]);
        assert_eq!(given_back(1, lease(1, 1)), [Fault::Shrinks(9, b())]);
        // The same lease in two sessions' hands.
        let stolen = faults(|history| {
            let session = 99;
            history[6].tasks = vec![live("b", Some(Lease { attempt: 1, token: 1, session }))];
        });
        assert_eq!(stolen, [Fault::Shrinks(8, b()), Fault::Overlap(8, b()), Fault::Told(b())]);
    }

    #[test]
    fn an_end_is_the_valid_attempts_and_comes_once() {
        let b = || "b".to_owned();
        let late = faults(|history| history[8].tasks = end("b", (1, 1)).into());
        assert_eq!(late, [Fault::OldAttempt(10, b())]);
        let free = faults(|history| history[6].tasks.extend(end("b", (1, 1))));
        assert!(free.contains(&Fault::OldAttempt(8, b())), "{free:?}");
        let twice = faults(|history| {
            history.push(batch(11, 6, 6, end("a", (1, 1))));
        });
        let a = || "a".to_owned();
        assert_eq!(twice, [Fault::EndsTwice(11, a()), Fault::OldAttempt(11, a())]);
        let on = faults(|history| drop(history[8].tasks.pop()));
        assert_eq!(on, [Fault::EndsTwice(10, b())]);
        let again = faults(|history| history.push(batch(11, 6, 6, [live("b", None)])));
        assert_eq!(again, [Fault::EndsTwice(11, b())]);
        let vanished = faults(|history| drop(history[8].tasks.remove(0)));
        assert_eq!(vanished, [Fault::Vanished(10, b())]);
    }

    #[test]
    fn what_is_told_is_what_was_written() {
        for plant in [
            (|told: &mut Vec<Record>| drop(told[1].attempts.remove(0))) as fn(&mut Vec<Record>),
            |told| told[1].attempts[1].token = 3,
            |told| told[1].id = "c".into(),
        ] {
            let (history, mut told) = right();
            plant(&mut told);
            let expected = [Fault::Told(told[1].id.clone())];
            assert_eq!(judge(&history, &told).faults, expected);
        }
    }
}
