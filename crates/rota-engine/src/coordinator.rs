//! The main loop: stamp the time, ask the core, commit, then release the effects.
//!
//! At most one step is in flight. Meanwhile commands are applied to the next step. When the step is durable,
//! the next one is sealed and sent, and then the effects and answers of the durable step are released. So
//! batches grow with the load, and replies, dispatches and events are sent only after the batch that caused
//! them is durable.

use std::{
    collections::VecDeque, future::Future, pin::Pin, sync::Arc, sync::atomic::Ordering,
    time::Duration,
};

use rota_core::{
    Effect, EndReason, Machine, Millis, MonoTime, Mutation, Now, Step, TaskIdSequence, TaskSpec,
    TickEvent,
};
use rota_store::{BatchSeq, Fence, Leadership, Store};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::{
    batch::Changes,
    cache::SpecCache,
    coming_ticks::ComingTicks,
    commit::{Refused, commit_until_known},
    dispatch::{ToWorkers, WorkerEffect},
    down::DownSender,
    events::{Draft, collect::collect},
    fail_point::FailPoint,
    inbox::{Inbox, Sent},
    landed::LandingLists,
    ledger::{Landing, Ledger},
    log,
    marks::Marks,
    planted::{self, Planted},
    request::{Answer, Release, SubmitResults},
    shared::{PULSE, Shared},
    tick_counts, tick_traces,
    view::live_view,
};

/// Changes for which nobody waits are committed together with others that come within this time, because each
/// commit costs a disk flush, which delays the next one.
const GATHER: Duration = Duration::from_millis(2);
/// A longer commit blocks calls of workers, which cannot send heartbeats meanwhile.
const SLOW_COMMIT: Millis = Millis(200);
/// Time for accepted requests to become durable when the engine stops.
const LAST_COMMIT_WAIT: Duration = Duration::from_secs(5);

/// Why the loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeadershipEnd {
    /// It was told to stop.
    Stopped,
    /// It was told to transfer leadership, to this node if one is named.
    Resigned(Option<String>),
    /// Another node is the leader.
    Deposed,
    /// The store is unusable.
    Broken(String),
}

/// A batch in flight, and what to release when it is durable.
struct InFlight {
    sent: MonoTime,
    landed: Pin<Box<dyn Future<Output = Result<(), Refused>> + Send>>,
    post_commit: PostCommit,
}

/// Effects and answers that wait for a step to be durable.
#[derive(Default)]
struct PostCommit {
    effects: Vec<Effect>,
    /// The channels of the sessions that `effects` open, in order.
    opened: VecDeque<DownSender>,
    releases: Vec<Release>,
    counted: Landing,
    ticks: Vec<TickEvent>,
    /// Events for listeners, and the number of the batch with which they are durable.
    events: Vec<Draft>,
    revision: u64,
    /// `None` if the released answers belong to no step of their own.
    lists: Option<LandingLists>,
}

/// What guarantees that an answer is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voucher {
    /// A durable commit.
    Commit,
    /// Only that this node is still the leader.
    Leadership,
}

impl PostCommit {
    fn is_empty(&self) -> bool {
        self.effects.is_empty() && self.releases.is_empty() && self.events.is_empty()
    }
}

/// The state of a leader besides the machine.
pub(crate) struct Books {
    pub(crate) ledger: Ledger,
    pub(crate) marks: Marks,
    /// The feature level to which the cluster can be raised.
    pub(crate) level: Option<u32>,
}

