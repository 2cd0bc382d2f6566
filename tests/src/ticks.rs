//! The judge of schedules with a tick each second: whether each second has one outcome, and each tick that fired one
//! task.
//!
//! It hears the store's history, and what the API tells in the end. It holds them to this:
//!
//! - The cursor of a schedule only grows. In the revision that moves it, each second between the two places gets an
//!   outcome, in order, and none does that is elsewhere.
//! - An outcome stays. More ticks with the same one can extend its record.
//! - A tick that fires has one task, which is created in the same revision and has the id and the nominal time of the
//!   tick. No other task has a tick.
//! - No tick has a date that is still to come.
//! - What the API tells of ticks is what was written.

use std::collections::{BTreeMap, BTreeSet, btree_map::OccupiedEntry};

use crate::{
    history::{Revision, ScheduleWrite, Ticks},
    schedules::Told,
};

/// The outcome of a tick that fired.
const FIRED: u32 = 1;
/// The outcomes from this one on can stand for several ticks in a row.
const FOLDS: u32 = 3;
const SECOND_MS: i64 = 1000;

/// Something that must not be: the revision, the schedule, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The revision. 0 for what the API tells.
    pub revision: i64,
    /// The schedule.
    pub schedule: String,
    /// What is wrong.
    pub what: String,
}

/// What the judge found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What must not be.
    pub faults: Vec<Fault>,
    /// Schedules.
    pub schedules: usize,
    /// Ticks that have an outcome.
    pub ticks: u64,
    /// Those that have a task.
    pub fired: usize,
    /// Ids of the tasks.
    pub ids: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Schedule {
    cursor_ms: Option<i64>,
    ticks: BTreeMap<i64, Ticks>,
}

/// Judges a history from its beginning, and what the API tells in the end, which is at that date.
#[must_use]
pub fn judge(history: &[Revision], told: &Told, end_s: i64) -> Verdict {
    let mut verdict = Verdict::default();
    let mut schedules: BTreeMap<String, Schedule> = BTreeMap::new();
    for revision in history {
        let names: BTreeSet<_> = revision.schedules.iter().map(ScheduleWrite::schedule).collect();
        for name in names {
            let writes: Vec<_> =
                revision.schedules.iter().filter(|write| write.schedule() == name).collect();
            let schedule = schedules.entry(name.to_owned()).or_default();
            if let Err(what) = schedule.hear(name, &writes, &mut verdict) {
                verdict.fault(revision.number, name, what);
            }
        }
    }
    for (name, schedule) in &schedules {
        let last_ms = schedule.ticks.values().map(|ticks| ticks.last_ms).max().unwrap_or(0);
        if last_ms > end_s * SECOND_MS {
            verdict.fault(0, name, format!("{} is still to come", text_of(last_ms)));
        }
        let mut written: BTreeMap<_, _> =
            schedule.ticks.iter().map(|(first, ticks)| (*first, as_told(*ticks))).collect();
        let mut told = told.get(name).cloned().unwrap_or_default();
        without_those_after_telling(&mut written, &mut told);
        if written != told {
            let differs = written.iter().find(|(first, ticks)| told.get(first) != Some(ticks));
            let what =
                format!("{} records are written, {} told: {differs:?}", written.len(), told.len());
            verdict.fault(0, name, what);
        }
    }
    verdict.schedules = schedules.len();
    verdict
}

/// Takes out what a paused schedule may write after its ticks were told: a longer last record, or one more.
fn without_those_after_telling(
    written: &mut BTreeMap<i64, Ticks>,
    told: &mut BTreeMap<i64, Ticks>,
) {
    let last_told = told.keys().next_back().copied();
    let is_later = |first: &i64| last_told.is_none_or(|last| *first > last);
    if let Some(last) = written.last_entry().filter(|last| is_later(last.key())) {
        take_if_not_fired(last);
    }
    for records in [written, told] {
        records.last_entry().and_then(take_if_not_fired);
    }
}

fn take_if_not_fired(last: OccupiedEntry<'_, i64, Ticks>) -> Option<Ticks> {
    (last.get().outcome != FIRED).then(|| last.remove())
}

/// Without what is not told.
fn as_told(ticks: Ticks) -> Ticks {
    Ticks { outcome: if ticks.outcome == FIRED { 1 } else { 0 }, task: None, ..ticks }
}

impl Verdict {
    fn fault(&mut self, revision: i64, schedule: &str, what: String) {
        self.faults.push(Fault { revision, schedule: schedule.to_owned(), what });
    }
}

