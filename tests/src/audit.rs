//! The judge of a run with kills: what was promised, against what was done.
//!
//! It hears three witnesses that know nothing of each other: the **ledger** of what the server
//! acknowledged, kept by the clients; the **effects**, written by the handlers; and the **record**,
//! as the API shows it in the end. It holds them to this:
//!
//! - Every acknowledged task is there and completed. A key stands for one task, and a task for one
//!   key. Nothing is there that nobody asked for.
//! - A task's history is a row of attempts, the last of which completed, and no other ended well:
//!   there was exactly one accepted end. Each attempt before it lost its worker, and that worker was
//!   killed or cut off meanwhile: a healthy worker loses no lease. Lease tokens grow.
//! - The handler ran under the lease of the completed attempt, once. It may have run under the lease
//!   of a lost attempt as well (that is what at-least-once means), once each, and is counted as a
//!   duplicate. It never ran under a lease that the record does not know.
//!
//! And work goes on: [`alive`] judges how long a task took that was submitted when a fault was healed.
//! What was written to the store on the way is the business of [`crate::history`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rota_client::v1::{self, FailureReason, TaskStatus};

use crate::expected_losses::ExpectedLosses;

/// The server acknowledged that the task for `key` is `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The client's name for it.
    pub key: String,
    /// The server's.
    pub id: String,
}

/// A handler ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// In which worker.
    pub worker: String,
    /// What the payload said.
    pub key: String,
    /// For which task.
    pub id: String,
    /// At which attempt.
    pub attempt: u32,
    /// Under which lease.
    pub token: u64,
}

impl Effect {
    /// Reads a line of a worker's log.
    #[must_use]
    pub fn parse(worker: &str, line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let effect = Self {
            worker: worker.to_owned(),
            key: words.next()?.to_owned(),
            id: words.next()?.to_owned(),
            attempt: words.next()?.parse().ok()?,
            token: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(effect)
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// Well.
    Completed,
    /// Its worker went away.
    Lost,
    /// It has not.
    Open,
    /// Otherwise, which no handler here does.
    Otherwise,
}

/// An attempt of a task, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// Who ran it.
    pub worker: String,
    /// Its lease.
    pub token: u64,
    /// How it ended.
    pub end: AttemptEnd,
}

impl From<v1::Attempt> for Attempt {
    fn from(attempt: v1::Attempt) -> Self {
        let end = match (&attempt.error, &attempt.ended_at) {
            (Some(error), _) if error.reason() == FailureReason::WorkerLost => AttemptEnd::Lost,
            (Some(_), _) => AttemptEnd::Otherwise,
            (None, Some(_)) => AttemptEnd::Completed,
            (None, None) => AttemptEnd::Open,
        };
        Self { number: attempt.attempt, worker: attempt.worker, token: attempt.lease_token, end }
    }
}

/// A task, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The id.
    pub id: String,
    /// Its state.
    pub status: TaskStatus,
    /// Its history, oldest first.
    pub attempts: Vec<Attempt>,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Acknowledged, and not there.
    Missing(String),
    /// Acknowledged, and not completed.
    NotCompleted(String, TaskStatus),
    /// One key, several tasks.
    KeyTwice(String),
    /// One task, several keys.
    TaskTwice(String),
    /// There, and never acknowledged although every client repeated itself until it was.
    Unasked(String),
    /// Attempts are missing, out of order, or their tokens do not grow.
    Disorder(String),
    /// Not exactly one attempt ended well, or not the last.
    Ends(String),
    /// An attempt failed, which no handler here does.
    Failed(String),
    /// An attempt is lost though its worker was healthy all the time.
    LostByNobody(String, String),
    /// Completed, and the handler never ran under that lease.
    NoEffect(String),
    /// The handler ran twice under one lease.
    EffectTwice(String, u64),
    /// The handler ran under a lease that the record does not know.
    Stray(Effect),
    /// The handler was given another task's payload.
    Mixed(Effect),
    /// After that, a task was not done in time.
    NotAlive(String),
}

/// A task that was submitted when a fault had been healed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What had gone wrong.
    pub after: String,
    /// How long it took to be done, if it was.
    pub done_after: Option<Duration>,
}

