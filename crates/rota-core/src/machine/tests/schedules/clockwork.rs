//! A machine with schedules, and a store that lags behind it by one batch.
//!
//! Every step is looked at: its records of ticks, states and tasks belong together, and nothing is decided early.

use std::{collections::BTreeSet, sync::Arc};

use rota_cron::{Recurrence, RecurrenceSpec};

use super::super::{
    say::{completed, ended, name, reported},
    store::ModelStore,
};
use crate::{
    Assignment, AttemptOutcome, Command, Credit, Definition, Effect, Failure, FailureReason,
    Machine, MachineLimits, Millis, MonoTime, Mutation, Name, Now, OpenSession, Outcome, Overlap,
    Pause, PutSchedule, Refusal, Reply, Retention, ScheduleDefinition, ScheduleFingerprints,
    ScheduleRecord, ScheduleState, ScheduleView, SessionId, Status, Step, TaskCommand, TaskId,
    TaskIdSequence, TaskSpec, Template, TickOwners, TickRules, WallTime, tick_id,
};

/// Steps at one time after which a machine must have come to rest. A clock that jumps by 20,000 s lets a schedule with a tick
/// each second create one task in each of as many steps, and random lives add to that.
const STEPS_MAX: usize = 100_000;
/// When clockworks begin: 2026-11-27T09:00:00Z.
pub(super) const START: i64 = 1_795_770_000;
const WORKER: SessionId = SessionId(1);

/// A schedule to put.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) spec: RecurrenceSpec,
    pub(super) rules: TickRules,
    pub(super) max_runs: Option<u64>,
    pub(super) expires_after: Option<Millis>,
    pub(super) queue: Name,
}

impl Plan {
    /// A schedule with these cron expressions.
    pub(super) fn cron(expression: &str) -> Self {
        Self::of(RecurrenceSpec { expressions: vec![expression.into()], ..Default::default() })
    }

    pub(super) fn of(spec: RecurrenceSpec) -> Self {
        Self {
            spec,
            rules: TickRules::default(),
            max_runs: None,
            expires_after: None,
            queue: name("q"),
        }
    }

    pub(super) fn rules(mut self, change: impl FnOnce(&mut TickRules)) -> Self {
        change(&mut self.rules);
        self
    }

    pub(super) fn overlap(self, overlap: Overlap) -> Self {
        self.rules(|rules| rules.overlap = overlap)
    }

    pub(super) fn runs(mut self, runs: u64) -> Self {
        self.max_runs = Some(runs);
        self
    }

    fn record(&self, schedule: &Name) -> ScheduleRecord {
        let recurrence = Recurrence::new(&self.spec, schedule).expect("a recurrence");
        let mut definition = Definition::new(self.queue.clone(), name("k"));
        definition.policy.timeout = Millis(1 << 42);
        definition.policy.retry.max_attempts = 1;
        let template = Template {
            definition,
            priority: crate::Priority::default(),
            expires_after: self.expires_after,
        };
        let hash = |text: String| {
            text.bytes().fold(7u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
        };
        ScheduleRecord {
            name: schedule.clone(),
            definition: ScheduleDefinition {
                times: Arc::new(self.spec.clone()),
                recurrence: Arc::new(recurrence),
                rules: self.rules,
                template: Arc::new(template),
                labels: Vec::new(),
                description: None,
                max_runs: self.max_runs,
            },
            created_at: WallTime(0),
            updated_at: WallTime(0),
            version: 0,
            fingerprints: ScheduleFingerprints {
                whole: hash(format!("{self:?}")),
                times: hash(format!("{:?}", self.spec)),
            },
        }
    }
}

/// How a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    Failed,
    Cancelled,
}

pub(super) struct Clockwork {
    pub(super) machine: Machine,
    pub(super) now: Now,
    /// How far the wall clock is ahead of the date that is believed.
    pub(super) ahead: u64,
    limits: MachineLimits,
    batch: u64,
    pub(super) ids: TaskIdSequence,
    pub(super) durable: ModelStore,
    in_flight: Option<Vec<Mutation>>,
    /// Leases that were sent to the worker. It reports on them when a test says so.
    leases: Vec<Assignment>,
    /// Whether the worker stops cancelled tasks.
    pub(super) obeys: bool,
    /// Ticks that created a task in one step, at most.
    pub(super) most_fired: u32,
}