impl Schedule {
    /// Hears what one revision writes.
    fn hear(
        &mut self,
        name: &str,
        writes: &[&ScheduleWrite],
        verdict: &mut Verdict,
    ) -> Result<(), String> {
        let (mut decided, mut fired, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
        let mut cursor_ms = None;
        for write in writes {
            match write {
                ScheduleWrite::Cursor { until_ms, .. } => cursor_ms = Some(*until_ms),
                ScheduleWrite::Outcome(_, ticks) => {
                    if let Some(task) = ticks.task {
                        fired.push((ticks.first_ms, task));
                    }
                    decided.push(self.put(*ticks)?);
                }
                ScheduleWrite::Task { task, id, nominal_ms, .. } => {
                    let wanted = format!("{name}/{}", text_of(*nominal_ms));
                    if *id != wanted || !verdict.ids.insert(id.clone()) {
                        return Err(format!("the task {id}, not {wanted}, or for the second time"));
                    }
                    tasks.push((*nominal_ms, *task));
                }
                ScheduleWrite::Removed(key) => return Err(format!("{key} is gone")),
            }
        }
        verdict.fired += fired.len();
        fired.sort_unstable();
        tasks.sort_unstable();
        if fired != tasks {
            return Err(format!("{fired:?} fired, and {tasks:?} are the tasks"));
        }
        let Some(cursor_ms) = cursor_ms else {
            let apart = !decided.is_empty() || !tasks.is_empty();
            return if apart { Err("ticks without a cursor".to_owned()) } else { Ok(()) };
        };
        decided.sort_unstable();
        // A schedule begins with the second after its creation.
        let first_ms = decided.first().map_or(cursor_ms, |(after_ms, _)| *after_ms);
        let mut at_ms = self.cursor_ms.unwrap_or(first_ms);
        self.cursor_ms = Some(cursor_ms);
        for (after_ms, last_ms) in decided {
            if after_ms != at_ms.div_euclid(SECOND_MS) * SECOND_MS {
                let (after, at) = (text_of(after_ms), text_of(at_ms));
                return Err(format!("an outcome comes after {after}, and the one before was {at}"));
            }
            verdict.ticks += (last_ms - after_ms).div_euclid(SECOND_MS).unsigned_abs();
            at_ms = last_ms;
        }
        if at_ms != cursor_ms {
            let (at, cursor) = (text_of(at_ms), text_of(cursor_ms));
            return Err(format!("outcomes up to {at}, and the cursor is {cursor}"));
        }
        Ok(())
    }

    /// Keeps the record of ticks. Gives the date before the first tick that it adds, and that of the last.
    fn put(&mut self, ticks: Ticks) -> Result<(i64, i64), String> {
        let Ticks { outcome, first_ms, last_ms, count, .. } = ticks;
        let span = (last_ms - first_ms).div_euclid(SECOND_MS).unsigned_abs() + 1;
        let alone_or_folds = count == 1 || outcome >= FOLDS;
        let has_task = (outcome == FIRED) == ticks.task.is_some();
        if count != span || !alone_or_folds || !has_task || first_ms % SECOND_MS != 0 {
            return Err(format!("{ticks:?} is no record"));
        }
        let Some(before) = self.ticks.insert(first_ms, ticks) else {
            return Ok((first_ms - SECOND_MS, last_ms));
        };
        if before.outcome == outcome && outcome >= FOLDS && last_ms > before.last_ms {
            return Ok((before.last_ms, last_ms));
        }
        Err(format!("{before:?} became {ticks:?}"))
    }
}

/// A date as it stands in ids, such as `2026-03-08T07:00:00Z`.
#[must_use]
pub fn text_of(date_ms: i64) -> String {
    let seconds = date_ms.div_euclid(SECOND_MS);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since the first of March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: i64 = 1_800_000_000_000;

    fn fired(second: i64, task: u64) -> Vec<ScheduleWrite> {
        let first_ms = BEGAN + second * SECOND_MS;
        let ticks = Ticks { outcome: 1, task: Some(task), first_ms, last_ms: first_ms, count: 1 };
        let id = format!("s/{}", text_of(first_ms));
        vec![
            ScheduleWrite::Outcome("s".into(), ticks),
            ScheduleWrite::Task { schedule: "s".into(), task, id, nominal_ms: first_ms },
            ScheduleWrite::Cursor { schedule: "s".into(), until_ms: first_ms },
        ]
    }

    fn skipped(first: i64, last: i64) -> Vec<ScheduleWrite> {
        let (first_ms, last_ms) = (BEGAN + first * SECOND_MS, BEGAN + last * SECOND_MS);
        let count = (last - first + 1).unsigned_abs();
        let ticks = Ticks { outcome: 4, task: None, first_ms, last_ms, count };
        vec![
            ScheduleWrite::Outcome("s".into(), ticks),
            ScheduleWrite::Cursor { schedule: "s".into(), until_ms: last_ms },
        ]
    }

    /// Created between two seconds; two ticks fire, five are stood for in two steps, one fires.
    fn right() -> Vec<Vec<ScheduleWrite>> {
        vec![
            vec![ScheduleWrite::Cursor { schedule: "s".into(), until_ms: BEGAN + 300 }],
            fired(1, 7),
            fired(2, 8),
            skipped(3, 4),
            skipped(3, 7),
            fired(8, 9),
        ]
    }

    fn verdict(writes: Vec<Vec<ScheduleWrite>>) -> Verdict {
        let revision = |(number, schedules)| Revision { number, schedules, ..Revision::default() };
        let history: Vec<_> = (1..).zip(writes).map(revision).collect();
        let mut told = BTreeMap::new();
        for revision in &history {
            for write in &revision.schedules {
                if let ScheduleWrite::Outcome(_, ticks) = write {
                    told.insert(ticks.first_ms, as_told(*ticks));
                }
            }
        }
        judge(&history, &Told::from([("s".to_owned(), told)]), BEGAN / SECOND_MS + 8)
    }

    #[test]
    fn a_right_history_has_no_fault() {
        let verdict = verdict(right());
        assert_eq!(verdict.faults, []);
        assert_eq!((verdict.schedules, verdict.ticks, verdict.fired), (1, 8, 3));
        assert_eq!(text_of(1_772_953_200_000), "2026-03-08T07:00:00Z");
        assert_eq!(text_of(951_782_400_000), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn a_paused_schedule_may_write_one_more_record_after_it_was_told() {
        let skipped = |second: i64| {
            let at_ms = BEGAN + second * SECOND_MS;
            let ticks = Ticks { outcome: 0, task: None, first_ms: at_ms, last_ms: at_ms, count: 1 };
            (at_ms, ticks)
        };
        let longer = |(first_ms, ticks): (i64, Ticks)| {
            (first_ms, Ticks { last_ms: ticks.last_ms + SECOND_MS, count: 2, ..ticks })
        };
        let agree = |mut written: BTreeMap<_, _>, mut told: BTreeMap<_, _>| {
            without_those_after_telling(&mut written, &mut told);
            written == told
        };
        let told = BTreeMap::from([skipped(1), skipped(3)]);
        assert!(agree(told.clone(), told.clone()));
        assert!(agree(BTreeMap::from([skipped(1), longer(skipped(3))]), told.clone()));
        assert!(agree(BTreeMap::from([skipped(1), skipped(3), skipped(5)]), told.clone()));
        let two = BTreeMap::from([skipped(1), skipped(3), skipped(5), skipped(7)]);
        assert!(!agree(two, told.clone()));
        assert!(!agree(BTreeMap::from([longer(skipped(1)), skipped(3)]), told.clone()));
        let (at_ms, ticks) = skipped(5);
        let fired = (at_ms, Ticks { outcome: FIRED, ..ticks });
        assert!(!agree(BTreeMap::from([skipped(1), skipped(3), fired]), told));
    }

    #[test]
    fn each_wrong_history_has_a_fault() {
        type Plant = fn(&mut Vec<Vec<ScheduleWrite>>);
        let plants: [(&str, Plant); 9] = [
            ("missing", |writes| drop(writes.remove(2))),
            ("twice", |writes| writes.insert(2, fired(1, 70))),
            ("early", |writes| writes.push(skipped(9, 9))),
            ("cursor apart", |writes| drop(writes[1].pop())),
            ("without a task", |writes| drop(writes[1].remove(1))),
            ("another task", |writes| writes[1][1] = fired(1, 70).remove(1)),
            ("another date", |writes| writes[1][1] = fired(2, 7).remove(1)),
            ("changed", |writes| writes[4] = skipped(3, 3)),
            ("gone", |writes| writes[5].push(ScheduleWrite::Removed("s 2027".into()))),
        ];
        for (name, plant) in plants {
            let mut writes = right();
            plant(&mut writes);
            assert_ne!(verdict(writes).faults, [], "{name}");
        }
    }
}
