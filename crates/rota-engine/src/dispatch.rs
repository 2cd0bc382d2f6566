//! The dispatcher: reads payloads, and puts tasks and orders into the channels of sessions.
//!
//! One task owns all channels. It never waits for the store or for a worker, so the coordinator never waits
//! for it. Payloads are read concurrently, a bounded number at a time (`dispatch/reads.rs`). A task without
//! room in its session's channel stays here as a lease without its payload.
//!
//! The order is kept for each task: a stop never overtakes the dispatch of its task. Tasks of one session can
//! overtake each other if a payload takes long to read. A lease whose task cannot be read is returned, or
//! ended by a report, so that no task stays leased that nobody runs.

mod reads;

use std::{sync::Arc, time::Duration};

use rota_core::{
    Assignment, Command, LeaseId, LeaseToken, Report, SessionId, StopReason, TaskId, TaskSpec,
};
use rota_store::Store;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use self::reads::{Reads, Work};
use crate::{
    api::{Dispatched, SessionEvent},
    down::{DownSender, size_of},
    fingerprint,
    inbox::WeakInboxSender,
    output::hub::{Order, OutputHub},
    planted::Planted,
    records::Spec,
    request::{Answer, Request},
    shared::Shared,
    specs::FoundSpec,
};

/// Maximum number of batches of effects that wait here. They are taken at once, so there are few.
pub(crate) const QUEUED_MAX: usize = 256;
/// Maximum number of payloads of one session that are read at once.
const SESSION_READS: usize = 32;

/// Time that a report of the dispatcher waits for a place in the inbox. The session keeps the lease until it
/// is reported.
const REPORT_WAIT: Duration = Duration::from_secs(3600);

/// A message to the dispatcher.
pub(crate) enum ToWorkers {
    /// Effects of one step, in order.
    Effects(Vec<WorkerEffect>),
    /// Leadership was lost, so all sessions of this node end.
    DetachAll,
    /// Answers when all earlier messages have been processed.
    Flush(oneshot::Sender<()>),
    /// Returns the leases of this session that are not in its channel, and answers.
    GiveBack { session: SessionId, when: GiveBack, answer: oneshot::Sender<()> },
}

/// When to return leases that the worker did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GiveBack {
    /// When nothing more can go into the channel: all leases are in it, or it is full.
    Settled,
    /// At once, even while payloads are being read.
    Now,
}

/// A handle to the dispatcher that does not keep it running.
pub(crate) struct ToDispatcher(pub(crate) mpsc::WeakSender<ToWorkers>);

impl ToDispatcher {
    /// Resolves when it has processed all earlier messages, or has ended. Cancel safe.
    pub(crate) async fn flush(&self) {
        // If it ends first, it sends nothing more to anybody.
        self.tell(ToWorkers::Flush).await;
    }

    /// Returns the leases of a session that are not in its channel, so that other workers get them. Cancel
    /// safe.
    pub(crate) async fn give_back(&self, session: SessionId, when: GiveBack) {
        self.tell(|answer| ToWorkers::GiveBack { session, when, answer }).await;
    }

    async fn tell<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> ToWorkers) -> Option<T> {
        let workers = self.0.upgrade()?;
        let (answer, answered) = oneshot::channel();
        let sent = workers.send(message(answer)).await;
        // The dispatcher runs as long as there is a sender.
        drop(workers);
        sent.ok()?;
        answered.await.ok()
    }
}

/// An effect for one worker.
pub(crate) enum WorkerEffect {
    /// Later effects for this session go to this channel. Earlier ones went to its former connection.
    Attach(SessionId, DownSender),
    Dispatch(Assignment, Option<Arc<TaskSpec>>),
    Stop(SessionId, TaskId, LeaseToken, StopReason),
    Drain(SessionId),
    Ended(SessionId),
}