impl Clockwork {
    pub(super) fn new() -> Self {
        Self::with_limits(MachineLimits::default())
    }

    pub(super) fn with_limits(limits: MachineLimits) -> Self {
        let now = Now { wall: WallTime(START * 1000), mono: MonoTime(50_000) };
        let mut clockwork = Self {
            machine: Machine::new(limits, Retention::default(), now),
            now,
            ahead: 0,
            limits,
            batch: 1,
            ids: TaskIdSequence::after(None),
            durable: ModelStore::default(),
            in_flight: None,
            leases: Vec::new(),
            obeys: true,
            most_fired: 0,
        };
        clockwork.open_worker();
        clockwork
    }

    fn open_worker(&mut self) {
        let open = OpenSession {
            session: WORKER,
            worker: name("w"),
            queues: vec![name("q")],
            kinds: Vec::new(),
            slots: 100_000,
            credit: Credit::Hold(u32::MAX),
            ttl: Millis(1 << 42),
            connection: 0,
            held: None,
        };
        self.apply(Command::OpenSession(Box::new(open))).expect("a session");
    }

    pub(super) fn believed(&self) -> WallTime {
        WallTime(self.now.wall.0 - self.ahead.cast_signed())
    }

    // ---- commands

    pub(super) fn apply(&mut self, mut command: Command) -> Result<Reply, Refusal> {
        self.machine.begin(self.now, self.batch);
        if let Command::Task { task, command: TaskCommand::Retry { spec }, stored } = &mut command {
            *stored = self.durable.done.get(task).cloned();
            *spec = self.durable.specs.get(task).cloned();
        }
        self.machine.apply(command)
    }

    pub(super) fn put(&mut self, schedule: &str, plan: &Plan) -> Result<Reply, Refusal> {
        let schedule = name(schedule);
        let record = plan.record(&schedule);
        self.apply(Command::PutSchedule(Box::new(PutSchedule { record, if_version: None })))
    }

    pub(super) fn pause(&mut self, schedule: &str, paused: bool) -> Result<Reply, Refusal> {
        let pause = paused.then(|| Pause {
            at: self.now.wall,
            by: "somebody".into(),
            note: "".into(),
            on_failure: false,
        });
        self.apply(Command::PauseSchedule { schedule: name(schedule), pause })
    }

    pub(super) fn skip(&mut self, schedule: &str, at: WallTime) -> Result<Reply, Refusal> {
        let schedule = name(schedule);
        self.apply(Command::SkipTick { schedule, nominal: at, skip: true })
    }

    pub(super) fn delete(&mut self, schedule: &str) -> Result<Reply, Refusal> {
        self.apply(Command::DeleteSchedule { schedule: name(schedule), if_version: None })
    }

    pub(super) fn trigger(&mut self, schedule: &str) -> Result<Reply, Refusal> {
        self.machine.begin(self.now, self.batch);
        let ids = &self.durable.ids;
        let owner_of = |id: &_| Some(ids.get(id).copied());
        let reply = self.machine.trigger(&name(schedule), &mut self.ids, owner_of)?;
        Ok(reply.expect("all owners are known"))
    }

    /// Ends a task, if it has not ended.
    pub(super) fn end(&mut self, task: TaskId, end: End) {
        if end == End::Cancelled {
            let stored = self.durable.done.get(&task).cloned();
            let _ = self.apply(Command::Task { task, command: TaskCommand::Cancel, stored });
        }
        let Some(at) = self.leases.iter().position(|lease| lease.task == task) else { return };
        let lease = self.leases[at];
        let outcome = match end {
            End::Completed => completed(),
            End::Failed => AttemptOutcome::Failed {
                failure: Failure::new(FailureReason::Permanent, "no"),
                retry_at: None,
            },
            End::Cancelled => AttemptOutcome::Cancelled,
        };
        if self.apply(reported(lease, ended(outcome), 0)).is_ok() {
            self.leases.remove(at);
        }
    }

