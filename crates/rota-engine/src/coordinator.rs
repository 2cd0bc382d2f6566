//! The loop: stamp the time, ask the core, commit, then perform the effects.
//!
//! At most one batch is on its way. While it is, commands are applied to the next step as they
//! come; when it has landed, the next step is sealed and sent, and only then are the effects and
//! answers of the landed one released. So a batch grows with the load, and nothing leaves before
//! its commit.

use std::{
    collections::VecDeque, future::Future, pin::Pin, sync::Arc, sync::atomic::Ordering,
    time::Duration,
};

use rota_core::{
    Effect, EndReason, Machine, Millis, MonoTime, Mutation, Now, TaskIdSequence, TaskSpec,
};
use rota_store::{BatchSeq, Fence, Leadership, Store};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::{
    batch::Changes,
    cache::SpecCache,
    commit::{Refused, commit_until_known},
    dispatch::{ToWorkers, WorkerEffect},
    down::DownSender,
    fail_point::FailPoint,
    inbox::{Inbox, Sent},
    landed::LandingLists,
    ledger::{Landing, Ledger},
    log,
    marks::Marks,
    planted::Planted,
    request::{Answer, Release, SubmitResults},
    shared::{PULSE, Shared},
    view::live_view,
};

/// What nobody waits for is committed together with what else comes within this time: each commit
/// costs a flush of the disk, which delays whoever comes next.
const GATHER: Duration = Duration::from_millis(2);
/// A commit that takes longer holds up the calls of workers that cannot say meanwhile that they live.
const SLOW_COMMIT: Millis = Millis(200);
/// When the engine stops, what was taken gets so long to land.
const LAST_COMMIT_WAIT: Duration = Duration::from_secs(5);

/// Why the loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeadershipEnd {
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
    sent: MonoTime,
    landed: Pin<Box<dyn Future<Output = Result<(), Refused>> + Send>>,
    post_commit: PostCommit,
}

/// What waits for a step to be durable.
#[derive(Default)]
struct PostCommit {
    effects: Vec<Effect>,
    /// Where to send what goes down to the sessions that `effects` open, in their order.
    opened: VecDeque<DownSender>,
    releases: Vec<Release>,
    counted: Landing,
    /// `None`: what is released belongs to no step of its own.
    lists: Option<LandingLists>,
}

/// What makes an outcome true for whoever hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voucher {
    /// A commit that landed.
    Commit,
    /// Nothing but the leadership, at this moment.
    Leadership,
}

impl PostCommit {
    fn is_empty(&self) -> bool {
        self.effects.is_empty() && self.releases.is_empty()
    }
}

/// What a leader keeps beside the machine.
pub(crate) struct Books {
    pub(crate) ledger: Ledger,
    pub(crate) marks: Marks,
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
    pub(crate) step: Open,
    pub(crate) marks: Marks,
    /// The feature level that is to be the cluster's, until it is on its way.
    pub(crate) level: Option<u32>,
    /// It is to hand over, to this node if one is named.
    pub(crate) resigning: Option<Option<String>>,
    /// When the machine was last told the time.
    begun: MonoTime,
    /// Whether the wall clock was not to be believed then.
    pub(crate) doubted: bool,
    /// All that workers sent before this has been applied.
    pub(crate) heard: MonoTime,
}

/// The step that is being applied.
#[derive(Default)]
pub(crate) struct Open {
    pub(crate) releases: Vec<Release>,
    pub(crate) opened: VecDeque<DownSender>,
    pub(crate) entries: Vec<bytes::Bytes>,
    /// Whether it is to be written though it holds a new feature level alone.
    pub(crate) level_alone: bool,
    pub(crate) created: Vec<Created>,
    /// The node that is to get ready to take over.
    pub(crate) successor: Option<String>,
    pub(crate) commands: usize,
    pub(crate) bytes: usize,
    /// Since when something waits in it.
    pub(crate) since: Option<Instant>,
    /// Whether someone waits for it, so that it is not to wait for company.
    pub(crate) hurried: bool,
}

