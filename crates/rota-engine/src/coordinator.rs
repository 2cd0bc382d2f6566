//! The loop: stamp the time, ask the core, commit, then perform the effects.
//!
//! At most one batch is on its way. While it is, commands are applied to the next step as they
//! come; when it has landed, the next step is sealed and sent, and only then are the effects and
//! answers of the landed one released. So a batch grows with the load, and nothing leaves before
//! its commit.

use std::{future::Future, pin::Pin, sync::Arc, sync::atomic::Ordering, time::Duration};

use rota_core::{
    Command, Effect, EndReason, Machine, Millis, MonoTime, Mutation, Now, Refusal, Reply, Submit,
    TaskIdSequence, TaskSpec,
};
use rota_store::{BatchSeq, Fence, Leadership, Store, StoreError};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::{
    api::{EngineError, NewTask, RunAt, Submitted},
    batch::Changes,
    cache::SpecCache,
    commit::{Refused, commit_until_known},
    dispatch::{ToWorkers, WorkerEffect},
    fail_point::FailPoint,
    landed::LandingQueues,
    ledger::{Landing, Ledger},
    log,
    lookup::{self, Lookups},
    planted::Planted,
    request::{self, Answer, CommandResult, Release, Request, Submission, SubmitResults},
    shared::{PULSE, Shared},
    view::live_view,
};

/// Requests taken from the inbox at a time.
const TAKEN_MAX: usize = 256;
/// A step takes no more requests when it has so many commands; they wait in the inbox.
const STEP_COMMANDS_MAX: usize = 20_000;

/// A step takes no more requests when it has so many bytes of payloads and results.
const STEP_BYTES_MAX: usize = 8 << 20;
/// What nobody waits for is committed together with what else comes within this time: each commit
/// costs a flush of the disk, which delays whoever comes next.
const GATHER: Duration = Duration::from_millis(2);
/// The loop comes by every [`PULSE`], so after so long the process or its machine was stopped.
const STOOD_STILL: Duration = Duration::from_secs(3);
/// When the engine stops, what was taken gets so long to land.
const LAST_COMMIT_WAIT: Duration = Duration::from_secs(5);

/// Why the loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to stop.
    Stopped,
    /// It was told to hand over, to this node if one is named.
    Resigned(Option<String>),
    /// Another leads.
    Deposed,
    /// The store cannot be used any more.
    Broken(String),
}

/// A batch on its way, and what is to be done when it has landed.
struct InFlight {
    landed: Pin<Box<dyn Future<Output = Result<(), Refused>> + Send>>,
    outcome: Outcome,
}

/// What waits for a step to be durable.
#[derive(Default)]
struct Outcome {
    effects: Vec<Effect>,
    releases: Vec<Release>,
    counted: Landing,
    queues: LandingQueues,
}

impl Outcome {
    fn is_empty(&self) -> bool {
        self.effects.is_empty() && self.releases.is_empty()
    }
}

/// The single writer of task state, for as long as its leadership lasts.
pub(crate) struct Coordinator<'a> {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) fence: Fence,
    pub(crate) machine: Machine,
    pub(crate) ids: TaskIdSequence,
    /// The number of the next batch.
    pub(crate) seq: BatchSeq,
    pub(crate) cache: SpecCache,
    pub(crate) ledger: Ledger,
    pub(crate) workers: &'a mpsc::Sender<ToWorkers>,
    step: Open,
    /// It is to hand over, to this node if one is named.
    resigning: Option<Option<String>>,
    /// When the machine was last told the time.
    begun: MonoTime,
}

/// The step that is being applied.
#[derive(Default)]
struct Open {
    releases: Vec<Release>,
    entries: Vec<bytes::Bytes>,
    created: Vec<Created>,
    commands: usize,
    bytes: usize,
    /// Since when something waits in it.
    since: Option<Instant>,
    /// Whether someone waits for it, so that it is not to wait for company.
    hurried: bool,
}

/// A new task that was submitted alone. Its client is told how it stands when the step ends.
struct Created {
    spec: Arc<TaskSpec>,
    results: SubmitResults,
    answer: Answer<SubmitResults>,
}

