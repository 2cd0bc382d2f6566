//! Schedules: what clients asked of them, and what batches make of their definitions and states.
//!
//! Every simulated definition has a stamp of its own in its description, so the auditor knows which one a record is
//! and walks over its times by the calendar crate alone. [`super::ticks`] judges what becomes of the ticks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use rota_core::Overlap;
use rota_cron::{Recurrence, RecurrenceSpec, Timestamp};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Auditor, Intent, Rule,
    records::{self, Cursor, Run},
    stamp_of,
};

/// What a client asked of a schedule.
#[derive(Debug, Clone)]
pub(crate) struct Timetable {
    /// The times as they were written. Other ones begin anew, even if they mean the same.
    pub(crate) times: Arc<RecurrenceSpec>,
    pub(crate) recurrence: Arc<Recurrence>,
    pub(crate) overlap: Overlap,
    /// The longest delay of a tick.
    pub(crate) jitter_ms: i64,
    pub(crate) max_runs: Option<u64>,
    /// What each of its tasks is. Its dates are those of the tick.
    pub(crate) task: Intent,
    pub(crate) expires_after_ms: Option<i64>,
}

/// Something that a client asked of a schedule, by its stamp.
#[derive(Debug)]
struct Asked {
    timetable: Option<Arc<Timetable>>,
    landed: bool,
    /// Its client was told that it changed nothing.
    refused: bool,
}

/// A schedule, and what the batch at hand does to it.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pub(super) timetable: Option<Arc<Timetable>>,
    version: u32,
    pub(super) state: Cursor,
    /// The records of its ticks, by their first nominal time, and those in the store from before it was deleted and
    /// created again.
    pub(super) ticks: BTreeMap<i64, Run>,
    /// The task of the last tick that fired, and its nominal time.
    pub(super) last_fired: Option<(u64, i64)>,
    /// The one before that.
    pub(super) fired_before: Option<(u64, i64)>,
    /// Ticks that fired under the present limit of runs.
    pub(super) runs: u64,
    /// Coming ticks that clients asked to skip at some time.
    pub(super) to_skip: BTreeSet<i64>,
    /// When its state was written last.
    written_us: u64,
    /// How it begins anew in the batch at hand, if it does.
    pub(super) begun: Option<Begun>,
    /// Clients asked for a pause at some time.
    pub(super) was_paused: bool,
    /// The records that the batch at hand writes, each with the one before it.
    pub(super) put: Vec<(Option<Run>, Run)>,
    /// Tasks of ticks that the batch at hand creates.
    pub(super) tasks: Vec<TaskOfTick>,
    pub(super) new_state: Option<Cursor>,
}

/// A schedule that begins anew.
#[derive(Debug)]
pub(super) struct Begun {
    /// The times that it had before, whose past ticks are decided first.
    pub(super) old: Option<Arc<Timetable>>,
    /// The date by the wall clock of the node.
    pub(super) at_ms: i64,
    /// Whether it began anew several times.
    pub(super) again: bool,
}

/// A task that was created for a tick.
#[derive(Debug)]
pub(super) struct TaskOfTick {
    pub(super) id: u64,
    pub(super) nominal_ms: i64,
    pub(super) previous_ms: Option<i64>,
    pub(super) client_id: String,
}

/// All schedules, by name.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    pub(super) by_name: BTreeMap<String, Schedule>,
    pub(super) touched: BTreeSet<String>,
    asked: FxHashMap<u64, Asked>,
    /// When each was deleted last.
    deleted_us: FxHashMap<String, u64>,
    /// Records of ticks whose schedule is gone.
    orphans: FxHashSet<Bytes>,
}

/// A nominal time as it stands in ids and keys.
pub(super) fn text_of(nominal_ms: i64) -> String {
    Timestamp(nominal_ms).to_string()
}

impl Schedules {
    /// The keys of all records of ticks that are there.
    pub(super) fn tick_keys(&self) -> BTreeSet<Bytes> {
        let of = |(name, schedule): (&String, &Schedule)| {
            let keys = schedule.ticks.keys().map(|first| format!("{name} {}", text_of(*first)));
            keys.map(Bytes::from).collect::<Vec<_>>()
        };
        self.by_name.iter().flat_map(of).chain(self.orphans.iter().cloned()).collect()
    }

