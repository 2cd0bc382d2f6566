//! A world around the machine: it drives it as the engine does, with a store that lags.
//!
//! One batch is on its way while the next step is open. What the machine is told of the store is
//! read with or without that batch, as it happens. Every step is looked at by the auditor.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    audit::{self, Scope, Snapshot},
    store::ModelStore,
};
use crate::{
    Action, Binds, Command, Credit, Effect, EndKind, Failure, FailureReason, HeldLease, LeaseToken,
    Leased, LiveView, Machine, MachineLimits, Millis, MonoTime, Mutation, Name, Now, OpenSession,
    Outcome, Policy, Priority, Refusal, Reply, Report, Retention, SessionId, Status, Stored,
    Submit, TaskId, TaskIdSequence, TaskSpec, WallTime, lifecycle::transition,
};

/// When worlds begin.
pub(super) const START: Now = Now { wall: WallTime(1_000_000_000), mono: MonoTime(50_000) };
/// Sessions live for so long without a sign.
pub(super) const TTL: Millis = Millis(10_000);

/// A step whose batch is on its way.
#[derive(Debug)]
struct InFlight {
    effects: Vec<Effect>,
    created: Vec<TaskId>,
    removed: Vec<TaskId>,
}

/// What the world knows of a worker.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) name: Name,
    pub(super) credit: Credit,
    pub(super) slots: u32,
    /// What was sent to it and not reported on.
    pub(super) has: Vec<Leased>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) machine: Machine,
    limits: MachineLimits,
    pub(super) now: Now,
    /// The number of the next batch.
    pub(super) batch: u64,
    ids: TaskIdSequence,
    pub(super) durable: ModelStore,
    /// With the batch on its way.
    landed: ModelStore,
    /// With what the open step has come to so far.
    pub(super) newest: ModelStore,
    /// Whether reads see the batch on its way.
    pub(super) reads_ahead: bool,
    in_flight: Option<InFlight>,
    /// Mutations of the open step that `newest` has.
    mirrored: usize,
    created: Vec<TaskId>,
    removed: Vec<TaskId>,
    /// Tasks that a client was told of.
    pub(super) acked: BTreeSet<TaskId>,
    /// What was released and not taken yet.
    effects: Vec<Effect>,
    pub(super) workers: BTreeMap<SessionId, Worker>,
    /// Every lease that was ever sent to anybody.
    pub(super) leases: Vec<Leased>,
    /// The last end that was accepted for a task.
    accepted: BTreeMap<TaskId, (LeaseToken, EndKind)>,
    pub(super) snapshot: Snapshot,
    sessions_opened: u64,
}

/// A task to be submitted.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) queue: Name,
    pub(super) kind: Name,
    pub(super) priority: u32,
    pub(super) delay: i64,
    pub(super) expires_in: Option<i64>,
    pub(super) policy: Policy,
    pub(super) binds: Binds,
    pub(super) body: u64,
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl Task {
    pub(super) fn new(queue: &str, kind: &str) -> Self {
        Self {
            queue: name(queue),
            kind: name(kind),
            priority: 5,
            delay: 0,
            expires_in: None,
            policy: Policy::default(),
            binds: Binds::default(),
            body: 0,
        }
    }

    pub(super) fn priority(self, priority: u32) -> Self {
        Self { priority, ..self }
    }

    pub(super) fn delay(self, delay: i64) -> Self {
        Self { delay, ..self }
    }

    pub(super) fn expires_in(self, span: i64) -> Self {
        Self { expires_in: Some(span), ..self }
    }

    pub(super) fn policy(self, change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = self.policy;
        change(&mut policy);
        Self { policy, ..self }
    }

    pub(super) fn id(self, id: &str) -> Self {
        let binds = Binds { id: Some(name(id)), ..self.binds };
        Self { binds, ..self }
    }

    pub(super) fn key(self, key: &str) -> Self {
        let binds = Binds { key: Some(key.into()), ..self.binds };
        Self { binds, ..self }
    }

    pub(super) fn body(self, body: u64) -> Self {
        Self { body, ..self }
    }
}

pub(super) fn failed(message: &str) -> Outcome {
    let failure = Failure::new(FailureReason::Error, message);
    Outcome::Failed { failure, retry_at: None }
}

pub(super) fn completed() -> Outcome {
    Outcome::Completed { result: Bytes::new() }
}