/// What the judge found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What must not be. Empty: the run was right.
    pub faults: Vec<Fault>,
    /// Acknowledged tasks.
    pub tasks: usize,
    /// Runs of the handler.
    pub effects: usize,
    /// Runs under leases that were lost, each of which was followed by another.
    pub duplicates: usize,
    /// Attempts that lost their worker.
    pub lost: usize,
}

/// Judges a run. `expected_losses` say which workers may have lost their leases, and when.
#[must_use]
pub fn audit(
    acks: &[Ack],
    effects: &[Effect],
    records: &[Record],
    expected_losses: &ExpectedLosses,
) -> Verdict {
    let mut verdict = Verdict { tasks: acks.len(), effects: effects.len(), ..Verdict::default() };
    let keys = check_acks(acks, records, &mut verdict);
    let mut by_task: BTreeMap<&str, Vec<&Effect>> = BTreeMap::new();
    for effect in effects {
        by_task.entry(&effect.id).or_default().push(effect);
    }
    for record in records {
        check_history(record, expected_losses, &mut verdict);
        let effects = by_task.remove(record.id.as_str()).unwrap_or_default();
        check_effects(record, &effects, keys.get(record.id.as_str()).copied(), &mut verdict);
    }
    verdict.faults.extend(by_task.into_values().flatten().cloned().map(Fault::Stray));
    verdict
}

/// Judges whether work went on after each fault within that time.
#[must_use]
pub fn alive(probes: &[Probe], within: Duration) -> Vec<Fault> {
    let late = |probe: &&Probe| probe.done_after.is_none_or(|took| took > within);
    probes.iter().filter(late).map(|probe| Fault::NotAlive(probe.after.clone())).collect()
}

/// Ledger against record. Gives the key of each task.
fn check_acks<'a>(
    acks: &'a [Ack],
    records: &[Record],
    verdict: &mut Verdict,
) -> BTreeMap<&'a str, &'a str> {
    let status: BTreeMap<_, _> = records.iter().map(|r| (r.id.as_str(), r.status)).collect();
    let mut ids = BTreeMap::new();
    let mut keys = BTreeMap::new();
    for ack in acks {
        if ids.insert(ack.key.as_str(), ack.id.as_str()).is_some_and(|id| id != ack.id) {
            verdict.faults.push(Fault::KeyTwice(ack.key.clone()));
        }
        if keys.insert(ack.id.as_str(), ack.key.as_str()).is_some_and(|key| key != ack.key) {
            verdict.faults.push(Fault::TaskTwice(ack.id.clone()));
        }
        match status.get(ack.id.as_str()) {
            None => verdict.faults.push(Fault::Missing(ack.id.clone())),
            Some(TaskStatus::Completed) => {}
            Some(status) => verdict.faults.push(Fault::NotCompleted(ack.id.clone(), *status)),
        }
    }
    let unasked = records.iter().filter(|record| !keys.contains_key(record.id.as_str()));
    verdict.faults.extend(unasked.map(|record| Fault::Unasked(record.id.clone())));
    keys
}

/// A task's history by itself.
fn check_history(record: &Record, expected_losses: &ExpectedLosses, verdict: &mut Verdict) {
    let attempts = &record.attempts;
    let numbered = attempts.iter().zip(1..).all(|(attempt, number)| attempt.number == number);
    let growing = attempts.windows(2).all(|pair| pair[0].token < pair[1].token);
    if !numbered || !growing {
        verdict.faults.push(Fault::Disorder(record.id.clone()));
    }
    let completed = attempts.iter().filter(|attempt| attempt.end == AttemptEnd::Completed).count();
    let last = attempts.last().map(|attempt| attempt.end);
    if completed != 1 || last != Some(AttemptEnd::Completed) {
        verdict.faults.push(Fault::Ends(record.id.clone()));
    }
    for (at, attempt) in attempts.iter().enumerate() {
        let next = attempts.get(at + 1).map(|next| next.token);
        match attempt.end {
            AttemptEnd::Completed | AttemptEnd::Open => {}
            AttemptEnd::Otherwise => verdict.faults.push(Fault::Failed(record.id.clone())),
            AttemptEnd::Lost => {
                verdict.lost += 1;
                if !expected_losses.covers(&attempt.worker, attempt.token, next) {
                    let (id, worker) = (record.id.clone(), attempt.worker.clone());
                    verdict.faults.push(Fault::LostByNobody(id, worker));
                }
            }
        }
    }
}