    fn touch(&mut self, name: &str) -> &mut Schedule {
        self.touched.insert(name.to_owned());
        self.by_name.entry(name.to_owned()).or_default()
    }
}

impl Auditor {
    /// A client is about to ask for something that has this stamp: a definition, if there is a timetable.
    pub(crate) fn asks_schedule(&mut self, stamp: u64, timetable: Option<Timetable>) {
        let timetable = timetable.map(Arc::new);
        self.schedules.asked.insert(stamp, Asked { timetable, landed: false, refused: false });
    }

    /// A client is about to ask for a tick to be skipped.
    pub(crate) fn asks_skip(&mut self, name: &str, nominal_ms: i64) {
        if let Some(schedule) = self.schedules.by_name.get_mut(name) {
            schedule.to_skip.insert(nominal_ms);
        }
    }

    /// A client is about to ask for a pause.
    pub(crate) fn asks_pause(&mut self, name: &str, stamp: u64) {
        self.asks_schedule(stamp, None);
        if let Some(schedule) = self.schedules.by_name.get_mut(name) {
            schedule.was_paused = true;
        }
    }

    /// It was told that its change is made, or that nothing was changed. `since_us` is when it asked.
    pub(crate) fn told_schedule(
        &mut self,
        now_us: u64,
        (name, stamp): (&str, u64),
        since_us: u64,
        done: bool,
    ) {
        let Some(asked) = self.schedules.asked.get_mut(&stamp) else { return };
        asked.refused |= !done;
        let (landed, defines) = (asked.landed, asked.timetable.is_some());
        if !done && landed {
            let what = format!("change {stamp:x} of {name} was refused, and was made");
            self.broken(Rule::Unchanged, now_us, what);
        }
        // What came after a pause in the same batch may hide it.
        let hidden = !defines && self.schedule_changed(name, since_us);
        if done && !landed && !hidden {
            let what = format!("change {stamp:x} of {name} was acknowledged, and is not durable");
            self.broken(Rule::Lost, now_us, what);
        }
    }

    /// A client was told that a schedule is deleted.
    pub(crate) fn told_deleted(&mut self, now_us: u64, name: &str, since_us: u64) {
        if self.schedules.deleted_us.get(name).is_none_or(|at_us| *at_us < since_us) {
            let what = format!("the deletion of {name} was acknowledged, and is not durable");
            self.broken(Rule::Lost, now_us, what);
        }
    }

    fn schedule_changed(&self, name: &str, since_us: u64) -> bool {
        let written = self.schedules.by_name.get(name).map(|schedule| schedule.written_us);
        let deleted = self.schedules.deleted_us.get(name).copied();
        written.max(deleted).is_some_and(|at_us| at_us >= since_us)
    }

    /// The record of a definition.
    pub(super) fn take_schedule(
        &mut self,
        now_us: u64,
        name: &str,
        record: Option<records::Schedule>,
    ) {
        let Some(record) = record else {
            self.schedules.deleted_us.insert(name.to_owned(), now_us);
            self.schedules.touched.remove(name);
            if let Some(gone) = self.schedules.by_name.remove(name) {
                let keys = gone.ticks.keys().map(|first| format!("{name} {}", text_of(*first)));
                self.schedules.orphans.extend(keys.map(Bytes::from));
            }
            return;
        };
        let stamp = stamp_of(&record.description);
        let asked = self.schedules.asked.get_mut(&stamp);
        let refused = asked.as_ref().is_some_and(|asked| asked.refused);
        let timetable = asked.and_then(|asked| {
            asked.landed = true;
            asked.timetable.clone()
        });
        let schedule = self.schedules.touch(name);
        let (expected, version) = (schedule.version + 1, record.version);
        let before = schedule.timetable.take();
        let times = |timetable: &Option<Arc<Timetable>>| {
            timetable.as_ref().map(|timetable| timetable.times.clone())
        };
        let runs = |timetable: &Option<Arc<Timetable>>| {
            timetable.as_ref().and_then(|timetable| timetable.max_runs)
        };
        let has_other_times = times(&before) != times(&timetable);
        let has_other_limit = runs(&before) != runs(&timetable);
        if before.is_none() || has_other_times || (has_other_limit && schedule.state.completed) {
            let again = schedule.begun.is_some();
            let old = schedule.begun.take().map_or(before.clone(), |begun| begun.old);
            let old = old.filter(|_| has_other_times && !schedule.state.completed);
            schedule.begun = Some(Begun { old, at_ms: record.updated_at_ms, again });
        }
        if has_other_limit {
            schedule.runs = 0;
        }
        schedule.version = version;
        schedule.timetable.clone_from(&timetable);
        if version != expected || timetable.is_none() {
            let what = format!("{name} has version {version} of {stamp:x}, not {expected}");
            self.broken(Rule::Versions, now_us, what);
        }
        if refused {
            let what = format!("change {stamp:x} of {name} was made after it was refused");
            self.broken(Rule::Unchanged, now_us, what);
        }
    }

