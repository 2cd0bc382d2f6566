//! A world around the machine: it drives it as the engine does, with a store that lags.
//!
//! One batch is on its way while the next step is open. What the machine is told of the store is
//! read with or without that batch, as it happens. Every step is looked at by the auditor.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    audit::{self, Scope, Snapshot},
    books,
    say::{fingerprint, is_end},
    store::ModelStore,
};
use crate::{
    Assignment, Command, Credit, Effect, EndKind, Event, Happened, LeaseEnd, LeaseId, LeaseToken,
    LiveView, Machine, MachineLimits, Millis, MonoTime, Mutation, Name, Now, Refusal, Reply,
    Report, Retention, SessionId, Status, Stored, TaskCommand, TaskId, TaskIdSequence, WallTime,
};

/// When worlds begin.
pub(super) const START: Now = Now { wall: WallTime(1_000_000_000), mono: MonoTime(50_000) };
/// Sessions live for so long without a sign.
pub(super) const TTL: Millis = Millis(10_000);

/// Steps at one time after which a machine must have come to rest.
const STEPS_MAX: usize = 1000;

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
    pub(super) has: Vec<Assignment>,
}

/// A report that was accepted and ended a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// With all that it said.
    Ended(LeaseToken, u64),
    Released(LeaseToken),
}

impl Accepted {
    pub(super) fn of(token: LeaseToken, report: &Report) -> Self {
        match report {
            Report::Released => Self::Released(token),
            said => Self::Ended(token, fingerprint(said)),
        }
    }

