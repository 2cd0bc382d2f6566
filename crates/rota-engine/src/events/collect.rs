//! Derives the events of a step from what the step changes.

use std::sync::Arc;

use rota_core::{
    AttemptRecord, DoneRecord, Effect, EndReason, Event as CoreEvent, Failure, Happened,
    LiveRecord, Machine, Mutation, Outcome, Status, Step, StopReason, TaskId, TaskSpec, WallTime,
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::event::{
    Draft, EventType as Type, QueueFacts, ScheduleFacts, SpecFacts, Subject, TaskFacts, TickFacts,
    WorkerFacts,
};

/// The events of a step, in an order in which causes come before their effects. `machine` is as the step
/// leaves it.
pub(crate) fn collect(machine: &Machine, step: &Step) -> Vec<Draft> {
    let mut collector = Collector {
        machine,
        step,
        written: Written::of(step),
        at: machine.now().wall,
        drafts: Vec::with_capacity(step.events.len() + step.ticks.len()),
    };
    collector.workers();
    collector.queues_and_schedules();
    collector.ticks();
    collector.changes_by_clients();
    collector.tasks();
    collector.pauses();
    collector.deleted();
    collector.drafts
}

/// The records that a step writes.
#[derive(Default)]
struct Written<'a> {
    specs: FxHashMap<TaskId, Arc<SpecFacts>>,
    done: FxHashMap<TaskId, &'a DoneRecord>,
    attempts: FxHashMap<(TaskId, u32), &'a AttemptRecord>,
}

impl<'a> Written<'a> {
    fn of(step: &'a Step) -> Self {
        let mut written = Self::default();
        for mutation in &step.mutations {
            match mutation {
                Mutation::PutSpec(spec) => {
                    written.specs.insert(spec.id, spec_facts(spec).into());
                }
                Mutation::PutDone(done) | Mutation::DeleteTask(done) => {
                    written.done.insert(done.id, done);
                }
                Mutation::PutAttempt(task, record) => {
                    written.attempts.insert((*task, record.attempt), record);
                }
                _ => {}
            }
        }
        written
    }
}

/// The parts of a definition that events and filters use.
pub(super) fn spec_facts(spec: &TaskSpec) -> SpecFacts {
    let schedule = spec.tick.as_ref().map(|tick| tick.schedule.clone());
    SpecFacts { labels: spec.definition.labels.clone(), schedule }
}

/// A task after the event that is looked at, while events are looked at from the last to the first.
struct After {
    facts: TaskFacts,
    /// Whether the next event of the task in this step ends it.
    ends: bool,
}

struct Collector<'a> {
    machine: &'a Machine,
    step: &'a Step,
    written: Written<'a>,
    at: WallTime,
    drafts: Vec<Draft>,
}