    /// The record of a state.
    pub(super) fn take_cursor(&mut self, now_us: u64, name: &str, state: Option<Cursor>) {
        let Some(state) = state else { return };
        let paused = state.pause.as_ref().map_or(0, |pause| stamp_of(&pause.note));
        if let Some(asked) = self.schedules.asked.get_mut(&paused) {
            asked.landed = true;
        }
        if !self.schedules.by_name.contains_key(name) {
            let what = format!("the state of {name} was written, which is not there");
            return self.broken(Rule::Ticks, now_us, what);
        }
        let schedule = self.schedules.touch(name);
        schedule.written_us = now_us;
        schedule.new_state = Some(state);
    }

    /// The record of a tick, or of a run of ticks.
    pub(super) fn take_tick(
        &mut self,
        now_us: u64,
        key: &Bytes,
        record: Option<records::TickRecord>,
    ) {
        let text = String::from_utf8_lossy(key);
        let Some((name, first)) = text.split_once(' ') else { return };
        let known = self.schedules.by_name.contains_key(name);
        let Some(run) = record.and_then(|record| record.run) else {
            // Nothing is old enough to be removed in a run.
            if !self.schedules.orphans.remove(key) || known {
                let what = format!("the record of tick {text} was removed");
                self.broken(Rule::Lost, now_us, what);
            }
            return;
        };
        if !known || text_of(run.first_ms) != first {
            let what = format!("tick {text} is {run:?}; {name} is there: {known}");
            return self.broken(Rule::Ticks, now_us, what);
        }
        self.schedules.orphans.remove(key);
        let schedule = self.schedules.touch(name);
        let before = schedule.ticks.insert(run.first_ms, run);
        schedule.put.push((before, run));
    }

    /// The definition of a task that a schedule created. Gives what the task must be.
    pub(super) fn take_task_of(&mut self, now_us: u64, spec: &records::Spec) -> Option<Intent> {
        let tick = spec.tick.as_ref()?;
        let name = &tick.schedule;
        if !self.schedules.by_name.contains_key(name) {
            let what = format!("task {:x} of {name}, which is not there", spec.id);
            self.broken(Rule::Ticks, now_us, what);
            return None;
        }
        let schedule = self.schedules.touch(name);
        let mut intent = schedule.timetable.as_ref()?.task.clone();
        let expires_after_ms = schedule.timetable.as_ref()?.expires_after_ms;
        intent.run_at_ms = tick.nominal_ms.unwrap_or(i64::MIN / 2);
        intent.expires_at_ms = match tick.nominal_ms {
            Some(nominal_ms) => expires_after_ms.map(|after_ms| nominal_ms + after_ms),
            // It counts from the moment of the call.
            None => spec.expires_at_ms.filter(|_| expires_after_ms.is_some()),
        };
        let is_backfill = spec.client_id.starts_with(&format!("{name}/backfill-"));
        if let Some(nominal_ms) = tick.nominal_ms.filter(|_| !is_backfill) {
            schedule.tasks.push(TaskOfTick {
                id: spec.id,
                nominal_ms,
                previous_ms: tick.previous_ms,
                client_id: spec.client_id.clone(),
            });
        }
        Some(intent)
    }
}

impl Auditor {
    /// A client was told that it triggered this task.
    pub(crate) fn triggered(&mut self, now_us: u64, name: &str, id: u64) {
        self.counts.accepted += 1;
        let known = self.tasks.get(&id);
        let durable = known.is_some_and(|task| task.exists() || task.may_go || task.is_brief());
        if !durable {
            let what = format!("task {id:x} of {name} was acknowledged, and is not there");
            self.broken(Rule::Lost, now_us, what);
        }
    }
}