/// Runs until its sender is dropped. `requests` leads to the coordinator.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
    requests: WeakInboxSender,
    mut inbox: mpsc::Receiver<ToWorkers>,
) {
    let reads = Reads::new(store);
    let mut dispatcher = Dispatcher {
        shared,
        requests,
        reads,
        lanes: FxHashMap::default(),
        ring: std::collections::VecDeque::new(),
        blocked: FxHashSet::default(),
    };
    loop {
        let shared = dispatcher.shared.clone();
        tokio::select! {
            biased;
            message = inbox.recv() => match message {
                Some(message) => dispatcher.take(message),
                None => return,
            },
            done = dispatcher.reads.next() => dispatcher.done(done),
            () = shared.downstream.freed(), if !dispatcher.blocked.is_empty() => {
                dispatcher.unblock();
            }
            // After the effects that came before, so that no order overtakes the dispatch of its task.
            () = shared.output.ordered() => dispatcher.pass_orders(),
        }
        dispatcher.read_more();
    }
}

/// The dispatcher's state of a session.
struct Lane {
    channel: DownSender,
    /// Leases that are not in the channel yet.
    undelivered: FxHashMap<TaskId, Assignment>,
    /// Those to read, in order. Can include leases that are gone.
    unread: std::collections::VecDeque<TaskId>,
    /// Number of payloads that are being read.
    reading: usize,
    /// Whether it is in the ring of sessions that want to read.
    in_ring: bool,
    /// Dispatches that are ready for the channel.
    outgoing: Vec<Dispatched>,
    outgoing_bytes: usize,
    /// Callers that wait until nothing more can go into the channel.
    settling: Vec<oneshot::Sender<()>>,
    /// The tasks whose output somebody listens to.
    output: Arc<OutputHub>,
}

impl Lane {
    fn new(channel: DownSender, output: Arc<OutputHub>) -> Self {
        Self {
            channel,
            output,
            undelivered: FxHashMap::default(),
            unread: std::collections::VecDeque::new(),
            reading: 0,
            in_ring: false,
            outgoing: Vec::new(),
            outgoing_bytes: 0,
            settling: Vec::new(),
        }
    }

    fn has_room(&self) -> bool {
        self.channel.has_room(self.outgoing_bytes)
    }

    /// Whether the payloads that are being read leave room for another one, if they have this size.
    fn has_room_beside_reads(&self, size: usize) -> bool {
        self.channel.has_room(self.outgoing_bytes + self.reading * size)
    }

    fn put(&mut self, assignment: Assignment, spec: Arc<TaskSpec>) {
        let Assignment { token, attempt, run_at, .. } = assignment;
        self.outgoing_bytes += size_of(&spec);
        self.outgoing.push(Dispatched { token, attempt, run_at, spec });
    }

    fn flush(&mut self) {
        if !self.outgoing.is_empty() {
            self.outgoing_bytes = 0;
            let tasks = std::mem::take(&mut self.outgoing);
            let lease = |task: &Dispatched| LeaseId { task: task.spec.id, token: task.token };
            let leases = tasks.iter().map(lease);
            let listened: Vec<_> = leases.filter(|lease| self.output.sent(*lease)).collect();
            self.channel.send(SessionEvent::Dispatches(tasks));
            listened.into_iter().for_each(|lease| self.watch_output(lease, true));
        }
    }

    /// Asks the worker for the output of an attempt, or no longer.
    fn watch_output(&self, lease: LeaseId, on: bool) {
        if self.channel.streams_output {
            self.channel.send(SessionEvent::WatchOutput { lease, on });
        } else if on {
            self.output.comes_at_end(lease);
        }
    }

    fn is_undelivered(&self, task: TaskId, token: LeaseToken) -> bool {
        self.undelivered.get(&task).is_some_and(|assignment| assignment.token == token)
    }

    fn take_back(&mut self) -> Vec<LeaseId> {
        self.unread.clear();
        let mut leases: Vec<_> =
            self.undelivered.drain().map(|(_, assignment)| assignment.lease_id()).collect();
        leases.sort_unstable_by_key(|lease| lease.task);
        leases
    }
}

struct Dispatcher {
    shared: Arc<Shared>,
    requests: WeakInboxSender,
    reads: Reads,
    lanes: FxHashMap<SessionId, Lane>,
    /// Ring of sessions that want to read.
    ring: std::collections::VecDeque<SessionId>,
    /// Sessions that want to read but have no room.
    blocked: FxHashSet<SessionId>,
}