/// The single writer of task state during its leadership.
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
    pub(crate) step: Open,
    pub(crate) marks: Marks,
    /// The new feature level of the cluster, until it is in flight.
    pub(crate) level: Option<u32>,
    /// The level that is in flight or durable because of this leader.
    pub(crate) raised_to: u32,
    /// Until then no ticks are decided, because the store could not be read.
    pub(crate) ticks_paused_until: Option<Instant>,
    pub(crate) coming_ticks: ComingTicks,
    /// Planted faults: states of schedules that belong to the last step.
    late_cursors: Vec<Mutation>,
    /// A requested transfer of leadership, to this node if one is named.
    pub(crate) resigning: Option<Option<String>>,
    /// The last time that the machine got.
    begun: MonoTime,
    /// Whether the wall clock was not trusted then.
    pub(crate) doubted: bool,
    /// All messages that workers sent before this have been applied.
    pub(crate) heard: MonoTime,
}

/// The open step.
#[derive(Default)]
pub(crate) struct Open {
    pub(crate) releases: Vec<Release>,
    pub(crate) opened: VecDeque<DownSender>,
    pub(crate) entries: Vec<bytes::Bytes>,
    /// Whether it must be written even if it has only a new feature level.
    pub(crate) level_alone: bool,
    pub(crate) created: Vec<Created>,
    /// The node that must prepare to take over.
    pub(crate) successor: Option<String>,
    pub(crate) commands: usize,
    pub(crate) bytes: usize,
    /// Since when it has changes.
    pub(crate) since: Option<Instant>,
    /// Whether somebody waits for it, so that it must be sent at once.
    pub(crate) hurried: bool,
}

/// A new task that was submitted alone. Its client gets its state at the end of the step.
pub(crate) struct Created {
    pub(crate) spec: Arc<TaskSpec>,
    pub(crate) results: SubmitResults,
    pub(crate) answer: Answer<SubmitResults>,
}

/// What a won election gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    pub(crate) fence: Fence,
    /// The least number of the first batch.
    pub(crate) seq_floor: BatchSeq,
}