pub(super) fn ended(outcome: Outcome) -> Report {
    Report::Ended { started_at: None, output_tail: Bytes::new(), outcome }
}

fn kind_of(report: &Report) -> Option<EndKind> {
    match report {
        Report::Released => Some(EndKind::Released),
        Report::Ended { outcome: Outcome::Completed { .. }, .. } => Some(EndKind::Completed),
        Report::Ended { outcome: Outcome::Failed { .. }, .. } => Some(EndKind::Failed),
        Report::Ended { outcome: Outcome::Cancelled, .. } => Some(EndKind::Cancelled),
        Report::Started { .. } | Report::Progress { .. } => None,
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_limits(MachineLimits::default())
    }

    pub(super) fn with_limits(limits: MachineLimits) -> Self {
        Self {
            machine: Machine::new(limits, Retention::default(), START),
            limits,
            now: START,
            batch: 1,
            ids: TaskIdSequence::after(None),
            durable: ModelStore::default(),
            landed: ModelStore::default(),
            newest: ModelStore::default(),
            reads_ahead: false,
            in_flight: None,
            mirrored: 0,
            created: Vec::new(),
            removed: Vec::new(),
            acked: BTreeSet::new(),
            effects: Vec::new(),
            workers: BTreeMap::new(),
            leases: Vec::new(),
            accepted: BTreeMap::new(),
            snapshot: Snapshot::default(),
            sessions_opened: 0,
        }
    }

    // ---- commands

    /// Applies a command to the open step, and checks its answer against what it must be.
    pub(super) fn apply(&mut self, mut command: Command) -> Result<Reply, Refusal> {
        self.machine.begin(self.now, self.batch);
        self.fill(&mut command);
        let expected = self.expected(&command);
        let scope = Scope::of(&command, self);
        let told = command.clone();
        let reply = self.machine.apply(command);
        expected.check(&told, &reply);
        self.mirror();
        self.note(&told, &reply);
        self.look(&scope);
        reply
    }

    /// Hands over what the engine would have read from the store.
    fn fill(&self, command: &mut Command) {
        let store = if self.reads_ahead { &self.landed } else { &self.durable };
        if let Command::Submit(submit) = command {
            submit.bindings = store.bindings(&submit.spec.binds);
        }
        if let Command::Retry { task, spec, .. } = command {
            *spec = store.specs.get(task).cloned();
        }
        let Some(task) = self.machine.wants_stored(command) else { return };
        if let Command::Cancel { stored, .. }
        | Command::Retry { stored, .. }
        | Command::Reschedule { stored, .. }
        | Command::SetPriority { stored, .. }
        | Command::Delete { stored, .. }
        | Command::Purge { stored, .. }
        | Command::Report { stored, .. } = command
        {
            *stored = store.done.get(&task).cloned();
        }
    }

    /// What the machine must answer, by the world's own books.
    fn expected(&self, command: &Command) -> Expected {
        let illegal = |from, action| Expected::Illegal(from, action);
        let status = |task: &TaskId| self.status(*task);
        match command {
            Command::Submit(submit) => self.expected_of_submit(submit),
            Command::Cancel { task, .. } => match status(task) {
                None => Expected::Unknown,
                Some(from) if from.is_leased() => Expected::Task(from),
                Some(Status::Cancelled) => Expected::Task(Status::Cancelled),
                Some(from) if from.is_terminal() => illegal(from, Action::Cancel),
                Some(_) => Expected::Task(Status::Cancelled),
            },
            Command::Retry { task, .. } => match status(task) {
                None => Expected::Unknown,
                Some(from) if transition(from, Action::Retry).is_err() => {
                    illegal(from, Action::Retry)
                }
                Some(_) if self.is_full(&self.newest.specs[task].queue) => Expected::Refused,
                Some(_) => Expected::Task(Status::Pending),
            },
            Command::Reschedule { task, run_at, .. } => match status(task) {
                None => Expected::Unknown,
                Some(from) if transition(from, Action::Postpone).is_err() => {
                    illegal(from, Action::Postpone)
                }
                Some(_) if *run_at <= self.now.wall => Expected::Task(Status::Pending),
                Some(_) => Expected::Task(Status::Scheduled),
            },
            Command::SetPriority { task, .. } => match status(task) {
                None => Expected::Unknown,
                Some(from) if transition(from, Action::Reprioritize).is_err() => {
                    illegal(from, Action::Reprioritize)
                }
                Some(from) => Expected::Task(from),
            },
            Command::Delete { task, .. } => match status(task) {
                None => Expected::Unknown,
                Some(from) if !from.is_terminal() => illegal(from, Action::Delete),
                Some(_) => Expected::Done,
            },
            Command::Purge { .. } => Expected::Done,
            Command::Report { task, token, report, .. } => {
                self.expected_of_report(*task, *token, report)
            }
            Command::Heartbeat { session }
            | Command::SetCredit { session, .. }
            | Command::Drain { session }
            | Command::CloseSession { session } => {
                if self.machine.session(*session).is_some() {
                    Expected::Done
                } else {
                    Expected::Refused
                }
            }
            Command::PauseQueue { .. } | Command::OpenSession(_) => Expected::Anything,
        }
    }

    fn expected_of_submit(&self, submit: &Submit) -> Expected {
        let known = self.newest.bindings(&submit.spec.binds);
        for known in [known.id, known.key].into_iter().flatten() {
            return if known.fingerprint == submit.spec.fingerprint {
                Expected::Repeat(known.task)
            } else {
                Expected::Conflict(known.task)
            };
        }
        if self.is_full(&submit.spec.queue) {
            return Expected::Refused;
        }
        Expected::NewTask
    }

    fn is_full(&self, queue: &Name) -> bool {
        let live = self.snapshot.live_in(queue);
        live >= self.limits.queue_length_max
    }

    fn expected_of_report(&self, task: TaskId, token: LeaseToken, report: &Report) -> Expected {
        if self.status(task).is_none() {
            return Expected::Unknown;
        }
        let current = self.machine.task(task).and_then(|view| view.lease);
        if current.is_some_and(|lease| lease.token == token) {
            return Expected::Done;
        }
        match (kind_of(report), self.accepted.get(&task)) {
            (Some(kind), Some(accepted)) if *accepted == (token, kind) => Expected::Done,
            _ => Expected::Refused,
        }
    }

    /// Enters the command in the world's books.
    fn note(&mut self, command: &Command, reply: &Result<Reply, Refusal>) {
        match (command, reply) {
            (_, Ok(Reply::Submitted { task, created: true })) => self.created.push(*task),
            (Command::Delete { task, .. }, Ok(_)) => {
                self.removed.push(*task);
                self.accepted.remove(task);
            }
            (Command::Purge { task, .. }, _) if self.status(*task).is_none() => {
                self.removed.push(*task);
                self.accepted.remove(task);
            }
            (Command::OpenSession(open), Ok(Reply::Session { revoked, .. })) => {
                let entry = self.workers.entry(open.session).or_insert_with(|| Worker {
                    name: open.worker.clone(),
                    credit: open.credit,
                    slots: open.slots,
                    has: Vec::new(),
                });
                entry.credit = open.credit;
                entry.slots = open.slots;
                entry.has.retain(|has| {
                    let held = HeldLease { task: has.task, token: has.token };
                    open.held.as_ref().is_none_or(|named| named.contains(&held))
                        && !revoked.contains(&held)
                });
            }
            // What had not begun is given back on the worker's behalf.
            (Command::CloseSession { session }, Ok(_)) => {
                for (task, token) in self.snapshot.assigned_to(*session) {
                    self.accepted.insert(task, (token, EndKind::Released));
                }
            }
            (Command::SetCredit { session, credit }, Ok(_)) => {
                if let Some(worker) = self.workers.get_mut(session) {
                    worker.credit = *credit;
                }
            }
            (Command::Report { task, token, report, .. }, Ok(_)) => {
                if let Some(kind) = kind_of(report) {
                    self.accepted.insert(*task, (*token, kind));
                    for worker in self.workers.values_mut() {
                        worker.has.retain(|has| (has.task, has.token) != (*task, *token));
                    }
                }
            }
            _ => {}
        }
    }

    /// The state of a task that may have ended; `None` where there is no such task.
    pub(super) fn status(&self, task: TaskId) -> Option<Status> {
        self.machine
            .task(task)
            .map(|view| view.status)
            .or_else(|| self.newest.done.get(&task).map(|done| done.status))
    }

    // ---- steps

    /// Brings the newest store up to what the open step has come to.
    fn mirror(&mut self) {
        for mutation in &self.machine.step.mutations[self.mirrored..] {
            self.newest.apply(mutation);
        }
        self.mirrored = self.machine.step.mutations.len();
    }

    /// The batch on its way lands; what waited for it is released.
    pub(super) fn land(&mut self) {
        let Some(step) = self.in_flight.take() else { return };
        self.durable = self.landed.clone();
        self.acked.extend(&step.created);
        for task in &step.removed {
            self.acked.remove(task);
        }
        for task in &self.acked {
            assert!(self.durable.specs.contains_key(task), "{task} was acknowledged and is lost");
        }
        self.release(step.effects);
    }

    fn release(&mut self, effects: Vec<Effect>) {
        for effect in &effects {
            match effect {
                Effect::Dispatch(leased) => {
                    let record = self.durable.live.get(&leased.task);
                    let lease = record.and_then(|record| record.lease.as_ref());
                    let lease = lease.unwrap_or_else(|| panic!("{leased:?} is in no record"));
                    assert_eq!((lease.session, lease.token), (leased.session, leased.token));
                    self.leases.push(*leased);
                    if let Some(worker) = self.workers.get_mut(&leased.session)
                        && !worker.has.contains(leased)
                    {
                        worker.has.push(*leased);
                    }
                }
                Effect::Stop { session, task, token, reason } => {
                    if let Some(worker) = self.workers.get_mut(session)
                        && *reason != crate::StopReason::Cancelled
                    {
                        worker.has.retain(|has| (has.task, has.token) != (*task, *token));
                    }
                }
                // Its worker may have come back under the same name while the batch was on its way.
                Effect::SessionEnded(end) if self.machine.session(end.session).is_none() => {
                    self.workers.remove(&end.session);
                }
                Effect::SessionEnded(_) => {}
                Effect::Finished { .. } | Effect::Drain { .. } => {}
            }
        }
        self.effects.extend(effects);
    }

    /// Lets the batch on its way land, then ends the open step and sends its batch.
    pub(super) fn step(&mut self) {
        self.land();
        self.machine.begin(self.now, self.batch);
        let sessions = self.machine.sessions();
        self.machine.tick();
        self.mirror();
        self.look(&Scope::tick());
        audit::after_tick(&self.machine, &sessions);
        let before = self.machine.sessions();
        let scope = Scope::seal();
        let step = self.machine.seal();
        for mutation in &step.mutations[self.mirrored..] {
            self.newest.apply(mutation);
        }
        self.mirrored = 0;
        let assigned = self.look(&scope);
        self.spend_credit(&before);
        audit::after_seal(self, &step, &assigned);
        if step.mutations.is_empty() {
            assert!(self.created.is_empty() && self.removed.is_empty());
            self.release(step.effects);
            return;
        }
        self.batch += 1;
        self.landed = self.newest.clone();
        self.landed.check();
        audit::store_is_true(self, &self.landed);
        self.in_flight = Some(InFlight {
            effects: step.effects,
            created: std::mem::take(&mut self.created),
            removed: std::mem::take(&mut self.removed),
        });
    }

    /// Steps until nothing is on its way and nothing is left to do at this time.
    pub(super) fn settle(&mut self) {
        loop {
            self.step();
            if self.in_flight.is_none() && self.machine.next_wakeup() != Some(Millis(0)) {
                return;
            }
        }
    }

    /// Books what sessions were given in this seal and checks that there was room for it.
    fn spend_credit(&mut self, before: &[crate::SessionView]) {
        for old in before {
            let new = self.machine.session(old.id).expect("a seal ends no session");
            let given = new.held.checked_sub(old.held).expect("a seal takes nothing away");
            if given == 0 {
                continue;
            }
            let worker = self.workers.get_mut(&old.id).expect("a worker that is known");
            assert!(!old.draining && !old.awaited, "{old:?} was given {given}");
            assert!(new.held <= worker.slots, "{new:?} has more than its slots");
            match &mut worker.credit {
                Credit::Hold(most) => assert!(new.held <= *most, "{new:?} has more than its credit"),
                Credit::Take(left) => {
                    *left = left.checked_sub(given).expect("no more than was asked for");
                }
            }
            assert_eq!(new.credit, worker.credit);
        }
    }

    fn look(&mut self, scope: &Scope) -> Vec<TaskId> {
        let queued = self.snapshot.clone();
        let next = Snapshot::take(&self.machine, &self.newest, &queued, scope);
        let assigned = audit::compare(&queued, &next, scope);
        audit::recount(&self.machine);
        self.snapshot = next;
        assigned
    }

    /// The process ends, and another takes over. The batch on its way may have landed, but nobody
    /// was told.
    pub(super) fn crash(&mut self, landed: bool, down: Millis) {
        if landed && let Some(step) = self.in_flight.take() {
            self.durable = self.landed.clone();
            // They are there now; that nobody was told does not make them go away.
            for task in &step.removed {
                self.acked.remove(task);
            }
        } else if self.in_flight.take().is_some() {
            self.batch -= 1;
        }
        self.landed = self.durable.clone();
        self.newest = self.durable.clone();
        self.mirrored = 0;
        self.created.clear();
        self.removed.clear();
        self.pass(down);
        // The origin of the clock for durations is another in each process.
        self.now.mono = MonoTime(self.now.mono.0 / 2 + 7);
        self.machine = self.restored();
        self.snapshot = Snapshot::restored(&self.machine, &self.newest);
        audit::recount(&self.machine);
        self.accepted = self
            .durable
            .live
            .values()
            .filter_map(|record| Some((record.id, record.last_end?)))
            .chain(self.durable.done.values().filter_map(|done| Some((done.id, done.last_end?))))
            .map(|(id, end)| (id, (end.token, end.kind)))
            .collect();
        self.ids = TaskIdSequence::after(self.durable.specs.keys().max().copied());
    }

    /// A machine as a new leader would make it from what is durable.
    fn restored(&self) -> Machine {
        restored(&self.durable, self.limits, self.now)
    }

    /// A machine as a new leader would make it if everything had landed.
    pub(super) fn restored_from_newest(&self) -> Machine {
        restored(&self.newest, self.limits, self.now)
    }

    // ---- time

    /// Both clocks go on.
    pub(super) fn pass(&mut self, span: Millis) {
        self.now = Now { wall: self.now.wall + span, mono: self.now.mono + span };
    }

    /// Both clocks go on, and what is due is done.
    pub(super) fn after(&mut self, span: u64) {
        self.pass(Millis(span));
        self.settle();
    }

    /// Somebody sets the wall clock.
    pub(super) fn set_wall_by(&mut self, change: i64) {
        self.now.wall.0 = (self.now.wall.0 + change).max(1);
    }

    // ---- what clients and workers say

    pub(super) fn submission(&mut self, task: Task) -> Command {
        let id = self.ids.next(self.now.wall);
        let at = |span: i64| WallTime((self.now.wall.0 + span).max(1));
        let spec = TaskSpec {
            id,
            queue: task.queue,
            kind: task.kind,
            payload: Bytes::new(),
            labels: Vec::new(),
            created_at: self.now.wall,
            expires_at: task.expires_in.map(at),
            policy: task.policy,
            binds: task.binds,
            fingerprint: task.body,
        };
        Command::Submit(Box::new(Submit {
            spec: Arc::new(spec),
            priority: Priority::new(task.priority).unwrap(),
            run_at: at(task.delay),
            bindings: crate::Bindings::default(),
        }))
    }

    pub(super) fn try_submit(&mut self, task: Task) -> Result<(TaskId, bool), Refusal> {
        let command = self.submission(task);
        match self.apply(command)? {
            Reply::Submitted { task, created } => Ok((task, created)),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn submit(&mut self, task: Task) -> TaskId {
        self.try_submit(task).unwrap().0
    }

    pub(super) fn cancel(&mut self, task: TaskId) -> Result<Reply, Refusal> {
        self.apply(Command::Cancel { task, stored: None })
    }

    pub(super) fn retry(&mut self, task: TaskId) -> Result<Reply, Refusal> {
        self.apply(Command::Retry { task, stored: None, spec: None })
    }

    pub(super) fn delete(&mut self, task: TaskId) -> Result<Reply, Refusal> {
        self.apply(Command::Delete { task, stored: None })
    }

    pub(super) fn reschedule(&mut self, task: TaskId, delay: i64) -> Result<Reply, Refusal> {
        let run_at = WallTime((self.now.wall.0 + delay).max(1));
        self.apply(Command::Reschedule { task, run_at, stored: None })
    }

    pub(super) fn pause(&mut self, queue: &str, paused: bool) {
        self.apply(Command::PauseQueue { queue: name(queue), paused }).unwrap();
    }

    /// A worker that comes for the first time.
    pub(super) fn opening(&mut self, slots: u32, queues: &[&str], kinds: &[&str]) -> OpenSession {
        self.sessions_opened += 1;
        OpenSession {
            session: SessionId(self.sessions_opened),
            worker: name(&format!("w{}", self.sessions_opened)),
            queues: queues.iter().map(|text| name(text)).collect(),
            kinds: kinds.iter().map(|text| name(text)).collect(),
            slots,
            credit: Credit::Hold(u32::MAX),
            ttl: TTL,
            held: Some(Vec::new()),
        }
    }

    pub(super) fn open(&mut self, slots: u32, queues: &[&str], kinds: &[&str]) -> SessionId {
        let opening = self.opening(slots, queues, kinds);
        let session = opening.session;
        self.apply(Command::OpenSession(Box::new(opening))).unwrap();
        session
    }

    pub(super) fn heartbeat(&mut self, session: SessionId) {
        self.apply(Command::Heartbeat { session }).unwrap();
    }

    pub(super) fn report(&mut self, lease: Leased, report: Report) -> Result<Reply, Refusal> {
        let Leased { task, token, .. } = lease;
        self.apply(Command::Report { task, token, report, random: u64::MAX, stored: None })
    }

    pub(super) fn end(&mut self, lease: Leased, outcome: Outcome) {
        self.report(lease, ended(outcome)).unwrap();
    }

    /// What a worker has been sent and has not reported on.
    pub(super) fn has(&self, session: SessionId) -> Vec<Leased> {
        self.workers[&session].has.clone()
    }

    /// The one task that a worker has.
    pub(super) fn has_one(&self, session: SessionId) -> Leased {
        match self.has(session)[..] {
            [lease] => lease,
            ref other => panic!("{other:?}"),
        }
    }

    pub(super) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn view(&self, task: TaskId) -> LiveView {
        self.machine.task(task).expect("a live task")
    }

    pub(super) fn stored(&self, task: TaskId) -> Stored {
        self.durable.done.get(&task).cloned()
    }
}

fn restored(store: &ModelStore, limits: MachineLimits, now: Now) -> Machine {
    let mut machine = Machine::new(limits, Retention::default(), now);
    for (name, record) in &store.queues {
        machine.restore_queue(name, *record);
    }
    for record in store.live.values() {
        machine.restore_task(record, TTL);
    }
    machine
}

/// What must be answered.
#[derive(Debug)]
enum Expected {
    Anything,
    Done,
    NewTask,
    Repeat(TaskId),
    Conflict(TaskId),
    Task(Status),
    Unknown,
    Illegal(Status, Action),
    Refused,
}

impl Expected {
    fn check(&self, command: &Command, reply: &Result<Reply, Refusal>) {
        let as_expected = match (self, reply) {
            (Self::Anything, _)
            | (Self::Done, Ok(Reply::Done))
            | (Self::NewTask, Ok(Reply::Submitted { created: true, .. }))
            | (Self::Unknown, Err(Refusal::UnknownTask)) => true,
            (Self::Repeat(known), Ok(Reply::Submitted { task, created: false }))
            | (Self::Conflict(known), Err(Refusal::Conflict { task, .. })) => known == task,
            (Self::Task(expected), Ok(Reply::Task { status, .. })) => expected == status,
            (Self::Illegal(from, action), Err(Refusal::Illegal(illegal))) => {
                (*from, *action) == (illegal.from, illegal.action)
            }
            (Self::Refused, Err(refusal)) => !matches!(
                refusal,
                Refusal::UnknownTask | Refusal::Illegal(_) | Refusal::Conflict { .. }
            ),
            _ => false,
        };
        assert!(as_expected, "{command:?}: expected {self:?}, got {reply:?}");
    }
}

/// The mutations of a step that name a task as given to somebody.
pub(super) fn leases_in(mutations: &[Mutation]) -> BTreeMap<TaskId, (SessionId, LeaseToken)> {
    let leases = mutations.iter().filter_map(|mutation| match mutation {
        Mutation::PutLive(record) => {
            let lease = record.lease.as_ref()?;
            Some((record.id, (lease.session, lease.token)))
        }
        _ => None,
    });
    leases.collect()
}