impl Dispatcher {
    fn take(&mut self, message: ToWorkers) {
        match message {
            ToWorkers::DetachAll => {
                self.lanes.clear();
                self.ring.clear();
                self.blocked.clear();
            }
            ToWorkers::Flush(done) => {
                // The caller may no longer wait for the answer.
                let _ = done.send(());
            }
            ToWorkers::GiveBack { session, when, answer } => self.give_back(session, when, answer),
            ToWorkers::Effects(effects) => self.deliver(effects),
        }
    }

    fn attach(&mut self, session: SessionId, channel: DownSender) {
        if Planted::KeepsFormerChannel.is_made() && self.lanes.contains_key(&session) {
            return;
        }
        let is_sent_again = channel.is_sent_again;
        let former = self.lanes.remove(&session);
        let mut lane = Lane::new(channel, self.shared.output.clone());
        if let Some(former) = former.filter(|_| !is_sent_again) {
            lane.unread = former.undelivered.keys().copied().collect();
            lane.unread.make_contiguous().sort_unstable();
            lane.undelivered = former.undelivered;
            lane.settling = former.settling;
        }
        self.blocked.remove(&session);
        // If it is already in the ring, it gets one additional turn.
        lane.in_ring = true;
        self.ring.push_back(session);
        // The worker sends output over a new connection only if it is asked there.
        for lease in self.shared.output.wanted_of(session) {
            if !lane.is_undelivered(lease.task, lease.token) {
                lane.watch_output(lease, true);
            }
        }
        self.lanes.insert(session, lane);
    }

    /// Passes orders about output on to the sessions. A task that is not sent yet is asked for when it is sent, and
    /// a session without a connection when it has one.
    fn pass_orders(&mut self) {
        for Order { session, lease, on } in self.shared.output.take_orders() {
            if let Some(lane) = self.lanes.get(&session)
                && !lane.is_undelivered(lease.task, lease.token)
            {
                lane.watch_output(lease, on);
            }
        }
    }

    fn give_back(&mut self, session: SessionId, when: GiveBack, answer: oneshot::Sender<()>) {
        let Some(lane) = self.lanes.get_mut(&session) else {
            // The caller may no longer wait for the answer.
            let _ = answer.send(());
            return;
        };
        lane.settling.push(answer);
        if when == GiveBack::Now {
            self.give_back_now(session);
        } else {
            self.settle(session);
        }
    }

    /// Answers callers that wait until nothing more can go into the channel, if that is the case.
    fn settle(&mut self, session: SessionId) {
        let Some(lane) = self.lanes.get_mut(&session) else { return };
        lane.settling.retain(|answer| !answer.is_closed());
        let is_full = lane.reading == 0 && self.blocked.contains(&session);
        if !lane.settling.is_empty() && (lane.undelivered.is_empty() || is_full) {
            self.give_back_now(session);
        }
    }

    fn give_back_now(&mut self, session: SessionId) {
        let Some(lane) = self.lanes.get_mut(&session) else { return };
        let leases = lane.take_back();
        for answer in lane.settling.drain(..) {
            // The caller may no longer wait for the answer.
            let _ = answer.send(());
        }
        self.report(leases.into_iter().map(|lease| (lease, Report::Released)).collect());
    }