/// A new task that was submitted alone. Its client is told how it stands when the step ends.
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
        let Books { ledger, marks } = books;
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
            level: None,
            resigning: None,
            begun: MonoTime(0),
            doubted: false,
            heard: MonoTime(0),
        }
    }

    /// Leads until leadership is lost or `stop` is cancelled; then what was taken from the inbox is
    /// still carried out. It is of no use afterwards, but takes a while to drop where tasks are many.
    pub(crate) async fn run(
        &mut self,
        inbox: &mut Inbox,
        leadership: &dyn Leadership,
        stop: &CancellationToken,
    ) -> LeadershipEnd {
        self.listen();
        let mut taken = VecDeque::new();
        let end = self.lead(inbox, &mut taken, leadership, stop).await;
        // Who waits for what did not land, or was not begun, learns at once that it is over.
        self.step = Open::default();
        taken.into_iter().for_each(|sent| sent.request.refuse());
        end
    }

    /// From now on workers can be heard: no session and no lease has spent any of its time yet.
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
        // When it was told to stop: until when the last step may take.
        let mut stopping = None;
        loop {
            // What was taken is carried out before it ends.
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
                more = inbox.take(taken, budget), if room => {
                    if !more {
                        return LeadershipEnd::Stopped;
                    }
                    self.take(taken, leadership).await;
                }
                () = tokio::time::sleep(self.until_seal()), if in_flight.is_none() => due = true,
            }
            let finished = match landed {
                Some(Ok(())) => in_flight.take().map(|done| self.landed(done)),
                Some(Err(Refused::Deposed)) => return LeadershipEnd::Deposed,
                Some(Err(Refused::Broken(reason))) => return LeadershipEnd::Broken(reason),
                None => None,
            };
            if in_flight.is_none() && (due || self.until_seal().is_zero()) {
                let now = self.begin();
                self.shared.beat(now.mono);
                if inbox.has_heard_workers() && taken.iter().all(|sent| sent.by_worker.is_none()) {
                    self.heard = now.mono;
                }
                if !Planted::DropsTimers.is_made() {
                    self.machine.tick(self.heard);
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

    /// Tells the machine the time, and what was heard of workers until then.
    pub(crate) fn begin(&mut self) -> Now {
        let now = self.shared.host.now();
        self.doubted = self.shared.timekeeper.check(now);
        let missed = self.shared.timekeeper.take_missed();
        if missed > Millis(0) {
            self.machine.extend_deadlines(missed);
        }
        let early = if Planted::RunsEarly.is_made() { Millis::from_secs(3) } else { Millis(0) };
        self.machine.begin(Now { wall: now.wall + early, ..now }, self.seq.0);
        self.begun = now.mono;
        self.hear();
        now
    }

    /// Ends the open step. What changes nothing in the store needs no commit: it comes back to be
    /// released, after what is on its way.
    fn seal(&mut self, now: Now) -> (Option<InFlight>, PostCommit) {
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
        let lists = self.shared.landed.landing(&self.machine, &step);
        let mut post_commit = PostCommit {
            effects: step.effects,
            opened: open.opened,
            releases: open.releases,
            lists: Some(lists),
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
        }
        if changes.is_empty() {
            post_commit.counted = self.ledger.landing(step.events);
            return (None, post_commit);
        }
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
        let (store, shared) = (self.store.clone(), self.shared.clone());
        let landed = Box::pin(commit_until_known(store, self.fence, batches, shared));
        if Planted::ReleasesEarly.is_made() {
            let nothing = PostCommit::default();
            return (Some(InFlight { sent: now.mono, landed, post_commit: nothing }), post_commit);
        }
        (Some(InFlight { sent: now.mono, landed, post_commit }), PostCommit::default())
    }

    /// A batch has landed. Calls of workers that waited for it could not be answered before.
    fn landed(&mut self, flight: InFlight) -> PostCommit {
        let now = self.shared.host.now().mono;
        let took = now.since(flight.sent);
        if took > SLOW_COMMIT {
            let most = Millis::from_duration(self.shared.call_timeout);
            self.machine.extend_waiting(now, took, most);
        }
        flight.post_commit
    }

    /// Performs the effects and gives the answers. False: nothing vouches for the answers any more.
    async fn release(
        &mut self,
        mut post_commit: PostCommit,
        leadership: &dyn Leadership,
        voucher: Voucher,
    ) -> bool {
        // A process that was stopped may believe that it leads.
        if voucher == Voucher::Leadership && !post_commit.is_empty() && !leadership.is_held() {
            return false;
        }
        FailPoint::BeforeDispatch.reach();
        let epoch = self.fence.epoch.0;
        log::ends(&post_commit.counted.events, epoch);
        self.ledger.landed(post_commit.counted);
        if let Some(lists) = post_commit.lists.take() {
            self.shared.landed.keep(lists);
        }
        let mut down = Vec::new();
        for effect in post_commit.effects {
            match effect {
                Effect::Dispatch(assignment) => {
                    let spec = self.cache.take(assignment.task);
                    debug!(task = %assignment.task, queue = spec.as_ref().map(|spec| spec.definition.queue.as_str()),
                        attempt = assignment.attempt, session = %assignment.session, epoch, "assigned");
                    down.push(WorkerEffect::Dispatch(assignment, spec));
                }
                Effect::Stop { session, task, token, reason } => {
                    down.push(WorkerEffect::Stop(session, task, token, reason));
                }
                Effect::Finished { task, .. } => {
                    self.cache.take(task);
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
                // Its channel may be full for as long as the store does not answer.
                () = leadership.lost() => {}
            }
            // That may have taken a while.
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