/// A task's history against what its handler did.
fn check_effects(record: &Record, effects: &[&Effect], key: Option<&str>, verdict: &mut Verdict) {
    let mut ran = BTreeSet::new();
    for &effect in effects {
        if key.is_some_and(|key| key != effect.key) {
            verdict.faults.push(Fault::Mixed(effect.clone()));
        }
        let lease = |attempt: &&Attempt| {
            (attempt.number, attempt.token) == (effect.attempt, effect.token)
                && attempt.worker == effect.worker
        };
        let Some(attempt) = record.attempts.iter().find(lease) else {
            verdict.faults.push(Fault::Stray(effect.clone()));
            continue;
        };
        if !ran.insert(effect.token) {
            verdict.faults.push(Fault::EffectTwice(record.id.clone(), effect.token));
        }
        verdict.duplicates += usize::from(attempt.end == AttemptEnd::Lost);
    }
    let completed = record.attempts.iter().find(|attempt| attempt.end == AttemptEnd::Completed);
    if completed.is_some_and(|attempt| !ran.contains(&attempt.token)) {
        verdict.faults.push(Fault::NoEffect(record.id.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tasks: `a` completed at once on `w1`; `b` ran on `w1`, which was killed, and completed on
    /// `w2`.
    struct Run {
        acks: Vec<Ack>,
        effects: Vec<Effect>,
        records: Vec<Record>,
        expected_losses: ExpectedLosses,
    }

    fn ack(key: &str, id: &str) -> Ack {
        Ack { key: key.into(), id: id.into() }
    }

    fn effect(worker: &str, key: &str, id: &str, attempt: u32, token: u64) -> Effect {
        Effect { worker: worker.into(), key: key.into(), id: id.into(), attempt, token }
    }

    fn attempt(number: u32, worker: &str, token: u64, end: AttemptEnd) -> Attempt {
        Attempt { number, worker: worker.into(), token, end }
    }

    fn right() -> Run {
        let mut expected_losses = ExpectedLosses::default();
        expected_losses.killed("w1", 11);
        let a = vec![attempt(1, "w1", 10, AttemptEnd::Completed)];
        let b = vec![
            attempt(1, "w1", 11, AttemptEnd::Lost),
            attempt(2, "w2", 12, AttemptEnd::Completed),
        ];
        let record =
            |id: &str, attempts| Record { id: id.into(), status: TaskStatus::Completed, attempts };
        Run {
            acks: vec![ack("ka", "a"), ack("kb", "b")],
            effects: vec![
                effect("w1", "ka", "a", 1, 10),
                effect("w1", "kb", "b", 1, 11),
                effect("w2", "kb", "b", 2, 12),
            ],
            records: vec![record("a", a), record("b", b)],
            expected_losses,
        }
    }

    fn faults(plant: impl FnOnce(&mut Run)) -> Vec<Fault> {
        let mut run = right();
        plant(&mut run);
        audit(&run.acks, &run.effects, &run.records, &run.expected_losses).faults
    }

    #[test]
    fn a_right_run_has_no_fault_and_its_duplicate_is_counted() {
        let run = right();
        let verdict = audit(&run.acks, &run.effects, &run.records, &run.expected_losses);
        let expected = Verdict { faults: vec![], tasks: 2, effects: 3, duplicates: 1, lost: 1 };
        assert_eq!(verdict, expected);
        // A worker may be killed before it ran anything, and an answer may be heard twice.
        assert_eq!(faults(|run| drop(run.effects.remove(1))), []);
        assert_eq!(faults(|run| run.acks.push(ack("ka", "a"))), []);
    }

    #[test]
    fn what_was_acknowledged_must_be_there_and_completed() {
        let lost = faults(|run| {
            run.records.remove(0);
            run.effects.remove(0);
        });
        assert_eq!(lost, [Fault::Missing("a".into())]);
        let stuck = faults(|run| {
            run.records[0].status = TaskStatus::Running;
            run.records[0].attempts[0].end = AttemptEnd::Open;
        });
        let expected =
            [Fault::NotCompleted("a".into(), TaskStatus::Running), Fault::Ends("a".into())];
        assert_eq!(stuck, expected);
    }

    #[test]
    fn a_key_is_a_task() {
        let twice = faults(|run| {
            run.acks.push(ack("ka", "c"));
            let mut copy = run.records[0].clone();
            copy.id = "c".into();
            run.records.push(copy);
            run.effects.push(effect("w1", "ka", "c", 1, 10));
        });
        assert_eq!(twice, [Fault::KeyTwice("ka".into())]);
        let shared = faults(|run| run.acks.push(ack("kb", "a")));
        assert!(shared.contains(&Fault::TaskTwice("a".into())), "{shared:?}");
        let unasked = faults(|run| drop(run.acks.remove(0)));
        assert_eq!(unasked, [Fault::Unasked("a".into())]);
    }

    #[test]
    fn a_task_ends_once() {
        let twice = faults(|run| run.records[1].attempts[0].end = AttemptEnd::Completed);
        assert_eq!(twice, [Fault::Ends("b".into())]);
        let failed = faults(|run| run.records[1].attempts[0].end = AttemptEnd::Otherwise);
        assert_eq!(failed, [Fault::Failed("b".into())]);
        let never = faults(|run| run.records[0].attempts[0].end = AttemptEnd::Open);
        assert_eq!(never, [Fault::Ends("a".into())]);
        let spared = faults(|run| run.expected_losses = ExpectedLosses::default());
        assert_eq!(spared, [Fault::LostByNobody("b".into(), "w1".into())]);
    }

    #[test]
    fn history_has_an_order() {
        let shrunk = faults(|run| {
            run.records[1].attempts[0].token = 13;
            run.effects[1].token = 13;
        });
        assert_eq!(shrunk, [Fault::Disorder("b".into())]);
        let gap = faults(|run| {
            run.records[1].attempts[1].number = 3;
            run.effects[2].attempt = 3;
        });
        assert_eq!(gap, [Fault::Disorder("b".into())]);
    }

    #[test]
    fn effects_belong_to_leases() {
        let none = faults(|run| drop(run.effects.remove(0)));
        assert_eq!(none, [Fault::NoEffect("a".into())]);
        let only_lost = faults(|run| drop(run.effects.remove(2)));
        assert_eq!(only_lost, [Fault::NoEffect("b".into())]);
        let twice = faults(|run| run.effects.push(run.effects[0].clone()));
        assert_eq!(twice, [Fault::EffectTwice("a".into(), 10)]);
        let twice_lost = faults(|run| run.effects.push(run.effects[1].clone()));
        assert_eq!(twice_lost, [Fault::EffectTwice("b".into(), 11)]);
        for stray in [
            effect("w1", "ka", "a", 1, 9),
            effect("w2", "ka", "a", 1, 10),
            effect("w1", "ka", "a", 2, 10),
            effect("w1", "kc", "c", 1, 10),
        ] {
            let found = faults(|run| run.effects.push(stray.clone()));
            assert!(found.contains(&Fault::Stray(stray.clone())), "{stray:?}: {found:?}");
        }
        let mixed = faults(|run| run.effects[0].key = "kb".into());
        assert_eq!(mixed, [Fault::Mixed(effect("w1", "kb", "a", 1, 10))]);
    }

    #[test]
    fn work_goes_on_in_time() {
        let second = Duration::from_secs(1);
        let probe = |after: &str, done_after| Probe { after: after.into(), done_after };
        let probes = [probe("a", Some(second)), probe("b", Some(second * 2)), probe("c", None)];
        assert_eq!(alive(&probes[..1], second), []);
        let late = ["b", "c"].map(|after| Fault::NotAlive(after.into()));
        assert_eq!(alive(&probes, second), late);
    }

    #[test]
    fn lines_are_read_whole() {
        assert_eq!(Effect::parse("w1", "ka a 1 10"), Some(effect("w1", "ka", "a", 1, 10)));
        for torn in ["", "ka", "ka a 1", "ka a 1 ", "ka a 1 10 x", "ka a x 10"] {
            assert_eq!(Effect::parse("w1", torn), None, "{torn}");
        }
    }
}