    fn deliver(&mut self, effects: Vec<WorkerEffect>) {
        let mut touched = FxHashSet::default();
        for effect in effects {
            match effect {
                WorkerEffect::Dispatch(..) if Planted::DropsDispatches.is_made_once_in(500) => {}
                WorkerEffect::Dispatch(assignment, spec) => {
                    // A disconnected worker gets its tasks when it reconnects.
                    let Some(lane) = self.lanes.get_mut(&assignment.session) else { continue };
                    match spec {
                        Some(spec) if lane.has_room() => {
                            self.shared.payloads.note(size_of(&spec));
                            lane.put(assignment, spec);
                            touched.insert(assignment.session);
                        }
                        _ => self.queue(assignment),
                    }
                }
                WorkerEffect::Attach(session, channel) => {
                    if let Some(former) = self.lanes.get_mut(&session) {
                        former.flush();
                    }
                    self.attach(session, channel);
                }
                WorkerEffect::Stop(session, task, token, reason) => {
                    self.stop(session, LeaseId { task, token }, reason);
                }
                WorkerEffect::Drain(session) => {
                    if let Some(lane) = self.lanes.get_mut(&session) {
                        lane.flush();
                        lane.channel.send(SessionEvent::Drain);
                    }
                }
                WorkerEffect::Ended(session) => {
                    if let Some(mut lane) = self.lanes.remove(&session) {
                        lane.flush();
                        lane.channel.send(SessionEvent::Ended);
                    }
                    self.blocked.remove(&session);
                }
            }
        }
        for session in touched {
            if let Some(lane) = self.lanes.get_mut(&session) {
                lane.flush();
            }
        }
    }

    /// Queues the read of a payload.
    fn queue(&mut self, assignment: Assignment) {
        let Some(lane) = self.lanes.get_mut(&assignment.session) else { return };
        if lane.is_undelivered(assignment.task, assignment.token) {
            return;
        }
        if lane.undelivered.insert(assignment.task, assignment).is_none() {
            lane.unread.push_back(assignment.task);
        }
        if !lane.in_ring && !self.blocked.contains(&assignment.session) {
            lane.in_ring = true;
            self.ring.push_back(assignment.session);
        }
    }

    fn stop(&mut self, session: SessionId, lease: LeaseId, reason: StopReason) {
        let LeaseId { task, token } = lease;
        let Some(lane) = self.lanes.get_mut(&session) else { return };
        if !lane.is_undelivered(task, token) {
            lane.flush();
            lane.channel.send(SessionEvent::Stop { task, token, reason });
            return;
        }
        // The worker never got the task.
        lane.undelivered.remove(&task);
        if reason == StopReason::Cancelled {
            self.report(vec![(lease, Report::Released)]);
        }
        self.settle(session);
    }

    /// Starts as many reads as the limits allow.
    fn read_more(&mut self) {
        while let Some(size) = self.reads.room() {
            let mut portion = Vec::with_capacity(size);
            let mut turns = self.ring.len();
            while turns > 0 && portion.len() < size {
                turns -= 1;
                let Some(session) = self.ring.pop_front() else { break };
                self.take_turn(session, size, &mut portion);
            }
            if portion.is_empty() {
                return;
            }
            self.reads.start(portion);
        }
    }

    fn take_turn(&mut self, session: SessionId, size: usize, portion: &mut Vec<Assignment>) {
        let Some(lane) = self.lanes.get_mut(&session) else { return };
        lane.in_ring = false;
        while portion.len() < size && lane.reading < SESSION_READS {
            let Some(task) = lane.unread.front() else { break };
            let Some(assignment) = lane.undelivered.get(task).copied() else {
                lane.unread.pop_front();
                continue;
            };
            if !lane.has_room() {
                self.shared.downstream.want();
            }
            if !lane.has_room() {
                self.blocked.insert(session);
                break;
            }
            // It stays in the ring, because the end of a read makes room as well.
            if !lane.has_room_beside_reads(self.shared.payloads.mean()) {
                break;
            }
            lane.unread.pop_front();
            lane.reading += 1;
            portion.push(assignment);
        }
        let waits = lane.unread.is_empty() || self.blocked.contains(&session);
        if !waits && lane.reading < SESSION_READS {
            lane.in_ring = true;
            self.ring.push_back(session);
        }
        self.settle(session);
    }

    /// Continues with sessions that had no room.
    fn unblock(&mut self) {
        let mut blocked: Vec<_> = self.blocked.drain().collect();
        blocked.sort_unstable();
        for session in blocked {
            if let Some(lane) = self.lanes.get_mut(&session)
                && !lane.in_ring
            {
                lane.in_ring = true;
                self.ring.push_back(session);
            }
        }
    }