impl Collector<'_> {
    fn add(&mut self, kind: Type, subject: Subject) {
        self.drafts.push(Draft { kind, at: self.at, subject });
    }

    fn workers(&mut self) {
        for effect in &self.step.effects {
            let (kind, facts) = match effect {
                Effect::SessionOpened { session, .. } | Effect::Drain { session } => {
                    // A session that ended later in the step has its own event for that.
                    let Some(worker) = self.machine.worker_of(*session) else { continue };
                    let drains = matches!(effect, Effect::Drain { .. });
                    let kind = if drains { Type::WorkerDraining } else { Type::WorkerConnected };
                    (kind, WorkerFacts { worker, session: *session, tasks: None })
                }
                Effect::SessionEnded(end) => {
                    let kind = match end.reason {
                        EndReason::Closed => Type::WorkerDisconnected,
                        EndReason::Expired => Type::WorkerLost,
                    };
                    let (worker, tasks) = (end.worker.clone(), Some(end.tasks));
                    (kind, WorkerFacts { worker, session: end.session, tasks })
                }
                _ => continue,
            };
            self.add(kind, Subject::Worker(facts));
        }
    }

    fn queues_and_schedules(&mut self) {
        for mutation in &self.step.mutations {
            match mutation {
                Mutation::PutQueue(queue, record) => {
                    let kind = if record.paused { Type::QueuePaused } else { Type::QueueResumed };
                    self.add(kind, Subject::Queue(QueueFacts { queue: queue.clone() }));
                }
                Mutation::DeleteQueue(queue) => {
                    let facts = QueueFacts { queue: queue.clone() };
                    self.add(Type::QueueResumed, Subject::Queue(facts));
                }
                Mutation::PutSchedule(record) => {
                    let is_new = record.version == 1;
                    let kind = if is_new { Type::ScheduleCreated } else { Type::ScheduleUpdated };
                    let (schedule, version) = (record.name.clone(), Some(record.version));
                    let facts = ScheduleFacts { schedule, version, tick: None };
                    self.add(kind, Subject::Schedule(facts.into()));
                }
                Mutation::DeleteSchedule(schedule) => {
                    let schedule = schedule.clone();
                    let facts = ScheduleFacts { schedule, version: None, tick: None };
                    self.add(Type::ScheduleDeleted, Subject::Schedule(facts.into()));
                }
                _ => {}
            }
        }
    }

    fn ticks(&mut self) {
        for tick in &self.step.ticks {
            let task = match tick.outcome {
                Outcome::Fired(task) => {
                    let record = self.machine.live_record(task);
                    record.and_then(|record| record.client_keys.id)
                }
                _ => None,
            };
            let facts = ScheduleFacts {
                schedule: tick.schedule.clone(),
                version: None,
                tick: Some(TickFacts { nominal: tick.nominal, outcome: tick.outcome, task }),
            };
            self.add(Type::ScheduleTick, Subject::Schedule(facts.into()));
        }
    }

    fn pauses(&mut self) {
        for pause in &self.step.pauses {
            let kind = if pause.paused { Type::SchedulePaused } else { Type::ScheduleResumed };
            let schedule = pause.schedule.clone();
            let facts = ScheduleFacts { schedule, version: None, tick: None };
            self.add(kind, Subject::Schedule(facts.into()));
        }
    }

    /// Changes of tasks by clients that are no transition: the core has no event for them, but they write the
    /// record of the task.
    fn changes_by_clients(&mut self) {
        let with_event: FxHashSet<TaskId> =
            self.step.events.iter().map(|event| event.task).collect();
        let is_new = |event: &&CoreEvent| event.what == Happened::Submitted;
        let created: FxHashSet<TaskId> =
            self.step.events.iter().filter(is_new).map(|event| event.task).collect();
        let stops = self.step.effects.iter().filter_map(|effect| match effect {
            Effect::Stop { task, reason: StopReason::Cancelled, .. } => Some(*task),
            _ => None,
        });
        let stops: FxHashSet<TaskId> = stops.collect();
        for mutation in &self.step.mutations {
            let Mutation::PutLive(record) = mutation else { continue };
            let is_edited =
                self.written.specs.contains_key(&record.id) && !created.contains(&record.id);
            // The records of leased tasks are written for other reasons, too.
            let is_moved = record.lease.is_none() && !with_event.contains(&record.id);
            if is_edited || is_moved {
                let facts = self.of_live(record);
                self.add(Type::TaskUpdated, Subject::Task(facts.into()));
            }
            if record.cancel_requested && stops.contains(&record.id) {
                let facts = self.of_live(record);
                self.add(Type::TaskCancelling, Subject::Task(facts.into()));
            }
        }
    }

    /// Transitions of tasks. The machine is as the step leaves it, so the state of a task after each of its
    /// events is found from the last event to the first.
    fn tasks(&mut self) {
        let begin = self.drafts.len();
        let mut tasks: FxHashMap<TaskId, After> = FxHashMap::default();
        for event in self.step.events.iter().rev() {
            let mut after = tasks.remove(&event.task).unwrap_or_else(|| self.at_the_end(event));
            if let Some((kind, facts)) = self.transition(event, &mut after) {
                self.add(kind, Subject::Task(facts.into()));
            }
            tasks.insert(event.task, after);
        }
        self.drafts[begin..].reverse();
    }

    fn transition(&self, event: &CoreEvent, after: &mut After) -> Option<(Type, TaskFacts)> {
        let was_ending = std::mem::take(&mut after.ends);
        let (kind, status) = match event.what {
            Happened::Submitted if after.facts.run_at > self.at => {
                (Type::TaskCreated, Status::Scheduled)
            }
            Happened::Submitted => (Type::TaskCreated, Status::Pending),
            Happened::Due { .. } => (Type::TaskDue, Status::Pending),
            Happened::Revived => (Type::TaskRevived, Status::Pending),
            Happened::Started { .. } => (Type::TaskStarted, Status::Assigned),
            Happened::Retried { .. } => (Type::TaskRetrying, Status::Scheduled),
            Happened::Snoozed { .. } => (Type::TaskSnoozed, Status::Scheduled),
            // The end says why.
            Happened::Lost if was_ending => return None,
            Happened::Lost => (Type::TaskLost, Status::Pending),
            Happened::Released => (Type::TaskReleased, Status::Pending),
            Happened::Completed { .. } => (Type::TaskCompleted, Status::Completed),
            Happened::Failed { .. } => (Type::TaskFailed, Status::Failed),
            Happened::Cancelled => (Type::TaskCancelled, Status::Cancelled),
            Happened::Expired => (Type::TaskExpired, Status::Expired),
        };
        let done = self.written.done.get(&event.task).filter(|_| status.is_terminal());
        after.ends = status.is_terminal();
        if event.what == Happened::Released {
            after.facts.attempt += 1;
        }
        let mut facts = match done {
            Some(done) => of_done(done),
            None => TaskFacts { status, ..after.facts.clone() },
        };
        let attempt = self.written.attempts.get(&(event.task, facts.attempt));
        match event.what {
            Happened::Started { .. } => {
                facts.worker = facts.worker.or_else(|| attempt.map(|found| found.worker.clone()));
                after.facts.attempt = after.facts.attempt.saturating_sub(1);
                after.facts.worker = None;
            }
            Happened::Retried { .. } | Happened::Snoozed { .. } | Happened::Lost => {
                facts.worker = attempt.map(|found| found.worker.clone());
                facts.failure = attempt.and_then(|found| bounded(found.failure.as_ref()));
            }
            Happened::Submitted => facts.spec = self.written.specs.get(&event.task).cloned(),
            _ if done.is_none() => facts.worker = None,
            _ => {}
        }
        Some((kind, facts))
    }

    /// The task as the step leaves it.
    fn at_the_end(&self, event: &CoreEvent) -> After {
        let facts = match self.machine.live_record(event.task) {
            Some(record) => TaskFacts { spec: None, ..self.of_live(&record) },
            None => match self.written.done.get(&event.task) {
                Some(done) => TaskFacts {
                    failure: None,
                    worker: None,
                    finished_at: None,
                    has_result: false,
                    ..of_done(done)
                },
                None => unknown(event),
            },
        };
        After { facts, ends: false }
    }

    fn of_live(&self, record: &LiveRecord) -> TaskFacts {
        TaskFacts {
            id: record.id,
            client_id: record.client_keys.id.clone(),
            queue: record.queue.clone(),
            kind: record.kind.clone(),
            status: record.status,
            priority: record.priority.level(),
            attempt: record.attempt,
            run_at: record.run_at,
            worker: record.lease.as_ref().map(|lease| lease.worker.clone()),
            finished_at: None,
            failure: None,
            has_result: false,
            by_tick: record.nominal.is_some(),
            spec: self.written.specs.get(&record.id).cloned(),
        }
    }

    fn deleted(&mut self) {
        for mutation in &self.step.mutations {
            if let Mutation::DeleteTask(done) = mutation {
                let facts = of_done(done);
                self.add(Type::TaskDeleted, Subject::Task(facts.into()));
            }
        }
    }
}