impl<'a> Coordinator<'a> {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        shared: Arc<Shared>,
        term: Term,
        loaded: crate::load::Loaded,
        cache: SpecCache,
        books: Books,
        workers: &'a mpsc::Sender<ToWorkers>,
    ) -> Self {
        let Books { ledger, marks, level } = books;
        Self {
            store,
            shared,
            fence: term.fence,
            machine: loaded.machine,
            ids: loaded.ids,
            seq: loaded.head.next().max(term.seq_floor),
            cache,
            ledger,
            workers,
            step: Open::default(),
            marks,
            level,
            raised_to: 0,
            ticks_paused_until: None,
            coming_ticks: ComingTicks::default(),
            late_cursors: Vec::new(),
            resigning: None,
            begun: MonoTime(0),
            doubted: false,
            heard: MonoTime(0),
        }
    }

    /// Leads until leadership is lost or `stop` is cancelled. Then it still carries out what it has taken
    /// from the inbox. Afterwards it is useless, but dropping it takes a while if there are many tasks.
    pub(crate) async fn run(
        &mut self,
        inbox: &mut Inbox,
        leadership: &dyn Leadership,
        stop: &CancellationToken,
    ) -> LeadershipEnd {
        self.listen();
        let mut taken = VecDeque::new();
        let end = self.lead(inbox, &mut taken, leadership, stop).await;
        // Clients whose requests did not become durable, or were not started, learn at once.
        self.step = Open::default();
        taken.into_iter().for_each(|sent| sent.request.refuse());
        end
    }

    /// Starts receiving from workers. No time has counted against sessions and leases so far.
    fn listen(&mut self) {
        let now = self.shared.host.now();
        self.shared.timekeeper.check(now);
        self.shared.timekeeper.take_missed();
        if !Planted::ClockRunsWhileLoading.is_made() {
            self.machine.extend_deadlines(now.mono.since(self.machine.now().mono));
        }
        (self.begun, self.heard) = (now.mono, now.mono);
    }

    async fn lead(
        &mut self,
        inbox: &mut Inbox,
        taken: &mut VecDeque<Sent>,
        leadership: &dyn Leadership,
        stop: &CancellationToken,
    ) -> LeadershipEnd {
        let mut in_flight: Option<InFlight> = None;
        // Deadline for the last step after a stop.
        let mut stopping = None;
        loop {
            // Accepted requests are carried out before the end.
            if in_flight.is_none() && self.step.since.is_none() {
                if stopping.is_some() {
                    return LeadershipEnd::Stopped;
                }
                if let Some(successor) = self.resigning.take() {
                    return LeadershipEnd::Resigned(successor);
                }
            }
            let budget = self.budget();
            let room = self.resigning.is_none() && stopping.is_none() && !budget.is_spent();
            let until_seal = self.until_seal();
            let (mut landed, mut due) = (None, false);
            tokio::select! {
                biased;
                () = leadership.lost() => return LeadershipEnd::Deposed,
                result = land(&mut in_flight), if in_flight.is_some() => landed = Some(result),
                () = stop.cancelled(), if stopping.is_none() => {
                    stopping = Some(Instant::now() + LAST_COMMIT_WAIT);
                }
                () = at(stopping) => return LeadershipEnd::Stopped,
                () = self.shared.signs.said() => {
                    self.begin();
                }
                // Before the inbox, which may never be empty.
                () = self.coming_ticks.answered() => {}
                more = inbox.take(taken, budget), if room => {
                    if !more {
                        return LeadershipEnd::Stopped;
                    }
                    self.take(taken, leadership).await;
                }
                () = tokio::time::sleep(until_seal), if in_flight.is_none() => due = true,
            }
            let finished = match landed {
                Some(Ok(())) => in_flight.take().map(|done| self.landed(done)),
                Some(Err(Refused::Deposed)) => return LeadershipEnd::Deposed,
                Some(Err(Refused::Broken(reason))) => return LeadershipEnd::Broken(reason),
                None => None,
            };
            // Before the end, only accepted requests are worth another step. What else is due is left to the next
            // leader: there may always be more of it.
            let is_ending = self.resigning.is_some() || stopping.is_some();
            let may_seal = in_flight.is_none() && !(is_ending && self.step.since.is_none());
            if may_seal && (due || self.until_seal().is_zero()) {
                let now = self.begin();
                self.shared.beat(now.mono);
                if inbox.has_heard_workers() && taken.iter().all(|sent| sent.by_worker.is_none()) {
                    self.heard = now.mono;
                }
                if !Planted::DropsTimers.is_made() {
                    self.machine.tick(self.heard);
                    self.decide_ticks(now, leadership).await;
                    self.look_ahead(now);
                }
                let (flight, post_commit) = self.seal(now);
                in_flight = flight;
                if let Some(finished) = finished {
                    self.release(finished, leadership, Voucher::Commit).await;
                }
                if !self.release(post_commit, leadership, Voucher::Leadership).await {
                    return LeadershipEnd::Deposed;
                }
            } else if let Some(finished) = finished {
                self.release(finished, leadership, Voucher::Commit).await;
            }
        }
    }

    /// How long the open step can wait for more changes when no step is in flight.
    fn until_seal(&self) -> Duration {
        let stale = self.shared.host.now().mono.since(self.begun).as_duration();
        let wakeup = self.machine.next_wakeup().map_or(PULSE, Millis::as_duration);
        let wakeup = wakeup.min(PULSE).saturating_sub(stale);
        let wakeup = self.ticks_pause().map_or(wakeup, |pause| wakeup.max(pause));
        match self.step.since {
            None => wakeup,
            Some(_) if self.step.hurried || self.machine.has_assignments() => Duration::ZERO,
            Some(since) => wakeup.min(GATHER.saturating_sub(since.elapsed())),
        }
    }

    /// Passes the time and the received heartbeats to the machine.
    pub(crate) fn begin(&mut self) -> Now {
        let now = self.shared.host.now();
        self.doubted = self.shared.timekeeper.check(now);
        let missed = self.shared.timekeeper.take_missed();
        if missed > Millis(0) {
            self.machine.extend_deadlines(missed);
        }
        let early = if Planted::RunsEarly.is_made() { Millis::from_secs(3) } else { Millis(0) };
        self.machine.begin(Now { wall: now.wall + early, ..now }, self.seq.0);
        self.machine.trust(self.shared.timekeeper.believed(now));
        self.begun = now.mono;
        self.hear();
        now
    }

    /// Ends the open step. A step without changes needs no commit. It is returned, to be released after the
    /// step in flight.
    fn seal(&mut self, now: Now) -> (Option<InFlight>, PostCommit) {
        let mut step = self.machine.seal();
        planted::spoil_ticks(&mut step.mutations, &mut self.late_cursors);
        let mut open = std::mem::take(&mut self.step);
        for Created { spec, mut results, answer } in open.created {
            let live = self.machine.task(spec.id);
            if let ([Ok(one)], Some(live)) = (results.as_mut_slice(), live) {
                one.view = Some(Box::new(live_view(spec, live, None)));
            }
            open.releases.push(Box::new(move || {
                // The caller may no longer wait for the answer.
                let _ = answer.send(Ok(results));
            }));
        }
        self.shared.live_tasks.store(self.machine.live_tasks(), Ordering::Relaxed);
        let lists = self.shared.landed.landing(&self.machine, &step);
        let events = self.events_of(&step, now);
        let mut post_commit = PostCommit {
            effects: step.effects,
            opened: open.opened,
            releases: open.releases,
            ticks: step.ticks,
            lists: Some(lists),
            events,
            ..PostCommit::default()
        };
        let mut changes = Changes {
            mutations: step.mutations,
            dealt_with: open.entries,
            level: None,
            marks: None,
            successor: open.successor,
        };
        if open.level_alone || !changes.is_empty() {
            changes.level = self.level.take();
            self.raised_to = self.raised_to.max(changes.level.unwrap_or(0));
        }
        if changes.is_empty() {
            post_commit.counted = self.ledger.landing(step.events);
            post_commit.revision = self.seq.0.saturating_sub(1);
            return (None, post_commit);
        }
        let traces = self.shared.tick_traces.as_ref();
        let begun = tick_traces::begin(traces, &mut changes.mutations, &step.events);
        post_commit.releases.extend(begun);
        for mutation in &changes.mutations {
            if let Mutation::PutSpec(spec) = mutation {
                self.cache.offer(spec);
            }
        }
        let believed = Some(now.wall).filter(|_| !self.doubted);
        changes.marks = self.marks.note(&changes.mutations, self.ids.last(), believed);
        let limits = self.store.limits();
        let batches = changes.into_batches(&step.events, &mut self.ledger, self.seq, limits);
        post_commit.counted = self.ledger.landing(step.events);
        self.seq = BatchSeq(self.seq.0 + batches.len() as u64);
        post_commit.revision = self.seq.0 - 1;
        let (store, shared) = (self.store.clone(), self.shared.clone());
        let landed = Box::pin(commit_until_known(store, self.fence, batches, shared));
        if Planted::ReleasesEarly.is_made() {
            let nothing = PostCommit::default();
            return (Some(InFlight { sent: now.mono, landed, post_commit: nothing }), post_commit);
        }
        (Some(InFlight { sent: now.mono, landed, post_commit }), PostCommit::default())
    }

    /// The events of a step, if they are recorded.
    fn events_of(&self, step: &Step, now: Now) -> Vec<Draft> {
        let events = &self.shared.events;
        if !events.is_active() {
            return Vec::new();
        }
        events.tidy(now.mono);
        collect(&self.machine, step)
    }

    /// Processes a durable batch. Calls of workers that waited for it could not be answered before.
    fn landed(&mut self, flight: InFlight) -> PostCommit {
        let now = self.shared.host.now().mono;
        let took = now.since(flight.sent);
        if took > SLOW_COMMIT {
            let most = Millis::from_duration(self.shared.call_timeout);
            self.machine.extend_waiting(now, took, most);
        }
        flight.post_commit
    }

    /// Logs and counts decided ticks.
    fn release_ticks(&self, ticks: &[TickEvent]) {
        if !ticks.is_empty() {
            log::ticks(ticks, self.fence.epoch.0);
            let now = self.shared.timekeeper.believed(self.shared.host.now());
            tick_counts::count(self.shared.metrics.ticks(), ticks, now);
        }
    }

    /// Releases the effects and answers. Returns false if the answers are no longer valid.
    async fn release(
        &mut self,
        mut post_commit: PostCommit,
        leadership: &dyn Leadership,
        voucher: Voucher,
    ) -> bool {
        // A process that was paused may still believe that it is the leader.
        if voucher == Voucher::Leadership && !post_commit.is_empty() && !leadership.is_held() {
            return false;
        }
        FailPoint::BeforeDispatch.reach();
        let epoch = self.fence.epoch.0;
        log::ends(&post_commit.counted.events, epoch);
        self.ledger.landed(post_commit.counted);
        self.release_ticks(&post_commit.ticks);
        // Before the answers: who has changed something finds the event of it.
        if !post_commit.events.is_empty() {
            self.shared.events.publish(post_commit.revision, post_commit.events);
        }
        if let Some(lists) = post_commit.lists.take() {
            self.shared.landed.keep(lists);
        }
        let mut down = Vec::new();
        for effect in post_commit.effects {
            match effect {
                Effect::Dispatch(assignment) => {
                    let worker = || self.machine.worker_of(assignment.session);
                    self.shared.output.assigned(&assignment, worker);
                    let spec = self.cache.take(assignment.task);
                    debug!(task = %assignment.task, queue = spec.as_ref().map(|spec| spec.definition.queue.as_str()),
                        attempt = assignment.attempt, session = %assignment.session, epoch, "task assigned");
                    down.push(WorkerEffect::Dispatch(assignment, spec));
                }
                Effect::Stop { session, task, token, reason } => {
                    down.push(WorkerEffect::Stop(session, task, token, reason));
                }
                Effect::Finished { task, status } => {
                    self.cache.take(task);
                    self.shared.output.finished(task, status);
                    self.shared.task_ended(task);
                }
                Effect::Drain { session } => down.push(WorkerEffect::Drain(session)),
                Effect::SessionOpened { session, connection } => {
                    self.shared.signs.opened(session, connection);
                    let events = post_commit.opened.pop_front();
                    down.extend(events.map(|events| WorkerEffect::Attach(session, events)));
                }
                Effect::SessionEnded(end) => {
                    log::session_ended(&end, epoch);
                    let reason = match end.reason {
                        EndReason::Closed => "closed",
                        EndReason::Expired => "expired",
                    };
                    self.shared.metrics.session_ended(reason);
                    self.shared.signs.ended(end.session);
                    down.push(WorkerEffect::Ended(end.session));
                }
            }
        }
        if !down.is_empty() {
            tokio::select! {
                biased;
                () = tell_workers(self.workers, ToWorkers::Effects(down)) => {}
                // The channel may be full while the store does not answer.
                () = leadership.lost() => {}
            }
            // Sending may have taken a while.
            if voucher == Voucher::Leadership && !leadership.is_held() {
                return false;
            }
        }
        FailPoint::BeforeAnswer.reach();
        for release in post_commit.releases {
            release();
        }
        FailPoint::AfterAnswer.reach();
        true
    }
}

async fn tell_workers(workers: &mpsc::Sender<ToWorkers>, message: ToWorkers) {
    if workers.send(message).await.is_err() {
        // It ends only with the engine.
        error!("dispatcher ended unexpectedly");
    }
}

/// Resolves at this time, or never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits for the batch in flight. Cancel safe, because the future stays in place.
async fn land(in_flight: &mut Option<InFlight>) -> Result<(), Refused> {
    match in_flight {
        Some(flight) => flight.landed.as_mut().await,
        None => std::future::pending().await,
    }
}