    fn done(&mut self, done: Work) {
        match done {
            Work::Told => {}
            Work::Rested(mut portion) => {
                // Leases that were stopped or returned meanwhile need not be read.
                portion.assignments.retain(|assignment| self.still_wants(assignment));
                self.reads.again(portion);
            }
            Work::Read(portion, Ok(found)) => {
                for (assignment, found) in portion.assignments.into_iter().zip(found) {
                    self.found(assignment, found);
                }
            }
            Work::Read(portion, Err(failed)) => {
                warn!(error = %failed, tasks = portion.assignments.len(), "cannot read payloads");
                let (retries, given_up) = self.reads.failed(portion, &failed);
                for assignment in given_up {
                    if self.forget(&assignment) {
                        warn!(task = %assignment.task, "cannot read a payload; returning the lease");
                        self.report(vec![(assignment.lease_id(), Report::Released)]);
                    }
                }
                self.reads.rest(retries);
            }
        }
    }

    fn still_wants(&mut self, assignment: &Assignment) -> bool {
        let Some(lane) = self.lanes.get_mut(&assignment.session) else { return false };
        let wants = lane.is_undelivered(assignment.task, assignment.token);
        if !wants {
            // Makes room for the next read of the session.
            self.forget(assignment);
        }
        wants
    }

    /// Ends a read. Returns whether its task still waited for it.
    fn forget(&mut self, assignment: &Assignment) -> bool {
        let Some(lane) = self.lanes.get_mut(&assignment.session) else { return false };
        lane.reading = lane.reading.saturating_sub(1);
        let waited = lane.is_undelivered(assignment.task, assignment.token);
        if waited {
            lane.undelivered.remove(&assignment.task);
        }
        if !lane.unread.is_empty() && !lane.in_ring && !self.blocked.contains(&assignment.session) {
            lane.in_ring = true;
            self.ring.push_back(assignment.session);
        }
        waited
    }

    fn found(&mut self, assignment: Assignment, found: FoundSpec) {
        if self.forget(&assignment) {
            match found.into_runnable() {
                Ok(spec) => {
                    self.shared.payloads.note(size_of(&spec));
                    self.put_or_read_again(assignment, spec);
                }
                Err((reason, report)) => {
                    self.shared.records.tell::<Spec>(&assignment.task, &reason);
                    self.report(vec![(assignment.lease_id(), report)]);
                }
            }
        }
        self.settle(assignment.session);
    }

    /// The sizes of payloads are known only when they are read, so those that were read at once can be too many for the
    /// channel. The rest is read again when there is room.
    fn put_or_read_again(&mut self, assignment: Assignment, spec: Arc<TaskSpec>) {
        let Some(lane) = self.lanes.get_mut(&assignment.session) else { return };
        if lane.has_room() {
            lane.put(assignment, spec);
            lane.flush();
            return;
        }
        lane.undelivered.insert(assignment.task, assignment);
        lane.unread.push_front(assignment.task);
        if !lane.in_ring && !self.blocked.contains(&assignment.session) {
            lane.in_ring = true;
            self.ring.push_back(assignment.session);
        }
    }

    fn report(&mut self, reports: Vec<(LeaseId, Report)>) {
        let Some(requests) = self.requests.upgrade() else { return };
        if reports.is_empty() {
            return;
        }
        let command = |(lease, report): (LeaseId, Report)| Command::Report {
            task: lease.task,
            token: lease.token,
            fingerprint: fingerprint::of_report(&report),
            report,
            // No backoff follows these outcomes.
            random: 0,
            stored: None,
        };
        let commands: Vec<_> = reports.into_iter().map(command).collect();
        let (answer, answered) = Answer::new(None);
        let now = self.shared.host.now().mono;
        self.reads.tell(async move {
            let request = Request::Commands { commands, answer };
            let sent = requests.send(request, now, REPORT_WAIT).await;
            drop(requests);
            if sent.is_ok() {
                // If leadership is lost meanwhile, the next leader does the same.
                let _ = answered.await;
            }
        });
    }
}

/// How long a caller waits for the dispatcher before it takes the tasks that are ready.
pub(crate) const SETTLE_WAIT: Duration = Duration::from_secs(3);