fn of_done(done: &DoneRecord) -> TaskFacts {
    TaskFacts {
        id: done.id,
        client_id: done.client_keys.id.clone(),
        queue: done.queue.clone(),
        kind: done.kind.clone(),
        status: done.status,
        priority: done.priority.level(),
        attempt: done.attempt,
        run_at: done.run_at,
        worker: done.last.as_ref().map(|last| last.worker.clone()),
        finished_at: Some(done.finished_at),
        failure: bounded(done.failure.as_ref()),
        has_result: done.has_result,
        by_tick: done.nominal.is_some(),
        spec: None,
    }
}

/// A task of which only the event is known.
fn unknown(event: &CoreEvent) -> TaskFacts {
    TaskFacts {
        id: event.task,
        client_id: None,
        queue: event.lane.queue.clone(),
        kind: event.lane.kind.clone(),
        status: Status::Pending,
        priority: rota_core::Priority::default().level(),
        attempt: 0,
        run_at: event.task.created_at(),
        worker: None,
        finished_at: None,
        failure: None,
        has_result: false,
        by_tick: false,
        spec: None,
    }
}

/// A failure with a message of bounded length.
fn bounded(failure: Option<&Failure>) -> Option<Failure> {
    let failure = failure?;
    let message = &failure.message;
    if message.len() <= TaskFacts::MESSAGE_BYTES_MAX {
        return Some(failure.clone());
    }
    let mut end = TaskFacts::MESSAGE_BYTES_MAX - '…'.len_utf8();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    Some(Failure { reason: failure.reason, message: format!("{}…", &message[..end]).into() })
}