    /// As the store knows it.
    fn kept(end: LeaseEnd) -> Self {
        match end.kind {
            EndKind::Released => Self::Released(end.token),
            _ => Self::Ended(end.token, end.fingerprint),
        }
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) limits: MachineLimits,
    pub(super) now: Now,
    /// The number of the next batch.
    pub(super) batch: u64,
    pub(super) ids: TaskIdSequence,
    pub(super) durable: ModelStore,
    /// With the batch on its way.
    landed: ModelStore,
    /// With what the open step has come to so far.
    pub(super) newest: ModelStore,
    /// Whether reads see the batch on its way.
    pub(super) reads_ahead: bool,
    in_flight: Option<InFlight>,
    /// What was durable when the next leader made its machine, if it did before it leads.
    prepared: Option<ModelStore>,
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
    pub(super) leases: Vec<Assignment>,
    /// The last end that was accepted for a task.
    pub(super) accepted: BTreeMap<TaskId, Accepted>,
    pub(super) snapshot: Snapshot,
    pub(super) sessions_opened: u64,
    /// What happened in all steps and was not taken yet.
    events: Vec<Event>,
    /// Tasks that live, as the events of all steps say.
    alive: usize,
    watched: bool,
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
            prepared: None,
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
            events: Vec::new(),
            alive: 0,
            watched: true,
        }
    }

    /// A world for thousands of tasks: nobody looks at every step, and nothing is kept.
    pub(super) fn bare() -> Self {
        Self { watched: false, ..Self::new() }
    }

    // ---- commands

    /// Applies a command to the open step, and checks its answer against what it must be.
    pub(super) fn apply(&mut self, mut command: Command) -> Result<Reply, Refusal> {
        self.machine.begin(self.now, self.batch);
        if !self.watched {
            return self.machine.apply(command);
        }
        self.fill(&mut command);
        let expected = self.expected(&command);
        let scope = Scope::of(&command, self);
        let told = command.clone();
        let reply = self.machine.apply(command);
        expected.check(&told, &reply);
        self.mirror();
        self.note(&told, &reply);
        self.look(if reply.is_ok() { &scope } else { &Scope::NOTHING });
        reply
    }

    /// Hands over what the engine would have read from the store.
    fn fill(&self, command: &mut Command) {
        let store = if self.reads_ahead { &self.landed } else { &self.durable };
        if let Command::Submit(submit) = command {
            submit.key_owners = store.key_owners(&submit.spec.client_keys);
        }
        if let Command::Task { task, command: TaskCommand::Retry { spec }, .. } = command {
            *spec = store.specs.get(task).cloned();
        }
        let Some(task) = self.machine.wants_stored(command) else { return };
        if let Command::Task { stored, .. } | Command::Report { stored, .. } = command {
            *stored = store.done.get(&task).cloned();
        }
    }

    /// Enters the command in the world's books.
    fn note(&mut self, command: &Command, reply: &Result<Reply, Refusal>) {
        match (command, reply) {
            (_, Ok(Reply::Submitted { task, created: true })) => self.created.push(*task),
            (Command::Task { task, command: TaskCommand::Delete, .. }, Ok(_)) => {
                self.removed.push(*task);
                self.accepted.remove(task);
            }
            (Command::Task { task, command: TaskCommand::Purge, .. }, _)
                if self.status(*task).is_none() =>
            {
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
                    let held = LeaseId { task: has.task, token: has.token };
                    open.held.as_ref().is_none_or(|named| named.contains(&held))
                        && !revoked.contains(&held)
                });
            }
            // What had not begun is given back on the worker's behalf.
            (Command::CloseSession { session, .. }, Ok(_)) => {
                for (task, token) in self.snapshot.assigned_to(*session) {
                    self.accepted.insert(task, Accepted::Released(token));
                }
            }
            (Command::SetCredit { session, credit, .. }, Ok(_)) => {
                if let Some(worker) = self.workers.get_mut(session) {
                    worker.credit = *credit;
                }
            }
            (Command::Report { task, token, report, .. }, Ok(_)) if is_end(report) => {
                self.accepted.insert(*task, Accepted::of(*token, report));
                for worker in self.workers.values_mut() {
                    worker.has.retain(|has| (has.task, has.token) != (*task, *token));
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
                Effect::SessionOpened { .. } | Effect::Finished { .. } | Effect::Drain { .. } => {}
            }
        }
        self.effects.extend(effects);
    }

    /// Lets the batch on its way land, then ends the open step and sends its batch.
    pub(super) fn step(&mut self) {
        self.land();
        self.machine.begin(self.now, self.batch);
        let sessions = self.machine.sessions();
        self.machine.tick(self.now.mono);
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
        self.count(&step.events);
        self.events.extend_from_slice(&step.events);
        if step.mutations.is_empty() {
            assert!(self.created.is_empty() && self.removed.is_empty());
            self.release(step.effects);
            return;
        }
        self.batch += 1;
        self.landed = self.newest.clone();
        self.landed.check();
        books::store_is_true(self, &self.landed);
        self.in_flight = Some(InFlight {
            effects: step.effects,
            created: std::mem::take(&mut self.created),
            removed: std::mem::take(&mut self.removed),
        });
    }

    /// What the events say adds up to what lives.
    fn count(&mut self, events: &[Event]) {
        for event in events {
            match event.what {
                Happened::Submitted | Happened::Revived => self.alive += 1,
                Happened::Completed { .. }
                | Happened::Failed { .. }
                | Happened::Cancelled
                | Happened::Expired => self.alive -= 1,
                Happened::Due { .. }
                | Happened::Started { .. }
                | Happened::Retried { .. }
                | Happened::Snoozed { .. }
                | Happened::Lost
                | Happened::Released => {}
            }
        }
        assert_eq!(self.alive, self.machine.live_tasks(), "{events:?}");
    }

    /// Ends the open step of a world that is not looked at.
    pub(super) fn step_bare(&mut self) {
        assert!(!self.watched);
        self.machine.begin(self.now, self.batch);
        self.machine.tick(self.now.mono);
        let _ = self.machine.seal();
        self.batch += 1;
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
                Credit::Hold(most) => {
                    assert!(new.held <= *most, "{new:?} has more than its credit");
                }
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
        books::recount(&self.machine);
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
        // Tasks that were taken up anew wait behind the others there, so what goes on is the machine of all records.
        if let Some(before) =
            self.prepared.take().filter(|before| before.queues == self.durable.queues)
        {
            let ready = self.brought_up_to_date(&before);
            books::recount(&ready);
            assert_eq!(ready.live_tasks(), self.machine.live_tasks());
        }
        self.alive = self.machine.live_tasks();
        self.snapshot = Snapshot::restored(&self.machine, &self.newest);
        books::recount(&self.machine);
        self.accepted = self
            .durable
            .live
            .values()
            .filter_map(|record| Some((record.id, record.last_end?)))
            .chain(self.durable.done.values().filter_map(|done| Some((done.id, done.last_end?))))
            .map(|(id, end)| (id, Accepted::kept(end)))
            .collect();
        self.ids = TaskIdSequence::after(self.durable.specs.keys().max().copied());
    }

    /// The next leader makes its machine now, and takes up what changes from here on when it leads.
    pub(super) fn prepare(&mut self) {
        self.prepared = Some(self.durable.clone());
    }

    /// A machine of what was durable before, in which the tasks that changed since are taken up anew.
    fn brought_up_to_date(&self, before: &ModelStore) -> Machine {
        let mut machine = restored(before, self.limits, self.now);
        let mut tasks: BTreeSet<_> = before.live.keys().chain(self.durable.live.keys()).collect();
        tasks.retain(|task| before.live.get(task) != self.durable.live.get(task));
        for task in tasks {
            machine.forget_task(*task);
            if let Some(record) = self.durable.live.get(task) {
                machine.restore_task(record);
            }
        }
        machine
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

    /// What a worker has been sent and has not reported on.
    pub(super) fn has(&self, session: SessionId) -> Vec<Assignment> {
        self.workers[&session].has.clone()
    }

    /// The one task that a worker has.
    pub(super) fn has_one(&self, session: SessionId) -> Assignment {
        match self.has(session)[..] {
            [lease] => lease,
            ref other => panic!("{other:?}"),
        }
    }

    pub(super) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// What happened to tasks since this was last asked.
    pub(super) fn happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.events).into_iter().map(|event| event.what).collect()
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
        machine.restore_queue(name, record.clone());
    }
    for record in store.live.values() {
        machine.restore_task(record);
    }
    machine
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