impl<'a> Coordinator<'a> {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        shared: Arc<Shared>,
        fence: Fence,
        loaded: crate::load::Loaded,
        cache: SpecCache,
        ledger: Ledger,
        workers: &'a mpsc::Sender<ToWorkers>,
    ) -> Self {
        Self {
            store,
            shared,
            fence,
            machine: loaded.machine,
            ids: loaded.ids,
            seq: loaded.head.next(),
            cache,
            ledger,
            workers,
            step: Open::default(),
            resigning: None,
            begun: MonoTime(0),
        }
    }

    /// Leads until leadership is lost or `stop` is cancelled; then what was taken from the inbox is
    /// still carried out. It is of no use afterwards, but takes a while to drop where tasks are many.
    pub(crate) async fn run(
        &mut self,
        inbox: &mut mpsc::Receiver<Request>,
        leadership: &dyn Leadership,
        stop: &CancellationToken,
    ) -> End {
        let end = self.lead(inbox, leadership, stop).await;
        // Who waits for what did not land learns at once that it is over.
        self.step = Open::default();
        end
    }

    async fn lead(
        &mut self,
        inbox: &mut mpsc::Receiver<Request>,
        leadership: &dyn Leadership,
        stop: &CancellationToken,
    ) -> End {
        let mut in_flight: Option<InFlight> = None;
        let mut taken = Vec::with_capacity(TAKEN_MAX);
        // When it was told to stop: until when the last step may take.
        let mut stopping = None;
        loop {
            // What was taken is carried out before it ends.
            if in_flight.is_none() && self.step.since.is_none() {
                if stopping.is_some() {
                    return End::Stopped;
                }
                if let Some(successor) = self.resigning.take() {
                    return End::Resigned(successor);
                }
            }
            let room = self.resigning.is_none()
                && stopping.is_none()
                && self.step.commands < STEP_COMMANDS_MAX
                && self.step.bytes < STEP_BYTES_MAX;
            let (mut landed, mut due) = (None, false);
            tokio::select! {
                biased;
                () = leadership.lost() => return End::Deposed,
                result = land(&mut in_flight), if in_flight.is_some() => landed = Some(result),
                () = stop.cancelled(), if stopping.is_none() => {
                    stopping = Some(Instant::now() + LAST_COMMIT_WAIT);
                }
                () = at(stopping) => return End::Stopped,
                count = inbox.recv_many(&mut taken, TAKEN_MAX), if room => {
                    if count == 0 {
                        return End::Stopped;
                    }
                    self.take(&mut taken, leadership).await;
                }
                () = tokio::time::sleep(self.until_seal()), if in_flight.is_none() => due = true,
            }
            let finished = match landed {
                Some(Ok(())) => in_flight.take().map(|done| done.outcome),
                Some(Err(Refused::Deposed)) => return End::Deposed,
                Some(Err(Refused::Broken(reason))) => return End::Broken(reason),
                None => None,
            };
            if in_flight.is_none() && (due || self.until_seal().is_zero()) {
                let now = self.begin();
                self.shared.beat(now.mono);
                self.machine.tick();
                let (flight, outcome) = self.seal();
                in_flight = flight;
                if let Some(finished) = finished {
                    self.release(finished).await;
                }
                // No commit vouches for this. A process that was stopped may believe that it leads.
                if !outcome.is_empty() && !leadership.is_held() {
                    return End::Deposed;
                }
                self.release(outcome).await;
            } else if let Some(finished) = finished {
                self.release(finished).await;
            }
        }
    }

    /// How long the open step may wait for more when nothing is on its way.
    fn until_seal(&self) -> Duration {
        let stale = self.shared.host.now().mono.since(self.begun).as_duration();
        let wakeup = self.machine.next_wakeup().map_or(PULSE, Millis::as_duration);
        let wakeup = wakeup.min(PULSE).saturating_sub(stale);
        match self.step.since {
            None => wakeup,
            Some(_) if self.step.hurried || self.machine.has_assignments() => Duration::ZERO,
            Some(since) => wakeup.min(GATHER.saturating_sub(since.elapsed())),
        }
    }

    fn begin(&mut self) -> Now {
        let now = self.shared.host.now();
        let pause = now.mono.since(self.begun);
        if self.begun != MonoTime(0) && pause.as_duration() > STOOD_STILL {
            warn!(?pause, "the engine stood still; workers get that time again");
            self.machine.excuse(pause);
        }
        self.machine.begin(now, self.seq.0);
        self.begun = now.mono;
        now
    }

    /// Ends the open step. What changes nothing in the store needs no commit: it comes back to be
    /// released, after what is on its way.
    fn seal(&mut self) -> (Option<InFlight>, Outcome) {
        let step = self.machine.seal();
        let mut open = std::mem::take(&mut self.step);
        for Created { spec, mut results, answer } in open.created {
            let live = self.machine.task(spec.id);
            if let ([Ok(one)], Some(live)) = (results.as_mut_slice(), live) {
                one.view = Some(Box::new(live_view(spec, live, None)));
            }
            open.releases.push(Box::new(move || {
                // One who no longer waits needs no answer.
                let _ = answer.send(Ok(results));
            }));
        }
        self.shared.live_tasks.store(self.machine.live_tasks(), Ordering::Relaxed);
        let queues = self.shared.landed.landing(&self.machine, &step);
        let mut outcome = Outcome {
            effects: step.effects,
            releases: open.releases,
            queues,
            ..Outcome::default()
        };
        let changes = Changes { mutations: step.mutations, dealt_with: open.entries };
        if changes.is_empty() {
            outcome.counted = self.ledger.landing(step.events);
            return (None, outcome);
        }
        for mutation in &changes.mutations {
            if let Mutation::PutSpec(spec) = mutation {
                self.cache.offer(spec);
            }
        }
        let limits = self.store.limits();
        let batches = changes.into_batches(&step.events, &mut self.ledger, self.seq, limits);
        outcome.counted = self.ledger.landing(step.events);
        self.seq = BatchSeq(self.seq.0 + batches.len() as u64);
        let (store, shared) = (self.store.clone(), self.shared.clone());
        let landed = Box::pin(commit_until_known(store, self.fence, batches, shared));
        if Planted::ReleasesEarly.is_made() {
            return (Some(InFlight { landed, outcome: Outcome::default() }), outcome);
        }
        (Some(InFlight { landed, outcome }), Outcome::default())
    }

    async fn release(&mut self, outcome: Outcome) {
        FailPoint::BeforeDispatch.reach();
        let epoch = self.fence.epoch.0;
        log::ends(&outcome.counted.events, epoch);
        self.ledger.landed(outcome.counted);
        self.shared.landed.keep(outcome.queues);
        let mut down = Vec::new();
        for effect in outcome.effects {
            match effect {
                Effect::Dispatch(leased) => {
                    let spec = self.cache.take(leased.task);
                    debug!(task = %leased.task, queue = spec.as_ref().map(|spec| spec.queue.as_str()),
                        attempt = leased.attempt, session = %leased.session, epoch, "assigned");
                    down.push(WorkerEffect::Dispatch(leased, spec));
                }
                Effect::Stop { session, task, token, reason } => {
                    down.push(WorkerEffect::Stop(session, task, token, reason));
                }
                Effect::Finished { task, .. } => {
                    self.cache.take(task);
                    self.shared.task_ended(task);
                }
                Effect::Drain { session } => down.push(WorkerEffect::Drain(session)),
                Effect::SessionEnded(end) => {
                    log::session_ended(&end, epoch);
                    let reason = match end.reason {
                        EndReason::Closed => "closed",
                        EndReason::Expired => "expired",
                    };
                    self.shared.metrics.session_ended(reason);
                    down.push(WorkerEffect::Ended(end.session));
                }
            }
        }
        if !down.is_empty() {
            tell_workers(self.workers, ToWorkers::Effects(down)).await;
        }
        FailPoint::BeforeAnswer.reach();
        for release in outcome.releases {
            release();
        }
        FailPoint::AfterAnswer.reach();
    }

    /// Applies requests to the open step.
    async fn take(&mut self, taken: &mut Vec<Request>, leadership: &dyn Leadership) {
        self.begin();
        let keys = lookup::keys(&self.machine, taken);
        let lookups = tokio::select! {
            biased;
            lookups = lookup::read(self.store.as_ref(), keys) => lookups,
            () = leadership.lost() => {
                taken.drain(..).for_each(Request::refuse);
                return;
            }
        };
        let now = self.begin();
        self.step.since.get_or_insert_with(Instant::now);
        self.step.hurried |= self.shared.someone_waits() || !taken.iter().all(Request::can_wait);
        for request in taken.drain(..) {
            match request {
                Request::Submit { tasks, answer } => self.submit(tasks, answer, &lookups, now),
                Request::Commands { commands, answer } => self.commands(commands, answer, &lookups),
                Request::OpenSession { open, events, answer } => {
                    let session = open.session;
                    self.step.commands += 1;
                    let result = self.machine.apply(Command::OpenSession(open.clone()));
                    if result.is_ok() {
                        log::session_opened(session, &open, self.fence.epoch.0);
                        self.shared.metrics.session_opened();
                        tell_workers(self.workers, ToWorkers::Attach(session, events)).await;
                    }
                    self.answer_later(answer, Ok(result));
                }
                Request::Purge { tasks, entries, answer } => {
                    let result = self.purge(&tasks, entries, &lookups);
                    self.answer_later(answer, result);
                }
                Request::Resign { successor, answer } => {
                    self.resigning = Some(successor);
                    self.answer_later(answer, Ok(()));
                }
                Request::Look(question) => {
                    // What it says is kept until the batch before it has landed, so it is bounded too.
                    self.step.commands += 1;
                    let release = question(&self.machine);
                    self.step.releases.push(release);
                }
            }
        }
    }

    fn answer_later<T: Send + 'static>(
        &mut self,
        answer: Answer<T>,
        result: Result<T, EngineError>,
    ) {
        // One who no longer waits needs no answer.
        self.step.releases.push(Box::new(move || {
            let _ = answer.send(result);
        }));
    }

    fn submit(
        &mut self,
        tasks: Vec<Submission>,
        answer: Answer<SubmitResults>,
        lookups: &Result<Lookups, StoreError>,
        now: Now,
    ) {
        let known = match lookups {
            Ok(lookups) => Some(lookups),
            Err(_) if tasks.iter().all(|submission| submission.task.binds.is_empty()) => None,
            Err(error) => {
                self.answer_later(answer, Err(error.clone().into()));
                return;
            }
        };
        let mut results = Vec::with_capacity(tasks.len());
        let mut newest = None;
        for submission in tasks {
            let result = self.submit_one(submission, known, now);
            results.push(result.map(|(submitted, spec)| {
                newest = Some(spec);
                submitted
            }));
        }
        match (results.as_slice(), newest) {
            ([Ok(Submitted { created: true, .. })], Some(spec)) => {
                self.step.created.push(Created { spec, results, answer });
            }
            _ => self.answer_later(answer, Ok(results)),
        }
    }

    fn submit_one(
        &mut self,
        submission: Submission,
        lookups: Option<&Lookups>,
        now: Now,
    ) -> Result<(Submitted, Arc<TaskSpec>), Refusal> {
        let bindings = match lookups {
            Some(lookups) => lookups.bindings(&submission.task.binds)?,
            None => rota_core::Bindings::default(),
        };
        let id = self.ids.next(now.wall);
        let NewTask { priority, run_at, .. } = submission.task;
        let spec = Arc::new(spec_of(submission, id, now));
        let run_at = match run_at {
            RunAt::Now => now.wall,
            RunAt::At(date) => date,
            RunAt::After(delay) => now.wall + delay,
        };
        self.step.commands += 1;
        self.step.bytes += spec.payload.len();
        let submit = Submit { spec: spec.clone(), priority, run_at, bindings };
        let reply = self.machine.apply(Command::Submit(Box::new(submit)))?;
        Ok(match reply {
            Reply::Submitted { task, created } => {
                // A repeat by key alone may be of a task that the client gave no id of its own.
                let named = spec.binds.id.as_ref().map(ToString::to_string);
                let shown_id = named.unwrap_or_else(|| task.to_string());
                (Submitted { task, shown_id, created, view: None }, spec)
            }
            other => unreachable!("a submission was answered with {other:?}"),
        })
    }

    fn commands(
        &mut self,
        commands: Vec<Command>,
        answer: Answer<Vec<CommandResult>>,
        lookups: &Result<Lookups, StoreError>,
    ) {
        let known = match lookups {
            Ok(lookups) => Some(lookups),
            // Either all are carried out or none.
            Err(error) if commands.iter().any(|command| self.needs_lookup(command)) => {
                self.answer_later(answer, Err(error.clone().into()));
                return;
            }
            Err(_) => None,
        };
        let mut results = Vec::with_capacity(commands.len());
        self.step.commands += commands.len();
        for mut command in commands {
            let bytes = request::bytes_of(&command);
            let deaf = matches!(command, Command::Heartbeat { .. })
                && Planted::IgnoresHeartbeats.is_made();
            let result = match self.fill(&mut command, known) {
                Ok(()) if deaf => Ok(Reply::Done),
                Ok(()) => self.machine.apply(command),
                Err(refusal) => Err(refusal),
            };
            match &result {
                Ok(_) => self.step.bytes += bytes,
                Err(Refusal::StaleLease { .. }) => self.shared.metrics.stale_report(),
                Err(_) => {}
            }
            results.push(result);
        }
        self.answer_later(answer, Ok(results));
    }

    fn needs_lookup(&self, command: &Command) -> bool {
        self.machine.wants_stored(command).is_some()
            || matches!(command, Command::Retry { spec: None, .. })
    }

    /// Hands a command what it needs to know of the store. A damaged record fails this command alone.
    fn fill(&self, command: &mut Command, lookups: Option<&Lookups>) -> Result<(), Refusal> {
        if !self.needs_lookup(command) {
            return Ok(());
        }
        // The caller looked whether there are any before it began; what was ended since, the machine
        // knows.
        let Some(lookups) = lookups else { return Ok(()) };
        let wanted = self.machine.wants_stored(command);
        if let Command::Retry { task, spec: spec @ None, .. } = command {
            *spec = lookups.spec(*task)?;
        }
        if let Some(task) = wanted {
            match command {
                Command::Cancel { stored, .. }
                | Command::Retry { stored, .. }
                | Command::Reschedule { stored, .. }
                | Command::SetPriority { stored, .. }
                | Command::Delete { stored, .. }
                | Command::Purge { stored, .. }
                | Command::Report { stored, .. } => *stored = lookups.stored(task)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn purge(
        &mut self,
        tasks: &[rota_core::TaskId],
        entries: Vec<bytes::Bytes>,
        lookups: &Result<Lookups, StoreError>,
    ) -> Result<(), EngineError> {
        let lookups = lookups.as_ref().map_err(|error| EngineError::Store(error.clone()))?;
        for task in tasks {
            let stored = match lookups.stored(*task) {
                Ok(stored) => stored,
                // It stays. The others are not to wait until somebody mends it.
                Err(refusal) => {
                    self.shared.specs.damaged("done", *task, &refusal.to_string());
                    continue;
                }
            };
            // Purging leaves alone what may not be purged; it refuses nothing.
            let _ = self.machine.apply(Command::Purge { task: *task, stored });
        }
        self.step.commands += tasks.len();
        self.step.entries.extend(entries);
        Ok(())
    }
}

async fn tell_workers(workers: &mpsc::Sender<ToWorkers>, message: ToWorkers) {
    if workers.send(message).await.is_err() {
        // It ends only with the engine itself.
        error!("the dispatcher is gone");
    }
}

/// Resolves then, or never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits for the batch on its way. Cancel safe: the future stays where it is.
async fn land(in_flight: &mut Option<InFlight>) -> Result<(), Refused> {
    match in_flight {
        Some(flight) => flight.landed.as_mut().await,
        None => std::future::pending().await,
    }
}

fn spec_of(submission: Submission, id: rota_core::TaskId, now: Now) -> TaskSpec {
    let Submission { task, fingerprint } = submission;
    TaskSpec {
        id,
        queue: task.queue,
        kind: task.kind,
        payload: task.payload,
        labels: task.labels,
        created_at: now.wall,
        expires_at: task.expires_at,
        policy: task.policy,
        binds: task.binds,
        fingerprint,
        trace: task.trace,
    }
}