    /// Ends the task of the tick at this time.
    pub(super) fn end_tick(&mut self, schedule: &str, nominal: i64, end: End) {
        let id = tick_id(&name(schedule), WallTime(nominal * 1000));
        let task = self.durable.ids.get(&id).expect("a task of this tick").task;
        self.end(task, end);
    }

    // ---- steps

    pub(super) fn land(&mut self) {
        for mutation in self.in_flight.take().into_iter().flatten() {
            self.durable.apply(&mutation);
        }
    }

    /// Ends the open step, and sends its batch.
    pub(super) fn step(&mut self) {
        self.land();
        self.machine.begin(self.now, self.batch);
        self.machine.tick(self.now.mono);
        let believed = self.believed();
        let mut owners = TickOwners::default();
        for id in self.machine.due_tick_ids(believed) {
            let owner = self.durable.ids.get(&id).copied();
            owners.insert(id, owner);
        }
        self.machine.decide_ticks(believed, &mut self.ids, &owners);
        let step = self.machine.seal();
        self.look(&step);
        for effect in &step.effects {
            match effect {
                Effect::Dispatch(lease) => self.leases.push(*lease),
                Effect::Stop { task, .. } if self.obeys => {
                    // The worker obeys at once.
                    let cancelled = self.leases.iter().find(|lease| lease.task == *task).copied();
                    if let Some(lease) = cancelled {
                        self.leases.retain(|lease| lease.task != *task);
                        let report = ended(AttemptOutcome::Cancelled);
                        self.machine.begin(self.now, self.batch + 1);
                        let _ = self.machine.apply(reported(lease, report, 0));
                    }
                }
                _ => {}
            }
        }
        self.batch += 1;
        self.in_flight = Some(step.mutations).filter(|mutations| !mutations.is_empty());
    }

    /// What belongs together is in the step together.
    fn look(&mut self, step: &Step) {
        let states: Vec<_> = step
            .mutations
            .iter()
            .filter_map(|mutation| match mutation {
                Mutation::PutScheduleState { schedule, with, state } => {
                    Some((schedule, with, state))
                }
                _ => None,
            })
            .collect();
        let mut named = BTreeSet::new();
        for (schedule, _, _) in &states {
            assert!(named.insert(*schedule), "{schedule} is written twice in a step");
        }
        let mut per_schedule = std::collections::BTreeMap::new();
        let mut fired = 0;
        for mutation in &step.mutations {
            match mutation {
                Mutation::PutTick(record) => {
                    *per_schedule.entry(&record.schedule).or_insert(0) += 1;
                    let state =
                        states.iter().find(|(schedule, _, _)| **schedule == record.schedule);
                    let Some((_, with, state)) = state else {
                        // It was deleted in this step.
                        assert!(self.machine.schedule(&record.schedule).is_none(), "{record:?}");
                        continue;
                    };
                    assert!(state.cursor >= record.run.last, "{record:?} is ahead of the cursor");
                    if let Outcome::Fired(task) = record.run.outcome {
                        assert!(with.contains(&task), "{record:?} without its task");
                        fired += 1;
                    }
                }
                Mutation::PutSpec(spec) if spec.tick.is_some() => {
                    let linked = states.iter().any(|(_, with, _)| with.contains(&spec.id));
                    assert!(linked, "{spec:?} without the state of its schedule");
                }
                _ => {}
            }
        }
        assert!(
            per_schedule.values().all(|records| *records <= ScheduleState::QUEUED_MAX),
            "{per_schedule:?} records of one schedule in a step"
        );
        self.most_fired = self.most_fired.max(fired);
        for tick in &step.ticks {
            let is_early = tick.nominal > self.believed();
            let fired = matches!(tick.outcome, Outcome::Fired(_));
            assert!(!(fired && is_early), "{tick:?} is early at {:?}", self.believed());
        }
    }

    /// Steps until nothing is on its way and nothing is left to do at this time.
    pub(super) fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            self.step();
            if self.in_flight.is_none() && self.machine.next_wakeup() != Some(Millis(0)) {
                return;
            }
        }
        panic!("the machine does not come to rest");
    }

    /// Steps until no late tick is left, and lets the time pass that the pace of catching up asks for.
    pub(super) fn catch_up(&mut self) {
        for _ in 0..STEPS_MAX {
            self.settle();
            let Some(wait) = self.machine.schedules.wait(self.now.mono) else { return };
            self.pass(wait.0);
        }
        panic!("the machine does not catch up");
    }

    /// The leader is lost with its open step, and another takes over after some time.
    pub(super) fn crash(&mut self, landed: bool, down: u64) {
        if landed {
            self.land();
        }
        self.in_flight = None;
        self.batch += 1;
        self.pass(down);
        self.now.mono = MonoTime(self.now.mono.0 / 2 + 7);
        let mut machine = Machine::new(self.limits, Retention::default(), self.now);
        for record in self.durable.live.values() {
            machine.restore_task(record);
        }
        for record in self.durable.calendars.values() {
            machine.restore_calendar((**record).clone());
        }
        for (schedule, record) in &self.durable.schedules {
            machine.restore_schedule(record, self.durable.states[schedule].clone());
        }
        self.machine = machine;
        self.ids = TaskIdSequence::after(self.durable.specs.keys().max().copied());
        self.leases.retain(|lease| {
            let live = self.durable.live.get(&lease.task);
            let held = live.and_then(|record| record.lease.as_ref());
            held.is_some_and(|held| held.token == lease.token)
        });
        self.open_worker();
    }

    // ---- time

    pub(super) fn pass(&mut self, millis: u64) {
        self.now =
            Now { wall: self.now.wall + Millis(millis), mono: self.now.mono + Millis(millis) };
    }

    pub(super) fn set_wall_by(&mut self, millis: i64) {
        self.now.wall.0 += millis;
    }

    /// Time passes second by second, and what is due is done.
    pub(super) fn run(&mut self, seconds: u64) {
        let until = self.now.wall + Millis(seconds * 1000);
        self.settle();
        while self.now.wall < until {
            let left = until.since(self.now.wall);
            let next = self.machine.next_wakeup().unwrap_or(left).max(Millis(1));
            self.pass(next.min(left).0);
            self.settle();
        }
    }

    // ---- what became of it

    pub(super) fn view(&self, schedule: &str) -> ScheduleView {
        self.machine.schedule(&name(schedule)).expect("a schedule")
    }

    /// The records of the ticks, in the order of their times: the seconds since the start, and the outcome. Runs
    /// have their number.
    pub(super) fn outcomes(&self, schedule: &str) -> Vec<(i64, String)> {
        let schedule = name(schedule);
        let ticks = self.durable.ticks.iter().filter(|((of, _), _)| *of == schedule);
        ticks
            .map(|((_, first), record)| {
                let run = record.run;
                let word = match run.outcome.reason() {
                    Some(reason) => reason,
                    None => run.outcome.as_str(),
                };
                let times = if run.count == 1 { String::new() } else { format!(" x{}", run.count) };
                (first.0 / 1000 - START, format!("{word}{times}"))
            })
            .collect()
    }

    /// The specs of all tasks of schedules.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &Arc<TaskSpec>> {
        self.durable.specs.values().filter(|spec| spec.tick.is_some())
    }

    /// Tasks of schedules that have not ended.
    pub(super) fn live(&self) -> Vec<TaskId> {
        let live = self.durable.live.keys().copied();
        live.filter(|task| self.durable.specs[task].tick.is_some()).collect()
    }

    pub(super) fn status(&self, task: TaskId) -> Option<Status> {
        let live = self.durable.live.get(&task).map(|record| record.status);
        live.or_else(|| self.durable.done.get(&task).map(|record| record.status))
    }
}
